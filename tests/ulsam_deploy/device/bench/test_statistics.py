"""Statistics against closed forms, exact arithmetic and simulation."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ulsam_deploy.device.bench.statistics import _most_over, early_stopping, fewest_samples, percentile, summarize

SHARES = (0.50, 0.90, 0.95, 0.99)


def exact_most_over(count: int, chance: Fraction) -> int:
    """The largest t with P(Binomial(count, chance) <= t) <= 1 %, in exact arithmetic."""
    total, over = Fraction(0), -1
    for hits in range(count + 1):
        total += math.comb(count, hits) * chance**hits * (1 - chance) ** (count - hits)
        if total > Fraction(1, 100):
            break
        over = hits
    return over


@pytest.mark.parametrize(("share", "fewest"), [(0.50, 11), (0.90, 64), (0.95, 130), (0.99, 662)])
def test_the_fewest_samples_are_those_of_mlperf(share: float, fewest: int) -> None:
    assert fewest_samples(share) == fewest
    assert early_stopping(range(fewest - 1), share) is None
    assert early_stopping(range(fewest), share) == fewest - 1  # the slowest of them


@pytest.mark.parametrize("percent", [50, 90, 95, 99])
@pytest.mark.parametrize("count", [1, 43, 44, 63, 64, 100, 661, 662, 1024])
def test_the_bound_is_exact(percent: int, count: int) -> None:
    assert _most_over(count, 1 - percent / 100) == exact_most_over(count, Fraction(100 - percent, 100))


def test_no_underflow_over_a_long_run() -> None:
    # Normal approximation: n q - 2.326 sqrt(n q (1 - q)), good to a few counts at a million.
    count, chance = 1_000_000, 0.1
    near = count * chance - 2.3263 * math.sqrt(count * chance * (1 - chance))
    assert abs(_most_over(count, chance) - near) < 5


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Over 4,000 runs of 200 exponential samples the true p90 lies above the bound in at most 1 % (+ 3 sigma)."""
    true_p90 = math.log(10.0)
    runs = np.random.default_rng(0).exponential(size=(4000, 200))
    bounds = np.array([early_stopping(run, 0.90) for run in runs], dtype=np.float64)
    missed = float(np.mean(bounds < true_p90))
    assert 0.001 < missed <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 4000)
    plain = np.array([percentile(run, 0.90) for run in runs])
    assert abs(float(np.median(plain)) - true_p90) < 0.05
    assert float(np.mean(plain < true_p90)) > 0.3  # why the plain percentile is nothing to promise


def test_percentiles_of_a_ramp_are_in_closed_form() -> None:
    ramp = np.random.default_rng(0).permutation(101)
    for share in (0.0, 0.25, 0.333, 0.9, 1.0):
        assert percentile(ramp, share) == pytest.approx(100 * share)
    assert percentile([7], 0.9) == 7.0


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.floats(0, 1))
def test_percentiles_are_numpys(samples: list[float], share: float) -> None:
    assert percentile(samples, share) == pytest.approx(float(np.percentile(samples, share * 100)), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_what_has_no_percentile_says_so(samples: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="isn't defined"):
        percentile(samples, share)


def test_a_summary_says_nothing_that_its_samples_cannot_carry() -> None:
    summary = summarize(np.arange(1, 101) * 1_000_000)
    assert (summary.count, summary.min, summary.mean, summary.unit) == (100, 1.0, 50.5, "ms")
    assert summary.p50 == pytest.approx(50.5)
    assert summary.p90 == pytest.approx(90.1)
    assert summary.p90_bound == 98.0  # t = 3 for n = 100: P(B <= 3) = 0.0078, P(B <= 4) = 0.0237
    assert (summary.p95, summary.p99, summary.p95_bound, summary.p99_bound) == (None, None, None, None)
    assert json.loads(json.dumps(asdict(summary)))["p90"] == summary.p90
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def test_all_percentiles_come_with_enough_samples() -> None:
    summary = summarize(np.random.default_rng(0).exponential(1e6, size=2000))
    for share in SHARES:
        plain, bound = (getattr(summary, f"p{share * 100:.0f}{word}") for word in ("", "_bound"))
        assert summary.min < plain <= bound
