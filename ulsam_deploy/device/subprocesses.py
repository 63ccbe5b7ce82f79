"""A job in a process of its own, within limits: whatever a file does to its engine there, the caller gets words.

Standard library only; device-safe. The job lies in a folder: the process starts there, and leaves its answer there.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulsam_deploy.device.errors import Exit, ExportError, RefusedError, UlsamError, UnavailableError, UsageError

__all__ = ["Limits", "answer", "limit", "told", "visit"]

#: Far above any answer in words and numbers: evidence with a table of every output and block is tens of kilobytes.
_MAX_ANSWER = 64 << 20

#: No file that the process writes may become larger, in bytes: arrays of a whole probe set stay far below.
LARGEST_FILE = 8 << 30

#: The process finds what this one finds, also where this one runs out of a zip. ``runpy`` runs the module as ``-m``.
_START = """
import runpy, sys
module, sys.path[:] = sys.argv[1], sys.argv[2:]
runpy.run_module(module, run_name="__main__")
"""


@dataclass(frozen=True)
class Limits:
    """What one process may take: ``seconds`` of wall clock, ``memory`` bytes of address space (``None``: any)."""

    seconds: float = 300.0
    memory: int | None = 8 << 30


def visit(module: str, folder: Path, limits: Limits, doing: str) -> str:
    """Run ``module`` as a program in ``folder``; the end of what it said.

    Raises :class:`ExportError` when it crashes or takes longer than allowed; it and what it started are ended then.
    """
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - '' is the working directory
    command = [sys.executable, "-c", _START, module, *paths]
    # One arena a thread would reserve address space by the core, and the limit counts what is reserved.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    with (folder / "said").open("w+b") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"{doing} took longer than {limits.seconds:g} seconds and was stopped",
                todo="if the file is sound and large, allow more with --time-limit",
            ) from None
        finally:
            _stop(process)
        said.seek(max(0, said.tell() - 2000))
        words = said.read().decode(errors="replace").strip()
    if code:
        raise crash(code, words, limits, doing)
    return words


def answer(folder: Path, words: str, limits: Limits, doing: str) -> dict[str, Any]:
    """What the process in ``folder`` left in ``answer.json``; ``words`` is what it said.

    Raises the error that it tells of, or :class:`ExportError` where it left no sound answer.
    """
    try:
        with (folder / "answer.json").open("rb") as stream:
            found: dict[str, Any] = json.loads(stream.read(_MAX_ANSWER))
        error = found.get("error")
        known = retold(error) if error else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as broken:
        raise crash(1, words or f"no answer ({type(broken).__name__})", limits, doing) from broken
    if found.get("memory"):
        raise too_much(limits, doing)
    if known:
        raise known
    return found


def crash(code: int, words: str, limits: Limits, doing: str) -> ExportError:
    """The error for a process that ended with ``code`` (minus a signal) and said ``words`` last."""
    last = words.splitlines()[-1] if words else ""
    if any(sign in words for sign in ("bad_alloc", "MemoryError", "Failed to allocate memory")):
        return too_much(limits, doing)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return ExportError(
        f"{doing} crashed ({how})" + (f": {last[:300]}" if last else ""),
        expected="a file that the engine can open and run",
        todo="don't use this file: make it again with another version of the tool that wrote it",
    )


def too_much(limits: Limits, doing: str) -> ExportError:
    """The error for a process that ran into the limit of its memory."""
    allowed = f"the {limits.memory / 2**30:g} GiB allowed" if limits.memory else "there is"
    return ExportError(
        f"{doing} needed more memory than {allowed}",
        todo="if the file is sound and large, allow more with --memory-limit",
    )


def limit(memory: int | None) -> None:
    """In the process: at most ``memory`` bytes of address space, no core dumps, no endless files."""
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: LARGEST_FILE}
    if memory is not None:
        limits[resource.RLIMIT_AS] = memory
    for what, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


def told(error: UlsamError) -> dict[str, Any]:
    """``error`` as plain data, for an answer."""
    return {
        "exit_code": int(error.exit_code), "found": error.found, "expected": error.expected, "todo": error.todo
    }  # fmt: skip


def retold(plain: Mapping[str, Any]) -> UlsamError:
    """The error that an answer tells; its kind follows from the exit code."""
    kinds = {kind.exit_code: kind for kind in (UsageError, ExportError, UnavailableError, RefusedError)}
    kind = kinds.get(Exit(plain["exit_code"]), ExportError)
    if any(word in plain["found"] for word in ("bad_alloc", "Failed to allocate memory")):
        return ExportError(plain["found"], todo="if the file is sound and large, allow more with --memory-limit")
    return kind(plain["found"], expected=plain["expected"], todo=plain["todo"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started: it leads a group of its own, which may outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
