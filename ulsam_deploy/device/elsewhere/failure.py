"""The one form in which an error leaves a process, a board or a task of a sweep, and in which it comes back as itself.

Standard library only; device-safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from ulsam_deploy.device.errors import (
    CheckFailedError,
    DefectError,
    Exit,
    ExportError,
    InterruptedRunError,
    RefusedError,
    UlsamError,
    UnavailableError,
    UsageError,
)

__all__ = ["Failure"]

#: What an error of a class that is not known here comes back as: the class that means the same exit code.
_PLAIN = (
    UsageError, ExportError, UnavailableError, CheckFailedError, InterruptedRunError, DefectError, RefusedError,
)  # fmt: skip


F = TypeVar("F", bound="Failure")


@dataclass(frozen=True)
class Failure:
    """Any command that stopped: what was found, what was expected instead, and what to do; both may be empty.

    ``kind`` is the error's class with its module.
    """

    kind: str
    exit_code: int
    found: str
    expected: str
    todo: str

    def __post_init__(self) -> None:
        if Exit(self.exit_code) is Exit.OK:
            raise ValueError("an error with the exit code of success")

    @classmethod
    def of(cls: type[F], error: UlsamError) -> F:
        """``error`` in this form."""
        told = (text.encode(errors="backslashreplace").decode() for text in (error.found, error.expected, error.todo))
        return cls(_name(type(error)), int(error.exit_code), *told)

    def error(self) -> UlsamError:
        """The error again.

        Nothing is imported for it: this may come from a stranger's board, or from a process that a file took over.
        """
        code = Exit(self.exit_code)
        plain = next((kind for kind in _PLAIN if kind.exit_code is code), UlsamError)
        kind = next((known for known in _known(UlsamError) if _name(known) == self.kind), plain)
        error = kind(self.found, expected=self.expected, todo=self.todo)
        error.exit_code = code
        return error


def _name(kind: type[UlsamError]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _known(kind: type[UlsamError]) -> Iterator[type[UlsamError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _known(below)
