"""What has to hold for every artifact that anybody can make up: the check never breaks, and never passes the wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ulsam_deploy.device import codec
from ulsam_deploy.device.findings import Severity, Verdict
from ulsam_deploy.device.parity import check

from .test_retention import FLOORS, mixture, random_golden

SEEDS = st.integers(0, 10_000)
quick = settings(max_examples=60, deadline=None)


def noisy(golden, size, seed):
    """The reference with noise of ``size`` noise floors, as float32 runs have it."""
    y = golden.outputs["logits"]
    scale = np.sqrt((y**2).mean(1, keepdims=True))
    noise = np.random.default_rng(seed).normal(size=y.shape)
    return {"logits": (y + size * FLOORS["logits"].l2 * scale * noise).astype(np.float64)}


@quick
@given(seed=SEEDS, size=st.floats(0, 1.0))
def test_noise_of_the_sound_size_passes(seed: Any, size: Any) -> None:
    golden = random_golden(seed)
    assert check(golden, noisy(golden, size, seed + 1)).verdict is Verdict.PASS


@quick
@given(seed=SEEDS, size=st.floats(100, 1e9))
def test_noise_of_many_floors_fails(seed: Any, size: Any) -> None:
    golden = random_golden(seed)
    assert check(golden, noisy(golden, size, seed + 1)).verdict is Verdict.FAIL


@quick
@given(seed=SEEDS, probe=st.integers(0, 7), place=st.integers(0, 5), exponent=st.floats(-2, 300), sign=st.booleans())
def test_one_wrong_number_anywhere_fails(seed: Any, probe: Any, place: Any, exponent: Any, sign: Any) -> None:
    golden = random_golden(seed)
    wrong = golden.outputs["logits"].copy()
    wrong[probe, place] += (1 if sign else -1) * 10.0**exponent
    report = check(golden, {"logits": wrong})
    assert report.verdict is Verdict.FAIL
    assert report.reasons


@quick
@given(seed=SEEDS, order=st.permutations(range(8)), size=st.floats(0, 50))
def test_the_order_of_the_probes_changes_nothing(seed: Any, order: Any, size: Any) -> None:
    golden = random_golden(seed)
    produced = noisy(golden, size, seed + 1)
    moved = {"logits": produced["logits"][list(order)]}
    one, two = check(golden, produced), check(golden.take(order), moved)
    assert one.verdict is two.verdict
    assert math.isclose(one.error, two.error, rel_tol=1e-9)


@quick
@given(seed=SEEDS, block=st.integers(0, 2), share=st.floats(0.5, 2.0))
def test_attention_that_is_gone_fails(seed: Any, block: Any, share: Any) -> None:
    golden = random_golden(seed)
    gone = [0.0, 0.0, 0.0]
    gone[block] = share
    assert check(golden, mixture(golden, gone)).verdict is Verdict.FAIL


NUMBERS = st.one_of(
    st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7e308, -1.7e308])
)
SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@quick
@given(seed=SEEDS, shape=SHAPES, value=NUMBERS, kind=st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u1", "?", "c8"]))
def test_whatever_an_engine_returns_is_judged_in_words(seed: Any, shape: Any, value: Any, kind: Any) -> None:
    golden = random_golden(seed)
    with np.errstate(all="ignore"):
        array = np.full(shape, value).astype(kind) if math.isfinite(value) or kind[0] in "fc" else np.zeros(shape, kind)
        report = check(golden, {"logits": array})
    assert report.verdict is Verdict.FAIL
    assert all(reason.text and reason.kind.severity is Severity.FAULT for reason in report.reasons)
    assert codec.encode(report, "report")["verdict"] == "fail"


@quick
@given(
    seed=SEEDS, probe=st.integers(0, 7), place=st.integers(0, 5), value=st.sampled_from([math.nan, math.inf, -math.inf])
)
def test_a_number_that_is_none_fails(seed: Any, probe: Any, place: Any, value: Any) -> None:
    golden = random_golden(seed)
    wrong = golden.outputs["logits"].copy()
    wrong[probe, place] = value
    assert check(golden, {"logits": wrong}).verdict is Verdict.FAIL


@quick
@given(seed=SEEDS, size=st.floats(0, 200), more=st.floats(1.01, 100))
def test_a_larger_error_is_never_judged_better(seed: Any, size: Any, more: Any) -> None:
    golden = random_golden(seed)
    near, far = check(golden, noisy(golden, size, seed + 1)), check(golden, noisy(golden, size * more, seed + 1))
    assume(size > 1e-3)
    assert far.error >= near.error
    assert near.verdict is not Verdict.FAIL or far.verdict is Verdict.FAIL
