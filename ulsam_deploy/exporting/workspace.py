"""The workspace of one export: results by key, kept for this run, and in the cache if one is allowed.

This is the only place that caches. A result is a folder of files or a small value; the caller provides the function
that makes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.device import codec
from ulsam_deploy.device.cache import Cache, key
from ulsam_deploy.device.files import scratch

__all__ = ["Workspace"]

T = TypeVar("T")

_VALUE = "value.json"


class Workspace:
    """Results of one run; a context manager, which at its end removes what is not cached.

    Args:
        cache: Keeps results for later runs; ``None`` if nothing may be kept.
    """

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Workspace:
        self._scratch = self._stack.enter_context(scratch())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def private(self, name: str) -> Path:
        """A new empty folder called ``name``, which is removed at the end of this run."""
        folder = self._scratch / name
        folder.mkdir()
        return folder

    def holds(self, entry: str) -> bool:
        """Whether the cache holds the complete result with the key ``entry``."""
        return self._cache is not None and self._cache.get(entry) is not None

    def folder(self, entry: str, write: Callable[[Path], None]) -> Path:
        """The folder with the key ``entry``, made if it is not known yet. Treat it as read-only.

        Args:
            entry: The key, made by :func:`ulsam_deploy.device.cache.key` from everything the result depends on.
            write: Fills the new empty folder that it is given. If it raises an error, nothing is kept.
        """
        cached = self._cache.get(entry) if self._cache else None
        if cached:
            return cached
        made = self._scratch / entry
        if not made.exists():  # the cache may refuse it, and a search may request the same result again
            with contextlib.ExitStack() as undo:
                made.mkdir()
                undo.callback(_remove, made)
                write(made)
                undo.pop_all()
            if self._cache:
                self._cache.put(entry, made)
        return made

    def value(self, kind: type[T], about: Sequence[object], compute: Callable[[], T]) -> T:
        """The dataclass of type ``kind`` that ``compute`` returns, or returned before for the same ``about``."""

        def write(into: Path) -> None:
            (into / _VALUE).write_text(codec.dumps(codec.encode(compute(), _VALUE)))

        folder = self.folder(key(kind.__name__, list(about)), write)
        return codec.decode(kind, codec.loads((folder / _VALUE).read_bytes(), _VALUE), _VALUE)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
