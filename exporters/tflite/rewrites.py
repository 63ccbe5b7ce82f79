"""Ordinary operators that litert-torch does not convert, or converts wrongly, written with others of the same result.

Seen with litert-torch 0.9: a map that is repeated for all channels loses its axes in the converter's change to
channels last, a maximum over space and a matrix times a column are not known or get the wrong rank, a split into one
part is taken for a tensor, and a nearest resize by a ratio that is no whole number reads other pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.graph.lowering import Replacement, Rewrite

aten = torch.ops.aten

#: Repeating by more than this is left to the converter: each copy is an operand.
_COPIES = 256


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _repeats(node: Node) -> list[int] | None:
    """How often each axis is repeated by a node that expands or repeats axes of size 1; ``None`` for other nodes."""
    if node.target not in (aten.expand.default, aten.repeat.default):
        return None
    source, wanted = _shape(node.args[0]), _shape(node)  # type: ignore[arg-type]
    if len(source) != len(wanted) or any(a not in (1, b) for a, b in zip(source, wanted)):
        return None
    return [b // a for a, b in zip(source, wanted)]


def _broadcast(node: Node) -> Replacement | None:
    """An elementwise operator that repeats its operands by itself."""
    left, right = node.args[:2]
    if node.kwargs or len(node.args) > 2 or not (isinstance(left, Node) and isinstance(right, Node)):
        return None
    sources = [one.args[0] if _repeats(one) is not None else one for one in (left, right)]
    shapes = [_shape(one) for one in sources]  # type: ignore[arg-type]
    if sources == [left, right] or _common(*shapes) != _shape(node):
        return None
    return Replacement(node.target, sources)  # type: ignore[arg-type]


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that both are repeated to; empty for different ranks."""
    return tuple(map(max, left, right)) if len(left) == len(right) else ()


def _copies(node: Node) -> Replacement | None:
    """A map that is repeated, as a concatenation."""
    repeats = _repeats(node)
    if repeats is None or len(repeats) != 4 or max(repeats) > _COPIES:
        return None

    def joined(x: Tensor) -> Tensor:
        for axis, count in enumerate(repeats):
            x = torch.cat([x] * count, axis) if count > 1 else x
        return x

    return Replacement(joined, node.args[:1])  # type: ignore[arg-type]


def _largest(node: Node) -> Replacement | None:
    """``AdaptiveMaxPool2d(1)``, if nobody asks where the maximum is."""
    x, size = node.args[:2]
    if list(size) != [1, 1] or any(user.args[1] != 0 and user.users for user in node.users):  # type: ignore[arg-type]
        return None
    return Replacement(lambda given: (given.amax((-2, -1), keepdim=True),), [x])  # type: ignore[list-item]


def _times_column(node: Node) -> Replacement | None:
    """A batch of matrices times a column each, as a weighted sum: pooling of a context."""
    left, right = node.args[:2]
    if len(_shape(left)) != 3 or len(_shape(right)) != 3 or _shape(right)[-1] != 1:  # type: ignore[arg-type]
        return None
    return Replacement(lambda a, b: (a * b.transpose(1, 2)).sum(2, keepdim=True), [left, right])  # type: ignore[list-item]


def _one_part(node: Node) -> Replacement | None:
    """A split into one part is its input."""
    return Replacement(lambda x: [x], node.args[:1]) if len(node.meta["val"]) == 1 else None  # type: ignore[arg-type]


def _nearest(node: Node) -> Replacement | None:
    """A nearest resize by a ratio that is no whole number, as the choice of rows and columns that torch makes."""
    source, wanted = _shape(node.args[0])[2:], _shape(node)[2:]  # type: ignore[arg-type]
    if all(b % a == 0 for a, b in zip(source, wanted)):
        return None
    if any(_chosen(node, axis) != _whole(source[axis], wanted[axis]).tolist() for axis in (0, 1)):
        return None

    def picked(x: Tensor) -> Tensor:
        rows, columns = (_whole(source[axis], wanted[axis]) for axis in (0, 1))
        return x.index_select(2, rows).index_select(3, columns)

    return Replacement(picked, node.args[:1])  # type: ignore[arg-type]


def _whole(source: int, wanted: int) -> Tensor:
    """The pixel of ``source`` for each of ``wanted`` ones, in whole numbers."""
    return torch.div(torch.arange(wanted) * source, wanted, rounding_mode="floor")


def _chosen(node: Node, axis: int) -> list[int]:
    """The pixels along ``axis`` that the operator itself takes."""
    shape = [1, 1, *_shape(node.args[0])[2:]]  # type: ignore[arg-type]
    numbers = torch.arange(shape[2 + axis], dtype=torch.float32).view([1, 1, -1, 1] if axis == 0 else [1, 1, 1, -1])
    found: Tensor = node.target(numbers.expand(shape).contiguous(), *node.args[1:])  # type: ignore[operator]
    line = found[0, 0, :, 0] if axis == 0 else found[0, 0, 0]
    return [int(number) for number in line]


REWRITES: Mapping[Any, Rewrite] = {
    **dict.fromkeys((aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor), _broadcast),
    aten.expand.default: _copies,
    aten.repeat.default: _copies,
    aten.adaptive_max_pool2d.default: _largest,
    aten.matmul.default: _times_column,
    aten.bmm.default: _times_column,
    aten.split.Tensor: _one_part,
    aten.split_with_sizes.default: _one_part,
    aten.chunk.default: _one_part,
    aten.upsample_nearest2d.vec: _nearest,
}
