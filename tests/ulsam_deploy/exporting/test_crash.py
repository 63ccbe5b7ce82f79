"""Killed at any write of a whole export, without room, without rights, or two at once: one bundle, whole, no litter."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import read_bundle

from .. import handmade

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "net.pt"
    words = f"new mobilenet_v1 --insert 3 --subspaces 2 --width 0.25 --classes 5 --input 3x32x32 -o {path}"
    assert main(words.split()) == 0
    return path


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade.make_bundle(tmp_path_factory.mktemp("old") / "net.bundle", targets=("onnx",), batch=1).root


def walk(folder: Path, network: Path, old: Path, targets: str, stride: int) -> int:
    """How many writes there were; fails with the walk's own words when one of them left anything half done."""
    command = [sys.executable, str(HERE / "crash_walk.py"), *map(str, (folder, network, old, targets, stride))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(json.loads(done.stdout.splitlines()[-1])["moments"])


def test_killed_at_some_writes_of_a_whole_export(tmp_path: Path, network: Path, old: Path) -> None:
    assert walk(tmp_path, network, old, "onnx", 19) > 60


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_every_write_of_a_whole_export(tmp_path: Path, network: Path, old: Path) -> None:
    assert walk(tmp_path, network, old, "onnx,openvino,tflite", 3) > 100


def start(network: Path, place: Path, *words: str, before: str = "") -> subprocess.Popen[str]:
    """A real run, in an environment of its own; ``before`` is Python that it starts with."""
    for name in ("out", "tmp", "cache"):
        (place / name).mkdir(exist_ok=True, mode=0o700)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(place / "tmp"), "ULSAM_DEPLOY_CACHE": str(place / "cache"),
    }  # fmt: skip
    run = f"{before or 'pass'}; import sys; from ulsam_deploy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "export", str(network), "--target", "onnx", *words]
    command += ["--output", str(place / "out" / "net.bundle")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left(place: Path) -> list[str]:
    """What lies there besides the bundle and the cache's entries (and a cache that PyTorch keeps for all programs)."""
    found = [path.name for name in ("out", "tmp") for path in (place / name).iterdir()]
    found = [name for name in found if name != "net.bundle" and not name.startswith("torchinductor_")]
    return found + [path.name for path in (place / "cache").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_for_real_at_any_time(tmp_path: Path, network: Path) -> None:
    began = time.monotonic()
    first = start(network, tmp_path)
    said = first.communicate()[1]
    assert first.returncode == 0, said
    whole, chance = time.monotonic() - began, random.Random(0)
    for number in range(6):
        place = tmp_path / str(number)
        place.mkdir()
        run = start(network, place)
        time.sleep(chance.uniform(0.2, 1.0) * whole)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        if (place / "out/net.bundle").exists():
            read_bundle(place / "out/net.bundle").verify_integrity()
        again = start(network, place)
        said = again.communicate()[1]
        assert again.returncode == 0, said
        read_bundle(place / "out/net.bundle").verify_integrity()
        assert left(place) == []


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, network: Path) -> Path:
    """A place with a finished export and its cache, so that the next run takes a second."""
    place = tmp_path_factory.mktemp("warm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ULSAM_DEPLOY_CACHE", str(place / "cache"))
        assert main(["export", str(network), "--target", "onnx", "--output", str(place / "out" / "net.bundle")]) == 0
    return place


def test_out_of_room_keeps_the_old_bundle(warm: Path, network: Path) -> None:
    before = (warm / "out/net.bundle/manifest.json").read_bytes()
    small_disk = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    run = start(network, warm, before=small_disk)
    said = run.communicate()[1]
    assert run.returncode == 3, said
    assert "File too large" in said
    assert "Traceback" not in said
    assert (warm / "out/net.bundle/manifest.json").read_bytes() == before
    assert left(warm) == []


def test_two_exports_into_one_place_at_once_leave_one_whole_bundle(warm: Path, network: Path) -> None:
    runs = [start(network, warm) for _ in range(3)]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    read_bundle(warm / "out/net.bundle").verify_integrity()
    assert left(warm) == []


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(
    network: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # /proc refuses new files to everybody, root included, which permission bits would not.
    assert main(["export", str(network), "--target", "onnx", "--output", "/proc/net.bundle", *words]) == 2
    assert "can't be written to" in capsys.readouterr().err
