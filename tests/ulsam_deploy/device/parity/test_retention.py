import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ulsam_deploy.device.parity import AttentionState, Floor, Golden
from ulsam_deploy.device.parity.retention import _projected, classify, map_shape, overall, retention

FLOORS = {"logits": Floor(1e-6, 4e-6, 1)}


def golden_of(outputs, steps):
    """A golden set of one output with the given float64 outputs (P, K) and steps (B, P, K)."""
    count = len(outputs)
    return Golden(
        inputs={"x": np.zeros((count, 1), np.float32)},
        outputs={"logits": outputs},
        reference_ablations={"logits": steps.astype(np.float32)},
        shapes={"logits": outputs.shape[1:]},
        floors=FLOORS,
        blocks=tuple(f"block{b}" for b in range(len(steps))),
        probes=tuple(f"probe{p}" for p in range(count)),
    )


def random_golden(seed, blocks=3, probes=8, size=6, step=1e-2):
    rng = np.random.default_rng(seed)
    return golden_of(rng.normal(size=(probes, size)), step * rng.normal(size=(blocks, probes, size)))


def mixture(golden, c, noise=0.0, seed=0):
    """The output of an artifact that misses the part ``c[b]`` of each block's step, with relative noise."""
    y = golden.outputs["logits"]
    missing = np.tensordot(np.asarray(c), golden.reference_ablations["logits"].astype(np.float64), 1)
    return {"logits": y + missing + noise * np.random.default_rng(seed).normal(size=y.shape)}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), c=st.lists(st.floats(-2, 3), min_size=1, max_size=4))
def test_an_exact_mixture_is_recovered(seed: Any, c: Any) -> None:
    golden = random_golden(seed, blocks=len(c))
    found = retention(golden, mixture(golden, c), FLOORS)
    assert [alive.value for alive in found] == pytest.approx([1 - part for part in c], abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-12, 12))
def test_the_unit_of_the_output_does_not_matter(seed: Any, power: Any) -> None:
    golden = random_golden(seed)
    z = mixture(golden, [0.3, 1.0, 0.0], noise=1e-5)
    factor = 10.0**power
    scaled = golden_of(
        factor * golden.outputs["logits"], factor * golden.reference_ablations["logits"].astype(np.float64)
    )
    for one, other in zip(retention(golden, z, FLOORS), retention(scaled, {"logits": factor * z["logits"]}, FLOORS)):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(8)))
def test_the_order_of_probes_does_not_matter(seed: Any, order: Any) -> None:
    golden = random_golden(seed)
    z = mixture(golden, [0.3, 1.0, 0.0], noise=1e-4)["logits"]
    for one, other in zip(
        retention(golden, {"logits": z}, FLOORS), retention(golden.take(order), {"logits": z[list(order)]}, FLOORS)
    ):
        assert dataclasses.astuple(one)[:4] == pytest.approx(dataclasses.astuple(other)[:4])


def test_huge_and_tiny_probes_count_alike() -> None:
    golden = random_golden(0, blocks=1, probes=8)
    sizes = 10.0 ** np.arange(-4, 4)[:, None]
    golden = golden_of(
        sizes * golden.outputs["logits"], sizes * golden.reference_ablations["logits"].astype(np.float64)
    )
    z = mixture(golden, [0.0])["logits"]
    z[:4] += golden.reference_ablations["logits"][0, :4]  # dead on the four smallest probes
    assert retention(golden, {"logits": z}, FLOORS)[0].value == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.99, 1.01, AttentionState.KEPT),
        (0.60, 1.40, AttentionState.KEPT),
        (-0.02, 0.02, AttentionState.LOST),
        (-0.40, 0.40, AttentionState.LOST),
        (0.45, 0.55, AttentionState.WEAKENED),
        (0.20, 0.80, AttentionState.WEAKENED),
        (0.40, 1.00, AttentionState.INCONCLUSIVE),
        (0.00, 0.60, AttentionState.INCONCLUSIVE),
        (-1.0, 2.00, AttentionState.INCONCLUSIVE),
        (-np.inf, np.inf, AttentionState.INCONCLUSIVE),
        (1.90, 2.10, AttentionState.INCONCLUSIVE),
        (-48.0, -47.0, AttentionState.INCONCLUSIVE),
    ],
)
def test_words(low: Any, high: Any, word: Any) -> None:
    assert classify(low, high) is word


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("c", "word"), [(0.0, AttentionState.KEPT), (1.0, AttentionState.LOST), (0.5, AttentionState.WEAKENED)]
)
def test_words_hold_under_noise_as_large_as_the_step(seed: Any, c: float, word: Any) -> None:
    golden = random_golden(seed, blocks=2, probes=48, size=50)
    floors = {"logits": Floor(1.5e-2, 6e-2, 1)}
    first, second = retention(golden, mixture(golden, [c, 0.0], noise=1e-2, seed=seed), floors)
    assert (first.state, second.state) == (word, AttentionState.KEPT)
    assert first.low < 1 - c < first.high


@pytest.mark.parametrize("bits", [6, 8, 10, 12])
def test_intervals_hold_the_truth_under_systematic_errors(new_case: Any, bits: int) -> None:
    """Weights rounded once for all probes, as in int8: errors that do not average out over probes."""
    words = []
    for seed in range(6):
        case = new_case(seed, size=(8, 8))
        for fault, truth in (({}, 1.0), ({"dead": 1, "block": 0}, 0.0)):
            alive = retention(case.golden, case.run(faults={"rounded": bits, **fault}), case.golden.floors)[0]
            assert alive.low <= truth <= alive.high
            assert alive.state in (AttentionState.INCONCLUSIVE, AttentionState.KEPT if truth else AttentionState.LOST)
            words.append(alive.state)
    if bits == 12:
        assert AttentionState.INCONCLUSIVE not in words


def test_a_step_below_the_noise_is_inconclusive_even_for_a_perfect_artifact() -> None:
    golden = random_golden(0, blocks=1, step=1e-7)
    (alive,) = retention(golden, mixture(golden, [0.0]), FLOORS)
    assert alive.state is AttentionState.INCONCLUSIVE
    assert "hide its step" in alive.note


def test_steps_that_are_alike_are_inconclusive_and_named() -> None:
    golden = random_golden(0, blocks=3)
    steps = golden.reference_ablations["logits"].astype(np.float64)
    steps[2] = -3.0 * steps[0]
    golden = golden_of(golden.outputs["logits"], steps)
    first, second, third = retention(golden, mixture(golden, [1.0, 1.0, 0.0]), FLOORS)
    assert (first.state, third.state) == (AttentionState.INCONCLUSIVE, AttentionState.INCONCLUSIVE)
    assert "cannot be distinguished from that of 'block2'" in first.note
    assert "cannot be distinguished from that of 'block0'" in third.note
    assert second.state is AttentionState.LOST


def test_a_block_that_changes_nothing_is_inconclusive() -> None:
    golden = random_golden(0, blocks=2)
    steps = golden.reference_ablations["logits"].astype(np.float64)
    steps[0] = 0.0
    golden = golden_of(golden.outputs["logits"], steps)
    first, second = retention(golden, mixture(golden, [0.0, 0.0]), FLOORS)
    assert (first.state, first.note) == (AttentionState.INCONCLUSIVE, "removing its attention changes no output")
    assert second.state is AttentionState.KEPT


def test_an_artifact_s_own_ablation_that_changes_nothing_is_inconclusive() -> None:
    none, some = np.zeros((3, 2)), np.ones((3, 2))
    found = _projected("block", none, some, none)
    assert (found.state, found.note) == (AttentionState.INCONCLUSIVE, "removing its attention changes no output")


def test_without_uniform_ablations_nothing_is_said_of_a_map_s_shape() -> None:
    golden = random_golden(0)
    assert not golden.uniform_ablations
    assert map_shape(golden, mixture(golden, [0.0] * 3), FLOORS) == ()


def test_one_probe_gives_no_interval() -> None:
    golden = random_golden(0, blocks=1, probes=1)
    (alive,) = retention(golden, mixture(golden, [0.0]), FLOORS)
    assert alive.state is AttentionState.INCONCLUSIVE


def test_no_blocks_no_retention() -> None:
    golden = random_golden(0, blocks=0)
    assert retention(golden, mixture(golden, np.zeros(0)), FLOORS) == ()
    assert overall(golden, mixture(golden, np.zeros(0)), FLOORS) is None


def test_overall_weighs_all_blocks_together() -> None:
    golden = random_golden(0, blocks=3)
    for c in (0.0, 0.25, 1.0):
        whole = overall(golden, mixture(golden, [c] * 3), FLOORS)
        assert whole is not None
        assert whole.value == pytest.approx(1 - c, abs=1e-6)


def test_several_outputs_are_weighed_by_their_noise() -> None:
    golden = random_golden(0, blocks=1)
    y, step = golden.outputs["logits"], golden.reference_ablations["logits"]
    golden = dataclasses.replace(
        golden,
        outputs={"logits": y, "noisy": y},
        reference_ablations={"logits": step, "noisy": step},
        shapes={"logits": (6,), "noisy": (6,)},
        floors={"logits": FLOORS["logits"], "noisy": Floor(1e-1, 1e-1, 1)},
    )
    (alive,) = retention(golden, {"logits": y, "noisy": y + step[0]}, golden.floors)
    assert alive.state is AttentionState.KEPT
    (alive,) = retention(golden, {"logits": y + step[0], "noisy": y}, golden.floors)
    assert alive.state is AttentionState.LOST
