"""One artifact: lowered, exported, run in its engine, and judged; in low precision by its own twins as well."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.errors import UlsamError, UnavailableError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.findings import CalibrationSet, Reason, ReasonKind, Verdict
from ulsam_deploy.device.parity import Inside, Reading, Word
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Artifact, Tier
from ulsam_deploy.device.verify import execute, latency, produce, runtime_for, worst_batch
from ulsam_deploy.export.options import Recipe
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest
from ulsam_deploy.graph.resolution import annotated

if TYPE_CHECKING:
    from ulsam_deploy.export.prepare import Road


@dataclass(frozen=True)
class Made:
    """One artifact with its evidence.

    ``silenced``: what its twins gave, each without one block's attention: float32 (B, P, K) by output; empty where
    there are none.
    """

    artifact: Artifact
    evidence: Evidence
    silenced: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()


def make(road: Road, exporter: Exporter, recipe: Recipe, folder: Path) -> Made:
    """The artifact of ``exporter`` by ``recipe``, in the empty ``folder``, with what running it here showed."""
    artifact = _export(road, exporter, recipe, folder)
    try:
        evidence, twins = _executed(road, exporter, artifact, folder)
        return Made(annotated(artifact, evidence, road.resolutions), evidence, twins.silenced, twins.inside)
    except UnavailableError as error:
        reason = Reason(artifact.target, ReasonKind.NOT_RUN_NOTE, f"Not run here: {error.found}.")
        evidence = Evidence(artifact.tier, reasons=(reason,))
        if study := exporter.study(artifact, folder, road.golden):
            facts = dataclasses.replace(artifact.facts, study=study.facts)
            artifact = dataclasses.replace(artifact, facts=facts)
            reasons = evidence.reasons + study.reasons
            evidence = dataclasses.replace(evidence, verdict=study.verdict, reasons=reasons)
        return Made(annotated(artifact, evidence, road.resolutions), evidence)


def finish(road: Road, made: Made, folder: Path) -> Made:
    """``made`` with the time of one call, where an engine ran it; a failure also with the first module that differs."""
    artifact, evidence = made.artifact, made.evidence
    if evidence.tier < Tier.EXECUTED:
        return made
    files = [folder / name for name in artifact.files]
    with _opened(runtime_for(artifact.target), files, artifact) as runtime:
        evidence = dataclasses.replace(evidence, latency=latency(runtime, road.golden))
        if evidence.verdict is Verdict.FAIL:
            golden = road.golden.at(artifact.precision)
            batch = worst_batch(evidence, golden, artifact.inputs[0].shape[0])
            feed = {name: array[batch] for name, array in golden.inputs.items()}
            evidence = road.located(evidence, feed, runtime.values, artifact.precision)
    return dataclasses.replace(made, evidence=evidence)


def _export(road: Road, exporter: Exporter, recipe: Recipe, folder: Path) -> Artifact:
    from ulsam_deploy.graph.views import first_block

    ranges = road.ranges(recipe.precision)
    options = road.options
    request = ExportRequest(recipe.precision, options.device, options.dla, ranges, recipe.keep, recipe.lowerings)
    lowered = road.lowered(exporter, request)
    artifact = exporter.export(lowered, request, folder)
    facts = dataclasses.replace(artifact.facts, block=first_block(lowered))
    if recipe.precision != "fp32":
        facts = dataclasses.replace(facts, keep=recipe.keep)
    if ranges:
        samples = len(next(iter(ranges.arrays.values())))
        facts = dataclasses.replace(facts, calibration=CalibrationSet(ranges.digest, samples))
    return dataclasses.replace(artifact, facts=facts)


def _executed(road: Road, exporter: Exporter, artifact: Artifact, folder: Path) -> tuple[Evidence, Twins]:
    """What the engine shows, and what the artifact's own twins gave."""
    files = [folder / name for name in artifact.files]
    twins = Twins() if artifact.precision == "fp32" else silence(road, exporter, artifact, folder)
    evidence = _judged(road, artifact, files, twins)
    if artifact.precision == "fp32" and _is_undecided(evidence):  # in fp32 the outputs alone tell, nearly always
        twins = silence(road, exporter, artifact, folder)
        evidence = _judged(road, artifact, files, twins)
    return evidence, twins


def _judged(road: Road, artifact: Artifact, files: list[Path], twins: Twins) -> Evidence:
    return execute(
        artifact.target, files, artifact.inputs, artifact.outputs, road.golden,
        precision=artifact.precision, timed=False, silenced=twins.silenced, inside=twins.inside,
    )  # fmt: skip


def _is_undecided(evidence: Evidence) -> bool:
    """Whether the check could not have failed, for a block whose loss its outputs might not show."""
    blocks = evidence.parity.blocks if evidence.parity else ()
    return evidence.verdict is Verdict.INCONCLUSIVE and any(block.word is Word.INCONCLUSIVE for block in blocks)


@dataclass(frozen=True)
class Twins:
    """What an artifact gave without each block's attention, and what was read at each block inside it."""

    silenced: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()


def silence(road: Road, exporter: Exporter, artifact: Artifact, folder: Path) -> Twins:
    """The twins of ``artifact``, which has one softmax for each block.

    Empty where there are no blocks, or the exporter cannot make such twins. Raises :class:`UnavailableError` when there
    is no engine here.
    """
    engine = runtime_for(exporter.target)
    if not road.golden.blocks:
        return Twins()
    inputs = road.golden.at(artifact.precision).inputs
    files = [folder / name for name in artifact.files]

    def twins(place: Path) -> Iterator[Shown | None]:
        for number in range(len(road.golden.blocks)):
            into = place / str(number)
            into.mkdir()
            try:
                made = exporter.silence(files[0], range(number, number + 1), into)
            except UlsamError:  # a twin is evidence about the artifact, and its making no part of the artifact's
                made = False
            if not made:
                yield None
                continue
            with _opened(engine, [into / name for name in artifact.files], artifact) as twin:
                yield Shown(produce(twin, inputs), _values(road, twin.values))
            shutil.rmtree(into)

    with scratch() as place, _opened(engine, files, artifact) as whole:
        return gathered(road, _values(road, whole.values), twins(place))


@dataclass(frozen=True)
class Shown:
    """What an artifact or a twin gives on all probes, and all values inside it on each batch that is watched."""

    outputs: ArrayMap
    values: Sequence[ArrayMap]


def gathered(road: Road, seen: Sequence[ArrayMap], twins: Iterable[Shown | None]) -> Twins:
    """What ``twins`` (one a block, in order) show about an artifact inside which there is ``seen``.

    Outputs become compact float32 (B, P, K) by output name. Empty where there is no twin of some block.
    """
    rows, inside = list[dict[str, Array]](), list[Reading | None]()
    for number, twin in enumerate(twins):
        if twin is None:
            return Twins()
        rows.append({name: compact(array).astype(np.float32) for name, array in twin.outputs.items()})
        inside.append(_look_inside(road, number, seen, twin.values))
    return Twins({name: np.stack([row[name] for row in rows]) for name in road.golden.outputs}, tuple(inside))


def _opened(engine: type[Runtime], files: list[Path], artifact: Artifact) -> Runtime:
    return engine(files, artifact.inputs, artifact.outputs)


def _values(road: Road, values: Callable[[ArrayMap], ArrayMap]) -> list[ArrayMap]:
    """All values inside an artifact on each batch that is watched; none where its engine cannot show them."""
    try:
        return [values(feed) for feed, _ in road.watched]
    except UlsamError:  # as above
        return []


def _look_inside(road: Road, block: int, seen: Sequence[ArrayMap], twin: Sequence[ArrayMap]) -> Reading | None:
    """What the attention of ``block`` does at the block, on a few real inputs; ``None`` where none can be told."""
    inside = Inside()
    for (_, blocks), whole, other in zip(road.watched, seen, twin):
        inside.note(blocks[block], whole, other)
    return inside.reading()
