"""Tells on stderr how far a run is: one line a stage, with its seconds; rewritten in place on a terminal only.

Standard library only, and rich where it is installed and the stream is a terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

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
        self._console: Any | None = None  # while it draws a spinner, lines must go through it

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; what is appended to the yielded list is printed behind its name."""
        notes: list[str] = []
        started = time.perf_counter()
        with self._spinner(name):
            yield notes
        seconds = time.perf_counter() - started
        self.stages.append(Stage(name, seconds, peak_rss()))
        self._write(f"  {name:<22}{seconds:6.1f} s   {', '.join(notes)}".rstrip() + "\n")

    @contextlib.contextmanager
    def _spinner(self, name: str) -> Iterator[None]:
        """Something that moves while a stage runs, on a terminal only; a stage inside another one has none."""
        console = None if self._quiet or self._console else terminal(self._stream)
        if console is None:
            if self._stream.isatty() and not self._console:
                self._write(f"  {name} ...\r")
            yield
            return
        with console.status(f"{name} ..."):
            self._console = console
            try:
                yield
            finally:
                self._console = None

    def say(self, text: str) -> None:
        """One line that belongs to no stage."""
        self._write(text + "\n")

    def tell(self, words: str, stages: Sequence[Stage]) -> None:
        """What another process has said, in lines, and its stages."""
        self.stages += stages
        self._write(words)

    def _write(self, text: str) -> None:
        if self._console:
            self._console.print(text, end="", markup=False, soft_wrap=True)
        elif not self._quiet:
            self._stream.write(text)
            self._stream.flush()


def terminal(stream: TextIO) -> Any | None:
    """A rich console on ``stream``, or ``None`` where plain text belongs: no terminal, a dumb one, or no rich.

    rich itself leaves colours out where ``NO_COLOR`` is set (no-color.org).
    """
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False)
