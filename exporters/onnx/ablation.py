"""Artifact ablation in ONNX: the softmaxes of one block minus themselves; nothing else changes.

A tensor minus itself is zero in any type: models from other tools mix float16 and float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper


def softmaxes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The softmax nodes in graph order: one for each block in our exports, usually one for each subspace in others."""
    return [node for node in model.graph.node if node.op_type == "Softmax"]


def ablated(model: onnx.ModelProto, chosen: Sequence[int]) -> onnx.ModelProto:
    """``model`` with the results of the softmaxes numbered ``chosen`` replaced by zero."""
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    found = softmaxes(edited)
    for node in (found[number] for number in chosen):
        name = node.output[0]
        node.output[0] = alive = f"{name}_alive"
        place = list(edited.graph.node).index(node) + 1
        edited.graph.node.insert(place, helper.make_node("Sub", [alive, alive], [name], name=f"{name}_removed"))
    return edited
