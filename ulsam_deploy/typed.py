"""Commands that a user is told to type: they work when they are pasted, whatever a file is called.

Standard library only; device-safe.
"""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["typed"]


def typed(*words: object) -> str:
    """``words`` as a shell takes them.

    Args:
        words: A command, its options and paths. A placeholder such as ``MODEL`` stays as it is.

    Returns:
        One line, every word quoted that needs it; a path is never taken for an option.
    """
    return shlex.join(f"./{word}" if isinstance(word, Path) and str(word)[0] == "-" else str(word) for word in words)
