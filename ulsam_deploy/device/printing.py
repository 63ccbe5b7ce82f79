"""The edge to terminals and logs: text that is not ours (a stranger's names, typed words) is shown, never obeyed.

A name may hold what moves a cursor, turns text round, ends a line, or is a command to the service that runs a build.
Standard library only; device-safe.
"""

from __future__ import annotations

import sys
import unicodedata

__all__ = ["complain", "say", "shown", "shown_lines"]

#: Joiners that words of some scripts are spelled with: they steer nothing.
_JOINERS = frozenset("\u200c\u200d")


def shown(text: str) -> str:
    """``text`` on one line, with whatever steers a reader's screen escaped; letters of every script stay."""
    return text if text.isascii() and text.isprintable() else "".join(map(_character, text))


def shown_lines(text: str) -> str:
    """``text`` of several lines, each as :func:`shown` has it."""
    return "\n".join(map(shown, text.split("\n")))


def say(*lines: object, error: bool = False) -> None:
    """Print each of ``lines`` as one line, whatever is in it: on stdout, or with ``error`` on stderr."""
    stream = sys.stderr if error else sys.stdout
    stream.write("".join(f"{_inert(shown(str(line)))}\n" for line in lines))


def complain(error: object, about: str = "error") -> None:
    """Print on stderr what went wrong, in as many lines as the error has, and what it is about in front of it."""
    first, *more = str(error).split("\n")
    say(f"{about}: {first}", *more, error=True)


def _character(one: str) -> str:
    if one.isprintable() or one in _JOINERS or unicodedata.category(one) == "Zs":
        return one
    return one.encode("unicode_escape").decode("ascii")


def _inert(line: str) -> str:
    """``line``, which GitHub's runner takes for no command: it reads ``::`` at a line's start, and ``##[`` anywhere."""
    if line.lstrip().startswith("::"):
        line = line.replace("::", r"\x3a:", 1)
    return line.replace("##[", r"\x23#[")
