"""The words of ``ulsam-deploy bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.cli.arguments import add_ci_options, command
from ulsam_deploy.cli.counting import add_count_words


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "bench", "say what the artifacts of a bundle cost")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle folder or a .zip")
    parser.add_argument("--target", action="append", metavar="NAME", help="this target only; may be repeated")
    add_count_words(parser)
    add_ci_options(parser)
