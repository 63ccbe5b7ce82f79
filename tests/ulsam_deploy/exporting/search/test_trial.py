"""What lies outside a budget is said, and the clock's noise decides nothing."""

from __future__ import annotations

import dataclasses

import pytest

from ulsam_deploy.device.accuracy import paired
from ulsam_deploy.device.bench.intervals import Interval
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.exporting.budget import Budget
from ulsam_deploy.exporting.options import Recipe
from ulsam_deploy.exporting.search.trial import Trial, fastest, misses, undominated

FP32 = Trial(Recipe(), 1000, Verdict.PASS, 3.0, 1e-6, {"a": 1.0, "b": 0.2}, ("a",), ratio=Interval(1, 1, 1, 8, 1))
GOOD = Trial(Recipe("int8"), 300, Verdict.PASS, 1.0, 1e-2, {"a": 0.95, "b": 0.0}, ("a",), paired(4, 0, 1000))


def timed(name: str, size: int, ratio: float, half: float, deviation: float = 0.1) -> Trial:
    interval = Interval(ratio, ratio - half, ratio + half, 8, 1)
    return Trial(Recipe("int8", (name,)), size, Verdict.PASS, 1.0, deviation, ratio=interval)


def test_a_block_that_was_not_alive_in_fp32_need_not_live() -> None:
    assert misses(GOOD, Budget(size="30 %"), FP32) == ([], [])


@pytest.mark.parametrize(
    ("change", "budget", "said"),
    [
        ({"error": 2.0}, Budget(error=1.5), "error 2.00 noise floors"),
        ({"error": None}, Budget(), "error beyond measure"),
        ({"retention": {"a": 0.89}}, Budget(), "retention of a 0.890"),
        ({"retention": {"a": None}}, Budget(), "retention of a unknown"),
        ({"drop": paired(6, 0, 1000)}, Budget(), "0.60 points of top-1 lost"),
        ({"drop": paired(4, 0, 1000)}, Budget(drop=0.3), "0.40 points of top-1 lost"),
        ({"verdict": Verdict.INCONCLUSIVE}, Budget(), "its check says inconclusive"),
        ({"verdict": Verdict.FAIL}, Budget(), "its check says fail"),
        ({"failure": "no such operator"}, Budget(), "no such operator"),
    ],
)
def test_what_it_computes_is_outside(change: dict, budget: Budget, said: str) -> None:
    assert misses(dataclasses.replace(GOOD, **change), budget, FP32) == ([said], [])


def test_its_size_is_outside_apart_from_what_it_computes() -> None:
    assert misses(GOOD, Budget(size="29 %"), FP32) == ([], ["300 bytes of 290"])
    assert misses(GOOD, Budget(size="300 B"), FP32) == ([], [])


def test_the_fastest_wins_where_the_clock_can_tell() -> None:
    slow, fast = timed("slow", 100, 0.9, 0.02), timed("fast", 200, 0.6, 0.02)
    assert fastest([slow, fast]) is fast


def test_where_the_clock_cannot_tell_bytes_do_and_noise_does_not() -> None:
    """The two measured the other way round: the same choice."""
    for one, other in ((0.60, 0.61), (0.61, 0.60)):
        small, large = timed("x", 100, one, 0.02), timed("y", 101, other, 0.02)
        assert fastest([large, small]) is small
        assert fastest([small, large]) is small
    ablations = [timed("b", 100, 0.5, 0.1), timed("a", 100, 0.5, 0.1)]
    assert fastest(ablations).recipe.keep == ("a",)


def test_without_intervals_the_estimate_counts() -> None:
    slow, fast = timed("slow", 1, 0.9, 0.5), timed("fast", 2, 0.6, 0.5)
    bare = [dataclasses.replace(t, ratio=Interval(t.ratio.estimate, None, None, 3, 1)) for t in (slow, fast) if t.ratio]
    assert fastest(bare).recipe.keep == ("fast",)


def test_the_undominated() -> None:
    fast, exact = timed("fast", 1, 0.5, 0.1, 0.3), timed("exact", 1, 0.9, 0.1, 0.01)
    beaten, untimed = timed("beaten", 1, 0.95, 0.1, 0.3), dataclasses.replace(exact, ratio=None)
    assert undominated([beaten, exact, untimed, fast]) == [fast, exact]
