"""Messages between processes: the call of a function with one frozen dataclass, and its result.

A message is an ``.npz``: the dataclass as strict JSON, and its fields of :data:`~ulsam_deploy.device.arrays.ArrayMap`
as arrays. It contains nothing executable, so reading one from a compromised process is safe.
Standard library and numpy; device-safe.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any, TypeVar

import numpy as np

from ulsam_deploy.device import codec, ending
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.errors import DefectError, ExportError, UlsamError
from ulsam_deploy.device.npz import DAMAGE, read_arrays, write_arrays

__all__ = ["MOST", "Reply", "asked", "packed", "perform", "performed", "received", "replied"]

Q = TypeVar("Q")
A = TypeVar("A")

#: Bytes of words and numbers, which are tens of kilobytes: evidence with a table of every output and block.
MOST = 64 << 20
_WORDS = "words"


@dataclass(frozen=True)
class _Call:
    """A call: ``function`` as ``module:name``; ``arrays``: by field of ``request``, the names of its arrays."""

    function: str
    request: Any
    arrays: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Answer:
    """``value`` and its ``arrays``, or the ``failure``, with a ``traceback`` where the exception was unexpected."""

    value: Any
    arrays: Mapping[str, tuple[str, ...]]
    failure: Failure | None
    traceback: str


@dataclass(frozen=True)
class Reply(typing.Generic[A]):
    """A received answer: a value, or an error, with a ``traceback`` where the exception was unexpected."""

    value: A | None
    error: UlsamError | None = None
    traceback: str = ""


def asked(function: Callable[[Q], A], request: Q, into: IO[bytes]) -> None:
    """Write the call of the module-level ``function`` with ``request``."""
    plain, names, arrays = _taken_apart(request)
    _write(_Call(f"{function.__module__}:{function.__qualname__}", plain, names), arrays, into)


def perform(call: IO[bytes], answer: IO[bytes], prepare: Callable[[], None] = lambda: None) -> None:
    """In the other process: execute ``call`` after ``prepare``, write the answer; an exception is an answer too."""
    try:
        prepare()
        words, arrays = _read(call)
        wanted = codec.decode(_Call, words, "a call", ExportError)
        module, _, name = wanted.function.partition(":")
        function = getattr(import_module(module), name)
        kind, _ = _signature(function)
        plain, names, beside = _taken_apart(function(_put_together(kind, wanted.request, wanted.arrays, arrays)))
        told = _Answer(plain, names, None, "")
    except Exception as error:
        told, beside = _failed(error), []
    _write(told, beside, answer)


def packed(function: Callable[[Q], A], request: Q) -> bytes:
    """The bytes that :func:`asked` writes."""
    call = io.BytesIO()
    asked(function, request, call)
    return call.getvalue()


def performed(call: bytes, prepare: Callable[[], None] = lambda: None) -> bytes:
    """The bytes that :func:`perform` writes for ``call``."""
    answer = io.BytesIO()
    perform(io.BytesIO(call), answer, prepare)
    return answer.getvalue()


def _failed(error: Exception) -> _Answer:
    foreseen = ending.in_words(error)
    failure = Failure.of(foreseen or DefectError(ending.short(error)))
    trace = "" if foreseen else "".join(traceback.format_exception(error))
    return _Answer(None, {}, failure, trace.encode(errors="backslashreplace").decode())


def replied(function: Callable[[Q], A], answer: IO[bytes]) -> Reply[A]:
    """Read what :func:`perform` wrote for ``function``; raises :class:`ExportError` for anything else."""
    words, arrays = _read(answer)
    told = codec.decode(_Answer, words, "the answer", ExportError)
    if told.failure:
        return Reply(None, told.failure.error(), told.traceback)
    _, kind = _signature(function)
    return Reply(_put_together(kind, told.value, told.arrays, arrays))


def received(reply: Reply[A]) -> A:
    """The value of ``reply``; raises its error. The traceback of a defect is saved to a file that the error names."""
    if reply.error is None:
        return typing.cast("A", reply.value)
    raise ending.kept_defect(reply.error.found, reply.traceback) if reply.traceback else reply.error


def _signature(function: Callable[[Any], Any]) -> tuple[type[Any], type[Any]]:
    """The classes of a function's only argument and of its result."""
    hints = typing.get_type_hints(function)
    return hints[next(iter(inspect.signature(function).parameters))], hints["return"]


def _array_fields(cls: type[Any]) -> list[str]:
    hints = typing.get_type_hints(cls)
    return [field.name for field in dataclasses.fields(cls) if hints[field.name] == ArrayMap]


def _taken_apart(value: Any) -> tuple[Any, dict[str, tuple[str, ...]], list[Array]]:
    """``value`` without its arrays in JSON form, the names of the arrays by field, and the arrays."""
    found = {name: getattr(value, name) for name in _array_fields(type(value))}
    plain = codec.encode(dataclasses.replace(value, **{name: {} for name in found}), type(value).__name__)
    return (
        plain,
        {name: tuple(some) for name, some in found.items()},
        [a for some in found.values() for a in some.values()],
    )


def _put_together(cls: type[A], plain: Any, names: Mapping[str, tuple[str, ...]], arrays: list[Array]) -> A:
    remaining = iter(arrays)
    value = codec.decode(cls, plain, cls.__name__, ExportError)
    if list(names) != _array_fields(cls) or sum(map(len, names.values())) != len(arrays):
        raise ExportError(f"{cls.__name__}: these are not its arrays")
    return dataclasses.replace(
        value, **{field: {name: next(remaining) for name in some} for field, some in names.items()}
    )  # type: ignore[type-var]


def _write(message: _Call | _Answer, arrays: list[Array], into: IO[bytes]) -> None:
    words = json.dumps(codec.encode(message, "a message")).encode()
    named = {f"{number}": array for number, array in enumerate(arrays)}
    write_arrays(into, {_WORDS: np.frombuffer(words, np.uint8), **named})


def _read(message: IO[bytes]) -> tuple[Any, list[Array]]:
    """The text of a message as parsed JSON, and its arrays in order."""
    try:
        stored = read_arrays(message)
        words = stored.pop(_WORDS).tobytes()
        arrays = [stored[f"{number}"] for number in range(len(stored))]
    except MemoryError:
        raise
    except DAMAGE as broken:
        if isinstance(broken.__cause__, MemoryError):  # nothing is wrong with the message: it does not fit here
            raise broken.__cause__ from broken
        raise ExportError(f"no message that can be read ({type(broken).__name__}: {broken})") from broken
    if len(words) > MOST:
        raise ExportError(f"{len(words)} bytes of words are more than {MOST}")
    return codec.loads(words, "a message", ExportError), arrays
