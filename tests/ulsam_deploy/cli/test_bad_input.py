"""Bad input, each kind once: the right exit code, words instead of a traceback, and nothing half-written."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ulsam_deploy.cli import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in an empty folder; afterwards nothing must lie there but what the test itself made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    before: set[Path] = set()

    def call(*words: object) -> tuple[int, str]:
        before.update(tmp_path.iterdir())
        code = main([str(word) for word in words])
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return code, error

    yield call
    assert set(tmp_path.iterdir()) == before, "something half-written was left behind"


@pytest.fixture
def small(small_model: Path) -> Path:
    return small_model


def edited(small: Path, path: Path, edit: Callable[[dict], None]) -> Path:
    import torch

    contents = torch.load(small, weights_only=True)
    edit(contents)
    torch.save(contents, path)
    return path


def test_missing_file(run: Run) -> None:
    code, error = run("export", "no-such.pt")
    assert code == 2
    assert "no-such.pt" in error
    assert "do this:" in error


def test_a_giant_is_not_even_hashed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "giant.pt").touch()
    os.truncate(tmp_path / "giant.pt", 5 << 30)
    started = time.process_time()
    code, error = run("export", "giant.pt")
    assert code == 2
    assert "at most 4 GiB" in error
    assert time.process_time() - started < 2


def test_a_link_to_itself_is_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "loop.json").symlink_to("loop.json")
    for words in (
        ["report", "loop.json", "-o", "page.html"],
        ["inspect", "loop.json"],
        ["compare", "loop.json", "loop.json"],
    ):
        code, error = run(*words)
        assert code == 2
        assert "loop.json" in error


def test_a_folder_is_no_checkpoint(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert run("export", "folder")[0] == 2


@pytest.mark.parametrize("keep", [0, 10, 1000, 40_000, -100])
def test_truncated_file(run: Run, small: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.pt").write_bytes(small.read_bytes()[:keep])
    code, error = run("export", "cut.pt")
    assert code == 3
    assert "cut.pt" in error


def test_random_bytes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(random.Random(0).randbytes(5000))
    assert run("export", "noise.pt")[0] == 3


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch pwned",)


def test_a_pickle_that_would_run_code_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": Malicious()}, tmp_path / "evil.pt")
    code, error = run("export", "evil.pt")
    assert code == 6
    assert "system" in error
    assert "--trust-pickle" in error
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_of_another_network_names_what_it_saw(run: Run, tmp_path: Path) -> None:
    import torch

    torch.save({"encoder.weight": torch.zeros(3, 3), "encoder.bias": torch.zeros(3)}, tmp_path / "other.pt")
    code, error = run("export", "other.pt")
    assert code == 2
    assert "encoder.weight" in error
    assert "--model PKG.MODULE:FACTORY" in error


def test_a_missing_key_is_named(run: Run, small: Path, tmp_path: Path) -> None:
    def drop(contents: dict) -> None:
        del contents["state_dict"]["classifier.1.bias"]

    code, error = run("export", edited(small, tmp_path / "short.pt", drop), "--arch", "mobilenet_v1")
    assert code == 2
    assert "classifier.1.bias" in error


def test_non_finite_weights_are_named(run: Run, small: Path, tmp_path: Path) -> None:
    def poison(contents: dict) -> None:
        contents["state_dict"]["classifier.1.weight"][0, 0] = float("nan")

    code, error = run("export", edited(small, tmp_path / "nan.pt", poison))
    assert code == 3
    assert "classifier.1.weight" in error


def test_unwritable_output_is_said_before_any_work(run: Run, small: Path) -> None:
    started = time.perf_counter()
    code, error = run("export", small, "-o", "/proc/nowhere/x.bundle")
    assert code == 2
    assert "--output" in error
    assert time.perf_counter() - started < 2


def test_an_output_that_is_not_ours_is_left_alone(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    code, _ = run("export", small, "-o", "mine")
    assert code == 2
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_full_disk(run: Run, small: Path) -> None:
    """A file size limit makes writes fail as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        code, error = run("export", small, "--target", "onnx", "-o", "full.bundle", "--no-cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert code == 3
    assert error


def test_unknown_target(run: Run, small: Path) -> None:
    code, error = run("export", small, "--target", "coreml")
    assert code == 2
    assert "onnx, openvino, tflite, trt" in error


def test_a_backend_that_is_not_installed(run: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``find_spec`` is what 'installed' means; a package of that name really absent looks exactly like this."""
    import importlib.util

    from ulsam_deploy.device import third_party

    real = importlib.util.find_spec
    monkeypatch.setattr(third_party, "find_spec", lambda name: None if name == "litert_torch" else real(name))
    code, error = run("export", small, "--target", "tflite")
    assert code == 4
    assert "ulsam-deploy[tflite]" in error
    assert "  load " not in error, "the network was loaded although nothing could be made of it"


def test_wrong_input_shape(run: Run, small: Path) -> None:
    code, error = run("export", small, "--input", "1x32x32", "--target", "onnx")
    assert code == 2
    assert "1x32x32" in error
    assert "--input" in error


@pytest.mark.parametrize("words", ["--batch 0", "--batch many", "--input 3x0x4", "--require proven", "--tagret onnx"])
def test_usage_errors_are_exit_2(run: Run, small: Path, words: str) -> None:
    code, error = run("export", small, *words.split())
    assert code == 2
    assert "usage:" not in error


def test_unknown_precision(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(small), "--target", "onnx", "--precision", "fp8"]) == 2
    assert "expected: fp32, fp16, bf16, int8, int8-dynamic" in capsys.readouterr().err


def test_a_precision_that_the_target_lacks(run: Run, small: Path) -> None:
    code, error = run("export", small, "--target", "onnx", "--precision", "int8-dynamic")
    assert code == 4
    assert "fp32" in error


@pytest.mark.long
@pytest.mark.parametrize("stage", ["capture", "reference", "onnx"])
def test_ctrl_c_in_the_middle(small: Path, tmp_path: Path, stage: str) -> None:
    """SIGINT while the stage before is reported done: whole or absent, and no litter."""
    before = {"capture": "load", "reference": "fuse and prove", "onnx": "reference"}[stage]
    command = [sys.executable, "-m", "ulsam_deploy", "export", str(small), "--target", "onnx", "--no-cache"]
    with subprocess.Popen(
        [*command, "-o", "out/x.bundle"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if line.strip().startswith(before):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.glob("out/*")) == []
