"""The calibration set: real inputs that int8 takes its ranges from, read and checked before anything is quantized.

numpy only, except for images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.types import Calibration, TensorSpec
from ulsam_deploy.inputs import probes as own_probes

#: With fewer samples, ranges depend on chance: after n samples, the next one exceeds an activation's observed range
#: with a probability of about 1/n.
FEW = 32
#: The number of samples that are kept for checking and give no range; never more than a quarter of the set.
HELD_OUT = 48
#: Two samples with a smaller relative distance are the same image, stored or compressed again.
_NEAR = 0.05


def read_calibration(
    path: Path, inputs: Sequence[TensorSpec], preprocessing: Preprocessing | None = None
) -> Calibration:
    """Read the samples in ``path``: a folder of images or ``.npy`` files, or an ``.npz``, in the same way as probes.

    ``inputs`` are the network's. Raises :class:`UsageError` as :func:`ulsam_deploy.inputs.probes.read` does.
    """
    shapes = {spec.name: tuple(size or 1 for size in spec.shape[1:]) for spec in inputs}
    arrays, _ = own_probes.read(path, shapes, preprocessing)
    return Calibration(arrays, digest(arrays))


def digest(arrays: ArrayMap) -> str:
    """SHA-256 over names, shapes and values of preprocessed ``arrays``, in hexadecimal."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype=np.float32)
        sha.update(f"{name}\0{array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class CalibrationSplit:
    """The samples that ranges are taken from, and those kept for checking, ``(N, ...)`` by input."""

    ranges: Calibration
    held_out: ArrayMap


def split(whole: Calibration, batch: int) -> CalibrationSplit:
    """Split off the samples to check on: evenly spread over ``whole``, in whole batches of ``batch``.

    Raises :class:`UsageError` if that leaves nothing to take ranges from.
    """
    total = whole.count
    wanted = -(-max(1, min(HELD_OUT, total // 4)) // batch) * batch
    if wanted >= total:
        raise UsageError(
            f"the calibration set has {total} samples, and {wanted} of them are needed to check on",
            expected="some hundred samples",
        )
    chosen = np.zeros(total, bool)
    chosen[np.linspace(0, total - 1, wanted).round().astype(int)] = True
    kept = {name: array[~chosen] for name, array in whole.arrays.items()}
    held_out = {name: array[chosen] for name, array in whole.arrays.items()}
    return CalibrationSplit(Calibration(kept, whole.digest), held_out)


def note(calibration: Calibration) -> str:
    """One sentence that the user should know about the set; empty if there is none."""
    few = calibration.count
    if few >= FEW:
        return ""
    return f"the calibration set has {few} samples: ranges from fewer than {FEW} are left to chance"


def check_disjoint(calibration: Calibration, probes: ArrayMap, names: Sequence[str]) -> None:
    """Raise :class:`UsageError` if a sample is one of ``probes`` (``(P, ...)`` by input), called ``names``.

    A check on the same inputs that the ranges were taken from would show nothing about others. Equal or nearly equal
    values count as the same; constant samples, such as black images, are ignored.
    """
    for name, samples in calibration.arrays.items():
        flat = samples.reshape(len(samples), -1)
        others = probes[name].reshape(len(probes[name]), -1)
        telling = np.ptp(flat, 1) > 0
        sizes = np.einsum("nd,nd->n", flat, flat, dtype=np.float64)
        for row, other in enumerate(others):
            square = float(other @ other)
            apart = sizes - 2 * (flat @ other).astype(np.float64) + square
            near = np.flatnonzero(telling & (apart <= _NEAR**2 * square))
            if len(near):
                raise UsageError(
                    f"sample {near[0]} of the calibration set is the probe '{names[row]}'",
                    expected="samples that the artifact is not checked on",
                    todo="take it out of one of the two",
                )
