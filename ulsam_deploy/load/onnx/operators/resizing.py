"""The ONNX operators that resize and sample maps, implemented in torch.

Where torch has the same resizing, its own operator is used, because converters know it. All others are separable: along
each axis a choice of positions, or a product with a matrix of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.known import of as known_of
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, known, tensor, text


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized: from ``length`` to ``count`` elements, by ``scale``; ``roi`` is a part of it."""

    axis: int
    length: int
    count: int
    scale: float
    roi: tuple[float, float]

    @property
    def whole(self) -> bool:
        """Whether the scale is that of the lengths, which is the one that torch uses."""
        return math.isclose(self.scale * self.length, self.count, rel_tol=1e-12)

    @property
    def idle(self) -> bool:
        return self.count == self.length and self.whole and self.roi == (0.0, 1.0)


def _resize(
    a: Attributes, x: Tensor, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> Tensor:
    mode, where = text(a, "mode", "nearest"), text(a, "coordinate_transformation_mode", "half_pixel")
    axes = [axis for axis in _axes(a, x, roi, scales, sizes) if not axis.idle]
    if not axes:
        return x
    same = _by_torch(a, x, axes, mode, where)
    return same if same is not None else _separately(a, x, axes, mode, where)


def _axes(a: Attributes, x: Tensor, roi: Array | None, scales: Array | None, sizes: Array | None) -> list[_Axis]:
    chosen = [axis % x.ndim for axis in a.get("axes", range(x.ndim))]
    lengths = [x.shape[axis] for axis in chosen]
    if sizes is not None and sizes.size:
        counts = ints(known(sizes, "sizes"))
        factors = [count / length if isinstance(count, int) else 1.0 for count, length in zip(counts, lengths)]
        policy = text(a, "keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = (min if policy == "not_larger" else max)(factors)
            factors = [factor] * len(chosen)
            counts = [int(factor * length + 0.5) for length in lengths]
    else:
        factors = [float(value) for value in known(scales, "scales").reshape(-1)]
        counts = [
            length if factor == 1 else int(length * factor) for length, factor in zip(lengths, factors, strict=True)
        ]
    parts = [(0.0, 1.0)] * len(chosen)
    if text(a, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        bounds = [float(value) for value in known(roi, "region").reshape(-1)]
        parts = list(zip(bounds[: len(chosen)], bounds[len(chosen) :]))
    return [_Axis(*one) for one in zip(chosen, lengths, counts, factors, parts)]


def _by_torch(a: Attributes, x: Tensor, axes: Sequence[_Axis], mode: str, where: str) -> Tensor | None:
    """The resizing by torch's operator, if it has the same one."""
    spatial = x.ndim - 2
    if a.get("antialias", 0) or a.get("exclude_outside", 0) or not all(axis.axis > 1 and axis.whole for axis in axes):
        return None
    size = list(x.shape[2:])
    for axis in axes:
        size[axis.axis - 2] = axis.count
    corners = where == "align_corners"
    to_one = where == "pytorch_half_pixel" and any(axis.count == 1 for axis in axes)
    if mode == "nearest" and where == "asymmetric" and text(a, "nearest_mode", "") == "floor" and spatial in (1, 2, 3):
        return F.interpolate(x, size=size, mode="nearest")
    if where not in ("half_pixel", "pytorch_half_pixel", "align_corners") or to_one:
        return None
    if mode == "linear" and spatial in (1, 2, 3):
        return F.interpolate(x, size=size, mode=("linear", "bilinear", "trilinear")[spatial - 1], align_corners=corners)
    if mode == "cubic" and spatial == 2 and a.get("cubic_coeff_a", -0.75) == -0.75:
        return F.interpolate(x, size=size, mode="bicubic", align_corners=corners)
    return None


def _separately(a: Attributes, x: Tensor, axes: Sequence[_Axis], mode: str, where: str) -> Tensor:
    if not all(isinstance(axis.length, int) and isinstance(axis.count, int) for axis in axes):
        raise NotReadError("a resizing of an axis whose size is open")
    outside: list[tuple[int, Array]] = []
    for axis in axes:
        at = _coordinates(axis, where)
        if where == "tf_crop_and_resize":
            outside.append((axis.axis, (at < 0) | (at > axis.length - 1)))
        if mode == "nearest":
            places = np.clip(_nearest(at, text(a, "nearest_mode", "round_prefer_floor")), 0, axis.length - 1)
            x = x.index_select(axis.axis, torch.tensor(places.astype(int).tolist()))
        else:
            matrix = tensor(known_of(_weights(a, axis, at, mode)), x.dtype)
            x = torch.matmul(x.movedim(axis.axis, -1), matrix.t()).movedim(-1, axis.axis)
    for place, beyond in outside:
        mask = torch.tensor(beyond.tolist()).reshape([-1 if i == place else 1 for i in range(x.ndim)])
        x = torch.where(mask, a.get("extrapolation_value", 0.0), x)
    return x


def _coordinates(axis: _Axis, where: str) -> Array:
    """Where each element of the result lies in the axis."""
    i, length, scale = np.arange(axis.count, dtype=np.float64), axis.length, axis.scale
    if axis.idle:
        return i
    wide = scale * length  # the length of the result before it is rounded down
    middle = (i + 0.5) / scale - 0.5
    if where == "half_pixel":
        return middle
    if where == "pytorch_half_pixel":
        return np.zeros(axis.count) if wide == 1 else middle
    if where == "half_pixel_symmetric":
        return length / 2 * (1 - axis.count / wide) + middle
    if where == "asymmetric":
        return i / scale
    if where == "align_corners":
        return np.zeros(axis.count) if wide == 1 else i * (length - 1) / (wide - 1)
    if where == "tf_crop_and_resize":
        begin, end = axis.roi
        inner = (end - begin) * (length - 1)
        return begin * (length - 1) + (np.full(axis.count, inner / 2) if wide == 1 else i * inner / (wide - 1))
    raise NotReadError(f"a resizing with coordinates {where}")


def _nearest(at: Array, how: str) -> Array:
    rounds: Mapping[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    return rounds[how](at)


def _weights(a: Attributes, axis: _Axis, at: Array, mode: str) -> Array:
    """The share that each element of the axis has in each element of the result; beyond its ends, the end counts."""
    shrink = min(axis.scale, 1.0) if a.get("antialias", 0) else 1.0
    reach = 1 if mode == "linear" else 2
    kernel = _triangle if mode == "linear" else _cubic(a.get("cubic_coeff_a", -0.75))
    rows = np.zeros((axis.count, axis.length))
    for row, x in zip(rows, at):
        taps = np.arange(math.floor(x - reach / shrink), math.ceil(x + reach / shrink) + 1)
        shares = kernel(np.abs(taps - x) * shrink)
        if a.get("exclude_outside", 0):
            shares = np.where((taps < 0) | (taps >= axis.length), 0.0, shares)
        if a.get("antialias", 0) or a.get("exclude_outside", 0):
            shares = shares / shares.sum()
        np.add.at(row, np.clip(taps, 0, axis.length - 1), shares)
    return rows


def _triangle(distance: Array) -> Array:
    return np.asarray(np.clip(1 - distance, 0.0, 1.0))


def _cubic(a: float) -> Callable[[Array], Array]:
    def kernel(d: Array) -> Array:
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel


def _grid_sample(a: Attributes, x: Tensor, grid: Tensor | Array) -> Tensor:
    mode = text(a, "mode", "linear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    if x.ndim == 5 and mode == "bicubic":
        raise NotReadError("a cubic sampling of a volume")
    corners, padding = bool(a.get("align_corners", 0)), text(a, "padding_mode", "zeros")
    return F.grid_sample(x, tensor(grid, x.dtype), mode=mode, padding_mode=padding, align_corners=corners)


def _affine_grid(a: Attributes, theta: Tensor, size: Array) -> Tensor:
    return F.affine_grid(theta, ints(known(size, "size")), bool(a.get("align_corners", 0)))


OPERATORS: Mapping[str, Meaning] = {"Resize": _resize, "GridSample": _grid_sample, "AffineGrid": _affine_grid}
