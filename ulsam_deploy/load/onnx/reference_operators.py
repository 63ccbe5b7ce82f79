"""Operators of onnx's reference implementation that are replaced, in numpy and float64; independent of the import.

Each is replaced because the original is too slow for an image, or does not compute in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array


def replacements(opset: int) -> list[Any]:
    """Operators in place of those of the reference implementation.

    Its convolutions and pools are slow, and its transposed convolution knows no groups. Its hard swish uses constants
    rounded to float32, its layer norm subtracts large squares, its group norm computes in
    float32. Its batch norm before opset 14 uses the batch's own
    statistics, which the standard forbids for a node with one output. Its GridSample knows no old names of the modes,
    and places samples in float32. It dequantizes in opset 19 and later only.
    """
    return _windows() + _exact(opset)


def _windows() -> list[Any]:
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_max_pool import MaxPool as WholeMaxPool

    class Conv(OpRun):
        def _run(self, x: Array, w: Array, b: Array | None = None, **a: object) -> tuple[Array]:
            return (convolve(x, w, b, a),)

    class ConvTranspose(OpRun):
        def _run(self, x: Array, w: Array, b: Array | None = None, **a: object) -> tuple[Array]:
            return (convolve_transposed(x, w, b, a),)

    class MaxPool(WholeMaxPool):
        def _run(self, x: Array, **a: Any) -> tuple[Array, ...]:  # type: ignore[override]
            if len(self.onnx_node.output) > 1:
                return super()._run(x, **a)  # type: ignore[no-any-return, no-untyped-call]
            return (np.maximum.reduce([part for _, part in _taps(x, a["kernel_shape"], a, -np.inf)]),)

    class AveragePool(OpRun):
        def _run(self, x: Array, **a: object) -> tuple[Array]:
            return (average(x, a),)

    return [Conv, ConvTranspose, MaxPool, AveragePool]


def _exact(opset: int) -> list[Any]:
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_19
    from onnx.reference.ops.op_grid_sample import GridSample as NewGridSample

    class HardSwish(OpRun):
        def _run(self, x: Array) -> tuple[Array]:
            return (x * np.clip(x / 6 + 0.5, 0, 1),)

    class BatchNormalization(OpRun):
        def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **a: object) -> tuple[Array]:
            shape = (1, -1, *[1] * (x.ndim - 2))
            scale, bias, mean, var = (v.reshape(shape) for v in (scale, bias, mean, var))
            return ((x - mean) / np.sqrt(var + (a.get("epsilon") or 1e-5)) * scale + bias,)

    class LayerNormalization(OpRun):
        def _run(self, x: Array, scale: Array, bias: Array | None = None, **a: Any) -> tuple[Array, ...]:
            axes = tuple(range(a["axis"] % x.ndim, x.ndim))
            mean = x.mean(axes, keepdims=True)
            inverse = 1 / np.sqrt(np.square(x - mean).mean(axes, keepdims=True) + float(a["epsilon"]))
            normal = (x - mean) * inverse * scale
            return (normal if bias is None else normal + bias, mean, inverse)[: len(self.onnx_node.output)]

    class GroupNormalization(OpRun):
        def _run(self, x: Array, scale: Array, bias: Array, **a: Any) -> tuple[Array]:
            groups = a["num_groups"]
            parts = x.reshape(x.shape[0], groups, -1)
            spread = np.sqrt(parts.var(2, keepdims=True) + a["epsilon"])
            normal = ((parts - parts.mean(2, keepdims=True)) / spread).reshape(x.shape)
            shape, times = (1, -1, *[1] * (x.ndim - 2)), x.shape[1] // scale.size
            scale, bias = (np.repeat(part, times).reshape(shape) for part in (scale, bias))
            return (normal * scale + bias,)

    class GridSample(NewGridSample):
        def _run(self, x: Array, grid: Array, mode: str = "linear", **a: Any) -> tuple[Array]:  # type: ignore[override]
            mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
            return super()._run(x, grid, mode=mode, **a)  # type: ignore[no-any-return, no-untyped-call]

        def _gs_denormalize_coordinates(self, n: Sequence[float], dims: Sequence[int], align_corners: bool) -> Array:
            return np.array([self._gs_denormalize(at, length, align_corners) for at, length in zip(n, dims)])

    class DequantizeLinear(DequantizeLinear_19):
        def _run(  # type: ignore[override]
            self, x: Array, scale: Array, zero: Array | None = None, axis: int = 1, **_: Any
        ) -> tuple[Array]:
            return super()._run(x, scale, zero, axis=axis)  # type: ignore[no-any-return]

    own = [DequantizeLinear] if opset < 19 else []
    return [*own, HardSwish, BatchNormalization, LayerNormalization, GroupNormalization, GridSample]


def convolve(x: Array, w: Array, b: Array | None, a: Mapping[str, Any]) -> Array:
    """ONNX ``Conv``: ``x`` (N, C, ...), ``w`` (M, C/group, ...); one matrix product for each kernel position."""
    groups = a.get("group") or 1
    weight = np.moveaxis(w.reshape(groups, w.shape[0] // groups, *w.shape[1:]), (0, 1, 2), (-3, -2, -1))
    total: Array | float = 0.0
    for position, part in _taps(x, w.shape[2:], a, 0.0):
        grouped = part.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        total = total + np.matmul(weight[position], grouped)
        sizes = part.shape[2:]
    result = np.asarray(total).reshape(x.shape[0], w.shape[0], *sizes)
    return result if b is None else result + b.reshape(-1, *[1] * len(sizes))


def convolve_transposed(x: Array, w: Array, b: Array | None, a: Mapping[str, Any]) -> Array:
    """ONNX ``ConvTranspose``: ``x`` (N, C, ...), ``w`` (C, M/group, ...); every tap is added to a strided part."""
    groups, axes = a.get("group") or 1, x.ndim - 2
    strides, dilations = a.get("strides") or [1] * axes, a.get("dilations") or [1] * axes
    more, kernel = a.get("output_padding") or [0] * axes, w.shape[2:]
    sizes = [(n - 1) * s + (k - 1) * d + 1 + m for n, s, k, d, m in zip(x.shape[2:], strides, kernel, dilations, more)]
    total = np.zeros((x.shape[0], groups, w.shape[1], *sizes))
    parts = x.reshape(x.shape[0], groups, -1, math.prod(x.shape[2:]))
    weight = w.reshape(groups, -1, *w.shape[1:])

    def index(*at: int | slice) -> tuple[Any, ...]:
        return (..., *at)

    for position in itertools.product(*map(range, kernel)):
        product = np.einsum("ngcs,gcm->ngms", parts, weight[index(*position)])
        place = [
            slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in zip(position, dilations, x.shape[2:], strides)
        ]
        total[index(*place)] += product.reshape(*total.shape[:3], *x.shape[2:])
    total = total.reshape(x.shape[0], groups * w.shape[1], *sizes)
    for axis, (begin, end) in enumerate(_cut(a, sizes, x.shape[2:], strides), 2):
        total = np.pad(total, [(0, max(0, -end)) if i == axis else (0, 0) for i in range(total.ndim)])
        total = np.take(total, range(begin, total.shape[axis] - max(0, end)), axis)
    return total if b is None else total + b.reshape(-1, *[1] * axes)


def _cut(
    a: Mapping[str, Any], sizes: Sequence[int], before: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """How much a transposed convolution cuts off at both ends of each axis."""
    axes, auto = len(sizes), a.get("auto_pad") or "NOTSET"
    wanted = a.get("output_shape")
    if wanted is None and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(before, strides)]
    if wanted is None:
        pads = (a.get("pads") if auto == "NOTSET" else None) or [0] * 2 * axes
        return [(pads[i], pads[i + axes]) for i in range(axes)]
    pairs = []
    for size, want in zip(sizes, wanted):
        small = max(0, size - want) // 2
        large = max(0, size - want) - small
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
        pairs.append((begin, end - max(0, want - size)))
    return pairs


def average(x: Array, a: Mapping[str, Any]) -> Array:
    """ONNX ``AveragePool``; padding counts only with ``count_include_pad``, and what ``ceil_mode`` adds never does."""
    kernel, around = a["kernel_shape"], [(0, 0), (0, 0), *_padding(x, a["kernel_shape"], a)]
    counted = np.ones_like(np.pad(x, around))
    if not a.get("count_include_pad"):
        counted = np.pad(np.ones_like(x), around)
    total = sum(part for _, part in _taps(x, kernel, a, 0.0))
    return np.asarray(total / sum(part for _, part in _taps(x, kernel, a, 0.0, counted)))


def _padding(x: Array, kernel: Sequence[int], a: Mapping[str, Any]) -> list[tuple[int, int]]:
    axes = len(kernel)
    strides, dilations = a.get("strides") or [1] * axes, a.get("dilations") or [1] * axes
    auto = a.get("auto_pad") or "NOTSET"
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        pads = (a.get("pads") if auto == "NOTSET" else None) or [0] * 2 * axes
        return [(pads[i], pads[i + axes]) for i in range(axes)]
    pairs = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations):
        missing = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = missing // 2, missing - missing // 2
        pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return pairs


def _taps(
    x: Array, kernel: Sequence[int], a: Mapping[str, Any], fill: float, padded: Array | None = None
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each kernel position, the inputs at that position for all outputs: (N, C, *output sizes).

    ``padded``, if given, is used instead of ``x`` with padding.
    """
    axes = len(kernel)
    strides, dilations = a.get("strides") or [1] * axes, a.get("dilations") or [1] * axes
    pads, more, sizes = [], [], []
    for size, k, stride, dilation, (begin, end) in zip(x.shape[2:], kernel, strides, dilations, _padding(x, kernel, a)):
        room = size + begin + end - (k - 1) * dilation - 1
        count = (-(-room // stride) if a.get("ceil_mode") else room // stride) + 1
        if a.get("ceil_mode") and (count - 1) * stride >= size + begin:
            count -= 1  # omit a window that would begin in the padding at the end
        sizes.append(count)
        beyond = max(0, (count - 1) * stride + (k - 1) * dilation + 1 - size - begin - end)
        pads.append((begin, end) if padded is None else (0, 0))
        more.append((0, beyond))
    whole = np.pad(x if padded is None else padded, [(0, 0), (0, 0), *pads], constant_values=fill)
    whole = np.pad(whole, [(0, 0), (0, 0), *more], constant_values=fill)
    for position in itertools.product(*map(range, kernel)):
        cut = [
            slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
            for at, dilation, count, stride in zip(position, dilations, sizes, strides)
        ]
        yield position, whole[(slice(None), slice(None), *cut)]
