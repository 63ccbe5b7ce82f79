"""Each extra installed for itself: the wheel in a new environment, by pip, and a real run from checkpoint to device.

Slow: every environment gets a PyTorch of its own (some minutes and 1 to 2 GB each, one after the other). What the fast
suite asks of each extra is in ``test_extras.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .sources import ROOT, build, clone
from .test_extras import EXTRAS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
Answer = subprocess.CompletedProcess[str]
#: What no extra but "report" may bring.
OF_REPORT = ("matplotlib",)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", clone(tmp_path_factory.mktemp("clone")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(params=[*EXTRAS, "ncnn"])  # "ncnn" isn't part of "all", so nothing else here has it
def extra(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bare(extra: str, wheel: Path, tmp_path: Path) -> Iterator[Callable[..., Answer]]:
    """``bare(*words)`` runs a program of a new environment that has the wheel with ``extra``."""
    place = tmp_path / "env"
    venv.create(place, with_pip=True)
    environment = {**os.environ, "ULSAM_DEPLOY_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTHONPATH", None)

    def run(program: str, *words: str) -> Answer:
        command = [str(place / "bin" / program), *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    for wanted in ("torch", f"ulsam-deploy[{extra}] @ {wheel.as_uri()}"):  # torch first, as the Makefile does
        done = run("pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), wanted)
        assert done.returncode == 0, done.stderr[-3000:]
    yield run
    shutil.rmtree(place)  # pytest keeps folders of several runs


def test_from_a_checkpoint_to_a_checked_and_timed_bundle(
    extra: str, bare: Callable[..., Answer], tmp_path: Path
) -> None:
    assert not {name for name in OF_REPORT if bare("python", "-c", f"import {name}").returncode == 0}
    new = "new mobilenet_v2 --insert 6 --width 0.35 --classes 4 --input 3x64x64 -o m.pt"
    made = bare("ulsam-deploy", *new.split())
    assert made.returncode == 0, made.stderr
    exported = bare("ulsam-export", "m.pt", "--target", extra)
    assert exported.returncode == 0, exported.stderr
    assert "note: no report.html was written, it needs matplotlib" in exported.stderr
    assert not (tmp_path / "m.bundle" / "report.html").exists()
    executed = extra != "trt"  # nothing runs its engines without a GPU: that is exit 4, in words
    for words, codes in {
        "export m.pt --target all -o all.bundle": {0},
        "verify m.bundle": {0} if executed else {4},
        "bench m.bundle --profile quick": {0, 5} if executed else {4},  # 5: something else ran here meanwhile
        "inspect m.pt": {0},
        "inspect m.bundle": {0},
        "lint m.pt": {0},
        "doctor": {0},
        "pack m.bundle": {0},
        "pack --runner": {0},
        "report m.bundle -o r.html": {4},
    }.items():
        done = bare("ulsam-deploy", *words.split())
        assert done.returncode in codes, f"{words}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
