"""Is an artifact still any good? Its agreement with PyTorch on real inputs that it was not calibrated with.

numpy only; device-safe. The noise floors tell whether a precision was computed rightly, and not whether it suffices: in
int8 rounding alone may ruin a network. Here nothing is forgiven as noise. Two figures answer for each output: on how
many inputs its largest class score is PyTorch's, where PyTorch is sure; and, for any task, its error relative to how
much the output varies between inputs. A constant is off by all of the variation, and so never passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ulsam_deploy.device.accuracy.statistics import exact
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.findings import (
    Agreed,
    Agreement,
    AgreementBudget,
    OutputAgreement,
    Reason,
    ReasonKind,
    Verdict,
)
from ulsam_deploy.device.parity import Golden, is_built_in
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.precisions import QUANTIZED
from ulsam_deploy.device.proven import concluded
from ulsam_deploy.device.thresholds import TOLERANCE

__all__ = ["LEAST", "SURE", "measure_agreement", "with_agreement"]

#: PyTorch is sure of an input if its largest class probability is this much ahead of the next one.
SURE = 0.2
#: With fewer inputs, agreement can fail an artifact and not speak for it.
LEAST = 8
#: A reference that varies less than this part of its size does not vary.
_STILL = 1e-6


def measure_agreement(golden: Golden, produced: ArrayMap, budget: AgreementBudget | None = None) -> Agreement | None:
    """Compare an artifact with PyTorch on the real inputs of a golden set.

    Args:
        golden: The golden set of the artifact's precision (:meth:`~ulsam_deploy.device.parity.Golden.at`).
        produced: The artifact's outputs on all of its probes, (P, ...) by name.
        budget: What may be lost.

    Returns:
        The figures and verdicts; ``None`` where no probe is a real input.
    """
    rows = np.flatnonzero([not is_built_in(name) for name in golden.probes])
    if not len(rows):
        return None
    limits = budget or AgreementBudget()
    outputs = tuple(_of_output(golden, name, produced.get(name), rows, limits) for name in golden.outputs)
    return Agreement(len(rows), limits, outputs)


def with_agreement(evidence: Evidence, agreement: Agreement | None, precision: str) -> Evidence:
    """Add ``agreement`` to ``evidence``, and conclude from both.

    A budget that is missed fails the artifact. In int8, an output that keeps to it is no doubt for want of contrast any
    more, and none that is a few noise floors off fails: its floor, rounding that has added up over the network, is as
    large as some outputs are.

    Args:
        evidence: What the check against the noise floors showed.
        agreement: What :func:`measure_agreement` found.
        precision: The artifact's precision.
    """
    if agreement is None:
        note = "Note: no real input was given, so that agreement with PyTorch is not known: give some with --probes."
        missing = (Reason("", ReasonKind.AGREEMENT_NOTE, note),) if precision in QUANTIZED else ()
        return replace(evidence, reasons=(*evidence.reasons, *missing))
    reasons = evidence.reasons
    if precision in QUANTIZED:
        eased = (_eased(reason, evidence, agreement) for reason in reasons)
        reasons = (*eased, *_notes(agreement))
    return concluded(replace(evidence, agreement=agreement), (*_faults(agreement), *reasons))


def _of_output(golden: Golden, name: str, found: Array | None, rows: Array, budget: AgreementBudget) -> OutputAgreement:
    array = np.asarray(found)
    if array.shape != (len(golden.probes), *golden.shapes[name]) or array.dtype.kind not in "fiub":
        return OutputAgreement(name, None, None, None, Verdict.FAIL)
    y, z = compact(golden.outputs[name])[rows], compact(array[rows])
    if not np.isfinite(z).all():
        return OutputAgreement(name, None, None, None, Verdict.FAIL)
    deviation = _deviation(y, z)
    every = sure = None
    if golden.shapes[name] == (y.shape[1],) and y.shape[1] > 1:
        same = z.argmax(1) == y.argmax(1)
        every, sure = _agreed(same), _agreed(same[_is_sure(y)])
    verdict = Verdict.PASS if deviation is not None and len(rows) >= LEAST else Verdict.INCONCLUSIVE
    if _is_far(deviation, budget) or _is_wrong(sure, budget):
        verdict = Verdict.FAIL
    return OutputAgreement(name, deviation, every, sure, verdict)


def _deviation(y: Array, z: Array) -> float | None:
    """The error of ``z`` over the variation of ``y``, both (N, K); ``None`` if ``y`` does not vary."""
    if len(y) < 2:
        return None
    variation = float(np.square(y - y.mean(0)).sum()) / (len(y) - 1)
    if variation <= _STILL**2 * float(np.square(y).sum()) / len(y):
        return None
    return float(np.sqrt(np.square(z - y).sum() / len(y) / variation))


def _is_sure(y: Array) -> Array:
    """On which rows of class scores (N, K) the first class is ahead of the second; bool (N,)."""
    are_shares = y.min() >= 0 and np.allclose(y.sum(1), 1, atol=1e-3)
    powers = np.exp(y - y.max(1, keepdims=True))
    shares = y if are_shares else powers / powers.sum(1, keepdims=True)
    second, first = np.partition(shares, -2, axis=1)[:, -2:].T
    return np.asarray(first - second >= SURE)


def _agreed(same: Array) -> Agreed | None:
    if not len(same):
        return None
    low, high = exact(int(same.sum()), len(same))
    return Agreed(int(same.sum()), len(same), low, high)


def _is_far(deviation: float | None, budget: AgreementBudget) -> bool:
    return deviation is not None and deviation > budget.deviation


def _is_wrong(sure: Agreed | None, budget: AgreementBudget) -> bool:
    """Whether the share is certainly below the budget, and not only on these few inputs."""
    return sure is not None and sure.high < budget.agreement


def _faults(agreement: Agreement) -> tuple[Reason, ...]:
    return tuple(
        Reason(one.output, ReasonKind.AGREEMENT_FAULT, _missed(one, agreement))
        for one in agreement.outputs
        if one.verdict is Verdict.FAIL
    )


def _missed(one: OutputAgreement, agreement: Agreement) -> str:
    """Which limits an output misses, and the option that changes them."""
    budget, parts, options = agreement.budget, [], []
    if _is_wrong(one.sure, budget) and one.sure:
        parts.append(
            f"has PyTorch's top-1 on only {_share(one.sure, 'held-out inputs where PyTorch is sure')}; "
            f"{budget.agreement:g} is the budget"
        )
        options.append("--limit agreement=SHARE")
    if _is_far(one.deviation, budget):
        parts.append(
            f"is off by {one.deviation:.2g} of its variation between {agreement.inputs} held-out inputs; "
            f"{budget.deviation:g} is the budget"
        )
        options.append("--limit deviation=SHARE")
    if not parts:
        return f"Output '{one.output}' cannot be compared with PyTorch's on the held-out inputs."
    todo = "keep modules in floating point (--keep, or --precision auto), give more inputs like the real ones"
    return f"Output '{one.output}' {', and '.join(parts)}. To do: {todo}, or allow it with {' '.join(options)}."


def _notes(agreement: Agreement) -> tuple[Reason, ...]:
    return tuple(
        Reason(one.output, ReasonKind.AGREEMENT_NOTE, sentence)
        for one in agreement.outputs
        if one.verdict is not Verdict.FAIL
        for sentence in _figures(one, agreement)
    )


def _figures(one: OutputAgreement, agreement: Agreement) -> Sequence[str]:
    """The figures of an output that keeps to the budget, and what they cannot tell."""
    parts = []
    if one.all:
        parts.append(f"PyTorch's top-1 on {_share(one.all, 'held-out inputs')}")
    if one.sure:
        parts.append(f"on {_share(one.sure, 'of those where PyTorch is sure')}")
    if one.deviation is not None:
        allowed = f"{agreement.budget.deviation:g} is the budget"
        parts.append(f"an error of {one.deviation:.2g} of its variation between {agreement.inputs} inputs ({allowed})")
    said = [f"Note: output '{one.output}' has {', '.join(parts)}."] if parts else []
    if agreement.inputs < LEAST:
        said.append(
            f"Note: {agreement.inputs} held-out inputs are too few to speak for output '{one.output}' ({LEAST} are "
            f"needed): give more with --calibration or --probes."
        )
    elif one.deviation is None:
        said.append(
            f"Note: PyTorch's output '{one.output}' is the same for all held-out inputs, so that they cannot speak for "
            f"it: give others with --calibration or --probes."
        )
    if one.sure and one.sure.share < agreement.budget.agreement:
        said.append(
            f"Note: output '{one.output}' is below the budget of {agreement.budget.agreement:g} where PyTorch is sure, "
            f"and {one.sure.count} inputs are too few to tell it from chance: give more with --calibration or --probes."
        )
    return said


def _share(agreed: Agreed, what: str) -> str:
    """``31 of 32 held-out inputs (0.969, between 0.838 and 0.999)``."""
    interval = f"{agreed.share:.3f}, between {agreed.low:.3f} and {agreed.high:.3f}"
    return f"{agreed.same} of {agreed.count} {what} ({interval})"


def _eased(reason: Reason, evidence: Evidence, agreement: Agreement) -> Reason:
    """``reason``, as a note where it is about an output whose agreement answers it."""
    outputs = {one.output: one.verdict for one in agreement.outputs}
    if outputs.get(reason.subject) is not Verdict.PASS:
        return reason
    if reason.kind is ReasonKind.OUTPUT_DOUBT:
        text = f"Note: agreement on real inputs tells it from a constant. {reason.text}"
        return Reason(reason.subject, ReasonKind.OUTPUT_NOTE, text)
    checks = evidence.parity.outputs if evidence.parity else ()
    errors = {one.output: one.error for one in checks}
    error = errors.get(reason.subject)
    if reason.kind is ReasonKind.OUTPUT_FAULT and error is not None and error <= TOLERANCE:
        text = f"Note: it agrees with PyTorch on real inputs, and rounding that adds up may be so large: {reason.text}"
        return Reason(reason.subject, ReasonKind.OUTPUT_NOTE, text)
    return reason
