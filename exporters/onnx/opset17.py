"""Converts ONNX opset 18 to 17, which every TensorRT from 8.6 on reads, if only the axes of reductions have to change.

torch writes opset 18, and ONNX's own version converter fails on axes that are initializers.
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from . import checking

#: The version of the file format that belongs to opset 17.
IR_VERSION = 8


def to_opset_17(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert ``model`` to opset 17, with the axes of its reductions as attributes.

    A model with any other operator that opset 18 redefined is returned unchanged.
    """
    redefined = {
        node.op_type for node in model.graph.node if onnx.defs.get_schema(node.op_type, 18).since_version == 18
    }
    if any(not name.startswith("Reduce") for name in redefined):
        return model
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in lowered.graph.initializer}
    for node in lowered.graph.node:
        if node.op_type in redefined:
            if len(node.input) < 2 or node.input[1] not in constants:
                return model
            axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
            kept = [attribute for attribute in node.attribute if attribute.name != "noop_with_empty_axes"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("axes", axes)])
            del node.input[1:]
    drop_unused(lowered)
    lowered.opset_import[0].version = 17
    lowered.ir_version = IR_VERSION
    return checking.check(lowered)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove the initializers of ``model`` that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
