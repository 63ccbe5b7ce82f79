"""A program that leads a process group of its own and ends, with all that it started, when this process does.

Standard library only; POSIX. Device-safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["ChildProcess", "python"]

#: The process finds what this one finds, also where this one runs out of a zip.
_START = """
import importlib, json, sys
module, sys.path[:] = sys.argv[1], json.loads(sys.argv[2])
importlib.import_module(module).main(*sys.argv[3:])
"""


def python(module: str, *words: str) -> list[str]:
    """The command that calls the function ``main`` of ``module`` with ``words`` in a Python of its own.

    Not :mod:`multiprocessing`'s: that would run the caller's script again, and who calls this library from a script
    owes us no ``if __name__ == "__main__"``.
    """
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - '' is the working directory
    return [sys.executable, "-c", _START, module, json.dumps(paths), *words]


class ChildProcess:
    """A running program; :meth:`end` may be called from any thread, and again."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        said: IO[bytes] | int,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        lines: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            command: the program and its words.
            said: where what it says goes, on stdout and on stderr.
            folder: where it starts; default: here.
            environment: all of its variables; default: those of this process.
            lines: further descriptors that it gets.
        """
        self._ending = threading.Lock()
        held, self._lifeline = os.pipe()
        try:
            self._program = subprocess.Popen(
                command, cwd=folder, env=environment, pass_fds=[*lines, held], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
            _tie(held, self._program.pid)
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(held)

    @property
    def pid(self) -> int:
        """The number by which the system knows it, and its group."""
        return self._program.pid

    def wait(self, seconds: float) -> int | None:
        """What it ended with, minus a signal; ``None`` where it still runs after ``seconds``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._program.wait(seconds)
        return None

    def end(self) -> int:
        """Kill it and whatever it started, which may outlive it; what it ended with."""
        with self._ending:
            if self._lifeline >= 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                os.close(self._lifeline)
                self._lifeline = -1
            return self._program.wait()


def _tie(held: int, group: int) -> None:
    """Let the kernel kill ``group`` when the other end of the pipe ``held`` is closed: when this process ends, however.

    Nothing has to run in that process for it, so one that hangs in native code goes as well. Linux only.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(held, fcntl.F_SETOWN, -group)
    fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(held, fcntl.F_SETFL, fcntl.fcntl(held, fcntl.F_GETFL) | os.O_ASYNC)
