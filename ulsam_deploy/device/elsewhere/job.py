"""A job: one question to a process of its own, within limits; whatever a file does to its engine there, the caller gets
words.

What a job opens may be a stranger's, so an exception that nobody foresaw there is told as a crash over that file, and
never as a defect. Standard library and numpy; device-safe. The job lies in a folder, where the process starts and
leaves its answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.device.elsewhere.limits import Limits, crash, is_out_of_memory, limit, too_long, too_much
from ulsam_deploy.device.elsewhere.message import Reply, asked, perform, replied
from ulsam_deploy.device.elsewhere.process import ChildProcess, python
from ulsam_deploy.device.errors import ExportError, OutOfMemoryError
from ulsam_deploy.device.files import scratch

__all__ = ["ANSWER", "QUESTION", "answer", "do", "main", "run", "value_of"]

Q = TypeVar("Q")
A = TypeVar("A")

QUESTION, ANSWER, _SAID = "question.npz", "answer.npz", "said.txt"


def do(function: Callable[[Q], A], request: Q, limits: Limits, doing: str) -> A:
    """What ``function`` makes of ``request`` in a process of its own.

    Args:
        function: a function that a module has under its own name, with the classes of both its ends stated.
        request: a frozen dataclass, as is what comes back.
        limits: what the process may take.
        doing: the work, in errors.

    Raises:
        ExportError: The process crashed, or took more than it may.
        UlsamError: What ``function`` fused, as the class that it was.
    """
    # One arena a thread would reserve address space by the core, and the limit counts what is reserved.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    with scratch() as folder:
        with (folder / QUESTION).open("wb") as question:
            asked(function, request, question)
        command = python(__name__, str(limits.memory or ""))
        code, words = run(command, folder, environment, limits, doing)
        if code:
            raise crash(code, words, limits, doing)
        return value_of(answer(function, folder, words, limits, doing), limits, doing)


def run(command: list[str], folder: Path, environment: dict[str, str], limits: Limits, doing: str) -> tuple[int, str]:
    """Run ``command`` in ``folder``; what it ended with, minus a signal, and the end of what it said.

    It and what it started are ended however this ends; raises :class:`ExportError` where it takes longer than allowed.
    """
    with (folder / _SAID).open("w+b") as said:
        process = ChildProcess(command, said=said, folder=folder, environment=environment)
        try:
            code = process.wait(limits.seconds)
        finally:
            process.end()
        if code is None:
            raise too_long(limits.seconds, doing)
        said.seek(max(0, said.seek(0, os.SEEK_END) - 2000))
        return code, said.read().decode(errors="replace").strip()


def answer(function: Callable[[Q], A], folder: Path, words: str, limits: Limits, doing: str) -> Reply[A]:
    """What the process in ``folder`` left as the answer of ``function``; it said ``words``.

    Raises :class:`ExportError` where that is no sound answer.
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
    """The value of ``reply``; raises its error, in terms of ``doing`` where the engine or the file is to blame."""
    if isinstance(reply.error, OutOfMemoryError) or (reply.error and is_out_of_memory(reply.error.found)):
        raise too_much(limits, doing)
    if reply.traceback and reply.error:
        raise crash(None, reply.error.found, limits, doing)
    if reply.error:
        raise reply.error
    return reply.value  # type: ignore[return-value]


def main(memory: str) -> None:
    """In the process: the job of the working directory, answered there."""
    limit(int(memory) if memory else None)
    serve()


def serve() -> None:
    """The question in the working directory, answered there, whole or not at all."""
    half = Path(f"{ANSWER}.half")
    with Path(QUESTION).open("rb") as question, half.open("wb") as told:
        perform(question, told)
    half.rename(ANSWER)
