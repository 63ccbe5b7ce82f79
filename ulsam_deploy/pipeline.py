"""The one road: checkpoint -> network -> Program -> lowered Program -> artifact -> evidence -> bundle.

:func:`export` reads from top to bottom. Every stage is computed on first use and cached by content, so a run in which
nothing changed never imports torch, and a backend that is missing or fails never stops another one.
"""

from __future__ import annotations

import dataclasses
import platform
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulsam_deploy import attachments, plugins
from ulsam_deploy._version import __version__
from ulsam_deploy.abreast import abreast
from ulsam_deploy.bundle import ArtifactRecord, Bundle, BundleWriter, FileRecord, Manifest, check_writable
from ulsam_deploy.contracts import Tier
from ulsam_deploy.devices import check_dla, device
from ulsam_deploy.errors import Exit, UsageError, combine
from ulsam_deploy.evidence import label
from ulsam_deploy.making import Made
from ulsam_deploy.options import AUTO, CALIBRATED, NO_CALIBRATION, QUANTIZED, REACHABLE, ExportOptions, Recipe
from ulsam_deploy.outcome import Asked, Outcome, place
from ulsam_deploy.progress import Progress
from ulsam_deploy.report.maps import MAPS
from ulsam_deploy.road import GOLDEN, Road
from ulsam_deploy.search import RECIPE, Recipes, recipes_text


@dataclass(frozen=True)
class Exported:
    """The result of an export. ``bundle`` is ``None`` when no target could be made."""

    bundle: Bundle | None
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    exit_code: Exit


def export(options: ExportOptions, progress: Progress | None = None) -> Exported:
    """Take ``options.model`` down the whole road and leave a bundle at ``options.bundle``.

    Raises :class:`~ulsam_deploy.errors.UlsamError` when the network itself cannot be read, captured or rewritten, or
    the bundle cannot be written; what stops a single target is in its :class:`Outcome`.
    """
    progress = progress or Progress()
    wanted = asked(options)
    with Road(options, progress) as road, BundleWriter(options.bundle) as writer:
        outcomes = abreast(road, wanted, writer.folder)
        code = combine(outcome.exit_code(options) for outcome in outcomes)
        made = [outcome.made for outcome in outcomes if outcome.made]
        if not made:
            return Exported(None, tuple(outcomes), road.notes(), code)
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


def asked(options: ExportOptions) -> list[Asked]:
    """What to make, in the order asked for; raises :class:`UsageError` where the options contradict each other."""
    check_writable(options.bundle)
    _check_required(options)
    if options.device:
        device(options.device)
    if options.dla:
        for precision in options.precisions:
            check_dla(options.device, precision, options.batch)
    known = plugins.registered(plugins.EXPORTERS)
    for name in options.targets:
        if name not in known and name != "all":
            raise UsageError(f"no target is called '{name}'", expected=", ".join([*known, "all"]))
    if set(options.judged) & set(CALIBRATED) and options.calibration is None:
        raise UsageError("int8 needs real inputs to take ranges from", expected="--calibration", todo=NO_CALIBRATION)
    _check_searches(options)
    every = "all" in options.targets
    if options.recipes:
        chosen = list(options.recipes) if every else list(dict.fromkeys(options.targets))
        for name in chosen:
            if name not in options.recipes or name not in known:
                expected = ", ".join(set(options.recipes) & set(known))
                raise UsageError(f"the recipe has nothing for target '{name}'", expected=expected)
        return [Asked(name, options.recipes[name], True) for name in chosen]
    return [
        Asked(target, Recipe(precision, options.keep if precision in QUANTIZED else ()), not every)
        for target in (known if every else dict.fromkeys(options.targets))
        for precision in sorted(dict.fromkeys(options.precisions), key=AUTO.__ne__)
    ]


def _check_required(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for evidence that no export gives: it neither emulates nor runs on a device."""
    if options.require > REACHABLE[-1]:
        how = "--device NAME" if options.require is Tier.EMULATED_ON_DEVICE_CPU else "--host USER@NAME"
        raise UsageError(
            f"an export never reaches '{options.require.label}'",
            expected="one of " + ", ".join(tier.label for tier in REACHABLE),
            todo=f"export, then: ulsam-deploy verify {shlex.quote(str(options.bundle))} {how} "
            f"--require {options.require.label}",
        )


def _check_searches(options: ExportOptions) -> None:
    """Raise :class:`UsageError` for a search that is asked for what it cannot do."""
    if options.tune and (options.recipes or set(options.precisions) != {"fp32"}):
        raise UsageError(
            "--tune chooses among forms of the attention that are equal in fp32",
            expected="--precision fp32, and no --recipe",
        )
    if AUTO not in options.precisions:
        return
    if both := set(options.precisions) & set(QUANTIZED):
        raise UsageError(
            f"auto and {min(both)} were both asked for, and auto may choose {min(both)} with other modules kept",
            expected="auto alone, or beside fp32 and fp16",
            todo=f"leave {min(both)} out: auto tries it as well and says what it is worth",
        )
    if options.budget.drop is not None and options.data is None:
        raise UsageError(
            "the budget limits how much accuracy may drop, and there is no labelled data",
            expected="--data DIR|FILE.npz",
        )


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
    seen = str(made.evidence.engine.get("precision", ""))
    return writer.artifact(artifact, place(artifact.target, artifact.precision, options), made.evidence, seen)


def _run_section(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What is not the same on every machine, or was left out: the only part of a bundle that may differ."""
    several = len({o.precision for o in outcomes}) > 1
    left_out = {
        label(o.target, o.precision) if several else o.target: o.error.found.splitlines()[0]
        for o in outcomes
        if o.error
    }
    return {
        "ulsam-deploy": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "left_out": left_out,
    }
