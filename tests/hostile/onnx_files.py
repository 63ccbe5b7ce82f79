"""ONNX files, as MODEL and as an artifact of unknown origin: weights elsewhere, tensors that lie, damage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import Input

TRAPS = ("absolute", "parent", "windows", "inner parent", "symlink", "folder link", "hard link", "pipe", "device",
         "missing", "empty", "nul", "memory address", "no UTF-8")  # fmt: skip


def inputs(stock: Path) -> Iterator[Input]:
    """Each file by both ways in."""
    (stock / "model.pt").write_bytes(b"")  # never read: the artifact is refused before
    files: dict[str, Callable[[Path], object]] = {f"external data: {trap}": partial(external, trap) for trap in TRAPS}
    files |= {f"in a subgraph: {trap}": partial(external, trap, nested=True) for trap in ("absolute", "parent")}
    files |= {f"tensor: {name}": partial(_tensor, change) for name, change in TENSORS.items()}
    whole = _model([_weight()]).SerializeToString()
    files |= {f"cut at {cut}": partial(_write, whole[:cut]) for cut in range(0, len(whole), 16)}
    files["endless length"] = partial(_write, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + whole)
    files["deep message"] = partial(_write, _deep(2000))
    for name, make in files.items():
        yield Input("ONNX as MODEL", name, partial(_model_words, make))
        yield Input("ONNX as artifact", name, partial(_artifact_words, make, stock))


def _model_words(make: Callable[[Path], object], folder: Path) -> list[str]:
    make(folder)
    return ["export", "model.onnx", "--target", "openvino", "--output", "../out/out.bundle", "--no-cache"]


def _artifact_words(make: Callable[[Path], object], stock: Path, folder: Path) -> list[str]:
    make(folder)
    return ["verify", "--against", str(stock / "model.pt"), "model.onnx", "--no-cache", "--memory-limit", "4"]


def _write(data: bytes, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(data)


def _weight() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")


def _graph(weights: list[Any]) -> Any:
    from onnx import TensorProto, helper

    x, y = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4])] for name in "xy")
    return helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", x, y, weights)


def _model(weights: list[Any]) -> Any:
    from onnx import helper

    return helper.make_model(_graph(weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(trap: str, folder: Path, *, nested: bool = False) -> None:
    """A model whose one weight lies where it should not."""
    from onnx import TensorProto, helper

    outside = folder.parent / "outside"
    secret = outside / "secret.bin"
    location = {
        "absolute": str(secret), "parent": "../outside/secret.bin", "windows": "C:\\secret.bin",
        "inner parent": "a/../../outside/secret.bin", "folder link": "link/secret.bin", "device": "/dev/zero",
        "missing": "none.bin", "empty": "", "nul": "w.bin\0", "memory address": "*/_ORT_MEM_ADDR_/*",
        "no UTF-8": "../QQQQ.bin",
    }.get(trap, "w.bin")  # fmt: skip
    if trap == "symlink":
        (folder / "w.bin").symlink_to(secret)
    elif trap == "folder link":
        (folder / "link").symlink_to(outside, target_is_directory=True)
    elif trap == "hard link":
        os.link(secret, folder / "w.bin")
    elif trap == "pipe":
        os.mkfifo(folder / "w.bin")
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    model = _model([weight])
    if nested:
        inner = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["z"])], "inner", [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])], [weight],
        )  # fmt: skip
        flag = helper.make_tensor("c", TensorProto.BOOL, [], [True])
        model = _model([_weight(), flag])
        model.graph.node.add().CopyFrom(helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=inner))
    _write(model.SerializeToString().replace(b"QQQQ", b"\x91\x8a\x8b\x87"), folder)


def _tensor(change: Callable[[Any], object], folder: Path) -> None:
    weight = _weight()
    change(weight)
    _write(_model([weight]).SerializeToString(), folder)


def _dims(*dims: int) -> Callable[[Any], None]:
    def change(weight: Any) -> None:
        del weight.dims[:]
        weight.dims.extend(dims)

    return change


#: What a tensor says of itself against what it holds.
TENSORS: dict[str, Callable[[Any], object]] = {
    "larger than its data": _dims(1 << 40),
    "somewhat larger": _dims(400),
    "smaller": _dims(2),
    "overflowing": _dims(1 << 33, 1 << 33),
    "negative": _dims(-4),
    "a million axes": _dims(*[1] * 1_000_000),
    "unknown type": lambda weight: setattr(weight, "data_type", 77),
    "no type": lambda weight: setattr(weight, "data_type", 0),
}


def _deep(depth: int) -> bytes:
    """A graph inside an attribute inside a node inside a graph, and so on; lengths are written by hand."""

    def field(number: int, body: bytes) -> bytes:
        size, length = len(body), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + body

    body = b""
    for _ in range(depth):
        body = field(1, field(5, field(6, body)))
    return b"\x08\x08" + field(7, body)
