"""What the words of several commands share: how a command is added, how values are read, how a MODEL is given."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.subprocesses import Limits
from ulsam_deploy.device.targets import parse_targets
from ulsam_deploy.export import options

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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How to read a checkpoint: shared by every command that takes a MODEL."""
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--arch", metavar="NAME", help="the network (default: recognized from the checkpoint's keys)")
    network.add_argument("--model", dest="factory", metavar="PKG.MODULE:FACTORY", help="your own network's code")
    parser.add_argument("--ulsam-variant", dest="variant", metavar="NAME", help="the form of the module in the wild")
    parser.add_argument(
        "--input",
        action="append",
        type=value(options.parse_shape),
        default=[],
        metavar="CxHxW",
        help="input shape without the batch; once for each input (default: what the checkpoint says)",
    )
    parser.add_argument("--trust-pickle", action="store_true", help="let the checkpoint run code while it is read")
    parser.add_argument(
        "--allow-global", action="append", default=[], metavar="NAME", help="let its pickle use this one name"
    )


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


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the words of :func:`add_model_options` say, as fields of :class:`~ulsam_deploy.load.options.LoadOptions`."""
    return {
        "arch": arguments.arch,
        "factory": arguments.factory,
        "variant": arguments.variant,
        "inputs": tuple(arguments.input),
        "trust_pickle": arguments.trust_pickle,
        "allow_globals": tuple(arguments.allow_global),
    }


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


def limits(arguments: argparse.Namespace) -> Limits:
    """What ``--time-limit`` and ``--memory-limit`` say."""
    return Limits(arguments.time_limit, int(arguments.memory_limit * 2**30))


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Boards to do it on instead of here; read by :mod:`ulsam_deploy.cli.hosts`."""
    group = parser.add_argument_group("on other machines, through your own ssh (nothing is installed or left there)")
    group.add_argument(
        "--host", action="append", default=[], metavar="USER@NAME", help="do it there; repeat it for several at once"
    )
    group.add_argument("--host-python", default="python3", metavar="WORD", help="Python there (default python3)")
    group.add_argument(
        "--host-time-limit",
        type=value(positive),
        default=3600.0,
        metavar="SECONDS",
        help="the longest that it may take there (default 3600)",
    )
    group.add_argument("--ssh-config", type=Path, metavar="FILE", help="in place of your own ~/.ssh/config")
