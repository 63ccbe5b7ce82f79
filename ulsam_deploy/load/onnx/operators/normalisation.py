"""The ONNX operators that normalise, implemented in torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, tensor


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    if a.get("training_mode", 0):
        raise NotReadError("a batch normalisation in training mode")
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


def _instance_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, None, None, scale, bias, eps=a.get("epsilon", 1e-5))


def _group_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, channels = a["num_groups"], x.shape[1]
    if a["opset"] < 21:  # a factor for each group, not for each channel
        scale, bias = (part.reshape(-1, 1).expand(groups, channels // groups).reshape(-1) for part in (scale, bias))
    return F.group_norm(x, groups, scale, bias, a.get("epsilon", 1e-5))


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
    axis, epsilon = a.get("axis", -1) % x.ndim, a.get("epsilon", 1e-5)
    sizes = list(x.shape[axis:])
    if list(scale.shape) == sizes and (bias is None or list(bias.shape) == sizes):
        normal = F.layer_norm(x, sizes, scale, bias, epsilon)
    else:
        normal = F.layer_norm(x, sizes, None, None, epsilon) * scale
        normal = normal if bias is None else normal + bias
    if a["results"] == 1:
        return normal
    axes = tuple(range(axis, x.ndim))
    mean = x.mean(axes, keepdim=True)
    return normal, mean, torch.rsqrt(((x - mean) ** 2).mean(axes, keepdim=True) + epsilon)


def _local_response(a: Attributes, x: Tensor) -> Tensor:
    size = a["size"]
    alpha, beta, bias = a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0)
    squares = F.pad((x * x).flatten(2).transpose(1, 2), [(size - 1) // 2, size // 2])
    sums = F.avg_pool1d(squares, size, 1).transpose(1, 2).reshape(x.shape)
    return x / torch.pow(bias + alpha * sums, beta)


def _lp_norm(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", -1)
    length = x.abs().sum(axis, keepdim=True) if a.get("p", 2) == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return torch.where(length == 0, torch.zeros_like(x), x / length)


def _softmax(a: Attributes, x: Tensor) -> Tensor:
    if a["op"] == "Hardmax":
        return _up_to_12(a, x, _hardmax)
    return _up_to_12(a, x, F.log_softmax if a["op"] == "LogSoftmax" else F.softmax)


def _up_to_12(a: Attributes, x: Tensor, normalise: Meaning) -> Tensor:
    """``normalise`` over one axis; up to opset 12 over all axes from that one on."""
    if a["opset"] >= 13 or x.ndim == 0:
        return normalise(x, a.get("axis", -1))  # type: ignore[return-value]
    axis = a.get("axis", 1) % x.ndim
    if axis == x.ndim - 1:
        return normalise(x, -1)  # type: ignore[return-value]
    return normalise(x.flatten(axis), -1).reshape(x.shape)  # type: ignore[return-value, union-attr]


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = x.argmax(axis, keepdim=True)
    places = torch.arange(x.shape[axis]).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return (places == first).to(x.dtype)


def _dropout(
    a: Attributes, x: Tensor, ratio: Array | None = None, training: Array | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    share = 0.5 if ratio is None else ratio.item()
    if training is not None and bool(training.item()) and not math.isclose(share, 0.0):
        raise NotReadError("a dropout in training mode")
    kept = torch.ones_like(x, dtype=torch.bool)
    return (x, kept) if a["results"] > 1 else x


def _prelu(_: Attributes, x: Tensor, slope: Tensor | Array) -> Tensor:
    factor = slope if isinstance(slope, Tensor) or slope.size > 1 else float(slope.item())
    factor = factor if isinstance(factor, float) else tensor(factor, x.dtype)
    return F.relu(x) - F.relu(-x) * factor


OPERATORS: Mapping[str, Meaning] = {
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "LRN": _local_response,
    "LpNormalization": _lp_norm,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "Dropout": _dropout,
    "PRelu": _prelu,
}
