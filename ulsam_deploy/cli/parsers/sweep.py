"""The words of ``ulsam-deploy sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_ci_options, command, value
from ulsam_deploy.device.commands.parsers.bench import count


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "sweep", "do many exports as one table, on this machine or on a Dask cluster")
    parser.add_argument("sweep", type=Path, metavar="SWEEP.toml", help="what to do; see docs/sweep.md")
    parser.add_argument(
        "-o",
        "--output",
        default="",
        metavar="DIR|URL",
        help="where results go (default: what the file says, or beside it)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=value(count), metavar="N", help="local processes (default: cores and memory)")
    where.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask cluster's, such as tcp://host:8786")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add_ci_options(parser)
