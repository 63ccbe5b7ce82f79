"""Prints an answer: with ``--json`` exactly one document on stdout, whether the command succeeds or fails.

Standard library only; device-safe. No other module prints a command's result.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device import codec
from ulsam_deploy.device.commands.answer import Answer, Aside, Document, ErrorDocument, Table
from ulsam_deploy.device.errors import UlsamError, UsageError
from ulsam_deploy.device.printing import complain, inert_json, say

__all__ = ["Console", "abandon_stdout"]

_STDOUT = frozenset({"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})


@dataclass
class Console:
    """Prints one command's answer; ``words`` are its arguments, including those of its ``--config`` once it is read."""

    words: list[str]

    @property
    def as_json(self) -> bool:
        """Whether stdout is for one document and nothing else."""
        return "--json" in self.words

    def check(self, arguments: argparse.Namespace) -> None:
        """Raise :class:`UsageError` if a file is to be written to stdout as well."""
        taken = [value for value in vars(arguments).values() if isinstance(value, Path) and str(value) in _STDOUT]
        if self.as_json and taken:
            raise UsageError(f"'{taken[0]}' is where --json prints its document", expected="a file of its own")

    def kept_clean(self) -> contextlib.AbstractContextManager[object]:
        """While a command runs: redirect all output to stderr if stdout is for one document."""
        return contextlib.redirect_stdout(sys.stderr) if self.as_json else contextlib.nullcontext()

    def give(self, answer: Answer) -> int:
        """Print ``answer``; returns its exit code as an ``int``."""
        for part in answer.text:
            if isinstance(part, Aside):
                _tell(part)
            elif not self.as_json:
                _show(part)
        if self.as_json:
            _document(answer.document)
        sys.stdout.flush()  # here, where an error is still reported properly: at interpreter exit it is not
        return int(answer.code)

    def failed(self, error: UlsamError) -> int:
        """Print the document of ``error`` if ``--json`` is given; returns its exit code as an ``int``."""
        try:
            if self.as_json:
                _document(ErrorDocument.of(error))
            sys.stdout.flush()
        except OSError:
            abandon_stdout()
        return int(error.exit_code)


def _document(document: Document) -> None:
    text = codec.dumps(codec.encode(document, document.schema))
    sys.stdout.write(inert_json(text))


def _show(part: str | Table) -> None:
    if isinstance(part, Table):
        from ulsam_deploy.device.commands.words import print_table

        print_table(part.columns, part.rows)
    else:
        say(part)


def _tell(aside: Aside) -> None:
    if aside.about:
        complain(aside.text, aside.about)
    else:
        say(*aside.text.split("\n"), error=True)


def abandon_stdout() -> None:
    """Discard all further output: its reader is gone, and Python would print an error at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
