"""The locations of an ONNX file's external weights: each is untrusted, and is checked before it is opened.

Standard library only; device-safe. A message is any protobuf message of the ``onnx`` package, which is not imported.
Boards don't have that package, so the few relevant fields can also be read directly from the bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from itertools import repeat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ulsam_deploy.device.errors import ExportError, RefusedError

#: The largest ONNX file, in bytes: protobuf itself reads no more.
LARGEST = 2 << 30


def tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a protobuf message: weights, attributes, subgraphs, functions, training information."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from tensors(item)


def locations(message: object) -> list[str]:
    """The locations of external data that ``message`` names, each once, sorted."""
    return sorted(
        # protobuf gives bytes if they are not UTF-8; then they are a file name as they are
        {os.fsdecode(entry.value) for t in tensors(message) for entry in t.external_data if entry.key == "location"}
    )


#: Field numbers of onnx.proto that lead to a tensor, and what each leads to.
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {13: "entry"},
}
#: Deeper than any network; protobuf itself refuses a little more.
_DEEPEST = 100
#: More than any network has: 10,000 operators have 100,000, and each takes a microsecond.
_MOST_FIELDS = 4_000_000


def stored_locations(data: bytes) -> set[str]:
    """As :func:`locations`, from the bytes of an ONNX file; raises :class:`ValueError` for an invalid message."""
    return _locations(memoryview(data), "model", 0, repeat(None, _MOST_FIELDS))


def _locations(data: memoryview, kind: str, depth: int, left: Iterator[None]) -> set[str]:
    """``left`` is used up by one for each field."""
    if depth > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} levels deep")
    if kind == "entry":
        pair = {number: os.fsdecode(bytes(value)) for number, value in _messages(data, left)}
        return {pair.get(2, "")} if pair.get(1) == "location" else set()
    found: set[str] = set()
    for number, value in _messages(data, left):
        if number in _FIELDS[kind]:
            found |= _locations(value, _FIELDS[kind][number], depth + 1, left)
    return found


def _messages(data: memoryview, left: Iterator[None]) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of every length-delimited field of one message; other fields are skipped."""
    place = 0
    while place < len(data):
        if next(left, left) is left:
            raise ValueError(f"the file has more than {_MOST_FIELDS:,} fields")
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == 0:
            _, place = _varint(data, place)
        elif wire == 2:
            size, place = _varint(data, place)
            if size > len(data) - place:
                raise ValueError("the file is cut off")
            yield tag >> 3, data[place : place + size]
            place += size
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire}, which onnx.proto does not use")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("the file is cut off")
        value |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return value, place
    raise ValueError("a number of more than ten bytes")


def inside(path: Path, location: str) -> Path:
    """The file at ``location`` beside the model ``path``.

    Raises :class:`RefusedError` for a location that is absolute, contains ``..``, or is a symlink, a hard link or not a
    plain file, because each could read a file that is not the author's; :class:`ExportError` if it is missing.
    """
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or "\0" in location or posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise _refused(path, location, "leads out of the model's folder")
    file = path.parent
    for part in posix.parts:
        file /= part
        if file.is_symlink():
            raise _refused(path, location, "is a symbolic link")
    try:
        status = os.lstat(file)
    except OSError as error:
        raise ExportError(
            f"{path.name} keeps weights in {location!a}, which cannot be read: {error.strerror}",
            expected="the data file beside the model",
            todo="copy all files of the model",
        ) from error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise _refused(path, location, "is not a plain file with one name")
    return file


def _refused(path: Path, location: str, why: str) -> RefusedError:
    return RefusedError(
        f"{path.name} keeps weights in {location!a}, which {why}",
        expected="external data in plain files beside the model",
        todo="if the file is yours, save the model again as one file",
    )
