"""Tells on stderr how far a run is: one line a stage, with its seconds; rewritten in place on a terminal only.

Standard library only.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from ulsam_deploy.bench import peak_rss


@dataclass(frozen=True)
class Stage:
    """A finished stage; ``peak`` is the process's peak resident memory in bytes when it ended, where known."""

    name: str
    seconds: float
    peak: int | None


class Progress:
    """Prints stages to ``stream`` (nothing when ``quiet``) and remembers them."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self.stages: list[Stage] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; what is appended to the yielded list is printed behind its name."""
        notes: list[str] = []
        if self._stream.isatty():
            self._write(f"  {name} ...\r")
        started = time.perf_counter()
        yield notes
        seconds = time.perf_counter() - started
        self.stages.append(Stage(name, seconds, peak_rss()))
        self._write(f"  {name:<22}{seconds:6.1f} s   {', '.join(notes)}".rstrip() + "\n")

    def say(self, text: str) -> None:
        """One line that belongs to no stage."""
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(text)
            self._stream.flush()
