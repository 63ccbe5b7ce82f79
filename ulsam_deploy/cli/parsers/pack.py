"""The words of ``ulsam-deploy pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_force, command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "pack", "pack a bundle folder into one .zip, or make the device runner")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE", help="a bundle folder")
    what.add_argument("--runner", action="store_true", help="one Python file to check and time bundles on a device")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: the bundle's name + .zip; runner.pyz"
    )
    add_force(parser)
