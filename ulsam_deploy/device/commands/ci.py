"""Output for CI besides stdout: JUnit, SARIF, Markdown and GitHub annotations, the same for every command."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.device.bundle.kinds import JUNIT, MARKDOWN, SARIF, Kind
from ulsam_deploy.device.bundle.output import Output, check_outputs
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import annotations as github
from ulsam_deploy.device.commands.junit import junit
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.commands.sarif import sarif
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import Verdict


@dataclass
class Handover:
    """What a command fills in while it runs: one sentence, the table of the terminal, and every check.

    ``place`` is the file that the run is about.
    """

    title: str
    place: Path
    sentence: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    checks: list[Check] = field(default_factory=list)


@contextlib.contextmanager
def handover(
    arguments: argparse.Namespace, place: Path, *more: Output, title: str = "", apart_from: Path | None = None
) -> Iterator[Handover]:
    """Write the requested files when the block ends; a :class:`UlsamError` of the block becomes a failed check.

    Annotations go to stderr, where GitHub reads them too: stdout may be one JSON document.

    Args:
        arguments: The parsed arguments of a command that has the options of ``add_ci_options``.
        place: The file that the run is about, where findings are shown.
        more: The files that the block writes itself; all paths are checked before the block begins.
        title: The title of the files; by default the name of ``place``.
        apart_from: The bundle that the block writes.

    Yields:
        The object that the block fills in.

    Raises:
        UsageError: Before the block, for a path that can't be written.
    """
    check_outputs([*_outputs(arguments).values(), *more], apart_from)
    told = Handover(title or place.name, place)
    try:
        yield told
    except UlsamError as error:
        told.sentence = told.sentence or f"{arguments.command} stopped: {error.found.splitlines()[0]}"
        told.checks.append(Check(told.title, arguments.command, Verdict.FAIL, str(error)))
        _write(arguments, told)
        raise
    _write(arguments, told)


def check_places(arguments: argparse.Namespace, apart_from: Path | None = None) -> None:
    """For a dry run: raise :class:`UsageError` if a file that ``arguments`` request could not be written."""
    check_outputs(list(_outputs(arguments).values()), apart_from)


def _outputs(arguments: argparse.Namespace) -> dict[Kind, Output]:
    """The requested files, by their kind."""
    asked = {JUNIT: arguments.junit, MARKDOWN: arguments.markdown, SARIF: arguments.sarif}
    return {kind: Output(path, kind, arguments.force) for kind, path in asked.items() if path is not None}


def _write(arguments: argparse.Namespace, told: Handover) -> None:
    outputs = _outputs(arguments)
    if JUNIT in outputs:
        outputs[JUNIT].write(junit(told.title, told.checks))
    if SARIF in outputs:
        outputs[SARIF].write(sarif(told.place, told.checks))
    if MARKDOWN in outputs:
        text = markdown(told.title, told.sentence, told.columns, told.rows, told.checks)
        outputs[MARKDOWN].write(text.encode())
    if github.wanted():
        for line in github.lines(told.checks):
            sys.stderr.write(line + "\n")
