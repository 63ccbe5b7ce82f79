"""What stdout gets with ``--json``: exactly one document, whatever becomes of the command.

Standard library only; device-safe. What a command prints is held back until it has come to its end; where it ends in an
error, the error is the document.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.errors import UlsamError, UsageError

__all__ = ["ERROR", "Answer", "abandon_stdout"]

_STDOUT = frozenset({"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
#: The word in the ``schema`` of an error's document.
ERROR = "error"


@dataclass
class Answer:
    """What one command says on stdout; ``words`` are its own, those of a file of words among them once it was read."""

    words: list[str]

    @property
    def as_json(self) -> bool:
        """Whether stdout gets one document and nothing else."""
        return "--json" in self.words

    def check(self, arguments: argparse.Namespace) -> None:
        """Raise :class:`UsageError` where a file is to be written to stdout as well."""
        taken = [value for value in vars(arguments).values() if isinstance(value, Path) and str(value) in _STDOUT]
        if self.as_json and taken:
            raise UsageError(f"'{taken[0]}' is where --json prints its document", expected="a file of its own")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep what the block prints until it has ended, and drop it where it ends in an error; plain text passes."""
        if not self.as_json:
            yield
            sys.stdout.flush()  # here, where an error still has words: Python's own end of a process has none
            return
        kept = io.StringIO()
        with contextlib.redirect_stdout(kept):
            yield
        sys.stdout.write(kept.getvalue())
        sys.stdout.flush()

    def failed(self, error: UlsamError) -> int:
        """Print the document of ``error``, where documents are asked for; returns its exit code as a plain number."""
        try:
            if self.as_json:
                told = {"schema": f"ulsam-deploy.{ERROR}/1", **asdict(Failure.of(error))}
                json.dump(told, sys.stdout, indent=2, sort_keys=True)
                sys.stdout.write("\n")
            sys.stdout.flush()
        except OSError:
            abandon_stdout()
        return int(error.exit_code)


def abandon_stdout() -> None:
    """Let whatever is still to be printed go nowhere: nobody takes it, and Python would complain at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
