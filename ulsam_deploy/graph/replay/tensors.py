"""The tensors that an artifact shows inside, to be compared with a node's value in any axis order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap

_SAMPLE = 256
#: The most values that a tensor of 8 bits has.
_LEVELS = 256
#: How many steps the two nearest values of a tensor may be apart, and how far from a whole step a value may be.
_PARTS, _OFF = 8, 0.02
#: Channels with fewer elements are compared element by element.
_FEW = 8


@dataclass(frozen=True)
class Form:
    """One tensor of the artifact in the axis order of a node's value; ``step``: that of its 8 bits, 0 for a float."""

    name: str
    array: Array
    step: float


@dataclass(frozen=True)
class Distance:
    """How far a tensor is from a node's value: in tolerances, and relative to the value's spread; what is clipped."""

    ratio: float
    relative: float
    clipped: float


class Inner:
    """All tensors inside an artifact for one batch."""

    def __init__(self, values: ArrayMap, *, quantized: bool) -> None:
        """``quantized``: some tensors may have been 8 bits."""
        self._sizes: dict[int, list[tuple[str, Array]]] = defaultdict(list)
        self._steps: dict[str, float] = {}
        self._quantized = quantized
        for name, array in values.items():
            if array.ndim and array.size > 1 and np.all(np.isfinite(array)):
                self._sizes[array.size].append((name, array))

    def forms(self, value: Array) -> Iterator[Form]:
        """Every tensor with the size of ``value``, in each axis order that it can have; nearest on a sample first."""
        chosen = np.random.default_rng(0).integers(0, value.size, min(value.size, _SAMPLE))
        wanted = value.ravel()[chosen]
        found: list[tuple[float, int, str, Array]] = []
        for name, array in self._sizes.get(value.size, ()):
            for form in orders(array):
                places = np.unravel_index(chosen, form.shape)
                found.append((float(np.square(form[places].astype(np.float64) - wanted).sum()), len(found), name, form))
        for _, _, name, form in sorted(found, key=lambda one: one[:2]):
            yield Form(name, form.astype(np.float64).reshape(value.shape), self._step(name, form))

    def _step(self, name: str, array: Array) -> float:
        if not self._quantized:
            return 0.0
        if name not in self._steps:
            self._steps[name] = _grid(array)
        return self._steps[name]


def orders(array: Array) -> Iterator[Array]:
    """``array``, and with its channels moved from last to second, and from second to last."""
    yield array
    if array.ndim > 2:
        for source, target in ((-1, 1), (1, -1)):
            moved = np.moveaxis(array, source, target)
            yield moved


def _grid(array: Array) -> float:
    """The step of the grid that all values lie on, if it has at most 256 levels; 0 otherwise."""
    levels = np.unique(array.astype(np.float64))
    if not 2 < len(levels) <= _LEVELS:
        return 0.0
    gap = float(np.diff(levels).min())
    for parts in range(1, _PARTS + 1):  # of few values, no two need be neighbours
        step = gap / parts
        counts = (levels - levels[0]) / step
        if counts[-1] >= _LEVELS:
            return 0.0
        if np.abs(counts - np.round(counts)).max() < _OFF:
            return step
    return 0.0


def distance(value: Array, tolerance: Array, form: Form, uniform: float) -> Distance:
    """Compare ``form`` with ``value``, whose honest uncertainty is ``tolerance``; the worst channel decides.

    Args:
        value: The float64 result of the operator.
        tolerance: Root mean square of what it may be off by, for each element.
        form: The artifact's tensor.
        uniform: Root mean square of rounding to steps of 1.
    """
    error = np.where(form.array == value, 0.0, form.array - value)  # infinities are equal, too
    clipped = 0.0
    if form.step:
        tolerance = np.sqrt(np.square(tolerance) + (form.step * uniform) ** 2)
        low, high = form.array.min(), form.array.max()
        outside = ((form.array == low) & (error > form.step)) | ((form.array == high) & (error < -form.step))
        clipped = float(outside.mean())
        if clipped <= CLIPPED:
            error = np.where(outside, 0.0, error)
    spread = float(value.std()) or float(np.abs(value).max()) or 1.0
    relative = float(np.sqrt(np.mean(np.square(error)))) / spread
    return Distance(_ratio(error, np.broadcast_to(tolerance, value.shape)), relative, clipped)


#: The share of elements that may lie outside the range of an honest quantizer.
CLIPPED = 0.02
_TINY = 1e-300


def _ratio(error: Array, tolerance: Array) -> float:
    squares, allowed = np.square(error), np.square(tolerance)
    if error.ndim > 1:
        axes = tuple(axis for axis in range(error.ndim) if axis != 1)
        if error.size // error.shape[1] >= _FEW:
            squares, allowed = squares.mean(axes), allowed.mean(axes)
    ratio = float(np.sqrt(np.max(squares / np.maximum(allowed, _TINY))))
    return math.inf if math.isnan(ratio) else ratio
