"""A bundle made by hand in about a second, without torch: one matrix product for ONNX Runtime, OpenVINO and LiteRT.

For tests of what happens around a network (runner, bench, gate, remote), to which the network itself doesn't matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.bundle import Bundle, BundleWriter, Evidence, Manifest, ModelCard
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.third_party import load_openvino
from ulsam_deploy.device.types import Artifact, EvidenceLevel, TensorSpec

TARGETS = ("onnx", "openvino", "tflite")
FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin"), "tflite": ("model.tflite",)}


def make_bundle(
    output: Path, targets: tuple[str, ...] = TARGETS, batch: int | None = None, width: int = 64, layers: int = 1
) -> Bundle:
    """``batch`` ``None``: dynamic. ``layers`` products of ``width`` x ``width`` make a network that takes longer."""
    weights = np.random.default_rng(0).normal(size=(width, width)) / width**0.5
    inputs, outputs = (TensorSpec("x", (batch, width)),), (TensorSpec("y", (batch, width)),)
    with BundleWriter(output) as writer:
        records = []
        for target in targets:
            (writer.folder / target).mkdir()
            _MAKERS[target](writer.folder / target, weights.astype(np.float32), batch, layers)
            made = Artifact(target, "fp32", FILES[target], inputs, outputs, EvidenceLevel.COMPILED, {})
            records.append(writer.artifact(made, target, Evidence(EvidenceLevel.COMPILED, Verdict.UNVERIFIED)))
        _golden(weights.astype(np.float32), layers).save(writer.folder / "golden.npz")
        card = ModelCard("dense", "0" * 64, "dense", {}, inputs, outputs, (), (), weights.size)
        return writer.commit(Manifest(card, tuple(records), writer.record("golden.npz")))


def _golden(weights: np.ndarray[Any, Any], layers: int) -> Golden:
    probes = np.random.default_rng(1).normal(size=(8, len(weights))).astype(np.float32)

    def run(dtype: Any, order: slice) -> dict[str, np.ndarray[Any, Any]]:
        y = probes.astype(dtype)
        for _ in range(layers):
            y = np.maximum(y[:, order] @ weights.astype(dtype)[order], 0)
        return {"y": y}

    plain, backwards = slice(None), slice(None, None, -1)
    controls = [run(np.float32, plain), run(np.float32, backwards)]
    names = [f"probe {i}" for i in range(len(probes))]
    return Golden.build({"x": probes}, run(np.float64, plain), [], controls, blocks=(), probes=names)


def _onnx_model(weights: np.ndarray[Any, Any], batch: int | None, layers: int) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch or "N", len(weights)]) for name in "xy"]
    nodes, last = [], "x"
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"product{layer}"]))
        last = "y" if layer == layers - 1 else f"relu{layer}"
        nodes.append(helper.make_node("Relu", [f"product{layer}"], [last]))
    graph = helper.make_graph(nodes, "dense", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _onnx(folder: Path, weights: np.ndarray[Any, Any], batch: int | None, layers: int) -> None:
    (folder / "model.onnx").write_bytes(_onnx_model(weights, batch, layers).SerializeToString())


def _openvino(folder: Path, weights: np.ndarray[Any, Any], batch: int | None, layers: int) -> None:
    openvino = load_openvino()
    model = openvino.Core().read_model(_onnx_model(weights, batch, layers).SerializeToString())
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _tflite(folder: Path, weights: np.ndarray[Any, Any], batch: int | None, layers: int) -> None:
    """Fully connected layers with a fused ReLU, straight in the format's own objects."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: list[int], signature: list[int], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.shapeSignature, made.buffer = name, shape, signature, buffer
        made.type = schema.TensorType.FLOAT32
        return made

    data = schema.BufferT()
    data.data = np.frombuffer(np.ascontiguousarray(weights.T).tobytes(), np.uint8)
    names = ["x", *(f"relu{layer}" for layer in range(layers - 1)), "y"]
    width = len(weights)
    graph = schema.SubGraphT()
    graph.tensors = [tensor(name, [batch or 1, width], [batch or -1, width], 0) for name in names]
    graph.tensors.append(tensor("w", [width, width], [width, width], 1))
    graph.inputs, graph.outputs, graph.operators = [0], [layers], []
    for layer in range(layers):
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [layer, layers + 1, -1], [layer + 1]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
        graph.operators.append(operator)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT(), data]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "model.tflite").write_bytes(bytes(builder.Output()))


_MAKERS = {"onnx": _onnx, "openvino": _openvino, "tflite": _tflite}
