"""The entry point of ``runner.pyz``: the commands that a board needs, and an error for what it doesn't contain."""

from __future__ import annotations

from collections.abc import Sequence

from ulsam_deploy.device.commands.main import run_command
from ulsam_deploy.device.commands.parser import COMMANDS
from ulsam_deploy.device.errors import UlsamError, UnavailableError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of :data:`COMMANDS`; returns its exit code."""
    return run_command(argv, COMMANDS, _left_out)


def _left_out(error: Exception) -> UlsamError | None:
    """The error for a module that is missing on a board."""
    if not isinstance(error, ImportError):
        return None
    if error.name == "numpy":
        return UnavailableError(
            "this Python has no numpy",
            expected="numpy and the board's own engine",
            todo="pip install numpy     (for Debian's own Python: sudo apt-get install python3-numpy)",
        )
    if (error.name or "").startswith("ulsam_deploy"):
        return UnavailableError(
            f"runner.pyz does not contain a part that this needs: {str(error).partition(' (')[0]}",
            expected=", ".join(COMMANDS) + " of a bundle",
            todo="do this on the host, where ulsam-deploy is installed",
        )
    return None
