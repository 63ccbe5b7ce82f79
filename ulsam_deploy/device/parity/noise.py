"""How far control runs differ from the float64 reference, and so how far an artifact may. numpy only; device-safe.

Three statistics, all relative to the root mean square of the reference output of each probe: ``l2``, the root mean
square error of a probe, detects errors that are spread out; ``peak``, the largest error of one element, detects local
errors that would vanish in the mean of a large output; ``drift``, over all probes, is the largest sum of one element's
errors divided by the square root of the number of probes. Rounding errors have another direction on each probe, so the
drift of a sound artifact is no larger than its peaks, while the errors of a wrong weight have one direction and add up:
one of 12800 weights off by 1 % in a noisy network was at 6x noise of ``peak`` and 15 of ``drift``. Each statistic has
its own floor, because the largest of N sound errors is several times their root mean square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import Floor
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.thresholds import INT8_TOLERANCE, TOLERANCE

#: The least floor, in unit roundoffs of float32: a run may happen to equal the reference on few probes.
_MIN_ROUNDOFFS = 4.0
_ROUNDOFF = 2.0**-24

#: A probe whose reference is smaller than this fraction of the median probe's is measured relative to that instead.
_DEGENERATE = 1e-3


def tolerance_of(precision: str) -> float:
    """The tolerance of ``precision``, in noise floors."""
    return INT8_TOLERANCE if precision.startswith("int8") else TOLERANCE


def scales(reference: Array) -> Array:
    """The size of each probe's output, float64 (P,): its root mean square, kept positive for degenerate probes.

    ``reference`` is compact, (P, K). An output that is zero on every probe has scale 1: errors are then absolute.
    """
    rms = np.sqrt(np.mean(np.square(reference), axis=1))
    present = rms[rms > 0]
    if present.size == 0:
        return np.ones_like(rms)
    guarded: Array = np.maximum(rms, _DEGENERATE * float(np.median(present)))
    return guarded


def relative(delta: Array, scale: Array) -> tuple[Array, Array]:
    """The statistics ``(l2, peak)``, each float64 (P,), of the differences ``delta`` (P, K) at ``scale`` (P,)."""
    return np.sqrt(np.mean(np.square(delta), axis=1)) / scale, np.max(np.abs(delta), axis=1) / scale


def drift(delta: Array, scale: Array) -> float:
    """The drift of the errors ``delta`` (P, K) at ``scale`` (P,): their sum in the element where it is largest."""
    return float(np.max(np.abs(np.sum(delta / scale[:, None], axis=0)))) / math.sqrt(len(delta))


def noise_floors(reference: ArrayMap, controls: Sequence[ArrayMap]) -> dict[str, Floor]:
    """The floor of each output from at least one control run: the largest error over runs and probes.

    The maximum, not a mean or quantile: it needs no assumption about the distribution of errors, and is still usable
    with two or three runs.

    Args:
        reference: Float64 outputs (P, ...) by name.
        controls: The same outputs from runs in the requested precision.

    Raises:
        ExportError: There are no runs, or one is not finite.
    """
    if not controls:
        raise ExportError("no control run was given to measure the noise floor", expected="at least one run")
    return {
        name: _floor(name, compact(outputs), [run[name] for run in controls]) for name, outputs in reference.items()
    }


def _floor(name: str, reference: Array, runs: Sequence[Array]) -> Floor:
    scale = scales(reference)
    lowest = _MIN_ROUNDOFFS * _ROUNDOFF
    l2, peak = lowest, lowest * max(1.0, float(np.max(relative(reference, scale)[1])))
    drifts = [peak]
    # The largest of K sums of undirected noise is about this many times its root mean square. Without this minimum, a
    # few runs whose errors happen to cancel out would give a floor that sound engines exceed.
    chance = math.sqrt(2.0 * math.log(2.0 * reference.shape[1]))
    for run in runs:
        if not np.all(np.isfinite(run)):
            raise ExportError(
                f"the PyTorch model itself gives values that are not finite in output '{name}'",
                expected="finite outputs on every probe",
                todo="look for an overflow in the model, or use probes of a smaller range",
            )
        delta = compact(run) - reference
        run_l2, run_peak = relative(delta, scale)
        drifts += [drift(delta, scale), chance * float(np.sqrt(np.mean(np.square(run_l2))))]
        l2, peak = max(l2, float(run_l2.max())), max(peak, float(run_peak.max()))
    return Floor(l2, peak, len(runs), max(drifts))


def explain(output: str, floor: Floor, tolerance: float = TOLERANCE) -> str:
    """One sentence with the figures behind the tolerance of ``output``."""
    runs = "1 control run" if floor.runs == 1 else f"{floor.runs} control runs"
    return (
        f"Output '{output}' may differ from the float64 reference by {tolerance:g} noise floors: the floor, the "
        f"largest relative error of {runs} over all probes, is {floor.l2:.1e} (root mean square) and {floor.peak:.1e} "
        f"(largest element), so that {tolerance * floor.l2:.1e} and {tolerance * floor.peak:.1e} are allowed"
        + (f"; what adds up over the probes, {tolerance * floor.drift:.1e}." if floor.drift is not None else ".")
    )


def as_json(floors: dict[str, Floor]) -> dict[str, Any]:
    """``floors`` as JSON values; unknown figures are omitted."""
    return {
        name: {key: value for key, value in asdict(floor).items() if value is not None}
        for name, floor in floors.items()
    }
