"""Errors that users read: what was found, what was expected, what to do, and the exit code.

Standard library only; device-safe.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ulsam_deploy.device.printing import shown


class Exit(enum.IntEnum):
    """Exit codes of every command (documented in ``docs/command-line.md``)."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    EXPORT_FAILED = 3
    UNAVAILABLE = 4
    INCONCLUSIVE = 5
    REFUSED = 6
    DEFECT = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130


#: When several outcomes apply to one command, the first of these wins.
PRECEDENCE = (
    Exit.REFUSED, Exit.DEFECT, Exit.EXPORT_FAILED, Exit.CHECK_FAILED, Exit.USAGE, Exit.UNAVAILABLE, Exit.INCONCLUSIVE,
)  # fmt: skip


def combine(codes: Iterable[int]) -> Exit:
    """The exit code for several outcomes together, by :data:`PRECEDENCE`; ``OK`` when none of them is an error."""
    present = set(codes)
    return next((code for code in PRECEDENCE if code in present), Exit.OK)


class UlsamError(Exception):
    """Base class of every error that a user is meant to read.

    ``found`` says what was found, ``expected`` what should have been there, ``todo`` what to do next. Each is printed
    as one line with control characters escaped, so that a quoted name cannot control the terminal.
    """

    exit_code = Exit.EXPORT_FAILED

    def __init__(self, found: str, *, expected: str = "", todo: str = "") -> None:
        super().__init__(found)
        self.found, self.expected, self.todo = found, expected, todo

    def __str__(self) -> str:
        lines = [shown(line) for line in self._found_lines()]
        if self.expected:
            lines.append(f"  expected: {shown(self.expected)}")
        if self.todo:
            lines.append(f"  do this:  {shown(self.todo)}")
        return "\n".join(lines)

    def _found_lines(self) -> list[str]:
        return [self.found]


class UsageError(UlsamError):
    """The command line, a configuration or an argument is wrong (exit 2)."""

    exit_code = Exit.USAGE


class ExportError(UlsamError):
    """Capture, rewrite, conversion or compilation failed (exit 3)."""

    exit_code = Exit.EXPORT_FAILED


class ToolError(ExportError):
    """Another tool failed (exit 3); ``found`` is the tool's own message, of one or more lines."""

    def _found_lines(self) -> list[str]:
        return self.found.split("\n")


class OutOfMemoryError(ExportError):
    """The work needs more memory than there is (exit 3)."""


class UnavailableError(UlsamError):
    """A requested backend, device or evidence level is not available here (exit 4)."""

    exit_code = Exit.UNAVAILABLE


class CheckFailedError(UlsamError):
    """A check did not pass (exit 1); ``exit_code`` is 5 where it was inconclusive, 4 where nothing could run."""

    exit_code = Exit.CHECK_FAILED

    def __init__(self, found: str, *, expected: str = "", todo: str = "", exit_code: Exit = Exit.CHECK_FAILED) -> None:
        super().__init__(found, expected=expected, todo=todo)
        self.exit_code = exit_code


class InterruptedRunError(UlsamError):
    """The user ended the run (exit 130)."""

    exit_code = Exit.INTERRUPTED


class DefectError(UlsamError):
    """An unexpected exception: a defect of this program, not of its input (exit 70)."""

    exit_code = Exit.DEFECT


class RefusedError(UlsamError):
    """An input was refused for integrity or trust: a hash differs, or a pickle would run code (exit 6)."""

    exit_code = Exit.REFUSED
