"""Convolutions and pools: the ONNX operators that slide a window over a map, implemented in torch.

Where torch has the same padding, its own operator is used, because converters know it; otherwise the map is padded
first, and what a window covers is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, known, text

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Window:
    """A window's geometry, each a number for an axis. ``beyond`` is the padding that rounding up adds at the end."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    beyond: tuple[int, ...]

    @property
    def even(self) -> bool:
        """Whether torch's own padding says the same: equal at both ends, at most half a window, not rounded up."""
        half = all(2 * begin <= k for begin, k in zip(self.begins, self.kernel))
        return self.begins == self.ends and not any(self.beyond) and half

    def padded(self, x: Tensor, value: float) -> Tensor:
        """``x`` with all padding around it."""
        ends = [end + more for end, more in zip(self.ends, self.beyond)]
        pairs = [size for pair in reversed(list(zip(self.begins, ends))) for size in pair]
        return F.pad(x, pairs, value=value) if any(pairs) else x


def window(a: Attributes, sizes: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of the attributes ``a`` over a map of ``sizes``."""
    axes = len(kernel)
    strides, dilations = list(a.get("strides", [1] * axes)), list(a.get("dilations", [1] * axes))
    begins, ends = _pads(a, sizes, kernel, strides, dilations)
    beyond = [0] * axes
    if a.get("ceil_mode", 0):
        for i in range(axes):
            reach = dilations[i] * (kernel[i] - 1) + 1
            room = sizes[i] + begins[i] + ends[i] - reach
            count = -(-room // strides[i]) + 1
            if (count - 1) * strides[i] >= sizes[i] + begins[i]:
                count -= 1  # a window that begins in the padding at the end is left out
            beyond[i] = max(0, (count - 1) * strides[i] - room)
    lists = (kernel, strides, dilations, begins, ends, beyond)
    return Window(*(tuple(int(n) for n in values) for values in lists))


def _pads(
    a: Attributes, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The padding at the begin of each axis and at its end."""
    axes, auto = len(kernel), text(a, "auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = list(a.get("pads", [0] * 2 * axes)) if auto == "NOTSET" else [0] * 2 * axes
        return pads[:axes], pads[axes:]
    total = [
        max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def _of_axes(functions: Mapping[int, Any], axes: int, what: str) -> Any:
    if axes not in functions:
        raise NotReadError(f"{what} over {axes} axes")
    return functions[axes]


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | Array | None = None) -> Tensor:
    axes = weight.ndim - 2
    convolve = _of_axes(_CONVOLVE, axes, "a convolution")
    w = window({**a, "ceil_mode": 0}, x.shape[2:], weight.shape[2:])
    padding = list(w.begins)
    if w.begins != w.ends:
        x, padding = w.padded(x, 0.0), [0] * axes
    if bias is not None and not isinstance(bias, Tensor):  # the dynamo exporter computes a bias of zeros for none
        bias = torch.tensor(bias.tolist(), dtype=x.dtype) if any(bias.reshape(-1)) else None
    result: Tensor = convolve(x, weight, bias, list(w.strides), padding, list(w.dilations), a.get("group", 1))
    return result


def _conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = weight.ndim - 2
    convolve = _of_axes(_TRANSPOSED, axes, "a transposed convolution")
    strides, dilations = list(a.get("strides", [1] * axes)), list(a.get("dilations", [1] * axes))
    more, auto = list(a.get("output_padding", [0] * axes)), text(a, "auto_pad", "NOTSET")
    whole = [
        stride * (size - 1) + extra + (k - 1) * dilation + 1
        for size, stride, extra, k, dilation in zip(x.shape[2:], strides, more, weight.shape[2:], dilations)
    ]
    wanted = a.get("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(x.shape[2:], strides)]
    if wanted is not None:
        cut = [max(0, size - want) for size, want in zip(whole, wanted)]
        small, large = [c // 2 for c in cut], [c - c // 2 for c in cut]
        begins, ends = (small, large) if auto == "SAME_UPPER" else (large, small)
        more = [extra + max(0, want - size) for extra, size, want in zip(more, whole, wanted)]
    else:
        pads = list(a.get("pads", [0] * 2 * axes)) if auto == "NOTSET" else [0] * 2 * axes
        begins, ends = pads[:axes], pads[axes:]
    group = a.get("group", 1)
    plain = all(extra < max(stride, dilation) for extra, stride, dilation in zip(more, strides, dilations))
    if begins == ends and plain:
        return convolve(x, weight, bias, strides, begins, more, group, dilations)  # type: ignore[no-any-return]
    y: Tensor = convolve(x, weight, None, strides, [0] * axes, [0] * axes, group, dilations)
    pairs = [n for i in reversed(range(axes)) for n in (-begins[i], more[i] - ends[i])]
    y = F.pad(y, pairs)  # a negative padding cuts
    return y if bias is None else y + bias.reshape(-1, *[1] * axes)


def _max_pool(a: Attributes, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    kernel = list(a["kernel_shape"])
    pool = _of_axes(_MAX, len(kernel), "a pool")
    w = window(a, x.shape[2:], kernel)
    with_positions = a["results"] > 1
    if w.even and not with_positions:
        result: Tensor = pool(x, kernel, list(w.strides), list(w.begins), list(w.dilations))
        return result
    padded = w.padded(x, -math.inf)
    values, at = pool(padded, kernel, list(w.strides), 0, list(w.dilations), return_indices=True)
    if not with_positions:
        return values  # type: ignore[no-any-return]
    return values, _positions(at, padded.shape[2:], x, w.begins, bool(a.get("storage_order", 0)))


def _positions(at: Tensor, sizes: Sequence[int], x: Tensor, begins: Sequence[int], by_column: bool) -> Tensor:
    """Positions in the whole of ``x``, from positions ``at`` in padded maps of ``sizes``."""
    coordinates = []
    for size, begin in zip(reversed(sizes), reversed(begins)):
        coordinates.append(at % size - begin)
        at = at // size
    order = list(zip(coordinates, reversed(x.shape[2:])))
    flat, step = torch.zeros_like(at), 1
    for coordinate, size in reversed(order) if by_column else order:
        flat, step = flat + coordinate * step, step * size
    maps = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * len(sizes))
    return flat + maps * step


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = list(a["kernel_shape"])
    pool = _of_axes(_AVERAGE, len(kernel), "a pool")
    w = window(a, x.shape[2:], kernel)
    whole = bool(a.get("count_include_pad", 0))
    if w.even and set(w.dilations) == {1}:
        result: Tensor = pool(x, kernel, list(w.strides), list(w.begins), False, whole)
        return result
    inside = torch.ones(1, 1, *x.shape[2:])
    if whole:  # the padding counts, but never what rounding up adds
        pairs = [n for pair in reversed(list(zip(w.begins, w.ends))) for n in pair]
        inside = F.pad(inside, pairs, value=1.0)
        counted = F.pad(inside, [n for more in reversed(w.beyond) for n in (0, more)])
    else:
        counted = w.padded(inside, 0.0)
    return _sums(w.padded(x, 0.0), w) / _sums(counted, w)


def _sums(x: Tensor, w: Window) -> Tensor:
    """The sum of each window of ``x``, which is padded."""
    channels = x.shape[1]
    ones = torch.ones(channels, 1, *w.kernel)
    result: Tensor = _CONVOLVE[len(w.kernel)](x, ones, None, list(w.strides), 0, list(w.dilations), channels)
    return result


def _lp_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, p = list(a["kernel_shape"]), a.get("p", 2)
    _of_axes(_CONVOLVE, len(kernel), "a pool")
    w = window(a, x.shape[2:], kernel)
    return torch.pow(_sums(w.padded(torch.pow(x.abs(), p), 0.0), w), 1.0 / p)


def _global(a: Attributes, x: Tensor) -> Tensor:
    axes = tuple(range(2, x.ndim))
    if a["op"] == "GlobalMaxPool":
        return x.amax(axes, keepdim=True)
    if a["op"] == "GlobalLpPool":
        p = a.get("p", 2)
        return torch.pow(torch.pow(x.abs(), p).sum(axes, keepdim=True), 1.0 / p)
    return F.adaptive_avg_pool2d(x, 1) if x.ndim == 4 else x.mean(axes, keepdim=True)


def _max_unpool(a: Attributes, x: Tensor, at: Tensor | Array, shape: Array | None = None) -> Tensor:
    kernel = list(a["kernel_shape"])
    axes = len(kernel)
    strides, pads = list(a.get("strides", [1] * axes)), list(a.get("pads", [0] * 2 * axes))
    own = [
        (size - 1) * stride + k - begin - end
        for size, stride, k, begin, end in zip(x.shape[2:], strides, kernel, pads[:axes], pads[axes:])
    ]
    natural = [*x.shape[:2], *own]
    wanted = natural if shape is None else ints(shape)
    index = torch.tensor(known(at, "positions").tolist(), dtype=torch.int64).reshape(-1)
    flat = torch.zeros(math.prod(natural), dtype=x.dtype).scatter(0, index, x.reshape(-1))
    y = flat.reshape(natural)
    return F.pad(y, [n for want, size in reversed(list(zip(wanted, natural))) for n in (0, want - size)])


def _col2im(a: Attributes, x: Tensor, image: Array, block: Array) -> Tensor:
    axes = len(ints(image))
    pads = list(a.get("pads", [0] * 2 * axes))
    if axes != 2 or pads[:axes] != pads[axes:]:
        raise NotReadError("an image of columns that has not two axes, or another padding at each end")
    strides, dilations = list(a.get("strides", [1, 1])), list(a.get("dilations", [1, 1]))
    sizes, kernel, spread, around, step = map(tuple, (ints(image), ints(block), dilations, pads[:axes], strides))
    return F.fold(x, sizes, kernel, spread, around, step)


OPERATORS: Mapping[str, Meaning] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global,
    "GlobalMaxPool": _global,
    "GlobalLpPool": _global,
    "MaxUnpool": _max_unpool,
    "Col2Im": _col2im,
}
