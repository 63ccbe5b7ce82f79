"""How an artifact agrees with PyTorch on real inputs, and with other settings. Standard library only; device-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ulsam_deploy.device.findings.engine import EngineFacts
from ulsam_deploy.device.findings.parity import Verdict

_AMOUNT: Mapping[str, Any] = {"minimum": 0}
_SHARE: Mapping[str, Any] = {"minimum": 0, "maximum": 1}


@dataclass(frozen=True)
class AgreementBudget:
    """What an artifact may lose on real inputs.

    ``agreement``: the least share of the inputs on which PyTorch is sure that must have its top-1. ``deviation``: the
    largest error of an output, relative to how much the output varies between the inputs.
    """

    agreement: float = field(default=0.98, metadata=_SHARE)
    deviation: float = field(default=0.25, metadata=_AMOUNT)


@dataclass(frozen=True)
class Agreed:
    """On how many of ``count`` inputs the top-1 is PyTorch's; ``low`` to ``high`` is the share's interval."""

    same: int = field(metadata=_AMOUNT)
    count: int = field(metadata=_AMOUNT)
    low: float = field(metadata=_SHARE)
    high: float = field(metadata=_SHARE)

    @property
    def share(self) -> float:
        """The share itself; 1 of no inputs at all."""
        return self.same / self.count if self.count else 1.0


@dataclass(frozen=True)
class OutputAgreement:
    """One output.

    ``deviation``: root mean square error over the variation of PyTorch's output between the inputs; ``None`` where it
    does not vary, or cannot be compared. ``all`` inputs and those where PyTorch is ``sure``: of class scores only.
    ``verdict``: inconclusive where too little is known to say.
    """

    output: str
    deviation: float | None = field(metadata=_AMOUNT)
    all: Agreed | None
    sure: Agreed | None
    verdict: Verdict


@dataclass(frozen=True)
class Agreement:
    """Every output of one artifact on ``inputs`` real inputs that it was not calibrated with."""

    inputs: int = field(metadata=_AMOUNT)
    budget: AgreementBudget
    outputs: tuple[OutputAgreement, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the outputs' verdicts."""
        found = {one.verdict for one in self.outputs}
        order = (Verdict.FAIL, Verdict.INCONCLUSIVE)
        return next((verdict for verdict in order if verdict in found), Verdict.PASS)

    @property
    def deviation(self) -> float | None:
        """The largest deviation of any output; ``None`` where there is none."""
        return max((one.deviation for one in self.outputs if one.deviation is not None), default=None)


@dataclass(frozen=True)
class PlainRun:
    """What an artifact computes where its engine is opened with its own defaults, which compute in ``precision``.

    Whoever opens the file without options gets this. ``error`` in noise floors of the artifact's precision, ``None``
    where an output cannot be compared; ``verdict`` and ``agreement`` as for the artifact itself.
    """

    precision: str
    verdict: Verdict
    error: float | None = field(metadata=_AMOUNT)
    agreement: Agreement | None


@dataclass(frozen=True)
class InterpreterRun:
    """What another interpreter computes from the same file, on ``probes`` probes.

    ``name``: of the engine, as ``doctor`` lists it. ``error``: to PyTorch, and ``apart``: to what the target's own
    engine computes, in noise floors; ``None`` where that cannot be said. ``agreement``: as for the artifact. ``note``:
    why it did not run, where the verdict is ``unverified``; otherwise what is wrong, empty if nothing is.
    """

    name: str
    verdict: Verdict
    engine: EngineFacts | None = None
    probes: int = field(default=0, metadata=_AMOUNT)
    error: float | None = field(default=None, metadata=_AMOUNT)
    apart: float | None = field(default=None, metadata=_AMOUNT)
    agreement: Agreement | None = None
    note: str = ""

    @property
    def title(self) -> str:
        """Name and version as the engine reports them, or the name if it did not run."""
        return self.engine.title if self.engine else self.name
