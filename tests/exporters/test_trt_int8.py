"""The QDQ int8 kit: what TensorRT's parser accepts, one softmax a block, and engines that really have int8 tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ulsam_deploy.device.types import Calibration, EvidenceLevel
from ulsam_deploy.exporters.tensorrt.exporter import EXPORTER
from ulsam_deploy.graph import lower
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.inputs.calibration import digest

from .test_trt_paper import QUICK, ROWS, fused, marks
from .trt_networks import parsed, rtx


def request(program: Any) -> ExportRequest:
    random = np.random.default_rng(3)
    shape = program.inputs[0].shape[1:]
    arrays = {program.inputs[0].name: random.normal(size=(8, *shape)).astype(np.float32)}
    return ExportRequest("int8", calibration=Calibration(arrays, digest(arrays)))


CASES = [
    pytest.param(name, batch, marks=marks(position + 1, batch, (name, batch) == (QUICK[0], 1)))
    for position, name in enumerate(ROWS)
    for batch in (1, None)
]


@pytest.mark.parametrize(("name", "batch"), CASES)
def test_the_kit_is_parsed_and_built_in_int8(name: str, batch: int | None, tmp_path: Path) -> None:
    rtx()
    program = fused(name, 96, batch)
    blocks = len(program.blocks)
    asked = request(program)
    artifact = EXPORTER.export(lower(program, EXPORTER.lowering(asked)), asked, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    _is_what_tensorrt_wants(model)
    assert artifact.level is EvidenceLevel.COMPILED
    left = artifact.facts.quantized.products - artifact.facts.quantized.quantized_products
    assert 0 <= left <= 2 * blocks
    assert (left > 0) == (blocks > 0), "attention stays in float, and nothing else does"
    network = parsed(model.SerializeToString())
    assert len(network.softmaxes) == blocks
    engines = artifact.facts.tensorrt.engines
    assert engines["SM86"].types.get("Int8", 0) >= artifact.facts.quantized.quantized_products // 2, engines["SM86"]


def _is_what_tensorrt_wants(model: onnx.ModelProto) -> None:
    """Symmetric, whole-tensor scales but for weights, zero points 0, int8, and no quantized bias."""
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = held[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert node.input[0] in held or held[node.input[1]].size == 1
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            assert node.input[2] not in made or made[node.input[2]].op_type != "DequantizeLinear"
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    rounded = {readers[node.output[0]] for node in pairs if node.op_type == "DequantizeLinear"}
    assert rounded <= {"Conv", "Gemm", "Add"}, "products read rounded values, and residuals beside them; not attention"
