"""The twin of an ONNX model without one block's attention: its softmax times zero, and nothing else changed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ZERO = "attention_removed"


def softmaxes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The softmax nodes in graph order: one for each block where the network has none of its own."""
    return [node for node in model.graph.node if node.op_type == "Softmax"]


def silenced(model: onnx.ModelProto, block: int) -> onnx.ModelProto:
    """``model`` with the attention of the softmax number ``block`` taken as zero, in the types that it has."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    node = softmaxes(twin)[block]
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in twin.graph.initializer)
    name = node.output[0]
    node.output[0] = f"{name}_alive"
    zero = np.zeros((), np.float16 if half else np.float32)
    twin.graph.initializer.append(numpy_helper.from_array(zero, _ZERO))
    place = list(twin.graph.node).index(node) + 1
    twin.graph.node.insert(place, helper.make_node("Mul", [node.output[0], _ZERO], [name], name=_ZERO))
    return twin
