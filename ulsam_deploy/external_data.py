"""Where an ONNX file says that its weights lie: every location is a stranger's word, checked before it is opened.

Standard library only; device-safe. A message is any protobuf message of the ``onnx`` package, which is not imported.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ulsam_deploy.errors import ExportError, RefusedError


def tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a protobuf message: weights, attributes, subgraphs, functions, training information."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from tensors(item)


def locations(message: Any) -> list[str]:
    """The locations of external data that ``message`` names, each once, sorted."""
    return sorted(
        {entry.value for tensor in tensors(message) for entry in tensor.external_data if entry.key == "location"}
    )


def inside(path: Path, location: str) -> Path:
    """The file at ``location`` beside the model ``path``.

    Raises :class:`RefusedError` for a location that is absolute, holds ``..``, or is a symlink, a hard link or no
    plain file: each of them reads a file that the model's author does not own; :class:`ExportError` when it is missing.
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
