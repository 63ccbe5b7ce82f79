"""The one reader of TOML: a user's budgets, recipes, sweeps, configurations and device profiles. Device-safe.

Python 3.10 has no TOML parser and uses ``tomli`` if it is installed; nothing that runs on a board needs TOML.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import UsageError

__all__ = ["parse", "read"]

#: Bytes of the largest file that is read: files written by hand are a thousandth of it.
LARGEST = 4 << 20
#: Whole numbers have 64 bits in TOML; those of Python's parser grow without end, and too large ones can't be printed.
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
#: ``a.b.c``: the parser takes time that grows with the square of the number of parts.
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_NAME = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{64}}")


def read(path: Path, what: str = "", *, expected: str = "", todo: str = "") -> dict[str, Any]:
    """The tables of the TOML file at ``path``.

    Args:
        path: A regular file.
        what: Its name in errors; by default its path.
        expected: The field ``expected`` of an error.
        todo: The field ``todo`` of an error.

    Raises:
        UsageError: It cannot be read, is too large, or is not TOML in UTF-8.
    """
    what = what or f"{path}"
    try:
        text = contents(path, LARGEST).decode()
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{what} can't be read: {why}", expected=expected, todo=todo) from error
    except ValueError as error:  # not UTF-8
        raise UsageError(f"{what} can't be read: {error}", expected=expected, todo=todo) from error
    return parse(text, what, expected=expected, todo=todo)


def parse(text: str, what: str, *, expected: str = "", todo: str = "") -> dict[str, Any]:
    """The tables of the TOML ``text``; raises a :class:`UsageError` that starts with ``what`` if it isn't valid."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        if _LONG_NAME.search(text):
            raise ValueError("a name of more than 64 parts")
        found = tomllib.loads(text)
        if not all(_LEAST <= number <= _MOST for number in _whole_numbers(found)):
            raise ValueError("a whole number of more than 64 bits")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what} isn't valid TOML: {error}", expected=expected, todo=todo) from error
    return found


def _whole_numbers(value: object) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _whole_numbers(inner)
