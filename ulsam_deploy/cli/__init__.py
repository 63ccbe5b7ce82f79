"""The command line: ``ulsam-deploy`` and its short form ``ulsam-export``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ulsam_deploy.cli.parser import COMMANDS
from ulsam_deploy.device.commands.main import run_command

__all__ = ["export_main", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one ``ulsam-deploy`` command with arguments ``argv``, by default this process's; returns the exit code."""
    return run_command(argv, COMMANDS)


def export_main(argv: Sequence[str] | None = None) -> int:
    """``ulsam-export MODEL ...`` is ``ulsam-deploy export MODEL ...``."""
    return main(["export", *(sys.argv[1:] if argv is None else argv)])
