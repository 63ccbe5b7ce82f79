"""Diffuse attention on large maps: plain int8 of every toolkit loses it unseen, and the forms chosen here keep it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.findings import AttentionState
from ulsam_deploy.device.parity.retention import classify
from ulsam_deploy.device.thresholds import LOST
from ulsam_deploy.graph.resolution import word
from ulsam_deploy.graph.views import resolutions

from .precisions import (
    SIZE,
    diffuse_network,
    export,
    golden,
    lives,
    outputs,
    plain_onnx,
    plain_openvino,
    plain_tflite,
    programs,
    real,
)

TARGETS = ("onnx", "openvino", "tflite")
search = pytest.mark.slow  # 'make test-search'


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
        dead_inside = inside is not None and classify(*inside[1:]) is AttentionState.LOST
        assert by_outputs.state is AttentionState.LOST or dead_inside, (by_outputs, inside)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words for ``verify`` that name the network: its checkpoint, its code, its input."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "diffuse_factory.py").write_text("from typing import Any\n\n" + inspect.getsource(diffuse_network))
    torch.save(diffuse_network().state_dict(), folder / "model.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        words = ["--against", str(folder / "model.pt"), "--model", "diffuse_factory:diffuse_network"]
        yield [*words, "--input", f"3x{SIZE}x{SIZE}", "--no-cache", "--json"]


@search
def test_verify_against_the_checkpoint_fails_it(plain: Any, checkpoint: list[str]) -> None:
    """As anybody would meet it: a file, a checkpoint, and the network's code."""
    _, artifact, folder = plain
    assert main(["verify", str(folder / artifact.files[0]), *checkpoint]) == Exit.CHECK_FAILED


def as_int8(
    file: Path, checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: int = 40
) -> dict[str, Any]:
    """What ``verify --against`` says of a file by anybody, judged as int8: on a quarter of ``samples`` pictures."""
    np.savez(tmp_path / "real.npz", x=real(samples, 5))
    main(["verify", str(file), *checkpoint, "--precision", "int8", "--calibration", str(tmp_path / "real.npz")])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def words_of(found: dict[str, Any]) -> list[str]:
    return [block["state"] for block in found["evidence"]["parity"]["blocks"]]


@search
def test_judged_as_int8_it_is_the_attention_that_is_dead(
    plain: Any, checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its outputs are as near as sound int8 comes; only ablations of the file tell."""
    _, artifact, folder = plain
    found = as_int8(folder / artifact.files[0], checkpoint, tmp_path, capsys)
    assert found["exit_code"] == Exit.CHECK_FAILED
    assert words_of(found) == ["lost", "lost"]
    assert all(output["error"] < output["tolerance"] for output in found["evidence"]["parity"]["outputs"])


@search
def test_ablations_of_a_file_with_one_softmax_a_subspace(
    checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it was made here: torch's own exporter and ONNX Runtime's own quantizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, file = torch.zeros(1, 3, SIZE, SIZE), tmp_path / "float.onnx"
        torch.onnx.export(diffuse_network(), (image,), file, dynamo=False, input_names=["input"])
    plain_onnx(file, tmp_path / "plain.onnx")
    assert len(plugins.load(plugins.EXPORTERS, "onnx").softmaxes(file)) == 6
    found = as_int8(tmp_path / "plain.onnx", checkpoint, tmp_path, capsys)
    assert (found["exit_code"], words_of(found)) == (Exit.CHECK_FAILED, ["lost", "lost"])


@search
def test_judged_as_int8_our_own_form_is_alive(
    checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of random weights' small differences between inputs, int8 leaves too little; but its attention is kept."""
    (tmp_path / "made").mkdir()
    artifact = export("onnx", "int8", tmp_path / "made")
    found = as_int8(tmp_path / "made" / artifact.files[0], checkpoint, tmp_path, capsys, 100)
    assert words_of(found) == ["kept", "kept"]
    assert {one["kind"] for one in found["evidence"]["reasons"] if one["kind"].endswith("fault")} == {"agreement-fault"}
    assert found["exit_code"] == Exit.CHECK_FAILED


@pytest.mark.parametrize("target", TARGETS)
def test_the_form_chosen_here_keeps_it(target: str, tmp_path: Path) -> None:
    folder, place = tmp_path / "made", tmp_path / "ablations"
    folder.mkdir()
    place.mkdir()
    artifact = export(target, "int8", folder)
    assert artifact.facts.attention == "float"
    assert artifact.facts.quantized.quantized_products >= 3
    for by_outputs, inside in lives(target, artifact, folder, place):
        assert inside is not None
        assert classify(*inside[1:]) is AttentionState.KEPT, (by_outputs, inside)
        assert by_outputs.state is not AttentionState.LOST


def test_the_forecast_says_so_before_anything_is_compiled() -> None:
    found = resolutions(programs()[1], golden())
    assert [(one.height, one.width) for one in found] == [(56, 56), (28, 28)]
    for one in found:
        assert one.survives["int8"]["plain"] <= LOST
        assert word(one.survives["int8"]["float"]) == "kept"
