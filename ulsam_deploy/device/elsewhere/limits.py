"""Limits of a process, and the errors for one that exceeded them or crashed.

Standard library only; device-safe.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.elsewhere.jail import enter
from ulsam_deploy.device.ending import NO_MEMORY
from ulsam_deploy.device.errors import ExportError, OutOfMemoryError

__all__ = ["Limits", "crash", "is_out_of_memory", "limit", "too_long", "too_much"]

#: No file that the process writes may become larger, in bytes: arrays of a whole probe set stay far below.
LARGEST_FILE = 8 << 30


@dataclass(frozen=True)
class Limits:
    """Limits of one process: ``seconds`` of wall clock, ``memory`` bytes of address space (``None``: unlimited).

    ``jail``: whether it may only read; one of :data:`~ulsam_deploy.device.elsewhere.jail.MODES`. ``todo``: what to do
    where the first two are exceeded, if no option of the command changes them.
    """

    seconds: float = 300.0
    memory: int | None = 8 << 30
    jail: str = "auto"
    todo: str = ""

    @property
    def words(self) -> tuple[str, str]:
        """The arguments of :func:`limit` in the process itself."""
        return str(self.memory or ""), self.jail


def limit(most_memory: str, jail: str) -> None:
    """Limit this process: address space, no core dumps, files of bounded size; then let it only read.

    Raises :class:`UnavailableError` as :func:`~ulsam_deploy.device.elsewhere.jail.enter` does.
    """
    memory = int(most_memory) if most_memory else None
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: LARGEST_FILE}
    if memory is not None:
        limits[resource.RLIMIT_AS] = memory
    for what, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
    enter(jail, Path(tempfile.gettempdir()))


def crash(code: int | None, words: str, limits: Limits, doing: str) -> ExportError:
    """The error for a process that crashed.

    Args:
        code: Its exit status, negative for a signal; ``None`` where it reported an unexpected exception.
        words: The end of its output.
        limits: The limits that it ran under.
        doing: What its work is called in error messages.
    """
    if is_out_of_memory(words):
        return too_much(limits, doing)
    how = "" if code is None else f" (signal {_signal(-code)})" if code < 0 else f" (exit status {code})"
    last = words.splitlines()[-1] if words else ""
    return ExportError(
        f"{doing} crashed{how}" + (f": {last[:300]}" if last else ""),
        expected="a file that the engine can open and run",
        todo="don't use this file: make it again with another version of the tool that wrote it",
    )


def is_out_of_memory(words: str) -> bool:
    """Whether the output ``words`` reports a lack of memory; engines report it in no other way."""
    return any(sign in words for sign in (*NO_MEMORY, "MemoryError"))


def too_much(limits: Limits, doing: str) -> OutOfMemoryError:
    """The error for a process that exceeded its memory limit."""
    allowed = f"the {limits.memory / 2**30:g} GiB allowed" if limits.memory else "there is"
    return OutOfMemoryError(
        f"{doing} needed more memory than {allowed}",
        todo=limits.todo or "if the file is sound and large, allow more with --memory-limit",
    )


def too_long(seconds: float, doing: str, todo: str = "") -> ExportError:
    """The error for a process that was stopped after ``seconds``; ``todo`` as in its :class:`Limits`."""
    return ExportError(
        f"{doing} took longer than {seconds:g} seconds and was stopped",
        todo=todo or "if the file is sound and large, allow more with --time-limit",
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
