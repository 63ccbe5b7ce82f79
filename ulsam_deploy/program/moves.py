"""Data movement in a captured graph, understood by *running it on indices* instead of reading how it was written.

``chunk``, ``split`` or a slice; ``view``, ``flatten`` or ``unsqueeze``; ``expand``, ``repeat`` or plain broadcasting:
people write the same movement in many ways. Fed with integers that number the elements of its sources, a chain of such
operations returns, for every element, where it came from, and two spellings of one movement give the same integers.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from ulsam_deploy.program.graph import Constants, concrete, shape_of

aten = torch.ops.aten

_MOVES = {
    aten.alias, aten.broadcast_to, aten.cat, aten.chunk, aten.clone, aten.contiguous, aten.detach, aten.expand,
    aten.expand_as, aten.flatten, aten.index_select, aten.movedim, aten.narrow, aten.permute, aten.repeat,
    aten.repeat_interleave, aten.reshape, aten.reshape_as, aten.select, aten.slice, aten.split,
    aten.split_with_sizes, aten.squeeze, aten.stack, aten.t, aten.tile, aten.transpose, aten.unbind,
    aten.unflatten, aten.unsqueeze, aten.view, aten.view_as, aten._unsafe_view,
}  # fmt: skip
_CASTS = {aten.to, aten._to_copy, aten.type_as}


def is_move(node: Node) -> bool:
    """Whether ``node`` only moves, copies or drops elements."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return isinstance(node.args[0], Node) and is_move(node.args[0])
    packet = getattr(node.target, "overloadpacket", None)
    if packet is aten.dropout:
        return not node.args[2]
    if packet in _CASTS:
        source = node.args[0]
        return isinstance(source, Node) and source.meta["val"].dtype == node.meta["val"].dtype
    return packet in _MOVES


def sources(node: Node) -> set[Node]:
    """The nodes that are not movements and whose elements may reach ``node``."""
    if not is_move(node):
        return {node}
    first = node.args[0]
    carried = first if isinstance(first, (list, tuple)) else [first]
    return set().union(*(sources(item) for item in carried if isinstance(item, Node)))


def only_source(node: Node) -> Node | None:
    """The single source of ``node``, or ``None`` where several meet."""
    found = sources(node)
    return found.pop() if len(found) == 1 else None


def upstream(node: Node) -> Iterator[Node]:
    """``node`` and everything whose elements it holds by movements alone, nearest first."""
    yield node
    if is_move(node):
        for source in node.all_input_nodes:
            yield from upstream(source)


def reached(node: Node) -> Iterator[Node]:
    """``node`` and everything that its elements reach by movements alone."""
    seen, todo = {node}, [node]
    while todo:
        current = todo.pop()
        yield current
        for user in current.users:
            if user not in seen and is_move(user):
                seen.add(user)
                todo.append(user)


class Origins:
    """Where elements come from: every tensor that is computed, not moved, has a range of integers of its own.

    :meth:`of` gives for each element of a node the integer of the computed element that it is a copy of.
    """

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._start: dict[Node, int] = {}
        self._free = 0

    def start(self, node: Node) -> int:
        """The first integer of the range of a computed tensor."""
        if node not in self._start:
            self._start[node] = self._free
            self._free += math.prod(shape_of(node))
        return self._start[node]

    def of(self, node: Node, given: Mapping[Node, Tensor] | None = None) -> Tensor:
        """The origin of every element of ``node``, int64 of its shape; ``given`` overrides that of some nodes."""
        result: Tensor = self._of(node, given or {})
        return result

    def _of(self, node: Node, given: Mapping[Node, Tensor]) -> Any:
        if node in given:
            return given[node]
        if not is_move(node):
            value = node.meta["val"]
            if not isinstance(value, Tensor):
                return concrete(value)
            if self._constants.known(node) and not value.is_floating_point():
                return self._constants.value(node)  # positions for index_select and the like
            start = self.start(node)
            return torch.arange(start, start + math.prod(shape_of(node))).reshape(shape_of(node))
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self._of(n, given))
        if getattr(node.target, "overloadpacket", None) in _CASTS | {aten.dropout}:
            return args[0]
        assert callable(node.target)
        return node.target(*args, **kwargs)
