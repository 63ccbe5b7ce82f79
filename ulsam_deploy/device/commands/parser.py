"""Builds the parser from the options of some commands. Importing this imports no engine, no numpy and no torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast

from ulsam_deploy._version import __version__
from ulsam_deploy.device.commands.answer import Answer
from ulsam_deploy.device.commands.arguments import add_common
from ulsam_deploy.device.commands.reading import Parser

__all__ = ["COMMANDS", "DEVICE", "NAMES", "Command", "command_of", "overview", "parser_of"]

#: Every command, here and on the host, in the order of ``--help``.
NAMES = (
    *("export", "sweep", "verify", "bench", "compare", "lint", "inspect", "doctor", "report", "new", "pack", "sign"),
    *("build", "cache"),
)
#: The package of the commands of a board.
DEVICE = "ulsam_deploy.device.commands"
#: What can be done without PyTorch: each command and its package, in the order of ``--help``.
COMMANDS: Mapping[str, str] = dict.fromkeys(("doctor", "build", "verify", "bench"), DEVICE)


class Command(Protocol):
    """A module that is one command. It imports what its work needs in ``run``, so that ``--help`` is fast."""

    HELP: str

    @staticmethod
    def add_words(parser: Parser) -> None:
        """Declare the options of this command alone."""

    @staticmethod
    def run(arguments: argparse.Namespace) -> Answer:
        """Execute the command."""


def command_of(packages: Mapping[str, str], name: str) -> Command:
    """The module of the command ``name``, from its package."""
    return cast("Command", import_module(f"{packages[name]}.{name}"))


def parser_of(packages: Mapping[str, str], only: Sequence[str]) -> Parser:
    """The parser of ``ulsam-deploy`` with the commands ``only``; the chosen one's name is in ``command``.

    Args:
        packages: By command, the package that it is a module of.
        only: The commands to include.
    """
    parser = overview(packages, only)
    for name, one in parser.commands.items():
        add_common(one.words, name)
        command_of(packages, name).add_words(one)
    return parser


def overview(packages: Mapping[str, str], names: Sequence[str]) -> Parser:
    """The parser of ``ulsam-deploy`` that knows each command's name and description, but not its options."""
    parser = Parser("ulsam-deploy", "Train in PyTorch, ship to the edge, with proof.")
    parser.words.add("--version", action="version", version=f"ulsam-deploy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        what = command_of(packages, name).HELP
        parser.commands[name] = commands.add_parser(name, help=what, description=f"{what[:1].upper()}{what[1:]}.")
    return parser
