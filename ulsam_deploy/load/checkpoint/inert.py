"""Reads what trainers put beside the weights without importing it: every such object is an inert stand-in.

A trainer's ``argparse.Namespace``, Lightning's or mmengine's records, a NumPy loss: the names in the pickle are given
to stand-ins of our own, which keep what they are filled with and run nothing. Only NumPy's numbers and arrays get a
meaning, from their bytes: they may be weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array

__all__ = ["is_data", "plain", "stand_ins"]

#: Packages whose objects trainers store as settings and records. None of them is imported for reading.
_RECORDS = frozenset(
    {
        *("argparse", "pathlib", "numpy", "addict", "basicsr", "easydict", "fvcore", "hydra", "lightning"),
        *("lightning_fabric", "lightning_utilities", "ml_collections", "mmcv", "mmengine", "munch", "omegaconf"),
        *("pytorch_lightning", "timm", "torchmetrics", "yacs"),
    }
)
#: Single names of packages that also hold what could be run.
_NAMES = frozenset(
    {"collections.defaultdict", "collections.deque", "collections.Counter", "types.SimpleNamespace"}
    | {f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")}
)
_DICTIONARIES = frozenset({"Counter", "CfgNode", "Dict", "Munch"})
_MOST_BYTES = 1 << 30
_DEPTH, _MOST_VALUES = 12, 100_000


class Inert:
    """Stands for an object of a class that is not imported; keeps what the pickle filled it with."""

    def __new__(cls, *arguments: object, **_: object) -> Inert:
        made = super().__new__(cls)
        made.__dict__["arguments"] = arguments
        return made

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.__dict__["state"] = state


class Record(Inert):
    """A kind of dictionary, such as a ``defaultdict`` or mmengine's ``ConfigDict``: making one gives a plain one."""

    def __new__(cls, *_: object, **__: object) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


class Number(Inert):
    """A NumPy data type, scalar or array, or a function that makes one."""


def is_data(name: str) -> bool:
    """Whether the global ``name`` is one that trainers store beside weights, and gets a stand-in."""
    return name in _NAMES or name.partition(".")[0] in _RECORDS


@contextlib.contextmanager
def stand_ins(names: Collection[str]) -> Iterator[None]:
    """Within the context, torch's weights-only reader finds a stand-in under each of ``names``."""
    import torch

    if not names:
        yield
        return
    with torch.serialization.safe_globals([(_class(name), name) for name in names]):
        yield


def _class(name: str) -> type[Inert]:
    kind = name.rpartition(".")[2]
    base = Record if kind.lower().endswith("dict") or kind in _DICTIONARIES else Inert
    base = Number if name.startswith("numpy.") else base
    return type(name, (base,), {"__module__": __name__})


def plain(value: Any) -> Any:
    """``value`` with its stand-ins replaced: NumPy's by numbers and tensors, a namespace by its dictionary."""
    return _plain(value, _DEPTH, [_MOST_VALUES])


def _plain(value: Any, depth: int, budget: list[int]) -> Any:
    """The same down to ``depth``; a container may hold itself, so that ``budget`` limits the visits."""
    budget[0] -= 1
    if depth < 0 or budget[0] < 0:
        return value
    if isinstance(value, Number):
        return _number(value)
    if isinstance(value, Inert):
        named = type(value).__name__ == "argparse.Namespace"
        return _plain(value.__dict__.get("state"), depth - 1, budget) if named else value
    if isinstance(value, dict):  # changed in place: an OrderedDict stays one, with its attributes
        for key, item in list(dict.items(value)):
            if not isinstance(item, str | int | float):
                dict.__setitem__(value, key, _plain(item, depth - 1, budget))
        return value
    if type(value) in (list, tuple):
        return type(value)(_plain(item, depth - 1, budget) for item in value)
    return value


def _number(value: Number) -> Any:
    """The number or tensor that ``value`` stands for, or ``value`` itself if it is something else."""
    import torch

    name = type(value).__name__.rpartition(".")[2]
    try:
        if name == "scalar":
            dtype, data = value.__dict__["arguments"]
            return np.frombuffer(_bytes(data), _dtype(dtype), 1)[0].item()
        if name == "_reconstruct":
            _, shape, dtype, by_column, data = value.__dict__["state"]
            flat: Array = np.frombuffer(_bytes(data), _dtype(dtype))
            return torch.from_numpy(flat.reshape(shape, order="F" if by_column else "C").copy())
    except (KeyError, TypeError, ValueError, IndexError):
        return value
    return value


def _bytes(data: object) -> bytes:
    if not isinstance(data, bytes) or len(data) > _MOST_BYTES:
        raise TypeError("not the bytes of a number")
    return data


def _dtype(stands: object) -> np.dtype[Any]:
    """The data type of plain numbers that ``stands`` was made with."""
    if not isinstance(stands, Number):
        raise TypeError("not a data type")
    code, order = stands.__dict__["arguments"][0], stands.__dict__.get("state", ())[1:2]
    found = np.dtype(str(code))
    if found.kind not in "biuf":
        raise TypeError("not a number")
    return found.newbyteorder(order[0]) if order and order[0] in ("<", ">") else found
