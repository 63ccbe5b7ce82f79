"""Softmax and ReLU, in whatever equal words they are written."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from ulsam_deploy.graph.editing import shape_of

aten = torch.ops.aten
_MULS, _SUBS, _DIVS = (aten.mul.Tensor,), (aten.sub.Tensor,), (aten.div.Tensor,)
_SOFTMAXES = (aten.softmax.int, aten._softmax.default)
_LOG_SOFTMAXES = (aten.log_softmax.int, aten._log_softmax.default)
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


def _is_zero(node: Node) -> bool:
    if node.target in (aten.full.default, aten.full_like.default):
        return node.args[1] in (0, 0.0)
    return node.target in (aten.zeros.default, aten.zeros_like.default)


def _is_positive(node: Node, x: Node) -> bool:
    """Whether ``node`` is ``x > 0``, as truth values or as 0 and 1."""
    if node.target in (aten._to_copy.default, aten.to.dtype):
        node = node.all_input_nodes[0]
    return node.target is aten.gt.Scalar and node.args[0] is x and node.args[1] in (0, 0.0)
