"""``ulsam-deploy compare``: the gate. Exit 0 within every budget, 1 if one is exceeded, 5 if that is inconclusive."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import add_ci_options
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import Exit, UsageError, combine

if TYPE_CHECKING:
    from ulsam_deploy.device.bench.result import Result
    from ulsam_deploy.gate import LimitFinding

HELP = "compare a result of bench with an earlier one and check it against budgets"
COLUMNS = ("artifact", "limit", "found", "allowed", "verdict")
#: Larger than a result of a day with the fastest network.
MOST_BYTES = 1 << 30


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("baseline", type=Path, metavar="BASELINE", help="the earlier result file")
    words.add("current", type=Path, metavar="CURRENT", help="the result file to judge")
    words.add(
        "--budget",
        type=Path,
        metavar="FILE.toml",
        help="what is allowed (default: at most 5 %% longer than the baseline)",
    )
    words.add(
        "--allow-unknown",
        action="store_true",
        help="compare even if the machine does not report its clocks or throttling, as virtual machines do not",
    )
    add_ci_options(words)


def run(arguments: argparse.Namespace) -> Answer:
    """Read all three files, decide, and print each limit's verdict."""
    from ulsam_deploy.device.checks import Check
    from ulsam_deploy.device.commands.ci import handover
    from ulsam_deploy.device.findings import Verdict
    from ulsam_deploy.gate import DEFAULT, CompareDocument, decide, read_budgets

    with handover(arguments, f"{arguments.current.name} against {arguments.baseline.name}") as told:
        budgets = read_budgets(arguments.budget) if arguments.budget else DEFAULT
        baseline, current = read_result(arguments.baseline), read_result(arguments.current)
        found = decide(baseline, current, budgets, allow_unknown=arguments.allow_unknown)
        if not found:
            where = current.machine.board or current.machine.cpu
            raise UsageError(
                f"no budget is about anything that was measured: {', '.join(one.label for one in current.measured)}",
                expected=f"a [[budget]] whose target, precision and device ('{where}') fit",
            )
        # A result file may be untrusted: nothing in it may control the terminal.
        told.columns, told.rows = COLUMNS, [_row(each) for each in found]
        told.sentence = sentence(found)
        told.checks += [Check(each.label, each.limit, each.verdict, each.text) for each in found]
    codes = {Verdict.PASS: Exit.OK, Verdict.FAIL: Exit.CHECK_FAILED}
    code = combine(codes.get(each.verdict, Exit.INCONCLUSIVE) for each in found)
    reasons = [each.text for each in found if each.text]
    text: list[Part] = [Table(told.columns, told.rows), *reasons, "", told.sentence]
    return Answer(CompareDocument(tuple(found), int(code)), text, code)


def read_result(path: Path) -> Result:
    """Read the result file at ``path``.

    Raises :class:`UsageError` if it can't be read, :class:`RefusedError` as :meth:`Result.from_json` does.
    """
    from ulsam_deploy.device.bench.result import Result

    try:
        data = contents(path, MOST_BYTES)
    except OSError as error:
        todo = "make one with 'ulsam-deploy bench BUNDLE -o FILE'"
        raise UsageError(f"{path} can't be read: {error.strerror}", expected="a result file", todo=todo) from error
    return Result.from_json(data, path.name)


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
    return (each.label, each.limit, each.found, each.allowed, each.verdict.value)
