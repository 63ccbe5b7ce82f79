"""A program in a process group of its own that ends, with all that it started, when this process does.

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

#: The child gets the import path of this process, also where this one runs from a zip.
_START = """
import importlib, json, sys
module, sys.path[:] = sys.argv[1], json.loads(sys.argv[2])
importlib.import_module(module).main(*sys.argv[3:])
"""
#: Another Python has packages of its own, and gets the folder of this one behind them.
_ABROAD = _START.replace("module, sys.path[:] = sys.argv[1], ", "module = sys.argv[1]; sys.path += ")


def python(module: str, *words: str, executable: str = "") -> list[str]:
    """The command that calls the function ``main`` of ``module`` with the arguments ``words`` in a new interpreter.

    :mod:`multiprocessing` is not used, because it would run the caller's script again: a script that calls this
    library must not need an ``if __name__ == "__main__"``. ``executable``: the Python of another environment, whose
    packages then count.
    """
    if executable:
        return [executable, "-c", _ABROAD, module, json.dumps([str(Path(__file__).parents[3])]), *words]
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - '' is the working directory
    return [sys.executable, "-c", _START, module, json.dumps(paths), *words]


class ChildProcess:
    """A running program; :meth:`end` may be called from any thread and more than once."""

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
            command: The program and its arguments.
            said: Where its stdout and stderr go.
            folder: Its working directory; by default that of this process.
            environment: All of its variables; by default those of this process.
            lines: Further file descriptors that it inherits.
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
        """The id of the process, which is also the id of its process group."""
        return self._program.pid

    def wait(self, seconds: float) -> int | None:
        """Its exit status, negative for a signal; ``None`` if it still runs after ``seconds``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._program.wait(seconds)
        return None

    def end(self) -> int:
        """Kill it and all that it started, which may outlive it; returns its exit status."""
        with self._ending:
            if self._lifeline >= 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                os.close(self._lifeline)
                self._lifeline = -1
            return self._program.wait()


def _tie(held: int, group: int) -> None:
    """Let the kernel kill ``group`` when the other end of the pipe ``held`` closes, which is when this process ends.

    No code has to run in ``group`` for this, so a process that hangs in native code is killed as well. Linux only.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(held, fcntl.F_SETOWN, -group)
    fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(held, fcntl.F_SETFL, fcntl.fcntl(held, fcntl.F_GETFL) | os.O_ASYNC)
