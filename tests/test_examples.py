"""The examples do what their first lines say."""

from __future__ import annotations

import contextlib
import io
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import ulsam_deploy as ud
from ulsam_deploy.cli import main
from ulsam_deploy.cli.parser import build_parser
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.load.checkpoint import from_factory, read
from ulsam_deploy.models.mobilenet_v2 import NETWORK

ROOT = Path(__file__).parents[1]
ENGINES = ("onnx", "openvino", "tflite")


def example(name: str, *words: object) -> str:
    """What ``python -m examples.NAME WORDS`` prints, in this process."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.syspath_prepend(str(ROOT))
        patch.chdir(ROOT)
        import_module(f"examples.{name}").main(list(map(str, words)))
    return said.getvalue()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The segmentation network, barely trained."""
    path = tmp_path_factory.mktemp("segmentation") / "shapes.pt"
    said = example("segmentation", "--steps", 3, "-o", path)
    assert f"ulsam-export {path} --model examples.segmentation:build" in said
    return path


@pytest.mark.long
def test_segmentation_is_found_and_exported_with_both_outputs(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["--model", "examples.segmentation:build", "--input", "1x32x32", "--target", "onnx"]
    assert main(["export", str(shapes), *words, "-o", str(tmp_path / "s.bundle")]) == 0
    bundle = read_bundle(tmp_path / "s.bundle")
    blocks = bundle.manifest.model.blocks
    assert sorted((b.path, b.channels, b.subspaces, b.height) for b in blocks) == [
        ("middle.body.1", 64, 4, 8),
        ("skip", 32, 2, 16),
    ]
    (record,) = bundle.manifest.artifacts
    assert record.evidence.verdict is Verdict.PASS
    assert record.evidence.parity
    assert [block.state for block in record.evidence.parity.blocks] == ["kept", "kept"]
    images = np.random.default_rng(0).uniform(0, 1, (1, 1, 32, 32)).astype(np.float32)
    with ud.open(bundle, "onnx", threads=1) as session:
        fine, coarse = session.run(images)
    model = network(shapes)
    with torch.no_grad():
        expected = model(torch.from_numpy(images).double())
    assert (fine.shape, coarse.shape) == ((1, 3, 32, 32), (1, 3, 8, 8))
    for made, truth in zip((fine, coarse), expected):
        np.testing.assert_allclose(made, truth, rtol=1e-3, atol=1e-4)


def network(weights: Path) -> torch.nn.Module:
    return from_factory("examples.segmentation:build", read(weights))[0].double()


@pytest.mark.long
def test_fine_tuning_starts_from_a_plain_backbone_and_ends_in_a_bundle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = NETWORK.build({"width": 0.35}).state_dict()
    torch.save(backbone, tmp_path / "backbone.pth")
    said = example("finetune", "--weights", tmp_path / "backbone.pth", "--images", 32, "-o", tmp_path)
    made = torch.load(tmp_path / "finetuned.pt", weights_only=True)["state_dict"]
    attention = [key for key in made if ".subspaces." in key]
    assert set(made) == {*backbone, *attention}
    assert f"{len(backbone) - 2} tensors loaded" in said
    assert f"{len(attention) + 2} tensors newly initialised: attention.6.subspaces.0." in said
    assert "2 tensors unused: classifier.1.weight, classifier.1.bias" in said, "it had 1000 classes"
    assert re.search(r"^attention\.6: attention peaks at ", said, re.MULTILINE)
    bundle = read_bundle(tmp_path / "finetuned.bundle")
    assert [block.path for block in bundle.manifest.model.blocks] == ["attention.6", "attention.13"]
    assert bundle.manifest.artifacts[0].inputs[0].shape == (1, 3, 96, 96)
    assert [(a.target, a.evidence.verdict) for a in bundle.manifest.artifacts] == [("onnx", Verdict.PASS)]


@pytest.mark.slow
def test_quick_fine_tuning_learns(tmp_path: Path) -> None:
    said = example("finetune", "--quick", "-o", tmp_path)
    found = re.search(r"held-out images: ([\d.]+)", said)
    assert found
    assert float(found[1]) > 0.75, "chance is 0.1"
    assert "onnx: executed, pass" in said


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 4])
def test_segmentation_goes_to_all_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    path = tmp_path / "shapes.pt"
    said = example("segmentation", "-o", path)
    right = re.search(r"([\d.]+)% of the pixels", said)
    assert right
    assert float(right[1]) > 50
    monkeypatch.chdir(ROOT)
    words = ["--model", "examples.segmentation:build", "--input", "1x64x64", "--target", "all", "--batch", str(batch)]
    assert main(["export", str(path), *words]) == 0
    found = {record.target: record.evidence for record in read_bundle(tmp_path / "shapes.bundle").manifest.artifacts}
    assert set(found) == {*ENGINES, "trt"}
    for target in ENGINES:
        assert found[target].verdict is Verdict.PASS, (target, found[target].reasons)
        parity = found[target].parity
        assert parity
        assert len(parity.outputs) == 2
        assert [block.state for block in parity.blocks] == ["kept", "kept"]
    assert found["trt"].verdict is not Verdict.FAIL


COMMANDS = re.findall(r"^    (ulsam-\w+ .+)$", (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_the_documentation_are_understood(command: str) -> None:
    program, *words = command.split()
    build_parser().parse_args(words if program == "ulsam-deploy" else ["export", *words])


def test_the_documentation_has_commands() -> None:
    assert len(COMMANDS) > 6
