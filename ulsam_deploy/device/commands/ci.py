"""What CI is handed besides stdout: ``--junit``, ``--markdown`` and GitHub annotations, the same for every command."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.device.bundle.kinds import JUNIT, MARKDOWN, Kind
from ulsam_deploy.device.bundle.output import Output, check_outputs
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import annotations as github
from ulsam_deploy.device.commands.junit import junit
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import Verdict


@dataclass
class Handover:
    """What a command fills in on its way: one sentence, the table of the terminal, and every check."""

    title: str
    sentence: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    checks: list[Check] = field(default_factory=list)


@contextlib.contextmanager
def handover(
    arguments: argparse.Namespace, title: str, *more: Output, apart_from: Path | None = None
) -> Iterator[Handover]:
    """Write what ``arguments`` ask for when the block ends; its :class:`UlsamError` becomes a failed check as well.

    Annotations go to stderr, where GitHub reads them too: stdout may be one JSON document.

    Args:
        arguments: The words of a command that has those of ``add_ci_options``.
        title: What the files are headed by.
        more: What the block writes itself; every place is checked before the block begins.
        apart_from: The bundle that the block writes.

    Yields:
        What the block fills in.

    Raises:
        UsageError: Before the block, for a place that can't be written.
    """
    check_outputs([*_outputs(arguments).values(), *more], apart_from)
    told = Handover(title)
    try:
        yield told
    except UlsamError as error:
        told.sentence = told.sentence or f"{arguments.command} stopped: {error.found.splitlines()[0]}"
        told.checks.append(Check(title, arguments.command, Verdict.FAIL, str(error)))
        _write(arguments, told)
        raise
    _write(arguments, told)


def check_places(arguments: argparse.Namespace, apart_from: Path | None = None) -> None:
    """Raise :class:`UsageError` where a file that ``arguments`` ask for could not be written: for a dry run."""
    check_outputs(list(_outputs(arguments).values()), apart_from)


def _outputs(arguments: argparse.Namespace) -> dict[Kind, Output]:
    """The files that were asked for, by their kind."""
    asked = {JUNIT: arguments.junit, MARKDOWN: arguments.markdown}
    return {kind: Output(path, kind, arguments.force) for kind, path in asked.items() if path is not None}


def _write(arguments: argparse.Namespace, told: Handover) -> None:
    outputs = _outputs(arguments)
    if JUNIT in outputs:
        outputs[JUNIT].write(junit(told.title, told.checks))
    if MARKDOWN in outputs:
        text = markdown(told.title, told.sentence, told.columns, told.rows, told.checks)
        outputs[MARKDOWN].write(text.encode())
    if github.wanted():
        for line in github.lines(told.checks):
            sys.stderr.write(line + "\n")
