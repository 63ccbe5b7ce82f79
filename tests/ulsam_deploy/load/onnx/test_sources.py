"""Naive ULSAM out of ONNX files by every exporter: fused, exact in float64, or named; and artifacts that hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ulsam_deploy.cli import main

ROOT = Path(__file__).parents[4]
PATHS = ["authors", "viewed", "sliced", "unbound", "at_once"]
#: One of each: exporter, opset, dynamic batch, folded, after onnxsim.
FEW = (
    ("TorchScript", 11, True, False, False),
    ("TorchScript", 17, False, True, True),
    ("dynamo", 18, True, False, True),
)


@pytest.fixture(scope="module")
def corpus() -> Iterator[SimpleNamespace]:
    for package in ("torch", "onnx", "onnxsim", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield SimpleNamespace(**{n: import_module(f"onnx_corpus.{n}") for n in ("writers", "networks", "judging")})


@pytest.mark.long
@pytest.mark.parametrize("words", FEW, ids=lambda words: "-".join(map(str, words)))
def test_five_spellings_are_fused_exactly(corpus: SimpleNamespace, words: Any, tmp_path: Path) -> None:
    import torch

    from ulsam_deploy.graph import Proof, capture, fuse_attention
    from ulsam_deploy.load import onnx

    writer, model = corpus.writers.Writer(*words), corpus.networks.spellings()
    writer.write(model, [(3, 16, 16)], path := tmp_path / "model.onnx")
    read = onnx.load(path, batch=writer.batch)
    program = capture(read.model, read.shapes, writer.batch)
    proof = Proof(program)
    assert proof.hold(read.reference, "reading") < 1e-13
    fused = fuse_attention(program)
    assert [block.subspaces for block in fused.blocks] == [4] * 5
    if not (writer.exporter == "dynamo" and writer.simplified):  # onnxsim drops what dynamo says about modules
        assert [block.path for block in fused.blocks] == PATHS
    assert not fused.refusals
    assert proof.check(fused, "fusing") < 1e-13
    # And the file says what the network that it was made of says: an import is worth nothing otherwise.
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.double()(image.double())
    (found,) = read.reference([image]).values()
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()  # folding rounded the weights to float32


def test_a_reading_that_is_wrong_is_seen(corpus: SimpleNamespace, tmp_path: Path, monkeypatch: Any) -> None:
    from ulsam_deploy.load.onnx import operators

    corpus.writers.Writer("TorchScript", 17).write(corpus.networks.spellings(), [(3, 16, 16)], tmp_path / "m.onnx")
    pool = operators.OPERATORS["MaxPool"]
    monkeypatch.setitem(
        operators.OPERATORS, "MaxPool", lambda a, x: pool({**a, "kernel_shape": [1, 1], "pads": [0] * 4}, x)
    )
    assert main(["export", str(tmp_path / "m.onnx"), "--target", "onnx", "--no-cache"]) == 3


def test_what_is_left_is_left_with_its_reason(corpus: SimpleNamespace) -> None:
    writer = corpus.writers.Writer("TorchScript", 17)
    seen = corpus.judging.seen(corpus.networks.no_score_relu(), (3, 16, 16), writer)
    assert seen.fused == 0
    assert [refusal.reason for refusal in seen.refusals] == ["its scores reach the softmax without a ReLU"]
    seen = corpus.judging.seen(corpus.networks.softmax_by_hand(), (3, 16, 16), writer)
    assert (seen.fused, seen.refusals, seen.words) == (0, (), "")


@pytest.mark.long
def test_without_pytorch_code_to_every_target(
    corpus: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole pipeline from the command line: export, inspect, verify the artifacts and the model itself."""
    pytest.importorskip("litert_torch")
    path, bundle = tmp_path / "model.onnx", tmp_path / "model.bundle"
    small = corpus.networks.AllAtOnce()
    from torch import nn

    network = nn.Sequential(
        nn.Conv2d(3, corpus.networks.CHANNELS, 3, 2, 1), small, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    corpus.writers.Writer("TorchScript", 13).write(network, [(3, 12, 12)], path)
    assert main(["export", str(path), "--target", "onnx,tflite", "-o", str(bundle), "--json", "--no-cache"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 0
    manifest = json.loads((bundle / "manifest.json").read_text())
    verdicts = {artifact["target"]: artifact["evidence"]["verdict"] for artifact in manifest["artifacts"]}
    assert verdicts == {"onnx": "pass", "tflite": "pass"}
    assert [block["subspaces"] for block in manifest["model"]["blocks"]] == [4]
    assert manifest["model"]["network"] == "onnx"
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blocks"][0]["subspaces"] == 4
    (artifact,) = (bundle / "tflite").glob("*.tflite")
    for one in (artifact, path):
        assert main(["verify", "--against", str(path), str(one)]) == 0
