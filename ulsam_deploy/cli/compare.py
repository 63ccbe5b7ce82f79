"""``ulsam-deploy compare``: the gate. Exit 0 if nothing got worse, 1 if something did, 5 if that is inconclusive."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.cli.compare_files import read_builds
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import add_ci_options
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import Exit, UsageError, combine

if TYPE_CHECKING:
    from ulsam_deploy.gate import LimitFinding

HELP = "hold a bundle or a result against an earlier one, and check it against budgets"
COLUMNS = ("artifact", "limit", "baseline", "found", "allowed", "verdict")


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    kinds = "a bundle, a result of 'bench -o', or the output of 'verify --json' or 'bench --count --json'"
    words.add("baseline", type=Path, metavar="BASELINE", help=f"the earlier build: {kinds}")
    words.add("current", type=Path, metavar="CURRENT", help="the build to judge: a file of the same kind")
    words.add(
        "--budget",
        type=Path,
        metavar="FILE.toml",
        help="limits, and what may be lost (default: the losses in the column 'allowed', nothing missing)",
    )
    words.add(
        "--allow-unknown",
        action="store_true",
        help="compare even if the machine does not report its clocks or throttling, as virtual machines do not",
    )
    add_ci_options(words)


def run(arguments: argparse.Namespace) -> Answer:
    """Read all three files, decide, and print each verdict."""
    from ulsam_deploy.device.checks import Check
    from ulsam_deploy.device.commands.ci import handover
    from ulsam_deploy.device.findings import Verdict
    from ulsam_deploy.gate import CompareDocument, decide, read_budgets

    title = f"{arguments.current.name} against {arguments.baseline.name}"
    with handover(arguments, arguments.current, title=title) as told:
        budgets = read_budgets(arguments.budget) if arguments.budget else ()
        baseline, current = read_builds(arguments.baseline, arguments.current)
        if not baseline.artifacts:
            raise UsageError(f"{arguments.baseline} has no artifact that was run", expected="a build to compare with")
        if budgets and not any(budget.on(current.board) for budget in budgets):
            raise UsageError(
                f"no budget is about anything that was measured: {', '.join(current.artifacts)}",
                expected=f"a [[budget]] whose target, precision and device ('{current.board}') fit",
            )
        found = decide(baseline, current, budgets, allow_unknown=arguments.allow_unknown)
        # A file may be untrusted: nothing in it may control the terminal.
        told.columns, told.rows = COLUMNS, [_row(each) for each in found]
        told.sentence = sentence(found)
        told.checks += [Check(each.label, each.limit, each.verdict, each.text) for each in found]
    codes = {Verdict.PASS: Exit.OK, Verdict.FAIL: Exit.CHECK_FAILED}
    code = combine(codes.get(each.verdict, Exit.INCONCLUSIVE) for each in found)
    reasons = [each.text for each in found if each.text]
    text: list[Part] = [Table(told.columns, told.rows), *reasons, "", told.sentence]
    return Answer(CompareDocument(tuple(found), int(code)), text, code)


def sentence(found: Sequence[LimitFinding]) -> str:
    """How many limits hold."""
    verdicts = [each.verdict.value for each in found]
    held, failed = verdicts.count("pass"), verdicts.count("fail")
    parts = [f"{held} of {len(found)} limits hold"]
    parts += [f"{failed} {'is' if failed == 1 else 'are'} broken"] if failed else []
    unsure = len(found) - held - failed
    parts += [f"{unsure} inconclusive"] if unsure else []
    return ", ".join(parts) + "."


def _row(each: LimitFinding) -> tuple[str, ...]:
    return (each.label, each.limit, each.baseline, each.found, each.allowed, each.verdict.value)
