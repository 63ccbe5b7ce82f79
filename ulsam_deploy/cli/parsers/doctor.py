"""The words of ``ulsam-deploy doctor`` on the host."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.cli.arguments import add_host_options
from ulsam_deploy.device.commands.parsers.doctor import add_words


def add(commands: Any) -> None:
    """Add the command and its words."""
    add_host_options(add_words(commands))
