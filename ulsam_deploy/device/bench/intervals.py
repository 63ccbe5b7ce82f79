"""Whether one artifact takes longer than another: block-bootstrap intervals for times that are not independent.

Consecutive times are not independent: another program on the machine, a warm cache or a changed clock affects many of
them, and an interval that assumes independence is far too narrow. So whole blocks are resampled, never single times:

* the unit is a *round*, a fresh process (or a pair of them), which absorbs effects that are shorter than a round;
* longer effects show as autocorrelation between rounds; blocks then have several rounds, as many as the rule of Politis
  and White finds best (:func:`block_length`), and with fewer than :data:`FEWEST_BLOCKS` blocks there is no interval at
  all. Differences of two sides that ran in turns keep that many blocks, if there are enough rounds.

With few blocks a bootstrap interval is too narrow. The remedy is the *expanded* percentile interval of Hesterberg,
"What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 5.3: percentiles further
out, by as much as Student's t is wider than the normal and the bootstrap's variance too small, (n - 1) / n.

Standard library and numpy only; device-safe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ulsam_deploy.device.findings import Interval

__all__ = [
    "CONFIDENCE", "FEWEST_BLOCKS", "Interval", "block_length", "log_times", "middle", "paired", "quantile_interval",
    "student", "unpaired",
]  # fmt: skip

#: The default confidence of each one-sided bound: equal builds are beyond one of them in 0.5 % of runs.
CONFIDENCE = 0.995
#: With fewer blocks, their variance is too uncertain.
FEWEST_BLOCKS = 6
RESAMPLES = 20000
_SEED = 20240731  # the same input gives the same verdict

Floats = npt.NDArray[np.float64]


def block_length(series: npt.ArrayLike) -> int:
    """The number of consecutive values of ``series`` (n,) in a block that is nearly independent of the others.

    Politis and White, "Automatic Block-Length Selection for the Dependent Bootstrap", Econometric Reviews 23 (2004),
    with the correction of Patton, Politis and White, Econometric Reviews 28 (2009), for the circular block bootstrap:
    ``b = (2 G^2 / D)^(1/3) n^(1/3)`` with ``G = sum lambda(k/M) |k| R(k)``, ``D = 4/3 (sum lambda(k/M) R(k))^2``, the
    flat-top window ``lambda(t) = min(1, 2 (1 - |t|))`` and ``M = 2 m``, m the lag after which autocorrelations stay
    below ``2 sqrt(log10(n) / n)`` for ``max(5, sqrt(log10 n))`` lags. At least 1, at most ``3 sqrt(n)`` and ``n / 3``.
    """
    values = np.asarray(series, dtype=np.float64)
    count = values.size
    most = math.ceil(min(3.0 * math.sqrt(count), count / 3.0))
    centred = values - values.mean()
    if count < 4 or not centred.any():
        return 1
    needed = max(5, math.ceil(math.sqrt(math.log10(count))))
    lags = min(math.ceil(math.sqrt(count)) + needed, count - 1)
    covariances = np.array([centred[: count - lag] @ centred[lag:] for lag in range(lags + 1)]) / count
    small = np.abs(covariances[1:] / covariances[0]) < 2.0 * math.sqrt(math.log10(count) / count)
    quiet = next((lag for lag in range(lags) if small[lag : lag + needed].all()), lags)
    window = min(2 * max(quiet, 1), lags)
    lag = np.arange(-window, window + 1)
    weighed = np.minimum(1.0, 2.0 * (1.0 - np.abs(lag) / window)) * covariances[np.abs(lag)]
    spread = 4.0 / 3.0 * weighed.sum() ** 2
    if spread <= 0.0 or quiet == 0:
        return 1
    best = (2.0 * (np.abs(lag) @ weighed) ** 2 / spread) ** (1.0 / 3.0) * count ** (1.0 / 3.0)
    return int(min(max(1.0, math.ceil(best)), most))


def log_times(rounds: Sequence[npt.ArrayLike], share: float = 0.5) -> Floats:
    """The logarithm of each round's ``share`` quantile, for :func:`paired` and :func:`unpaired`."""
    return np.log([np.quantile(np.asarray(each, dtype=np.float64), share) for each in rounds])


def middle(values: npt.ArrayLike) -> Floats:
    """The mean of the middle half along the last axis (the 25 % trimmed mean): one bad round in four has no effect."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    kept: Floats = ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)
    return kept


def paired(differences: npt.ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The ratio of current to baseline from one log ratio per round, whose two sides ran in turns.

    The ratio is the exponential of their :func:`middle`: a change between rounds (a warmer board, another program)
    affects both sides equally and cancels, and an effect on one side only is trimmed. Seeded. Raises
    :class:`ValueError` without rounds.
    """
    series = _rounds(differences)
    # Effects longer than a round mostly cancel in differences, and with few rounds their length is a guess.
    length = min(block_length(series), max(1, series.size // FEWEST_BLOCKS))
    found = _resampled(series, length, np.random.default_rng(_SEED))
    return _interval(float(middle(series)), found, series.size // length, length, confidence)


def unpaired(baseline: npt.ArrayLike, current: npt.ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The ratio of current to baseline from one log time per round, measured at different times.

    It cannot detect a drift of the machine between the two. Raises :class:`ValueError` without rounds.
    """
    sides = [_rounds(side) for side in (baseline, current)]
    length = max(block_length(side) for side in sides)
    generator = np.random.default_rng(_SEED)
    old, new = (_resampled(side, length, generator) for side in sides)
    estimate = float(middle(sides[1]) - middle(sides[0]))
    return _interval(estimate, new - old, min(side.size // length for side in sides), length, confidence)


def quantile_interval(rounds: Sequence[npt.ArrayLike], share: float, confidence: float = CONFIDENCE) -> Interval:
    """The ``share`` quantile of all times together, in their unit; each of ``rounds`` is an array (any count,)."""
    times = [np.asarray(each, dtype=np.float64) for each in rounds]
    length = block_length([np.quantile(each, share) for each in times])
    everything = np.concatenate(times)
    order = np.argsort(everything)
    owner = np.repeat(np.arange(len(times)), [each.size for each in times])[order]
    found = np.empty(RESAMPLES // 10)
    generator = np.random.default_rng(_SEED)
    for index, drawn in enumerate(_drawn(len(times), length, found.size, generator)):
        weight = np.cumsum(np.bincount(drawn, minlength=len(times))[owner])
        found[index] = everything[order[np.searchsorted(weight, share * weight[-1])]]
    estimate = math.log(np.quantile(everything, share))
    return _interval(estimate, np.log(found), len(times) // length, length, confidence)


def _rounds(values: npt.ArrayLike) -> Floats:
    series = np.asarray(values, dtype=np.float64)
    if not series.size:
        raise ValueError("no rounds to compare")
    return series


def _drawn(count: int, length: int, times: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices of the rounds in ``times`` resamples (times, count): circular blocks of ``length`` consecutive rounds."""
    starts = generator.integers(0, count, (times, -(-count // length), 1))
    return ((starts + np.arange(length)) % count).reshape(times, -1)[:, :count]


def _resampled(series: Floats, length: int, generator: np.random.Generator) -> Floats:
    return middle(series[_drawn(series.size, length, RESAMPLES, generator)])


def _interval(estimate: float, resampled: Floats, blocks: int, length: int, confidence: float) -> Interval:
    """Expanded percentile bounds of the exponential."""
    if blocks < FEWEST_BLOCKS:
        return Interval(math.exp(estimate), None, None, blocks, length)
    beyond = 1.0 - NormalDist().cdf(math.sqrt(blocks / (blocks - 1)) * student(confidence, blocks - 1))
    low, high = np.quantile(resampled, [beyond, 1.0 - beyond])
    return Interval(math.exp(estimate), math.exp(low), math.exp(high), blocks, length)


def student(share: float, freedom: int) -> float:
    """The ``share`` quantile of Student's t with ``freedom`` degrees of freedom, by bisection of its closed form.

    With theta = atan(t / sqrt(freedom)), the distribution function is a finite sum of powers of cos(theta) (Abramowitz
    and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2.0
    for _ in range(60):
        theta = (low + high) / 2.0
        low, high = (theta, high) if 0.5 + _half(theta, freedom) / 2.0 < share else (low, theta)
    return math.sqrt(freedom) * math.tan(low)


def _half(theta: float, freedom: int) -> float:
    """A(t | freedom), the probability of a value within +-t."""
    cosine, total, term = math.cos(theta), 0.0, 1.0
    if freedom % 2:
        term = cosine
        for k in range(1, freedom - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        return 2.0 / math.pi * (theta + math.sin(theta) * total)
    for k in range(0, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    return math.sin(theta) * total
