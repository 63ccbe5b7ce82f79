"""The parser of the host's command line. Importing this imports no engine and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ulsam_deploy.device.commands.parser import DEVICE, NAMES, parser_of
from ulsam_deploy.device.commands.reading import Parser

__all__ = ["COMMANDS", "build_parser"]

#: Each command and the package that contains its module.
COMMANDS: Mapping[str, str] = {name: DEVICE if name == "build" else "ulsam_deploy.cli" for name in NAMES}


def build_parser(only: Sequence[str] = tuple(COMMANDS)) -> Parser:
    """The parser of ``ulsam-deploy`` with the commands ``only``; the chosen one's name is in ``command``."""
    return parser_of(COMMANDS, only)
