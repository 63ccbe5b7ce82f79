"""Reads an ONNX file into a checked graph of plain numbers and arrays. The file is untrusted: all sizes are checked.

What needs onnx's native code happens in another process (:mod:`.unfolding`). Floating-point weights of any width become
float32, as everywhere.
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
from ulsam_deploy.device.third_party import installed, words_of
from ulsam_deploy.load.onnx import names
from ulsam_deploy.load.onnx.errors import EXPECTED, broken, line
from ulsam_deploy.load.onnx.unfolding import Unfolded, elsewhere

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SUFFIX = ".onnx"
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
    sha = hashlib.sha256(data)
    for file in _weights_of(path, data):
        sha.update(f"{file.name}\0{digest_of(file)}\n".encode())
    return sha.hexdigest()


def read(path: Path) -> Graph:
    """Read and check the model at ``path``.

    Raises:
        UsageError: The file cannot be opened.
        RefusedError: External data refers to a file outside the model's folder.
        ExportError: The file is damaged, or not a network of this kind, or reading it takes too much.
        UnavailableError: The ``onnx`` package is missing.
    """
    here = installed("onnx", extra="onnx")
    if not here.usable:
        raise UnavailableError(f"reading an ONNX model needs onnx: {here.detail}", todo=here.todo)
    data = _contents(path)
    _weights_of(path, data)  # most damage is found by this, long before another process has started
    with words_of("the reader", f"make sense of {path.name}"):  # an untrusted file may cause any error
        return graph_of(elsewhere(path, len(data)), path)


def graph_of(unfolded: Unfolded, path: Path) -> Graph:
    """The graph of the model at ``path``; raises as :func:`read` does."""
    model, nodes_of = unfolded.models
    weights = {tensor.name: _array(tensor, path) for tensor in model.graph.initializer}
    kinds = {tensor.name: _kind(tensor).lower() for tensor in model.graph.initializer}
    nodes = []
    for proto in nodes_of.graph.node:
        if proto.op_type == "Constant":
            weights[proto.output[0]] = _constant(proto, path)
        elif proto.op_type == "Identity" and proto.input[0] in weights:
            weights[proto.output[0]] = weights[proto.input[0]]  # exporters write a module's second use in this way
            kinds[proto.output[0]] = kinds.get(proto.input[0], "")
        else:
            nodes.append(_node(proto, unfolded.opset))
    wide = sorted({_kind(t) for t in model.graph.initializer if _kind(t) in _FLOATS[1:]})
    return Graph(
        nodes=tuple(nodes),
        weights=weights,
        kinds=kinds,
        inputs=tuple(_port(value, path) for value in model.graph.input if value.name not in weights),
        outputs=tuple(value.name for value in model.graph.output),
        opset=unfolded.opset,
        producer=line(f"{model.producer_name} {model.producer_version}"),
        proto=model,
        notes=(*(f"weights of type {kind.lower()} were converted to float32" for kind in wide), *_quantizers(nodes)),
    )


def _quantizers(nodes: Sequence[Node]) -> Iterator[str]:
    count = sum(node.op == "QuantizeLinear" for node in nodes)
    if count:
        yield f"its {count} quantizers round by their own scales, in floating point: an fp32 artifact has no int8"


def _contents(path: Path) -> bytes:
    try:
        return contents(path, external_data.LARGEST)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be opened: {error.strerror}", expected=EXPECTED) from error


def _weights_of(path: Path, data: bytes) -> list[Path]:
    """The files of external data, by name."""
    try:
        places = sorted(external_data.stored_locations(data))
    except ValueError as error:
        raise broken(path.name, str(error)) from error
    return [external_data.inside(path, place) for place in places]


def _kind(tensor: TensorProto) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(tensor.data_type))


def _array(tensor: TensorProto, path: Path) -> Array:
    """The values of one tensor; checks, before anything is allocated, that it holds as many as its shape says."""
    from onnx import numpy_helper

    if _kind(tensor) not in _FLOATS + _WHOLE:
        raise broken(path.name, f"'{tensor.name}' is of type {_kind(tensor).lower()}: quantized models are not read")
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, MemoryError) as error:
        raise broken(path.name, f"'{tensor.name}' does not hold what its shape says") from error
    if _kind(tensor) in _WHOLE:
        return array
    if not np.isfinite(array.astype(np.float64)).all() and array.size > 1:
        raise broken(path.name, f"'{tensor.name}' has weights that are not finite")
    return array.astype(np.float64 if array.size == 1 else np.float32)


def _constant(node: Any, path: Path) -> Array:
    from onnx import helper

    (attribute,) = node.attribute
    if attribute.HasField("t"):
        return _array(attribute.t, path)
    if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise broken(path.name, f"the constant '{node.name}' is not a plain tensor")
    value = np.asarray(helper.get_attribute_value(attribute))
    single = np.float64 if value.size == 1 else np.float32
    return value.astype(single if "float" in attribute.name else np.int64)


def _node(proto: Any, opset: int) -> Node:
    from onnx import helper

    given = {entry.name: helper.get_attribute_value(entry) for entry in proto.attribute}
    return Node(
        op=line(proto.op_type),
        name=line(proto.name or (proto.output[0] if proto.output else "")),
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
            f"input '{line(value.name)}' of '{path.name}' is of type {said}",
            expected="floating-point inputs",
            todo="cut the model behind its conversion to floating point",
        )
    shape = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)
    if not shape:
        raise broken(path.name, f"the input '{value.name}' has no batch axis")
    return Port(value.name, shape)
