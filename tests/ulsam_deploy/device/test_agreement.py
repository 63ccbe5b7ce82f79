"""What agreement with PyTorch on real inputs says of an artifact, and what that means for its verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.agreement import LEAST, measure_agreement, with_agreement
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.checks import artifact_checks
from ulsam_deploy.device.findings import Agreement, AgreementBudget, Floor, Reason, ReasonKind, Statistic, Verdict
from ulsam_deploy.device.findings.parity import OutputCheck, Report
from ulsam_deploy.device.parity import Golden, PrecisionFloors
from ulsam_deploy.device.types import EvidenceLevel, TensorSpec
from ulsam_deploy.device.verify import execute

from ..handmade import _onnx as write_onnx

Outputs = np.ndarray[Any, Any]


def golden_of(y: Outputs, names: Callable[[int], str] = "held-out-{}".format) -> Golden:
    """A golden set of the outputs ``y`` (P, ...)."""
    noisy = [{"y": y * (1 + 1e-6)}]
    return Golden.build({"x": np.zeros((len(y), 1), np.float32)}, {"y": y}, [], noisy, blocks=(),
                        probes=[names(i) for i in range(len(y))])  # fmt: skip


def scores(count: int = 40, classes: int = 10) -> Outputs:
    return np.random.default_rng(3).normal(size=(count, classes)) * 4


def off(y: Outputs, by: float) -> Outputs:
    """``y``, off by noise of this part of its deviation."""
    return y + by * y.std(0).mean() * np.random.default_rng(5).normal(size=y.shape)


def agreement(y: Outputs, z: Outputs, budget: AgreementBudget | None = None) -> Agreement:
    found = measure_agreement(golden_of(y), {"y": z}, budget)
    assert found
    return found


def test_a_good_one_passes_with_its_figures() -> None:
    y = scores()
    found = agreement(y, off(y, 0.03))
    (one,) = found.outputs
    assert (found.inputs, found.verdict) == (40, Verdict.PASS)
    assert one.deviation == pytest.approx(0.03, rel=0.2)
    assert one.all
    assert one.sure
    assert one.all.count == 40
    assert 20 < one.sure.count < 40  # those where the first class is ahead
    assert one.sure.same == one.sure.count
    assert one.sure.low < 0.98 < one.sure.high == 1.0


@pytest.mark.parametrize("value", [0.0, 1.0, 1e9])
def test_a_constant_fails(value: float) -> None:
    y = scores()
    assert agreement(y, np.full_like(y, value)).verdict is Verdict.FAIL


@pytest.mark.parametrize("count", [2, 3, LEAST, 40])
def test_the_mean_of_all_outputs_fails_however_few_there_are(count: int) -> None:
    y = scores(count)
    found = agreement(y, np.broadcast_to(y.mean(0), y.shape))
    assert found.verdict is Verdict.FAIL
    assert found.deviation == pytest.approx(((count - 1) / count) ** 0.5)


def test_a_constant_that_is_right_on_all_inputs_fails() -> None:
    """All inputs are of one class: top-1 alone would let it pass."""
    y = scores() + 30 * np.eye(10)[4]
    found = agreement(y, np.broadcast_to(y.mean(0), y.shape))
    assert found.outputs[0].sure == found.outputs[0].all
    assert found.outputs[0].all
    assert found.outputs[0].all.share == 1
    assert found.verdict is Verdict.FAIL


def test_classes_that_change_fail_where_errors_are_small() -> None:
    y = scores()
    z = y.copy()
    swapped = np.arange(40) % 5 == 0
    first, second = np.argsort(y, 1)[:, -1], np.argsort(y, 1)[:, -2]
    rows = np.flatnonzero(swapped)
    z[rows, second[rows]] = y[rows, first[rows]] + 0.01
    found = agreement(y, z, AgreementBudget(deviation=9.0))
    assert found.outputs[0].sure
    assert found.outputs[0].sure.high < 0.98
    assert found.verdict is Verdict.FAIL
    assert agreement(y, z, AgreementBudget(agreement=0.5, deviation=9.0)).verdict is Verdict.PASS


def test_one_of_few_is_chance_and_said() -> None:
    y = scores(12)
    z = y.copy()
    z[np.argmax(np.ptp(y, 1))] = y[np.argmin(np.ptp(y, 1))]  # another one's scores
    found = agreement(y, z, AgreementBudget(deviation=9.0))
    assert found.verdict is Verdict.PASS
    evidence = with_agreement(seen(1.0), found, "int8")
    assert any("too few to tell it from chance" in reason.text for reason in evidence.reasons)


@pytest.mark.parametrize("shape", [(40, 2, 8, 8), (40, 3, 64, 64)], ids=["whole", "sketched"])
def test_a_dense_output_is_judged_by_its_error(shape: tuple[int, ...]) -> None:
    y = np.random.default_rng(0).normal(size=shape)
    good, bad = agreement(y, off(y, 0.2)), agreement(y, off(y, 0.3))
    assert good.outputs[0].sure is good.outputs[0].all is None
    assert (good.verdict, bad.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert good.deviation == pytest.approx(0.2, rel=0.1)


def test_an_embedding_is_judged_by_its_error() -> None:
    """A row of numbers like class scores, of which none is sure of anything."""
    y = np.random.default_rng(0).normal(size=(40, 128))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    good, bad = agreement(y, off(y, 0.1)), agreement(y, off(y, 0.6))
    assert good.outputs[0].sure is None
    assert (good.verdict, bad.verdict) == (Verdict.PASS, Verdict.FAIL)


def test_probabilities_are_not_made_probabilities_again() -> None:
    powers = np.exp(scores())
    y = powers / powers.sum(1, keepdims=True)
    logits, shares = agreement(scores(), scores()), agreement(y, y)
    assert logits.outputs[0].sure == shares.outputs[0].sure


@pytest.mark.parametrize("wrong", [np.full((40, 10), np.nan), np.zeros((40, 9)), np.full((40, 10), "x")])
def test_what_cannot_be_compared_fails(wrong: Outputs) -> None:
    found = agreement(scores(), wrong)
    assert (found.verdict, found.deviation) == (Verdict.FAIL, None)
    assert "cannot be compared" in with_agreement(seen(1.0), found, "int8").reasons[0].text


def test_a_reference_that_is_always_the_same_says_nothing() -> None:
    y = np.broadcast_to(scores(1), (40, 10)).copy()
    found = agreement(y, y)
    assert (found.verdict, found.deviation) == (Verdict.INCONCLUSIVE, None)
    assert "the same for all held-out inputs" in with_agreement(seen(1.0), found, "int8").reasons[-1].text


def test_only_real_inputs_count() -> None:
    y = scores()
    z = y.copy()
    z[::2] = 0
    found = measure_agreement(golden_of(y, lambda i: f"yours-{i}" if i % 2 else f"natural-{i}"), {"y": z})
    assert found
    assert (found.inputs, found.verdict) == (20, Verdict.PASS)
    assert measure_agreement(golden_of(y, "natural-{}".format), {"y": z}) is None


# What it means for the verdict.

FAULT = Reason("y", ReasonKind.OUTPUT_FAULT, "Far off.")
DOUBT = Reason("y", ReasonKind.OUTPUT_DOUBT, "A constant might have passed.")
LOST = Reason("attention", ReasonKind.ATTENTION_FAULT, "Lost.")
UNSEEN = Reason("attention", ReasonKind.ATTENTION_DOUBT, "Not seen.")


def seen(error: float | None, *reasons: Reason) -> Evidence:
    """What the check against noise floors showed."""
    checked = OutputCheck("y", error, 3.0, Floor(0.9, 2.0, 4), "held-out-0", Statistic.L2, None, "")
    evidence = Evidence(EvidenceLevel.EXECUTED, parity=Report(Verdict.PASS, 3.0, (checked,), (), None, reasons))
    verdict = Verdict.PASS if not reasons else Verdict.FAIL
    return dataclasses.replace(evidence, verdict=verdict, reasons=reasons)


GOOD = agreement(scores(), off(scores(), 0.05))
BAD = agreement(scores(), off(scores(), 0.6))
FEW = agreement(scores(LEAST - 1), off(scores(LEAST - 1), 0.05))


@pytest.mark.parametrize(
    ("evidence", "found", "precision", "verdict"),
    [
        (seen(1.0), GOOD, "int8", Verdict.PASS),
        (seen(1.0, DOUBT), GOOD, "int8", Verdict.PASS),
        (seen(3.1, FAULT), GOOD, "int8", Verdict.PASS),
        (seen(8.1, FAULT), GOOD, "int8", Verdict.FAIL),  # more than rounding that adds up
        (seen(None, FAULT), GOOD, "int8", Verdict.FAIL),
        (seen(1.0, LOST), GOOD, "int8", Verdict.FAIL),  # top-1 is kept without attention as well
        (seen(1.0, UNSEEN), GOOD, "int8", Verdict.INCONCLUSIVE),
        (seen(1.0), BAD, "int8", Verdict.FAIL),  # within the noise, and ruined
        (seen(1.0, DOUBT), BAD, "int8", Verdict.FAIL),
        (seen(1.0, DOUBT), FEW, "int8", Verdict.INCONCLUSIVE),
        (seen(3.1, FAULT), FEW, "int8", Verdict.FAIL),
        (seen(1.0), FEW, "int8", Verdict.PASS),
        (seen(1.0, DOUBT), None, "int8", Verdict.FAIL),  # as it was
        (seen(8.1, FAULT), GOOD, "fp32", Verdict.FAIL),
        (seen(3.1, FAULT), GOOD, "fp16", Verdict.FAIL),
        (seen(1.0, DOUBT), GOOD, "fp32", Verdict.INCONCLUSIVE),
        (seen(1.0), BAD, "fp32", Verdict.FAIL),
    ],
)
def test_both_questions_make_one_verdict(
    evidence: Evidence, found: Agreement | None, precision: str, verdict: Verdict
) -> None:
    assert with_agreement(evidence, found, precision).verdict is verdict


def test_a_failure_names_figure_budget_and_option() -> None:
    reason = with_agreement(seen(1.0), BAD, "int8").reasons[0]
    assert reason.kind is ReasonKind.AGREEMENT_FAULT
    assert "Output 'y' has PyTorch's top-1 on only 20 of 34 held-out inputs where PyTorch is sure" in reason.text
    assert f"{BAD.deviation:.2g} of its variation between 40 held-out inputs; 0.25 is the budget" in reason.text
    for word in ("0.98 is the budget", "--limit agreement=SHARE --limit deviation=SHARE", "--keep"):
        assert word in reason.text


def test_what_is_missing_is_said_in_int8_only() -> None:
    assert "No real input" in with_agreement(seen(1.0), None, "int8-dynamic").reasons[0].text.replace("no", "No", 1)
    assert with_agreement(seen(1.0), None, "fp32").reasons == ()
    assert f"{LEAST} are needed" in with_agreement(seen(1.0), FEW, "int8").reasons[-1].text


def test_it_is_a_check_of_its_own() -> None:
    checks = {one.name: one for one in artifact_checks("onnx int8", with_agreement(seen(1.0), BAD, "int8"), "again")}
    assert checks["output y"].verdict is Verdict.PASS
    assert checks["agreement of y"].verdict is Verdict.FAIL
    good = {one.name: one for one in artifact_checks("onnx int8", with_agreement(seen(1.0), GOOD, "int8"), "again")}
    assert good["agreement of y"].verdict is Verdict.PASS


# An engine, and floors as wide as those of a deep network: a constant is within them.


@pytest.fixture(scope="module")
def dense() -> tuple[Outputs, Golden]:
    random = np.random.default_rng(0)
    weights = (random.normal(size=(64, 64)) / 8).astype(np.float32)
    x = random.normal(size=(40, 64)).astype(np.float32)
    y = {"y": np.maximum(x.astype(np.float64) @ weights, 0)}
    names = [f"held-out-{i}" for i in range(40)]
    golden = Golden.build({"x": x}, y, [], [{"y": y["y"] * (1 + 1e-6)}], blocks=(), probes=names)
    wide = PrecisionFloors({"y": Floor(0.9, 9.0, 4, 99.0)}, tuple(range(40)))
    return weights, dataclasses.replace(golden, precision_floors={"int8": wide})


def run(golden: Golden, weights: Outputs, folder: Path) -> Evidence:
    write_onnx(folder, weights.astype(np.float32), None, 1)
    ports = (TensorSpec("x", (None, 64)),), (TensorSpec("y", (None, 64)),)
    return execute("onnx", [folder / "model.onnx"], *ports, golden, precision="int8", timed=False)


def rounded(weights: Outputs, steps: int) -> Outputs:
    scale = np.abs(weights).max(0) / steps
    return np.asarray(np.round(weights / scale) * scale)


def test_good_weights_in_int8_pass(dense: tuple[Outputs, Golden], tmp_path: Path) -> None:
    weights, golden = dense
    evidence = run(golden, rounded(weights, 127), tmp_path)
    assert evidence.verdict is Verdict.PASS
    assert evidence.agreement
    assert evidence.agreement.deviation
    assert evidence.agreement.deviation < 0.02
    kinds = [reason.kind for reason in evidence.reasons]
    assert kinds == [
        ReasonKind.OUTPUT_NOTE,
        ReasonKind.AGREEMENT_NOTE,
    ]  # by the floors, a constant might pass


@pytest.mark.parametrize("ruin", [lambda w: 0 * w, lambda w: rounded(w, 1), lambda w: w[::-1]])
def test_a_constant_and_garbage_fail_within_the_floors(
    dense: tuple[Outputs, Golden], tmp_path: Path, ruin: Callable[[Outputs], Outputs]
) -> None:
    weights, golden = dense
    evidence = run(golden, ruin(weights), tmp_path)
    assert evidence.parity
    assert evidence.parity.error < 3
    assert evidence.verdict is Verdict.FAIL
    assert ReasonKind.AGREEMENT_FAULT in {reason.kind for reason in evidence.reasons}
