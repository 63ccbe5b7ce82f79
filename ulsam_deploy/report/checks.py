"""What was checked, one line each: the list that JUnit, the job summary and the annotations are all written from.

Standard library only. The text of a check stands alone: who reads it sees nothing else of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ulsam_deploy.bundle import Evidence
from ulsam_deploy.contracts import Tier, Verdict

#: What a sentence of the parity check says when it is about a check that could not have failed.
_DOUBT = ("could not have failed", "might have passed")
_ABOUT_BLOCK, _ABOUT_OUTPUT = "block '{}'", "Output '{}'"


@dataclass(frozen=True)
class Check:
    """One thing that was checked about one ``subject`` (an artifact, ``onnx fp32``; a model; a comparison).

    ``text`` is empty for a pass, or what a reader needs who sees this alone: what was found, and how to see it again.
    """

    subject: str
    name: str
    verdict: Verdict
    text: str = ""


def artifact_checks(
    subject: str, evidence: Evidence, again: str, *, required: Tier = Tier.EXPORTED, why: str = ""
) -> tuple[Check, ...]:
    """Every check of one artifact: its evidence tier, each output, each attention block, and what else was found.

    ``again`` is the command that shows a failure once more, ``why`` what kept the evidence below ``required``.
    """
    engine = " ".join(str(evidence.engine[key]) for key in ("engine", "version") if key in evidence.engine)
    where = f"{subject} on {engine}" if engine else subject

    def found(name: str, verdict: Verdict, sentences: Sequence[str]) -> Check:
        if verdict is Verdict.PASS:
            return Check(subject, name, verdict)
        return Check(subject, name, verdict, f"{where}: {' '.join(sentences)}\nTo see it again: {again}")

    checks = [found("evidence", *_tier(evidence, required, why))]
    left = [reason for reason in evidence.reasons if not reason.startswith("Note:")]
    for name, words in _parts(evidence.parity or {}):
        about = [reason for reason in left if words in reason]
        left = [reason for reason in left if reason not in about]
        checks.append(found(name, _worst(evidence.verdict, about), about))
    if left and evidence.verdict is not Verdict.UNVERIFIED:
        checks.append(found("other findings", _worst(evidence.verdict, left), left))
    elif evidence.verdict is Verdict.UNVERIFIED:
        checks.append(found("parity", Verdict.UNVERIFIED, left or ["Nothing was executed, so nothing was checked."]))
    if evidence.verdict is Verdict.FAIL and all(check.verdict is not Verdict.FAIL for check in checks):
        checks.append(found("verdict", Verdict.FAIL, ["The artifact failed."]))
    return tuple(checks)


def worst(checks: Iterable[Check]) -> Verdict:
    """The verdict over all checks: the first of fail, inconclusive, unverified and pass that any of them has."""
    found = {check.verdict for check in checks}
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    return next((verdict for verdict in order if verdict in found), Verdict.UNVERIFIED)


def _tier(evidence: Evidence, required: Tier, why: str) -> tuple[Verdict, Sequence[str]]:
    if evidence.tier >= required:
        return Verdict.PASS, ()
    found = f"The evidence reached '{evidence.tier.label}'; '{required.label}' was asked for"
    return Verdict.FAIL, [f"{found}: {why}." if why else f"{found}."]


def _parts(parity: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The name of each output's and each block's check, and the words by which a sentence is known to be about it."""
    outputs = [output["output"] for output in parity.get("outputs", ())]
    blocks = [block["block"] for block in parity.get("blocks", ())]
    return [(f"output {name}", _ABOUT_OUTPUT.format(name)) for name in outputs] + [
        (f"attention of {name}", _ABOUT_BLOCK.format(name)) for name in blocks
    ]


def _worst(whole: Verdict, sentences: Sequence[str]) -> Verdict:
    """What sentences about one part mean for it, within an artifact whose verdict is ``whole``."""
    if not sentences or whole is Verdict.PASS:
        return Verdict.PASS
    doubts = all(any(words in sentence for words in _DOUBT) for sentence in sentences)
    return Verdict.INCONCLUSIVE if doubts or whole is Verdict.INCONCLUSIVE else Verdict.FAIL
