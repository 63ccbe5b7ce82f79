"""How this program is called where it runs: advice that names a command of ours must work when it is pasted.

Standard library only; device-safe.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["OURS", "command", "in_runner", "typed"]

#: What this program is called where pip installed it; as the first word of :func:`typed`, what it is called here.
OURS = "ulsam-deploy"


def in_runner() -> bool:
    """Whether this is ``runner.pyz`` on a board: there are no extras, no exporters and no ``ulsam-deploy`` there."""
    return _archive() is not None


def typed(*words: object, on_host: bool = False) -> str:
    """``words`` as a shell takes them, whatever a file is called.

    Args:
        words: A command, its options and paths. A placeholder such as ``MODEL`` stays as it is.
        on_host: It is typed on the host, even where this is a board.

    Returns:
        One line, every word quoted that needs it; a path is never taken for an option. ``ulsam-deploy`` as the first
        word is what this program is called here: in the runner ``python3 runner.pyz``.
    """
    own = _program() if words[:1] == (OURS,) and not on_host else words[:1]
    return shlex.join(_word(word) for word in (*own, *words[1:]))


def command(*words: object) -> str:
    """A command of ours, such as ``"doctor"``, and its words, as :func:`typed` has it."""
    return typed(OURS, *words)


def _word(word: object) -> str:
    return f"./{word}" if isinstance(word, Path) and str(word)[0] == "-" else str(word)


def _program() -> tuple[str, ...]:
    archive = _archive()
    if archive is None:
        return (OURS,)
    return (_python(), archive.name if archive.parent == Path.cwd() else str(archive))


def _archive() -> Path | None:
    """The zip that this module lies in, where it lies in one."""
    place = Path(__file__).parents[2]
    return place.absolute() if place.is_file() else None


def _python() -> str:
    """A word for this very interpreter: another one may have no numpy."""
    usual = shutil.which("python3")
    own = sys.executable
    return "python3" if not own or (usual and os.path.normpath(usual) == os.path.normpath(own)) else own
