"""A worker: a process that answers many questions, one at a time, and keeps what it opened for the next one.

Standard library and numpy; device-safe. Questions and answers are those of a :mod:`.job`, over a line and not in files.
"""

from __future__ import annotations

import io
import math
import select
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import TypeVar

from ulsam_deploy.device.elsewhere.limits import Limits, crash, limit, too_long
from ulsam_deploy.device.elsewhere.message import MOST, Reply, packed, performed, replied
from ulsam_deploy.device.elsewhere.process import ChildProcess, python
from ulsam_deploy.device.errors import ExportError

__all__ = ["DiedError", "Worker", "main", "meanwhile"]

Q = TypeVar("Q")
A = TypeVar("A")

#: Seconds that idle workers may take to go by themselves.
PATIENCE = 10

_meanwhile: list[Callable[[Callable[[], bool]], None]] = []


class DiedError(ExportError):
    """A worker died over a question."""


class Worker:
    """The near end. ``limits`` hold for the process, their seconds for each answer."""

    def __init__(self, limits: Limits, *, quiet: bool = False, environment: Mapping[str, str] | None = None) -> None:
        """Start the process.

        Args:
            limits: what it may take.
            quiet: keep what it says, for the error of its death; else that goes to stderr, as what is asked for on
                stdout is answered by one process.
            environment: all of its variables; default: those of this process.
        """
        self._limits = limits
        self._said = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - closed in __exit__
        self._line, there = Pipe()
        words = str(there.fileno()), str(limits.memory or "")
        with there:
            self._process = ChildProcess(
                python(__name__, *words),
                said=self._said or 2,
                environment=environment,
                lines=[there.fileno()],
            )

    @property
    def pid(self) -> int:
        """The number by which the system knows the process."""
        return self._process.pid

    def ask(self, function: Callable[[Q], A], request: Q, doing: str, seconds: float | None = None) -> Reply[A]:
        """What ``function`` makes of ``request`` there.

        Args:
            function: a function that a module has under its own name, with the classes of both its ends stated.
            request: a frozen dataclass, as is what comes back.
            doing: the work, in errors.
            seconds: how long it may take; default: as the limits say.

        Raises:
            DiedError: The process died over it.
            ExportError: It took too long, or its answer is none; the process is ended then.
        """
        patience = self._limits.seconds if seconds is None else seconds
        question = packed(function, request)
        try:
            self._line.send_bytes(question)
            if not self._line.poll(None if math.isinf(patience) else patience):
                raise too_long(patience, doing)
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
        """Let workers go by themselves, for some seconds at most: so they clean up after themselves."""
        for one in idle:
            one._line.close()
        for one in idle:
            one._process.wait(PATIENCE)

    def end(self) -> int:
        """Kill the process and what it started; its exit code.

        From any thread. The line is left to the thread that reads it: it finds its end, and drops it.
        """
        return self._process.end()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._line.close()
        if self._said:
            self._said.close()


def meanwhile(work: Callable[[Callable[[], bool]], None]) -> None:
    """In a worker: do ``work`` once between this answer and the next question; it is told whether to go on."""
    _meanwhile.append(work)


def main(descriptor: str, memory: str) -> None:
    """A worker's life: questions come, answers go, until the line is cut."""
    limit(int(memory) if memory else None)
    with Connection(int(descriptor)) as line:
        while question := _next(line):
            try:
                line.send_bytes(performed(question))
            except OSError:
                return
            while _meanwhile:
                _meanwhile.pop()(lambda: not select.select([line], [], [], 0)[0])


def _next(line: Connection) -> bytes:
    """The next question; empty when nobody asks any more."""
    try:
        return line.recv_bytes()
    except (EOFError, OSError):
        return b""
