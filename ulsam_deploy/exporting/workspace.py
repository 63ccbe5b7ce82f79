"""Where one export works: finished results by key, from the cache where one is allowed, and for this run in any case.

The one place that caches. A result is a folder of files or a small value; whoever needs one says how it is made.
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
    """Results of one run; a context manager, which removes what is not cached.

    Args:
        cache: What keeps results from one run to the next; ``None`` where nothing may be kept.
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
        """A new empty folder called ``name`` that goes with this run."""
        folder = self._scratch / name
        folder.mkdir()
        return folder

    def holds(self, entry: str) -> bool:
        """Whether the cache holds the result of key ``entry``, whole."""
        return self._cache is not None and self._cache.get(entry) is not None

    def folder(self, entry: str, write: Callable[[Path], None]) -> Path:
        """The folder that is known by the key ``entry``; only ever copy from it.

        Args:
            entry: What the result depends on, as :func:`ulsam_deploy.device.cache.key` gives it.
            write: Fills the new empty folder that it is given; called where the result is not known yet. What it
                raises passes through, and nothing is kept then.
        """
        cached = self._cache.get(entry) if self._cache else None
        if cached:
            return cached
        made = self._scratch / entry
        if not made.exists():  # a cache may refuse, and a search comes back to the same result
            with contextlib.ExitStack() as undo:
                made.mkdir()
                undo.callback(_remove, made)
                write(made)
                undo.pop_all()
            if self._cache:
                self._cache.put(entry, made)
        return made

    def value(self, kind: type[T], about: Sequence[object], compute: Callable[[], T]) -> T:
        """The dataclass of type ``kind`` that ``compute`` gives, or gave before for the same ``about``."""

        def write(into: Path) -> None:
            (into / _VALUE).write_text(codec.dumps(codec.encode(compute(), _VALUE)))

        folder = self.folder(key(kind.__name__, list(about)), write)
        return codec.decode(kind, codec.loads((folder / _VALUE).read_bytes(), _VALUE), _VALUE)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
