"""How far an honest engine's result of one operator may be from the float64 result: the rounding of one precision.

Every input, weight and result is off by one rounding of the format (unit roundoff ``u``: Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, ch. 2), at random. A sum of k products is off by sqrt(k) times that (ch. 4,
statistical bound); a sum of k values of one sign by up to k, because its partial sums grow. int8 weights are off by a
step over the root of 12, as any uniform quantization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.graph.editing import call

#: Root mean square error of rounding to the next of many steps of one width: the step over the root of 12.
UNIFORM = 1 / math.sqrt(12)
#: An honest result is off by at most this many tolerances: 3.1 was the most that real engines showed in fp32 and fp16.
ALLOWED = 8.0
_DRAWS = 3
#: The levels of int8 weights on either side of zero: of 8 bits, and of 7 where a processor's sums would overflow.
_LEVELS = (127, 63)
_INT8 = _LEVELS[0]

#: Linear in each of two arguments (positions): convolutions and matrix products.
PRODUCTS = {
    "conv1d": (0, 1), "conv2d": (0, 1), "convolution": (0, 1), "conv_transpose2d": (0, 1), "linear": (0, 1),
    "addmm": (1, 2), "mm": (0, 1), "bmm": (0, 1), "matmul": (0, 1),
}  # fmt: skip
#: Where a product has a summand: convolution's and linear's bias, and the first argument of addmm.
BIAS = {"conv1d": 2, "conv2d": 2, "convolution": 2, "conv_transpose2d": 2, "linear": 2, "addmm": 0}
#: Usually computed together with what follows, so that being hidden is nothing strange.
FUSED = frozenset([*PRODUCTS, "getitem", "_native_batch_norm_legit_no_training"])
#: Only choose or move values.
MOVES = {
    "view", "reshape", "flatten", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "unflatten",
    "clone", "contiguous", "alias", "detach", "slice", "select", "split", "split_with_sizes", "chunk", "unbind",
    "cat", "stack", "getitem", "repeat", "tile", "roll", "flip", "narrow", "movedim", "expand_as",
    "pixel_shuffle", "channel_shuffle", "_unsafe_view", "view_as", "lift_fresh_copy", "index_select",
}  # fmt: skip
#: Don't make a difference between two inputs larger.
_CONTRACTIONS = frozenset(["relu", "relu6", "hardtanh", "clamp", "max_pool2d", "clamp_min", "clamp_max"])
#: Each element of the result depends on one element of each input (batch norm with its statistics given).
_ELEMENTWISE = {
    "add", "sub", "mul", "div", "neg", "abs", "exp", "sigmoid", "tanh", "silu", "gelu", "hardswish",
    "hardsigmoid", "elu", "softplus", "pow", "sqrt", "rsqrt", "reciprocal", "leaky_relu", "prelu", "log",
    "mish", "_native_batch_norm_legit_no_training",
}  # fmt: skip
#: Divide by a sum of many values.
_NORMS = {"group_norm", "native_group_norm", "instance_norm", "layer_norm", "native_layer_norm", "softmax", "_softmax"}
#: Engines compute these from values as large as 1 (``tanh(x/2) + 1``, ``exp(x) - 1``, or a polynomial that is accurate
#: in absolute terms), and the others as such a value times the input.
_FROM_ONE = frozenset(["sigmoid", "hardsigmoid", "elu", "softplus"])
_TIMES_INPUT = frozenset(["silu", "hardswish", "gelu", "mish"])
#: Sums or means of many values, which may have one sign.
_SUMS = frozenset(["mean", "sum", "avg_pool2d", "adaptive_avg_pool2d"])


def operation(node: Node) -> str:
    """The name of the node's operator: ``conv2d``."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target.overloadpacket).rpartition(".")[2]
    return getattr(node.target, "__name__", str(node.target))


@dataclass(frozen=True)
class FormatRounding:
    """What one precision does to values.

    Attributes:
        unit: The unit roundoff of activations and weights in floating point.
        smallest: What even the smallest values may be off by (float16's subnormal numbers).
        int8_weights: Whether weights of products are rounded to 8 bits, one scale for each output channel.
        int8_inputs: Whether the inputs of products are rounded to 8 bits by their own range inside the operator.
    """

    unit: float
    smallest: float = 0.0
    int8_weights: bool = False
    int8_inputs: bool = False


#: What each precision does. In int8, everything between quantizers is float32.
ROUNDINGS: Mapping[str, FormatRounding] = {
    "fp32": FormatRounding(2.0**-24),
    "fp16": FormatRounding(2.0**-11, smallest=2.0**-25),
    "bf16": FormatRounding(2.0**-7),  # of an engine that cuts off instead of rounding: twice as much
    "int8": FormatRounding(2.0**-24, int8_weights=True),
    "int8-dynamic": FormatRounding(2.0**-24, int8_weights=True, int8_inputs=True),
}


class Propagation:
    """The tolerance of each operator's result, from its inputs and what is already uncertain about them."""

    def __init__(self, rounding: FormatRounding, constant: Callable[[Node], bool]) -> None:
        """``constant``: whether a node is a weight, or computed from weights alone."""
        self._rounding, self._constant = rounding, constant
        self._generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def tolerance(self, node: Node, values: Mapping[Node, Any], bounds: Mapping[Node, Any], result: Any) -> Any:
        """Root mean square of what an honest result may be off by; shaped as ``result``.

        Args:
            node: The operator.
            values: The values of its inputs, float64.
            bounds: What of them is uncertain: root mean squares, shaped as they are; absent where nothing is.
            result: The operator's float64 result.
        """
        name = operation(node)
        if name in MOVES:
            return self._moved(node, values, bounds)
        known = {used: self._uncertain(node, used, values, bounds) for used in node.all_input_nodes}
        if name in PRODUCTS and isinstance(result, Tensor):
            found = self._product(node, values, known, result)
            if self._rounding.int8_weights and self._constant(_weight(node)):
                found = (found.square() + self._rounded_weights(node, values).square()).sqrt()
        elif name in _CONTRACTIONS:
            found = self._contraction(node, values, bounds, result)
        elif name in _SUMS and isinstance(result, Tensor):
            found = self._sum(node, values, known, result)
        else:
            found = self._drawn(node, values, known, result, _normalized(node, values) ** 0.5)
        if isinstance(result, Tensor):
            return found + self._own(result) + _inner(node, values)
        return type(result)(f + self._own(r) if isinstance(f, Tensor) else f for f, r in zip(found, result))

    def _own(self, result: Tensor) -> Tensor | float:
        """The rounding of the result itself: an ulp of it, and one of the tensor's size (an engine's exp, say)."""
        if not result.is_floating_point() or not result.numel():
            return 0.0
        size = result.abs()
        finite = size[size.isfinite()]
        rms = finite.square().mean().sqrt() if finite.numel() else 0.0
        return self._rounding.unit * (size + rms) + self._rounding.smallest

    def _uncertain(
        self, node: Node, used: Node, values: Mapping[Node, Any], bounds: Mapping[Node, Any]
    ) -> tuple[Any, Any]:
        """What ``used`` may be off by when ``node`` reads it: by rounding to the float format, and otherwise."""
        value = values[used]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return 0.0, 0.0
        other = bounds.get(used, 0.0)
        rounded = self._rounding.unit * value.abs() + self._rounding.smallest
        places = PRODUCTS.get(operation(node))
        if places:
            if self._rounding.int8_weights and used is node.args[places[1]] and self._constant(used):
                axes = tuple(range(1, value.ndim))
                step = value.abs().amax(axes, keepdim=True) / _INT8 if axes else value.abs() / _INT8
                other = other + torch.zeros_like(value) + step * UNIFORM
            elif self._rounding.int8_inputs and used is node.args[places[0]]:
                step = (value.max() - value.min()) / (2 * _INT8 + 1)
                other = other + torch.zeros_like(value) + step * UNIFORM
        return rounded, other

    def _moved(self, node: Node, values: Mapping[Node, Any], bounds: Mapping[Node, Any]) -> Any:
        """Moved as the values are."""
        return call(node, lambda used: self._bound(used, values, bounds), torch.float64)

    @staticmethod
    def _bound(used: Node, values: Mapping[Node, Any], bounds: Mapping[Node, Any]) -> Any:
        value = values[used]
        if isinstance(value, (tuple, list)):
            return bounds.get(used) or [torch.zeros_like(one) for one in value]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        found = bounds.get(used)
        return torch.zeros_like(value) if found is None else found

    def _contraction(self, node: Node, values: Mapping[Node, Any], bounds: Mapping[Node, Any], result: Any) -> Any:
        bound = bounds.get(node.all_input_nodes[0])
        if bound is None:
            return torch.zeros_like(result)
        if operation(node) == "max_pool2d":
            return call(node, lambda used: self._bound(used, values, bounds), torch.float64)
        return bound

    def _product(
        self, node: Node, values: Mapping[Node, Any], known: Mapping[Node, tuple[Any, Any]], result: Tensor
    ) -> Tensor:
        """For a product of a and b: the root of a² s(b)² + s(a)² b², summed as the product is."""
        name = operation(node)
        left, right = (node.args[place] for place in PRODUCTS[name])
        assert isinstance(left, Node)
        assert isinstance(right, Node)
        grows = math.sqrt(_summands(name, values[left], values[right]))
        bias = node.args[BIAS[name]] if name in BIAS and len(node.args) > BIAS[name] else None
        total = torch.zeros_like(result)
        for number, factor in ((0, grows), (1, 1.0)):  # rounding grows with the sum, other uncertainty does not
            a, b = known[left][number], known[right][number]
            of_bias = known[bias][number] if isinstance(bias, Node) else 0.0
            for first, second in ((a, values[right]), (values[left], b)):
                if isinstance(first, float) or isinstance(second, float):
                    continue
                replaced = {left: first.square(), right: second.square()}
                if isinstance(bias, Node):
                    replaced[bias] = torch.zeros_like(values[bias])
                product = call(node, lambda used: replaced.get(used, values[used]), torch.float64)  # noqa: B023
                total += product.abs() * factor**2
            if isinstance(of_bias, Tensor):
                total += _along(name, of_bias.square(), result)
        return total.sqrt()

    @staticmethod
    def _rounded_weights(node: Node, values: Mapping[Node, Any]) -> Tensor:
        """The change by the weights' own rounding errors: they may have one sign, and so add up where inputs do."""
        weight = _weight(node)
        found: list[Tensor] = []
        for levels in _LEVELS:
            value = values[weight]
            step = value.abs().amax(tuple(range(1, value.ndim)), keepdim=True) / levels
            error = value - torch.where(step > 0, (value / step).round() * step, value)
            bias = node.args[BIAS[operation(node)]] if len(node.args) > BIAS.get(operation(node), 99) else None
            replaced = {weight: error} | ({bias: torch.zeros_like(values[bias])} if isinstance(bias, Node) else {})
            found.append(call(node, lambda used: replaced.get(used, values[used]), torch.float64).abs())  # noqa: B023
        return torch.maximum(*found)

    def _sum(
        self, node: Node, values: Mapping[Node, Any], known: Mapping[Node, tuple[Any, Any]], result: Tensor
    ) -> Tensor:
        """Each of k partial sums is rounded, at up to the size of all: the root of k/3 roundings of the sum of sizes.

        Of nearly equal summands, roundings have one sign, so that adding them one after the other is what it is. Other
        uncertainty may be common to all summands.
        """
        (used,) = node.all_input_nodes
        rounded, other = known[used]
        count = values[used].numel() / max(1, result.numel())
        total = _of_amounts(node, rounded) * max(1.0, math.sqrt(count / 3))
        in_turn = _in_turn(node, values[used], result) * (self._rounding.unit / ROUNDINGS["fp32"].unit)
        total = torch.maximum(total, in_turn)
        return total + _of_amounts(node, other) if isinstance(other, Tensor) else total

    def _drawn(
        self, node: Node, values: Mapping[Node, Any], known: Mapping[Node, tuple[Any, Any]], result: Any, grows: float
    ) -> Any:
        """The root mean square change when every input moves by its uncertainty in a random direction."""
        inputs = [used for used in node.all_input_nodes if isinstance(known[used][0], Tensor)]
        alone = operation(node) in _ELEMENTWISE  # then one move of one input at a time gives the exact figure
        moves = [[used] for used in inputs] if alone else [inputs] * _DRAWS

        def changed(moving: Sequence[Node]) -> Any:
            def moved(used: Node) -> Any:
                value, (rounded, other) = values[used], known[used]
                if used not in moving:
                    return value
                signs = torch.randint(0, 2, value.shape, generator=self._generator) * 2 - 1
                return value + (rounded * grows + other) * signs

            return call(node, moved, torch.float64)

        return _spread([changed(moving) for moving in moves], result, 1 if alone else _DRAWS)


def _normalized(node: Node, values: Mapping[Node, Any]) -> float:
    """A third of the number of values whose sum normalizes one element of the result, as for sums; at least 1."""
    name = operation(node)
    if name not in _NORMS:
        return 1.0
    value = values[node.all_input_nodes[0]]
    if "softmax" in name:
        count = value.shape[node.args[1]]
    elif "instance" in name:
        count = value[0, 0].numel()
    else:
        count = value[0].numel() / (node.args[1] if name == "group_norm" else 1)
    return max(1.0, float(count) / 3)


def _inner(node: Node, values: Mapping[Node, Any]) -> Tensor | float:
    """The rounding of larger values from which engines compute the result: in float32, whatever is stored."""
    if operation(node) in _FROM_ONE:
        return ROUNDINGS["fp32"].unit
    if operation(node) in _TIMES_INPUT:
        value: Tensor = values[node.all_input_nodes[0]]
        return ROUNDINGS["fp32"].unit * value.abs()
    return 0.0


def _weight(node: Node) -> Node:
    """The second factor of a product."""
    found = node.args[PRODUCTS[operation(node)][1]]
    assert isinstance(found, Node)
    return found


def _in_turn(node: Node, value: Tensor, result: Tensor) -> Tensor:
    """The error of adding in float32 one after the other what ``node`` adds up; 0 for sums over small windows."""
    over = [axis for axis in range(value.ndim) if axis - value.ndim in _added(node, value.ndim)]
    count = math.prod(value.shape[axis] for axis in over)
    if count * result.numel() != value.numel():
        return torch.zeros_like(result)
    rows = np.moveaxis(value.numpy(), over, range(-len(over), 0)).reshape(-1, count)
    one_by_one = np.cumsum(rows, axis=1, dtype=np.float32)[:, -1].astype(np.float64)
    error = torch.from_numpy(np.abs(one_by_one - rows.sum(1))).reshape(result.shape)
    return error if operation(node) == "sum" else error / count


def _added(node: Node, rank: int) -> set[int]:
    """The axes that ``node`` adds up, counted from the end."""
    if operation(node) == "adaptive_avg_pool2d":
        return {-1, -2}
    axes = node.args[1] if len(node.args) > 1 else None
    if not isinstance(axes, (list, tuple)) or not axes:
        return set(range(-rank, 0))
    return {int(axis) if int(axis) < 0 else int(axis) - rank for axis in axes}


def _of_amounts(node: Node, amounts: Tensor) -> Tensor:
    """The sum or mean ``node`` of ``amounts`` in place of its input."""
    found = call(node, lambda _: amounts, torch.float64)
    assert isinstance(found, Tensor)
    return found


def _spread(changes: Sequence[Any], result: Any, count: int) -> Any:
    """The root of the sum of squared differences of ``changes`` from ``result``, over ``count``."""
    if isinstance(result, Tensor):
        total = torch.zeros_like(result, dtype=torch.float64)
        if result.is_floating_point():
            for change in changes:
                total += (change - result).nan_to_num(0.0, 0.0, 0.0).square()
        return (total / count).sqrt()
    if isinstance(result, (tuple, list)):
        return type(result)(_spread([change[i] for change in changes], one, count) for i, one in enumerate(result))
    return result


def _summands(name: str, left: Tensor, right: Tensor) -> int:
    """How many products are added for one element of the result."""
    if name in ("linear", "addmm", "mm", "bmm", "matmul"):
        return int(left.shape[-1])
    return max(1, math.prod(right.shape[1:]))


def _along(name: str, bias: Tensor, result: Tensor) -> Tensor:
    """``bias`` for each element of ``result``."""
    if name in ("linear", "addmm"):
        return bias.expand_as(result)
    return bias.reshape(1, -1, *([1] * (result.ndim - 2))).expand_as(result)


def products(node: Node, values: Mapping[Node, Any], result: Any) -> int:
    """The multiply-adds of ``node``; 0 for anything but a product."""
    places = PRODUCTS.get(operation(node))
    if not places or not isinstance(result, Tensor):
        return 0
    left, right = (values[node.args[place]] for place in places)  # type: ignore[index]
    return result.numel() * _summands(operation(node), left, right)
