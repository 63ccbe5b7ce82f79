"""The twin of an ONNX model without one block's attention: its softmaxes times zero, and nothing else changed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ZERO = "attention_removed"


def softmaxes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The softmax nodes in graph order; as exported here one for each block, elsewhere mostly one for each subspace."""
    return [node for node in model.graph.node if node.op_type == "Softmax"]


def silenced(model: onnx.ModelProto, chosen: range) -> onnx.ModelProto:
    """``model`` with what the softmaxes number ``chosen`` give taken as zero, in the types that it has."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in twin.graph.initializer)
    zero = np.zeros((), np.float16 if half else np.float32)
    twin.graph.initializer.append(numpy_helper.from_array(zero, _ZERO))
    for node in softmaxes(twin)[chosen.start : chosen.stop]:
        name = node.output[0]
        node.output[0] = f"{name}_alive"
        place = list(twin.graph.node).index(node) + 1
        product = helper.make_node("Mul", [node.output[0], _ZERO], [name], name=f"{_ZERO}_{place}")
        twin.graph.node.insert(place, product)
    return twin
