"""The list of checks, from which JUnit, the job summary and the annotations are written.

Standard library only. The text of a check must be complete by itself: its reader sees nothing else of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.findings import Reason, ReasonKind, Severity, Verdict
from ulsam_deploy.device.types import EvidenceLevel

_ABOUT_OUTPUT = frozenset({ReasonKind.OUTPUT_FAULT, ReasonKind.OUTPUT_DOUBT})
_ABOUT_AGREEMENT = frozenset({ReasonKind.AGREEMENT_FAULT, ReasonKind.AGREEMENT_NOTE})
_ABOUT_ATTENTION = frozenset({ReasonKind.ATTENTION_FAULT, ReasonKind.ATTENTION_DOUBT, ReasonKind.ATTENTION_NOTE})


@dataclass(frozen=True)
class Check:
    """One thing that was checked about one ``subject`` (an artifact, ``onnx fp32``; a model; a comparison).

    ``text`` is empty for a pass; otherwise it says what was found, and how to reproduce it.
    """

    subject: str
    name: str
    verdict: Verdict
    text: str = ""


def artifact_checks(
    subject: str, evidence: Evidence, again: str, *, required: EvidenceLevel = EvidenceLevel.EXPORTED, why: str = ""
) -> tuple[Check, ...]:
    """Every check of one artifact: its evidence level, each output, its agreement, each attention block, and others.

    ``again`` is the command that reproduces a failure, ``why`` the reason for evidence below ``required``.
    """
    where = f"{subject} on {evidence.engine.title}" if evidence.engine else subject

    def found(name: str, verdict: Verdict, sentences: Sequence[str]) -> Check:
        if verdict is Verdict.PASS:
            return Check(subject, name, verdict)
        return Check(subject, name, verdict, f"{where}: {' '.join(sentences)}\nTo see it again: {again}")

    checks = [found("evidence", *_level(evidence, required, why))]
    left = list(evidence.reasons)
    for name, kinds, of in _parts(evidence):
        about = [reason for reason in left if reason.kind in kinds and reason.subject == of]
        left = [reason for reason in left if reason not in about]
        checks.append(found(name, _meaning(evidence.verdict, about), _texts(about)))
    if evidence.verdict is Verdict.UNVERIFIED:
        sentences = _texts(left) or ["Nothing was executed, so nothing was checked."]
        checks.append(found("parity", Verdict.UNVERIFIED, sentences))
    elif any(reason.kind.severity is not Severity.NOTE for reason in left):
        checks.append(found("other findings", _meaning(evidence.verdict, left), _texts(left)))
    if evidence.verdict is Verdict.FAIL and all(check.verdict is not Verdict.FAIL for check in checks):
        checks.append(found("verdict", Verdict.FAIL, ["The artifact failed."]))
    return tuple(checks)


def worst(checks: Iterable[Check]) -> Verdict:
    """The verdict over all checks: the first of fail, inconclusive, unverified and pass that occurs."""
    found = {check.verdict for check in checks}
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    return next((verdict for verdict in order if verdict in found), Verdict.UNVERIFIED)


def _level(evidence: Evidence, required: EvidenceLevel, why: str) -> tuple[Verdict, Sequence[str]]:
    if evidence.level >= required:
        return Verdict.PASS, ()
    found = f"The evidence reached '{evidence.level.label}'; '{required.label}' was required"
    return Verdict.FAIL, [f"{found}: {why}." if why else f"{found}."]


def _parts(evidence: Evidence) -> Iterator[tuple[str, frozenset[ReasonKind], str]]:
    """The name of each output's and each block's check, and the kinds and the subject of the reasons about it."""
    if (parity := evidence.parity) is not None:
        yield from ((f"output {found.output}", _ABOUT_OUTPUT, found.output) for found in parity.outputs)
        agreed = evidence.agreement.outputs if evidence.agreement else ()
        yield from ((f"agreement of {found.output}", _ABOUT_AGREEMENT, found.output) for found in agreed)
        yield from (
            (f"attention of {found.block}", _ABOUT_ATTENTION, found.block) for found in (*parity.blocks, *parity.gates)
        )


def _texts(reasons: Sequence[Reason]) -> list[str]:
    return [reason.text for reason in reasons]


def _meaning(whole: Verdict, reasons: Sequence[Reason]) -> Verdict:
    """The verdict on one part from the reasons about it, within an artifact whose verdict is ``whole``."""
    severities = {reason.kind.severity for reason in reasons}
    if whole is Verdict.PASS or not severities - {Severity.NOTE}:
        return Verdict.PASS
    is_fault = Severity.FAULT in severities and whole is not Verdict.INCONCLUSIVE
    return Verdict.FAIL if is_fault else Verdict.INCONCLUSIVE
