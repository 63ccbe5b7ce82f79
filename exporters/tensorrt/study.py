"""Checks that TensorRT's parser understood the network: runs it in NumPy and compares it with the float64 reference.

In float16, three models of rounding give a range of errors. Each block's attention is judged by an ablation in the same
precision: the parsed network with that block's attention removed, under the same rounding. The effect of rounded
weights is common to both and cancels, so the difference shows the attention even where the outputs alone would not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.engines import produce
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.findings import (
    AttentionState,
    Floor,
    Reason,
    ReasonKind,
    Report,
    Retention,
    StudyFacts,
    Verdict,
)
from ulsam_deploy.device.parity import Golden, check, noise_floors, tolerance_of
from ulsam_deploy.device.parity.retention import by_ablations
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.graph.interfaces import Study

from .network import ParsedNetwork, ParsedRuntime
from .rounding import ACCUMULATED, DECLARED, FUSED, STORED, Rounding

#: The number of probes to interpret: a few seconds for a MobileNet at 224 x 224.
PROBES = 8


def study(artifact: Artifact, session: object, golden: Golden) -> Study:
    """Compare the network that ``session`` parsed with ``golden``, or say why it cannot be interpreted."""
    judged = golden.at(artifact.precision)
    chosen = judged.take(spread(len(judged.probes), artifact.inputs[0].shape[0] or 1))
    try:
        if artifact.precision == "fp16":
            return _half(artifact, session, chosen)
        return _single(artifact, session, chosen)
    except UnavailableError as error:
        reason = _note(f"The parsed network was not checked: {error.found}.")
        return Study(Verdict.UNVERIFIED, (reason,), StudyFacts())


def spread(count: int, batch: int) -> list[int]:
    """At least :data:`PROBES` of ``count`` probes, evenly spread, in whole batches."""
    wanted = min(count, batch * -(-PROBES // batch))
    return [int(position) for position in np.linspace(0, count - 1, wanted).round()]


def _single(artifact: Artifact, session: object, golden: Golden) -> Study:
    whole = _run(artifact, session, golden, DECLARED)
    artifact_ablations = (
        {} if artifact.precision == "fp32" else _artifact_ablations(artifact, session, golden, DECLARED)
    )
    report = check(golden, whole, tolerance=tolerance_of(artifact.precision), artifact_ablations=artifact_ablations)
    alive = " ".join("n/a" if block.retention is None else f"{block.retention:.2f}" for block in report.blocks)
    sentence = (
        f"The network as TensorRT's parser read it, run in NumPy, is {report.error:.2g} noise floors from the "
        f"reference ({report.tolerance:g} are allowed)" + (f"; retention {alive}." if alive else ".")
    )
    failed = report.verdict is Verdict.FAIL
    reasons = (_note(sentence), *(report.reasons if failed else ()))
    return Study(Verdict.FAIL if failed else Verdict.UNVERIFIED, reasons, StudyFacts(golden.probes, parsed=report))


def _note(sentence: str) -> Reason:
    return Reason("trt", ReasonKind.STUDY_NOTE, sentence)


def _half(artifact: Artifact, session: object, golden: Golden) -> Study:
    runs = {model.name: _run(artifact, session, golden, model) for model in (FUSED, STORED, ACCUMULATED)}
    least = noise_floors(golden.outputs, [runs[FUSED.name]])
    reports = {name: check(golden, run) for name, run in runs.items()}
    survivals = _survivals(artifact, session, golden, runs[STORED.name])
    lost = [block for block in survivals if block.state in (AttentionState.LOST, AttentionState.WEAKENED)]
    far = [
        replace(reason, text=f"{name}: {reason.text}") for name, report in reports.items() for reason in _far(report)
    ]
    reasons = (_note(_band_words(least, reports, survivals)), *far, *map(_lost, lost))
    facts = StudyFacts(golden.probes, floors=least, models=reports, survival=tuple(survivals))
    return Study(Verdict.FAIL if far or lost else Verdict.UNVERIFIED, reasons, facts)


def _far(report: Report) -> list[Reason]:
    """Faults of the outputs only; the attention is judged by the ablations in the same precision."""
    return [reason for reason in report.reasons if reason.kind is ReasonKind.OUTPUT_FAULT]


def _survivals(artifact: Artifact, session: object, golden: Golden, whole: Mapping[str, Array]) -> list[Retention]:
    """The retention of each block under :data:`STORED`, by an ablation in the same precision.

    Empty unless the parsed network has one softmax for each block: otherwise it is unknown which belongs to which.
    """
    artifact_ablations = _artifact_ablations(artifact, session, golden, STORED)
    return list(by_ablations(golden, whole, artifact_ablations, golden.floors)) if artifact_ablations else []


def _artifact_ablations(artifact: Artifact, session: Any, golden: Golden, model: Rounding) -> dict[str, Array]:
    """The outputs of the parsed network without each block's attention; empty unless each block has one softmax."""
    softmaxes = ParsedNetwork(session.trt, session.network, session).softmaxes
    if not softmaxes or len(softmaxes) != len(golden.blocks):
        return {}
    ablations = [_run(artifact, session, golden, model, softmax) for softmax in softmaxes]
    return {name: np.stack([ablation[name] for ablation in ablations]) for name in golden.outputs}


def _run(artifact: Artifact, session: object, golden: Golden, model: Rounding, ablated: str = "") -> dict[str, Array]:
    with ParsedRuntime(artifact, session, model, ablated) as runtime:
        return produce(runtime, golden.inputs)


def _band_words(floors: Mapping[str, Floor], reports: Mapping[str, Report], survivals: list[Retention]) -> str:
    least = max(floor.l2 for floor in floors.values())
    worst = max(reports[STORED.name].error, reports[ACCUMULATED.name].error)
    alive = ", ".join(
        f"{'n/a' if block.value is None else f'{block.value:.2f}'} ({block.state.value})" for block in survivals
    )
    return (
        f"The network as TensorRT's parser read it, run in NumPy under three models of fp16 rounding, is from "
        f"{least:.1e} (relative, everything fused) to {worst:.2g} times that from the reference"
        + (f"; of each block's attention survives {alive}." if alive else ".")
    )


def _lost(block: Retention) -> Reason:
    sentence = (
        f"In fp16 the attention of block '{block.block}' is {block.state.value}: {block.value:.2f} of it survives "
        f"(between {block.low:.2f} and {block.high:.2f}); export with --precision fp32."
    )
    return Reason(block.block, ReasonKind.ATTENTION_FAULT, sentence)
