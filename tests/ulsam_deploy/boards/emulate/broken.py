"""Bundles that are sound by their hashes and wrong inside: other weights, or an operator that no engine knows."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

FILES = {"onnx": "onnx/model.onnx", "tflite": "tflite/model.tflite"}


def _replaced(bundle: Path, target: str, content: bytes, copy: Path) -> Path:
    """A copy of ``bundle`` with another artifact, and the manifest true to it."""
    shutil.copytree(bundle, copy)
    (copy / FILES[target]).write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    for artifact in manifest["artifacts"]:
        for file in artifact["files"]:
            if file["path"] == FILES[target]:
                file |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (copy / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return copy


def other_weights(bundle: Path, target: str, copy: Path) -> Path:
    """One weight of the product is 1 larger."""
    content = (bundle / FILES[target]).read_bytes()
    width = json.loads((bundle / "manifest.json").read_text())["artifacts"][0]["inputs"][0]["shape"][1]
    weights = (np.random.default_rng(0).normal(size=(width, width)) / width**0.5).astype(np.float32)
    stored = weights if target == "onnx" else weights.T
    changed = np.ascontiguousarray(stored).copy()
    changed[3, 5] += 1
    before = np.ascontiguousarray(stored).tobytes()
    assert content.count(before) == 1
    return _replaced(bundle, target, content.replace(before, changed.tobytes()), copy)


def unknown_operator(bundle: Path, target: str, copy: Path) -> Path:
    """The product is an operator called Frobnicate."""
    content = (bundle / FILES[target]).read_bytes()
    return _replaced(bundle, target, (_onnx if target == "onnx" else _tflite)(content), copy)


def integer_product(bundle: Path, copy: Path) -> Path:
    """The product in 8-bit integers, by the kernels that need dot products where a processor says it has them."""
    from onnx import TensorProto, helper, numpy_helper

    width = json.loads((bundle / "manifest.json").read_text())["artifacts"][0]["inputs"][0]["shape"][1]
    weights = np.random.default_rng(0).integers(-9, 9, (width, width)).astype(np.int8)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in "xy"]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "integers", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return _replaced(bundle, "onnx", model.SerializeToString(), copy)


def _onnx(content: bytes) -> bytes:
    import onnx

    model: Any = onnx.load_from_string(content)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Frobnicate", "com.example"
    model.opset_import.add(domain="com.example", version=1)
    return bytes(model.SerializeToString())


def _tflite(content: bytes) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Frobnicate"
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptions, operator.builtinOptionsType = None, schema.BuiltinOptions.NONE
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
