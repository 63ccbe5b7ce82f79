"""What CI is handed besides stdout: ``--junit``, ``--markdown`` and GitHub annotations, the same for every command."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.bundle.write import write_file
from ulsam_deploy.contracts import Verdict
from ulsam_deploy.errors import UlsamError, UsageError
from ulsam_deploy.report import annotations as github
from ulsam_deploy.report.checks import Check
from ulsam_deploy.report.junit import junit
from ulsam_deploy.report.markdown import markdown


@dataclass
class Handover:
    """What a command fills in on its way: one sentence, the table of the terminal, and every check."""

    title: str
    sentence: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    checks: list[Check] = field(default_factory=list)


@contextlib.contextmanager
def handover(arguments: argparse.Namespace, title: str) -> Iterator[Handover]:
    """Write what ``arguments`` ask for when the block ends; its :class:`UlsamError` becomes a failed check as well.

    Annotations go to stderr, where GitHub reads them too: stdout may be one JSON document.
    """
    check_places(arguments)
    told = Handover(title)
    try:
        yield told
    except UlsamError as error:
        told.sentence = told.sentence or f"{arguments.command} stopped: {error.found.splitlines()[0]}"
        told.checks.append(Check(title, arguments.command, Verdict.FAIL, str(error)))
        _write(arguments, told)
        raise
    _write(arguments, told)


def check_places(arguments: argparse.Namespace) -> None:
    """Raise :class:`UsageError` where a file that ``arguments`` ask for could not be written."""
    for path in (arguments.junit, arguments.markdown):
        if path:
            check_place(path)


def check_place(path: Path) -> None:
    """Raise :class:`UsageError` before any work is done for a file that could not be written."""
    if not path.resolve().parent.is_dir():
        raise UsageError(f"the folder of '{path}' does not exist", expected="a folder that is there")
    if path.exists() and not path.is_file():
        raise UsageError(f"'{path}' is not a file", expected="a file, or nothing yet")


def _write(arguments: argparse.Namespace, told: Handover) -> None:
    if arguments.junit:
        write_file(arguments.junit, junit(told.title, told.checks))
    if arguments.markdown:
        text = markdown(told.title, told.sentence, told.columns, told.rows, told.checks)
        write_file(arguments.markdown, text.encode())
    if github.wanted():
        for line in github.lines(told.checks):
            sys.stderr.write(line + "\n")
