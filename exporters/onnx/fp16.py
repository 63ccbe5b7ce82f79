"""Converts a float32 ONNX model to float16: inner tensors become float16, inputs and outputs stay float32.

Inputs and outputs are cast inside the model, so that callers, golden sets and runtimes see no difference. Every
operator has operands of one type, as strongly typed engines require.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ulsam_deploy.device.errors import ExportError

from . import checking

LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert ``model`` to float16 weights and arithmetic; integers (shapes, axes) stay as they are.

    Raises:
        ExportError: A weight is outside float16's range, or an operator has float32 attributes or subgraphs that this
            rewrite does not support.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    del graph.value_info[:]
    kept = _kept_in_float32(graph, {opset.domain: opset.version for opset in half.opset_import})
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half(tensor))
    for node in graph.node:
        if not kept.intersection(node.output):
            _retype(node)
    _cast_ends(graph)
    return checking.check(half)


def _kept_in_float32(graph: onnx.GraphProto, opsets: Mapping[str, int]) -> set[str]:
    """Give every input that ONNX defines as float32 only (the scales of Resize) a value of its own that stays so.

    Returns:
        The names of these values: neither they nor what casts to them must be converted.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = (node for node in graph.node if node.op_type == "Constant")
    weights |= {node.output[0]: node.attribute[0].t for node in constants}
    kept: set[str] = set()
    nodes = []
    for node in graph.node:
        for place in _only_float32(node, opsets):
            name, own = node.input[place], f"{node.input[place]}_float32"
            node.input[place] = own
            if own in kept:
                continue
            kept.add(own)
            if name in weights:
                graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weights[name]), own))
            else:
                nodes.append(_cast(name, own, TensorProto.FLOAT))
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    del graph.node[:]
    graph.node.extend(nodes)
    return kept


def _only_float32(node: onnx.NodeProto, opsets: Mapping[str, int]) -> list[int]:
    """The inputs of ``node`` that are float32 in every model, by ONNX's own definition of the operator."""
    if not onnx.defs.has(node.op_type, node.domain):
        return []
    schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    formal = list(schema.inputs)
    return [
        place for place, (name, port) in enumerate(zip(node.input, formal)) if name and port.type_str == "tensor(float)"
    ]


def _half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    # A clip without a bound has float32's largest numbers as bounds: they mean "no bound".
    unbounded = np.abs(values) >= np.finfo(np.float32).max / 2
    if np.any(np.abs(values[~unbounded]) > LARGEST):
        raise ExportError(
            f"weight '{tensor.name}' reaches {np.abs(values[~unbounded]).max():.3g}",
            expected=f"at most {LARGEST:.0f}, the largest float16",
            todo="export with --precision fp32",
        )
    return numpy_helper.from_array(np.clip(values, -LARGEST, LARGEST).astype(np.float16), tensor.name)


def _retype(node: onnx.NodeProto) -> None:
    """Change float32 attributes that hold a type or a tensor to float16."""
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise ExportError(f"'{node.name}' ({node.op_type}) has a subgraph, which cannot be turned into fp16 here")
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_half(attribute.t))
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


def _cast_ends(graph: onnx.GraphProto) -> None:
    """Insert a cast after every float32 input and before every float32 output; both keep their names."""
    first, last = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            inner = f"{value.name}_half"
            _rename(graph, value.name, inner, outputs=False)
            first.append(_cast(value.name, inner, TensorProto.FLOAT16))
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            inner = f"{value.name}_half"
            _rename(graph, value.name, inner, outputs=True)
            last.append(_cast(inner, value.name, TensorProto.FLOAT))
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: onnx.GraphProto, old: str, new: str, *, outputs: bool) -> None:
    for node in graph.node:
        for names in (node.input, node.output) if outputs else (node.input,):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=to)
