"""What a search found, for ``--precision auto`` or ``--tune``, as people and CI read it."""

from __future__ import annotations

from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import say
from ulsam_deploy.exporting.search import Found, Tuned
from ulsam_deploy.exporting.search.trials import interval_words

COLUMNS = ("recipe", "size", "time / fp32", "error", "liveness", "drop", "budget", "")


def rows_of(found: Found) -> list[tuple[str, ...]]:
    """A line a trial, in the order of the search; those that no other one beats in time and error are marked."""
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
                f"{trial.error:.2f} floors" if trial.error is not None else "-",
                f"{trial.least:.2f}" if trial.least is not None else "-",
                f"{100 * drop.drop:+.2f} ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})" if drop else "-",
                "; ".join(missed) or "kept",
                " ".join(marks),
            )
        )
    return rows


def print_found(target: str, found: Found) -> None:
    """The outcome in a sentence, and every trial in a table."""
    say("", f"{target}: {found.sentence}.")
    words.print_table(COLUMNS, rows_of(found))
    if found.recipe.keep:
        say(f"{target}: kept in floating point: {' '.join(found.recipe.keep)}")


def checks_of(target: str, found: Found) -> list[Check]:
    """The budget as a check of its own."""
    verdict = Verdict.PASS if found.met else Verdict.FAIL
    return [Check(f"{target} auto", "budget", verdict, "" if found.met else f"{target}: {found.sentence}.")]


def print_tuned(target: str, tuned: Tuned) -> None:
    """What was timed against what, and what was taken."""
    if not tuned.choices:
        return
    say("", f"{target}: forms of the attention, by the time of the whole network over that with the best form before")
    rows = [
        (choice.geometry, choice.lowering, interval_words(choice.ratio), "taken" if choice.taken else choice.why)
        for choice in tuned.choices
    ]
    words.print_table(("blocks", "form", "time", ""), rows)
