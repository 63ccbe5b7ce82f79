"""Statistics of a list of times: percentiles, and the upper bounds that the number of samples allows.

Standard library and numpy only; device-safe.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ulsam_deploy.device.findings import Summary

__all__ = ["CONFIDENCE", "Summary", "early_stopping", "fewest_samples", "percentile", "summarize"]

#: The confidence of an early-stopping bound (MLPerf Inference uses the same figure).
CONFIDENCE = 0.99


def percentile(samples: npt.ArrayLike, share: float) -> float:
    """The value that ``share`` (0 to 1) of the samples do not exceed, interpolated linearly between two of them.

    Definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American Statistician 50 (1996):
    with the n samples in order, the value at position ``(n - 1) * share``, counting from 0. ``numpy.percentile`` does
    the same, so readers can check our figures with it. Raises :class:`ValueError` without samples.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    if not ordered.size or not 0.0 <= share <= 1.0:
        raise ValueError(f"the {share:.0%} percentile of {ordered.size} samples isn't defined")
    position = (ordered.size - 1) * share
    below = math.floor(position)
    above = min(below + 1, ordered.size - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (position - below))


def early_stopping(samples: npt.ArrayLike, share: float) -> float | None:
    """An upper bound of the true ``share`` percentile with 99 % confidence; ``None`` with too few samples.

    MLPerf Inference rules, "Early Stopping" for SingleStream (tolerance 0): let t be the largest number with
    ``P(Binomial(n, 1 - share) <= t) <= 0.01``; drop the t - 1 slowest of the n samples and report the slowest left.
    It needs t >= 1, hence at least 11 samples for p50, 64 for p90, 130 for p95 and 662 for p99. Samples are assumed to
    be independent: throttling during a run invalidates the bound, which is why the machine is watched.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    over = _most_over(ordered.size, 1.0 - share)
    return float(ordered[ordered.size - over]) if over >= 1 else None


def fewest_samples(share: float) -> int:
    """How many samples :func:`early_stopping` needs for this percentile."""
    count = 1
    while _most_over(count, 1.0 - share) < 1:
        count += 1
    return count


def summarize(nanoseconds: npt.ArrayLike) -> Summary:
    """The :class:`Summary` of samples in nanoseconds; raises :class:`ValueError` without samples."""
    times = np.asarray(nanoseconds, dtype=np.float64) / 1e6
    if not times.size:
        raise ValueError("no samples to summarize")
    figures: dict[str, Any] = {}
    for share in (0.50, 0.90, 0.95, 0.99):
        bound = early_stopping(times, share)
        figures[f"p{share * 100:.0f}_bound"] = bound
        figures[f"p{share * 100:.0f}"] = None if bound is None else percentile(times, share)
    return Summary(count=times.size, mean=float(times.mean()), min=float(times.min()), **figures)


def _most_over(count: int, chance: float) -> int:
    """The largest t with ``P(Binomial(count, chance) <= t) <= 1 - CONFIDENCE``; -1 if even t = 0 is too likely.

    Summed in logarithms, because ``(1 - chance) ** count`` underflows with less than a minute of samples.
    """
    if count == 0:
        return -1
    hits = np.arange(count, dtype=np.float64)
    steps = np.log((count - hits) / (hits + 1.0)) + math.log(chance) - math.log1p(-chance)
    log_mass = count * math.log1p(-chance) + np.concatenate([[0.0], np.cumsum(steps)])
    cumulative = np.cumsum(np.exp(log_mass))
    return int(np.searchsorted(cumulative, 1.0 - CONFIDENCE, side="right")) - 1
