"""What local replay means for a verdict: where it is made, and where the same bytes are verified again. Device-safe.

Replay needs the network in PyTorch. A bundle is verified without it, so that the record of its artifact speaks: its
bytes are the same, and what was proven about them holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.findings import Reason, ReasonKind, Replay, Severity, Verdict

__all__ = ["DECIDES", "TWICE", "as_recorded", "concluded", "eased"]

#: The precisions in which every module's being right proves the outputs. In int8 a wrong module is a fault, where the
#: file states its steps; but half a step is so much that modules which are right prove nothing about the whole.
DECIDES = ("fp32", "fp16")
#: An output may be this many times as far off as the same artifact was while every module of it was proven right.
TWICE = 2.0


def eased(reasons: Sequence[Reason], honest: Collection[str], replay: Replay) -> tuple[Reason, ...]:
    """``reasons`` about what ``replay`` proves: notes in place of doubts, and of faults of ``honest`` outputs.

    A doubt about a block's attention stays where no operator of the block was seen.
    """
    return tuple(_eased(reason, honest, replay) for reason in reasons)


def _eased(reason: Reason, honest: Collection[str], replay: Replay) -> Reason:
    if reason.kind is ReasonKind.ATTENTION_DOUBT and replay.saw(reason.subject.split("#")[0]):
        text = f"Note: every module of it was proven by itself. {reason.text}"
        return Reason(reason.subject, ReasonKind.ATTENTION_NOTE, text)
    if reason.kind is ReasonKind.OUTPUT_DOUBT:
        return Reason(reason.subject, ReasonKind.OUTPUT_NOTE, f"Note: every module was proven by itself. {reason.text}")
    if reason.kind is ReasonKind.OUTPUT_FAULT and reason.subject in honest:
        why = "Every module is right, and their rounding alone adds up to this"
        return Reason(reason.subject, ReasonKind.OUTPUT_NOTE, f"Note: {why}: {reason.text}")
    return reason


def concluded(evidence: Evidence, reasons: Sequence[Reason]) -> Evidence:
    """``evidence`` with ``reasons`` in place of its own, and the verdict that they leave."""
    severities = {reason.kind.severity for reason in reasons}
    verdict = Verdict.PASS
    if Severity.FAULT in severities:
        verdict = Verdict.FAIL
    elif Severity.DOUBT in severities:
        verdict = Verdict.INCONCLUSIVE
    return replace(evidence, verdict=verdict, reasons=tuple(reasons))


def as_recorded(evidence: Evidence, recorded: Evidence, precision: str) -> Evidence:
    """The ``evidence`` of an artifact of a bundle, whose modules may have been proven when it was made.

    Args:
        evidence: What its outputs show here.
        recorded: What the bundle records about it.
        precision: Its precision.
    """
    if recorded.replay is None or not recorded.replay.proves or precision not in DECIDES:
        return evidence
    before = {one.output: one.error for one in recorded.parity.outputs} if recorded.parity else {}
    here = {one.output: one.error for one in evidence.parity.outputs} if evidence.parity else {}
    noted = {reason.subject for reason in recorded.reasons if reason.kind is ReasonKind.OUTPUT_NOTE}
    honest = {name for name in noted if _is_as_before(here.get(name), before.get(name))}
    return concluded(evidence, eased(evidence.reasons, honest, recorded.replay))


def _is_as_before(error: float | None, before: float | None) -> bool:
    return error is not None and before is not None and error <= TWICE * before
