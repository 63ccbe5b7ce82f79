"""The one reader and writer of array files: plain arrays only, no executable content, and bounded memory.

A file may be untrusted. A member's header states its size, which is compared with the bytes that are there before any
memory is allocated. Standard library and numpy; device-safe.
"""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.lib import format as npy

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.data_files import opened

__all__ = [
    "DAMAGE",
    "MAX_BYTES",
    "ArrayFile",
    "Rows",
    "UnsoundArraysError",
    "read_array",
    "read_arrays",
    "write_arrays",
]

MAX_BYTES = 2**31  # unpacked; a larger file is refused before anything is read

#: What damaged or hostile bytes can raise in zip, zlib, npy, JSON and the checks of their contents.
DAMAGE = (
    OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, EOFError, MemoryError,
    NotImplementedError, SyntaxError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_Source: TypeAlias = "Path | IO[bytes]"


class UnsoundArraysError(ValueError):
    """A file cannot be read, or contains anything but valid plain arrays; its message says why in one line."""


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except UnsoundArraysError:
        raise
    except DAMAGE as error:
        why = error.strerror if isinstance(error, OSError) else ""
        raise UnsoundArraysError(why or str(error).strip().partition("\n")[0] or type(error).__name__) from error


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, order and type from the header of an ``.npy`` of ``size`` bytes, which must all be there."""
    if stream.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
        raise ValueError("it does not begin as an .npy does")
    version = tuple(stream.read(2))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run any code and are never loaded")
    wanted, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or wanted != there:
        raise ValueError(f"it announces {wanted} bytes of {dtype} and has {there}")
    return shape, fortran, dtype


def _array(stream: IO[bytes], size: int) -> Array:
    start = stream.tell()
    _header(stream, size)
    stream.seek(start)
    found: Array = npy.read_array(stream, allow_pickle=False)
    return found


class ArrayFile:
    """An open ``.npz``; a context manager.

    Args:
        source: A path, or a seekable stream.

    Raises:
        UnsoundArraysError: Here and in every method, for anything but a valid archive of plain arrays.
    """

    def __init__(self, source: _Source) -> None:
        with _in_words(), ExitStack() as stack:
            plain = stack.enter_context(opened(source)) if isinstance(source, Path) else source
            self._archive = stack.enter_context(zipfile.ZipFile(plain))
            self._members = self._checked()
            self._stack = stack.pop_all()

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for entry in self._archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise UnsoundArraysError(f"its entry {name[:60]!a} is no array")
            if name in members:
                raise UnsoundArraysError(f"its array {name[:60]!a} is there twice")
            members[name] = entry
        return members

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arrays, in the order of the file."""
        return tuple(self._members)

    @property
    def size(self) -> int:
        """Bytes of all arrays, unpacked."""
        return sum(entry.file_size for entry in self._members.values())

    def read(self, name: str, most: int = MAX_BYTES) -> Array:
        """The whole array ``name``, of at most ``most`` bytes."""
        with _in_words():
            entry = self._members[name]
            _check_size(entry.file_size, most)
            with self._archive.open(entry) as stream:
                return _array(stream, entry.file_size)

    def rows(self, name: str) -> Rows:
        """The array ``name``, to be read a few rows at a time while this file is open."""
        with _in_words():
            entry = self._members[name]
            return Rows(self._stack.enter_context(self._archive.open(entry)), entry.file_size)


class Rows:
    """An array, read sequentially along its first axis: only the requested rows are in memory.

    Args:
        stream: An ``.npy``, from its first byte on.
        size: Its size in bytes.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        with _in_words():
            self.shape, self.fortran, self.dtype = _header(stream, size)

    def read(self, count: int) -> Array:
        """The next ``count`` rows; raises :class:`UnsoundArraysError` if there are fewer."""
        wanted = count * math.prod(self.shape[1:]) * self.dtype.itemsize
        with _in_words():
            data = self._stream.read(wanted)
            if len(data) < wanted:
                raise EOFError("the array ends too early")
            return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])


def read_arrays(source: _Source, *, own: bool = False) -> dict[str, Array]:
    """Every array of an ``.npz`` by name.

    Args:
        source: A path, or a seekable stream.
        own: Whether it is the user's own file: if larger than :data:`MAX_BYTES`, its unpacked size is not limited.

    Returns:
        The arrays, in the order of the file.

    Raises:
        UnsoundArraysError: For anything but a valid archive of plain arrays within the limit.
    """
    with ArrayFile(source) as file:
        _check_size(file.size, _most(source, own))
        return {name: file.read(name, file.size) for name in file.names}


def read_array(path: Path, *, own: bool = False) -> Array:
    """The array of an ``.npy``; ``own`` and exceptions as in :func:`read_arrays`."""
    with _in_words(), opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        _check_size(size, _most(path, own))
        return _array(stream, size)


def write_arrays(target: _Source, arrays: ArrayMap, *, compressed: bool = False) -> None:
    """Write an ``.npz``, with any names; its bytes are deterministic (arrays in order, no dates)."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(target, "w", kind) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                npy.write_array(stream, np.asanyarray(array), allow_pickle=False)


def _most(source: _Source, own: bool) -> int:
    """The limit of the unpacked size: a user's own file that is larger than the limit itself is no zip bomb."""
    with _in_words():
        return max(MAX_BYTES, source.stat().st_size) if own and isinstance(source, Path) else MAX_BYTES


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise UnsoundArraysError(f"it would unpack to {size} bytes, more than {most}")
