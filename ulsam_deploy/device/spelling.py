"""Suggests the known word that was probably meant by an unknown one.

Standard library only; device-safe.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable

from ulsam_deploy.device.errors import UsageError

__all__ = ["folded", "meant", "nearest", "other_number", "unknown"]


def folded(word: str) -> str:
    """``word`` without variations of spelling: case, surrounding blanks, dashes and underscores."""
    return word.strip().casefold().replace("-", "").replace("_", "")


def other_number(word: str, known: Container[str]) -> str:
    """The singular or plural of ``word`` that is in ``known``, as ``targets`` for ``target``; ``""`` if none is."""
    forms = [word + "s", word + "es", word.removesuffix("s"), word.removesuffix("es")]
    return next((form for form in forms if form != word and form in known), "")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word with the spelling most similar to ``word``, ignoring case.

    Args:
        word: The typed word.
        known: The known words.
        cutoff: The required similarity, from 0 (anything) to 1 (equal).

    Returns:
        One of ``known``, or ``""`` if none is similar enough.
    """
    names = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), names, 1, cutoff)
    return names[found[0]] if found else ""


def meant(word: str, known: Iterable[str]) -> str:
    """``did you mean 'onnx'?`` for ``word``, or ``""`` if nothing in ``known`` is similar."""
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near else ""


def unknown(found: str, word: str, known: Iterable[str], *, expected: str | None = None, todo: str = "") -> UsageError:
    """The error for an unknown word.

    Args:
        found: The message about ``word``, without a full stop; the most similar known word is appended.
        word: The typed word.
        known: The known words.
        expected: The text about the known words; by default a list of all.
        todo: Further advice.

    Returns:
        The error, to be raised.
    """
    names = list(known)
    near = meant(word, names)
    return UsageError(
        f"{found}; {near}" if near else found, expected=", ".join(names) if expected is None else expected, todo=todo
    )
