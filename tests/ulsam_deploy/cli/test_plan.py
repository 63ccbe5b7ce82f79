"""``--dry-run``: it says what an export will do, does none of it, and the export then does just that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ulsam_deploy.device.cache import Cache

from .conftest import Run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def steps(text: str) -> dict[str, str]:
    return {step["name"]: step["state"] for step in json.loads(text)["steps"]}


def test_nothing_is_made_and_then_what_was_said(small_model: Path, run: Run, cache: Path, tmp_path: Path) -> None:
    words = ["export", small_model, "--target", "onnx", "-o", tmp_path / "n.bundle"]
    said = run(*words, "--dry-run", "--json")
    assert json.loads(said)["replaces"] is False
    assert set(steps(said)) == {"load", "capture", "fuse and prove", "reference", "onnx", "bundle"}
    assert set(steps(said).values()) == {"to do"}
    assert list(tmp_path.iterdir()) == [], "a dry run left something"
    run(*words)
    again = run(*words, "--dry-run", "--json")
    assert json.loads(again)["replaces"] is True
    assert steps(again) == {**dict.fromkeys(steps(said), "from the cache"), "bundle": "to do"}
    assert set(steps(run(*words, "--batch", "2", "--dry-run", "--json")).values()) == {"to do"}
    assert set(steps(run(*words, "--no-cache", "--dry-run", "--json")).values()) == {"to do"}
    assert Cache().held()[0] > 0


def test_what_will_be_skipped_says_why_and_what_the_exit_code_will_be(folder: Path, run: Run) -> None:
    words = ["export", folder / "net.pt", "--batch", "dynamic", "--dry-run"]
    out = run(*words, "--target", "onnx,tflite", code=4)
    assert "skipped" in out
    assert "they cannot have a dynamic batch" in out
    assert "--target tflite --batch 1" in out
    assert out.rstrip().endswith("Nothing was done: run it without --dry-run to export.")
    assert steps(run(*words, "--target", "all", "--json"))["tflite"] == "skipped"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--target", "onxn"], "no target is called 'onxn'"),
        (["--precision", "int8"], "int8 needs real inputs"),
        (["--device", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str], words: list[str], found: str
) -> None:
    from ulsam_deploy.cli import main

    assert main(["export", str(folder / "net.pt"), "--dry-run", *words]) == 2
    assert found in capsys.readouterr().err


def test_of_what_the_cache_holds_nothing_is_read_again(folder: Path, run: Run, tmp_path: Path) -> None:
    words = ["export", str(folder / "net.pt"), "--target", "onnx", "-o", str(tmp_path / "n.bundle")]
    run(*words)
    code = (
        "import sys; from ulsam_deploy.cli import main;"
        f"assert main([*{words!r}, '--dry-run']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
