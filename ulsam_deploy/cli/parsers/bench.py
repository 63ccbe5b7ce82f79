"""The words of ``ulsam-deploy bench`` on the host."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.cli.arguments import add_host_options
from ulsam_deploy.cli.counting import add_count_words
from ulsam_deploy.device.commands.parsers.bench import add_words


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = add_words(commands)
    add_count_words(parser.add_argument_group("instructions instead of time"))
    add_host_options(parser)
