"""Artifacts of one small network with two naive ULSAM blocks, made once a session for all tests that need them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.cache import BOARDS, cache_root
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Artifact, Availability
from ulsam_deploy.exporting import parallel
from ulsam_deploy.graph.interfaces import ExportRequest

from . import needs


def pytest_configure(config: pytest.Config) -> None:
    """One cache for this run and all its workers: what one test exports, another finds, and no earlier run counts.

    Only what emulated boards run, which takes minutes to fetch, is the user's own.
    """
    if hasattr(config, "workerinput"):
        return
    boards, run = cache_root() / BOARDS, Path(tempfile.mkdtemp(prefix="ulsam-deploy-tests-"))
    boards.mkdir(parents=True, exist_ok=True)
    (run / BOARDS).symlink_to(boards)
    os.environ["ULSAM_DEPLOY_CACHE"] = str(run)
    config.add_cleanup(lambda: shutil.rmtree(run, ignore_errors=True))


def pytest_itemcollected(item: pytest.Item) -> None:
    """What a mark stands for, so that ``-m needs`` selects every test that may skip for want of a program."""
    for mark, programs in needs.OF_MARK.items():
        if item.get_closest_marker(mark):
            item.add_marker(pytest.mark.needs(*programs))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program that isn't here; with ``ULSAM_DEPLOY_TEST_ALL`` set, as in CI, fail."""
    programs = [program for mark in item.iter_markers("needs") for program in mark.args]
    if sentence := needs.lacking(programs):
        (pytest.fail if os.environ.get("ULSAM_DEPLOY_TEST_ALL") else pytest.skip)(sentence)


@pytest.fixture(scope="session", autouse=True)
def one_core() -> Iterator[None]:
    """The suite runs a process a core already; what is parallel, or elsewhere, has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "local_workers", lambda _asked, _memory: 1)
        patch.setattr(parallel, "ISOLATE", False)
        micro = plugins.load(plugins.RUNTIMES, "tflite-micro")
        left_out = Availability(False, "left out here", "see tests/runtimes/test_interpreters.py")
        patch.setattr(micro, "available", lambda: left_out)
        yield


@dataclass(frozen=True)
class Made:
    """An exported artifact with what is needed to run it and to judge it."""

    artifact: Artifact
    folder: Path
    runtime: type[Runtime]
    reference: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]

    @property
    def files(self) -> list[Path]:
        return [self.folder / name for name in self.artifact.files]

    def session(self, **options: Any) -> Runtime:
        return self.runtime(self.files, self.artifact.inputs, self.artifact.outputs, threads=1, **options)

    def images(self, batch: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(batch).normal(size=(batch, 3, 32, 32)).astype(np.float32)


def small_network(attention: bool = True) -> Any:
    """Convolutions, two ULSAM blocks (32 channels 4 subspaces 16x16; 48 channels 2 subspaces 8x8), a classifier."""
    import torch
    from torch import nn

    from ulsam_deploy.models.ulsam import ULSAM

    torch.manual_seed(7)
    layers = [
        nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()),
        ULSAM(32, 4) if attention else nn.Identity(),
        nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU6()),
        nn.Sequential(nn.Conv2d(32, 48, 1, bias=False), nn.BatchNorm2d(48)),
        ULSAM(48, 2) if attention else nn.Identity(),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10)),
    ]
    network = nn.Sequential(*layers).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.7, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network


def export_small(target: str, batch: int | None, folder: Path, attention: bool = True) -> Made:
    """Take the small network through the pipeline to ``target``: capture, raise, lower, export."""
    import torch

    from ulsam_deploy.graph import capture, fuse_attention, lower

    exporter = plugins.load(plugins.EXPORTERS, target)
    network = small_network(attention)
    program = fuse_attention(capture(network, [(3, 32, 32)], batch))
    assert len(program.blocks) == (2 if attention else 0)
    lowered = lower(program, exporter.lowering(ExportRequest()))
    artifact = exporter.export(lowered, ExportRequest(), folder)
    exact = network.double()

    def reference(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            result: np.ndarray[Any, Any] = exact(torch.from_numpy(images).double()).numpy()
        return result

    return Made(artifact, folder, plugins.load(plugins.RUNTIMES, exporter.runtime), reference)


@pytest.fixture
def export_again(tmp_path: Path) -> Callable[[str, int | None], Made]:
    """``export_again(target, batch)``: a fresh export of the same network in the same process."""
    return lambda target, batch: export_small(target, batch, tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """``made(target, batch)``, with ``attention=False`` for the same network without ULSAM; each made once."""

    @cache
    def make(target: str, batch: int | None, attention: bool = True) -> Made:
        return export_small(target, batch, tmp_path_factory.mktemp(target), attention)

    return make


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small network for every test that needs just any; its bytes and name are always the same, for the cache."""
    path = tmp_path_factory.mktemp("small") / "small.pt"
    words = f"new mobilenet_v1 --insert 9 --width 0.25 --classes 4 --input 3x32x32 -o {path}"
    assert main(words.split()) == 0
    return path
