"""Artifacts that never end, crash their engine, or compute what no sound one does; in each command that runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.errors import Exit

from ..ulsam_deploy.handmade import make_bundle
from .bundles import copied, resealed
from .inputs import Input

SECONDS = 60.0
#: Too long, too much or crashed (3), or other numbers (1); nothing that was timed may be a success.
CODES = frozenset({int(Exit.EXPORT_FAILED), int(Exit.CHECK_FAILED), int(Exit.REFUSED)})
LIMITS = ["--time-limit", "4", "--memory-limit", "4"]
COMMANDS: dict[str, list[str]] = {
    "verify": ["verify", "model.bundle", *LIMITS],
    "verify --data": ["verify", "model.bundle", "--data", "data.npz", *LIMITS],
    "bench": ["bench", "model.bundle", "--profile", "quick", "--rounds", "1", *LIMITS],
    "bench --inputs": ["bench", "model.bundle", "--profile", "quick", "--rounds", "1", "--inputs", "in.npz", *LIMITS],
}
WIDTH = 16


def inputs(stock: Path) -> Iterator[Input]:
    """Each artifact by each command."""
    bundle = make_bundle(stock / "loops.bundle", width=WIDTH, batch=1).root
    for name, (target, members) in artifacts().items():
        for command, words in COMMANDS.items():
            make = partial(_put, bundle, target, members, words)
            yield Input("an artifact that does not behave", f"{command}: {name}", make, CODES, SECONDS)


def _put(bundle: Path, target: str, members: dict[str, bytes], words: list[str], folder: Path) -> list[str]:
    root = copied(bundle, folder)
    for name, data in members.items():
        resealed(root, name, data)
    np.savez(folder / "data.npz", x=np.zeros((4, WIDTH), np.float32), labels=np.arange(4))
    np.savez(folder / "in.npz", x=np.zeros((1, WIDTH), np.float32))
    assert json.loads((root / "manifest.json").read_text())
    return [*words[:2], "--target", target, *words[2:]]


def artifacts() -> dict[str, tuple[str, dict[str, bytes]]]:
    """By name: the target, and the members to put in place of the sound ones."""
    found = {
        "an ONNX Loop that never ends": ("onnx", {"onnx/model.onnx": onnx_loop()}),
        "an ONNX Loop that grows": ("onnx", {"onnx/model.onnx": onnx_loop(grows=True)}),
        "ONNX's INT_MIN / -1": ("onnx", {"onnx/model.onnx": onnx_divides()}),
        "a TFLite WHILE that never ends": ("tflite", {"tflite/model.tflite": tflite_while(1)}),
        "a TFLite WHILE inside itself": ("tflite", {"tflite/model.tflite": tflite_while(2)}),
    }
    xml, weights = openvino_loop()
    found["an OpenVINO Loop that never ends"] = ("openvino", {"openvino/model.xml": xml, "openvino/model.bin": weights})
    return found


def _onnx(nodes: list[Any], weights: list[Any]) -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    return data


def onnx_loop(*, grows: bool = False) -> bytes:
    """2^62 rounds; with ``grows``, each doubles what it carries."""
    from onnx import TensorProto, helper, numpy_helper

    ports = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, ["a", "b"]),
    ]
    step = helper.make_node("Concat", ["s", "s"], ["t"], axis=0) if grows else helper.make_node("Relu", ["s"], ["t"])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), step], "body", ports,
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", TensorProto.FLOAT, ["e", "f"])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["n", "", "x"], ["z"], body=body),
        helper.make_node("ReduceMax", ["z"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    return _onnx(nodes, [numpy_helper.from_array(np.array(1 << 62), "n")])


def onnx_divides() -> bytes:
    """The division that stops a processor with SIGFPE."""
    from onnx import TensorProto, helper, numpy_helper

    low = np.full((1, WIDTH), np.iinfo(np.int32).min, np.int32)
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node("Mul", ["i", "zero"], ["o"]),
        helper.make_node("Add", ["o", "low"], ["l"]),
        helper.make_node("Add", ["o", "minus"], ["m"]),
        helper.make_node("Div", ["l", "m"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"low": low, "minus": np.full((1, WIDTH), -1, np.int32), "zero": np.zeros((1, WIDTH), np.int32)}
    return _onnx(nodes, [numpy_helper.from_array(array, name) for name, array in weights.items()])


def tflite_while(body: int) -> bytes:
    """A WHILE whose condition is always true; ``body`` 2 is a graph with the same WHILE in it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, kind: int, shape: list[int], buffer: int = 0) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kind, buffer
        return made

    def operator(code: int, ins: list[int], outs: list[int]) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, ins, outs
        return made

    def graph(tensors: list[Any], ins: list[int], outs: list[int], operators: list[Any]) -> Any:
        made = schema.SubGraphT()
        made.tensors, made.inputs, made.outputs, made.operators = tensors, ins, outs, operators
        return made

    real = schema.TensorType.FLOAT32
    loop = operator(0, [0], [1])
    loop.builtinOptionsType, loop.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
    loop.builtinOptions.condSubgraphIndex, loop.builtinOptions.bodySubgraphIndex = 1, 2
    shape = [1, WIDTH]
    main = graph([tensor("x", real, shape), tensor("y", real, shape)], [0], [1], [loop])
    yes = graph([tensor("a", real, shape), tensor("t", schema.TensorType.BOOL, [1], 1)], [0], [1], [])
    again = operator(0, [0], [1])
    again.builtinOptionsType, again.builtinOptions = loop.builtinOptionsType, loop.builtinOptions
    inner = again if body == 2 else operator(1, [0], [1])
    turn = graph([tensor("b", real, shape), tensor("c", real, shape)], [0], [1], [inner])
    codes = []
    for number in (schema.BuiltinOperator.WHILE, schema.BuiltinOperator.ABS):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        codes.append(code)
    true = schema.BufferT()
    true.data = np.array([1], np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, codes, [main, yes, turn]
    model.buffers = [schema.BufferT(), true]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def openvino_loop() -> tuple[bytes, bytes]:
    """The ONNX loop in OpenVINO's own format."""
    import tempfile

    from ulsam_deploy.device.third_party import load_openvino

    openvino = load_openvino()
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(openvino.Core().read_model(onnx_loop()), Path(folder, "model.xml"), compress_to_fp16=False)
        return Path(folder, "model.xml").read_bytes(), Path(folder, "model.bin").read_bytes()
