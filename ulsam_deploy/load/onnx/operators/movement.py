"""The ONNX operators that only move elements, implemented in torch, in the form of :mod:`.operators`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.operators.values import Attributes, text


def _reshape(a: Attributes, x: Tensor, shape: Array) -> Tensor:
    keeps = not a.get("allowzero", 0)
    sizes = [x.shape[axis] if keeps and size == 0 else size for axis, size in enumerate(ints(shape))]
    return x.reshape(sizes)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _squeeze(a: Attributes, x: Tensor, axes: Array | None = None) -> Tensor:
    wanted = a.get("axes") if axes is None else ints(axes)
    return x.squeeze() if wanted is None else x.squeeze(tuple(wanted))


def _unsqueeze(a: Attributes, x: Tensor, axes: Array | None = None) -> Tensor:
    wanted = a["axes"] if axes is None else ints(axes)
    for axis in sorted(axis % (x.ndim + len(wanted)) for axis in wanted):
        x = x.unsqueeze(axis)
    return x


def _transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(*a.get("perm", reversed(range(x.ndim))))


def _expand(_: Attributes, x: Tensor, shape: Array) -> Tensor:
    """Broadcast in both directions: a size of 1 in ``shape`` keeps the tensor's own size."""
    sizes = ints(shape)
    own = [1] * (len(sizes) - x.ndim) + list(x.shape)
    sizes = [1] * (x.ndim - len(sizes)) + sizes
    return x.expand([mine if isinstance(size, int) and size == 1 else size for mine, size in zip(own, sizes)])


def _concat(a: Attributes, *parts: Tensor | Array) -> Tensor:
    like = next(part for part in parts if isinstance(part, Tensor))
    tensors = [part if isinstance(part, Tensor) else like.new_tensor(part.tolist()) for part in parts]
    return torch.cat(tensors, a["axis"])


def _split(a: Attributes, x: Tensor, split: Array | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    given = a.get("split") if split is None else ints(split)
    if given is not None:
        return tuple(torch.split(x, list(given), axis))
    size = -(-x.shape[axis] // a["results"])
    return tuple(torch.split(x, size, axis))


def _split_to_sequence(a: Attributes, x: Tensor, split: Array | None = None) -> list[Tensor]:
    """A sequence is a list here, which is one value, while several results are a tuple."""
    axis = a.get("axis", 0)
    if split is None:
        parts = list(torch.split(x, 1, axis))
        return parts if a.get("keepdims", 1) else [part.squeeze(axis) for part in parts]
    return list(torch.split(x, ints(split) if split.ndim else ints(split)[0], axis))


def _from_sequence(a: Attributes, parts: list[Tensor]) -> Tensor:
    return (torch.stack if a.get("new_axis", 0) else torch.cat)(parts, a["axis"])


def _slice(
    _: Attributes, x: Tensor, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Tensor:
    where = list(range(len(starts))) if axes is None else ints(axes)
    by = [1] * len(starts) if steps is None else ints(steps)
    for axis, start, end, step in zip(where, ints(starts), ints(ends), by, strict=True):
        if step < 0:
            x = x.flip(axis)  # reverses the axis, so that counting starts at the other end
            start, end, step = _mirrored(start, x.shape[axis]), _mirrored(end, x.shape[axis]), -step
        x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return x


def _mirrored(position: int, size: int) -> int:
    at = position + size if position < 0 else position
    return size - 1 - min(max(at, -1), size - 1)


def _tile(_: Attributes, x: Tensor, repeats: Array) -> Tensor:
    return x.repeat(ints(repeats))


def _pad(a: Attributes, x: Tensor, pads: Array, value: Array | None = None, axes: Array | None = None) -> Tensor:
    where = [axis % x.ndim for axis in (range(x.ndim) if axes is None else ints(axes))]
    given, half = ints(pads), len(where)
    begins, ends = [0] * x.ndim, [0] * x.ndim
    for position, axis in enumerate(where):
        begins[axis], ends[axis] = given[position], given[half + position]
    pairs = [size for axis in reversed(range(x.ndim)) for size in (begins[axis], ends[axis])]
    mode = a.get("mode", b"constant").decode()
    if mode == "constant":
        return F.pad(x, pairs, value=0.0 if value is None else float(value.item()))
    names: Mapping[str, str] = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return F.pad(x, _without_outer(pairs), mode=names[mode])


def _without_outer(pairs: Sequence[int]) -> list[int]:
    """Drop unpadded outer axes: torch requires this unless it pads with a constant."""
    kept = list(pairs)
    while len(kept) > 2 and kept[-2:] == [0, 0]:
        kept = kept[:-2]
    return kept


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    size = a["blocksize"]
    if a.get("mode", b"DCR") == b"CRD":
        return F.pixel_shuffle(x, size)
    n, c, h, w = x.shape
    spread = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return spread.reshape(n, c // size**2, h * size, w * size)


def _space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    size, (n, c, h, w) = a["blocksize"], x.shape
    order = (0, 1, 3, 5, 2, 4) if text(a, "mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    cut = x.reshape(n, c, h // size, size, w // size, size).permute(*order)
    return cut.reshape(n, c * size**2, h // size, w // size)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Tile": _tile,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "SplitToSequence": _split_to_sequence,
    "SequenceConstruct": lambda _, *parts: list(parts),
    "SequenceAt": lambda _, parts, position: parts[ints(position)[0]],
    "ConcatFromSequence": _from_sequence,
}
