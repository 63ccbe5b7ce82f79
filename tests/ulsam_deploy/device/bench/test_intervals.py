"""Intervals against scipy, closed forms and simulation: how often they hold the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ulsam_deploy.device.bench.intervals import (
    FEWEST_BLOCKS,
    block_length,
    log_times,
    middle,
    paired,
    quantile_interval,
    student,
    unpaired,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 7, 10, 11, 29, 30, 100, 1001])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9, 0.975, 0.995, 0.9995])
def test_students_quantile_is_scipys(share: float, freedom: int) -> None:
    assert student(share, freedom) == pytest.approx(float(stats.t.ppf(share, freedom)), rel=1e-9)


def test_the_middle_of_rounds_is_scipys_trimmed_mean() -> None:
    values = np.random.default_rng(0).standard_cauchy((3, 24))
    assert middle(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=1))
    assert middle(np.array([1.0, 2.0, 3.0, 100.0])) == pytest.approx(2.5)
    assert middle(np.array([5.0])) == 5.0


def test_a_ratio_of_equal_rounds_is_exact() -> None:
    found = paired([math.log(1.25)] * 8)
    assert (found.estimate, found.low, found.high) == pytest.approx((1.25, 1.25, 1.25))
    assert (found.blocks, found.length) == (8, 1)


def test_too_few_rounds_give_no_interval() -> None:
    found = paired(np.zeros(FEWEST_BLOCKS - 1))
    assert (found.low, found.high) == (None, None)
    with pytest.raises(ValueError, match="no rounds"):
        paired([])
    with pytest.raises(ValueError, match="no rounds"):
        unpaired([1.0], [])


def test_the_same_rounds_give_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(0, 0.05, 20)
    assert paired(values) == paired(values)


@pytest.mark.parametrize("rounds", [8, 20])
def test_normal_rounds_have_students_interval(rounds: int) -> None:
    """A trimmed mean's interval is close to the t interval of what is kept, and on average a little wider."""
    generator = np.random.default_rng(1)
    widths = []
    for _ in range(40):
        values = generator.normal(0, 0.05, rounds)
        found = paired(values, 0.975)
        if found.low is None or found.high is None:
            continue
        reach = stats.t.ppf(0.975, rounds - 1) * values.std(ddof=1) / math.sqrt(rounds)
        widths.append(math.log(found.high / found.low) / (2 * reach))
    assert 0.9 < np.median(widths) < 1.45


def coverage(draw: object, truth: float, runs: int = 200, confidence: float = 0.975) -> tuple[float, int]:
    """How often the truth lies below the lower bound (1 - confidence is promised), and how many had an interval."""
    below = given = 0
    for run in range(runs):
        found = paired(draw(np.random.default_rng(run)), confidence)
        if found.low is not None:
            given += 1
            below += math.log(found.low) > truth
    return below / given, given


def test_the_bounds_hold_as_often_as_they_say() -> None:
    """2.5 % are promised; 3 sigma of 200 runs are 3.3 %."""
    missed, given = coverage(lambda g: g.normal(0.1, 0.05, 12), 0.1)
    assert given > 190
    assert missed < 0.025 + 0.033
    heavy, _ = coverage(lambda g: 0.1 + 0.02 * g.standard_t(2, 12), 0.1)
    assert heavy < 0.025 + 0.033


def drift(generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """200 rounds of a first-order autoregression with coefficient 0.8."""
    steps = generator.normal(0, 0.02, 260)
    for i in range(1, len(steps)):
        steps[i] += 0.8 * steps[i - 1]
    return steps[60:]


def test_rounds_that_depend_on_each_other_make_blocks() -> None:
    lengths = [block_length(drift(np.random.default_rng(seed))) for seed in range(30)]
    assert 4 <= np.median(lengths) <= 30
    assert [block_length(np.random.default_rng(seed).normal(size=200)) for seed in range(30)].count(1) > 15


@pytest.mark.slow
def test_rounds_that_depend_on_each_other_are_drawn_in_blocks() -> None:
    """An interval of single rounds is too narrow by far; blocks see the drift."""
    missed, given = coverage(drift, 0.0, runs=150)
    assert given > 140
    single = np.mean([drift(np.random.default_rng(s)).mean() > 1.96 * 0.034 / math.sqrt(200) for s in range(150)])
    assert missed < 0.09 < single


def test_the_block_length_of_an_autoregression_grows_as_theory_says() -> None:
    """For AR(1) with coefficient r, ``G / sum R(k)`` is ``2 r / (1 - r^2)``: a closed form for the best length."""
    n, r = 4000, 0.5
    best = (1.5 * n) ** (1 / 3) * (2 * r / (1 - r**2)) ** (2 / 3)
    found = []
    for seed in range(10):
        steps = np.random.default_rng(seed).normal(size=n)
        for i in range(1, n):
            steps[i] += r * steps[i - 1]
        found.append(block_length(steps))
    assert np.median(found) == pytest.approx(best, rel=0.35)


def test_times_taken_apart_are_compared_by_both_sides_spread() -> None:
    generator = np.random.default_rng(0)
    old, new = generator.normal(0, 0.02, 24), generator.normal(math.log(1.1), 0.02, 24)
    found = unpaired(old, new)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.1 < found.high
    assert found.low > 1.05


def test_a_quantiles_interval_holds_the_true_quantile() -> None:
    truth, missed = float(stats.expon.ppf(0.9)), 0
    for run in range(60):
        rounds = np.random.default_rng(run).exponential(size=(10, 60))
        found = quantile_interval(list(rounds), 0.9, 0.975)
        assert found.estimate == pytest.approx(float(np.quantile(rounds, 0.9)))
        if found.low is None or found.high is None:
            continue
        missed += not found.low <= truth <= found.high
    assert missed <= 8  # 5 % are promised, of 60; a percentile of few rounds is skewed


def test_a_rounds_time_is_its_quantile() -> None:
    assert log_times([[4, 1, 3, 2, 5], [10, 10, 10]]) == pytest.approx([math.log(3), math.log(10)])
    assert log_times([[4, 1, 3, 2, 5]], 0.25) == pytest.approx([math.log(2)])
