"""The node tests of the ONNX project as networks: the first floating-point input is open, the others are weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from ulsam_deploy.device.arrays import Array

__all__ = ["NodeTest", "node_tests"]

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class NodeTest:
    """One test: ``model`` has one open input; ``given`` goes there, and ``expected`` are the outputs by name."""

    name: str
    operator: str
    model: Any
    given: Array
    expected: dict[str, Array]
    relative: float
    absolute: float


def node_tests() -> Iterator[NodeTest]:
    """All node tests that are a network in the sense of this project.

    Left out are those of other domains, the expanded doubles of functions, those with sequences, optionals or texts for
    inputs or outputs, and those without a floating-point input that has a batch axis.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in sorted(cases, key=lambda case: case.name):
        assert case.model is not None
        assert case.data_sets is not None
        graph = case.model.graph
        typed = all(port.type.WhichOneof("value") == "tensor_type" for port in (*graph.input, *graph.output))
        if not typed or "_expanded" in case.name or any(node.domain not in ("", "ai.onnx") for node in graph.node):
            continue
        inputs, outputs = (list(map(_tensor, values)) for values in case.data_sets[0])
        place = next((i for i, tensor in enumerate(inputs) if tensor.data_type in _FLOATS and tensor.dims), None)
        if place is not None:
            yield _test(case, inputs, place, [numpy_helper.to_array(tensor) for tensor in outputs])


def _tensor(value: Any) -> TensorProto:
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value))


def _test(case: Any, inputs: list[TensorProto], place: int, outputs: list[Array]) -> NodeTest:
    model = ModelProto()
    model.CopyFrom(case.model)
    for index, (port, tensor) in enumerate(zip(list(model.graph.input), inputs, strict=True)):
        if index != place:
            weight = model.graph.initializer.add()
            weight.CopyFrom(tensor)
            weight.name = port.name
            model.graph.input.remove(port)
    names = [port.name for port in model.graph.output]
    return NodeTest(
        case.name,
        model.graph.node[-1].op_type,
        model,
        numpy_helper.to_array(inputs[place]),
        dict(zip(names, outputs, strict=True)),
        case.rtol,
        case.atol,
    )
