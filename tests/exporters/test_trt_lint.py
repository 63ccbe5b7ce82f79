"""The static lints: each rule on a model that breaks it, beside what the vendor's parser says to the same model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.profiles import devices
from ulsam_deploy.exporters.tensorrt.lint.dla import plan_dla
from ulsam_deploy.exporters.tensorrt.lint.operators import lint_tensorrt
from ulsam_deploy.runtimes.tensorrt import builder

PROFILES = {name: found.tensorrt for name, found in devices().items() if found.tensorrt}
X = [1, 4, 8, 8]


def model_of(*nodes: Any, x: Any = X, kind: int = TensorProto.FLOAT, outputs: Any = ("y",), **constants: Any) -> Any:
    """``nodes`` from ``x`` to ``outputs`` at opset 17; outputs have the input's type, the parser needs one."""
    types = {"i": TensorProto.INT64, "q": TensorProto.INT8}
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info(name, types.get(name, kind), None) for name in outputs],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op: str, *inputs: str, outputs: Any = ("y",), **attributes: Any) -> Any:
    return helper.make_node(op, inputs or ["x"], list(outputs), name="n", **attributes)


HALF = np.ones((4, 4, 1, 1), np.float16)
#: Rule, model, the words of the finding, and the words of TensorRT for RTX's parser (empty: it takes the model).
BROKEN = [
    ("max-pool", model_of(node("MaxPool", kernel_shape=[3, 3], dilations=[2, 2])), "dilations", "dilations"),
    ("max-pool", model_of(node("MaxPool", outputs=("y", "i"), kernel_shape=[2, 2]), outputs=("y", "i")),
     "Indices", "than 1 outputs for MaxPool"),
    ("one-type", model_of(node("Mul", "x", "h"), h=HALF), "FLOAT, FLOAT16", "must have same input types"),
    ("one-type", model_of(node("Conv", "x", "h"), h=HALF), "FLOAT, FLOAT16", "."),
    ("quantized", model_of(node("QuantizeLinear", "x", "s", "z", outputs=("q",)), s=np.float32(0.1), z=np.int8(3),
     outputs=("q",)), "zero point", "zero"),
    ("integer-form", model_of(node("DynamicQuantizeLinear", outputs=("y", "s", "z")), outputs=("y", "s", "z")),
     "QuantizeLinear and DequantizeLinear", "."),
    ("batch-norm", model_of(node("BatchNormalization", "x", "a", "a", "a", "b", outputs=("y", "m", "v"),
                                 training_mode=1), a=np.ones(4, np.float32), b=np.ones(4, np.float32)),
     "training mode", "training"),
    ("type", model_of(node("Relu"), kind=TensorProto.DOUBLE), "DOUBLE", ""),
    ("type", model_of(node("Identity"), kind=TensorProto.UINT8), "UINT8", ""),
    ("floating", model_of(node("Clip", "x"), kind=TensorProto.INT32), "INT32", ""),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "model", "words", "said"), BROKEN, ids=[f"{b[0]} {b[2]}" for b in BROKEN])
def test_a_broken_rule_is_found_on_every_device(rule: Any, model: Any, words: Any, said: Any) -> None:
    for name, profile in PROFILES.items():
        found = {finding.rule: finding.message for finding in lint_tensorrt(model, profile)}
        assert words in found[rule], name


@pytest.mark.parametrize(("rule", "model", "words", "said"), BROKEN, ids=[f"{b[0]} {b[2]}" for b in BROKEN])
def test_the_vendors_parser_refuses_it_in_its_own_words_or_is_known_to_let_it_pass(
    rule: Any, model: Any, words: Any, said: Any
) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    if not said:
        builder.parse(rtx, model.SerializeToString())
        return
    with pytest.raises(ExportError, match=f"(?s)refused the model: .*{said}"):
        builder.parse(rtx, model.SerializeToString())


def test_opset_limits_are_each_devices_own() -> None:
    model = model_of(node("Relu"))
    model.opset_import[0].version = 18
    refusing = {name for name, p in PROFILES.items() if any(f.rule == "opset" for f in lint_tensorrt(model, p))}
    assert refusing == {"desktop-trt8"}


def test_a_sound_model_has_no_findings() -> None:
    model = model_of(node("Conv", "x", "w"), w=np.ones((4, 4, 3, 3), np.float32))
    assert {name: lint_tensorrt(model, profile) for name, profile in PROFILES.items()} == dict.fromkeys(PROFILES, ())


def chain(*operators: Any, x: Any = X, **constants: Any) -> onnx.ModelProto:
    """A float16 model of operators one after another, each ``(op, extra inputs, attributes)``."""
    nodes, source = [], "x"
    for number, (op, extra, attributes) in enumerate(operators):
        target = "y" if number == len(operators) - 1 else f"t{number}"
        nodes.append(helper.make_node(op, [source, *extra], [target], name=f"{op}-{number}", **attributes))
        source = target
    return model_of(*nodes, x=x, kind=TensorProto.FLOAT16, w=np.ones((4, 4, 1, 1), np.float16), **constants)


CONV, RELU, MEAN = ("Conv", ["w"], {}), ("Relu", [], {}), ("ReduceMean", [], {"axes": [1]})


@pytest.mark.parametrize(
    ("operators", "loadables", "fallbacks"),
    [
        ([CONV, RELU, CONV], 1, []),
        ([CONV, MEAN, RELU], 2, ["ReduceMean-1"]),
        ([MEAN, RELU, ("Erf", [], {}), RELU, ("Erf", [], {})], 2, ["ReduceMean-0", "Erf-2", "Erf-4"]),
        ([("MaxPool", [], {"kernel_shape": [3, 3]}), RELU], 1, []),
        ([("AveragePool", [], {"kernel_shape": [8, 8]})], 1, []),
    ],
)
def test_loadables_and_fallbacks(operators: Any, loadables: int, fallbacks: Any) -> None:
    plan = plan_dla(chain(*operators))
    assert (plan.loadables, [item.node for item in plan.fallbacks]) == (loadables, fallbacks)
    assert plan.findings == ()


@pytest.mark.parametrize(
    ("operator", "shape", "words"),
    [
        (("AveragePool", [], {"kernel_shape": [9, 9]}), [1, 4, 9, 9], r"window \[9, 9\]"),
        (("Conv", ["w"], {"strides": [9, 1]}), [1, 4, 99, 9], r"stride \[9, 1\]"),
        (("Softmax", [], {"axis": 2}), [1, 4, 1025, 1], "Softmax over 1025"),
        (("Relu", [], {}), [1, 4, 2, 3, 3], "rank 5"),
        (("Relu", [], {}), [1, 9000, 1, 1], "longer than 8192"),
        (("Reshape", ["s"], {}), [1, 4, 2, 2], "rank 4 to rank 2"),
    ],
)
def test_limits_of_a_dla_are_named(operator: Any, shape: Any, words: str) -> None:
    plan = plan_dla(chain(operator, x=shape, s=np.array([1, -1])))
    assert plan.loadables == 0
    assert re.search(words, plan.fallbacks[0].message)


def test_a_branch_around_a_fallback_does_not_join_what_it_separates() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="before"),
        helper.make_node("Erf", ["a"], ["b"], name="gpu"),
        helper.make_node("Add", ["a", "b"], ["y"], name="after"),
    ]
    plan = plan_dla(model_of(*nodes, kind=TensorProto.FLOAT16, w=HALF))
    assert plan.loadables == 2  # one loadable would wait for its own result


def test_float32_and_dynamic_shapes_are_forbidden() -> None:
    model = model_of(node("Conv", "x", "w"), x=["batch", 4, 8, 8], w=np.ones((4, 4, 1, 1), np.float32))
    assert [finding.rule for finding in plan_dla(model).findings] == ["dynamic", "precision"]
