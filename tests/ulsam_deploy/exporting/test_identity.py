"""Which softmax is whose attention: by its values, whatever else the file has, in any order and layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.parity import Added
from ulsam_deploy.exporting.identity import shares

Array = np.ndarray[Any, Any]
BATCHES, N = 2, 3


def maps(seed: int, subspaces: int, size: int = 6) -> list[Array]:
    """A softmax over space, (N, g, H, W), on each batch."""
    random = np.random.default_rng(seed)
    found = np.exp(random.normal(size=(BATCHES, N, subspaces, size, size)))
    return list(found / found.sum((3, 4), keepdims=True))


def block(seed: int, subspaces: int = 2) -> list[Added]:
    return [Added(np.zeros(1), np.zeros(1), one) for one in maps(seed, subspaces)]


def seen(**values: Sequence[Array]) -> list[dict[str, Array]]:
    return [{name: batches[number] for name, batches in values.items()} for number in range(BATCHES)]


def watched(*blocks: Sequence[Added]) -> list[list[Added]]:
    return [[one[number] for one in blocks] for number in range(BATCHES)]


def given(one: Sequence[Added], noise: float = 0.0) -> list[Array]:
    """The maps as an engine has them: flattened, with the noise of a low precision."""
    random = np.random.default_rng(9)
    return [(b.maps * (1 + noise * random.normal(size=b.maps.shape))).reshape(N, -1, 36) for b in one]


FIRST, SECOND = block(1), block(2)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_other_softmaxes_are_left_alone(noise: float) -> None:
    found = seen(a=[np.full((N, 1, 72), 1 / 72)] * BATCHES, b=given(FIRST, noise), c=maps(7, 2), d=given(SECOND, noise))
    assert shares("abcd", found, watched(FIRST, SECOND)) == [(1,), (3,)]


def test_parallel_branches_may_come_in_another_order() -> None:
    assert shares("ab", seen(a=given(SECOND), b=given(FIRST)), watched(FIRST, SECOND)) == [(1,), (0,)]


def test_subspaces_may_have_a_softmax_each_and_channels_may_be_last() -> None:
    parts = [[one.maps[:, s].reshape(N, 36, 1) for one in FIRST] for s in (0, 1)]
    last = [np.moveaxis(one.maps, 1, -1) for one in SECOND]
    found = seen(a=parts[1], b=last, c=parts[0], other=[np.ones((N, 5))] * BATCHES)
    assert shares(("other", "a", "b", "c"), found, watched(FIRST, SECOND)) == [(3, 1), (2,)]


def test_equal_maps_are_taken_in_order() -> None:
    found = seen(a=given(FIRST), b=given(FIRST), c=given(SECOND))
    assert shares("abc", found, watched(FIRST, FIRST, SECOND)) == [(0,), (1,), (2,)]


def test_wrong_attention_is_what_is_left_over() -> None:
    uniform = [np.full((N, 2, 36), 1 / 36)] * BATCHES
    wrong = [np.eye(1, 36)[None].repeat(N, 0).repeat(2, 1)] * BATCHES
    assert shares("ab", seen(a=given(FIRST), b=wrong), watched(FIRST, SECOND)) == [(0,), (1,)]
    assert shares("ab", seen(a=wrong, b=given(SECOND)), watched(FIRST, SECOND)) == [(0,), (1,)]
    assert shares("abc", seen(a=wrong, b=given(SECOND), c=wrong), watched(FIRST, SECOND)) == []
    assert shares("a", seen(a=uniform), watched(FIRST)) == [(0,)]


def test_without_inner_values_order_decides_if_there_are_no_others() -> None:
    assert shares("ab", [], watched(FIRST, SECOND)) == [(0,), (1,)]
    assert shares("abcd", [], watched(FIRST, SECOND)) == [(0, 1), (2, 3)]
    assert shares("abc", [], watched(FIRST, SECOND)) == []
    assert shares((), [], watched(FIRST)) == []
