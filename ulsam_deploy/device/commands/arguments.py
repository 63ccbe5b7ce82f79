"""Options that several commands share: their declarations, and how their values are parsed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ulsam_deploy.device.commands.reading import Group, Parser
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.targets import parse_targets

if TYPE_CHECKING:
    from ulsam_deploy.device.elsewhere.limits import Limits

T = TypeVar("T")


def add_common(words: Group, name: str) -> None:
    """Declare the options of every command; ``name`` is that of the command."""
    words.add("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    words.add("--config", type=Path, metavar="FILE.toml", help=f"read options from its table [{name}] as well")
    words.add(
        "--trust-config", action="store_true", help="its options may give trust, name code and machines, replace files"
    )


def value(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap ``parse`` for argparse, which reports errors in its own way; the parser recovers the original error."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error.found}; expected {error.expected}") from error

    return convert


def add_target(words: Group, help_: str) -> None:
    """Declare ``--target``; read by :func:`targets_of`."""
    words.add("--target", action="append", metavar="NAME,...", help=help_)


def targets_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The targets that ``--target`` names, by their own names; empty if it wasn't given."""
    return parse_targets(arguments.target or ())


def add_provider(words: Group) -> None:
    """Declare ``--provider``."""
    words.add(
        "--provider",
        default="",
        metavar="NAME",
        help="what ONNX Runtime runs on: cpu, cuda or tensorrt, with the package onnxruntime-gpu (default: cpu)",
    )


def add_preprocessing(words: Group) -> None:
    """Declare ``--preprocessing``: shared by every command that reads inputs."""
    words.add(
        "--preprocessing",
        type=value(_preprocessing),
        metavar="NAME|FILE.toml",
        help="how pictures become inputs: imagenet, unit, unit-grey, or a file (channels, range, mean, std, ...)",
    )


def _preprocessing(text: str) -> Preprocessing:
    from ulsam_deploy.device.images import read_preprocessing

    return read_preprocessing(text)


def add_ci_options(words: Group) -> None:
    """Declare the output files for CI, which :func:`ulsam_deploy.device.commands.ci.handover` writes."""
    words.add("--junit", type=Path, metavar="FILE", help="write JUnit XML: one test case for each check")
    words.add("--sarif", type=Path, metavar="FILE", help="write SARIF, for code scanning: what did not pass")
    words.add("--markdown", type=Path, metavar="FILE", help="write a job summary in Markdown, below 1 MiB")
    add_force(words)


def add_force(words: Group) -> None:
    """Declare ``--force``, for every command that writes to a path given by the user."""
    words.add("--force", action="store_true", help="replace a file that ulsam-deploy did not write (a folder never is)")


def positive(text: str) -> float:
    """A positive, finite number; raises :class:`UsageError`."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UsageError(f"'{text}' is not a limit", expected="a positive number")
    return number


def add_limits(parser: Parser) -> None:
    """Declare the limits of a process that opens an artifact; read by :func:`limits`."""
    bounds = parser.group("limits of the separate process in which an artifact is opened")
    bounds.add(
        "--time-limit", type=value(positive), default=300.0, metavar="SECONDS", help="for each run (default 300)"
    )
    bounds.add(
        "--jail",
        choices=("auto", "require", "off"),
        default="auto",
        metavar="MODE",
        help="whether it may only read: auto (default) where Linux can, require: or nothing is opened, off",
    )
    bounds.add("--memory-limit", type=value(positive), default=8.0, metavar="GIB", help="of address space (default 8)")


def limits(arguments: argparse.Namespace) -> Limits:
    """The limits from ``--time-limit``, ``--memory-limit`` and ``--jail``."""
    from ulsam_deploy.device.elsewhere.limits import Limits

    return Limits(arguments.time_limit, int(arguments.memory_limit * 2**30), arguments.jail)
