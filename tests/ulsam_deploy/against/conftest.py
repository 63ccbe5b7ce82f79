"""A small network with attention as a checkpoint, and artifacts of it made by other tools than ours."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.load import source

SIZE = 32


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything lies."""
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(scope="session")
def small(folder: Path) -> Path:
    path = folder / "small.pt"
    words = f"new mobilenet_v1 --insert 3,5 --subspaces 2 --width 0.25 --classes 5 --input 3x{SIZE}x{SIZE} -o {path}"
    assert main(words.split()) == 0
    return path


@pytest.fixture(scope="session")
def network(small: Path) -> Any:
    return source.load(ExportOptions(small)).model


def naive_onnx(network: Any, path: Path, batch: int = 1, **options: Any) -> Path:
    """The way most people do it: the older ``torch.onnx.export`` on the module as it is."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(batch, 3, SIZE, SIZE),), path, dynamo=False, **options)
    return path


@pytest.fixture(scope="session")
def good_onnx(network: Any, folder: Path) -> Path:
    return naive_onnx(network, folder / "good.onnx", input_names=["image"], output_names=["scores"])


@pytest.fixture(scope="session")
def stale(network: Any) -> Any:
    """One layer of an older training run."""
    import torch

    older = copy.deepcopy(network)
    with torch.no_grad():
        older.features[7].pw[0].weight.mul_(1.02)
    return older


@pytest.fixture(scope="session")
def stale_onnx(stale: Any, folder: Path) -> Path:
    return naive_onnx(stale, folder / "stale.onnx")
