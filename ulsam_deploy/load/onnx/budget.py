"""Limits on what a small ONNX file may unfold to, checked before any work is done on it.

A function that calls another one twice doubles with each level, and a file of some hundred bytes names weights of any
size: counting costs nothing, and inlining or reading them could take all memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["MAX_NODES", "check_functions", "check_outputs"]

#: Far above the operators of any compact CNN: MobileNetV2 has 150, an exporter that writes out every shape 3,000.
MAX_NODES = 10_000

_Key = tuple[str, str, str]


def check_functions(model: ModelProto) -> None:
    """Raise :class:`ValueError` if inlining the functions of ``model`` gives more than :data:`MAX_NODES` operators."""
    bodies = {(one.domain, one.name, one.overload): one.node for one in model.functions}
    empty = next((name for (_, name, _), nodes in bodies.items() if not nodes), None)
    if empty is not None:
        raise ValueError(f"its function '{empty}' has no operators")
    total = _count(model.graph.node, bodies, {}, frozenset())
    if total > MAX_NODES:
        raise ValueError(f"it unfolds to more than {MAX_NODES} operators")


def check_outputs(model: ModelProto) -> None:
    """Raise :class:`ValueError` unless each output of ``model`` is computed, and there is at least one."""
    names = [port.name for port in model.graph.output]
    made = {name for node in model.graph.node for name in node.output}
    if not names:
        raise ValueError("it has no outputs")
    if len(set(names)) < len(names):
        raise ValueError("it names an output twice")
    if idle := next((name for name in names if name not in made), None):
        raise ValueError(f"its output '{idle}' is not the result of any operator")


def _count(
    nodes: Iterable[Any], bodies: Mapping[_Key, Iterable[Any]], known: dict[_Key, int], around: frozenset[_Key]
) -> int:
    """The number of operators after inlining; counting stops above the limit. ``around`` are the calling functions."""
    total = 0
    for node in _all(nodes):
        called = (node.domain, node.op_type, node.overload)
        if called in around:
            raise ValueError(f"its function '{node.op_type}' calls itself")
        if called in bodies and called not in known:
            known[called] = _count(bodies[called], bodies, known, around | {called})
        total = min(total + known.get(called, 1), MAX_NODES + 1)
    return total


def _all(nodes: Iterable[Any]) -> Iterator[Any]:
    """``nodes`` and those of the graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _all(graph.node)
