"""Reads an ONNX file into a checked graph of plain numbers and arrays. The file is untrusted: all sizes are checked.

Local functions are inlined by onnx's own inliner; floating-point weights of any width become float32, as everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ulsam_deploy.device import external_data
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import ExportError, UnavailableError, UsageError
from ulsam_deploy.device.hashing import digest_of
from ulsam_deploy.device.printing import shown
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.load.onnx import known, names
from ulsam_deploy.load.onnx.budget import MAX_NODES, check_functions, check_outputs
from ulsam_deploy.load.onnx.functions import expanded

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


SUFFIX = ".onnx"
EXPECTED = "an ONNX model of a compact CNN"
#: The largest file that protobuf reads; also the limit on all weights in other files together.
MAX_BYTES = 2 << 30
#: Before opset 11, these operators take their arguments in other places.
OLDEST = 11
_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
_WHOLE = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8", "BOOL")


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; ``None`` is a dynamic axis. The first axis is the batch."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
    """One operator: ``path`` is its module path in the network, ``name`` its name in the file."""

    op: str
    name: str
    path: tuple[str, ...]
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """A model in the form in which it is built. ``weights`` by name: float32, float64 for a single number, or integers.

    ``kinds`` are the types of the weights as the file names them, in lower case. ``proto`` is the model with all its
    data, for the reference; ``notes`` are sentences for the user.
    """

    nodes: tuple[Node, ...]
    weights: Mapping[str, Array]
    kinds: Mapping[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    opset: int
    producer: str
    proto: ModelProto
    notes: tuple[str, ...]


def is_onnx(path: Path) -> bool:
    """Whether ``path`` is read as an ONNX model; decided by its suffix, because the format has no signature."""
    return path.suffix.lower() == SUFFIX


def digest(path: Path) -> str:
    """SHA-256, in hexadecimal, of the model and of every file of weights that it refers to."""
    data = _contents(path)
    files = [external_data.inside(path, location) for location in external_data.locations(_parse(path, data))]
    sha = hashlib.sha256(data)
    for file in files:
        sha.update(f"{file.name}\0{digest_of(file)}\n".encode())
    return sha.hexdigest()


def read(path: Path) -> Graph:
    """Read and check the model at ``path``.

    Raises:
        UsageError: The file cannot be opened.
        RefusedError: External data refers to a file outside the model's folder.
        ExportError: The file is damaged, or not a network of this kind.
        UnavailableError: The ``onnx`` package is missing.
    """
    with words_of("the reader", f"make sense of {path.name}"):  # an untrusted file may cause any error
        return _read(path)


def _read(path: Path) -> Graph:
    model = _parse(path, _contents(path))
    try:
        check_functions(model)
        check_outputs(model)
    except ValueError as error:
        raise _broken(path, str(error)) from error
    _load_external(model, path)
    with words_of("the ONNX checker", f"accept {path.name}"):
        model = _checked(model)
    opset = _opset(model, path)
    weights = {tensor.name: _array(tensor, path) for tensor in model.graph.initializer}
    kinds = {tensor.name: _kind(tensor).lower() for tensor in model.graph.initializer}
    nodes = []
    from ulsam_deploy.load.onnx.operators import OPERATORS  # needs torch, which finding the files of a model does not

    simple = expanded(model, {*OPERATORS, *known.OPERATORS})
    if len(simple.graph.node) > MAX_NODES:
        raise _broken(path, f"it unfolds to more than {MAX_NODES} operators")
    for proto in simple.graph.node:
        if proto.op_type == "Constant":
            weights[proto.output[0]] = _constant(proto, path)
        elif proto.op_type == "Identity" and proto.input[0] in weights:
            weights[proto.output[0]] = weights[proto.input[0]]  # exporters write a module's second use in this way
            kinds[proto.output[0]] = kinds.get(proto.input[0], "")
        else:
            nodes.append(_node(proto, opset))
    wide = sorted({_kind(t) for t in model.graph.initializer if _kind(t) in _FLOATS[1:]})
    return Graph(
        nodes=tuple(nodes),
        weights=weights,
        kinds=kinds,
        inputs=tuple(_port(value, path) for value in model.graph.input if value.name not in weights),
        outputs=tuple(value.name for value in model.graph.output),
        opset=opset,
        producer=_line(f"{model.producer_name} {model.producer_version}"),
        proto=model,
        notes=(*(f"weights of type {kind.lower()} were converted to float32" for kind in wide), *_quantizers(nodes)),
    )


def _quantizers(nodes: Sequence[Node]) -> Iterator[str]:
    count = sum(node.op == "QuantizeLinear" for node in nodes)
    if count:
        yield f"its {count} quantizers round by their own scales, in floating point: an fp32 artifact has no int8"


def _contents(path: Path) -> bytes:
    try:
        return contents(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be opened: {error.strerror}", expected=EXPECTED) from error


def _parse(path: Path, data: bytes) -> ModelProto:
    here = installed("onnx", extra="onnx")
    if not here.usable:
        raise UnavailableError(f"reading an ONNX model needs onnx: {here.detail}", todo=here.todo)
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf has its own exceptions for damaged files
        raise _broken(path, "it is damaged or cut short, or is something else") from error
    if not model.graph.node or len(model.graph.node) > MAX_NODES:
        raise _broken(path, f"it holds {len(model.graph.node)} operators")
    return model


def _broken(path: Path, why: str) -> ExportError:
    return ExportError(
        f"'{path.name}' cannot be read: {_line(why)}", expected=EXPECTED, todo="export or copy the model again"
    )


def _line(text: object) -> str:
    """Make one short line of text from an untrusted file, because it is printed to a terminal."""
    line = " ".join(str(text).split())[:300]
    return shown(line)


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
            raise _broken(path, f"'{tensor.name}' lies beyond the end of '{file.name}'")
        total += length
        if total > MAX_BYTES:
            raise _broken(path, f"its weights have more than {MAX_BYTES >> 30} GiB")
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


def _opset(model: ModelProto, path: Path) -> int:
    import onnx

    others = sorted({_line(node.domain) for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if others:
        raise ExportError(
            f"'{path.name}' uses operators of {', '.join(others)}, which nothing here defines",
            expected="operators of the ONNX standard",
            todo="export the model without custom operators",
        )
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ExportError(
            f"'{path.name}' is written in opset {opset}",
            expected=f"opset {OLDEST} to {newest}",
            todo="convert it with onnx.version_converter, or export it again",
        )
    return int(opset)


def _kind(tensor: TensorProto) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(tensor.data_type))


def _array(tensor: TensorProto, path: Path) -> Array:
    """The values of one tensor; checks, before anything is allocated, that it holds as many as its shape says."""
    from onnx import numpy_helper

    if _kind(tensor) not in _FLOATS + _WHOLE:
        raise _broken(path, f"'{tensor.name}' is of type {_kind(tensor).lower()}: quantized models are not read")
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, MemoryError) as error:
        raise _broken(path, f"'{tensor.name}' does not hold what its shape says") from error
    if _kind(tensor) in _WHOLE:
        return array
    if not np.isfinite(array.astype(np.float64)).all() and array.size > 1:
        raise _broken(path, f"'{tensor.name}' has weights that are not finite")
    return array.astype(np.float64 if array.size == 1 else np.float32)


def _constant(node: Any, path: Path) -> Array:
    from onnx import helper

    (attribute,) = node.attribute
    if attribute.HasField("t"):
        return _array(attribute.t, path)
    if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise _broken(path, f"the constant '{node.name}' is not a plain tensor")
    value = np.asarray(helper.get_attribute_value(attribute))
    single = np.float64 if value.size == 1 else np.float32
    return value.astype(single if "float" in attribute.name else np.int64)


def _node(proto: Any, opset: int) -> Node:
    from onnx import helper

    given = {entry.name: helper.get_attribute_value(entry) for entry in proto.attribute}
    return Node(
        op=_line(proto.op_type),
        name=_line(proto.name or (proto.output[0] if proto.output else "")),
        path=names.path_of(proto),
        attributes={**_fractions(proto.op_type, opset), **given},
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
    )


def _fractions(op: str, opset: int) -> dict[str, float]:
    """The defaults of fractional attributes, such as an epsilon, with the digits that the standard's float32 has."""
    import onnx

    if not onnx.defs.has(op):
        return {}
    defaults = (one.default_value for one in onnx.defs.get_schema(op, opset, "").attributes.values())
    return {one.name: one.f for one in defaults if one.type == onnx.AttributeProto.FLOAT}


def _port(value: Any, path: Path) -> Port:
    import onnx

    kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
    if onnx.TensorProto.DataType.Name(kind) not in _FLOATS:
        said = onnx.TensorProto.DataType.Name(kind).lower()
        raise ExportError(
            f"input '{_line(value.name)}' of '{path.name}' is of type {said}",
            expected="floating-point inputs",
            todo="cut the model behind its conversion to floating point",
        )
    shape = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)
    if not shape:
        raise _broken(path, f"the input '{value.name}' has no batch axis")
    return Port(value.name, shape)
