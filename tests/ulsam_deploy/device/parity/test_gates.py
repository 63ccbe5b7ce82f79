"""What is concluded about watched gates from figures: never more than they show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.findings import AttentionState, ReasonKind, Report, Verdict
from ulsam_deploy.device.npz import read_arrays, write_arrays
from ulsam_deploy.device.parity import Golden, check
from ulsam_deploy.device.parity.inside import Reading

PROBES, VALUES = 12, 40
NOISE = 1e-3
GENERATOR = np.random.default_rng(0)
Y = GENERATOR.normal(size=(PROBES, VALUES))
STEPS = GENERATOR.normal(size=(2, PROBES, VALUES))  # of the block, and of the gate


def golden(size: float) -> Golden:
    """One fused block and one gate, whose ablation moves the output by ``size`` of it."""
    controls = [{"y": Y + NOISE * GENERATOR.normal(size=Y.shape)} for _ in range(3)]
    return Golden.build(
        {"x": np.zeros((PROBES, 1), np.float32)},
        {"y": Y},
        [{"y": Y + STEPS[0]}],
        controls,
        blocks=["block"],
        probes=[f"p{i}" for i in range(PROBES)],
        gates=["gate"],
        gate_ablations=[{"y": Y + size * STEPS[1]}],
    )


def judged(size: float, lost: float, *, exact: bool = True, inside: Reading | None = None) -> Report:
    """The check of an artifact in which the gate lost ``lost`` of its attention."""
    produced = {"y": Y + lost * size * STEPS[1] + NOISE / 10 * GENERATOR.normal(size=Y.shape)}
    return check(golden(size), produced, outputs_decide=exact, gates_inside=(inside,) if inside else ())


def test_a_whole_gate_passes_without_a_word() -> None:
    report = judged(1.0, 0.0)
    (gate,) = report.gates
    assert report.verdict is Verdict.PASS
    assert report.reasons == ()
    assert (gate.block, gate.state) == ("gate", AttentionState.KEPT)
    assert gate.retention == pytest.approx(1.0, abs=1e-3)
    assert [block.block for block in report.blocks] == ["block"]


@pytest.mark.parametrize(("lost", "word"), [(1.0, "lost"), (0.5, "weakened"), (-0.5, "overstated"), (2.0, "reversed")])
def test_what_is_missing_or_too_much_fails_and_is_named(lost: float, word: str) -> None:
    report = judged(1.0, lost)
    assert report.verdict is Verdict.FAIL
    faults = [reason for reason in report.reasons if reason.kind is ReasonKind.ATTENTION_FAULT]
    assert [reason.subject for reason in faults] == ["gate"]
    assert f"gate 'gate' is {word}: retention {1 - lost:.2f}" in faults[0].text


def test_an_effect_that_rounding_hides_is_said_to_be_open_and_is_no_doubt() -> None:
    report = judged(1e-5, 1.0)
    assert report.gates[0].state is AttentionState.INCONCLUSIVE
    assert report.verdict is Verdict.PASS
    (note,) = report.reasons
    assert note.kind is ReasonKind.ATTENTION_NOTE
    assert "cannot be told here" in note.text


def test_what_was_read_at_the_gate_decides_in_low_precision() -> None:
    report = judged(0.5, 0.0, exact=False, inside=(0.0, -0.1, 0.1))
    assert report.verdict is Verdict.FAIL
    assert report.gates[0].state is AttentionState.LOST
    outputs = report.gates[0].outputs
    assert outputs is not None
    assert outputs.state is AttentionState.KEPT


def test_what_was_read_decides_in_float32_only_where_outputs_are_open() -> None:
    assert judged(1.0, 0.0, inside=(0.0, -0.1, 0.1)).verdict is Verdict.PASS
    assert judged(1e-5, 0.0, inside=(0.0, -0.1, 0.1)).verdict is Verdict.FAIL
    assert judged(1e-5, 0.0, inside=(1.0, 0.9, 1.1)).reasons == ()


def test_outputs_and_reading_that_differ_in_float32_are_no_fault_of_the_gate() -> None:
    report = judged(0.005, 0.5, inside=(1.0, 0.99, 1.01))
    (reason,) = report.reasons
    assert reason.kind is ReasonKind.ATTENTION_NOTE
    assert "read in the artifact itself, it is whole" in reason.text


@pytest.mark.parametrize(
    ("low", "high", "fails"), [(0.8, 0.88, False), (0.6, 0.7, True), (1.12, 1.2, False), (1.3, 1.4, True)]
)
def test_low_precision_may_round_a_gates_own_weights(low: float, high: float, fails: bool) -> None:
    report = judged(0.005, 0.0, exact=False, inside=((low + high) / 2, low, high))
    assert (report.verdict is Verdict.FAIL) == fails
    assert report.reasons


def test_a_lost_gate_that_moves_nothing_is_only_noted() -> None:
    report = judged(1e-4, 0.0, exact=False, inside=(0.0, -0.1, 0.1))
    assert report.verdict is Verdict.PASS
    assert "is lost" in report.reasons[0].text


def test_what_is_known_of_gates_is_stored(tmp_path: Path) -> None:
    made = dataclasses.replace(golden(1.0), gates_inside={"onnx-int8": ((0.5, 0.4, 0.6),)})
    made.save(tmp_path / "golden.npz")
    again = Golden.load(tmp_path / "golden.npz")
    assert again.gates == ("gate",)
    assert again.gates_inside == made.gates_inside
    np.testing.assert_array_equal(again.gate_ablations["y"], made.gate_ablations["y"])
    assert again.take([3, 1]).gate_ablations["y"].shape == (1, 2, VALUES)


def test_a_golden_set_of_the_version_before_has_no_gates(tmp_path: Path) -> None:
    golden(1.0).save(tmp_path / "golden.npz")
    members = read_arrays(tmp_path / "golden.npz")
    meta = members["meta"].tobytes().replace(b"golden/5", b"golden/4")
    members["meta"] = np.frombuffer(meta, np.uint8)
    write_arrays(tmp_path / "before.npz", members)
    assert Golden.load(tmp_path / "before.npz").gates == ()


@pytest.mark.parametrize(
    "wrong", [{"gates": ("block",)}, {"gate_ablations": {}}, {"gates_inside": {"onnx-int8": ()}}, {"gates": ("a", "b")}]
)
def test_a_golden_set_whose_gates_do_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ExportError, match="not consistent"):
        dataclasses.replace(golden(1.0), **wrong)
