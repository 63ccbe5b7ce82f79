"""The host's command line: every word that a user can type. Importing this imports no engine and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ulsam_deploy.device.commands.parser import DEVICE, NAMES, parser_of
from ulsam_deploy.device.commands.reading import Parser

__all__ = ["COMMANDS", "build_parser"]

#: Each command and the package that it is a module of.
COMMANDS: Mapping[str, str] = {name: DEVICE if name == "build" else "ulsam_deploy.cli" for name in NAMES}


def build_parser(only: Sequence[str] = tuple(COMMANDS)) -> Parser:
    """The parser of ``ulsam-deploy`` with the commands ``only``; the chosen one's name is in ``command``."""
    return parser_of(COMMANDS, only)
