"""Every kind of operator is read as the ONNX standard defines it: captured, it equals the file's reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.errors import ExportError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from ulsam_deploy.graph import Proof, capture  # noqa: E402
from ulsam_deploy.load import onnx as onnx_in  # noqa: E402

ROOT = Path(__file__).parents[4]
IMAGE = (1, 4, 7, 6)
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are tested here; a process for each file would take half a minute. test_unfolding.py is about that."""
    monkeypatch.setattr(job, "do", lambda function, file, *_: function(file))


def weights(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def written(path: Path, nodes: list[Any], given: dict[str, Any], shape: Any, outputs: str, opset: int) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(made).graph.output}
    for value in made.graph.output:
        if inferred[value.name].type.tensor_type.elem_type:
            value.CopyFrom(inferred[value.name])
        else:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            value.type.tensor_type.shape.SetInParent()
    onnx.save(made, path)
    return path


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return helper.make_node(
        op, [name.strip("-") for name in inputs.split()], outputs.split(), "/stem/one", **attributes
    )


SCALES = np.array([1, 1, 2, 2], np.float32)
ODD = np.array([1, 1, 1.6, 0.7], np.float32)
#: Nodes, weights, and what is special about the input and outputs.
CASES: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "upsampling by 2, as every YOLO has it": (
        [node("Resize", "x - s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"s": SCALES}, {},
    ),
    "cubic by fractions": ([node("Resize", "x - s", mode="cubic", exclude_outside=1)], {"s": ODD}, {}),
    "to one pixel": (
        [node("Resize", "x - - n", mode="linear", coordinate_transformation_mode="pytorch_half_pixel")],
        {"n": np.array([1, 4, 3, 1])}, {},
    ),
    "transposed convolution": (
        [node("ConvTranspose", "x w b", strides=[2, 2], pads=[0, 1, 1, 0], output_padding=[1, 0], group=2)],
        {"w": weights(4, 3, 3, 3), "b": weights(6)}, {},
    ),
    "pool and its positions": (
        [node("MaxPool", "x", "y z", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)], {},
        {"outputs": "y z"},
    ),
    "average that rounds up": (
        [node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1)], {}, {},
    ),
    "dropout and what it keeps": ([node("Dropout", "x", "y z")], {}, {"outputs": "y z"}),
    "layer norm": ([node("LayerNormalization", "x s b", axis=-2)], {"s": weights(7, 6)[:, :6], "b": weights(7, 6)}, {}),
    "group norm": (
        [node("GroupNormalization", "x s b", num_groups=2)], {"s": weights(4), "b": weights(4)}, {"opset": 21},
    ),
    "instance norm": ([node("InstanceNormalization", "x s b")], {"s": weights(4), "b": weights(4)}, {}),
    "the best three": (
        [node("TopK", "x k", "y i", axis=1)], {"k": np.array([3])}, {"outputs": "y i"},
    ),
    "comparison and choice": (
        [node("Greater", "x h", "c"), node("Where", "c x h")], {"h": np.float32(0.1)}, {},
    ),
    "rounded to int8 and back": (
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")],
        {"s": np.float32(0.05), "z": np.int8(3)}, {},
    ),
    "rounded as torch writes it, a zero point for two": (
        [node("Identity", "z", "same"), node("QuantizeLinear", "x s same", "q"), node("DequantizeLinear", "q s same")],
        {"s": np.float32(0.05), "z": np.array([3], np.int8)}, {},
    ),
    "a function of the standard": ([node("Swish", "x", alpha=0.7)], {}, {"opset": 24}),
    "logarithm of a sum": ([node("ReduceLogSumExp", "x a")], {"a": np.array([2, 3])}, {"opset": 18}),
    "grid": (
        [node("GridSample", "x g", mode="bilinear", padding_mode="border")],
        {"g": RANDOM.uniform(-1.2, 1.2, (1, 3, 3, 2)).astype(np.float32)}, {},
    ),
    "LSTM": (
        [node("LSTM", "x w r b", "y h c", hidden_size=3, direction="bidirectional")],
        {"w": weights(2, 12, 5), "r": weights(2, 12, 3), "b": weights(2, 24)},
        {"shape": (4, 2, 5), "outputs": "y h c"},
    ),
    "GRU of torch": (
        [node("GRU", "x w r b", "y h", hidden_size=3, linear_before_reset=1)],
        {"w": weights(1, 9, 5), "r": weights(1, 9, 3), "b": weights(1, 18)}, {"shape": (4, 2, 5), "outputs": "y h"},
    ),
    "GRU of ONNX": (
        [node("GRU", "x w r b", "y h", hidden_size=3)],
        {"w": weights(1, 9, 5), "r": weights(1, 9, 3), "b": weights(1, 18)}, {"shape": (4, 2, 5), "outputs": "y h"},
    ),
    "an output that is a shape": ([node("Shape", "x", "n"), node("Relu", "x")], {}, {"outputs": "y n"}),
    "infinite": ([node("Reciprocal", "x")], {}, {"shape": (6,)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference_of_the_file(name: str, tmp_path: Path) -> None:
    nodes, given, special = CASES[name]
    shape = special.get("shape", IMAGE)
    path = written(tmp_path / "m.onnx", nodes, given, shape, special.get("outputs", "y"), special.get("opset", 17))
    read = onnx_in.load(path, batch=shape[0])
    program = capture(read.model, read.shapes, shape[0])
    assert Proof(program).hold(read.reference, "reading") < 1e-12


REFUSED = {
    "NonZero": ([node("NonZero", "x")], {}, "as many elements as the input decides"),
    "Dropout": ([node("Dropout", "x - t")], {"t": np.bool_(True)}, "training mode"),
    "QuantizeLinear": ([node("QuantizeLinear", "x s", "q", output_dtype=TensorProto.INT4),
                        node("DequantizeLinear", "q s")], {"s": np.float32(0.1)}, "a rounding to int4"),
}  # fmt: skip


@pytest.mark.parametrize("op", REFUSED)
def test_what_is_refused_names_the_node_and_the_reason(op: str, tmp_path: Path) -> None:
    nodes, given, words = REFUSED[op]
    path = written(tmp_path / "m.onnx", nodes, given, IMAGE, "y", 21)
    with pytest.raises(ExportError, match=rf"operator {op} \(node '/stem/one'\) cannot be read: it is .*{words}"):
        onnx_in.load(path)


@pytest.mark.parametrize(
    ("weight", "proposed"),
    [
        ((8, 4 * 14 * 14), "3x28x28 (the only usual size that it runs on)"),  # the flattened map fits one side alone
        (None, "3x224x224 (it runs on that)"),
    ],
)
def test_open_sides_come_with_a_proposal(weight: Any, proposed: str, tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c", strides=[2, 2], pads=[1, 1, 1, 1])]
    given = {"w": weights(4, 3, 3, 3)}
    if weight:
        nodes += [node("Flatten", "c", "f"), node("Gemm", "f g", transB=1)]
        given["g"] = weights(*weight)
    else:
        nodes += [node("GlobalAveragePool", "c")]
    path = written(tmp_path / "m.onnx", nodes, given, (1, None, None, None), "y", 17)
    with pytest.raises(UsageError) as caught:
        onnx_in.load(path)
    assert f"--input {proposed}" in str(caught.value.todo)
    side = int(proposed.split("x")[1])
    assert onnx_in.load(path, [(3, side, side)]).shapes == ((3, side, side),)


_NODE_TESTS = """
import sys
sys.path.insert(0, "benchmarks")
from onnx_nodes import cases, judging
seen = list(judging.judged_in_subprocesses(list(cases.node_tests()), judging.imported))
bad = [one for one in seen if one.outcome in (judging.Outcome.WRONG, judging.Outcome.CRASH)]
assert bad == [], bad
assert sum(one.outcome is judging.Outcome.RIGHT for one in seen) >= 860
assert all(one.words for one in seen if one.outcome is judging.Outcome.REFUSED)
"""


@pytest.mark.long
def test_the_node_tests_of_the_onnx_project() -> None:
    """In an interpreter of its own: a process that other tests gave threads cannot be forked safely."""
    done = subprocess.run([sys.executable, "-c", _NODE_TESTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
