"""Forecasts which nodes of an ONNX model run on Orin's DLA and in how many loadables, and which fall back to the GPU.

Based on the vendor's documented restrictions (TensorRT 8.5 to 10.7). What TensorRT really places on the DLA is known
only on the board (``--verbose`` lists both sides).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx

from .graph import LintFinding, LintGraph, attributes, label

#: The number of loadables that fit on one core.
MOST_LOADABLES = 16
LARGEST_BATCH, LARGEST_SIZE = 4096, 8192
#: A softmax over more values than this runs on the DLA only if its other axes, except the batch, are 1.
SOFTMAX_AXIS = 1024
ELEMENTWISE = frozenset({"Add", "Mul", "Sub", "Max", "Min"})
ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "Clip"})
#: Operators that cost nothing by themselves: casts at the ends of a float16 model, constants.
FREE = frozenset({"Constant", "Cast", "Identity"})


@dataclass(frozen=True)
class DlaPlan:
    """The forecast: ``loadables``, the ``fallbacks`` to the GPU, and ``doubts``: nodes without a documented rule.

    ``findings`` rule out the DLA altogether (dynamic shapes, float32, too many loadables).
    """

    loadables: int
    placed: int
    fallbacks: tuple[LintFinding, ...]
    doubts: tuple[LintFinding, ...]
    findings: tuple[LintFinding, ...]


def plan_dla(model: onnx.ModelProto) -> DlaPlan:
    """Forecast how TensorRT places ``model`` on a DLA with ``--allowGPUFallback``."""
    graph = LintGraph.of(model)
    fallbacks, doubts, on_dla = [], [], []
    for node in model.graph.node:
        if node.op_type in FREE:
            continue
        if reason := _refusal(graph, node):
            fallbacks.append(LintFinding(node.op_type, label(node), reason))
            continue
        on_dla.append(node)
        if doubt := _doubt(graph, node):
            doubts.append(LintFinding(node.op_type, label(node), doubt))
    loadables = _loadables(model, {label(node) for node in on_dla})
    found = _forbidden(graph)
    if loadables > MOST_LOADABLES:
        found.append(LintFinding("loadables", "", f"{loadables} loadables; a core holds {MOST_LOADABLES}"))
    return DlaPlan(loadables, len(on_dla), tuple(fallbacks), tuple(doubts), tuple(found))


def _forbidden(graph: LintGraph) -> list[LintFinding]:
    found = []
    for value in graph.model.graph.input:
        shape = graph.shapes.get(value.name, ())
        if any(size < 0 for size in shape):
            found.append(LintFinding("dynamic", value.name, f"input '{value.name}' has dynamic sizes; a DLA has none"))
        elif shape and shape[0] > LARGEST_BATCH:
            found.append(LintFinding("batch", value.name, f"batch {shape[0]}; a DLA takes at most {LARGEST_BATCH}"))
    if not any(graph.type_name(name) in ("FLOAT16", "INT8") for name in graph.constants):
        found.append(LintFinding("precision", "", "the weights are float32; a DLA computes in float16 or int8"))
    return found


def _refusal(graph: LintGraph, node: onnx.NodeProto) -> str:
    """Why ``node`` falls back to the GPU, or an empty string."""
    if node.op_type not in RULES:
        return f"a DLA has no {node.op_type}"
    shapes = [graph.shapes[name] for name in (*node.input[:1], *node.output) if name in graph.shapes]
    if any(size > LARGEST_SIZE for shape in shapes for size in shape[1:]):
        return f"an axis is longer than {LARGEST_SIZE}"
    if any(len(shape) > 4 for shape in shapes):
        return f"a tensor of rank {max(map(len, shapes))}; a DLA works on [N, C, H, W]"
    return RULES[node.op_type](graph, node)


def _outside(values: Any, low: int, high: int) -> bool:
    return any(not low <= value <= high for value in values)


def _conv(graph: LintGraph, node: onnx.NodeProto) -> str:
    found = attributes(node)
    kernel = graph.shapes.get(node.input[1], ())[2:]
    pads = found.get("pads", [0])
    limits = (
        ("kernel", kernel, 1, 32),
        ("stride", found.get("strides", [1]), 1, 8),
        ("padding", pads, 0, 31),
        ("dilation", found.get("dilations", [1]), 1, 32),
        ("groups", [found.get("group", 1)], 1, 8192),
    )
    for what, values, low, high in limits:
        if _outside(values, low, high):
            return f"Conv with {what} {list(values)}; a DLA takes {low} to {high}"
    return "Conv with padding as large as its kernel" if max(pads) >= max(kernel, default=1) > 1 else ""


def _pool(graph: LintGraph, node: onnx.NodeProto) -> str:  # noqa: ARG001
    found = attributes(node)
    limits = (("window", "kernel_shape", 1, 8), ("stride", "strides", 1, 16), ("padding", "pads", 0, 7))
    for what, name, low, high in limits:
        if _outside(found.get(name, [low]), low, high):
            return f"{node.op_type} with {what} {list(found[name])}; a DLA takes {low} to {high}"
    return ""


def _softmax(graph: LintGraph, node: onnx.NodeProto) -> str:
    shape = graph.shapes.get(node.input[0], ())
    if not shape:
        return ""
    axis = attributes(node).get("axis", -1) % len(shape)
    others = [size for position, size in enumerate(shape) if position not in (0, axis)]
    if shape[axis] > SOFTMAX_AXIS and any(size != 1 for size in others):
        return f"Softmax over {shape[axis]} values; a DLA takes {SOFTMAX_AXIS} when other axes are longer than 1"
    return ""


def _anywhere(graph: LintGraph, node: onnx.NodeProto) -> str:  # noqa: ARG001
    return ""


def _reshape(graph: LintGraph, node: onnx.NodeProto) -> str:
    source, target = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    if len(source) != 4 or len(target) != 4:
        return f"a reshape from rank {len(source)} to rank {len(target)}; a DLA works on [N, C, H, W]"
    return "a reshape that takes in the batch axis" if source[0] != target[0] else ""


RULES: dict[str, Callable[[LintGraph, onnx.NodeProto], str]] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Softmax": _softmax,
    "Reshape": _reshape,
    **dict.fromkeys(ELEMENTWISE | ACTIVATIONS, _anywhere),
}


def _doubt(graph: LintGraph, node: onnx.NodeProto) -> str:
    """What the documentation leaves open about a node that no rule forbids."""
    if node.op_type == "Reshape":
        return "no documented rule says that this reshape runs on a DLA; it may split a loadable"
    shapes = {graph.shapes.get(name, ()) for name in node.input if graph.shapes.get(name, ())}
    if node.op_type in ELEMENTWISE and len(shapes) > 1:
        return f"operands of shapes {', '.join(map(str, sorted(shapes)))}: broadcasting has no documented rule"
    return ""


def _loadables(model: onnx.ModelProto, on_dla: set[str]) -> int:
    """The number of connected groups of DLA nodes; a path through the GPU starts another group."""
    made: dict[str, tuple[int, bool]] = {}  # tensor: (how often the path to it changed to the DLA, is it on the DLA)
    group: dict[str, str] = {}

    def root(tensor: str) -> str:
        while group[tensor] != tensor:
            tensor = group[tensor]
        return tensor

    for node in model.graph.node:
        here = label(node) in on_dla
        sources = [name for name in node.input if name in made]
        depth = max((made[name][0] + (here and not made[name][1]) for name in sources), default=int(here))
        output = node.output[0]
        made[output], group[output] = (depth, here), output
        for name in sources:
            if here and made[name] == (depth, True):
                group[root(name)] = root(output)
    return len({root(tensor) for tensor, (_, here) in made.items() if here})
