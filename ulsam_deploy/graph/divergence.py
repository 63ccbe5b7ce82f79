"""Finds where an artifact first goes wrong: matches its inner values with those of the network's modules, by value.

No name survives all converters. But a value that an artifact computes correctly is, up to layout and rounding, also a
value of the network, and thousands of numbers do not match by chance. So a module whose result is found inside the
artifact is right. The artifact goes wrong at the first module after these whose result is not found, and neither is
anything that follows from it. numpy only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from ulsam_deploy.device.arrays import Array

#: A value agrees if it is within this many times its noise. Tighter than the check's tolerance: the artifact is known
#: to be wrong, and a correct value outside does no harm as long as anything that follows from it is inside.
NEAR = 3.0

#: A value whose distance from a module's is below this part of the variation in it is that module's wrong result, and
#: not another value: flat maps are all near each other. It only decides which module is named: the one that a converter
#: fused the wrong one into.
_SIMILAR = 0.2


@dataclass(frozen=True)
class Point:
    """The tensor that leaves a module: its path, float64 value in PyTorch's layout, relative noise of a control run.

    ``behind`` are the numbers of the points that it directly depends on; smaller than its own.
    """

    path: str
    value: Array
    noise: float
    behind: tuple[int, ...]


@dataclass(frozen=True)
class Divergence:
    """Where an artifact diverges from the network.

    Attributes:
        module: The first module that differs; empty if every inner value agrees.
        after: The last module before it that agrees; empty for the input.
        error: The relative error of the artifact's value for the module's result; ``None`` if no such value was found.
    """

    module: str
    after: str
    error: float | None

    def sentence(self) -> str:
        """One sentence for a report."""
        if not self.module:
            return (
                "Where: after all modules, whose results agree while the engine exposes its inner values: in how its "
                "outputs are computed from them, or in what it fuses or selects when it does not expose them."
            )
        size = "" if self.error is None else f", by {self.error:.1e} of its size"
        if not self.after:
            return (
                f"Where: '{self.module}' is the first that differs{size}, and no module before it agrees: other "
                f"weights (or these in float16: --precision fp16), another preprocessing, another layout of the input?"
            )
        return f"Where: '{self.module}' is the first module that differs{size}; '{self.after}' still agrees."


def first_divergence(points: Sequence[Point], values: Mapping[str, Array]) -> Divergence:
    """Find the first of ``points`` (in graph order) that is not among ``values``, the inner tensors of an artifact."""
    distances = _distances(points, values)
    right = [distance <= NEAR * point.noise for distance, point in zip(distances, points)]
    # A point counts as right if it is found, or if everything that directly follows from it is found. "Everything",
    # because of a tensor with one wrong channel, most results of single channels are right.
    reached = list(right)
    for number in range(len(points) - 1, -1, -1):
        followers = [reached[n] for n, point in enumerate(points) if number in point.behind]
        reached[number] = right[number] or (bool(followers) and all(followers))
    if all(reached):
        return Divergence("", "", None)
    first = reached.index(False)
    after = _last_right(first, points, right)
    seen = next((n for n in _onwards(first, points) if distances[n] < _SIMILAR * _contrast(points[n].value)), None)
    if seen is None:
        return Divergence(_named(points[first].path), after, None)
    return Divergence(_between(points[first].path, points[seen].path, after), after, distances[seen])


def _contrast(value: Array) -> float:
    """The variation of ``value`` relative to its size: 1 if its mean is zero."""
    return float(value.std()) / float(np.sqrt(np.mean(np.square(value))))


def _last_right(first: int, points: Sequence[Point], right: Sequence[bool]) -> str:
    """The path of the last matched point before ``first``; empty if there is none."""
    front = set(points[first].behind)
    for number in range(first - 1, -1, -1):
        if number in front:
            if right[number]:
                return _named(points[number].path)
            front.update(points[number].behind)
    return ""


def _onwards(first: int, points: Sequence[Point]) -> list[int]:
    """``first`` and all points that follow from it, in graph order."""
    follow = {first}
    for number in range(first + 1, len(points)):
        if follow.intersection(points[number].behind):
            follow.add(number)
    return sorted(follow)


def _named(path: str) -> str:
    return path or "forward"


def _between(first: str, seen: str, after: str) -> str:
    """The innermost module around ``first`` and ``seen``; both of them if that module contains ``after`` as well."""
    if first == seen:
        return _named(first)
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first.split("."), seen.split(".")))
    around = ".".join(part for part, _ in shared)
    return f"{_named(first)} .. {_named(seen)}" if not around or f"{after}.".startswith(f"{around}.") else around


def _distances(points: Sequence[Point], values: Mapping[str, Array]) -> list[float]:
    """The distance of each point, relative to its norm, to the artifact's nearest value; infinite if none fits."""
    sizes: dict[int, list[tuple[float, Array]]] = defaultdict(list)
    wanted = {point.value.size for point in points}
    for array in values.values():
        if array.size in wanted and np.all(np.isfinite(array)):
            flat = array.astype(np.float64).ravel()
            sizes[array.size].append((float(np.linalg.norm(flat)), flat))
    return [_nearest(point.value, sizes[point.value.size]) for point in points]


def _nearest(value: Array, candidates: Sequence[tuple[float, Array]]) -> float:
    forms = [value.ravel()] + ([np.moveaxis(value, 1, -1).ravel()] if value.ndim > 2 else [])
    norm = float(np.linalg.norm(value))
    best = np.inf
    for size, flat in sorted(candidates, key=lambda candidate: abs(candidate[0] - norm)):
        if abs(size - norm) >= best * norm:  # by the triangle inequality, no later one is nearer
            break
        best = min(best, *(float(np.linalg.norm(flat - form)) / norm for form in forms))
    return best
