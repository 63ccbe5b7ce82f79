"""The ONNX operators that work on tensors, implemented in torch.

Each is a function of the node's attributes and its inputs, with ``None`` for an absent input. An input is a tensor, or
an array of what is known before the network runs (:mod:`.known`). If torch has one operator for what the model's author
wrote (``relu6``, ``linear``), that one is used, because converters know it. Opsets 11 and later; semantics by the ONNX
operator reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx import movement
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.known import of as known_of

Attributes = Mapping[str, Any]
Result = Tensor | Array | tuple[Tensor, ...] | list[Tensor]
Meaning = Callable[..., Result]

OPERATORS: dict[str, Meaning] = dict(movement.OPERATORS)


def _means(*ops: str) -> Callable[[Meaning], Meaning]:
    def register(function: Meaning) -> Meaning:
        OPERATORS.update(dict.fromkeys(ops, function))
        return function

    return register


# ---- convolutions and pools


def _pads(
    a: Attributes, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Padding as ONNX states it: the begin of each axis, then the end of each."""
    auto = a.get("auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b"VALID"):
        return list(a.get("pads", [0] * (2 * len(kernel)))) if auto == b"NOTSET" else [0] * (2 * len(kernel))
    total = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total.append(max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0))
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if auto == b"SAME_UPPER" else large + small


def _padded(a: Attributes, x: Tensor, pads: Sequence[int], value: float) -> tuple[Tensor, list[int]]:
    """``x``, padded if the two ends of an axis differ, and the padding that is left for the operator."""
    half = len(pads) // 2
    begins, ends = list(pads[:half]), list(pads[half:])
    if begins == ends:
        return x, begins
    if a.get("ceil_mode", 0):
        raise NotReadError("a pool that rounds up and whose padding is not the same on both sides")
    pairs = [size for axis in reversed(range(half)) for size in (begins[axis], ends[axis])]
    return F.pad(x, pairs, value=value), [0] * half


@_means("Conv")
def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | Array | None = None) -> Tensor:
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}.get(weight.ndim - 2)
    if convolve is None:
        raise NotReadError(f"a convolution over {weight.ndim - 2} axes")
    axes = weight.ndim - 2
    strides, dilations = list(a.get("strides", [1] * axes)), list(a.get("dilations", [1] * axes))
    x, padding = _padded(a, x, _pads(a, x, weight.shape[2:], strides, dilations), 0.0)
    if bias is not None and not isinstance(bias, Tensor):  # the dynamo exporter computes a bias of zeros for none
        bias = torch.tensor(bias.tolist(), dtype=x.dtype) if any(bias.reshape(-1)) else None
    result: Tensor = convolve(x, weight, bias, strides, padding, dilations, a.get("group", 1))
    return result


@_means("MaxPool")
def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    if len(kernel) != 2:
        raise NotReadError(f"a pool over {len(kernel)} axes")
    strides, dilations = list(a.get("strides", [1, 1])), list(a.get("dilations", [1, 1]))
    x, padding = _padded(a, x, _pads(a, x, kernel, strides, dilations), float("-inf"))
    return F.max_pool2d(x, kernel, strides, padding, dilations, bool(a.get("ceil_mode", 0)))


@_means("AveragePool")
def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    if len(kernel) != 2 or set(a.get("dilations", [1])) != {1}:
        raise NotReadError("a pool that is dilated, or not over two axes")
    strides, whole = list(a.get("strides", [1, 1])), bool(a.get("count_include_pad", 0))
    pads = _pads(a, x, kernel, strides, [1, 1])
    if pads[:2] != pads[2:] and not whole:
        raise NotReadError("an average pool whose padding is not the same on both sides")
    x, padding = _padded(a, x, pads, 0.0)
    return F.avg_pool2d(x, kernel, strides, padding, bool(a.get("ceil_mode", 0)), whole)


@_means("GlobalAveragePool")
def _global_average_pool(_: Attributes, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1) if x.ndim == 4 else x.mean(tuple(range(2, x.ndim)), keepdim=True)


@_means("GlobalMaxPool")
def _global_max_pool(_: Attributes, x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


@_means("BatchNormalization")
def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    if a.get("training_mode", 0):
        raise NotReadError("a batch normalisation in training mode")
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


@_means("Gemm")
def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, weight = (x.t() if a.get("transA", 0) else x), (weight if a.get("transB", 0) else weight.t())
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    weight = weight if alpha == 1 else alpha * weight
    bias = bias if bias is None or beta == 1 else beta * bias
    if bias is None or bias.ndim == 1:
        return F.linear(x, weight, bias)
    return F.linear(x, weight) + bias


@_means("MatMul")
def _matmul(_: Attributes, left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(left, right)


# ---- one element at a time


def _number(value: Array | Tensor | None, default: float | None = None) -> float | None:
    if isinstance(value, Tensor):
        raise NotReadError("a bound that is computed from the network's input")
    return default if value is None else float(value.item())


@_means("Clip")
def _clip(_: Attributes, x: Tensor, low: Array | None = None, high: Array | None = None) -> Tensor:
    return _between(x, _number(low), _number(high))


def _between(x: Tensor, least: float | None, most: float | None) -> Tensor:
    """``x`` clipped to bounds; written as an activation such as ReLU6 if it is one."""
    least = None if least == -math.inf else least
    most = None if most == math.inf else most
    if (least, most) == (0.0, 6.0):
        return F.relu6(x)
    if least is None and most is None:
        return x
    return F.relu(x) if (least, most) == (0.0, None) else torch.clamp(x, least, most)


@_means("LeakyRelu")
def _leaky_relu(a: Attributes, x: Tensor) -> Tensor:
    return F.leaky_relu(x, a.get("alpha", 0.01))


@_means("Elu")
def _elu(a: Attributes, x: Tensor) -> Tensor:
    return F.elu(x, a.get("alpha", 1.0))


@_means("HardSigmoid")
def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(x * a.get("alpha", 0.2) + a.get("beta", 0.5), 0.0, 1.0)


@_means("Gelu")
def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.get("approximate", b"none").decode())


@_means("PRelu")
def _prelu(_: Attributes, x: Tensor, slope: Tensor | Array) -> Tensor:
    factor = slope if isinstance(slope, Tensor) else float(slope.item())
    return F.relu(x) - F.relu(-x) * factor


@_means("Dropout")
def _dropout(_: Attributes, x: Tensor, __: Array | None = None, training: Array | None = None) -> Tensor:
    if training is not None and bool(training.item()):
        raise NotReadError("a dropout in training mode")
    return x


@_means("Cast")
def _cast(a: Attributes, x: Tensor) -> Tensor:
    import onnx

    kind = onnx.TensorProto.DataType.Name(a["to"])
    if "FLOAT" not in kind and kind != "DOUBLE":
        raise NotReadError(f"a conversion of the network's values to {kind.lower()}")
    return x  # every floating type is float32 here


@_means("CastLike")
def _cast_like(_: Attributes, x: Tensor | Array, like: Tensor | Array) -> Tensor | Array:
    if isinstance(x, Tensor) or not isinstance(like, Tensor):
        return x
    return known_of([float(value) for value in x.reshape(-1)]).reshape(x.shape)


@_means("Softmax", "LogSoftmax")
def _softmax(a: Attributes, x: Tensor) -> Tensor:
    normalise = F.log_softmax if a["op"] == "LogSoftmax" else F.softmax
    if a["opset"] >= 13:
        return normalise(x, a.get("axis", -1))
    axis = a.get("axis", 1) % x.ndim
    if axis == x.ndim - 1:
        return normalise(x, -1)
    return normalise(x.flatten(axis), -1).reshape(x.shape)  # up to opset 12 over all axes from this one on


def _reduced(function: Callable[..., Tensor]) -> Meaning:
    def reduce(a: Attributes, x: Tensor, axes: Array | None = None) -> Tensor:
        wanted = a.get("axes") if axes is None else ints(axes)
        if not wanted and a.get("noop_with_empty_axes", 0):
            return x
        return function(x, tuple(wanted or range(x.ndim)), keepdim=bool(a.get("keepdims", 1)))

    return reduce


def _plain(function: Callable[[Tensor], Tensor]) -> Meaning:
    return lambda _, x: function(x)


def _as_operand(value: Tensor | Array, other: Tensor | Array) -> Any:
    """A single number as a number, so that ``x * (1 + a)`` reads as it was written; a larger array as a tensor."""
    if isinstance(value, Tensor):
        return value
    if value.size == 1 and isinstance(other, Tensor) and value.ndim <= other.ndim:
        return value.item()
    if not isinstance(other, Tensor):  # pragma: no cover - known values alone never come here
        raise NotReadError("known values only")
    return torch.tensor(value.tolist(), dtype=other.dtype)


def _binary(function: Callable[[Any, Any], Any]) -> Meaning:
    def run(_: Attributes, left: Tensor | Array, right: Tensor | Array) -> Tensor:
        result: Tensor = function(_as_operand(left, right), _as_operand(right, left))
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


def _extreme(of_two: Callable[[Tensor, Tensor], Tensor], bound: Callable[[Tensor, float], Tensor]) -> Meaning:
    def run(_: Attributes, *values: Tensor | Array) -> Tensor:
        first, *others = sorted(values, key=lambda value: not isinstance(value, Tensor))  # the order has no meaning
        assert isinstance(first, Tensor)
        for other in others:
            operand = _as_operand(other, first)
            first = of_two(first, operand) if isinstance(operand, Tensor) else bound(first, operand)
        return first

    return run


OPERATORS.update(
    {
        "Abs": _plain(torch.abs),
        "Erf": _plain(torch.erf),
        "Exp": _plain(torch.exp),
        "HardSwish": _plain(F.hardswish),
        "Identity": _plain(lambda x: x),
        "Log": _plain(torch.log),
        "Mish": _plain(F.mish),
        "Neg": _plain(torch.neg),
        "Reciprocal": _plain(torch.reciprocal),
        "Relu": _plain(F.relu),
        "Sigmoid": _plain(torch.sigmoid),
        "Softplus": _plain(F.softplus),
        "Sqrt": _plain(torch.sqrt),
        "Tanh": _plain(torch.tanh),
        "Add": _binary(lambda x, y: x + y),
        "Sub": _binary(lambda x, y: x - y),
        "Mul": _scaling(lambda x, y: x * y),
        "Div": _scaling(lambda x, y: x / y),
        "Pow": _binary(lambda x, y: x**y),
        "Max": _extreme(torch.maximum, lambda x, number: _between(x, number, None)),
        "Min": _extreme(torch.minimum, lambda x, number: _between(x, None, number)),
        "ReduceMean": _reduced(torch.mean),
        "ReduceSum": _reduced(torch.sum),
        "ReduceMax": _reduced(torch.amax),
        "ReduceMin": _reduced(torch.amin),
    }
)
