import dataclasses
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device import codec
from ulsam_deploy.device.findings import BlockCheck, ReasonKind, Report, Retention, Verdict
from ulsam_deploy.device.parity import TOLERANCE, AttentionState, Floor, Golden, ablation_distances, check, make_probes
from ulsam_deploy.device.parity.check import _is_flat, _is_unguarded

FIRST, SECOND = "features.1.attention", "features.3.attention"


def test_no_false_alarm_over_120_sound_engines(case: Any) -> None:
    errors = []
    for seed in range(120):
        chunk = int(np.random.default_rng(seed).integers(1, 9))
        report = check(
            case.golden, case.run(order=seed, chunk=chunk, batch=[None, 1, 3, 8][seed % 4], wide=seed % 5 == 0)
        )
        assert (report.verdict, report.reasons) == (Verdict.PASS, ())
        assert [block.state for block in report.blocks] == [AttentionState.KEPT, AttentionState.KEPT]
        errors.append(report.error)
    assert 0 < max(errors) < TOLERANCE / 2


@pytest.mark.parametrize("block", [0, 1])
def test_dead_attention_is_found_and_named(case: Any, block: int) -> None:
    report = check(case.golden, case.faulty(dead=1, block=block))
    assert report.verdict is Verdict.FAIL
    assert report.blocks[block].state is AttentionState.LOST
    assert report.blocks[1 - block].state is AttentionState.KEPT
    assert any(f"'{(FIRST, SECOND)[block]}' is lost" in reason.text for reason in report.reasons)


@pytest.mark.parametrize("block", [0, 1])
def test_weakened_attention_is_found_and_named(case: Any, block: int) -> None:
    report = check(case.golden, case.faulty(dead=0.5, block=block))
    assert report.blocks[block].retention == pytest.approx(0.5, abs=0.02)
    assert any(f"'{(FIRST, SECOND)[block]}' is weakened" in reason.text for reason in report.reasons)


@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize(
    "fault", [{"subspace": 0}, {"uniform": 1}, {"transposed": 1}, {"swapped": 1}, {"pool": 1}, {"scores": 1},
              {"steps": 256}, {"residual": 1}, {"dead": -1}, {"dead": 2}, {"dead": 0.01}]
)  # fmt: skip
def test_every_fault_of_the_attention_fails(case: Any, block: int, fault: Any) -> None:
    report = check(case.golden, case.faulty(block=block, **fault))
    assert report.verdict is Verdict.FAIL
    assert report.error > TOLERANCE
    assert any(
        "Output 'logits' is" in reason.text and report.outputs[0].probe in reason.text for reason in report.reasons
    )


@pytest.mark.parametrize("fault", [{"weight": 1.01}, {"weight": 0.999}, {"relu": 1}])
def test_faults_elsewhere_fail(case: Any, fault: Any) -> None:
    assert check(case.golden, case.faulty(**fault)).verdict is Verdict.FAIL


def test_the_tolerance_bites_closely(case: Any) -> None:
    """Errors of 5x noise pass and of 12 fail: a tolerance a hundred times larger, or smaller, breaks this."""
    y, floor = case.golden.outputs["logits"], case.golden.floors["logits"]
    size = np.sqrt(np.mean(y**2, 1, keepdims=True))
    noise = np.random.default_rng(0).choice([-1.0, 1.0], size=y.shape) * size
    some = np.arange(len(y))[:, None] % 6 == 0  # the floor is that of the noisiest probe: most have less
    assert check(case.golden, {"logits": y + 5 * floor.l2 * noise * some}).verdict is Verdict.PASS
    assert check(case.golden, {"logits": y + 12 * floor.l2 * noise * some}).verdict is Verdict.FAIL
    one = y.copy()
    one[3, 2] += 12 * floor.peak * np.sqrt(np.mean(y[3] ** 2))
    report = check(case.golden, {"logits": one})
    assert report.verdict is Verdict.FAIL
    assert report.outputs[0].probe == case.golden.probes[3]


@pytest.mark.parametrize("block", [0, 1])
def test_at_low_precision_only_retention_sees_dead_attention(case: Any, block: int) -> None:
    """The tolerance of a noisy precision is wider than the whole step: without retention this would pass."""
    wider = 1.5 * list(ablation_distances(case.golden).values())[block]
    floors = {name: Floor(wider * floor.l2, wider * floor.peak, 1) for name, floor in case.golden.floors.items()}
    sound = check(case.golden, case.run(faults={"rounded": 14}), floors=floors)
    assert sound.verdict is (Verdict.PASS, Verdict.INCONCLUSIVE)[block]  # what hides block 1 hides block 0 for good
    assert sound.blocks[block].state is AttentionState.KEPT
    dead = check(case.golden, case.run(faults={"rounded": 14, "dead": 1, "block": block}), floors=floors)
    assert dead.error < TOLERANCE
    assert dead.verdict is Verdict.FAIL
    assert dead.blocks[block].state is AttentionState.LOST
    assert f"'{(FIRST, SECOND)[block]}' is lost" in dead.reasons[0].text


@pytest.mark.parametrize("block", [0, 1])
def test_uniform_attention_is_found_and_named(case: Any, block: int) -> None:
    report = check(case.golden, case.faulty(uniform=1, block=block))
    assert report.verdict is Verdict.FAIL
    assert [found.shape.state for found in report.blocks] == [AttentionState.LOST, AttentionState.KEPT][
        :: (1, -1)[block]
    ]
    assert AttentionState.LOST not in [found.state for found in report.blocks]  # it is there
    uniform = [reason for reason in report.reasons if "is uniform" in reason.text]
    assert [f"'{(FIRST, SECOND)[block]}'" in reason.text for reason in uniform] == [True]


@pytest.mark.parametrize("fault", [{"dead": 1}, {"dead": 0.5}, {"transposed": 1}, {"swapped": 1}, {"pool": 1}])
def test_attention_that_is_wrong_otherwise_is_not_called_uniform(case: Any, fault: Any) -> None:
    reasons = check(case.golden, case.faulty(block=1, **fault)).reasons
    assert reasons
    assert not any("is uniform" in reason.text for reason in reasons)


@pytest.mark.parametrize("flat", [0, 1])
def test_a_map_that_is_uniform_on_every_probe_is_said_to_be_unguarded(new_case: Any, flat: int) -> None:
    """Its block is alive and guarded, and a fault in its map changes nothing: a pass, but not a silent one."""
    case = new_case(flat=flat)
    report = check(case.golden, case.faulty(transposed=1, block=flat))
    assert report.verdict is Verdict.PASS
    (reason,) = report.reasons
    assert reason.text.startswith(f"Note: the attention of block '{(FIRST, SECOND)[flat]}' is as good as uniform")
    assert report.blocks[flat].shape_distance == pytest.approx(0, abs=1e-6)
    assert report.blocks[1 - flat].shape_distance > 4
    dead = check(case.golden, case.faulty(dead=1, block=flat))
    assert dead.blocks[flat].state is AttentionState.LOST


def test_without_uniform_ablations_the_rest_still_works(case: Any) -> None:
    report = check(dataclasses.replace(case.golden, uniform_ablations={}), case.faulty(dead=1, block=0))
    assert [block.shape for block in report.blocks] == [None, None]
    assert report.blocks[0].state is AttentionState.LOST


@pytest.mark.parametrize("strength", [-1, 2])  # twice as strong, and reversed
def test_attention_too_strong_or_reversed_is_said(case: Any, strength: Any) -> None:
    report = check(case.golden, case.faulty(dead=strength, block=1))
    assert any(f"'{SECOND}' is too strong or reversed" in reason.text for reason in report.reasons)


def test_a_small_error_that_always_points_the_same_way_is_found(case: Any) -> None:
    """Below every probe's tolerance; rounding of twice that size, in all directions, passes."""
    y, floor = case.golden.outputs["logits"], case.golden.floors["logits"]
    size = floor.l2 * np.sqrt(np.mean(y**2, 1, keepdims=True))
    one = np.eye(10)[3]
    report = check(case.golden, {"logits": y + 5 * size * one})
    assert (report.verdict, report.outputs[0].statistic) == (Verdict.FAIL, "drift")
    assert "errs in one direction on all probes" in report.reasons[0].text
    assert report.outputs[0].probe in case.golden.probes
    loose = check(case.golden, {"logits": y + 5 * size * one}, floors={"logits": Floor(floor.l2, floor.peak, 1)})
    assert loose.verdict is Verdict.PASS  # no other statistic sees it
    turns = np.where(np.arange(len(y)) % 2 == 0, 10.0, -10.0)[:, None]
    assert check(case.golden, {"logits": y + turns * size * one}).verdict is Verdict.PASS


def test_a_permuted_batch_is_said(case: Any) -> None:
    z = case.run()["logits"]
    report = check(case.golden, {"logits": np.roll(z, 1, axis=0)})
    assert report.verdict is Verdict.FAIL
    assert any("permuted or repeated" in reason.text and "'natural-0'" in reason.text for reason in report.reasons)
    two = z.copy()
    two[[4, 5]] = z[[5, 4]]
    assert any(case.golden.probes[4] in reason.text for reason in check(case.golden, {"logits": two}).reasons)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z: {}, "Output 'logits' is missing"),
        (lambda z: {"other": z}, "the artifact gave other"),
        (lambda z: {"logits": z[:-1]}, "has shape"),
        (lambda z: {"logits": z.T}, "has shape"),
        (lambda z: {"logits": z[..., None]}, "has shape"),
        (
            lambda z: {"logits": np.where(np.arange(24)[:, None] == 5, np.nan, z)},
            "not finite on 1 of 24 probes, first on",
        ),
        (lambda z: {"logits": np.where(z == z.max(), np.inf, z)}, "not finite"),
        (lambda z: {"logits": z.astype(str)}, "not a number"),
        (lambda z: {"logits": z + 1j}, "not a number"),
        (lambda z: {"logits": np.zeros_like(z)}, "noise floors from the reference"),
        (lambda z: {"logits": np.zeros(z.shape, np.int8)}, "noise floors from the reference"),
        (lambda z: {"logits": np.repeat(z[:1], 24, axis=0)}, "permuted or repeated"),
        (lambda z: {"logits": -z}, "noise floors from the reference"),
        (lambda z: {"logits": 1e30 * z.astype(np.float64)}, "noise floors from the reference"),
    ],
)
def test_outputs_that_are_nonsense_fail_in_words(case: Any, change: Any, words: str) -> None:
    report = check(case.golden, change(case.run()["logits"]))
    assert report.verdict is Verdict.FAIL
    assert any(words in reason.text for reason in report.reasons), report.reasons
    assert written(report) == report


def test_where_numbers_are_not_finite_the_probe_is_named(case: Any) -> None:
    z = case.run()["logits"]
    z[5:7, 2] = np.inf
    (output,) = check(case.golden, {"logits": z}).outputs
    assert (output.probe, output.error) == (case.golden.probes[5], None)
    assert check(case.golden, {"logits": z[:-1]}).outputs[0].probe == ""


def test_one_output_of_two_that_is_missing_fails_in_words() -> None:
    rng = np.random.default_rng(0)
    one, two, step = rng.normal(size=(3, 8, 3))
    x, names = make_probes({"x": (4,)}, count=8)
    rough = {"one": one.astype(np.float32), "two": two.astype(np.float32)}
    ablation = {"one": one + step, "two": two + step}
    golden = Golden.build(x, {"one": one, "two": two}, [ablation], [rough], blocks=["b"], probes=names)
    report = check(golden, {"one": one})
    (reason,) = report.reasons
    assert (report.verdict, reason.text) == (Verdict.FAIL, "Output 'two' is missing; the artifact gave one.")
    assert (reason.subject, reason.kind) == ("two", ReasonKind.OUTPUT_FAULT)
    assert [output.error is None for output in report.outputs] == [False, True]


def test_extra_outputs_are_ignored(case: Any) -> None:
    assert check(case.golden, case.run() | {"tap": np.full((1, 2), np.nan)}).verdict is Verdict.PASS


def plain_golden(y, steps, blocks):
    x, names = make_probes({"x": (4,)}, count=len(y))
    ablations = [{"o": y + step} for step in steps]
    return Golden.build(x, {"o": y}, ablations, [{"o": y.astype(np.float32)}], blocks=blocks, probes=names)


def test_a_step_near_the_tolerance_is_inconclusive_and_named() -> None:
    rng = np.random.default_rng(0)
    y, step = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    golden = plain_golden(y, [1e-8 * rng.normal(size=y.shape), 1e-2 * step], ["small", "large"])
    report = check(golden, {"o": y.astype(np.float32)})
    assert report.verdict is Verdict.INCONCLUSIVE
    (reason,) = report.reasons
    assert (reason.subject, reason.kind) == ("small", ReasonKind.ATTENTION_DOUBT)
    assert "could not have failed" in reason.text
    alike = check(plain_golden(y, [1e-8 * step, 1e-2 * step], ["small", "large"]), {"o": y.astype(np.float32)})
    assert ["'small'" in reason.text for reason in alike.reasons] == [True]  # the tolerance alone guards the large one
    assert check(plain_golden(y, [1e-2 * step], ["large"]), {"o": y.astype(np.float32)}).verdict is Verdict.PASS


@pytest.mark.parametrize(("effect", "state"), [(1e-12, AttentionState.INCONCLUSIVE), (1e-3, AttentionState.LOST)])
def test_what_no_float32_output_can_carry_is_not_called_lost(effect: float, state: AttentionState) -> None:
    """An honest engine's sum has no room for 1e-12 of it: its ablation is the same, inside as well."""
    rng = np.random.default_rng(0)
    y, step = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    golden = plain_golden(y, [effect * step], ["quiet"])
    without = (y + effect * step).astype(np.float32)
    report = check(
        golden, {"o": without}, artifact_ablations={"o": without[None]}, inside=[(0.0, 0.0, 0.0)], outputs_decide=True
    )
    assert [block.state for block in report.blocks] == [state]
    kinds = {reason.kind for reason in report.reasons}
    assert (ReasonKind.ATTENTION_DOUBT in kinds) is (state is AttentionState.INCONCLUSIVE)
    told = [reason.text for reason in report.reasons if reason.kind is ReasonKind.ATTENTION_DOUBT]
    assert all("--replay full" in text and "--probes" in text and "less than a float32" in text for text in told)


def test_outputs_that_do_not_depend_on_the_input_are_inconclusive() -> None:
    y = np.tile(np.array([[1.0, 2.0, 3.0]]), (6, 1))
    report = check(plain_golden(y, [], []), {"o": y})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "a constant might have passed" in report.reasons[0].text
    assert (report.reasons[0].subject, report.reasons[0].kind) == ("o", ReasonKind.OUTPUT_DOUBT)


def test_a_network_without_attention_is_checked_by_the_tolerance() -> None:
    y = np.random.default_rng(0).normal(size=(6, 3))
    golden = plain_golden(y, [], [])
    report = check(golden, {"o": y})
    assert (report.verdict, report.blocks, report.overall) == (Verdict.PASS, (), None)
    assert check(golden, {"o": y * 1.00001}).verdict is Verdict.FAIL


def test_distances_say_what_the_check_would_see(case: Any) -> None:
    for block, distance in enumerate(ablation_distances(case.golden).values()):
        error = check(case.golden, case.run(np.float64, faults={"dead": 1, "block": block})).error
        assert error == pytest.approx(distance * TOLERANCE, rel=1e-4)


def test_top1_is_reported_and_decides_nothing(case: Any) -> None:
    z = case.run()["logits"]
    assert check(case.golden, {"logits": z}).outputs[0].top1 == 1.0
    report = check(case.golden, {"logits": 1.01 * z})
    assert (report.verdict, report.outputs[0].top1) == (Verdict.FAIL, 1.0)


def test_the_report_is_json(case: Any) -> None:
    report = check(case.golden, case.faulty(dead=1, block=0))
    assert written(report) == report
    document = codec.encode(report, "report")
    assert document["verdict"] == "fail"
    assert document["blocks"][0]["state"] == "lost"
    assert document["blocks"][0]["block"] == FIRST
    assert document["outputs"][0]["floor"]["runs"] == 3
    assert document["outputs"][0]["error"] > 8
    assert "noise floors" in document["outputs"][0]["explanation"]
    assert written(nothing := check(case.golden, {})) == nothing
    assert nothing.outputs[0].error is None
    assert nothing.error == np.inf


def written(report):
    """``report`` as it is read back from JSON."""
    text = codec.dumps(codec.encode(report, "report"))
    return codec.decode(Report, codec.loads(text.encode(), "report"), "report")


@pytest.mark.parametrize(
    ("distance", "state", "unguarded"),
    [
        (3.99, AttentionState.INCONCLUSIVE, True),
        (4.0, AttentionState.INCONCLUSIVE, False),
        (3.99, AttentionState.KEPT, False),
    ],
)
def test_a_block_is_unguarded_below_four_tolerances_where_its_retention_tells_nothing(
    distance: float, state: AttentionState, unguarded: bool
) -> None:
    block = BlockCheck("block", None, None, None, state, distance, "")
    assert _is_unguarded(block) is unguarded


@pytest.mark.parametrize(
    ("distance", "shape_distance", "state", "flat"),
    [
        (4.0, 3.99, AttentionState.INCONCLUSIVE, True),
        (3.99, 3.99, AttentionState.INCONCLUSIVE, False),
        (4.0, 4.0, AttentionState.INCONCLUSIVE, False),
        (4.0, 3.99, AttentionState.KEPT, False),
        (4.0, None, AttentionState.INCONCLUSIVE, False),
    ],
)
def test_a_map_is_flat_where_losing_the_block_would_show_and_making_it_uniform_would_not(
    distance: float, shape_distance: float | None, state: AttentionState, flat: bool
) -> None:
    shape = Retention("block", None, None, None, state, "")
    block = BlockCheck("block", None, None, None, AttentionState.KEPT, distance, "", shape, shape_distance)
    assert _is_flat(block) is flat


@pytest.mark.parametrize(("shape", "agreement"), [((5,), 1.0), ((1,), None), ((5, 2), None)])
def test_only_scores_of_several_classes_have_a_top_1(shape: tuple[int, ...], agreement: float | None) -> None:
    outputs = {"y": np.random.default_rng(0).normal(size=(4, *shape))}
    sound = [{"y": outputs["y"].astype(np.float32)}]
    golden = Golden.build({"x": np.zeros((4, 1), np.float32)}, outputs, [], sound, blocks=(), probes=list("abcd"))
    (output,) = check(golden, sound[0]).outputs
    assert output.top1 == agreement
