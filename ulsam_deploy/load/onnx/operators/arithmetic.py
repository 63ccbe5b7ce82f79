"""The ONNX operators that work on one element at a time, products of matrices and reductions, implemented in torch.

If torch has one operator for what the model's author wrote (``relu6``, ``linear``), that one is used, because
converters know it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.known import of as known_of
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, Result, as_operand, known, number, tensor, text

#: Types that torch computes with; the others become the next wider one.
_WHOLE = {
    "BOOL": torch.bool,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "UINT16": torch.int32,
    "UINT32": torch.int64,
    "UINT64": torch.int64,
}
_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, weight = (x.t() if a.get("transA", 0) else x), (weight if a.get("transB", 0) else weight.t())
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    weight = weight if alpha == 1 else alpha * weight
    bias = bias if bias is None or beta == 1 else beta * bias
    if bias is None or bias.ndim == 1:
        return F.linear(x, weight, bias)
    return F.linear(x, weight) + bias


def _einsum(a: Attributes, *parts: Tensor | Array) -> Tensor:
    return torch.einsum(text(a, "equation", ""), *map(tensor, parts))


# ---- one element at a time


def _clip(_: Attributes, x: Tensor, low: Array | None = None, high: Array | None = None) -> Tensor:
    least, most = number(low), number(high)
    if least is not None and most is not None and least > most:
        return torch.full_like(x, most)
    return _between(x, least, most)


def _between(x: Tensor, least: float | None, most: float | None) -> Tensor:
    """``x`` clipped to bounds; written as an activation such as ReLU6 if it is one."""
    least = None if least == -math.inf else least
    most = None if most == math.inf else most
    if (least, most) == (0.0, 6.0):
        return F.relu6(x)
    if least is None and most is None:
        return x
    return F.relu(x) if (least, most) == (0.0, None) else torch.clamp(x, least, most)


def _cast(a: Attributes, x: Tensor) -> Tensor:
    import onnx

    kind = onnx.TensorProto.DataType.Name(a["to"])
    if kind in _FLOATS:
        return x if x.is_floating_point() else x.to(torch.float32)  # every floating type is float32 here
    if kind not in _WHOLE:
        raise NotReadError(f"a conversion of the network's values to {kind.lower()}")
    return x.to(_WHOLE[kind])


def _cast_like(_: Attributes, x: Tensor | Array, like: Tensor | Array) -> Tensor | Array:
    if isinstance(x, Tensor) and isinstance(like, Tensor):
        return x if x.is_floating_point() == like.is_floating_point() else x.to(like.dtype)
    if isinstance(x, Tensor) or not isinstance(like, Tensor):
        return x
    make = float if like.is_floating_point() else bool if like.dtype is torch.bool else int
    return known_of([make(value) for value in x.reshape(-1)]).reshape(x.shape)


def _plain(function: Callable[[Tensor], Tensor]) -> Meaning:
    return lambda _, x: function(x)


def _with(function: Callable[..., Tensor], **defaults: float) -> Meaning:
    """``function`` with attributes of those names, in this order."""
    return lambda a, x: function(x, *(a.get(name, default) for name, default in defaults.items()))


def _is_infinite(a: Attributes, x: Tensor) -> Tensor:
    infinite = torch.isinf(x)
    infinite = infinite if a.get("detect_negative", 1) else infinite & (x > 0)
    return infinite if a.get("detect_positive", 1) else infinite & (x < 0)


def _binary(function: Callable[[Any, Any], Any]) -> Meaning:
    def run(_: Attributes, left: Tensor | Array, right: Tensor | Array) -> Tensor:
        result: Tensor = function(as_operand(left, right), as_operand(right, left))
        return result

    return run


def _scaling(function: Callable[[Any, Any], Any]) -> Meaning:
    """A product or quotient; with the number 1 (which a converted ``addcmul`` has) the operand itself."""
    plain = _binary(function)

    def run(a: Attributes, left: Tensor | Array, right: Tensor | Array) -> Result:
        if isinstance(left, Tensor) and not isinstance(right, Tensor) and right.ndim <= left.ndim and right.size == 1:
            return left if right.item() == 1 else plain(a, left, right)
        return plain(a, left, right)

    return run


def _quotient(left: Any, right: Any) -> Any:
    whole = all(isinstance(v, int) or (isinstance(v, Tensor) and not v.is_floating_point()) for v in (left, right))
    return torch.div(left, right, rounding_mode="trunc") if whole else left / right


def _power(_: Attributes, base: Tensor | Array, exponent: Tensor | Array) -> Tensor:
    """The result has the type of ``base``."""
    whole = not isinstance(base, Tensor) and all(isinstance(value, int) for value in base.reshape(-1))
    result: Tensor = as_operand(base, exponent) ** as_operand(exponent, base)
    return result.to(torch.int64) if whole and result.is_floating_point() else result


def _mod(a: Attributes, left: Tensor | Array, right: Tensor | Array) -> Tensor:
    function = torch.fmod if a.get("fmod", 0) else torch.remainder
    return function(tensor(left), as_operand(right, left))


def _extreme(of_two: Callable[[Tensor, Tensor], Tensor], bound: Callable[[Tensor, float], Tensor]) -> Meaning:
    def run(_: Attributes, *values: Tensor | Array) -> Tensor:
        first, *others = sorted(values, key=lambda value: not isinstance(value, Tensor))  # the order has no meaning
        assert isinstance(first, Tensor)
        for other in others:
            operand = as_operand(other, first)
            first = of_two(first, operand) if isinstance(operand, Tensor) else bound(first, operand)
        return first

    return run


def _sum(_: Attributes, *values: Tensor | Array) -> Tensor:
    total = tensor(values[0])
    for value in values[1:]:
        total = total + as_operand(value, total)
    return total


# ---- reductions


def _reduced(function: Callable[..., Tensor]) -> Meaning:
    def reduce(a: Attributes, x: Tensor, axes: Array | None = None) -> Tensor:
        wanted = a.get("axes") if axes is None else ints(known(axes, "axes"))
        if not wanted and a.get("noop_with_empty_axes", 0):
            return x
        return function(x, tuple(wanted or range(x.ndim)), keepdim=bool(a.get("keepdims", 1)))

    return reduce


def _product(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim)
    return x


def _cumulated(function: Callable[[Tensor, int], Tensor], first: float) -> Meaning:
    def run(a: Attributes, x: Tensor, axis: Array) -> Tensor:
        at = ints(known(axis, "axis"))[0] % x.ndim
        x = x.flip(at) if a.get("reverse", 0) else x
        if a.get("exclusive", 0):
            x = torch.cat((torch.full_like(x.narrow(at, 0, 1), first), x.narrow(at, 0, x.shape[at] - 1)), at)
        x = function(x, at)
        return x.flip(at) if a.get("reverse", 0) else x

    return run


OPERATORS: Mapping[str, Meaning] = {
    "Gemm": _gemm,
    "MatMul": lambda _, left, right: torch.matmul(tensor(left), tensor(right)),
    "Einsum": _einsum,
    "Det": _plain(torch.linalg.det),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
    "Abs": _plain(torch.abs),
    "Acos": _plain(torch.acos),
    "Acosh": _plain(torch.acosh),
    "Asin": _plain(torch.asin),
    "Asinh": _plain(torch.asinh),
    "Atan": _plain(torch.atan),
    "Atanh": _plain(torch.atanh),
    "Ceil": _plain(torch.ceil),
    "Celu": _with(F.celu, alpha=1.0),
    "Cos": _plain(torch.cos),
    "Cosh": _plain(torch.cosh),
    "Elu": _with(F.elu, alpha=1.0),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Floor": _plain(torch.floor),
    "Gelu": lambda a, x: F.gelu(x, approximate=text(a, "approximate", "none")),
    "HardSigmoid": _with(lambda x, alpha, beta: torch.clamp(x * alpha + beta, 0.0, 1.0), alpha=0.2, beta=0.5),
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "IsInf": _is_infinite,
    "IsNaN": _plain(torch.isnan),
    "LeakyRelu": _with(F.leaky_relu, alpha=0.01),
    "Log": _plain(torch.log),
    "Mish": _plain(F.mish),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(F.relu),
    "Round": _plain(torch.round),
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Sin": _plain(torch.sin),
    "Sinh": _plain(torch.sinh),
    # torch's own takes the input itself above 20, which is 2e-9 off; exp(40) is still far below what float32 holds
    "Softplus": _plain(lambda x: F.softplus(x, 1.0, 40.0)),
    "Softsign": _plain(F.softsign),
    "Sqrt": _plain(torch.sqrt),
    "Tan": _plain(torch.tan),
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": _with(lambda x, alpha: F.threshold(x, alpha, 0.0), alpha=1.0),
    "Add": _binary(lambda x, y: x + y),
    "Sub": _binary(lambda x, y: x - y),
    "Mul": _scaling(lambda x, y: x * y),
    "Div": _scaling(_quotient),
    "Pow": _power,
    "Mod": _mod,
    "Sum": _sum,
    "Mean": lambda a, *values: _sum(a, *values) / len(values),
    "Equal": _binary(lambda x, y: x == y),
    "Greater": _binary(lambda x, y: x > y),
    "GreaterOrEqual": _binary(lambda x, y: x >= y),
    "Less": _binary(lambda x, y: x < y),
    "LessOrEqual": _binary(lambda x, y: x <= y),
    "And": lambda _, x, y: torch.logical_and(tensor(x), tensor(y)),
    "Or": lambda _, x, y: torch.logical_or(tensor(x), tensor(y)),
    "Xor": lambda _, x, y: torch.logical_xor(tensor(x), tensor(y)),
    "Max": _extreme(torch.maximum, lambda x, bound: _between(x, bound, None)),
    "Min": _extreme(torch.minimum, lambda x, bound: _between(x, None, bound)),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceL1": _reduced(lambda x, axes, keepdim: x.abs().sum(axes, keepdim)),
    "ReduceL2": _reduced(lambda x, axes, keepdim: (x * x).sum(axes, keepdim).sqrt()),
    "ReduceLogSum": _reduced(lambda x, axes, keepdim: x.sum(axes, keepdim).log()),
    "ReduceLogSumExp": _reduced(torch.logsumexp),
    "ReduceSumSquare": _reduced(lambda x, axes, keepdim: (x * x).sum(axes, keepdim)),
    "CumSum": _cumulated(torch.cumsum, 0.0),
    "CumProd": _cumulated(torch.cumprod, 1.0),
}
