"""Cluttered digits: the reference network's data, drawn from scikit-learn's handwritten digits.

One digit, 36 to 54 px large, is placed at random in a 96 x 96 canvas among darker fragments of other digits; the label
is that of the whole digit. A seed determines everything, so the data is regenerated and never stored. Needs
scikit-learn.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UnavailableError

SIZE = 96
CLASSES = 10
#: How many of scikit-learn's 1,797 digit instances are for training; the others appear only in the held-out set.
TRAIN_INSTANCES = 1400

Split = Literal["train", "held-out"]

_FRAGMENTS = 5
_SPLIT_SEED = 2020


def cluttered_digits(split: Split, count: int, seed: int) -> tuple[Array, Array]:
    """Draw ``count`` images, float32 ``[count, 1, 96, 96]`` in 0..1, and their labels, int64 ``[count]``.

    The two splits share no digit instance, not even in the clutter. NumPy's legacy generator is used because its stream
    is frozen: the same seed gives the same images with every NumPy version.
    """
    digits, labels = _instances(split)
    random = np.random.RandomState(seed)
    images = np.empty((count, 1, SIZE, SIZE), np.float32)
    chosen = np.empty(count, np.int64)
    for row in range(count):  # one after the other, so that the first k images do not depend on count
        chosen[row] = random.randint(len(digits))
        images[row, 0] = _draw(digits, digits[chosen[row]], random)
    return images, labels[chosen].astype(np.int64)


@cache
def _instances(split: Split) -> tuple[Array, Array]:
    """The digits of one split, ``[n, 8, 8]`` in 0..1, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "the cluttered digits need scikit-learn, which is not installed", todo="pip install scikit-learn"
        ) from error
    found = load_digits()
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(found.target))
    mine = order[:TRAIN_INSTANCES] if split == "train" else order[TRAIN_INSTANCES:]
    return found.images[mine] / 16.0, found.target[mine]


def _draw(digits: Array, digit: Array, random: np.random.RandomState) -> Array:
    """One canvas: fragments (4 x 4 of a digit's 8 x 8) and the digit; where both are, the brighter wins."""
    canvas = np.zeros((SIZE, SIZE))
    for _ in range(_FRAGMENTS):
        other = digits[random.randint(len(digits))]
        top, left = random.randint(5, size=2)
        _paste(canvas, _warp(other[top : top + 4, left : left + 4], 22, random), random, (0.3, 0.65))
    _paste(canvas, _warp(digit, random.randint(36, 55), random), random, (0.7, 1.0))
    return canvas


def _paste(canvas: Array, patch: Array, random: np.random.RandomState, brightness: tuple[float, float]) -> None:
    """Paste ``patch`` at a random position fully inside ``canvas``, with a random brightness."""
    side = len(patch)
    top, left = random.randint(SIZE - side + 1, size=2)
    area = canvas[top : top + side, left : left + side]
    np.maximum(area, patch * random.uniform(*brightness), out=area)


def _warp(digit: Array, side: int, random: np.random.RandomState) -> Array:
    """``digit`` enlarged bilinearly to ``side`` x ``side``, rotated by up to 12 degrees and slightly sheared."""
    angle, shear = random.uniform(-0.21, 0.21), random.uniform(-0.15, 0.15)
    scale = (len(digit) + 1) / side
    turn = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]]) * scale
    steps = np.arange(side) - (side - 1) / 2
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    padded = np.pad(digit, 2)
    middle = (len(padded) - 1) / 2
    y = np.clip(turn[0, 0] * rows + turn[0, 1] * columns + middle, 0, len(padded) - 1.001)
    x = np.clip(turn[1, 0] * rows + turn[1, 1] * columns + middle, 0, len(padded) - 1.001)
    top, left = y.astype(int), x.astype(int)
    v, u = y - top, x - left
    upper = padded[top, left] * (1 - u) + padded[top, left + 1] * u
    lower = padded[top + 1, left] * (1 - u) + padded[top + 1, left + 1] * u
    warped: Array = upper * (1 - v) + lower * v
    return warped
