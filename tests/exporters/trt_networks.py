"""Small ONNX models for the tests of the TensorRT exporter, and how the vendor's parser reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ulsam_deploy.exporters.tensorrt.network import ParsedNetwork
from ulsam_deploy.runtimes.tensorrt import builder


def model_of(*nodes: onnx.NodeProto, inputs: dict[str, Any], outputs: dict[str, Any], **constants: Any) -> Any:
    """A model at opset 17; ``inputs`` and ``outputs`` are shapes, or (shape, element type)."""

    def ports(given: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        typed = {name: v if v and isinstance(v[0], (list, tuple)) else (v, onnx.TensorProto.FLOAT)
                 for name, v in given.items()}  # fmt: skip
        return [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in typed.items()]

    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", ports(inputs), ports(outputs), held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def one(op: str, inputs: dict[str, Any], outputs: dict[str, Any], *, attributes: Any = None, **constants: Any) -> Any:
    """A model of one operator whose inputs are ``inputs`` and then ``constants``."""
    node = helper.make_node(op, [*inputs, *constants], list(outputs), name="n", **(attributes or {}))
    return model_of(node, inputs=inputs, outputs=outputs, **constants)


def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


def parsed(content: bytes) -> ParsedNetwork:
    session = builder.BuildSession(rtx())
    session.parse(content)
    return ParsedNetwork(session.trt, session.network, session)
