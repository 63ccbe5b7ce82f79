"""The words of ``ulsam-deploy doctor``."""

from __future__ import annotations

import argparse
from typing import Any

from ulsam_deploy.device.commands.arguments import command


def add(commands: Any) -> None:
    """Add the command and its words."""
    add_words(commands)


def add_words(commands: Any) -> argparse.ArgumentParser:
    """The command with the words that a board and the host have in common."""
    return command(commands, "doctor", "say what is installed, what is possible here, and what to install for the rest")
