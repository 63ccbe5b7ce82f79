"""One side of a comparison: what a bundle, a result of ``bench`` or the answer of ``verify`` says of its artifacts.

A figure that the file does not have is ``None``, so that the gate sees that it is absent.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ulsam_deploy.device.accuracy import Accuracy
from ulsam_deploy.device.bench.result import Measured, Result
from ulsam_deploy.device.bundle import Bundle, Evidence
from ulsam_deploy.device.commands.documents import VerifyDocument
from ulsam_deploy.device.findings import Agreement, ArtifactFacts, EngineFacts, Replay, Report, Verdict
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.types import EvidenceLevel, TensorSpec

__all__ = ["ArtifactFigures", "Build", "Same", "of_bundle", "of_result", "of_verified"]


class Same(enum.Enum):
    """What has to be the same before two figures can be compared."""

    NOTHING = "nothing"
    PROBES = "probes and engine"
    DATA = "labelled data and engine"
    REPLAY = "probes, engine and batches that were replayed"
    PROCESSOR = "emulated processor and batch"
    MACHINE = "machine, threads and batch"
    TIME = "machine, settings and undisturbed conditions"


@dataclass(frozen=True)
class ArtifactFigures:
    """One artifact as one file describes it.

    ``size`` in bytes. ``computes``: the precision in which the engine was observed to compute, empty if unknown.
    ``error`` in noise floors (infinite where an output can't be compared), ``retention`` of the block with the lowest
    one. ``instructions`` by phase. ``under``: what has to agree, by name, before two figures mean the same.
    """

    target: str
    precision: str
    size: int | None = None
    computes: str = ""
    level: EvidenceLevel | None = None
    verdict: Verdict | None = None
    error: float | None = None
    retention: float | None = None
    report: Report | None = None
    agreement: Agreement | None = None
    facts: ArtifactFacts | None = None
    accuracy: Accuracy | None = None
    replay: Replay | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)
    measured: Measured | None = None
    under: Mapping[Same, Mapping[str, str]] = field(default_factory=dict)
    ports: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``onnx fp32``: unique in a build."""
        return f"{self.target} {self.precision}"

    @property
    def parts(self) -> tuple[str, ...]:
        """What it consists of, by name: what the baseline has of it must be there."""
        if self.report is None:
            return self.ports
        checked = [f"output {one.output}" for one in self.report.outputs]
        return tuple(dict.fromkeys([*self.ports, *checked, *(f"block {one.block}" for one in self.report.blocks)]))


@dataclass(frozen=True)
class Build:
    """All artifacts of one file, by label.

    ``left_out``: why an artifact is not among them. ``board``: the name of the machine, for budgets; empty if unknown.
    ``parts``: what the whole build consists of besides artifacts. ``result``: the file, where it is one of ``bench``.
    """

    artifacts: Mapping[str, ArtifactFigures]
    left_out: Mapping[str, str]
    board: str = ""
    parts: tuple[str, ...] = ()
    result: Result | None = None


def of_result(result: Result) -> Build:
    """The build that ``bench`` measured."""
    machine = result.machine
    level = EvidenceLevel.MEASURED_ON_DEVICE if machine.device else EvidenceLevel.EXECUTED
    found = {}
    for one in result.measured:
        parity = one.parity
        error = None if parity is None else math.inf if parity.error is None else parity.error
        found[one.label] = ArtifactFigures(
            one.target,
            one.precision,
            size=one.size,
            computes=one.engine.precision,
            level=level,
            verdict=parity.verdict if parity else None,
            error=error,
            retention=parity.retention if parity else None,
            report=parity.report if parity else None,
            measured=one,
            under={same: _engine(one.engine) for same in (Same.TIME, Same.MACHINE)}
            | {Same.PROBES: {"probes": result.probes, **_engine(one.engine)}},
        )
    return Build(found, result.left_out, machine.board or machine.cpu or "", (), result)


def of_bundle(bundle: Bundle) -> Build:
    """The build that ``export`` made."""
    manifest = bundle.manifest
    probes = Golden.load(bundle.golden).digest if bundle.golden else ""
    found = [
        _shown(
            one.target,
            one.precision,
            one.evidence,
            probes,
            size=sum(file.size for file in one.files),
            computes=one.effective_precision,
            facts=one.facts,
            ports=(*_ports("input", one.inputs), *_ports("output", one.outputs)),
        )
        for one in manifest.artifacts
    ]
    parts = [f"block {block.path}" for block in manifest.model.blocks]
    parts += ["the golden set"] if bundle.golden else []
    return Build({one.label: one for one in found}, manifest.run.left_out, parts=tuple(parts))


def of_verified(document: VerifyDocument) -> Build:
    """The build that ``verify --json`` checked."""
    ran = [one for one in document.artifacts if one.evidence and not one.error]
    found = [
        _shown(
            one.target,
            one.precision,
            one.evidence,
            document.probes,
            computes=one.evidence.engine.precision if one.evidence.engine else "",
            accuracy=one.accuracy,
        )
        for one in ran
        if one.evidence
    ]
    left_out = {f"{one.target} {one.precision}": one.error or "it was not run" for one in document.artifacts}
    return Build({one.label: one for one in found}, left_out)


def _shown(
    target: str,
    precision: str,
    evidence: Evidence,
    probes: str,
    *,
    size: int | None = None,
    computes: str = "",
    facts: ArtifactFacts | None = None,
    accuracy: Accuracy | None = None,
    ports: tuple[str, ...] = (),
) -> ArtifactFigures:
    study = facts.study.parsed if facts and facts.study else None  # what was shown without an engine
    report, engine = evidence.parity or study, _engine(evidence.engine) if evidence.engine else {}
    data = {"samples": str(accuracy.count), "partner": accuracy.partner, **engine} if accuracy else {}
    same = {"probes": probes, **engine}
    batches = str(evidence.replay.batches) if evidence.replay else ""
    return ArtifactFigures(
        target,
        precision,
        size=size,
        computes=computes,
        level=evidence.level,
        verdict=evidence.verdict,
        error=report.error if report else None,
        retention=min(report.retentions, default=None) if report else None,
        report=report,
        agreement=evidence.agreement,
        facts=facts,
        accuracy=accuracy,
        replay=evidence.replay,
        under={Same.PROBES: same, Same.DATA: data, Same.REPLAY: {**same, "number of replayed batches": batches}},
        ports=ports,
    )


def _engine(engine: EngineFacts) -> dict[str, str]:
    return {
        "GPU": engine.gpu,
        "provider": engine.provider,
        "board": engine.device,
        "emulated processor": engine.emulated,
        "precision that it computes in": engine.precision,
    }


def _ports(kind: str, specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    return tuple(f"{kind} {spec.name}" for spec in specs)
