"""``ulsam-deploy export``: the command around :func:`ulsam_deploy.exporting.pipeline.export`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from ulsam_deploy.cli.arguments import model_options
from ulsam_deploy.cli.searched import checks_of, print_found, print_tuned
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.checks import Check, artifact_checks
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.arguments import targets_of
from ulsam_deploy.device.commands.ci import Handover, check_places, handover
from ulsam_deploy.device.errors import Exit, UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import OURS, typed
from ulsam_deploy.device.printing import complain, say
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.shortfall import Shortfall, shortfall
from ulsam_deploy.device.targets import ALL
from ulsam_deploy.device.types import Tier
from ulsam_deploy.device.verify import runtime_for
from ulsam_deploy.exporting.budget import read_budget
from ulsam_deploy.exporting.options import ExportOptions, Recipe
from ulsam_deploy.exporting.outcome import Outcome
from ulsam_deploy.exporting.pipeline import Exported, describe_export, export
from ulsam_deploy.exporting.search import read_recipes
from ulsam_deploy.load.source import file_digest_of
from ulsam_deploy.report import REPORT


def options_from(arguments: argparse.Namespace) -> ExportOptions:
    """The words of the command line as options."""
    return ExportOptions(
        model=arguments.model,
        targets=targets_of(arguments) or (ALL,),
        output=arguments.output,
        batch=arguments.batch,
        precisions=tuple(dict.fromkeys(word for words in arguments.precision or [("fp32",)] for word in words)),
        calibration=arguments.calibration,
        keep=tuple(arguments.keep),
        preprocessing=arguments.preprocessing,
        recipes=_recipes(arguments),
        budget=read_budget(arguments.budget, arguments.limit),
        data=arguments.data,
        tune=arguments.tune,
        probes=arguments.probes,
        device=arguments.device,
        dla=arguments.dla,
        require=arguments.require,
        **model_options(arguments),
        cache=not arguments.no_cache,
    )


def _recipes(arguments: argparse.Namespace) -> Mapping[str, Recipe]:
    """What ``--recipe`` says; raises :class:`UsageError` beside words that say something else, or on their own."""
    auto = any("auto" in words for words in arguments.precision or ())
    for word in ("budget", "limit", "data"):
        if getattr(arguments, word) and not auto:
            raise UsageError(f"--{word} is for --precision auto", expected="--precision auto as well")
    if arguments.recipe is None:
        return {}
    for word in ("precision", "keep"):
        if getattr(arguments, word):
            raise UsageError(f"--recipe and --{word} both say how artifacts are made", expected="one of the two")
    recipes = read_recipes(arguments.recipe)
    if recipes.model != file_digest_of(arguments.model):
        say("  note: the recipe was found for another checkpoint: what it was worth there may not hold", error=True)
    return recipes.targets


def run(arguments: argparse.Namespace) -> Exit:
    """Export, print the table (or JSON) and what to type next."""
    options = options_from(arguments)
    if arguments.dry_run:
        return _plan(arguments, options)
    with handover(arguments, options.model.name, apart_from=options.bundle) as told:
        result = export(options, Progress(beat=not arguments.json))
        _tell(told, result, options)
    if arguments.json:
        words.print_json("export", _document(result, options))
    else:
        _print(result, options)
    return result.exit_code


def _plan(arguments: argparse.Namespace, options: ExportOptions) -> Exit:
    """``--dry-run``: print the plan; the exit code is that of the export as far as it can be known."""
    check_places(arguments, options.bundle)
    found = describe_export(options)
    if arguments.json:
        words.print_json("plan", codec.encode(found, "plan"))
        return Exit(found.exit_code)
    say(f"{found.model}, SHA-256 {found.sha256}")
    say(f"would {'replace' if found.replaces else 'be written to'} {found.bundle}", "")
    rows = [(step.name, step.precision or "", step.state, step.why) for step in found.steps]
    words.print_table(("step", "precision", "this time", "why"), rows)
    for note in found.notes:
        say(f"note: {note}")
    say("", "Nothing was done: say it without --dry-run, and it is.")
    return Exit(found.exit_code)


def _tell(told: Handover, result: Exported, options: ExportOptions) -> None:
    """What CI reads: a check for each target that could not be made, and every check of those that could."""
    for outcome in result.outcomes:
        if outcome.error:
            verdict = Verdict.FAIL if outcome.required else Verdict.UNVERIFIED
            told.checks.append(Check(outcome.target, "export", verdict, str(outcome.error)))
        if outcome.found:
            told.checks += checks_of(outcome.target, outcome.found)
    records = result.bundle.manifest.artifacts if result.bundle else ()
    told.columns, told.rows = words.ARTIFACT_COLUMNS, [words.artifact_row(r, r.evidence) for r in records]
    missed = _missed(result, options)
    for record in records:
        again = typed(OURS, "verify", options.bundle, "--target", record.target)
        subject = f"{record.target} {record.precision}"
        why = missed[subject].why if subject in missed else ""
        told.checks += artifact_checks(subject, record.evidence, again, required=options.require, why=why)
    told.sentence = words.proven([record.evidence for record in records])


def _document(result: Exported, options: ExportOptions) -> dict[str, Any]:
    manifest = result.bundle.manifest if result.bundle else None
    return {
        "bundle": str(result.bundle.root) if result.bundle else None,
        "manifest": codec.encode(manifest, "manifest") if manifest else None,
        "left_out": {o.target: str(o.error) for o in result.outcomes if o.error},
        "missed": [codec.encode(each, "missed") for each in _missed(result, options).values()],
        "auto": {o.target: codec.encode(o.found.facts(), "auto") for o in result.outcomes if o.found},
        "notes": list(result.notes),
        "exit_code": int(result.exit_code),
    }


def _missed(result: Exported, options: ExportOptions) -> dict[str, Shortfall]:
    """What is below ``--require``, by target and precision."""
    made = [(outcome.target, outcome.precision, outcome.built.evidence) for outcome in result.outcomes if outcome.built]
    bundle = shlex.quote(str(options.bundle))
    found = {
        f"{target} {precision}": shortfall(
            target, precision, evidence.tier, options.require, bundle=bundle, error=_without_engine(target, evidence)
        )
        for target, precision, evidence in made
    }
    return {subject: each for subject, each in found.items() if each}


def _without_engine(target: str, evidence: Evidence) -> UlsamError | None:
    """Why nothing ran, where that is because no engine can run here."""
    if evidence.tier >= Tier.EXECUTED:
        return None
    try:
        runtime_for(target)
    except UnavailableError as error:
        return error
    return None


def _print(result: Exported, options: ExportOptions) -> None:
    bundle = result.bundle
    if bundle:
        rows = [words.artifact_row(record, record.evidence) for record in bundle.manifest.artifacts]
        words.print_table(words.ARTIFACT_COLUMNS, rows)
        for record in bundle.manifest.artifacts:
            for reason in record.evidence.reasons:
                say(f"{record.target}: {reason}")
    for outcome in result.outcomes:
        _print_search(outcome)
    for outcome in result.outcomes:
        if outcome.error:
            complain(outcome.error, outcome.target)
    for each in _missed(result, options).values():
        say(*str(each).split("\n"), error=True)
    for note in result.notes:
        say(f"note: {note}")
    _print_end(result, options)


def _print_search(outcome: Outcome) -> None:
    if outcome.found:
        print_found(outcome.target, outcome.found)
    if outcome.tuned:
        print_tuned(outcome.target, outcome.tuned)


def _print_end(result: Exported, options: ExportOptions) -> None:
    bundle = result.bundle
    if bundle:
        if REPORT in {record.path for record in bundle.manifest.extras}:
            say("", f"Report: {options.bundle / REPORT}")
        say("", f"Made:   {options.bundle}")
        say(f"Proven: {words.proven([record.evidence for record in bundle.manifest.artifacts])}")
        failed = [o.target for o in result.outcomes if o.built and o.exit_code(options) is not Exit.OK]
        words.say_next(["ulsam-deploy", "verify", options.bundle, *(["--target", failed[0]] if failed else [])])
    else:
        say("No artifact could be made, so no bundle was written.")
