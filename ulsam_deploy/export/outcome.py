"""One artifact that was asked for: made and verified, or the error that stopped it."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import Exit, UlsamError, UnavailableError, combine
from ulsam_deploy.device.findings import AutoFacts, TunedChoice
from ulsam_deploy.device.precisions import AUTO
from ulsam_deploy.device.verify import label, verdict_code
from ulsam_deploy.export.build import Made
from ulsam_deploy.export.options import ExportOptions, Recipe
from ulsam_deploy.export.prepare import Road
from ulsam_deploy.export.search import Found, Tuned, search, tune
from ulsam_deploy.graph.interfaces import Exporter

__all__ = ["Asked", "Outcome", "exporter_for", "one", "place"]


@dataclass(frozen=True)
class Asked:
    """One artifact to make; ``required``: its target was asked for by name."""

    target: str
    recipe: Recipe
    required: bool

    def is_required(self, error: UlsamError) -> bool:
        """Whether ``error`` stops more than this artifact: what is merely not installed is left out of "all"."""
        return self.required or not isinstance(error, UnavailableError)


@dataclass(frozen=True)
class Outcome:
    """What became of one target in one precision: ``made``, or the ``error`` that stopped it.

    ``found``: what the search for ``auto`` ended with; ``tuned``: what ``--tune`` did.
    """

    target: str
    precision: str
    made: Made | None = None
    error: UlsamError | None = None
    required: bool = True
    found: Found | None = None
    tuned: Tuned | None = None

    def exit_code(self, options: ExportOptions) -> Exit:
        """What this artifact contributes to the exit code."""
        if self.made is None:
            return self.error.exit_code if self.error and self.required else Exit.OK
        missed = self.made.evidence.tier < options.require
        over = self.found is not None and not self.found.met
        codes = [Exit.UNAVAILABLE if missed else Exit.OK, Exit.CHECK_FAILED if over else Exit.OK]
        return combine([verdict_code(self.made.evidence), *codes])


def place(target: str, precision: str, options: ExportOptions) -> str:
    """The artifact's folder: its target's name, where no other precision shares it."""
    return label(target, precision) if len(set(options.precisions)) > 1 else target


def exporter_for(asked: Asked, options: ExportOptions) -> Exporter:
    """The exporter that makes it; raises :class:`UlsamError` where that is not possible here."""
    exporter: Exporter = plugins.load(plugins.EXPORTERS, asked.target)
    precision = asked.recipe.precision
    _check_possible(exporter, exporter.precisions[0] if precision == AUTO else precision, options)
    return exporter


def one(road: Road, asked: Asked, folder: Path) -> Outcome:
    """Export and verify one artifact; its failure is an outcome, the network's own failure is raised."""
    name, precision = asked.target, asked.recipe.precision
    into = place(name, precision, road.options)
    try:
        exporter = exporter_for(asked, road.options)
    except UlsamError as error:
        road.progress.say(f"  {into:<22}skipped: {error.found}")
        return Outcome(name, precision, None, error, asked.is_required(error))
    road.truth  # noqa: B018 - the network's own errors end the run here, before any target is blamed for them
    if precision == AUTO:
        return _auto(road, exporter, asked, folder)
    tuned = _tuned(road, exporter)
    with road.progress.stage(into) as said:
        try:
            made = road.made(exporter, tuned.recipe if tuned else asked.recipe, folder / into)
        except UlsamError as error:
            shutil.rmtree(folder / into, ignore_errors=True)
            said.append(f"failed: {error.found.splitlines()[0]}")
            return Outcome(name, precision, error=error)
        said.append(f"{made.evidence.tier.label}, {made.evidence.verdict.value}")
    return Outcome(name, precision, _with_facts(made, tuned=tuned.facts()) if tuned else made, tuned=tuned)


def _tuned(road: Road, exporter: Exporter) -> Tuned | None:
    """The fastest forms, where they were asked for and can be timed here; else the exporter's own."""
    if not road.options.tune:
        return None
    try:
        return tune(road, exporter)
    except UlsamError as error:
        road.progress.say(f"  {exporter.target}: not tuned: {error.found.splitlines()[0]}")
        return None


def _with_facts(made: Made, *, auto: AutoFacts | None = None, tuned: tuple[TunedChoice, ...] | None = None) -> Made:
    facts = dataclasses.replace(made.artifact.facts, auto=auto, tuned=tuned)
    return dataclasses.replace(made, artifact=dataclasses.replace(made.artifact, facts=facts))


def _auto(road: Road, exporter: Exporter, asked: Asked, folder: Path) -> Outcome:
    """What the search chose, made once more into the bundle."""
    try:
        found = search(road, exporter)
        precision = found.recipe.precision
        made = road.made(exporter, found.recipe, folder / place(exporter.target, precision, road.options))
    except UlsamError as error:
        road.progress.say(f"  {exporter.target}-{AUTO}: {error.found.splitlines()[0]}")
        return Outcome(exporter.target, AUTO, None, error, asked.is_required(error))
    return Outcome(exporter.target, precision, _with_facts(made, auto=found.facts()), None, asked.required, found)


def _check_possible(exporter: Exporter, precision: str, options: ExportOptions) -> None:
    if precision not in exporter.precisions:
        raise UnavailableError(
            f"{exporter.target} has no precision '{precision}'", expected=", ".join(exporter.precisions)
        )
    available = exporter.available_in(precision)
    if not available.usable:
        raise UnavailableError(f"{exporter.target}: {available.detail}", todo=available.todo)
    if options.device and exporter.for_devices:
        exporter.check_device(options.device)
    if options.batch is None and not exporter.dynamic_batch:
        raise UnavailableError(
            f"{exporter.target} artifacts are static: they cannot have a dynamic batch",
            expected="a fixed batch size",
            todo=f"export this target with --batch 1 (or another number): --target {exporter.target} --batch 1",
        )
