"""What the words of several commands share: how a command is added, and how values are read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.targets import parse_targets

EXIT_CODES = """exit codes: 0 every check held, 1 a check failed, 2 wrong usage, 3 export failed,
4 backend, device or evidence tier not available here, 5 inconclusive, 6 refused (integrity or trust),
70 a defect of this program"""

T = TypeVar("T")


def command(commands: Any, name: str, help_: str) -> argparse.ArgumentParser:
    """A new command with what every command has: exit codes in its help, and ``--json``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=help_[:1].upper() + help_[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help=f"take words from its table [{name}] as well")
    return parser


def value(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Let ``parse`` complain in argparse's manner; :class:`~ulsam_deploy.cli.reading.Parser` finds its error again."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error.found}; expected {error.expected}") from error

    return convert


def add_target(parser: argparse.ArgumentParser, help_: str) -> None:
    """The one way to name targets; read by :func:`targets_of`."""
    parser.add_argument("--target", action="append", metavar="NAME,...", help=help_)


def targets_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The targets that ``--target`` names, by their own names; empty where it wasn't given."""
    return parse_targets(arguments.target or ())


def add_preprocessing(parser: argparse.ArgumentParser) -> None:
    """How pictures become what the network is fed: shared by every command that reads inputs."""
    parser.add_argument(
        "--preprocessing",
        type=value(_preprocessing),
        metavar="NAME|FILE.toml",
        help="how pictures become inputs: imagenet, unit, unit-grey, or a file (channels, range, mean, std, ...)",
    )


def _preprocessing(text: str) -> Preprocessing:
    from ulsam_deploy.device.images import read_preprocessing

    return read_preprocessing(text)


def add_ci_options(parser: argparse.ArgumentParser) -> None:
    """What CI is handed besides the exit code; written by :func:`ulsam_deploy.cli.ci.handover`."""
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML: one test case for each check")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a job summary in Markdown, below 1 MiB")
    add_force(parser)


def add_force(parser: argparse.ArgumentParser) -> None:
    """For every command that writes files where a user says."""
    parser.add_argument(
        "--force", action="store_true", help="replace a file that ulsam-deploy did not write (a folder never is)"
    )


def positive(text: str) -> float:
    """A number above nothing and below everything; raises :class:`UsageError`."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UsageError(f"'{text}' is no limit", expected="a positive number")
    return number


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What a process may take that opens an artifact; read by :func:`limits`."""
    bounds = parser.add_argument_group("what an artifact may take in the process of its own that it is opened in")
    bounds.add_argument(
        "--time-limit", type=value(positive), default=300.0, metavar="SECONDS", help="for each run (default 300)"
    )
    bounds.add_argument(
        "--memory-limit", type=value(positive), default=8.0, metavar="GIB", help="of address space (default 8)"
    )


def limits(arguments: argparse.Namespace) -> Limits:
    """What ``--time-limit`` and ``--memory-limit`` say."""
    return Limits(arguments.time_limit, int(arguments.memory_limit * 2**30))
