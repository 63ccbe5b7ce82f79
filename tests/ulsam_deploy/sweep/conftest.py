"""Tiny checkpoints to sweep over: ONNX models with one ULSAM block, which take seconds each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[int], list[Path]]:
    """``tiny(count)``: so many classifiers of 3 x 8 x 8 images into 4 classes, each with other weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from torch import nn

    from ulsam_deploy.models.ulsam import ULSAM

    def make(count: int) -> list[Path]:
        paths = []
        for number in range(count):
            torch.manual_seed(number)
            layers = [nn.Conv2d(3, 8, 3, 2, 1), ULSAM(8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
            path = tmp_path / f"tiny-{number:02}.onnx"
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(nn.Sequential(*layers).eval(), (torch.zeros(1, 3, 8, 8),), str(path), dynamo=False)
            paths.append(path)
        return paths

    return make


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of earlier runs is found."""
    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
