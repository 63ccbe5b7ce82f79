"""``ulsam-deploy compare``: the gate. Exit 0 within every budget, 1 beyond one, 5 where that can't be told."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.ci import handover
from ulsam_deploy.device.errors import Exit, UsageError, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import say
from ulsam_deploy.gate import DEFAULT, LimitFinding, decide, read_budgets

COLUMNS = ("artifact", "limit", "found", "allowed", "verdict")
_CODES = {Verdict.PASS: Exit.OK, Verdict.FAIL: Exit.CHECK_FAILED}
#: A result of a day of the fastest network is smaller.
MOST_BYTES = 1 << 30


def run(arguments: argparse.Namespace) -> Exit:
    """Read all three files, decide, and say each limit's verdict."""
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
        told.columns, told.rows = COLUMNS, [_row(finding) for finding in found]
        told.sentence = sentence(found)
        told.checks += [Check(each.label, each.limit, each.verdict, each.text) for each in found]
    code = combine(_CODES.get(each.verdict, Exit.INCONCLUSIVE) for each in found)
    if arguments.json:
        findings = [{**dataclasses.asdict(each), "verdict": each.verdict.value} for each in found]
        words.print_json("compare", {"findings": findings, "exit_code": int(code)})
        return code
    words.print_table(told.columns, told.rows)
    for each in found:
        if each.text:
            say(*each.text.split("\n"))
    say("", told.sentence)
    return code


def read_result(path: Path) -> Result:
    """The result file at ``path``; raises :class:`UsageError` when it can't be read, :class:`RefusedError` as
    :meth:`Result.from_json` does.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is larger than 1 GiB", expected="a result file of 'ulsam-deploy bench -o'")
        data = path.read_bytes()
    except OSError as error:
        todo = "make one with 'ulsam-deploy bench BUNDLE -o FILE'"
        raise UsageError(f"{path} can't be read: {error.strerror}", expected="a result file", todo=todo) from error
    return Result.from_json(data, path.name)


def sentence(found: list[LimitFinding]) -> str:
    """How many limits hold."""
    held = sum(each.verdict is Verdict.PASS for each in found)
    failed = sum(each.verdict is Verdict.FAIL for each in found)
    parts = [f"{held} of {len(found)} limits hold"]
    parts += [f"{failed} {'is' if failed == 1 else 'are'} broken"] if failed else []
    unsure = len(found) - held - failed
    parts += [f"{unsure} can't be told"] if unsure else []
    return ", ".join(parts) + "."


def _row(each: LimitFinding) -> tuple[str, ...]:
    """A result file may come from anywhere: nothing in it gets at the terminal."""
    return (each.label, each.limit, each.found, each.allowed, each.verdict.value)
