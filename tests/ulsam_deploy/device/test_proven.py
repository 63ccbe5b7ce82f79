"""What replay proved when an artifact was made holds for the same bytes elsewhere, and no further."""

from __future__ import annotations

import dataclasses

import pytest

from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.findings import (
    Floor,
    OutputCheck,
    Reason,
    ReasonKind,
    Replay,
    ReplayedModule,
    Report,
    Statistic,
    Verdict,
)
from ulsam_deploy.device.proven import TWICE, as_recorded
from ulsam_deploy.device.types import EvidenceLevel

PROVEN = Replay(batches=1, allowed=8.0, alone=1.0, together=0.0, unseen=0.0, outputs=True, modules=())
FAULT = Reason("logits", ReasonKind.OUTPUT_FAULT, "Far off.")
DOUBT = Reason("logits", ReasonKind.OUTPUT_DOUBT, "All alike.")
NOTE = Reason("logits", ReasonKind.OUTPUT_NOTE, "Note: rounding.")
BLOCK = Reason("attention", ReasonKind.ATTENTION_FAULT, "Lost.")


def shown(error: float, *reasons: Reason, replay: Replay | None = None) -> Evidence:
    checked = OutputCheck("logits", error, 8.0, Floor(1e-7, 1e-6, 3), "zero", Statistic.L2, None, "")
    report = Report(Verdict.FAIL, 8.0, (checked,), (), None, reasons)
    return Evidence(EvidenceLevel.EXECUTED, Verdict.FAIL, reasons, report, replay=replay)


def test_an_error_as_when_it_was_made_is_rounding() -> None:
    found = as_recorded(shown(11.0, FAULT), shown(10.0, NOTE, replay=PROVEN), "fp32")
    assert found.verdict is Verdict.PASS
    assert [reason.kind for reason in found.reasons] == [ReasonKind.OUTPUT_NOTE]


def test_a_larger_one_is_a_fault() -> None:
    assert as_recorded(shown(TWICE * 10.1, FAULT), shown(10.0, NOTE, replay=PROVEN), "fp32").verdict is Verdict.FAIL


def test_outputs_that_are_alike_are_no_doubt_of_what_was_proven() -> None:
    assert as_recorded(shown(1.0, DOUBT), shown(1.0, replay=PROVEN), "fp16").verdict is Verdict.PASS


def test_what_was_far_off_only_here_is_a_fault() -> None:
    assert as_recorded(shown(11.0, FAULT), shown(10.0, replay=PROVEN), "fp32").verdict is Verdict.FAIL


def test_lost_attention_is_a_fault_whatever_was_proven() -> None:
    found = as_recorded(shown(11.0, FAULT, BLOCK), shown(10.0, NOTE, replay=PROVEN), "fp32")
    assert found.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("module", "ratio", "verdict"),
    [
        ("attention.0", 1.0, Verdict.PASS),
        ("attention", 1.0, Verdict.PASS),
        ("attention", None, Verdict.INCONCLUSIVE),
        ("attentions", 1.0, Verdict.INCONCLUSIVE),
    ],
)
def test_attention_without_effect_is_no_doubt_if_its_operators_were_seen(
    module: str, ratio: float | None, verdict: Verdict
) -> None:
    seen = ReplayedModule(module, "softmax", ratio, 0.0, 0.0, 1, wrong=False)
    doubt = Reason("attention#2", ReasonKind.ATTENTION_DOUBT, "It moves nothing.")
    recorded = shown(1.0, replay=dataclasses.replace(PROVEN, modules=(seen,)))
    assert as_recorded(shown(1.0, doubt), recorded, "fp16").verdict is verdict


@pytest.mark.parametrize(
    ("replay", "precision"),
    [
        (None, "fp32"),
        (PROVEN, "int8"),
        (dataclasses.replace(PROVEN, outputs=False), "fp32"),
        (dataclasses.replace(PROVEN, alone=0.5), "fp32"),
    ],
)
def test_what_was_not_proven_changes_nothing(replay: Replay | None, precision: str) -> None:
    here = shown(11.0, FAULT, DOUBT)
    assert as_recorded(here, shown(10.0, NOTE, replay=replay), precision) == here
