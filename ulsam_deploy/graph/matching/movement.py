"""Data movement in a captured graph, analysed by *running it on indices* instead of matching how it is written.

``chunk``, ``split`` or a slice; ``view``, ``flatten`` or ``unsqueeze``; ``expand``, ``repeat`` or plain broadcasting:
the same movement can be written in many ways. Run on integers that number the elements of its sources, a chain of such
operations returns the origin of every element, and two forms of one movement return the same integers.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from ulsam_deploy.graph.editing import Constants, concrete, shape_of

aten = torch.ops.aten

_MOVES = {
    aten.alias, aten.broadcast_to, aten.cat, aten.channel_shuffle, aten.chunk, aten.clone, aten.contiguous, aten.copy,
    aten.detach, aten.dstack, aten.expand, aten.expand_as, aten.flatten, aten.flip, aten.hstack, aten.index,
    aten.index_select, aten.movedim, aten.narrow, aten.permute, aten.repeat, aten.repeat_interleave, aten.reshape,
    aten.reshape_as, aten.roll, aten.select, aten.slice, aten.slice_scatter, aten.split, aten.split_with_sizes,
    aten.squeeze, aten.stack, aten.t, aten.tensor_split, aten.tile, aten.transpose, aten.unbind, aten.unflatten,
    aten.unsqueeze, aten.view, aten.view_as, aten.vstack, aten._unsafe_view,
}  # fmt: skip
_CASTS = {aten.to, aten._to_copy, aten.type_as}
_DROPOUTS = {aten.dropout, aten.feature_dropout}
#: A view may depend on strides, which can differ between the real tensor and the numbers in its place.
_BY_SHAPE: dict[Any, Any] = {
    aten.view.default: aten.reshape.default,
    aten._unsafe_view.default: aten.reshape.default,
    aten.view_as.default: aten.reshape_as.default,
}
_UNREAD = {aten.copy, aten.expand_as, aten.reshape_as, aten.type_as, aten.view_as}  # read only the other input's shape
_EMPTY = {aten.empty, aten.empty_like, aten.new_empty, aten.new_zeros, aten.zeros, aten.zeros_like}


def is_move(node: Node) -> bool:
    """Whether ``node`` only moves, copies or drops elements."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return isinstance(node.args[0], Node) and is_move(node.args[0])
    packet = _packet(node)
    if packet in _DROPOUTS:
        return not node.args[2]
    if packet in _CASTS:
        source = node.args[0]
        return isinstance(source, Node) and source.meta["val"].dtype == node.meta["val"].dtype
    return packet in _MOVES and node.target is not aten.view.dtype


def _packet(node: Node) -> object:
    return getattr(node.target, "overloadpacket", None)


def _carried(move: Node) -> list[Node]:
    """The inputs of a movement whose elements it moves: neither its indices nor what it overwrites."""
    if _packet(move) is aten.copy:
        return [move.args[1]]  # type: ignore[list-item]
    if _packet(move) is aten.slice_scatter:
        return [move.args[0], move.args[1]]  # type: ignore[list-item]
    first = move.args[0]
    return [item for item in (first if isinstance(first, (list, tuple)) else [first]) if isinstance(item, Node)]


def sources(node: Node) -> set[Node]:
    """The nodes that are not movements and whose elements may reach ``node``; not tensors made to be overwritten."""
    return {item for item in upstream(node) if not is_move(item) and _packet(item) not in _EMPTY}


def only_source(node: Node) -> Node | None:
    """The single source of ``node``, or ``None`` if it has several."""
    found = sources(node)
    return found.pop() if len(found) == 1 else None


def upstream(node: Node) -> Iterator[Node]:
    """``node`` and every node whose elements reach it by movements alone, nearest first."""
    seen, todo = {node}, deque([node])
    while todo:
        current = todo.popleft()
        yield current
        for source in _carried(current) if is_move(current) else ():
            if source not in seen:
                seen.add(source)
                todo.append(source)


def reached(node: Node) -> Iterator[Node]:
    """``node`` and every node that its elements reach by movements alone."""
    seen, todo = {node}, [node]
    while todo:
        current = todo.pop()
        yield current
        for user in current.users:
            if user not in seen and is_move(user):
                seen.add(user)
                todo.append(user)


def _is_size(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, int) or (isinstance(value, torch.SymInt) and value.node.has_hint())


class Origins:
    """The origins of elements: every tensor that is computed, and not moved, gets its own range of integers.

    :meth:`of` returns for each element of a node the integer of the computed element that it is a copy of.
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
        """The origin of every element of ``node``, as int64 in its shape; ``given`` overrides that of some nodes."""
        result: Tensor = self._of(node, dict(given or {}))
        return result

    def _of(self, node: Node, found: dict[Node, object]) -> Any:
        if node not in found:
            found[node] = self._computed(node, found)
        return found[node]

    def _computed(self, node: Node, found: dict[Node, object]) -> Any:
        if not is_move(node) or not self._by_known_indices(node):
            value = node.meta["val"]
            if not isinstance(value, Tensor):
                return concrete(value)
            if self._constants.known(node) and not value.is_floating_point():
                return self._constants.value(node)  # positions for index_select and the like
            start = self.start(node)
            return torch.arange(start, start + math.prod(shape_of(node))).reshape(shape_of(node))
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self._of(n, found))
        if _packet(node) in _CASTS | _DROPOUTS:
            return args[0]
        target = _BY_SHAPE.get(node.target, node.target)
        assert callable(target)
        return target(*args, **kwargs)

    def _by_known_indices(self, move: Node) -> bool:
        """Whether a movement is the same for every input, because its indices are constants or sizes."""
        others = (node for node in move.all_input_nodes if node not in _carried(move))
        return _packet(move) in _UNREAD or all(self._constants.known(node) or _is_size(node) for node in others)
