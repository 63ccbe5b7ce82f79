"""Reads from an ONNX file which files it refers to and its inner values, without an engine. Needs the onnx package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.device.external_data import LARGEST, inside, locations
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.device.types import StepGrid


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


def grids(path: Path) -> dict[str, StepGrid]:
    """The steps of what each ``DequantizeLinear`` of the model at ``path`` gives, activations and weights."""
    graph = _read(path).graph
    constants = _constants(graph)
    rounding = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    found = {}
    for node in graph.node:
        made = rounding.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if node.op_type != "DequantizeLinear" or (made is None and node.input[0] not in constants):
            continue
        # the operator that rounds says where the value behind has to lie, whatever the other one makes of it
        scale, zero = (constants.get(name) for name in (*(made or node).input, "")[1:3])
        if scale is not None and zero is not None and zero.dtype.kind in "iu" and zero.dtype.itemsize == 1:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            found[node.output[0]] = _grid(scale, zero, axis, made.input[0] if made else "")
    return found


def _grid(scale: Array, zero: Array, axis: int, source: str) -> StepGrid:
    kinds, steps = np.iinfo(zero.dtype), scale.astype(np.float64).ravel()
    places = zero.astype(np.float64).ravel()
    low, high = ((end - places) * steps for end in (kinds.min, kinds.max))
    return StepGrid(tuple(steps.tolist()), tuple(low.tolist()), tuple(high.tolist()), axis, source)


def _constants(graph: Any) -> dict[str, Array]:
    """The constants that the file itself holds, by name."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in graph.initializer if tensor.data_location != tensor.EXTERNAL}
    for node in graph.node:
        if node.op_type == "Constant":
            held |= dict.fromkeys(node.output, node.attribute[0].t)
    return {name: numpy_helper.to_array(tensor) for name, tensor in held.items()}


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
