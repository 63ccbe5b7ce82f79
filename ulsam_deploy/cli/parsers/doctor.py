"""The words of ``ulsam-deploy doctor``."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.cli.arguments import add_host_options, command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(
        commands, "doctor", "say what is installed, what is possible here, and what to install for the rest"
    )
    add_host_options(parser)
