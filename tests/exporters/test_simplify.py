"""onnxsim runs elsewhere: its result is the same, and whatever it does there ends in words here."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxsim")
import onnx
from onnx import TensorProto, helper, numpy_helper

from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.exporters.onnx import simplify


def model() -> onnx.ModelProto:
    """x + (1 + 2), in two additions."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    nodes = [helper.make_node("Add", ["one", "two"], ["three"]), helper.make_node("Add", ["x", "three"], ["y"])]
    weights = [
        numpy_helper.from_array(np.full((1, 4), value, np.float32), name) for name, value in (("one", 1), ("two", 2))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def crashes(request: simplify.Simplification) -> simplify.Simplification:
    os.abort()


def never_ends(request: simplify.Simplification) -> simplify.Simplification:
    time.sleep(600)
    return request


def takes_all_memory(request: simplify.Simplification) -> simplify.Simplification:
    np.ones(1 << 40, np.uint8)
    return request


def finds_another_result(request: simplify.Simplification) -> simplify.Simplification:
    return simplify.Simplification(request.model, same=False)


def test_constants_are_folded_in_another_process() -> None:
    made = simplify.simplified(model())
    assert [node.op_type for node in made.graph.node] == ["Add"]
    (three,) = made.graph.initializer
    assert (numpy_helper.to_array(three) == 3).all()


def test_the_checker_runs_there_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("checker.check_model", "shape_inference.infer_shapes"):
        monkeypatch.setattr(f"onnx.{name}", lambda *_, **__: pytest.fail("it ran here"))
    broken = model()
    broken.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ExportError, match="the ONNX checker could not accept the model"):
        simplify.simplified(broken)


@pytest.mark.long
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (crashes, "onnxsim crashed (signal SIGABRT)"),
        (never_ends, "took longer than 3 seconds"),
        (takes_all_memory, "needed more memory"),
        (finds_another_result, "computes something else"),
    ],
)
def test_harm_ends_in_words(does: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = job.do
    monkeypatch.setattr(simplify, "SECONDS", 3.0 if does is never_ends else 60.0)
    monkeypatch.setattr(simplify.job, "do", lambda function, *more: real(does, *more))
    with pytest.raises(ExportError) as error:
        simplify.simplified(model())
    assert said in error.value.found
    assert "--memory-limit" not in str(error.value)
