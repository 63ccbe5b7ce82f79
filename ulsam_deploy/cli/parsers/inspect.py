"""The words of ``ulsam-deploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.cli.arguments import add_model_options
from ulsam_deploy.device.commands.arguments import command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "inspect", "say what is inside a checkpoint or a bundle")
    parser.add_argument("path", type=Path, metavar="MODEL|BUNDLE", help="a checkpoint, a bundle folder or a .zip")
    add_model_options(parser)
