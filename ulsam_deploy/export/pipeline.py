"""The one road: checkpoint -> network -> Program -> lowered Program -> artifact -> evidence -> bundle.

:func:`export` reads from top to bottom. Every stage is computed on first use and cached by content, so a run in which
nothing changed never imports torch, and a backend that is missing or fails never stops another one.
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
from ulsam_deploy.device.errors import Exit, combine
from ulsam_deploy.device.maps import MAPS
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.verify import label
from ulsam_deploy.export import attachments
from ulsam_deploy.export.build import Made
from ulsam_deploy.export.options import ExportOptions
from ulsam_deploy.export.outcome import Outcome, place
from ulsam_deploy.export.parallel import abreast
from ulsam_deploy.export.prepare import GOLDEN, Road
from ulsam_deploy.export.requests import asked, check_network
from ulsam_deploy.export.search import RECIPE, Recipes, recipes_text
from ulsam_deploy.load.checkpoint import InMemory


@dataclass(frozen=True)
class Exported:
    """The result of an export. ``bundle`` is ``None`` when no target could be made."""

    bundle: Bundle | None
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    exit_code: Exit


def export(options: ExportOptions, progress: Progress | None = None, given: InMemory | None = None) -> Exported:
    """Take ``options.model`` down the whole road and leave a bundle at ``options.bundle``.

    ``given``: the network itself, where it is in memory; ``options.model`` is then no file, but what it is called.

    Raises :class:`~ulsam_deploy.device.errors.UlsamError` when the network itself cannot be read, captured or
    rewritten, or the bundle cannot be written; what stops a single target is in its :class:`Outcome`.
    """
    progress = progress or Progress()
    wanted = asked(options, is_file=given is None)
    with Road(options, progress, given) as road, BundleWriter(options.bundle) as writer:
        check_network(road, wanted)
        outcomes = abreast(road, wanted, writer.folder)
        code = combine(outcome.exit_code(options) for outcome in outcomes)
        made = [outcome.made for outcome in outcomes if outcome.made]
        if not made:  # with "all", a target that is not possible here counts for nothing; but one has to be
            return Exported(None, tuple(outcomes), road.notes(), code or Exit.UNAVAILABLE)
        _write_golden(road, made, writer.folder / GOLDEN)
        shutil.copyfile(road.truth / MAPS, writer.folder / MAPS)
        manifest = Manifest(
            model=road.card,
            artifacts=tuple(_record(writer, found, options) for found in made),
            golden=writer.record(GOLDEN),
            extras=_recipes(writer, road, outcomes),
            run=_run_section(outcomes),
        )
        with progress.stage("bundle") as said:
            manifest = attachments.attach(manifest, writer.folder, cached=options.cache, say=progress.say)
            bundle = writer.commit(manifest)
            said.append(str(options.bundle))
        return Exported(bundle, tuple(outcomes), road.notes(), code)


def _recipes(writer: BundleWriter, road: Road, outcomes: Sequence[Outcome]) -> tuple[FileRecord, ...]:
    """The recipe file, where something was searched for."""
    searched = ((outcome.target, outcome.found or outcome.tuned) for outcome in outcomes)
    chosen = {target: found.recipe for target, found in searched if found}
    if not chosen:
        return ()
    (writer.folder / RECIPE).write_text(recipes_text(Recipes(road.digest, chosen)), encoding="utf-8")
    return (writer.record(RECIPE),)


def _write_golden(road: Road, made: Sequence[Made], path: Path) -> None:
    """The golden set with what the twins of artifacts gave, so that a device can judge by them."""
    silenced = {label(m.artifact.target, m.artifact.precision): m.silenced for m in made if m.silenced}
    inside = {label(m.artifact.target, m.artifact.precision): m.inside for m in made if m.inside}
    if silenced:
        dataclasses.replace(road.golden, silenced=silenced, inside=inside).save(path)
    else:
        shutil.copyfile(road.truth / GOLDEN, path)


def _record(writer: BundleWriter, made: Made, options: ExportOptions) -> ArtifactRecord:
    artifact = made.artifact
    seen = made.evidence.engine.precision if made.evidence.engine else ""
    return writer.artifact(artifact, place(artifact.target, artifact.precision, options), made.evidence, seen)


def _run_section(outcomes: Sequence[Outcome]) -> RunFacts:
    several = len({o.precision for o in outcomes}) > 1
    left_out = {
        label(o.target, o.precision) if several else o.target: o.error.found.splitlines()[0]
        for o in outcomes
        if o.error
    }
    return RunFacts(__version__, platform.python_version(), platform.machine(), platform.system(), left_out)
