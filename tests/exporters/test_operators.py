"""The naive form is gone: what is left of a block in each format, by operator counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ulsam_deploy.device.types import EvidenceLevel


@pytest.mark.parametrize(("target", "batch"), [("onnx", None), ("onnx", 4), ("trt", None)])
def test_onnx_has_one_softmax_a_block_and_no_expand(made: Any, target: str, batch: int | None) -> None:
    operators = Counter(made(target, batch).artifact.facts.operators)
    assert operators["Softmax"] == 2
    assert not operators.keys() & {"Expand", "Split", "Concat", "Slice", "Shape", "Gather", "BatchNormalization"}
    assert operators["Conv"] == 7  # three of the network, two a block


def test_openvino_has_one_softmax_a_block_and_no_broadcast(made: Any) -> None:
    operators = Counter(made("openvino", None).artifact.facts.operators)
    assert operators["Softmax"] == 2
    assert not operators.keys() & {"Broadcast", "Split", "VariadicSplit", "Tile"}


def test_tflite_has_no_broadcast_and_no_more_layout_changes_than_without_attention(made: Any) -> None:
    operators = Counter(made("tflite", 4).artifact.facts.operators)
    plain = Counter(made("tflite", 4, attention=False).artifact.facts.operators)
    for name in ("TRANSPOSE", "RESHAPE", "BROADCAST_TO", "CONCATENATION", "SPLIT"):
        assert operators[name] == plain[name], name
    assert operators["EXP"] == 2


@pytest.mark.parametrize("target", ["onnx", "openvino", "tflite"])
def test_artifact_says_what_it_is(made: Any, target: str) -> None:
    artifact = made(target, 4).artifact
    assert artifact.level == EvidenceLevel.EXPORTED
    assert [spec.shape for spec in artifact.inputs] == [(4, 3, 32, 32)]
    assert [spec.layout for spec in artifact.inputs] == ["NHWC" if target == "tflite" else "as-is"]
    assert all(artifact.toolchain.values())
