"""Softmax, ReLU, sums and 3x3 max pools, in whatever equal words they are written."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from ulsam_deploy.graph.editing import Constants, shape_of

aten = torch.ops.aten
_MULS, _SUBS, _DIVS = (aten.mul.Tensor,), (aten.sub.Tensor,), (aten.div.Tensor,)
_SOFTMAXES = (aten.softmax.int, aten._softmax.default)
_LOG_SOFTMAXES = (aten.log_softmax.int, aten._log_softmax.default)
POOLS = (aten.max_pool2d.default, aten.max_pool2d_with_indices.default)
_MAXIMA = (aten.amax.default, aten.max.dim)
#: Other forms of ReLU: the operator, and the arguments after the tensor that make it one.
RELUS: dict[Any, tuple[Any, ...]] = {
    aten.relu.default: (),
    aten.clamp.default: (0,),
    aten.clamp_min.default: (0,),
    aten.hardtanh.default: (0, float("inf")),
    aten.leaky_relu.default: (0,),
    aten.threshold.default: (0, 0),
}


def is_softmax(node: Node) -> bool:
    """Whether ``node`` is the result of a softmax, in any of its equal forms."""
    return _normalised(node) is not None


def _normalised(node: Node) -> tuple[Node, tuple[int, ...]] | None:
    """What ``node`` is the softmax of, and over which axes; ``None`` if it is none.

    A softmax may also be written as the exponential of a log-softmax, or as exp(z - max z) divided by its sum. Without
    the maximum it overflows where a softmax does not, and is another function.
    """
    if node.target in _SOFTMAXES:
        return node.all_input_nodes[0], (int(node.args[1]),)  # type: ignore[arg-type]
    inputs = node.all_input_nodes
    if node.target is aten.exp.default and inputs[0].target in _LOG_SOFTMAXES:
        return inputs[0].all_input_nodes[0], (int(inputs[0].args[1]),)  # type: ignore[arg-type]
    if node.target not in _DIVS or len(inputs) != 2 or inputs[0].target is not aten.exp.default:
        return None
    power, total = inputs
    axes = _kept_axes(total, (aten.sum.dim_IntList,), power)
    less = power.all_input_nodes[0]
    if axes is None or less.target not in _SUBS or len(less.all_input_nodes) != 2 or less.kwargs:
        return None
    scores, most = less.all_input_nodes
    return (scores, axes) if _kept_axes(most, _MAXIMA, scores) == axes else None


def _kept_axes(node: Node, reductions: Sequence[object], of: Node) -> tuple[int, ...] | None:
    """The axes that ``node`` reduces ``of`` over and keeps, from the front; ``None`` if it is something else."""
    if node.target is operator.getitem and node.args[1] == 0 and isinstance(node.args[0], Node):
        node = node.args[0]
    if node.target not in reductions or node.args[0] is not of or list(node.args[2:]) != [True] or node.kwargs:
        return None
    axes: Any = node.args[1] if isinstance(node.args[1], Sequence) else [node.args[1]]
    return tuple(sorted(axis % len(shape_of(of)) for axis in axes))


def softmax_of(node: Node) -> tuple[Node, tuple[int, ...]]:
    """What the softmax ``node`` normalises, and over which axes."""
    found = _normalised(node)
    assert found is not None
    return found


def is_relu(node: Node) -> bool:
    """Whether ``node`` is a ReLU, in any of its equal forms."""
    return relu_input(node) is not None


def relu_input(node: Node) -> Node | None:
    """The node that ``node`` is the ReLU of; ``None`` if it is none. Also ``maximum(x, 0)`` and ``x * (x > 0)``."""
    inputs = node.all_input_nodes
    if node.target in RELUS:
        return inputs[0] if node.args[1:] == RELUS[node.target] and not node.kwargs else None
    for x, other in itertools.permutations(inputs, 2):
        if node.target is aten.maximum.default and _is_zero(other):
            return x
        if node.target in _MULS and _is_positive(other, x):
            return x
    return None


def summands(node: Node) -> tuple[tuple[int, Any], ...]:
    """The two operands of a sum or difference with their signs, numbers among them; empty for anything else."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar) or node.kwargs or len(node.args) != 2:
        return ()
    left, right = (signed(arg) for arg in node.args)
    if node.target is aten.sub.Tensor:
        return left, (-right[0], right[1])
    return (left, right) if node.target is aten.add.Tensor else ((-left[0], left[1]), right)


def signed(value: Any) -> tuple[int, Any]:
    """``value`` without negations, and the sign that they gave it."""
    sign = 1
    while isinstance(value, Node) and value.target is aten.neg.default:
        sign, value = -sign, value.args[0]
    return (-sign, -value) if isinstance(value, (int, float)) and value < 0 else (sign, value)


def is_one(value: object, constants: Constants) -> bool:
    """Whether ``value`` is the number 1, or a tensor of nothing else."""
    if not isinstance(value, Node):
        return value == 1
    if value.target in (aten.ones.default, aten.ones_like.default):
        return True
    if value.target in (aten.full.default, aten.full_like.default):
        return bool(value.args[1] == 1)
    return constants.known(value) and bool((constants.value(value) == 1).all())


@dataclass(frozen=True)
class PoolWindow:
    """A max pool over ``source``; sizes are (height, width)."""

    source: Node
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def after(self, first: PoolWindow) -> PoolWindow:
        """Both as one; where the strides and dilations are 1, windows add up (a pool 3x1 and then 1x3 is 3x3)."""
        kernel = (self.kernel[0] + first.kernel[0] - 1, self.kernel[1] + first.kernel[1] - 1)
        padding = (self.padding[0] + first.padding[0], self.padding[1] + first.padding[1])
        return PoolWindow(first.source, kernel, self.stride, padding, self.dilation)

    @property
    def is_plain(self) -> bool:
        """Whether it moves by single steps over neighbours."""
        return self.stride == self.dilation == (1, 1)


def pool_window(node: Node) -> PoolWindow | None:
    """The max pool that ``node`` is, in one step or several; ``None`` if it is none.

    Zeros in front of a pool are its padding only where nothing that it pools is negative, or where a ReLU follows: the
    caller looks.
    """
    found = _one_window(node)
    while found is not None and found.is_plain:
        before = _one_window(found.source) or _zeros(found.source)
        if before is None or not before.is_plain:
            break
        found = found.after(before)
    return found


def _one_window(node: Node) -> PoolWindow | None:
    if node.target is operator.getitem and node.args[1] == 0 and isinstance(node.args[0], Node):
        node = node.args[0]
    if node.target not in POOLS:
        return None

    def pair(position: int, default: Sequence[int]) -> tuple[int, int]:
        given: Any = node.args[position] if len(node.args) > position else default
        value = list(given) or list(default)
        return (value[0], value[-1])

    kernel = pair(1, ())
    return PoolWindow(node.all_input_nodes[0], kernel, pair(2, kernel), pair(3, (0,)), pair(4, (1,)))


def _zeros(node: Node) -> PoolWindow | None:
    """Padding with zeros, the same at both ends, as a window of one element."""
    if node.target not in (aten.constant_pad_nd.default, aten.pad.default) or node.kwargs:
        return None
    amounts, *rest = node.args[1:]
    sides: Any = amounts
    if len(sides) != 4 or sides[0] != sides[1] or sides[2] != sides[3] or min(sides) < 0:
        return None
    if any(value not in (0, None, "constant") for value in rest):
        return None
    return PoolWindow(node.all_input_nodes[0], (1, 1), (1, 1), (sides[2], sides[0]), (1, 1))


def _is_zero(node: Node) -> bool:
    if node.target in (aten.full.default, aten.full_like.default):
        return node.args[1] in (0, 0.0)
    return node.target in (aten.zeros.default, aten.zeros_like.default)


def _is_positive(node: Node, x: Node) -> bool:
    """Whether ``node`` is ``x > 0``, as truth values or as 0 and 1."""
    if node.target in (aten._to_copy.default, aten.to.dtype):
        node = node.all_input_nodes[0]
    return node.target is aten.gt.Scalar and node.args[0] is x and node.args[1] in (0, 0.0)
