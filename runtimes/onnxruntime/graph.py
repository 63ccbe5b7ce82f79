"""Reads from an ONNX file which files it refers to and its inner values, without an engine. Needs the onnx package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.external_data import LARGEST, inside, locations
from ulsam_deploy.device.third_party import installed, words_of


def files_of(path: Path) -> tuple[Path, ...]:
    """``path`` and every file of external data that it refers to.

    Raises :class:`~ulsam_deploy.device.errors.RefusedError` for a location outside the model's folder.
    """
    return (path, *(inside(path, location) for location in locations(_read(path))))


def exposed(path: Path) -> tuple[bytes, list[str]]:
    """The model at ``path`` with the result of every node as an output, and their names in execution order."""
    model = _read(path)
    present = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name]
    for name in names:
        if name not in present:
            model.graph.output.add().name = name  # the engine infers its type and shape
    return bytes(model.SerializeToString()), names


def _read(path: Path) -> Any:
    here = installed("onnx", todo="pip install onnx")
    if not here.usable:
        raise UnavailableError(f"an ONNX file of unknown origin cannot be looked into: {here.detail}", todo=here.todo)
    import onnx

    with words_of("onnx", f"read {path.name}"):
        model = onnx.load_model_from_string(contents(path, LARGEST))
    if not model.graph.node:
        raise ExportError(f"{path.name} holds no network", expected="an ONNX model with at least one operator")
    return model
