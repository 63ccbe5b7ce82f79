"""The outcome of an export as a document, as text, and as checks for CI, including searches and tuning."""

from __future__ import annotations

import shlex

from ulsam_deploy.cli.documents import ExportDocument
from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.checks import Check, artifact_checks
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.answer import Answer, Aside, Part, Table, path_text
from ulsam_deploy.device.commands.ci import Handover
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import Exit, UlsamError, UnavailableError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import OURS, typed
from ulsam_deploy.device.shortfall import Shortfall, shortfall
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import Exported
from ulsam_deploy.exporting.search import Found, Tuned
from ulsam_deploy.exporting.search.trials import interval_words
from ulsam_deploy.report import REPORT

COLUMNS = ("recipe", "size", "time / fp32", "error", "retention", "drop", "budget", "")


def tell(told: Handover, result: Exported, options: ExportOptions) -> None:
    """Fill in the output for CI: a check for each target that could not be made, and every check of the others."""
    for outcome in result.outcomes:
        if outcome.error:
            verdict = Verdict.FAIL if outcome.required else Verdict.UNVERIFIED
            told.checks.append(Check(outcome.target, "export", verdict, str(outcome.error)))
        if outcome.found:
            told.checks.append(_budget_check(outcome.target, outcome.found))
    records = result.bundle.manifest.artifacts if result.bundle else ()
    told.columns, told.rows = words.ARTIFACT_COLUMNS, [words.artifact_row(r, r.evidence) for r in records]
    missed = _missed(result, options)
    for record in records:
        again = typed(OURS, "verify", options.bundle, "--target", record.target)
        subject = f"{record.target} {record.precision}"
        why = missed[subject].why if subject in missed else ""
        told.checks += artifact_checks(subject, record.evidence, again, required=options.require, why=why)
    told.sentence = words.proven([record.evidence for record in records])


def answer(result: Exported, options: ExportOptions) -> Answer:
    """The outcome as a document and as text."""
    bundle, missed = result.bundle, _missed(result, options)
    document = ExportDocument(
        bundle=path_text(bundle.root) if bundle else None,
        manifest=bundle.manifest if bundle else None,
        left_out={o.target: str(o.error) for o in result.outcomes if o.error},
        missed=tuple(missed.values()),
        auto={o.target: o.found.facts() for o in result.outcomes if o.found},
        notes=tuple(result.notes),
        exit_code=int(result.exit_code),
    )
    text: list[Part] = []
    if bundle:
        records = bundle.manifest.artifacts
        shown = [
            [words.artifact_row(r, r.evidence), *words.further_rows(r.target, r.files[0].path, r.evidence)]
            for r in records
        ]
        text.append(Table(words.ARTIFACT_COLUMNS, [row for rows in shown for row in rows]))
        text += [
            sentence
            for record in records
            for sentence in words.further_words(f"{record.target} {record.precision}", record.evidence)
        ]
        text += [f"{record.target}: {reason}" for record in records for reason in record.evidence.reasons]
    for outcome in result.outcomes:
        text += _search(outcome.target, outcome.found) if outcome.found else []
        text += _tuning(outcome.target, outcome.tuned) if outcome.tuned else []
    text += [Aside(str(outcome.error), outcome.target) for outcome in result.outcomes if outcome.error]
    text += [Aside(str(each)) for each in missed.values()]
    text += [f"note: {note}" for note in result.notes]
    return Answer(document, [*text, *_end(result, options)], result.exit_code)


def _missed(result: Exported, options: ExportOptions) -> dict[str, Shortfall]:
    """The artifacts below ``--require``, by target and precision."""
    made = [(outcome.target, outcome.precision, outcome.built.evidence) for outcome in result.outcomes if outcome.built]
    bundle = shlex.quote(str(options.bundle))
    found = {
        f"{target} {precision}": shortfall(
            target, precision, evidence.level, options.require, bundle=bundle, error=_without_engine(target, evidence)
        )
        for target, precision, evidence in made
    }
    return {subject: each for subject, each in found.items() if each}


def _without_engine(target: str, evidence: Evidence) -> UlsamError | None:
    """The reason why nothing ran, if it is that no engine can run here."""
    if evidence.level >= EvidenceLevel.EXECUTED:
        return None
    try:
        runtime_for(target)
    except UnavailableError as error:
        return error
    return None


def _end(result: Exported, options: ExportOptions) -> list[str]:
    bundle = result.bundle
    if not bundle:
        return ["No artifact could be made, so no bundle was written."]
    has_report = REPORT in {one.path for one in bundle.manifest.extras}
    failed = [o.target for o in result.outcomes if o.built and o.exit_code(options) is not Exit.OK]
    return [
        *(["", f"Report: {options.bundle / REPORT}"] if has_report else []),
        f"Made:   {options.bundle}",
        f"Proven: {words.proven([record.evidence for record in bundle.manifest.artifacts])}",
        *words.next_step([OURS, "verify", options.bundle, *(["--target", failed[0]] if failed else [])]),
    ]


def _trials(found: Found) -> list[tuple[str, ...]]:
    """A row for each trial, in the order of the search; those on the Pareto front of time and error are marked."""
    rows: list[tuple[str, ...]] = []
    for trial in found.trials:
        missed = found.missed[trial.label]
        marks = ["chosen"] if trial.recipe == found.recipe else []
        marks += ["pareto"] if trial in found.best else []
        drop = trial.drop
        rows.append(
            (
                trial.short,
                words.size(trial.size) if trial.size else "-",
                interval_words(trial.ratio),
                f"{trial.error:.2f}x noise" if trial.error is not None else "-",
                f"{trial.least:.2f}" if trial.least is not None else "-",
                f"{100 * drop.drop:+.2f} ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})" if drop else "-",
                "; ".join(missed) or "kept",
                " ".join(marks),
            )
        )
    return rows


def _search(target: str, found: Found) -> list[Part]:
    """The outcome of ``--precision auto`` as a sentence, and every trial in a table."""
    kept = [f"{target}: kept in floating point: {' '.join(found.recipe.keep)}"] if found.recipe.keep else []
    return ["", f"{target}: {found.sentence}.", Table(COLUMNS, _trials(found)), *kept]


def _budget_check(target: str, found: Found) -> Check:
    """The budget as a separate check."""
    verdict = Verdict.PASS if found.met else Verdict.FAIL
    return Check(f"{target} auto", "budget", verdict, "" if found.met else f"{target}: {found.sentence}.")


def _tuning(target: str, tuned: Tuned) -> list[Part]:
    """The forms that ``--tune`` compared, and its choices."""
    if not tuned.choices:
        return []
    rows = [
        (choice.geometry, choice.lowering, interval_words(choice.ratio), "taken" if choice.taken else choice.why)
        for choice in tuned.choices
    ]
    return [
        "",
        f"{target}: forms of the attention, by the time of the whole network over that with the best form before",
        Table(("blocks", "form", "time", ""), rows),
    ]
