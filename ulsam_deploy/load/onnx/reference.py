"""Runs the ONNX model in float64 with onnx's own reference implementation, to check the import.

It is independent of our implementation of the operators. A few of its own are replaced (:mod:`.reference_operators`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ulsam_deploy.device.third_party import words_of
from ulsam_deploy.load.onnx import names
from ulsam_deploy.load.onnx.reference_operators import replacements

if TYPE_CHECKING:
    from onnx import ModelProto

    from ulsam_deploy.load.onnx.reading import Graph


class Reference:
    """``graph`` with every floating-point number as float64 (weights are first rounded to float32)."""

    def __init__(self, graph: Graph) -> None:
        from onnx.reference import ReferenceEvaluator

        self._inputs = [port.name for port in graph.inputs]
        self._outputs = names.ports(graph.outputs, "output")
        with words_of("onnx's reference implementation", "prepare the model"):
            self._evaluator = ReferenceEvaluator(_widened(graph.proto), new_ops=replacements(graph.opset))
        for node in self._evaluator.rt_nodes_:
            for name, value in vars(node).items():
                if isinstance(value, np.float32):  # a default, in whose type NumPy would compute everything
                    setattr(node, name, float(value))

    def run(self, inputs: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """The outputs by name, in float64, for one batch of inputs in the graph's order."""
        feed = {name: tensor.double().numpy() for name, tensor in zip(self._inputs, inputs, strict=True)}
        with words_of("onnx's reference implementation", "run the model"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an untrusted model must not decide what is printed or raised
            results = self._evaluator.run(None, feed)
        return {name: torch.from_numpy(np.array(array)) for name, array in zip(self._outputs, results, strict=True)}


def _widened(model: ModelProto) -> ModelProto:
    """A copy of ``model`` whose floating-point weights, constants and conversions are float64."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    double, floats = (
        onnx.TensorProto.DOUBLE,
        (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16),
    )
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = double
    for tensor in copy.graph.initializer:
        _widen(tensor)
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            elif attribute.name == "to" and attribute.i in floats:
                attribute.i = double
    return copy


def _widen(tensor: Any) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
        return
    array = numpy_helper.to_array(tensor)
    exact = array.astype(np.float64) if array.size == 1 else array.astype(np.float32).astype(np.float64)
    tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
