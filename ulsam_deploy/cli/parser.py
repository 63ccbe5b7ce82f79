"""The command line: every word that a user can type. Importing this imports no engine and no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from ulsam_deploy._version import __version__
from ulsam_deploy.cli.arguments import EXIT_CODES
from ulsam_deploy.cli.reading import Parser

#: In the order of ``--help``. Each has its words in ``cli/parsers/`` and its work in ``cli/``.
COMMANDS = (
    "export",
    "sweep",
    "verify",
    "bench",
    "compare",
    "lint",
    "inspect",
    "doctor",
    "report",
    "new",
    "pack",
    "sign",
    "build",
    "cache",
    "completion",
)


def build_parser(only: Sequence[str] = COMMANDS) -> Parser:
    """The parser of ``ulsam-deploy`` with the commands ``only``; the chosen one's module name is in ``command``."""
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
        import_module(f"ulsam_deploy.cli.parsers.{name}").add(commands)
    return parser
