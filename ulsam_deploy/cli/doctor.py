"""``ulsam-deploy doctor`` on the host: engines as on a board, plus exporters, emulation, reports and signing."""

from __future__ import annotations

import argparse

from ulsam_deploy.cli.arguments import add_host_options
from ulsam_deploy.device.commands import doctor
from ulsam_deploy.device.commands.answer import Answer
from ulsam_deploy.device.commands.reading import Parser

HELP = doctor.HELP


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    add_host_options(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Check everything that can be missing; always exit 0, because a missing package is an answer, not a failure."""
    if arguments.host:
        from ulsam_deploy.cli import doctor_hosts

        return doctor_hosts.run(arguments)
    from ulsam_deploy.cli.diagnosis import diagnosis
    from ulsam_deploy.device import plugins
    from ulsam_deploy.device.cache import cache_root
    from ulsam_deploy.device.commands.backends import text

    found = diagnosis()
    networks = ", ".join(plugins.registered(plugins.MODELS))
    return Answer(found, text(found, f"networks: {networks}", f"cache: {cache_root()}"))
