"""The interpreter of parsed networks: operator by operator against ONNX Runtime, and whole kits against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.exporters.tensorrt import network as trt_network
from ulsam_deploy.exporters.tensorrt.rounding import DECLARED, FUSED, STORED
from ulsam_deploy.runtimes.tensorrt import builder

from .trt_networks import model_of, one, parsed, rtx

RANDOM = np.random.default_rng(0)
IMAGE = [2, 8, 9, 11]


def weight(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


CASES = {
    "conv": one("Conv", {"x": IMAGE}, {"y": None}, w=weight(6, 8, 3, 3), b=weight(6)),
    "conv stride pad": one("Conv", {"x": IMAGE}, {"y": None}, w=weight(6, 8, 3, 5),
        attributes={"strides": [2, 3], "pads": [1, 0, 2, 3]}),
    "conv dilated grouped": one("Conv", {"x": IMAGE}, {"y": None}, w=weight(4, 4, 3, 3), b=weight(4),
        attributes={"group": 2, "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    "conv depthwise": one("Conv", {"x": IMAGE}, {"y": None}, w=weight(8, 1, 3, 3), attributes={"group": 8}),
    "conv depthwise multiplied": one("Conv", {"x": IMAGE}, {"y": None}, w=weight(16, 1, 3, 3), attributes={"group": 8}),
    "max pool": one("MaxPool", {"x": IMAGE}, {"y": None},
        attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "average pool": one("AveragePool", {"x": IMAGE}, {"y": None},
        attributes={"kernel_shape": [3, 5], "strides": [3, 5]}),
    "relu": one("Relu", {"x": IMAGE}, {"y": None}),
    "clip": one("Clip", {"x": IMAGE}, {"y": None}, low=np.float32(-0.5), high=np.float32(0.7)),
    "sigmoid": one("Sigmoid", {"x": IMAGE}, {"y": None}),
    "tanh": one("Tanh", {"x": IMAGE}, {"y": None}),
    "softmax": one("Softmax", {"x": IMAGE}, {"y": None}, attributes={"axis": 1}),
    "broadcast add": one("Add", {"x": IMAGE}, {"y": None}, c=weight(8, 1, 1)),
    "mul": one("Mul", {"x": IMAGE, "z": [2, 1, 9, 11]}, {"y": None}),
    "sub": one("Sub", {"x": IMAGE, "z": [2, 8, 1, 1]}, {"y": None}),
    "mean": one("ReduceMean", {"x": IMAGE}, {"y": None}, attributes={"axes": [2, 3], "keepdims": 0}),
    "max over": one("ReduceMax", {"x": IMAGE}, {"y": None}, attributes={"axes": [-1], "keepdims": 1}),
    "exp": one("Exp", {"x": IMAGE}, {"y": None}),
    "reshape": one("Reshape", {"x": IMAGE}, {"y": None}, shape=np.array([0, 2, 4, -1])),
    "transpose": one("Transpose", {"x": IMAGE}, {"y": None}, attributes={"perm": [0, 2, 3, 1]}),
    "concat": one("Concat", {"x": IMAGE, "z": [2, 3, 9, 11]}, {"y": None}, attributes={"axis": 1}),
    "gemm": one("Gemm", {"x": [3, 7]}, {"y": None}, w=weight(5, 7), b=weight(5), attributes={"transB": 1}),
    "matmul": one("MatMul", {"x": [2, 3, 7]}, {"y": None}, w=weight(7, 5)),
    "gather": one("Gather", {"x": IMAGE}, {"y": None}, index=np.array([2, 0]), attributes={"axis": 1}),
}  # fmt: skip


def feed(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: np.random.default_rng(1).normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_means_what_onnx_means(name: Any) -> None:
    content = CASES[name].SerializeToString()
    inputs = feed(CASES[name])
    (expected,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, inputs)
    found = parsed(content).run(inputs)["y"]
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_quantization_is_symmetric_rounding_to_even() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["y"]),
    ]
    model = model_of(*nodes, inputs={"x": [1, 6]}, outputs={"y": [1, 6]}, s=np.float32(0.5), zero=np.int8(0))
    x = np.array([[0.25, 0.75, -0.25, 0.3, 100, -100]], np.float32)
    found = parsed(model.SerializeToString()).run({"x": x})["y"]
    np.testing.assert_array_equal(found, [[0, 1, 0, 0.5, 63.5, -64]])


@pytest.mark.parametrize("batch", [None, 4])
def test_the_kit_as_parsed_is_the_network(made: Any, batch: int | None) -> None:
    kit = made("trt", batch)
    network = parsed(kit.files[0].read_bytes())
    assert len(network.softmaxes) == 2
    images = kit.images(4)
    found, expected = network.run({"input": images})["logits"], kit.reference(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-6


def test_ablating_a_softmax_removes_its_attention(made: Any) -> None:
    kit, plain = made("trt", 4), made("trt", 4, attention=False)
    network, without = (parsed(k.files[0].read_bytes()) for k in (kit, plain))
    images = kit.images(4)
    whole = network.run({"input": images})["logits"]
    first = network.run({"input": images}, ablated=network.softmaxes[0])["logits"]
    assert np.abs(whole - first).max() > 1e-4
    assert np.abs(first - without.run({"input": images})["logits"]).max() > 1e-4  # the other block is still there


def test_a_wrong_padding_in_the_parsed_network_shows(made: Any) -> None:
    """The comparison bites: the same kit with one padding moved is far from the reference."""
    kit = made("trt", 4)
    model = onnx.load(kit.files[0])
    pads = next(a for n in model.graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "pads")
    pads.ints[:] = [0, 0, 2, 2]
    images = kit.images(4)
    found, expected = parsed(model.SerializeToString()).run({"input": images})["logits"], kit.reference(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() > 1e-3


def test_an_unknown_layer_is_said_and_not_guessed() -> None:
    model = one("Erf", {"x": IMAGE}, {"y": None})
    with pytest.raises(UnavailableError, match="does not know unary operation ERF"):
        parsed(model.SerializeToString()).run(feed(model))
    model = one("TopK", {"x": [1, 9]}, {"y": None, "i": ([1, 2], onnx.TensorProto.INT64)}, k=np.array([2]))
    with pytest.raises(UnavailableError, match="does not know layer type TOPK"):
        parsed(model.SerializeToString())


def test_a_shape_that_the_parser_did_not_declare_is_an_error(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = parsed(CASES["relu"].SerializeToString())
    wrong = trt_network._Step(**{**vars(network._steps[0]), "shape": (2, 8, 9, 12)})
    monkeypatch.setattr(network, "_steps", [wrong])
    with pytest.raises(ExportError, match="gives shape"):
        network.run(feed(CASES["relu"]))


def test_steps_are_ordered_by_what_they_read() -> None:
    class Step:
        def __init__(self, output, *inputs):
            self.output, self.inputs = output, inputs

    steps = [Step("c", "b", "a"), Step("b", "a"), Step("a", "x")]
    assert [step.output for step in trt_network._in_order(steps)] == ["a", "b", "c"]


def test_rounding_keeps_declared_types() -> None:
    value = np.array([1 + 2**-12], np.float32)
    half = np.dtype(np.float16)
    assert STORED.keep(value, half) == 1
    assert FUSED.keep(value, half) == value
    assert DECLARED.keep(value, np.dtype(np.float32)) == value


def test_a_shuffle_transposes_reshapes_and_transposes_again() -> None:
    session = builder.BuildSession(rtx())
    trt, network = session.trt, session.network
    shuffle = network.add_shuffle(network.add_input("x", trt.float32, (2, 3, 4)))
    shuffle.first_transpose = trt.Permutation([2, 0, 1])
    shuffle.reshape_dims = (0, 6)
    shuffle.second_transpose = trt.Permutation([1, 0])
    shuffle.get_output(0).name = "y"
    network.mark_output(shuffle.get_output(0))
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = trt_network.ParsedNetwork(trt, network, session).run({"x": x})["y"]
    np.testing.assert_array_equal(found, x.transpose(2, 0, 1).reshape(4, 6).T)
