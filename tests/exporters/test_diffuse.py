"""Diffuse attention on large maps: plain int8 of every toolkit loses it unseen, and the forms chosen here keep it."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ulsam_deploy.cli import main
from ulsam_deploy.errors import Exit
from ulsam_deploy.lint.resolution import word
from ulsam_deploy.parity.liveness import Word, classify
from ulsam_deploy.program.views import resolutions
from ulsam_deploy.thresholds import DEAD

from .precisions import (
    diffuse_network,
    export,
    golden,
    lives,
    outputs,
    plain_onnx,
    plain_openvino,
    plain_tflite,
    programs,
)

TARGETS = ("onnx", "openvino", "tflite")


@pytest.fixture(scope="module", params=TARGETS)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Somebody else's int8: target, artifact, folder."""
    target, floats, folder = request.param, tmp_path_factory.mktemp("float"), tmp_path_factory.mktemp("plain")
    artifact = export(target, "fp32", floats)
    source, into = floats / artifact.files[0], folder / artifact.files[0]
    if target == "tflite":
        into.write_bytes(plain_tflite(source.read_bytes()))
    else:
        {"onnx": plain_onnx, "openvino": plain_openvino}[target](source, into)
    return target, dataclasses.replace(artifact, precision="int8"), folder


def test_plain_int8_passes_the_rules_of_other_tools(plain: Any) -> None:
    found, (right,) = outputs(*plain), golden().outputs.values()
    cosines = (found * right).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(right, axis=1))
    psnr = 20 * np.log10(np.ptp(right) / np.sqrt(np.square(found - right).mean()))
    assert cosines.min() > 0.995
    assert psnr > 30
    assert np.mean(found.argmax(1) == right.argmax(1)) >= 0.9


def test_plain_int8_is_dead(plain: Any, tmp_path: Path) -> None:
    target, artifact, folder = plain
    for by_outputs, inside in lives(target, artifact, folder, tmp_path):
        dead_inside = inside is not None and classify(*inside[1:]) is Word.DEAD
        assert by_outputs.word is Word.DEAD or dead_inside, (by_outputs, inside)


def test_verify_against_the_checkpoint_fails_it(plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As anybody would meet it: a file, a checkpoint, and the network's code."""
    _, artifact, folder = plain
    (tmp_path / "diffuse_factory.py").write_text("from typing import Any\n\n" + inspect.getsource(diffuse_network))
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(diffuse_network().state_dict(), tmp_path / "model.pt")
    words = ["verify", str(folder / artifact.files[0]), "--against", str(tmp_path / "model.pt"), "--no-cache"]
    words += ["--model", "diffuse_factory:diffuse_network", "--input", "3x112x112", "--json"]
    assert main(words) == Exit.CHECK_FAILED


@pytest.mark.parametrize("target", TARGETS)
def test_the_form_chosen_here_keeps_it(target: str, tmp_path: Path) -> None:
    folder, place = tmp_path / "made", tmp_path / "twins"
    folder.mkdir()
    place.mkdir()
    artifact = export(target, "int8", folder)
    assert artifact.facts["attention"] == "float"
    assert artifact.facts["quantized_products"] >= 3
    for by_outputs, inside in lives(target, artifact, folder, place):
        assert inside is not None
        assert classify(*inside[1:]) is Word.ALIVE, (by_outputs, inside)
        assert by_outputs.word is not Word.DEAD


def test_the_forecast_says_so_before_anything_is_compiled() -> None:
    found = resolutions(programs()[1], golden())
    assert [(one.height, one.width) for one in found] == [(56, 56), (28, 28)]
    for one in found:
        assert one.survives["int8"]["plain"] <= DEAD
        assert word(one.survives["int8"]["float"]) == "alive"
