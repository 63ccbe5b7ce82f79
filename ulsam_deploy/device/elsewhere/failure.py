"""The one form in which an error is sent from a process, a board or a task of a sweep, and restored on arrival.

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

#: An error of a class that is not known here is restored as one of these: the class with the same exit code.
_PLAIN = (
    UsageError, ExportError, UnavailableError, CheckFailedError, InterruptedRunError, DefectError, RefusedError,
)  # fmt: skip


F = TypeVar("F", bound="Failure")


@dataclass(frozen=True)
class Failure:
    """An error: what was found, what was expected instead, and what to do; the last two may be empty.

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
        """Convert ``error`` to this form."""
        told = (text.encode(errors="backslashreplace").decode() for text in (error.found, error.expected, error.todo))
        return cls(_name(type(error)), int(error.exit_code), *told)

    def error(self) -> UlsamError:
        """Restore the error.

        Nothing is imported for it: the failure may come from an untrusted board, or from a compromised process.
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
