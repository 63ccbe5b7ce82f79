"""Tallies add up however a set is cut, and are those of ``verify --data``."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ulsam_deploy.device.accuracy import Labelled, hits
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.sweep.accuracy import Tally, count


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=4))
def test_shards_add_up_to_the_whole(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 4, (60, 7)).astype(np.float32), rng.integers(0, 7, 60)
    edges = [0, *sorted(cuts), 60]
    parts = [count(scores[i:j], labels[i:j]) for i, j in itertools.pairwise(edges)]
    assert sum(parts, Tally()) == sum(reversed(parts), Tally()) == count(scores, labels)


@given(st.integers(0, 2**32 - 1))
def test_counts_are_those_of_a_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.permuted(np.tile(np.arange(9.0), (30, 1)), axis=1), rng.integers(0, 9, 30)
    best = np.argsort(-scores, axis=1)
    assert count(scores, labels) == Tally(
        30, int((best[:, 0] == labels).sum()), int((best[:, :5] == labels[:, None]).any(1).sum())
    )


def test_a_broken_network_is_right_about_nothing_and_a_constant_one_by_chance() -> None:
    labels = np.arange(6)
    for scores in (np.full((6, 6), np.nan), np.full((6, 6), np.inf)):
        assert count(scores, labels) == Tally(6, 0, 0)
    assert count(np.zeros((6, 6)), labels) == Tally(6, 1, 5)


@given(st.integers(0, 2**32 - 1))
def test_a_sweep_counts_what_verify_counts_on_equal_scores_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 3, (40, 9)).astype(np.float32), rng.integers(0, 9, 40)
    scores[rng.random((40, 9)) < 0.02] = np.nan
    spec = (TensorSpec("x", (None, 9)),)
    data = SimpleNamespace(batches=lambda size: iter([({"x": scores}, labels)]))
    found: Any = hits(lambda feed: feed, spec, spec, cast("Labelled", data))
    assert count(scores, labels) == Tally(40, int(found.top1.sum()), int(found.top5.sum()))


def test_the_interval_is_wilsons() -> None:
    # Brown, Cai, DasGupta, Statistical Science 16 (2001): 0 of 10 gives (0, 0.2775), symmetric to 10 of 10.
    low, high = Tally(10, 0, 0).interval()
    assert abs(low) < 1e-12
    assert abs(high - 0.2775) < 5e-4
    assert Tally(10, 10, 10).interval() == (1 - high, 1 - low)
    assert Tally().interval() == (0.0, 1.0)
