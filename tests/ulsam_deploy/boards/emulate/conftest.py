"""Bundles for the emulated boards: one made by hand, and two networks in every precision that their targets offer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.models.digits import cluttered_digits

from ...handmade import make_bundle

#: Precisions whose ranges come from a calibration set.
CALIBRATED = "int8"
WIDTH = 512


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One product of WIDTH x WIDTH for ONNX Runtime and LiteRT; batch 1."""
    folder = tmp_path_factory.mktemp("dense")
    return make_bundle(folder / "dense.bundle", targets=("onnx", "tflite"), batch=1, width=WIDTH).root


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Callable[[str, str], Path]:
    """``network(name, target)``: its bundle in every precision that the target's exporter declares; made once."""
    folder, done = tmp_path_factory.mktemp("networks"), dict[tuple[str, str], Path]()

    def make(name: str, target: str) -> Path:
        if (name, target) not in done:
            done[name, target] = _export(folder, name, target, checkpoint)
        return done[name, target]

    return make


def _export(folder: Path, name: str, target: str, checkpoint: Path) -> Path:
    model, images = checkpoint, folder / f"{name}.npz"
    if name == "reference":
        np.savez(images, x=cluttered_digits("train", 64, 1)[0])
    else:
        model = folder / f"{name}.pt"
        if not model.is_file():
            assert main(f"new {name} --insert 6,11 --classes 10 --input 3x64x64 -o {model}".split()) == 0
        np.savez(images, x=np.random.default_rng(0).normal(size=(64, 3, 64, 64)).astype(np.float32))
    precisions = plugins.load(plugins.EXPORTERS, target).precisions
    ranges = ["--calibration", str(images)] if CALIBRATED in precisions else []
    bundle = folder / f"{name}-{target}.bundle"
    words = ["export", str(model), "--target", target, "--precision", ",".join(precisions), *ranges, "-o", str(bundle)]
    assert main(words) in (0, 1, 5)  # int8 of a network that was never trained need not pass: the board has to agree
    return bundle


@pytest.fixture
def own_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``own_profile(toml)``: the user's own device profiles."""

    def write(text: str) -> None:
        (tmp_path / "devices.toml").write_text(text)
        monkeypatch.setenv("ULSAM_DEPLOY_DEVICES", str(tmp_path / "devices.toml"))

    return write


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``answer(*words, code=0)``: the JSON document of a command that ends with ``code``."""

    def call(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        ended = main([*map(str, words), "--json"])
        said = capsys.readouterr()
        assert ended == code, said.err + said.out
        return json.loads(said.out)

    return call
