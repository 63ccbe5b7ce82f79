"""Bundles on emulated boards: what passes natively passes there, and what fails fails there in the same way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ulsam_deploy.boards.emulate import guest, machine
from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import RefusedError
from ulsam_deploy.device.progress import Progress

from .... import needs
from .broken import FILES, integer_product, other_weights, unknown_operator

pytestmark = pytest.mark.arm

Ask = Callable[..., Any]
#: What a verdict is worth, the worse one first.
CODES = (("fail", 1), ("inconclusive", 5))
#: Where a board's own kernels end in another verdict than the host's, by network, target, precision and board.
#: ONNX Runtime has other float16 kernels for a Cortex-A76: 16 noise floors off, 8 are allowed. See docs/emulation.md.
OTHERWISE = {("reference", "onnx", "fp16", "rpi5"): "fail"}
#: A Pi 4's processor described as a Pi 5's.
WRONG = '[wrong]\ntitle = "a board"\nlike = "rpi5"\n[wrong.arm]\ncpu = "cortex-a72"\ncore = "Cortex-A72"\n'


@pytest.mark.parametrize("target", ["tflite", "onnx"])
@pytest.mark.parametrize("name", ["reference", "mobilenet_v2"])
def test_every_precision_of_a_network_is_judged_on_both_boards_as_here(
    name: str, target: str, network: Callable[[str, str], Path], answer: Ask
) -> None:
    bundle = network(name, target)
    here = {found["precision"]: found["evidence"] for found in answer("inspect", bundle)["manifest"]["artifacts"]}
    assert set(here) == set(plugins.load(plugins.EXPORTERS, target).precisions)
    assert here["fp32"]["verdict"] == "pass"
    for board in ("rpi4", "rpi5"):
        verdicts = {p: OTHERWISE.get((name, target, p, board), evidence["verdict"]) for p, evidence in here.items()}
        code = next((c for v, c in CODES if v in verdicts.values()), 0)
        found = answer("verify", bundle, "--device", board, code=code)
        for artifact in found["artifacts"]:
            evidence = artifact["evidence"]
            assert evidence["level"] == "emulated-on-device-cpu"
            assert evidence["engine"]["device"] == board
            assert evidence["verdict"] == verdicts[artifact["precision"]], (board, artifact["precision"])


@pytest.mark.parametrize(
    ("board", "targets", "engine"),
    [("rpi3", ["onnx", "tflite"], "LiteRT"), ("rpi4-32bit", ["tflite"], "TensorFlow Lite")],
)
def test_the_other_boards(board: str, targets: list[str], engine: str, dense: Path, answer: Ask) -> None:
    found = answer("verify", dense, "--device", board)["artifacts"]
    ran = {artifact["target"]: artifact["evidence"] for artifact in found if artifact["evidence"]}
    assert sorted(ran) == targets
    assert {evidence["verdict"] for evidence in ran.values()} == {"pass"}
    assert ran["tflite"]["engine"]["engine"] == engine
    for artifact in found:
        assert artifact["evidence"] or "has no engine for" in artifact["error"]


def test_a_target_without_engine_that_was_asked_for_is_exit_4(dense: Path, answer: Ask, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    found = answer("verify", dense, "--device", "rpi4-32bit", "--target", "onnx", "--junit", junit, code=4)
    assert "has no engine for 'onnx'" in found["artifacts"][0]["error"]
    assert [case.get("name") for case in ElementTree.parse(junit).iter("testcase")]
    assert "did not run on rpi4-32bit" in junit.read_text()


def test_a_wrong_description_is_found_before_any_engine_runs(
    dense: Path, own_profile: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    own_profile(WRONG)
    assert main(["verify", str(dense), "--device", "wrong"]) == 2
    said = capsys.readouterr().err
    assert "doesn't fit its processor model: it claims" in said
    assert "asimddp" in said


def test_a_kernel_that_the_processor_lacks_is_reported_as_such(
    dense: Path, answer: Ask, own_profile: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with the check of the description left out: the engine takes a kernel of the Pi 5, and traps."""
    own_profile(WRONG)
    blind = tmp_path / "blind.py"
    blind.write_text(
        f"import sys\nsys.path.insert(0, {str(machine._GUEST.parent)!r})\nimport guest\n"
        "guest.check_processor = lambda: None\nguest.main()\n"
    )
    monkeypatch.setattr(machine, "_GUEST", blind)
    integers = integer_product(dense, tmp_path / "integers.bundle")
    found = answer("verify", integers, "--device", "wrong", "--target", "onnx", code=1)["artifacts"][0]
    assert found["evidence"] is None
    assert found["error"].startswith("this kernel does not run on a Cortex-A72")
    for board in ("rpi4", "rpi5"):  # rightly described, both run it: it computes something else, and that is seen
        found = answer("verify", integers, "--device", board, "--target", "onnx", code=1)["artifacts"][0]
        assert found["evidence"]["verdict"] == "fail"


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_what_is_wrong_fails_there_as_it_does_here(target: str, dense: Path, answer: Ask, tmp_path: Path) -> None:
    wrong = other_weights(dense, target, tmp_path / "wrong.bundle")
    unknown = unknown_operator(dense, target, tmp_path / "unknown.bundle")
    for bundle, code in ((wrong, 1), (unknown, 3)):
        here = answer("verify", bundle, "--target", target, code=code)["artifacts"][0]
        there = answer("verify", bundle, "--target", target, "--device", "rpi4", code=code)["artifacts"][0]
        assert bool(here["error"]) == bool(there["error"]) == (code == 3)
        if code == 3:
            assert "Frobnicate" in here["error"]
            assert "Frobnicate" in there["error"]
        else:
            assert here["evidence"]["verdict"] == there["evidence"]["verdict"] == "fail"
            assert len(here["evidence"]["reasons"]) == len(there["evidence"]["reasons"])


def test_what_was_altered_is_refused_on_the_host_and_on_the_board(dense: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered.bundle"
    shutil.copytree(dense, altered)
    with (altered / FILES["tflite"]).open("ab") as file:
        file.write(b"\0")
    assert main(["verify", str(altered), "--device", "rpi4"]) == main(["verify", str(altered)]) == 6
    with machine.emulated("rpi4", Progress(quiet=True)) as board, pytest.raises(RefusedError, match=r"model\.tflite"):
        board.run(guest.verify, guest.Chosen(altered, "tflite", "fp32"))


def _without_network(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command in a network namespace of its own, which has nothing in it."""
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("needs unshare with user namespaces")
    command = [*alone, sys.executable, "-m", "ulsam_deploy", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)


def test_once_cached_neither_network_nor_apt_is_needed(dense: Path, answer: Ask, tmp_path: Path) -> None:
    answer("verify", dense, "--device", "rpi4")
    (tmp_path / "bin").mkdir()
    for name in ("unshare", "true", "qemu-aarch64"):
        (tmp_path / "bin" / name).symlink_to(str(needs.where(name)))
    done = _without_network(["verify", str(dense), "--device", "rpi4"], {**os.environ, "PATH": str(tmp_path / "bin")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("emulated-on-device-cpu") >= 2


def test_without_network_and_cache_it_is_exit_4_and_leaves_nothing(dense: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = _without_network(
        ["verify", str(dense), "--device", "rpi4"], {**os.environ, "ULSAM_DEPLOY_CACHE": str(cache)}
    )
    assert done.returncode == 4
    assert "connect to the network once" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((cache / ".sysroots").iterdir()) == []
