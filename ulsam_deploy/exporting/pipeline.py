"""The pipeline: checkpoint -> network -> Program -> lowered Program -> artifact -> evidence -> bundle.

:func:`export` reads from top to bottom. Every result is cached by the content it depends on, so a run in which nothing
changed never imports torch. A backend that is missing or fails never stops another one.
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy._version import __version__
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, BundleWriter, FileRecord, Manifest, RunFacts
from ulsam_deploy.device.cache import Cache
from ulsam_deploy.device.errors import Exit, UlsamError, combine
from ulsam_deploy.device.findings import AutoFacts, TunedChoice
from ulsam_deploy.device.maps import MAPS
from ulsam_deploy.device.precisions import AUTO
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.verify import label
from ulsam_deploy.exporting import attachments
from ulsam_deploy.exporting.build import Builder, BuiltArtifact, stopped
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.outcome import Outcome
from ulsam_deploy.exporting.parallel import BuiltElsewhere, build_in_parallel
from ulsam_deploy.exporting.plan import PlanDocument, PlannedArtifact, describe, make_plan, place
from ulsam_deploy.exporting.prepare import GOLDEN, Prepared, prepare
from ulsam_deploy.exporting.search import RECIPE, Recipes, Tuned, recipes_text, search, tune
from ulsam_deploy.exporting.validation import check_network
from ulsam_deploy.exporting.workspace import Workspace
from ulsam_deploy.graph.interfaces import Exporter
from ulsam_deploy.load.checkpoint import InMemory

__all__ = ["Exported", "cache_of", "describe_export", "export"]


@dataclass(frozen=True)
class Exported:
    """The result of an export. ``bundle`` is ``None`` when no target could be made."""

    bundle: Bundle | None
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    exit_code: Exit


def export(options: ExportOptions, progress: Progress | None = None, given: InMemory | None = None) -> Exported:
    """Run ``options.model`` through the whole pipeline and write a bundle to ``options.bundle``.

    Args:
        options: What to export, and how.
        progress: Reports each stage; by default it prints to stderr.
        given: The network itself, if it is in memory; ``options.model`` is then its name and not a file.

    Returns:
        The bundle, and the outcome of each requested artifact. An error that stops one artifact is in its outcome.

    Raises:
        UlsamError: The options contradict each other, the network itself cannot be read, captured or rewritten, or the
            bundle cannot be written.
    """
    progress = progress or Progress()
    plan = make_plan(options, is_file=given is None)
    with Workspace(cache_of(options, given)) as workspace, BundleWriter(options.bundle) as writer:
        if not plan.is_possible:
            outcomes = tuple(_skipped(planned, progress) for planned in plan.artifacts)
            return Exported(None, outcomes, (), _code(outcomes, options))
        network = network_stages(options, progress, given)
        check_network(plan, network, workspace)
        prepared = prepare(network, options, workspace, progress)
        builder = Builder(prepared, workspace, options, progress)
        elsewhere = build_in_parallel(plan, builder)
        outcomes = tuple(_outcomes(plan.artifacts, builder, elsewhere, writer.folder))
        code = _code(outcomes, options)
        if not any(outcome.built for outcome in outcomes):
            return Exported(None, outcomes, prepared.notes, code)
        manifest = _manifest(writer, prepared, outcomes)
        with progress.stage("bundle") as said:
            manifest = attachments.attach(manifest, writer.folder, cached=options.cache, say=progress.say)
            bundle = writer.commit(manifest)
            said.append(str(options.bundle))
    return Exported(bundle, outcomes, prepared.notes, code)


def describe_export(options: ExportOptions) -> PlanDocument:
    """Describe what :func:`export` would do, without doing it: ``--dry-run``.

    It refuses whatever the export would refuse: the same functions read the network and the user's files, and run the
    network once. Nothing that the cache holds is read again, and torch is not imported for it.

    Raises:
        UlsamError: What :func:`export` would raise before it makes anything.
    """
    plan = make_plan(options)
    with Workspace(cache_of(options, None)) as workspace:
        network = network_stages(options, Progress(quiet=True))
        check_network(plan, network, workspace)
        notes = tuple(network.notes)
        if plan.is_possible and workspace.holds(network.key):
            notes = prepare(network, options, workspace, Progress(quiet=True)).notes  # as they were when it was made
        return describe(plan, network.digest, network.key, notes, workspace)


def cache_of(options: ExportOptions, given: InMemory | None) -> Cache | None:
    """The cache that ``options`` allow; ``None`` for the user's own code, whose behaviour cannot be hashed."""
    return Cache() if options.cache and not options.factory and given is None else None


def _code(outcomes: Sequence[Outcome], options: ExportOptions) -> Exit:
    """The run's exit code. With "all", a target that is not available here is ignored, but at least one has to be."""
    code = combine(outcome.exit_code(options) for outcome in outcomes)
    return code if any(outcome.built for outcome in outcomes) else code or Exit.UNAVAILABLE


def _outcomes(
    artifacts: Sequence[PlannedArtifact],
    builder: Builder,
    elsewhere: dict[PlannedArtifact, BuiltElsewhere],
    folder: Path,
) -> list[Outcome]:
    """The outcome of each of ``artifacts``, in this order; their files are in ``folder``."""
    outcomes: list[Outcome] = []
    for planned in artifacts:
        recipe = planned.request.recipe
        if any(o.found and (o.target, o.precision) == (planned.request.target, recipe.precision) for o in outcomes):
            continue  # auto, which comes first, has already chosen this precision
        try:
            outcomes.append(_outcome(planned, builder, elsewhere.get(planned), folder))
        except Exception as error:  # an unforeseen error in one target must not drop the others
            told = stopped(error, planned.request)
            shutil.rmtree(folder / planned.folder, ignore_errors=True)
            builder.progress.say(f"  {planned.folder:<22}failed: {told.found.splitlines()[0]}")
            required = recipe.precision != AUTO or planned.request.is_required(told)
            outcomes.append(_failed(planned, told, required))
    return outcomes


def _outcome(planned: PlannedArtifact, builder: Builder, elsewhere: BuiltElsewhere | None, folder: Path) -> Outcome:
    """The outcome of one artifact; raises the error that stopped it."""
    if planned.exporter is None:
        return _skipped(planned, builder.progress)
    if planned.request.recipe.precision == AUTO:
        return _searched(planned, planned.exporter, builder, folder)
    if elsewhere:
        return _taken(planned, planned.exporter, builder, elsewhere, folder)
    return _built(planned, planned.exporter, builder, folder)


def _skipped(planned: PlannedArtifact, progress: Progress) -> Outcome:
    """The outcome of an artifact that cannot be made here."""
    assert planned.error is not None
    progress.say(f"  {planned.folder:<22}skipped: {planned.error.found}")
    return _failed(planned, planned.error, planned.request.is_required(planned.error))


def _failed(planned: PlannedArtifact, error: UlsamError, required: bool = True) -> Outcome:
    request = planned.request
    return Outcome(request.target, request.recipe.precision, planned.folder, error=error, required=required)


def _built(planned: PlannedArtifact, exporter: Exporter, builder: Builder, folder: Path) -> Outcome:
    """Export and verify one artifact in this process."""
    tuned = _tuned(exporter, builder)
    recipe = tuned.recipe if tuned else planned.request.recipe
    with builder.progress.stage(planned.folder) as said:
        built = builder.artifact(exporter, recipe, folder / planned.folder)
        said.append(f"{built.evidence.level.label}, {built.evidence.verdict.value}")
    if tuned:
        built = _with_facts(built, tuned=tuned.facts())
    return Outcome(exporter.target, recipe.precision, planned.folder, built, tuned=tuned)


def _taken(
    planned: PlannedArtifact, exporter: Exporter, builder: Builder, elsewhere: BuiltElsewhere, folder: Path
) -> Outcome:
    """What another process built. It is timed here, because nothing else runs any more."""
    if elsewhere.error:  # already reported when it happened
        return _failed(planned, elsewhere.error)
    recipe = planned.request.recipe
    built = builder.artifact(exporter, recipe, folder / planned.folder, elsewhere.move)
    return Outcome(exporter.target, recipe.precision, planned.folder, built)


def _tuned(exporter: Exporter, builder: Builder) -> Tuned | None:
    """The fastest lowerings if ``--tune`` was given and they can be timed here; else ``None``: the exporter's own."""
    if not builder.options.tune:
        return None
    try:
        return tune(builder, exporter)
    except UlsamError as error:
        builder.progress.say(f"  {exporter.target}: not tuned: {error.found.splitlines()[0]}")
        return None


def _searched(planned: PlannedArtifact, exporter: Exporter, builder: Builder, folder: Path) -> Outcome:
    """The artifact that the search chose, copied into the bundle."""
    found = search(builder, exporter)
    chosen = place(exporter.target, found.recipe.precision, builder.options)
    built = builder.artifact(exporter, found.recipe, folder / chosen)
    return Outcome(
        exporter.target,
        found.recipe.precision,
        chosen,
        _with_facts(built, auto=found.facts()),
        required=planned.request.required,
        found=found,
    )


def _with_facts(
    built: BuiltArtifact, *, auto: AutoFacts | None = None, tuned: tuple[TunedChoice, ...] | None = None
) -> BuiltArtifact:
    facts = dataclasses.replace(built.artifact.facts, auto=auto, tuned=tuned)
    return dataclasses.replace(built, artifact=dataclasses.replace(built.artifact, facts=facts))


def _manifest(writer: BundleWriter, prepared: Prepared, outcomes: Sequence[Outcome]) -> Manifest:
    """Write the golden set and the attention maps into the bundle and return the manifest that lists everything."""
    _write_golden(prepared, [outcome.built for outcome in outcomes if outcome.built], writer.folder / GOLDEN)
    shutil.copyfile(prepared.folder / MAPS, writer.folder / MAPS)
    return Manifest(
        model=prepared.card,
        artifacts=tuple(_record(writer, outcome, outcome.built) for outcome in outcomes if outcome.built),
        golden=writer.record(GOLDEN),
        extras=_recipes(writer, prepared, outcomes),
        run=_run_section(outcomes),
    )


def _write_golden(prepared: Prepared, built: Sequence[BuiltArtifact], path: Path) -> None:
    """Write the golden set with the outputs of the artifact ablations, so that a device can judge by them."""
    artifact_ablations = {
        label(b.artifact.target, b.artifact.precision): b.artifact_ablations for b in built if b.artifact_ablations
    }
    inside = {label(b.artifact.target, b.artifact.precision): b.inside for b in built if b.inside}
    gates = {label(b.artifact.target, b.artifact.precision): b.gates_inside for b in built if b.gates_inside}
    if artifact_ablations or gates:
        dataclasses.replace(
            prepared.golden, artifact_ablations=artifact_ablations, inside=inside, gates_inside=gates
        ).save(path)
    else:
        shutil.copyfile(prepared.folder / GOLDEN, path)


def _record(writer: BundleWriter, outcome: Outcome, built: BuiltArtifact) -> ArtifactRecord:
    seen = built.evidence.engine.precision if built.evidence.engine else ""
    return writer.artifact(built.artifact, outcome.folder, built.evidence, seen)


def _recipes(writer: BundleWriter, prepared: Prepared, outcomes: Sequence[Outcome]) -> tuple[FileRecord, ...]:
    """The recipe file, if ``auto`` or ``--tune`` chose something."""
    searched = ((outcome.target, outcome.found or outcome.tuned) for outcome in outcomes)
    chosen = {target: found.recipe for target, found in searched if found}
    if not chosen:
        return ()
    text = recipes_text(Recipes(prepared.card.sha256, chosen))
    (writer.folder / RECIPE).write_text(text, encoding="utf-8")
    return (writer.record(RECIPE),)


def _run_section(outcomes: Sequence[Outcome]) -> RunFacts:
    """What depends on the machine, and which artifacts are missing: the only part of a bundle that may differ."""
    several = len({o.precision for o in outcomes}) > 1
    left_out = {
        label(o.target, o.precision) if several else o.target: o.error.found.splitlines()[0]
        for o in outcomes
        if o.error
    }
    return RunFacts(__version__, platform.python_version(), platform.machine(), platform.system(), left_out)
