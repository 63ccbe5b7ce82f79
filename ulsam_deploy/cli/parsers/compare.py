"""The words of ``ulsam-deploy compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.commands.arguments import add_ci_options, command


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "compare", "hold a result of bench against an earlier one and against budgets")
    parser.add_argument("baseline", type=Path, metavar="BASELINE", help="the earlier result file")
    parser.add_argument("current", type=Path, metavar="CURRENT", help="the result file to judge")
    parser.add_argument(
        "--budget",
        type=Path,
        metavar="FILE.toml",
        help="what is allowed (default: at most 5 %% longer than the baseline)",
    )
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="compare although the machine doesn't tell its clocks or throttling, as virtual machines don't",
    )
    add_ci_options(parser)
