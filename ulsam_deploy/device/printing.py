"""Output to terminals and logs: untrusted text (names from files, typed arguments) is shown without any effect.

A name may contain control characters that move the cursor, reverse text or end a line, or a command to the CI service.
Standard library only; device-safe.
"""

from __future__ import annotations

import contextlib
import re
import sys
import unicodedata

__all__ = ["complain", "inert_json", "say", "shown", "shown_lines"]

#: Joiners that some scripts need for spelling; they don't control the terminal.
_JOINERS = frozenset("\u200c\u200d")
_COMMAND = re.compile(r"##(?=\w*\[)")


def shown(text: str) -> str:
    """``text`` on one line, with all control characters escaped; letters of every script stay."""
    return text if text.isascii() and text.isprintable() else "".join(map(_character, text))


def shown_lines(text: str) -> str:
    """Apply :func:`shown` to each line of ``text``, and change those that the CI service would read as a command."""
    return "\n".join(_inert(shown(line)) for line in text.split("\n"))


def say(*lines: object, error: bool = False) -> None:
    """Print each of ``lines`` as one line, whatever it contains: on stdout, or with ``error`` on stderr.

    Nothing depends on what stderr takes: if its disk is full, the command goes on, and its exit code says how it ended.
    """
    text = "".join(f"{_inert(shown(str(line)))}\n" for line in lines)
    with contextlib.suppress(OSError) if error else contextlib.nullcontext():
        (sys.stderr if error else sys.stdout).write(text)


def inert_json(text: str) -> str:
    """The JSON document ``text``, spelled so that no CI service reads a command in it."""
    return _COMMAND.sub(r"\\u0023#", text)


def complain(error: object, about: str = "error") -> None:
    """Print ``error`` on stderr, in as many lines as it has, with the prefix ``about``."""
    first, *more = str(error).split("\n")
    say(f"{about}: {first}", *more, error=True)


def _character(one: str) -> str:
    if one.isprintable() or one in _JOINERS or unicodedata.category(one) == "Zs":
        return one
    return one.encode("unicode_escape").decode("ascii")


def _inert(line: str) -> str:
    """``line``, changed so that no CI service reads a command in it.

    GitHub's runner reads ``::`` at a line's start and ``##[`` anywhere, Azure's ``##vso[``, TeamCity ``##teamcity[``.
    """
    if line.lstrip().startswith("::"):
        line = line.replace("::", r"\x3a:", 1)
    return _COMMAND.sub(r"\\x23#", line)
