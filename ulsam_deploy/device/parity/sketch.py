"""Bounds the size of an output while every element still counts. numpy only; device-safe.

A dense output (a segmentation map, a feature map) is stored as its *count sketch*: every element is added, with a fixed
pseudo-random sign, to one of :data:`LIMIT` sums. The sketch is linear, so differences and least squares can be computed
on sketches; it preserves the expected L2 norm; and, unlike a selection of positions, it depends on each element and its
position: one wrong pixel changes one sum, a transposed map changes nearly all.

Source: Charikar, Chen, Farach-Colton, "Finding frequent items in data streams", 2002. The signs come from SplitMix64
(Steele, Lea, Flood 2014) and not from ``numpy.random``, whose streams may change between versions of numpy: host and
device may have different ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ulsam_deploy.device.arrays import Array

#: Values stored per probe and output: 1000-class logits stay exact, a dense output is sketched.
LIMIT = 4096


def compact(array: Array) -> Array:
    """``array`` (P, ...) as float64 (P, K): flattened where K <= :data:`LIMIT`, else its count sketch of LIMIT sums."""
    rows = np.asarray(array)
    rows = rows.reshape(rows.shape[0], int(np.prod(rows.shape[1:])))
    if rows.shape[1] <= LIMIT:
        return rows.astype(np.float64)
    places, signs = _hash(rows.shape[1])
    return np.stack([np.bincount(places, weights=signs * row, minlength=LIMIT) for row in rows])


@lru_cache(maxsize=4)
def _hash(size: int) -> tuple[Array, Array]:
    """The sum that each of ``size`` elements is added to (intp), and its sign (float64)."""
    word = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    places = (word >> np.uint64(52)).astype(np.intp)  # the 12 highest bits: 0 .. LIMIT - 1
    return places, 1.0 - 2.0 * (word & np.uint64(1)).astype(np.float64)
