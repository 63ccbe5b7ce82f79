"""What onnx's native code does with an untrusted file, in a process of its own and within limits: parse it, check it,
inline its functions, infer its shapes.

A bug there, or a file that unfolds to more than it seems to, then ends in an error of the command, and never ends the
command itself. Sizes are counted (:mod:`.budget`) before anything is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ulsam_deploy.device import external_data
from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.third_party import words_of
from ulsam_deploy.load.onnx.budget import MAX_NODES, check_functions, check_outputs
from ulsam_deploy.load.onnx.errors import broken, line
from ulsam_deploy.load.onnx.functions import expanded

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OnnxFile", "Unfolded", "elsewhere", "unfolded"]

#: Before opset 11, these operators take their arguments in other places.
OLDEST = 11
#: A MobileNetV2 takes half a second, on a busy machine ten times as long.
SECONDS = 300.0
#: Bytes of address space: libraries and weights beside the model, and several copies of the model.
MEMORY, COPIES = 6 << 30, 8


@dataclass(frozen=True)
class OnnxFile:
    """The file to read. Operators that are not among ``operators`` become what the standard defines them to be."""

    path: str
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Unfolded:
    """A checked model without functions, of ``opset``.

    ``parts`` are bytes: the ``model`` with all its weights, and one of the ``nodes`` alone, of which some are replaced
    by definitions of the standard.
    """

    parts: ArrayMap
    opset: int

    @property
    def models(self) -> tuple[ModelProto, ModelProto]:
        """The two parts."""
        import onnx

        model, nodes = (onnx.load_model_from_string(self.parts[name].tobytes()) for name in ("model", "nodes"))
        return model, nodes


def elsewhere(path: Path, size: int) -> Unfolded:
    """The model at ``path``, of ``size`` bytes, unfolded in a process of its own.

    Raises the errors of :func:`unfolded`, and :class:`ExportError` where that process crashed or exceeded its limits.
    """
    from ulsam_deploy.load.onnx import known
    from ulsam_deploy.load.onnx.operators import OPERATORS  # needs torch, which finding the files of a model does not

    asked = OnnxFile(str(path.absolute()), (*OPERATORS, *known.OPERATORS))
    limits = Limits(SECONDS, MEMORY + COPIES * size, todo="export from the checkpoint itself, or use a sound file")
    return job.do(unfolded, asked, limits, f"reading {path.name}")


def unfolded(file: OnnxFile) -> Unfolded:
    """What runs in that process.

    Raises:
        OSError: The file cannot be opened.
        RefusedError: External data refers to a file outside the model's folder.
        ExportError: The file is damaged, or not a network of this kind.
    """
    path = Path(file.path)
    model = _parsed(path.name, contents(path, external_data.LARGEST))
    try:
        check_functions(model)
        check_outputs(model)
    except ValueError as error:
        raise broken(path.name, str(error)) from error
    _load_external(model, path)
    with words_of("the ONNX checker", f"accept {path.name}"):
        model = _checked(model)
    opset = _opset(model, path.name)
    with words_of("onnx", f"infer the shapes of {path.name}"):
        simple = expanded(model, file.operators)
    if len(simple.graph.node) > MAX_NODES:
        raise broken(path.name, f"it unfolds to more than {MAX_NODES} operators")
    return Unfolded({"model": _bytes(model), "nodes": _bytes(_nodes_of(simple))}, opset)


def _parsed(name: str, data: bytes) -> ModelProto:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf has its own exceptions for damaged files
        raise broken(name, "it is damaged or cut short, or is something else") from error
    if not model.graph.node or len(model.graph.node) > MAX_NODES:
        raise broken(name, f"it holds {len(model.graph.node)} operators")
    return model


def _load_external(model: ModelProto, path: Path) -> None:
    """Load all external weights, only from regular files beside the model and only within each file's size."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    for location in external_data.locations(model):
        external_data.inside(path, location)  # checks all of them before any is opened
    total = 0
    for tensor in external_data.tensors(model):
        if not uses_external_data(tensor):
            continue
        with words_of("onnx", f"read where {path.name} keeps its weights"):
            told = ExternalDataInfo(tensor)
        file = external_data.inside(path, told.location)
        start, length, size = told.offset or 0, told.length, file.stat().st_size
        length = size - start if length is None else length
        if start < 0 or length < 0 or start + length > size:
            raise broken(path.name, f"'{tensor.name}' lies beyond the end of '{file.name}'")
        total += length
        if total > external_data.LARGEST:
            raise broken(path.name, f"its weights have more than {external_data.LARGEST >> 30} GiB")
        with file.open("rb") as stream:
            stream.seek(start)
            tensor.raw_data = stream.read(length)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _checked(model: ModelProto) -> ModelProto:
    import onnx
    import onnx.inliner

    onnx.checker.check_model(model)
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _opset(model: ModelProto, name: str) -> int:
    import onnx

    others = sorted({line(node.domain) for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if others:
        raise ExportError(
            f"'{name}' uses operators of {', '.join(others)}, which nothing here defines",
            expected="operators of the ONNX standard",
            todo="export the model without custom operators",
        )
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ExportError(
            f"'{name}' is written in opset {opset}",
            expected=f"opset {OLDEST} to {newest}",
            todo="convert it with onnx.version_converter, or export it again",
        )
    return int(opset)


def _nodes_of(model: ModelProto) -> ModelProto:
    import onnx

    return onnx.ModelProto(graph=onnx.GraphProto(node=model.graph.node))


def _bytes(model: ModelProto) -> Array:
    return np.frombuffer(model.SerializeToString(), np.uint8)
