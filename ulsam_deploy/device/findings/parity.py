"""What a parity check concludes, and from which figures. Standard library only; device-safe."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Schema of errors, tolerances and floors: not negative.
_AMOUNT: Mapping[str, Any] = {"minimum": 0}
_SHARE: Mapping[str, Any] = {"minimum": 0, "maximum": 1}


class Verdict(str, enum.Enum):
    """What a check concluded. ``UNVERIFIED``: nothing was executed, so nothing was checked."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    UNVERIFIED = "unverified"


class AttentionState(str, enum.Enum):
    """What the interval of a retention shows."""

    KEPT = "kept"
    WEAKENED = "weakened"
    LOST = "lost"
    INCONCLUSIVE = "inconclusive"


class Statistic(str, enum.Enum):
    """How an error is measured: see :class:`Floor`."""

    L2 = "l2"
    PEAK = "peak"
    DRIFT = "drift"


class Severity(str, enum.Enum):
    """The effect of a reason on a verdict: a fault fails it, a doubt makes it inconclusive, a note changes nothing."""

    FAULT = "fault"
    DOUBT = "doubt"
    NOTE = "note"


class ReasonKind(str, enum.Enum):
    """Which check a reason belongs to, and its severity.

    ``output``: an output of the network. ``attention``: an attention block. ``place``: the first module that differs.
    ``agreement``: with PyTorch on real inputs.
    ``module``: a module by itself, replayed inside the artifact; ``output-note``: an error that is rounding alone.
    ``interpreter``: another engine that runs the same file.
    ``study``: what was shown without an engine. ``not-run``: why no engine ran it.
    """

    OUTPUT_FAULT = "output-fault"
    OUTPUT_DOUBT = "output-doubt"
    OUTPUT_NOTE = "output-note"
    ATTENTION_FAULT = "attention-fault"
    ATTENTION_DOUBT = "attention-doubt"
    ATTENTION_NOTE = "attention-note"
    PLACE_FAULT = "place-fault"
    MODULE_FAULT = "module-fault"
    MODULE_NOTE = "module-note"
    AGREEMENT_FAULT = "agreement-fault"
    AGREEMENT_NOTE = "agreement-note"
    INTERPRETER_FAULT = "interpreter-fault"
    STUDY_FAULT = "study-fault"
    STUDY_NOTE = "study-note"
    NOT_RUN_NOTE = "not-run-note"

    @property
    def severity(self) -> Severity:
        """Its effect on the verdict."""
        if self in _FAULTS:
            return Severity.FAULT
        return Severity.DOUBT if self in _DOUBTS else Severity.NOTE


_FAULTS = (
    ReasonKind.OUTPUT_FAULT,
    ReasonKind.ATTENTION_FAULT,
    ReasonKind.PLACE_FAULT,
    ReasonKind.MODULE_FAULT,
    ReasonKind.AGREEMENT_FAULT,
    ReasonKind.INTERPRETER_FAULT,
    ReasonKind.STUDY_FAULT,
)
_DOUBTS = (ReasonKind.OUTPUT_DOUBT, ReasonKind.ATTENTION_DOUBT)


@dataclass(frozen=True)
class Reason:
    """Why a verdict is what it is, or what a pass cannot detect: ``text`` is a whole sentence for people.

    ``subject`` is the output, block or module (a PyTorch path) that it is about, or the target; ``kind`` says which.
    """

    subject: str
    kind: ReasonKind
    text: str

    def __str__(self) -> str:
        """The sentence."""
        return self.text


@dataclass(frozen=True)
class Floor:
    """The noise floor of one output: the largest relative error over ``runs`` control runs and all probes.

    ``drift`` is ``None``, and so allows everything, where the floors do not come from control runs.
    """

    l2: float = field(metadata=_AMOUNT)
    peak: float = field(metadata=_AMOUNT)
    runs: int = field(metadata=_AMOUNT)
    drift: float | None = field(default=None, metadata=_AMOUNT)

    def of(self, statistic: Statistic) -> float:
        """The floor of one statistic; infinite where it allows everything."""
        found = {Statistic.L2: self.l2, Statistic.PEAK: self.peak, Statistic.DRIFT: self.drift}[statistic]
        return math.inf if found is None else found


@dataclass(frozen=True)
class Retention:
    """Retention of one block: the estimate and its interval.

    ``value`` is ``None`` if removing the attention changes nothing; ``low`` and ``high`` are ``None`` without bounds.
    ``note`` says why nothing can be concluded, and is empty otherwise.
    """

    block: str
    value: float | None
    low: float | None
    high: float | None
    state: AttentionState
    note: str = ""


@dataclass(frozen=True)
class OutputCheck:
    """One output. ``error`` is the largest over probes, in noise floors; ``None`` where it cannot be compared.

    ``probe`` (the worst, or the first that is not finite) and ``statistic`` (of one probe, or ``drift`` over all;
    ``None`` where nothing was compared) say where it is. ``top1``: share of the probes with the same largest element,
    for class scores only; it is reported, and decides nothing.
    """

    output: str
    error: float | None = field(metadata=_AMOUNT)
    tolerance: float = field(metadata=_AMOUNT)
    floor: Floor
    probe: str
    statistic: Statistic | None
    top1: float | None = field(metadata=_SHARE)
    explanation: str


@dataclass(frozen=True)
class BlockCheck:
    """One attention block: its retention, and ``distance``: how far its removal moves an output, in tolerances.

    ``retention``, ``low`` and ``high`` as in :class:`Retention`. ``shape`` and ``shape_distance`` are the same for
    making the attention uniform instead; ``None`` without uniform ablations. Where the retention comes from artifact
    ablations or from readings inside the artifact, ``outputs`` is the retention by its outputs alone.
    """

    block: str
    retention: float | None
    low: float | None
    high: float | None
    state: AttentionState
    distance: float = field(metadata=_AMOUNT)
    note: str
    shape: Retention | None = None
    shape_distance: float | None = field(default=None, metadata=_AMOUNT)
    outputs: Retention | None = None


@dataclass(frozen=True)
class Report:
    """The outcome of a parity check.

    ``tolerance`` is in noise floors. ``overall``: the retention of all blocks together, ``None`` where there is none.
    ``reasons``: why it failed or was inconclusive; for a pass, what it cannot detect. ``gates``: attention that is
    watched and not fused; its ``distance`` is of folding its weights.
    """

    verdict: Verdict
    tolerance: float = field(metadata=_AMOUNT)
    outputs: tuple[OutputCheck, ...]
    blocks: tuple[BlockCheck, ...]
    overall: float | None
    reasons: tuple[Reason, ...]
    gates: tuple[BlockCheck, ...] = ()

    @property
    def error(self) -> float:
        """The largest error of any output, in noise floors: infinite where one cannot be compared, 0 where none is."""
        return max((math.inf if output.error is None else output.error for output in self.outputs), default=0.0)

    @property
    def finite_error(self) -> float | None:
        """The largest error of any output; ``None`` where one cannot be compared, or there is none."""
        return self.error if self.outputs and math.isfinite(self.error) else None

    @property
    def retentions(self) -> tuple[float, ...]:
        """The retention of every block that has one, in the order of the blocks."""
        return tuple(block.retention for block in self.blocks if block.retention is not None)
