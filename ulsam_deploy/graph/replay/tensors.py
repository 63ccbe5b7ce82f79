"""The tensors that an artifact shows inside, to be compared with a node's value in any axis order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.types import StepGrid
from ulsam_deploy.graph.replay.rounding import ALLOWED, UNIFORM

_SAMPLE = 256
#: A tensor resembles a result up to this distance, relative to the result's size: no map at all is at 1.
RESEMBLES = 1.0
#: Of a constant channel, the part of its size that it is compared with.
_PARTS = 255
#: Channels with fewer elements are compared element by element.
_FEW = 8
#: A quantizer's range may take this part of a result's spread away; more ruins what the module computes.
LOST = 0.5
#: Rounding to the nearest step is off by half a step; of more than this share of values by this much, it was another.
_MISSED, _HALF = 0.05, 0.75
_TINY = 1e-300


@dataclass(frozen=True)
class TensorGrid:
    """The grid of a tensor in its own axis order: numbers, or arrays with the tensor's shape."""

    step: Array
    low: Array
    high: Array

    def ordered(self, order: tuple[int, int] | None, shape: tuple[int, ...]) -> TensorGrid:
        """The same for the tensor in another axis order and shape."""
        parts = (self.step, self.low, self.high)
        return TensorGrid(*(part if not part.ndim else _ordered(part, order).reshape(shape) for part in parts))


@dataclass(frozen=True)
class Form:
    """One tensor of the artifact in the axis order of a node's value; ``steps``: those of its 8 bits, if it has."""

    name: str
    array: Array
    steps: TensorGrid | None
    order: tuple[int, int] | None = None


@dataclass(frozen=True)
class Distance:
    """How far a tensor is from a node's value: in tolerances, and relative to the value's spread; what is clipped."""

    ratio: float
    relative: float
    clipped: float


class Inner:
    """All tensors inside an artifact for one batch."""

    def __init__(self, values: ArrayMap, grids: Mapping[str, StepGrid]) -> None:
        """``grids``: the tensors that are rounded to steps."""
        self._sizes: dict[int, list[tuple[str, Array]]] = defaultdict(list)
        self._arrays: dict[str, Array] = {}
        self._steps: dict[str, TensorGrid] = {}
        self._behind: dict[str, list[str]] = defaultdict(list)
        self._source: dict[str, str] = {}
        for name, array in values.items():
            if array.ndim and array.size > 1 and np.all(np.isfinite(array)):
                self._sizes[array.size].append((name, array))
                self._arrays[name] = array
        for name, grid in grids.items():
            if name in self._arrays:
                self._steps[name] = _steps(grid, self._arrays[name])
                if grid.source in self._arrays:
                    self._behind[grid.source].append(name)
                    self._source[name] = grid.source

    def forms(self, value: Array) -> Iterator[Form]:
        """Every tensor with the size of ``value``, in each axis order that it can have; nearest on a sample first."""
        chosen = np.random.default_rng(0).integers(0, value.size, min(value.size, _SAMPLE))
        wanted = value.ravel()[chosen]
        found: list[tuple[float, int, str, tuple[int, int] | None]] = []
        for name, array in self._sizes.get(value.size, ()):
            for order in _orders(array.shape):
                form = _ordered(array, order)
                if form.ndim == value.ndim and _squeezed(form.shape) != _squeezed(value.shape):
                    continue
                places = np.unravel_index(chosen, form.shape)
                apart = float(np.square(form[places].astype(np.float64) - wanted).sum())
                found.append((apart, len(found), name, order))
        for _, _, name, order in sorted(found, key=lambda one: one[:2]):
            yield self._form(name, order, value.shape)

    def before(self, form: Form) -> Form | None:
        """What was rounded to ``form``, if the artifact shows it."""
        source = self._source.get(form.name)
        return None if source is None else self._form(source, form.order, form.array.shape)

    def behind(self, form: Form) -> list[Form]:
        """What ``form`` is rounded to."""
        return [self._form(name, form.order, form.array.shape) for name in self._behind.get(form.name, ())]

    def _form(self, name: str, order: tuple[int, int] | None, shape: tuple[int, ...]) -> Form:
        steps, array = self._steps.get(name), self._arrays[name]
        array = _ordered(array, order).astype(np.float64).reshape(shape)
        return Form(name, array, steps.ordered(order, shape) if steps else None, order)


def _orders(shape: tuple[int, ...]) -> Iterator[tuple[int, int] | None]:
    """As it is, and where that is something else: with channels moved from last to second, and from second to last."""
    yield None
    for source, target in ((-1, 1), (1, -1)) if len(shape) > 2 else ():
        others = math.prod(shape[1:]) // max(1, shape[source])
        if shape[source] > 1 and others > 1:
            yield source, target


def orders(array: Array) -> Iterator[Array]:
    """``array`` in each axis order that it can have."""
    return (_ordered(array, order) for order in _orders(array.shape))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size > 1)


def _ordered(array: Array, order: tuple[int, int] | None) -> Array:
    return array if order is None else np.moveaxis(array, *order)


def _steps(grid: StepGrid, array: Array) -> TensorGrid:
    parts = (np.asarray(part) for part in (grid.steps, grid.lowest, grid.highest))
    if len(grid.steps) == 1:
        return TensorGrid(*(part[0] for part in parts))
    shape = [1] * array.ndim
    shape[grid.axis] = len(grid.steps)
    return TensorGrid(*(np.broadcast_to(part.reshape(shape), array.shape) for part in parts))


def distance(value: Array, tolerance: Array, form: Form, *, clips: bool = True, shift: Array | None = None) -> Distance:
    """Compare ``form`` with ``value``, whose honest uncertainty is ``tolerance``; the worst channel decides.

    Args:
        value: The float64 result of the operator.
        tolerance: Root mean square of what it may be off by, for each element.
        form: The artifact's tensor.
        clips: What lies outside the range of ``form`` may be at the end of that range.
        shift: How far all values of a channel may be moved by one amount.
    """
    error = np.where(form.array == value, 0.0, form.array - value)  # infinities are equal, too
    spread = _spread(value)
    relative = float(np.sqrt(np.mean(np.square(error)))) / spread
    clipped = lost = 0.0
    if form.steps:
        step = form.steps.step
        tolerance = np.sqrt(np.square(tolerance) + np.square(step * UNIFORM))
        if clips:
            kept = np.clip(value, form.steps.low, form.steps.high)
            clipped, lost = _clipped(value, kept, step, spread)
            error = form.array - kept
    if shift is not None and value.ndim > 1:
        axes = tuple(axis for axis in range(value.ndim) if axis != 1)
        most = ALLOWED * shift.mean(axes, keepdims=True)
        error = error - np.clip(error.mean(axes, keepdims=True), -most, most)
    ratio = _ratio(error, np.broadcast_to(tolerance, value.shape))
    return Distance(max(ratio, lost * ALLOWED), relative, clipped)


def rounded(before: Form, behind: Form, *, clips: bool = True) -> Distance:
    """Compare a tensor with what its quantizer made of it: each value is the nearest step, or the end of the range.

    Args:
        before: What was rounded.
        behind: What it was rounded to.
        clips: Whether clipping is the quantizer's own, and not an operator that was left to it.
    """
    assert behind.steps is not None
    kept, step = np.clip(before.array, behind.steps.low, behind.steps.high), behind.steps.step
    apart = np.abs(behind.array - kept) / np.maximum(step, _TINY)
    ratio = float(np.sqrt(np.mean(np.square(apart)))) / UNIFORM
    if float(np.mean(apart > _HALF)) > _MISSED:
        ratio = max(ratio, 2 * ALLOWED)
    spread = _spread(before.array)
    clipped, lost = _clipped(before.array, kept, step, spread) if clips else (0.0, 0.0)
    relative = float(np.sqrt(np.mean(np.square(behind.array - before.array)))) / spread
    return Distance(max(ratio, lost * ALLOWED), relative, clipped)


def _clipped(value: Array, kept: Array, step: Array, spread: float) -> tuple[float, float]:
    """The share of values beyond the range, and how much of the spread goes with them in parts of what may."""
    outside = np.abs(value - kept)
    return float(np.mean(outside > step)), float(np.sqrt(np.mean(np.square(outside)))) / spread / LOST


def _spread(value: Array) -> float:
    return float(value.std()) or float(np.abs(value).max()) or 1.0


def _ratio(error: Array, tolerance: Array) -> float:
    squares, allowed = np.square(error), np.square(tolerance)
    if error.ndim > 1:
        axes = tuple(axis for axis in range(error.ndim) if axis != 1)
        if error.size // error.shape[1] >= _FEW:
            squares, allowed = squares.mean(axes), allowed.mean(axes)
    ratio = float(np.sqrt(np.max(squares / np.maximum(allowed, _TINY))))
    return math.inf if math.isnan(ratio) else ratio


def resembles(array: Array, other: Array) -> bool:
    """Whether one may be the other, computed in another order: an engine shows its inner values less fused."""
    distance = float(np.sqrt(np.mean(np.square(array.ravel() - other.ravel()))))
    return distance <= RESEMBLES * (float(other.std()) or float(np.abs(other).max()))


def apart(array: Array, end: Array) -> float:
    """How far ``array`` is from an output, relative to the spread of the channel where that is most."""
    axes = tuple(axis for axis in range(end.ndim) if axis != 1)
    far = np.sqrt(np.square(array - end).mean(axes))
    size = np.maximum(end.std(axes), np.abs(end).max(axes) / _PARTS)
    return float(np.max(far / np.maximum(size, _TINY)))
