"""A worker: a process that answers many requests, one at a time, and keeps what it opened for the next one.

Standard library and numpy; device-safe. Requests and answers are those of a :mod:`.job`, sent over a connection and not
in files.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import select
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import TypeVar

from ulsam_deploy.device.elsewhere.limits import Limits, crash, limit, too_long
from ulsam_deploy.device.elsewhere.message import MOST, Reply, packed, performed, replied
from ulsam_deploy.device.elsewhere.process import ChildProcess, python
from ulsam_deploy.device.ending import DEFECTS
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.files import scratch

__all__ = ["DiedError", "Worker", "main", "meanwhile"]

Q = TypeVar("Q")
A = TypeVar("A")

#: Seconds that idle workers may take to exit by themselves.
PATIENCE = 10

_meanwhile: list[Callable[[Callable[[], bool]], None]] = []


class DiedError(ExportError):
    """A worker died while it handled a request."""


class Worker:
    """The caller's side of a worker. ``limits`` hold for the process; their seconds are the timeout of each request."""

    def __init__(self, limits: Limits, *, quiet: bool = False, environment: Mapping[str, str] | None = None) -> None:
        """Start the process.

        Args:
            limits: The limits of the process.
            quiet: Keep its output for the error that reports its death; otherwise the output goes to stderr, because
                stdout is reserved for the result of the command.
            environment: All of its variables; by default those of this process.
        """
        self._limits = limits
        self._said = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - closed in __exit__
        self._held = contextlib.ExitStack()
        # In the jail the one place where it may write; without it, what it leaves when it is killed is removed here.
        place = self._held.enter_context(scratch())
        inherited = os.environ if environment is None else environment
        defects = inherited.get(DEFECTS, tempfile.gettempdir())  # what it keeps of a defect stays
        environment = {**inherited, "TMPDIR": str(place), DEFECTS: defects}
        self._line, there = Pipe()
        words = str(there.fileno()), *limits.words
        with there:
            self._process = ChildProcess(
                python(__name__, *words),
                said=self._said or 2,
                environment=environment,
                lines=[there.fileno()],
            )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, function: Callable[[Q], A], request: Q, doing: str, seconds: float | None = None) -> Reply[A]:
        """Call ``function`` with ``request`` in the worker.

        Args:
            function: A module-level function, with annotated argument and return types.
            request: Its argument, a frozen dataclass; so is its result.
            doing: What the work is called in error messages.
            seconds: The timeout; by default that of the limits.

        Raises:
            DiedError: The process died during the call.
            ExportError: The call took too long, or its answer is not valid; the process is killed then.
        """
        patience = self._limits.seconds if seconds is None else seconds
        question = packed(function, request)
        try:
            self._line.send_bytes(question)
            if not self._line.poll(None if math.isinf(patience) else patience):
                raise too_long(patience, doing, self._limits.todo)
            return replied(function, io.BytesIO(self._line.recv_bytes(MOST)))
        except (EOFError, OSError) as error:
            code = self.end()
            if isinstance(error, OSError) and error.errno is None:  # so a line says that a message is too long
                raise ExportError(f"the answer of {doing} is larger than {MOST} bytes") from error
            told = crash(code, self._last_words(), self._limits, doing)
            raise DiedError(told.found, expected=told.expected, todo=told.todo) from error
        except BaseException:
            self.end()
            raise

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip()

    @staticmethod
    def leave(idle: Sequence[Worker]) -> None:
        """Let workers exit by themselves, so that they can clean up; kill those that need too long."""
        for one in idle:
            one._line.close()
        for one in idle:
            one._process.wait(PATIENCE)

    def end(self) -> int:
        """Kill the process and what it started, and remove its temporary files; returns its exit status.

        May be called from any thread. The connection is closed by the thread that reads it, when it finds its end.
        """
        code = self._process.end()
        self._held.close()
        return code

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._line.close()
        if self._said:
            self._said.close()


def meanwhile(work: Callable[[Callable[[], bool]], None]) -> None:
    """In a worker: do ``work`` once between this answer and the next request; it can ask whether to go on."""
    _meanwhile.append(work)


def main(descriptor: str, memory: str, jail: str) -> None:
    """Entry point of a worker: answer requests until the connection is closed."""
    left = [partial(limit, memory, jail)]

    def prepare() -> None:
        while left:
            left[0]()
            left.pop()  # not if it failed: then each request is answered with that error

    with Connection(int(descriptor)) as line:
        while question := _next(line):
            try:
                line.send_bytes(performed(question, prepare))
            except OSError:
                return
            while _meanwhile:
                _meanwhile.pop()(lambda: not select.select([line], [], [], 0)[0])


def _next(line: Connection) -> bytes:
    """The next request; empty when the connection is closed."""
    try:
        return line.recv_bytes()
    except (EOFError, OSError):
        return b""
