"""Rewrites a classifier's head for a DLA: global mean and Gemm become small average pools and a convolution.

A DLA supports neither a mean over an axis nor a matrix product; its average pool has windows of up to 8.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..onnx import checking
from ..onnx.opset17 import drop_unused

LARGEST_WINDOW = 8


def windows(size: int) -> list[int]:
    """Factors of ``size``, each at most :data:`LARGEST_WINDOW`, largest first; empty if there are none."""
    found = []
    while size > 1:
        factor = next((n for n in range(LARGEST_WINDOW, 1, -1) if size % n == 0), 0)
        if not factor:
            return []
        found.append(factor)
        size //= factor
    return found or [1]


def to_dla(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace each global mean by average pools, and each ``Gemm`` on a flattened 1x1 map by a convolution.

    What cannot be replaced (a map whose side has a prime factor above 8, a Gemm on something else) stays, and the lint
    lists it as a fallback to the GPU.
    """
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    shapes = shapes_of(lowered)
    nodes: list[onnx.NodeProto] = []
    for node in lowered.graph.node:
        if node.op_type == "ReduceMean" and (pools := _pools(node, shapes)):
            nodes += pools
        elif node.op_type == "Gemm" and (head := _head(node, nodes, lowered.graph, shapes)):
            nodes += head
        else:
            nodes.append(node)
    del lowered.graph.node[:]
    lowered.graph.node.extend(_live(nodes, {value.name for value in lowered.graph.output}))
    del lowered.graph.value_info[:]
    drop_unused(lowered)
    return checking.check(lowered)


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The static shapes of all tensors that have one, by name; a dynamic axis is -1."""
    graph = model.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
    return found


def _pools(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> list[onnx.NodeProto]:
    """Average pools for a mean over H and W that keeps its axes; empty if ``node`` is not one, or cannot be split."""
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    shape = shapes.get(node.input[0], ())
    axes = sorted(axis % 4 for axis in attributes.get("axes", ()))
    if len(shape) != 4 or axes != [2, 3] or not attributes.get("keepdims", 1):
        return []
    high, wide = windows(shape[2]), windows(shape[3])
    if not high or not wide:
        return []
    steps = max(len(high), len(wide))
    pairs = zip(high + [1] * (steps - len(high)), wide + [1] * (steps - len(wide)))
    made, source = [], node.input[0]
    for number, pair in enumerate(pairs, 1):
        target = node.output[0] if number == steps else f"{node.output[0]}_{number}"
        name = f"{node.name}_{number}"
        made.append(helper.make_node("AveragePool", [source], [target], name=name, kernel_shape=pair, strides=pair))
        source = target
    return made


def _head(
    gemm: onnx.NodeProto, before: list[onnx.NodeProto], graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]]
) -> list[onnx.NodeProto]:
    """Convolution and flattening for a Gemm whose input is a flattened [N, C, 1, 1]; empty for any other Gemm."""
    flat = next((node for node in before if gemm.input[0] in node.output), None)
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in gemm.attribute}
    held = {tensor.name: tensor for tensor in graph.initializer}
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
    if flat is None or flat.op_type not in ("Reshape", "Flatten") or gemm.input[1] not in held or not plain:
        return []
    shape = shapes.get(flat.input[0], ())
    if len(shape) != 4 or shape[2:] != (1, 1):
        return []
    weight = numpy_helper.to_array(held[gemm.input[1]])
    kernel = (weight if attributes.get("transB", 0) else weight.T)[:, :, None, None]
    names = (f"{gemm.output[0]}_kernel", f"{gemm.output[0]}_map", f"{gemm.output[0]}_shape")
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(kernel), names[0]))
    graph.initializer.append(numpy_helper.from_array(np.array([-1, kernel.shape[0]], np.int64), names[2]))
    inputs = [flat.input[0], names[0], *gemm.input[2:]]
    return [
        helper.make_node("Conv", inputs, [names[1]], name=gemm.name, kernel_shape=[1, 1]),
        helper.make_node("Reshape", [names[1], names[2]], [gemm.output[0]], name=f"{gemm.name}_flatten"),
    ]


def _live(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """``nodes`` without those whose results are never read."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]
