"""The same checkpoint and options give the same bytes, whoever asks, wherever and however: all targets and precisions.

What can't be the same, and why, is listed in ``docs/security.md``; here it is all that may differ.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device import plugins
from ulsam_deploy.device.bundle import MANIFEST

from .traces import traces

TARGETS = ("onnx", "openvino", "tflite")
#: Of the manifest: what was measured. The report shows it, and is compared without it.
MEASURED = ("latency",)


def export(place: Path, model: Path, calibration: Path, user: str, seed: str, precision: str) -> Path:
    """A whole export in a process of ``user``'s own, with nothing of another run to be had."""
    home, work, scratch = place / user, place / f"work of {user}", place / f"tmp-{user}"
    for folder in (home, work, scratch):
        folder.mkdir(parents=True)
    environment = {
        **os.environ, "USER": user, "LOGNAME": user, "HOME": str(home), "TMPDIR": str(scratch), "PYTHONHASHSEED": seed,
        "ULSAM_DEPLOY_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = ["export", str(model), "--target", ",".join(TARGETS), "--precision", precision, "--output", "net.bundle"]
    words += ["--calibration", str(calibration)] if "int8" in precision else []
    command = [sys.executable, "-m", "ulsam_deploy", *words, "--json"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert (work / "net.bundle").is_dir(), done.stderr[-3000:]
    return work / "net.bundle"


def unmeasured(plain: Any) -> Any:
    """``plain`` without what a clock said."""
    if isinstance(plain, dict):
        return {key: unmeasured(value) for key, value in plain.items() if key not in MEASURED}
    return [unmeasured(value) for value in plain] if isinstance(plain, list) else plain


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_users_get_the_same_bytes(tmp_path: Path) -> None:
    model, calibration = tmp_path / "net.pt", tmp_path / "calibration.npz"
    words = f"new mobilenet_v1 --insert 3,5 --subspaces 2 --width 0.25 --classes 5 --input 3x32x32 -o {model}"
    subprocess.run([sys.executable, "-m", "ulsam_deploy", *words.split()], check=True, capture_output=True)
    images = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    np.savez(calibration, x=images)
    known = {precision for target in TARGETS for precision in plugins.load(plugins.EXPORTERS, target).precisions}
    precision = ",".join(sorted(known & {"fp32", "fp16", "int8"}))
    one = export(tmp_path, model, calibration, "alicequux", "1", precision)
    two = export(tmp_path, model, calibration, "robertquux", "4242", precision)
    names = sorted(path.relative_to(one).as_posix() for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two).as_posix() for path in two.rglob("*") if path.is_file())
    assert {name.split("/")[0].split("-")[0] for name in names} >= set(TARGETS)
    differ = [name for name in names if (one / name).read_bytes() != (two / name).read_bytes()]
    assert set(differ) <= {MANIFEST, "report.html"}
    manifests = [json.loads((root / MANIFEST).read_text()) for root in (one, two)]
    for manifest in manifests:
        manifest["extras"] = [extra for extra in manifest["extras"] if extra["path"] != "report.html"]
    assert unmeasured(manifests[0]) == unmeasured(manifests[1])
    for root in (one, two):
        assert traces(root, "alicequux", "robertquux", str(tmp_path), "quux") == []


def test_a_trace_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"..." + re.escape(str(Path.home())).encode() + b"/x")
    np.savez_compressed(tmp_path / "b.npz", meta=np.frombuffer(b"made by quuxuser " * 99, np.uint8))
    found = traces(tmp_path, "quuxuser")
    assert any(trace.endswith("in a") for trace in found)
    assert "quuxuser in b.npz/meta.npy" in found
