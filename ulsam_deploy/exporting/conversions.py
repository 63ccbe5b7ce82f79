"""Converts the values that Python callers may pass for an option to the form that the export options have.

Any invalid value is a :class:`UsageError`, never one of Python's own errors from deeper in the code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Literal

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import ReplayDepth
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.shapes import parse_shape
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting import budget as budgets
from ulsam_deploy.exporting.budget import Budget
from ulsam_deploy.exporting.options import Recipe, parse_batch

PathLike = str | os.PathLike[str]
#: One name, several separated by commas, or a list of names.
Words = str | Sequence[str]
#: One input without the batch: ``(3, 224, 224)`` or ``"3x224x224"``.
Shape = str | Sequence[int]
Shapes = Shape | Sequence[Shape]
Batch = int | Literal["dynamic"] | None
BudgetLike = Budget | Mapping[str, float | str]


def path(value: object, name: str) -> Path:
    """Convert a string or path to a path."""
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    raise UsageError(f"{name} is a {type(value).__name__}", expected="a path")


def optional_path(value: PathLike | None, name: str) -> Path | None:
    """Convert a string, a path or ``None`` to a path or ``None``."""
    return None if value is None else path(value, name)


def words(value: Words, name: str) -> tuple[str, ...]:
    """Convert ``"onnx"``, ``"onnx,tflite"`` or ``["onnx", "tflite"]`` to a tuple without duplicates."""
    return _words(value.split(",") if isinstance(value, str) else value, name)


def names(value: Words, name: str) -> tuple[str, ...]:
    """Like :func:`words`, for names that may contain commas: a ``str`` is one name."""
    return _words([value] if isinstance(value, str) else value, name)


def _words(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, Sequence) and all(isinstance(word, str) for word in value):
        return tuple(dict.fromkeys(value))
    raise UsageError(f"{name} is {value!r:.80}", expected="a word or a list of words")


def shapes(value: Shapes) -> tuple[tuple[int, ...], ...]:
    """Convert one shape or several, given as sizes or as ``"3x224x224"``."""
    several: object = value
    if isinstance(several, str):
        return (parse_shape(several),)
    if not isinstance(several, Sequence):
        raise _no_shape(several)
    if several and all(isinstance(size, Integral) for size in several):
        return (_shape(several),)
    return tuple(_shape(one) for one in several)


def _shape(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        return parse_shape(value)
    if not isinstance(value, Sequence) or not value:
        raise _no_shape(value)
    for size in value:
        if isinstance(size, bool) or not isinstance(size, Integral) or int(size) < 1:
            raise _no_shape(value)
    return tuple(int(size) for size in value)


def _no_shape(value: object) -> UsageError:
    return UsageError(
        f"{value!r:.80} is not an input shape", expected="sizes without the batch: (3, 224, 224) or '3x224x224'"
    )


def batch(value: object) -> int | None:
    """Convert a batch size: a number, or ``None`` or ``"dynamic"`` for a dynamic batch."""
    if value is None:
        return None
    if isinstance(value, str):
        return parse_batch(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{value!r:.80} is not a batch size", expected="a positive number, 'dynamic', or None for it")
    return value


def budget(value: object) -> Budget:
    """Convert limits by name, such as ``{"drop": 0.3, "size": "40%"}``, to a budget."""
    if value is None:
        return Budget()
    if isinstance(value, Budget):
        return value.check()
    if isinstance(value, Mapping):
        return budgets.from_mapping(value)
    raise UsageError(f"the budget is a {type(value).__name__}", expected="a Budget, or a mapping such as {'drop': 0.3}")


def preprocessing(value: Preprocessing | PathLike | None) -> Preprocessing | None:
    """Convert the name of a preprocessing, or the TOML file that states it, to a preprocessing."""
    if value is None:
        return None
    if isinstance(value, Preprocessing):
        return value.check()
    from ulsam_deploy.device.images import read_preprocessing

    return read_preprocessing(str(path(value, "preprocessing")))


def recipes(value: object) -> Mapping[str, Recipe]:
    """Convert recipes by target, or the path of a bundle's ``recipe.toml``, to recipes by target."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if all(isinstance(recipe, Recipe) for recipe in value.values()):
            return dict(value)
        raise UsageError("a recipe is not a Recipe", expected="a ulsam_deploy.exporting.options.Recipe for each target")
    from ulsam_deploy.exporting.search import read_recipes

    return read_recipes(path(value, "recipes")).targets


def depth(value: ReplayDepth | str) -> ReplayDepth:
    """Convert ``"off"``, ``"fast"`` or ``"full"`` to a depth of the replay."""
    try:
        return ReplayDepth(value)
    except ValueError:
        raise UsageError(f"replay is {value!r:.200}", expected=", ".join(one.value for one in ReplayDepth)) from None


def level(value: EvidenceLevel | str) -> EvidenceLevel:
    """Convert an evidence level or its label, such as ``"executed"``, to an evidence level."""
    return value if isinstance(value, EvidenceLevel) else EvidenceLevel.from_label(str(value))
