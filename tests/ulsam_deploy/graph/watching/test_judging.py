"""Networks with attention through real converters and engines: a whole gate passes, one that is not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ulsam_deploy.graph.watching.judging import judged, subject, tampered
from tests.ulsam_deploy.graph.watching.networks import GATES
from ulsam_deploy.device.findings import AttentionState, ReasonKind, Report, Verdict


def faults(report: Report) -> list[str]:
    return [reason.subject for reason in report.reasons if reason.kind is ReasonKind.ATTENTION_FAULT]


def see(kind: str, target: str, precision: str, folder: Path) -> None:
    """The honest artifact has no fault; a folded gate and half a gate are found, and named."""
    found = subject(kind)
    for how in ("honest", "folded", "halved"):
        into = folder / how
        into.mkdir()
        report = judged(found, tampered(found, how), target, precision, into)
        (gate,) = report.gates
        if how == "honest":
            assert faults(report) == []
            if precision != "int8":
                assert gate.state is AttentionState.KEPT
        elif precision == "fp32":
            assert report.verdict is Verdict.FAIL
            assert faults(report) == ["attention"]
        elif gate.state is not AttentionState.INCONCLUSIVE:  # of int8, only that it is not called whole
            assert gate.state is not AttentionState.KEPT
        else:
            assert precision == "int8"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_gate_is_seen(precision: str, tmp_path: Path) -> None:
    see("simam", "onnx", precision, tmp_path)


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param("fp32", marks=pytest.mark.long),
        *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.exhaustive]) for name in ("fp16", "int8")),
    ],
)
@pytest.mark.parametrize("kind", GATES)
def test_every_kind_is_seen(kind: str, precision: str, tmp_path: Path) -> None:
    see(kind, "onnx", precision, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("target", ["openvino", "tflite"])
@pytest.mark.parametrize("kind", ["cbam", "simam", "sge", "non_local"])
def test_other_engines_show_the_same(kind: str, target: str, tmp_path: Path) -> None:
    see(kind, target, "fp32", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("how", ["removed", "constant"])
def test_a_gate_that_is_left_out_or_made_constant_is_no_pass(how: str, tmp_path: Path) -> None:
    found = subject("cbam")
    report = judged(found, tampered(found, how), "onnx", "fp32", tmp_path)
    assert report.verdict is Verdict.FAIL
    assert report.gates[0].state is not AttentionState.KEPT
