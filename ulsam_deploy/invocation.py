"""How this program is called where it runs: advice that names a command of ours must work when it is pasted.

Standard library only; device-safe.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["command", "in_runner"]


def in_runner() -> bool:
    """Whether this is ``runner.pyz`` on a board: there are no extras, no exporters and no ``ulsam-deploy`` there."""
    return _archive() is not None


def command(*words: str) -> str:
    """A command of ours as it is typed here.

    Args:
        words: The command and its words, such as ``"doctor"``.

    Returns:
        ``ulsam-deploy doctor``; in the runner ``python3 runner.pyz doctor``.
    """
    archive = _archive()
    if archive is None:
        return shlex.join(("ulsam-deploy", *words))
    near = archive.name if archive.parent == Path.cwd() else str(archive)
    return shlex.join((_python(), near, *words))


def _archive() -> Path | None:
    """The zip that this module lies in, where it lies in one."""
    place = Path(__file__).parents[1]
    return place.absolute() if place.is_file() else None


def _python() -> str:
    """A word for this very interpreter: another one may have no numpy."""
    usual = shutil.which("python3")
    own = sys.executable
    return "python3" if not own or (usual and os.path.normpath(usual) == os.path.normpath(own)) else own
