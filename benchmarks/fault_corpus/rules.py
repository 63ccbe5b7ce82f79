"""How other tools decide whether an artifact is right, applied to the same outputs of the same probes.

``y`` is what float32 PyTorch gives, as in those tools, and ``z`` what the artifact gave; both (P, ...).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def close(y: Array, z: Array) -> bool:
    """``numpy.allclose`` at atol = rtol = 1e-5."""
    return bool(np.allclose(z, y, rtol=1e-5, atol=1e-5))


def psnr(y: Array, z: Array) -> bool:
    """A peak signal-to-noise ratio of at least 30 dB."""
    mean = float(np.mean(np.square(z.astype(np.float64) - y)))
    return mean == 0 or bool(10 * np.log10(float(np.max(np.abs(y))) ** 2 / mean) >= 30)


def cosine(y: Array, z: Array) -> bool:
    """Cosine of each probe at least 0.999 and no difference above 5e-2."""
    a, b = y.reshape(len(y), -1).astype(np.float64), z.reshape(len(z), -1).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool(np.all((a * b).sum(1) >= 0.999 * lengths) and np.max(np.abs(a - b)) <= 5e-2)


def counts(y: Array, z: Array) -> bool:
    """No difference above 0.1 and at most one in a hundred above 0.01."""
    apart = np.abs(z - y)
    return bool(np.max(apart) <= 0.1 and np.mean(apart > 0.01) <= 0.01)


def top1(y: Array, z: Array) -> bool:
    """The same largest element on every probe (axis 1: classes)."""
    return bool(np.all(y.argmax(1) == z.argmax(1)))


RULES: dict[str, Callable[[Array, Array], bool]] = {
    "atol = rtol = 1e-5": close,
    "PSNR 30 dB": psnr,
    "cosine .999, max 5e-2": cosine,
    "counts > 0.1, > 0.01": counts,
    "top-1 agreement": top1,
}


def passes(rule: Callable[[Array, Array], bool], y: dict[str, Array], z: dict[str, Array]) -> bool:
    """Whether every output is there, of the right shape, finite, and right by ``rule``."""
    return all(
        name in z and z[name].shape == y[name].shape and bool(np.all(np.isfinite(z[name]))) and rule(y[name], z[name])
        for name in y
    )
