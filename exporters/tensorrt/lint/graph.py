"""An ONNX graph as the lints need it, with simple look-ups, and the form of their findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class LintFinding:
    """One thing that a device will refuse: the ``rule``, the ``node`` or tensor (empty: the model), and a sentence."""

    rule: str
    node: str
    message: str


@dataclass(frozen=True)
class LintGraph:
    """Element types and shapes by tensor name (an unknown or dynamic size is -1), and the constants."""

    model: onnx.ModelProto
    types: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, onnx.TensorProto]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> LintGraph:
        """Read ``model``, with shapes inferred as far as ONNX can."""
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                constants[node.output[0]] = node.attribute[0].t
        types = {name: tensor.data_type for name, tensor in constants.items()}
        shapes = {name: tuple(tensor.dims) for name, tensor in constants.items()}
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            types[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                dims = tensor.shape.dim
                shapes[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
        return cls(model, types, shapes, constants)

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return next((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 0)

    def type_name(self, tensor: str) -> str:
        """ONNX's name for the element type of ``tensor``, or ``unknown``."""
        found = self.types.get(tensor, TensorProto.UNDEFINED)
        return TensorProto.DataType.Name(found) if found else "unknown"

    def constant(self, tensor: str) -> Any:
        """The value of a constant as an array, or ``None`` for a computed tensor."""
        held = self.constants.get(tensor)
        return None if held is None else numpy_helper.to_array(held)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of ``node`` by name."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def label(node: onnx.NodeProto) -> str:
    """A label for ``node``: its name, or its first output."""
    return node.name or (node.output[0] if node.output else node.op_type)
