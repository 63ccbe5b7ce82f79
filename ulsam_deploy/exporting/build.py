"""Builds one artifact: lower, export, run in its engine, judge; in low precision also by its own ablations."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.cache import key
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.ending import defect, in_words
from ulsam_deploy.device.engines import engines_of, runtime_for
from ulsam_deploy.device.errors import UlsamError, UnavailableError
from ulsam_deploy.device.findings import AttentionState, CalibrationSet, Reason, ReasonKind, ReplayDepth, Verdict
from ulsam_deploy.device.interpreters import in_a_process, python_of, with_interpreters
from ulsam_deploy.device.npz import read_arrays, write_arrays
from ulsam_deploy.device.parity import Reading
from ulsam_deploy.device.precisions import CALIBRATED
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Artifact, EvidenceLevel
from ulsam_deploy.device.verify import execute, latency, with_plain_run, worst_batch
from ulsam_deploy.exporting.ablation import Ablations, ablate, opened
from ulsam_deploy.exporting.gates import read_gates, wants_reading
from ulsam_deploy.exporting.options import ExportOptions, Recipe
from ulsam_deploy.exporting.prepare import Prepared
from ulsam_deploy.exporting.replayed import replayed
from ulsam_deploy.exporting.requests import ArtifactRequest
from ulsam_deploy.exporting.workspace import Workspace
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest
from ulsam_deploy.graph.resolution import annotated

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program

__all__ = ["FILES", "Builder", "BuiltArtifact", "artifact_key", "build", "finish", "load", "located", "save", "stopped"]


_BUILT, _ABLATIONS = "built.json", "ablations.npz"
#: The subfolder with the artifact's own files, in the folder that :func:`save` writes to.
FILES = "files"


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact with its evidence.

    Attributes:
        artifact_ablations: The outputs of its ablations, each without one block's attention: float32 (B, P, K) by
            output name; empty if there are none.
        inside: For each block, what was measured at the block itself; ``None`` where its values cannot be read.
        gates_inside: The same for each watched gate; empty if none was read.
    """

    artifact: Artifact
    evidence: Evidence
    artifact_ablations: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()
    gates_inside: tuple[Reading | None, ...] = ()


@dataclass(frozen=True)
class _Kept:
    """What is stored about one artifact as JSON; the outputs of its ablations are stored in a file of their own."""

    artifact: Artifact
    evidence: Evidence
    inside: tuple[tuple[float, ...], ...] = ()  # one for each block, empty if nothing could be read
    gates_inside: tuple[tuple[float, ...], ...] = ()  # the same for each watched gate


def artifact_key(prepared: str, exporter: Exporter, recipe: Recipe, options: ExportOptions) -> str:
    """The cache key of one artifact of the network whose key is ``prepared``."""
    about = [exporter.target, dataclasses.asdict(recipe), options.device, options.dla, options.replay.value]
    about.append(dataclasses.asdict(options.budget.agreed))
    about += [exporter.weight_levels()] if recipe.precision in CALIBRATED else []
    return key(prepared, about, exporter.available_in(recipe.precision).detail, _engine(exporter))


class Builder:
    """Builds the artifacts of one prepared network, each once; takes from ``workspace`` what was built before."""

    def __init__(self, prepared: Prepared, workspace: Workspace, options: ExportOptions, progress: Progress) -> None:
        self.prepared, self.workspace, self.options, self.progress = prepared, workspace, options, progress

    def key(self, exporter: Exporter, recipe: Recipe) -> str:
        """The artifact's key in the workspace."""
        return artifact_key(self.prepared.network.key, exporter, recipe, self.options)

    def artifact(
        self,
        exporter: Exporter,
        recipe: Recipe,
        into: Path,
        made: Callable[[Path], BuiltArtifact] | None = None,
    ) -> BuiltArtifact:
        """Build an artifact, or take it from the workspace.

        Args:
            exporter: Makes the artifact.
            recipe: How it is made.
            into: The folder for its files; created here.
            made: Builds it if the workspace does not have it; by default :func:`build`, in this process.
        """
        make = made or (lambda files: build(self.prepared, exporter, recipe, self.options, files))

        def write(folder: Path) -> None:
            files = folder / FILES
            files.mkdir()
            save(finish(self.prepared, make(files), files, self.progress), folder)

        folder = self.workspace.folder(self.key(exporter, recipe), write)
        shutil.copytree(folder / FILES, into)
        return load(folder)


def build(
    prepared: Prepared, exporter: Exporter, recipe: Recipe, options: ExportOptions, folder: Path
) -> BuiltArtifact:
    """Write the artifact of ``exporter`` by ``recipe`` into the empty ``folder``, run it here, and judge it."""
    prepared.check(recipe.precision)
    artifact = _export(prepared, exporter, recipe, options, folder)
    try:
        evidence, ablations, gates = _executed(prepared, exporter, options, artifact, folder)
        evidence = _replayed(prepared, exporter, recipe, options, artifact, folder, evidence)
        return BuiltArtifact(
            annotated(artifact, evidence, prepared.resolutions), evidence, ablations.outputs, ablations.inside, gates
        )
    except UnavailableError as error:
        reason = Reason(artifact.target, ReasonKind.NOT_RUN_NOTE, f"Not run here: {error.found}.")
        evidence = Evidence(artifact.level, reasons=(reason,))
        if study := exporter.study(artifact, folder, prepared.golden):
            facts = dataclasses.replace(artifact.facts, study=study.facts)
            artifact = dataclasses.replace(artifact, facts=facts)
            reasons = evidence.reasons + study.reasons
            evidence = dataclasses.replace(evidence, verdict=study.verdict, reasons=reasons)
        return BuiltArtifact(annotated(artifact, evidence, prepared.resolutions), evidence)


def stopped(error: Exception, request: ArtifactRequest) -> UlsamError:
    """Turn ``error``, which stopped one artifact only, into an :class:`UlsamError`.

    An unforeseen error becomes a defect, whose traceback is kept in a file. An error that says that this machine cannot
    go on is raised again and ends the run.
    """
    if not isinstance(error, UlsamError) and in_words(error):
        raise error
    words = ["export", "--target", request.target, "--precision", request.recipe.precision]
    return in_words(error) or defect(error, words)


def finish(prepared: Prepared, built: BuiltArtifact, folder: Path, progress: Progress) -> BuiltArtifact:
    """Add to ``built`` the time of one call, if an engine ran it, what others make of it, and where a failure begins.

    This is not part of :func:`build`, which may run in parallel with others: times are taken while nothing else runs.
    """
    artifact, evidence = built.artifact, built.evidence
    if evidence.level < EvidenceLevel.EXECUTED:
        return built
    files = [folder / name for name in artifact.files]
    with opened(runtime_for(artifact.target), files, artifact) as runtime:
        evidence = dataclasses.replace(evidence, latency=latency(runtime, prepared.golden))
        ports = artifact.inputs, artifact.outputs
        evidence = with_plain_run(evidence, artifact.target, files, *ports, prepared.golden, artifact.precision)
        if evidence.verdict is Verdict.FAIL:
            golden = prepared.golden.at(artifact.precision)
            batch = worst_batch(evidence, golden, artifact.inputs[0].shape[0])
            feed = {name: array[batch] for name, array in golden.inputs.items()}
            evidence = located(prepared, evidence, feed, runtime.values, artifact.precision, progress)
    elsewhere = in_a_process(files, *ports, Limits())
    evidence = with_interpreters(
        evidence, artifact.target, prepared.golden, artifact.precision, artifact.inputs[0].shape[0], elsewhere
    )
    return dataclasses.replace(built, evidence=evidence)


def located(
    prepared: Prepared,
    evidence: Evidence,
    feed: ArrayMap,
    values: Callable[[ArrayMap], ArrayMap],
    precision: str,
    progress: Progress,
) -> Evidence:
    """Add to the ``evidence`` of a failure one more reason: the first module of the network that differs.

    Args:
        prepared: The network.
        evidence: What the check of the artifact showed.
        feed: The batch that shows the failure (:func:`~ulsam_deploy.device.verify.worst_batch`).
        values: Gives every tensor inside the artifact for a batch.
        precision: The artifact's precision.
        progress: Reports the stage.
    """
    from ulsam_deploy.graph import module_points
    from ulsam_deploy.graph.divergence import first_divergence

    captured = prepared.network.captured()
    with progress.stage("where") as said:
        try:
            divergence = first_divergence(module_points(captured, feed, precision), values(feed))
        except UlsamError as error:
            said.append(f"not found: {error.found.splitlines()[0]}")
            return evidence
        said.append(divergence.module or "nowhere")
    place = Reason(divergence.module, ReasonKind.PLACE_FAULT, divergence.sentence())
    return dataclasses.replace(evidence, reasons=(*evidence.reasons, place))


def _request(prepared: Prepared, recipe: Recipe, options: ExportOptions) -> ExportRequest:
    split = prepared.network.fused().split
    ranges = split.ranges if recipe.precision in CALIBRATED and split else None
    return ExportRequest(recipe.precision, options.device, options.dla, ranges, recipe.keep, recipe.lowerings)


def _lowered(prepared: Prepared, exporter: Exporter, request: ExportRequest) -> Program:
    """The network as ``exporter`` gets it: for int8 with its weights on the grids of int8 already."""
    network = prepared.network.fused()
    if request.precision in CALIBRATED and network.split is not None:
        network = network.rounded(exporter.weight_levels(), request.keep)
    return network.lowered(exporter, request)


def _export(prepared: Prepared, exporter: Exporter, recipe: Recipe, options: ExportOptions, folder: Path) -> Artifact:
    from ulsam_deploy.graph.views import first_block

    request = _request(prepared, recipe, options)
    lowered = _lowered(prepared, exporter, request)
    artifact = exporter.export(lowered, request, folder)
    facts = dataclasses.replace(artifact.facts, block=first_block(lowered))
    if recipe.precision != "fp32":
        facts = dataclasses.replace(facts, keep=recipe.keep)
    if ranges := request.calibration:
        facts = dataclasses.replace(facts, calibration=CalibrationSet(ranges.digest, ranges.count))
    return dataclasses.replace(artifact, facts=facts)


def _replayed(
    prepared: Prepared,
    exporter: Exporter,
    recipe: Recipe,
    options: ExportOptions,
    artifact: Artifact,
    folder: Path,
    evidence: Evidence,
) -> Evidence:
    """``evidence`` with what local replay of the lowered network shows about ``artifact``."""
    if options.replay is ReplayDepth.OFF:
        return evidence
    lowered = _lowered(prepared, exporter, _request(prepared, recipe, options))
    golden = prepared.golden.at(artifact.precision)
    files = [folder / name for name in artifact.files]
    with opened(runtime_for(artifact.target), files, artifact) as runtime:
        return replayed(
            evidence, lowered, golden, artifact.precision, runtime.values, runtime.run, options.replay, runtime.grids
        )


def _executed(
    prepared: Prepared, exporter: Exporter, options: ExportOptions, artifact: Artifact, folder: Path
) -> tuple[Evidence, Ablations, tuple[Reading | None, ...]]:
    """The evidence from the engine, what the artifact ablations gave, and what was read at watched gates."""
    files = [folder / name for name in artifact.files]
    ablations = Ablations() if artifact.precision == "fp32" else ablate(prepared, exporter, artifact, folder)
    evidence = _judged(prepared, options, artifact, files, ablations)
    if artifact.precision == "fp32" and _is_undecided(evidence):  # in fp32 the outputs alone nearly always suffice
        ablations = ablate(prepared, exporter, artifact, folder)
        evidence = _judged(prepared, options, artifact, files, ablations)
    gates: tuple[Reading | None, ...] = ()
    if wants_reading(prepared, evidence.parity, artifact.precision):
        with opened(runtime_for(artifact.target), files, artifact) as runtime:
            gates = read_gates(prepared, prepared.golden.at(artifact.precision), runtime.values)
        evidence = _judged(prepared, options, artifact, files, ablations, gates)
    return evidence, ablations, gates


def _judged(
    prepared: Prepared,
    options: ExportOptions,
    artifact: Artifact,
    files: list[Path],
    ablations: Ablations,
    gates: tuple[Reading | None, ...] = (),
) -> Evidence:
    return execute(
        artifact.target, files, artifact.inputs, artifact.outputs, prepared.golden,
        precision=artifact.precision, timed=False, artifact_ablations=ablations.outputs, inside=ablations.inside,
        gates_inside=gates, budget=options.budget.agreed,
    )  # fmt: skip


def _is_undecided(evidence: Evidence) -> bool:
    """Whether the check could not have failed, because the outputs might not show that a block's attention is lost."""
    blocks = evidence.parity.blocks if evidence.parity else ()
    return evidence.verdict is Verdict.INCONCLUSIVE and any(
        block.state is AttentionState.INCONCLUSIVE for block in blocks
    )


def save(built: BuiltArtifact, folder: Path) -> None:
    """Store ``built`` in ``folder``, beside its files."""
    inside, gates = (tuple(found or () for found in read) for read in (built.inside, built.gates_inside))
    kept = _Kept(built.artifact, built.evidence, inside, gates)
    (folder / _BUILT).write_text(codec.dumps(codec.encode(kept, _BUILT)))
    write_arrays(folder / _ABLATIONS, built.artifact_ablations, compressed=True)


def load(folder: Path) -> BuiltArtifact:
    """Read what :func:`save` stored."""
    kept = codec.decode(_Kept, codec.loads((folder / _BUILT).read_bytes(), _BUILT), _BUILT)
    inside, gates = (
        tuple((found[0], found[1], found[2]) if found else None for found in read)
        for read in (kept.inside, kept.gates_inside)
    )
    return BuiltArtifact(kept.artifact, kept.evidence, read_arrays(folder / _ABLATIONS), inside, gates)


def _engine(exporter: Exporter) -> str:
    """The engines and machine of the evidence; part of the key, because evidence holds for these only."""
    engines = [f"{python_of(engine)} {engine.available().detail}" for engine in engines_of(exporter.target)]
    return f"{engines} on {platform.machine()} {platform.processor()} {platform.system()}"
