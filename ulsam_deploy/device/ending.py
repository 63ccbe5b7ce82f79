"""The end of a failed run: an exception becomes a message on stderr and an exit code, never a traceback.

Standard library only; device-safe.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import platform
import shlex
import shutil
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from ulsam_deploy._version import __version__
from ulsam_deploy.device.errors import (
    DefectError,
    ExportError,
    InterruptedRunError,
    OutOfMemoryError,
    UlsamError,
    UsageError,
)
from ulsam_deploy.device.printing import complain, say

__all__ = ["DEFECTS", "NO_MEMORY", "defect", "ended", "in_words", "kept_defect", "short"]

#: Errors of the machine, such as a full disk: reported without a traceback.
_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EACCES, errno.EPERM}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
)
#: Errors of a name that somebody gave.
_NAMES = frozenset({errno.ENAMETOOLONG, errno.ELOOP})
#: Names the folder for tracebacks of defects to processes whose own temporary files are removed with them.
DEFECTS = "_ULSAM_DEPLOY_DEFECTS"
#: How allocators of native code report what is a :class:`MemoryError` in Python.
NO_MEMORY = ("DefaultCPUAllocator", "bad_alloc", "Failed to allocate memory")


def ended(error: BaseException, words: Sequence[str], arguments: argparse.Namespace | None = None) -> UlsamError:
    """Report on stderr what ended a run; no other function does that.

    Args:
        error: The exception.
        words: The command line.
        arguments: The parsed command line; ``None`` if it could not be parsed.

    Returns:
        The reported error.
    """
    if isinstance(error, KeyboardInterrupt):
        told: UlsamError = InterruptedRunError("interrupted: nothing was left half-written")
        say(told, error=True)
        return told
    told = in_words(error, _typed(arguments)) or defect(error, words)
    complain(told)
    return told


def in_words(error: BaseException, typed: Sequence[Path] = ()) -> UlsamError | None:
    """Convert ``error`` to an error for the user, if the request or this machine caused it.

    Args:
        error: Any exception.
        typed: The files and folders that were named on the command line.

    Returns:
        The error for the user, or ``None`` for a defect of this program.
    """
    if isinstance(error, UlsamError):
        return error
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY):
        return OutOfMemoryError(
            "there is not enough memory for this",
            todo="end other programs, or ask for less: a smaller --input or --batch, one --target at a time",
        )
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # Path.resolve, before Python 3.13
        return UsageError(f"{str(error)[:300]}", expected="a file or folder that is there")
    if isinstance(error, shutil.Error):
        error = _of_files(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    why = error.strerror or os.strerror(error.errno)
    if error.filename is not None and any(_is_in(str(error.filename), path) for path in typed):
        return UsageError(f"'{error.filename}' can't be used: {why}", expected="a file or folder that is there")
    if error.errno in _NAMES:
        return UsageError(f"'{str(error.filename)[:200]}' can't be used: {why}", expected="another name or place")
    if error.errno in _MACHINE:
        what = f"'{error.filename}' can't be read or written" if error.filename else "this machine refused"
        return ExportError(f"{what}: {why}", todo="free some space, or give another folder that can be written to")
    return None


def _of_files(error: shutil.Error) -> BaseException:
    """The first error of a tree that could not be copied: that one has a line for each file, and no number."""
    copied = [(str(target), str(why)) for _, target, why in error.args[0]]
    known = ((code, target) for target, why in copied for code in _MACHINE if os.strerror(code) in why)
    return next((OSError(code, os.strerror(code), target) for code, target in known), error)


def _typed(arguments: argparse.Namespace | None) -> list[Path]:
    found = vars(arguments).values() if arguments else ()
    several = (value if isinstance(value, list) else [value] for value in found)
    return [one for values in several for one in values if isinstance(one, Path)]


def _is_in(name: str, path: Path) -> bool:
    return Path(name).absolute().is_relative_to(path.absolute())


def defect(error: BaseException, words: Sequence[str]) -> DefectError:
    """Save the traceback of an unexpected exception to a file, and describe it in one sentence.

    Args:
        error: The exception.
        words: The command line, which is written to the file as well.

    Returns:
        The error for the user, which names the file.
    """
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return kept_defect(short(error), trace, words)


def kept_defect(what: str, trace: str, words: Sequence[str] = ()) -> DefectError:
    """:func:`defect` for an error of another process: ``what`` it is in short, and its traceback ``trace``."""
    what = f"this run ended in a defect of ulsam-deploy ({what})"
    lines = [
        f"ulsam-deploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"words: {shlex.join(words)}",
        "",
        trace,
    ]
    try:
        place = _kept("\n".join(lines).encode(errors="backslashreplace"))
    except OSError as unwritten:
        return DefectError(f"{what}; its traceback could not be kept: {unwritten.strerror or unwritten}")
    return DefectError(f"{what}; please report it with its traceback, which is in {place}")


def short(error: BaseException) -> str:
    """The class of ``error`` and the first line of its message."""
    said = (str(error).strip().splitlines() or [""])[0][:200]
    return type(error).__name__ + (f": {said}" if said else "")


def _kept(content: bytes) -> str:
    """Write a new file that only this user can read, outside of any output, completely or not at all; its path."""
    handle, place = tempfile.mkstemp(prefix="ulsam-deploy-defect-", suffix=".txt", dir=os.environ.get(DEFECTS))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError:
        with contextlib.suppress(OSError):
            Path(place).unlink()
        raise
    return place
