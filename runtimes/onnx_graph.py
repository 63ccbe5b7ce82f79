"""What an ONNX file refers to and what it holds inside, read before any engine opens it. Needs the onnx package."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ulsam_deploy.errors import ExportError, RefusedError, UnavailableError
from ulsam_deploy.third_party import installed, words_of


def files_of(path: Path) -> tuple[Path, ...]:
    """``path`` and every file of external data that it refers to.

    Raises :class:`RefusedError` for a location that is absolute, holds ``..``, or is a symlink, a hard link or no
    plain file: each of them reads a file that the model's author does not own.
    """
    locations = sorted({location for tensor in _tensors(_read(path)) for location in _locations(tensor)})
    return (path, *(_inside(path, location) for location in locations))


def exposed(path: Path) -> tuple[bytes, list[str]]:
    """The model of ``path`` with the result of every node as an output, and the names of all outputs."""
    model = _read(path)
    present = [output.name for output in model.graph.output]
    inner = [name for node in model.graph.node for name in node.output if name and name not in present]
    for name in inner:
        model.graph.output.add().name = name  # the engine works out its type and shape
    return bytes(model.SerializeToString()), present + inner


def _read(path: Path) -> Any:
    here = installed("onnx", extra="onnx")
    if not here.usable:
        raise UnavailableError(f"an ONNX file of unknown origin cannot be looked into: {here.detail}", todo=here.todo)
    import onnx

    with words_of("onnx", f"read {path.name}"):
        model = onnx.load(path, load_external_data=False)
    if not model.graph.node:
        raise ExportError(f"{path.name} holds no network", expected="an ONNX model with at least one operator")
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a protobuf message: weights, attributes, subgraphs, functions, training information."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from _tensors(item)


def _locations(tensor: Any) -> Iterator[str]:
    yield from (entry.value for entry in tensor.external_data if entry.key == "location")


def _inside(path: Path, location: str) -> Path:
    """The file at ``location`` beside ``path``, or :class:`RefusedError`."""
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
