"""Variants of ULSAM found in the wild: left as they are, exported in their own maths, and only when asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ulsam_deploy as ud
from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting import pipeline
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.models.mobilenet_v1 import NETWORK
from ulsam_deploy.models.ulsam import POOL_OF_INPUT, SOFTMAX_OVER_CHANNEL, VARIANTS

CONFIG = {"width": 0.25, "classes": 4, "insert": [3, 9]}
WHY = {
    POOL_OF_INPUT: "its max pool reads another tensor than the gated branch",
    SOFTMAX_OVER_CHANNEL: "its softmax runs over an axis of length 1",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network's weights without a word about its variant, every number of its attention drawn at random."""
    folder = tmp_path_factory.mktemp("variants")
    new = "new mobilenet_v1 --insert 3,9 --width 0.25 --classes 4 --input 3x64x64 -o"
    assert main([*new.split(), str(folder / "described.pt")]) == 0
    state = torch.load(folder / "described.pt", weights_only=True)["state_dict"]
    generator = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if ".subspaces." in key and value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() + 0.5 if key.endswith(("running_var", "bn_point.weight")) else drawn)
    torch.save(state, folder / "weights.pt")
    return folder / "weights.pt"


def in_pytorch(weights: Path, variant: str, images: np.ndarray) -> np.ndarray:
    model = NETWORK.build({**CONFIG, "variant": variant})
    model.load_state_dict(torch.load(weights, weights_only=True))
    with torch.no_grad():
        result: np.ndarray = model.double()(torch.from_numpy(images).double()).numpy()
    return result


def asked(weights: Path, folder: Path, variant: str, *targets: str) -> ExportOptions:
    return ExportOptions(
        weights,
        targets=targets,
        inputs=((3, 64, 64),),
        variant=variant,
        output=folder / "out.bundle",
        cache=False,
    )


@pytest.mark.long
@pytest.mark.parametrize("variant", [POOL_OF_INPUT, SOFTMAX_OVER_CHANNEL])
def test_each_variant_keeps_its_own_maths(weights: Path, variant: str, tmp_path: Path) -> None:
    result = pipeline.export(asked(weights, tmp_path, variant, "onnx", "openvino"), Progress(quiet=True))
    assert result.exit_code == Exit.OK
    assert result.bundle
    card = result.bundle.manifest.model
    assert card.config["variant"] == variant
    found = ["attention.3", "attention.9"]
    assert ([refusal.path for refusal in card.refusals], card.blocks) == (found, ())
    assert all(refusal.reason.startswith(WHY[variant]) for refusal in card.refusals)
    assert all(f"{path} is left as it is: {WHY[variant]}" in note for path, note in zip(found, result.notes))
    for record in result.bundle.manifest.artifacts:
        assert record.evidence.verdict is Verdict.PASS, record.evidence.reasons
    images = np.random.default_rng(0).uniform(0, 1, (1, 3, 64, 64)).astype(np.float32)
    for target in ("onnx", "openvino"):
        with ud.open(result.bundle, target, threads=1) as session:
            made = np.asarray(session.run(images))
        distance = {other: np.abs(made - in_pytorch(weights, other, images)).max() for other in VARIANTS}
        nearest = sorted(VARIANTS, key=distance.__getitem__)
        assert nearest[0] == variant, (target, distance)
        assert distance[variant] < 1e-2 * distance[nearest[1]], (target, distance)


@pytest.mark.parametrize("variant", [POOL_OF_INPUT, SOFTMAX_OVER_CHANNEL])
def test_a_variant_that_nobody_asked_for_is_an_error(
    variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file itself says which variant it is, but its author's word is not the user's."""
    path = tmp_path / "says-so.pt"
    new = "new mobilenet_v1 --insert 9 --width 0.25 --classes 4 --input 3x32x32 --ulsam-variant"
    assert main([*new.split(), variant, "-o", str(path)]) == 0
    assert main(["export", str(path), "--target", "onnx", "--no-cache"]) == Exit.EXPORT_FAILED
    error = capsys.readouterr().err
    assert "0 of 1 attention blocks were fused" in error
    assert WHY[variant] in error
    assert "--ulsam-variant" in error
    assert not (tmp_path / "says-so.bundle").exists()


@pytest.mark.slow
@pytest.mark.parametrize("variant", [POOL_OF_INPUT, SOFTMAX_OVER_CHANNEL])
def test_a_converter_that_cannot_take_the_naive_form_stops_its_target_alone(
    weights: Path, variant: str, tmp_path: Path
) -> None:
    result = pipeline.export(asked(weights, tmp_path, variant, "tflite", "onnx"), Progress(quiet=True))
    tflite, onnx = result.outcomes
    assert onnx.built
    assert result.bundle
    assert (result.bundle.root / "tflite").exists() is bool(tflite.built)
    assert onnx.built.evidence.verdict is Verdict.PASS
    if tflite.built:
        assert tflite.built.evidence.verdict is Verdict.PASS
    else:
        assert result.exit_code == Exit.EXPORT_FAILED
        assert str(tflite.error).startswith("litert-torch could not convert the network: ")
