"""How this program is invoked where it runs: a command in an error message must work when it is pasted.

Standard library only; device-safe.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from ulsam_deploy._version import REF

__all__ = ["OURS", "command", "extra", "in_runner", "typed"]

#: The package is not published: it is installed from its repository.
ADDRESS = "git+https://github.com/ulsam-deploy/ulsam-deploy.git"

#: The command of an installed package; :func:`typed` replaces it as the first word by the command that works here.
OURS = "ulsam-deploy"


def in_runner() -> bool:
    """Whether this is ``runner.pyz`` on a board: there are no extras, no exporters and no ``ulsam-deploy`` there."""
    return _archive() is not None


def typed(*words: object, on_host: bool = False) -> str:
    """Format a command line for a shell, with safe quoting of any file name.

    Args:
        words: A command, its options and paths. A placeholder such as ``MODEL`` stays as it is.
        on_host: The command is for the host, even if this is a board.

    Returns:
        One line, quoted where necessary; a path is never mistaken for an option. ``ulsam-deploy`` as the first word is
        replaced by the command that works here: in the runner ``python3 runner.pyz``.
    """
    own = _program() if words[:1] == (OURS,) and not on_host else words[:1]
    return shlex.join(_word(word) for word in (*own, *words[1:]))


def extra(name: str) -> str:
    """The command line that installs this project with the optional packages ``name``."""
    return f"pip install 'ulsam-deploy[{name}] @ {ADDRESS}@{REF}'"


def command(*words: object) -> str:
    """A subcommand of this program, such as ``"doctor"``, with its arguments, formatted by :func:`typed`."""
    return typed(OURS, *words)


def _word(word: object) -> str:
    return f"./{word}" if isinstance(word, Path) and str(word)[0] == "-" else str(word)


def _program() -> tuple[str, ...]:
    archive = _archive()
    if archive is None:
        return (OURS,)
    return (_python(), archive.name if archive.parent == Path.cwd() else str(archive))


def _archive() -> Path | None:
    """The zip that contains this module, if any."""
    place = Path(__file__).parents[2]
    return place.absolute() if place.is_file() else None


def _python() -> str:
    """The command of this very interpreter: another one may have no numpy."""
    usual = shutil.which("python3")
    own = sys.executable
    return "python3" if not own or (usual and os.path.normpath(usual) == os.path.normpath(own)) else own
