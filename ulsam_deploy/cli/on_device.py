"""The entry of ``runner.pyz``: the commands that a board needs, and a word for what the one file leaves out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ulsam_deploy.errors import Exit, UnavailableError

#: What can be done without PyTorch. Each is the very module that ``ulsam-deploy`` runs on the host.
COMMANDS = ("doctor", "build", "verify", "bench")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of :data:`COMMANDS`; returns its exit code."""
    try:
        from ulsam_deploy import cli

        return cli.main(argv, commands=COMMANDS)
    except ImportError as error:
        if error.name == "numpy":
            known = UnavailableError(
                "this Python has no numpy",
                expected="numpy and the board's own engine",
                todo="pip install numpy, or apt install python3-numpy",
            )
        elif (error.name or "").startswith("ulsam_deploy"):
            known = UnavailableError(
                f"runner.pyz leaves a part out that this needs: {str(error).partition(' (')[0]}",
                expected=", ".join(COMMANDS) + " of a bundle",
                todo="do this on the host, where ulsam-deploy is installed",
            )
        else:
            raise
        from ulsam_deploy.cli.answer import Answer

        sys.stderr.write(f"error: {known}\n")
        answer = Answer(list(sys.argv if argv is None else argv))
        return answer.failed(Exit.UNAVAILABLE, known.found, known.expected, known.todo)
