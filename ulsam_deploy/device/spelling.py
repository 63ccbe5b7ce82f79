"""Says which known word somebody meant who typed another one.

Standard library only; device-safe.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable

from ulsam_deploy.device.errors import UsageError

__all__ = ["folded", "meant", "nearest", "other_number", "unknown"]


def folded(word: str) -> str:
    """``word`` without what people spell as they like: its case, blanks around it, dashes and underscores."""
    return word.strip().casefold().replace("-", "").replace("_", "")


def other_number(word: str, known: Container[str]) -> str:
    """The singular or plural of ``word`` that is in ``known``, as ``targets`` for ``target``; ``""`` where none is."""
    forms = [word + "s", word + "es", word.removesuffix("s"), word.removesuffix("es")]
    return next((form for form in forms if form != word and form in known), "")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The one of ``known`` that is spelled most like ``word``, in whatever case.

    Args:
        word: What was typed.
        known: What could have been meant.
        cutoff: How alike the two must be, from 0 (anything) to 1 (equal).

    Returns:
        One of ``known``, or ``""`` where none is alike enough.
    """
    names = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), names, 1, cutoff)
    return names[found[0]] if found else ""


def meant(word: str, known: Iterable[str]) -> str:
    """``did you mean 'onnx'?`` for ``word``, or ``""`` where nothing in ``known`` is like it."""
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near else ""


def unknown(found: str, word: str, known: Iterable[str], *, expected: str | None = None, todo: str = "") -> UsageError:
    """The error for a word that is none of those it could be.

    Args:
        found: What is said of ``word``, without a full stop; the nearest of ``known`` is put behind it.
        word: What was typed.
        known: What could have been meant.
        expected: What is said of those, where it isn't just all of them.
        todo: What else to do.

    Returns:
        The error, to be raised.
    """
    names = list(known)
    near = meant(word, names)
    return UsageError(
        f"{found}; {near}" if near else found, expected=", ".join(names) if expected is None else expected, todo=todo
    )
