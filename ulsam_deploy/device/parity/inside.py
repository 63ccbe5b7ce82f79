"""Is the attention of each block still there? Read inside a running artifact, at the block. numpy only; device-safe.

In int8, the smallest change before a block alters every rounding after it. In a network with few outputs, that noise
hides a small step even when an artifact is compared with its own ablation. At the block itself, artifact and ablation
have the same input, so their difference is exactly what the attention adds, rounded as the artifact stores it for the
next product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ulsam_deploy.device.arrays import Array

#: A retention and the ends of its interval.
Reading = tuple[float, float, float]

#: A tensor counts as changed from this fraction of its size on: engines fuse an ablation differently, and sum in
#: another order.
_CHANGED = 1e-5
#: A tensor within the first distance is the block's result, including upstream errors; a tensor within the second
#: distance of that one is the same result stored again.
_RESULT, _STORED_AGAIN = 0.5, 0.05
_SIGMAS = 3.0


@dataclass(frozen=True)
class Added:
    """What a block of the reference computes, in float64.

    ``result`` and the part of it that its attention adds are (N, C, H, W), its attention ``maps`` (N, g, H, W).
    """

    result: Array
    added: Array
    maps: Array


class Inside:
    """Collects, batch by batch, the effect of one block's attention inside an artifact."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float]] = []
        self._found = True

    def note(self, reference: Added, whole: Mapping[str, Array], ablation: Mapping[str, Array]) -> None:
        """Add one batch: all values inside the artifact and inside its ablation, by name, in execution order."""
        names = [name for name in whole if name in ablation and whole[name].shape == ablation[name].shape]
        changed = (place for place, name in enumerate(names) if _distance(whole[name], ablation[name]) > _CHANGED)
        first = next(changed, None)
        total = float(np.square(reference.added).sum())
        if first is None:  # removing the attention changes no value inside the artifact
            self._rows.append((0.0, total))
            return
        candidates = [name for name in names[first:] if whole[name].size == reference.result.size]
        pairs = [(_like(reference.result, whole[name]), name) for name in candidates]
        # The block's input is as near: a view of it may come after the maps, before the product with them.
        size = reference.result.size
        before = [_like(reference.result, whole[name]) for name in names[:first] if whole[name].size == size]
        pairs = [pair for pair in pairs if not any(np.array_equal(pair[0], value) for value in before)]
        near = [(value, name) for value, name in pairs if _distance(value, reference.result) < _RESULT]
        if not near:
            self._found = False
            return
        same = [(v, name) for v, name in near if _distance(v, near[0][0]) < _STORED_AGAIN]
        effects = [value - _like(reference.result, ablation[name], value) for value, name in same]
        self._rows.append((min(float((effect * reference.added).sum()) for effect in effects), total))

    def reading(self) -> Reading | None:
        """The retention, with an interval of three jackknife standard errors over batches.

        ``None`` if the block's result was not found, or fewer than two batches were added.
        """
        if not self._found or len(self._rows) < 2 or not sum(total for _, total in self._rows):
            return None
        dots, totals = np.array(self._rows).T
        value, count = float(dots.sum() / totals.sum()), len(dots)
        without = (dots.sum() - dots) / np.maximum(totals.sum() - totals, np.finfo(float).tiny)
        half = _SIGMAS * math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
        return value, value - half, value + half


def _distance(one: Array, other: Array) -> float:
    size = float(np.linalg.norm(other.astype(np.float64)))  # the squares of float16 values overflow in float16
    return float(np.linalg.norm(one.astype(np.float64) - other)) / size if size else float(np.any(one))


def _like(reference: Array, value: Array, chosen: Array | None = None) -> Array:
    """``value`` in the layout of ``reference`` (NCHW): unchanged or from channels last, whichever is nearer to it.

    With ``chosen``, the other version of the tensor in that layout, whichever form is nearer to ``chosen``.
    """
    forms = [np.asarray(value, np.float64).reshape(reference.shape)]
    if value.ndim == 4 and value.shape == tuple(reference.shape[i] for i in (0, 2, 3, 1)):
        forms.append(np.asarray(value, np.float64).transpose(0, 3, 1, 2))
    target = reference if chosen is None else chosen
    return min(forms, key=lambda form: float(np.linalg.norm(form - target)))
