"""The words of ``ulsam-deploy cache``."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.device.commands.arguments import command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "cache", "say where finished artifacts are kept and how much there is, or clear it")
    parser.add_argument("--clear", action="store_true", help="remove everything that no run is using")
