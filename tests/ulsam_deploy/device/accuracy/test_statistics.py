"""Intervals and McNemar's test against scipy, closed forms, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ulsam_deploy.device.accuracy.statistics import exact, mcnemar, paired, wilson

COUNTS = st.integers(1, 3000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    right, count = counts
    ours = wilson(right, count, confidence)
    theirs = stats.binomtest(right, count).proportion_ci(confidence, method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= ours[0] <= right / count <= ours[1] <= 1


FEW = st.integers(1, 200).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))


@given(FEW, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_exact_interval_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    right, count = counts
    found = exact(right, count, confidence)
    theirs = stats.binomtest(right, count).proportion_ci(confidence, method="exact")
    assert found == pytest.approx((theirs.low, theirs.high), abs=1e-7)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_binomial_test(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(lost, won) == mcnemar(won, lost)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == 2 / 2**5
    assert mcnemar(1, 8) == 2 * (1 + 9) / 2**9
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(12000, 9000) < 1e-90  # far below what a sum of floats would give up at


def test_the_drop_by_hand() -> None:
    """The table of Agresti and Min's first example (General Social Survey): 59, 6, 16, 80."""
    found = paired(16, 6, 161)
    total, difference = 163, 10 / 163
    half = 1.959964 * math.sqrt(23 / total - difference**2) / math.sqrt(total)
    assert (found.lost, found.won, found.drop) == (16, 6, 10 / 161)
    assert (found.low, found.high) == pytest.approx((difference - half, difference + half), abs=1e-6)


def test_the_interval_of_the_drop_keeps_its_promise() -> None:
    """Of 2000 simulated pairs of classifiers, the true drop lies inside for about 95 in 100."""
    random = np.random.default_rng(0)
    for lose, win, count in ((0.02, 0.01, 1000), (0.01, 0.01, 300), (0.2, 0.05, 200)):
        inside = 0
        for _ in range(2000):
            lost, won, _ = random.multinomial(count, [lose, win, 1 - lose - win])
            found = paired(int(lost), int(won), count)
            inside += found.low <= lose - win <= found.high
        assert 0.935 <= inside / 2000 <= 0.985, (lose, win, count, inside)


@pytest.mark.parametrize(("right", "count"), [(1, 0), (-1, 3), (4, 3)])
def test_no_share(right: int, count: int) -> None:
    for interval in (wilson, exact):
        with pytest.raises(ValueError, match="is not a fraction"):
            interval(right, count)


@pytest.mark.parametrize(("lost", "won", "count"), [(2, 2, 3), (-1, 0, 3), (0, 0, 0)])
def test_no_pairs(lost: int, won: int, count: int) -> None:
    with pytest.raises(ValueError, match="make no sense"):
        paired(lost, won, count)
