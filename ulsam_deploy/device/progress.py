"""Reports progress on stderr: one line for each stage, with its seconds; rewritten in place on a terminal only.

A long stage reports how long it has taken so far: on a terminal in place, elsewhere as a line now and then.

Standard library only, and rich where it is installed and the stream is a terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from ulsam_deploy.device.bench.measure import peak_rss
from ulsam_deploy.device.printing import shown

#: Seconds between reports about a running stage: on a terminal, and where each report is a line of its own.
MOVES, BEATS = 1.0, 10.0


@dataclass(frozen=True)
class Stage:
    """A finished stage; ``peak`` is the process's peak resident memory in bytes when it ended, where known."""

    name: str
    seconds: float
    peak: int | None


class Progress:
    """Prints stages to ``stream`` (nothing when ``quiet``) and remembers them; ``beat``: also while they run."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False, beat: bool = True) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._beat = beat and not quiet
        self.stages: list[Stage] = []
        self._console: Any | None = None  # while it draws a spinner, lines must go through it
        self._lock = threading.Lock()  # a running stage writes from a thread of its own

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; notes appended to the yielded list are printed after its name and time."""
        notes: list[str] = []
        started = time.perf_counter()
        with self.waiting(name):
            yield notes
        seconds = time.perf_counter() - started
        self.stages.append(Stage(name, seconds, peak_rss()))
        self._write(f"  {name:<22}{seconds:6.1f} s   {', '.join(notes)}".rstrip() + "\n")

    @contextlib.contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Report now and then how long the block has taken, but not when it ends.

        Args:
            name: The name of the work. A block inside another one reports nothing.
        """
        if not self._beat:
            yield
            return
        self._beat, name = False, shown(name)
        console = terminal(self._stream)
        try:
            if console is not None:
                with console.status(f"{name} ...") as status:
                    self._console = console
                    with _every(MOVES, lambda seconds: status.update(f"{name} ... {seconds:.0f} s")):
                        yield
            elif self._stream.isatty():
                self._write(f"  {name} ...\r")
                with _every(MOVES, lambda seconds: self._write(f"  {name} ... {seconds:.0f} s\r")):
                    yield
                self._write(f"{'':{len(name) + 20}}\r")
            else:
                with _every(BEATS, lambda seconds: self._write(f"  {name} ... {seconds:.0f} s\n")):
                    yield
        finally:
            self._beat, self._console = True, None

    def say(self, text: str) -> None:
        """Print one line that belongs to no stage."""
        self._write(shown(text) + "\n")

    def tell(self, words: str, stages: Sequence[Stage]) -> None:
        """Print the lines that another process has reported, and add its stages."""
        self.stages += stages
        self._write(words)

    def _write(self, text: str) -> None:
        with self._lock:
            if self._console:
                self._console.print(text, end="", markup=False, soft_wrap=True)
            elif not self._quiet:
                self._stream.write(text)
                self._stream.flush()


@contextlib.contextmanager
def _every(seconds: float, tell: Callable[[float], None]) -> Iterator[None]:
    """While the block runs, call ``tell`` with the time taken so far, in a thread, every ``seconds``."""
    started, over = time.perf_counter(), threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            tell(time.perf_counter() - started)

    teller = threading.Thread(target=run, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def terminal(stream: TextIO) -> Any | None:
    """A rich console on ``stream``, or ``None`` for plain text: no terminal, a dumb one, or rich is not installed.

    rich itself omits colours if ``NO_COLOR`` is set (no-color.org).
    """
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False)
