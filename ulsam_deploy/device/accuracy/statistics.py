"""Intervals of accuracies, and tests whether one artifact is less accurate than another.

Standard library only; device-safe.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from ulsam_deploy.device.findings import Paired

__all__ = ["CONFIDENCE", "Paired", "exact", "mcnemar", "paired", "wilson"]

#: The confidence of every interval here, two-sided.
CONFIDENCE = 0.95


def wilson(right: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a share, ``right`` of ``count``: E. B. Wilson's score interval.

    "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927); recommended by Brown, Cai
    and DasGupta, "Interval Estimation for a Binomial Proportion", Statistical Science 16 (2001), because its coverage
    is right near 0 and 1, unlike the textbook interval's. With z the normal quantile, p = right / count and n = count:
    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``. Raises :class:`ValueError` for invalid
    counts.
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"{right} of {count} is not a fraction")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = right / count, z * z / count
    middle = share + weight / 2
    half = z * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    # The ends are exact if nothing, or everything, is right: rounding must not move them.
    return (0.0 if right == 0 else low), (1.0 if right == count else high)


def exact(right: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a share, ``right`` of ``count``, that never claims more confidence than it has.

    Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", Biometrika
    26 (1934): a share is outside if so many right ones, or so few, have a probability below half of the rest. Used
    where a verdict depends on it: near 1 and with few samples, Wilson's interval is too short. Raises
    :class:`ValueError` for invalid counts.
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"{right} of {count} is not a fraction")
    tail = (1 - confidence) / 2
    low = 0.0 if right == 0 else 1 - _highest(count - right, count, tail)
    return low, 1.0 if right == count else _highest(right, count, tail)


def _highest(right: int, count: int, tail: float) -> float:
    """The share at which at most ``right`` of ``count`` have probability ``tail``, by bisection."""
    low, high = right / count, 1.0
    for _ in range(60):
        share = (low + high) / 2
        at_most = sum(_binomial(number, count, share) for number in range(right + 1))
        low, high = (share, high) if at_most > tail else (low, share)
    return (low + high) / 2


def _binomial(right: int, count: int, share: float) -> float:
    ways = math.lgamma(count + 1) - math.lgamma(right + 1) - math.lgamma(count - right + 1)
    return math.exp(ways + right * math.log(share) + (count - right) * math.log1p(-share)) if 0 < share < 1 else 0.0


def mcnemar(lost: int, won: int) -> float:
    """The two-sided p value of McNemar's exact test: are ``lost`` and ``won`` compatible with a fair coin?

    Twice the smaller tail of Binomial(lost + won, 1/2), at most 1. McNemar, "Note on the sampling error of the
    difference between correlated proportions or percentages", Psychometrika 12 (1947); for classifiers, Dietterich,
    "Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms", Neural Computation 10
    (1998). The sum is in integers, so that a small tail does not underflow.
    """
    differing = lost + won
    term = total = 1
    for k in range(min(lost, won)):
        term = term * (differing - k) // (k + 1)
        total += term
    return float(min(1.0, 2 * total / 2**differing))


def paired(lost: int, won: int, count: int, confidence: float = CONFIDENCE) -> Paired:
    """The drop in accuracy from one classifier to another on the same samples, with its interval.

    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24
    (2005): Wald's interval after half a sample is added to each cell of the 2 x 2 table. The estimate itself is the
    plain one. Raises :class:`ValueError` for invalid counts.
    """
    if min(lost, won) < 0 or lost + won > count or count < 1:
        raise ValueError(f"{lost} lost and {won} won of {count} make no sense")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    total, difference = count + 2, (lost - won) / (count + 2)
    half = z * math.sqrt((lost + won + 1) / total - difference**2) / math.sqrt(total)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Paired(count, lost, won, (lost - won) / count, low, high, mcnemar(lost, won))
