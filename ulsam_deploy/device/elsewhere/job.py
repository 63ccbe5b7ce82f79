"""A job: one request to a process of its own, within limits; whatever a file does to its engine, callers get an error.

A job may open an untrusted file, so an unexpected exception there is reported as a crash caused by that file, never as
a defect of this program. The request is stored in a folder, in which the process starts and writes its answer. Standard
library and numpy; device-safe.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.device import share
from ulsam_deploy.device.elsewhere.limits import Limits, crash, is_out_of_memory, limit, too_long, too_much
from ulsam_deploy.device.elsewhere.message import Reply, asked, perform, replied
from ulsam_deploy.device.elsewhere.process import ChildProcess, python
from ulsam_deploy.device.errors import ExportError, OutOfMemoryError
from ulsam_deploy.device.files import scratch

__all__ = ["ANSWER", "QUESTION", "answer", "do", "main", "run", "value_of"]

Q = TypeVar("Q")
A = TypeVar("A")

QUESTION, ANSWER, _SAID = "question.npz", "answer.npz", "said.txt"


def do(function: Callable[[Q], A], request: Q, limits: Limits, doing: str, executable: str = "") -> A:
    """Call ``function`` with ``request`` in a process of its own.

    Args:
        function: A module-level function, with annotated argument and return types.
        request: Its argument, a frozen dataclass; so is its result.
        limits: The limits of the process.
        doing: What the work is called in error messages.
        executable: The Python of another environment; by default this one.

    Returns:
        The result of ``function``.

    Raises:
        ExportError: The process crashed, or exceeded its limits.
        UlsamError: The error that ``function`` raised, with the same class.
    """
    # With an arena for each thread, malloc reserves address space that grows with the cores; RLIMIT_AS counts that.
    environment = {**share.for_children(), "MALLOC_ARENA_MAX": "2"}
    with scratch() as folder:
        environment["TMPDIR"] = str(folder)
        with (folder / QUESTION).open("wb") as question:
            asked(function, request, question)
        command = python(__name__, *limits.words, executable=executable)
        code, words = run(command, folder, environment, limits, doing)
        if code:
            raise crash(code, words, limits, doing)
        return value_of(answer(function, folder, words, limits, doing), limits, doing)


def run(command: list[str], folder: Path, environment: dict[str, str], limits: Limits, doing: str) -> tuple[int, str]:
    """Run ``command`` in ``folder``; returns its exit status (a signal as a negative number) and the end of its output.

    The process and its children are always killed in the end. Raises :class:`ExportError` on a timeout.
    """
    with (folder / _SAID).open("w+b") as said:
        process = ChildProcess(command, said=said, folder=folder, environment=environment)
        try:
            code = process.wait(limits.seconds)
        finally:
            process.end()
        if code is None:
            raise too_long(limits.seconds, doing, limits.todo)
        said.seek(max(0, said.seek(0, os.SEEK_END) - 2000))
        return code, said.read().decode(errors="replace").strip()


def answer(function: Callable[[Q], A], folder: Path, words: str, limits: Limits, doing: str) -> Reply[A]:
    """Read the answer of ``function`` that the process left in ``folder``; ``words`` is the end of its output.

    Raises :class:`ExportError` if the answer is not valid.
    """
    try:
        with (folder / ANSWER).open("rb") as stream:
            return replied(function, stream)
    except MemoryError as error:
        raise too_much(limits, f"the answer of {doing}") from error
    except (OSError, ExportError) as broken:
        why = broken.found if isinstance(broken, ExportError) else f"no answer ({type(broken).__name__})"
        raise crash(None, "\n".join(filter(None, (words, why))), limits, doing) from broken


def value_of(reply: Reply[A], limits: Limits, doing: str) -> A:
    """The value of ``reply``; raises its error, as a crash of ``doing`` where the engine or the file caused it."""
    if isinstance(reply.error, OutOfMemoryError) or (reply.error and is_out_of_memory(reply.error.found)):
        raise too_much(limits, doing)
    if reply.traceback and reply.error:
        raise crash(None, reply.error.found, limits, doing)
    if reply.error:
        raise reply.error
    return reply.value  # type: ignore[return-value]


def main(memory: str, jail: str) -> None:
    """Entry point of the process: answer the job in the working directory."""
    serve(partial(limit, memory, jail))


def serve(prepare: Callable[[], None] = lambda: None) -> None:
    """Answer the request in the working directory after ``prepare``; the answer is written whole or not at all."""
    half = Path(f"{ANSWER}.half")
    with Path(QUESTION).open("rb") as question, half.open("wb") as told:
        perform(question, told, prepare)
    half.rename(ANSWER)
