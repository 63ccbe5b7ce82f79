"""``ulsam-deploy doctor``: what is installed, what is possible here, and what to install for the rest.

On a board: its engines and what they run; the host adds what it can make.
"""

from __future__ import annotations

import argparse
import platform

from ulsam_deploy._version import __version__
from ulsam_deploy.device.commands.answer import Answer
from ulsam_deploy.device.commands.reading import Parser

HELP = "say what is installed, what is possible here, and what to install for the rest"


def add_words(parser: Parser) -> None:
    """Declare nothing: this command has only the options that every command has."""


def run(_: argparse.Namespace) -> Answer:
    """Check everything that can be missing; always exit 0, because a missing package is an answer, not a failure."""
    from ulsam_deploy.device.commands.backends import engines, notes, text
    from ulsam_deploy.device.commands.documents import DoctorDocument

    engines_here = tuple(engines().values())
    found = DoctorDocument(__version__, platform.python_version(), engines_here, (), notes())
    return Answer(found, text(found))
