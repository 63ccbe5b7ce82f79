"""The words of ``ulsam-deploy report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_force, command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "report", "put bundles and result files side by side on one offline page, with trends")
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="bundles (folders or .zip) and result files of 'ulsam-deploy bench' (.json), oldest first",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html"
    )
    add_force(parser)
