"""The words of ``ulsam-deploy completion``."""

from __future__ import annotations

from typing import Any

from ulsam_deploy.device.commands.arguments import command

SHELLS = ("bash", "zsh", "fish")


def add(commands: Any) -> None:
    """Add the command and its words."""
    parser = command(commands, "completion", "print what lets your shell complete the words of ulsam-deploy")
    parser.add_argument("shell", choices=SHELLS, help='bash: put eval "$(ulsam-deploy completion bash)" into ~/.bashrc')
