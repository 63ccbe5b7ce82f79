"""A parser out of the words of some commands. Importing this imports no engine, no numpy and no torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module

from ulsam_deploy._version import __version__
from ulsam_deploy.device.commands.arguments import EXIT_CODES
from ulsam_deploy.device.commands.reading import Parser

__all__ = ["COMMANDS", "DEVICE", "NAMES", "parser_of", "work_of"]

#: Every command, here and on the host, in the order of ``--help``.
NAMES = (
    *("export", "sweep", "verify", "bench", "compare", "lint", "inspect", "doctor", "report", "new", "pack", "sign"),
    *("build", "cache"),
)
#: The package of the commands that a board has.
DEVICE = "ulsam_deploy.device.commands"
#: What can be done without PyTorch: each command and its package, in the order of ``--help``.
COMMANDS: Mapping[str, str] = dict.fromkeys(("doctor", "build", "verify", "bench"), DEVICE)


def parser_of(packages: Mapping[str, str], only: Sequence[str]) -> Parser:
    """The parser of ``ulsam-deploy`` with the commands ``only``; the chosen one's name is in ``command``.

    Args:
        packages: By command, the package that has its words in ``parsers.NAME`` and its work in ``NAME``.
        only: The commands to read.
    """
    parser = Parser(
        prog="ulsam-deploy",
        description="Train in PyTorch, ship to the edge, with proof.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ulsam-deploy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in only:
        import_module(f"{packages[name]}.parsers.{name}").add(commands)
    return parser


def work_of(packages: Mapping[str, str], name: str) -> str:
    """The module whose ``run`` does the command ``name``."""
    return f"{packages[name]}.{name}"
