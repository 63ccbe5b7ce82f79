"""A fresh small network and its bundle, made once for all tests of commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ulsam_deploy.cli import main

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object, code: int = 0) -> str:
        assert main([str(word) for word in words]) == code
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh small network and its bundle for ONNX and TensorRT."""
    made = tmp_path_factory.mktemp("cli")
    new = f"new mobilenet_v2 --insert 6 --width 0.35 --classes 4 --input 3x64x64 -o {made}/net.pt"
    assert main(new.split()) == 0
    assert main(["export", f"{made}/net.pt", "--target", "onnx,trt"]) == 0
    return made
