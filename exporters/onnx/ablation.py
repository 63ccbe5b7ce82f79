"""The ablation of an ONNX model without one block's attention: its softmaxes less themselves, and nothing else changed.

A tensor less itself is zero in whatever type it has: strangers' models mix float16 and float32.
"""

from __future__ import annotations

import onnx
from onnx import helper


def softmaxes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The softmax nodes in graph order; as exported here one for each block, elsewhere mostly one for each subspace."""
    return [node for node in model.graph.node if node.op_type == "Softmax"]


def ablated(model: onnx.ModelProto, chosen: range) -> onnx.ModelProto:
    """``model`` with what the softmaxes number ``chosen`` give taken as zero."""
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    for node in softmaxes(edited)[chosen.start : chosen.stop]:
        name = node.output[0]
        node.output[0] = alive = f"{name}_alive"
        place = list(edited.graph.node).index(node) + 1
        edited.graph.node.insert(place, helper.make_node("Sub", [alive, alive], [name], name=f"{name}_removed"))
    return edited
