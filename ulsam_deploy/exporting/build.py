"""One artifact: lowered, exported, run in its engine, and judged; in low precision by its own ablations as well."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.cache import key
from ulsam_deploy.device.ending import defect, in_words
from ulsam_deploy.device.errors import UlsamError, UnavailableError
from ulsam_deploy.device.findings import AttentionState, CalibrationSet, Reason, ReasonKind, Verdict
from ulsam_deploy.device.npz import read_arrays, write_arrays
from ulsam_deploy.device.parity import Reading
from ulsam_deploy.device.precisions import CALIBRATED
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.types import Artifact, EvidenceLevel
from ulsam_deploy.device.verify import execute, latency, runtime_for, worst_batch
from ulsam_deploy.exporting.ablation import Ablations, ablate, opened
from ulsam_deploy.exporting.options import ExportOptions, Recipe
from ulsam_deploy.exporting.prepare import Prepared
from ulsam_deploy.exporting.requests import ArtifactRequest
from ulsam_deploy.exporting.workspace import Workspace
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest
from ulsam_deploy.graph.resolution import annotated

__all__ = ["FILES", "Builder", "BuiltArtifact", "artifact_key", "build", "finish", "load", "located", "save", "stopped"]


_BUILT, _ABLATIONS = "built.json", "ablations.npz"
#: Where the artifact's own files lie in the folder that :func:`save` writes to.
FILES = "files"


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact with its evidence.

    ``artifact_ablations``: what its ablations gave, each without one block's attention: float32 (B, P, K) by output;
    empty where there are none.
    """

    artifact: Artifact
    evidence: Evidence
    artifact_ablations: Mapping[str, Array] = field(default_factory=dict)
    inside: tuple[Reading | None, ...] = ()


@dataclass(frozen=True)
class _Kept:
    """What is kept of one artifact in words; what its ablations gave lies beside it."""

    artifact: Artifact
    evidence: Evidence
    inside: tuple[tuple[float, ...], ...] = ()  # of each block, empty where nothing could be read


def artifact_key(prepared: str, exporter: Exporter, recipe: Recipe, options: ExportOptions) -> str:
    """What one artifact of the network with the key ``prepared`` is known by."""
    about = [exporter.target, dataclasses.asdict(recipe), options.device, options.dla]
    return key(prepared, about, exporter.available_in(recipe.precision).detail, _engine(exporter))


class Builder:
    """Builds the artifacts of one prepared network, each once: what is known already is taken from ``workspace``."""

    def __init__(self, prepared: Prepared, workspace: Workspace, options: ExportOptions, progress: Progress) -> None:
        self.prepared, self.workspace, self.options, self.progress = prepared, workspace, options, progress

    def key(self, exporter: Exporter, recipe: Recipe) -> str:
        """What the workspace knows the artifact by."""
        return artifact_key(self.prepared.network.key, exporter, recipe, self.options)

    def artifact(
        self,
        exporter: Exporter,
        recipe: Recipe,
        into: Path,
        made: Callable[[Path], BuiltArtifact] | None = None,
    ) -> BuiltArtifact:
        """The artifact of ``exporter`` by ``recipe``, its files in the folder ``into``, which is made here.

        ``made`` builds it where it is not known yet; default: :func:`build`, in this process.
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
    """The artifact of ``exporter`` by ``recipe``, in the empty ``folder``, with what running it here showed."""
    artifact = _export(prepared, exporter, recipe, options, folder)
    try:
        evidence, ablations = _executed(prepared, exporter, artifact, folder)
        return BuiltArtifact(
            annotated(artifact, evidence, prepared.resolutions), evidence, ablations.outputs, ablations.inside
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
    """What stopped one artifact, and no other one: an error in words, or a defect, whose traceback is kept in a file.

    Raises ``error`` itself where it says that this machine can't go on: that ends the run.
    """
    if not isinstance(error, UlsamError) and in_words(error):
        raise error
    words = ["export", "--target", request.target, "--precision", request.recipe.precision]
    return in_words(error) or defect(error, words)


def finish(prepared: Prepared, built: BuiltArtifact, folder: Path, progress: Progress) -> BuiltArtifact:
    """``built`` with the time of one call, where an engine ran it; a failure also with the first module that differs.

    Apart from :func:`build`, which may run beside others: a time is taken where nothing else runs.
    """
    artifact, evidence = built.artifact, built.evidence
    if evidence.level < EvidenceLevel.EXECUTED:
        return built
    files = [folder / name for name in artifact.files]
    with opened(runtime_for(artifact.target), files, artifact) as runtime:
        evidence = dataclasses.replace(evidence, latency=latency(runtime, prepared.golden))
        if evidence.verdict is Verdict.FAIL:
            golden = prepared.golden.at(artifact.precision)
            batch = worst_batch(evidence, golden, artifact.inputs[0].shape[0])
            feed = {name: array[batch] for name, array in golden.inputs.items()}
            evidence = located(prepared, evidence, feed, runtime.values, artifact.precision, progress)
    return dataclasses.replace(built, evidence=evidence)


def located(
    prepared: Prepared,
    evidence: Evidence,
    feed: ArrayMap,
    values: Callable[[ArrayMap], ArrayMap],
    precision: str,
    progress: Progress,
) -> Evidence:
    """``evidence`` of a failure with one reason more: the first module of the network that differs.

    ``feed`` is the artifact's batch that shows it (:func:`~ulsam_deploy.device.verify.worst_batch`); ``values`` gives
    every tensor inside the artifact for it.
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


def _export(prepared: Prepared, exporter: Exporter, recipe: Recipe, options: ExportOptions, folder: Path) -> Artifact:
    from ulsam_deploy.graph.views import first_block

    fused = prepared.network.fused()
    ranges = fused.split.ranges if recipe.precision in CALIBRATED and fused.split else None
    request = ExportRequest(recipe.precision, options.device, options.dla, ranges, recipe.keep, recipe.lowerings)
    lowered = fused.lowered(exporter.target, exporter.lowering(request))
    artifact = exporter.export(lowered, request, folder)
    facts = dataclasses.replace(artifact.facts, block=first_block(lowered))
    if recipe.precision != "fp32":
        facts = dataclasses.replace(facts, keep=recipe.keep)
    if ranges:
        facts = dataclasses.replace(facts, calibration=CalibrationSet(ranges.digest, ranges.count))
    return dataclasses.replace(artifact, facts=facts)


def _executed(prepared: Prepared, exporter: Exporter, artifact: Artifact, folder: Path) -> tuple[Evidence, Ablations]:
    """What the engine shows, and what the artifact's own ablations gave."""
    files = [folder / name for name in artifact.files]
    ablations = Ablations() if artifact.precision == "fp32" else ablate(prepared, exporter, artifact, folder)
    evidence = _judged(prepared, artifact, files, ablations)
    if artifact.precision == "fp32" and _is_undecided(evidence):  # in fp32 the outputs alone tell, nearly always
        ablations = ablate(prepared, exporter, artifact, folder)
        evidence = _judged(prepared, artifact, files, ablations)
    return evidence, ablations


def _judged(prepared: Prepared, artifact: Artifact, files: list[Path], ablations: Ablations) -> Evidence:
    return execute(
        artifact.target, files, artifact.inputs, artifact.outputs, prepared.golden,
        precision=artifact.precision, timed=False, artifact_ablations=ablations.outputs, inside=ablations.inside,
    )  # fmt: skip


def _is_undecided(evidence: Evidence) -> bool:
    """Whether the check could not have failed, for a block whose loss its outputs might not show."""
    blocks = evidence.parity.blocks if evidence.parity else ()
    return evidence.verdict is Verdict.INCONCLUSIVE and any(
        block.state is AttentionState.INCONCLUSIVE for block in blocks
    )


def save(built: BuiltArtifact, folder: Path) -> None:
    """Keep ``built`` in ``folder``, beside its files."""
    kept = _Kept(built.artifact, built.evidence, tuple(found or () for found in built.inside))
    (folder / _BUILT).write_text(codec.dumps(codec.encode(kept, _BUILT)))
    write_arrays(folder / _ABLATIONS, built.artifact_ablations, compressed=True)


def load(folder: Path) -> BuiltArtifact:
    """What :func:`save` kept."""
    kept = codec.decode(_Kept, codec.loads((folder / _BUILT).read_bytes(), _BUILT), _BUILT)
    readings = tuple((found[0], found[1], found[2]) if found else None for found in kept.inside)
    return BuiltArtifact(kept.artifact, kept.evidence, read_arrays(folder / _ABLATIONS), readings)


def _engine(exporter: Exporter) -> str:
    """The engine and machine that evidence was gathered on: it is not carried to another one."""
    try:
        engine = runtime_for(exporter.target).available().detail
    except UnavailableError:
        engine = "none"
    return f"{engine} on {platform.machine()} {platform.processor()} {platform.system()}"
