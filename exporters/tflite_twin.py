"""The twin of a LiteRT model without one block's attention: its softmaxes become products with zero, and nothing else
changes.

A softmax is one operator, or spelled out as ``exp / sum``, as it is exported here; then the division is the product.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from . import tflite_model

#: What only changes how a tensor is stored.
_STORAGE = ("QUANTIZE", "DEQUANTIZE")
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT16": 2, "INT8": 1, "UINT8": 1}


def softmaxes(model: Any) -> list[Any]:
    """The operators, in running order, whose result is a softmax."""
    makers = {int(index): operator for operator in model.subgraphs[0].operators for index in operator.outputs}

    def of_exponentials(operator: Any) -> bool:
        tensor = int(operator.inputs[0])
        while tensor in makers and tflite_model.kind_of(model, makers[tensor]) in _STORAGE:
            tensor = int(makers[tensor].inputs[0])
        return tensor in makers and tflite_model.kind_of(model, makers[tensor]) == "EXP"

    kinds = [(operator, tflite_model.kind_of(model, operator)) for operator in model.subgraphs[0].operators]
    return [op for op, kind in kinds if kind == "SOFTMAX" or (kind == "DIV" and of_exponentials(op))]


def silenced(content: bytes, chosen: range) -> bytes | None:
    """``content`` with what the softmaxes number ``chosen``, in running order, give taken as zero, or ``None``."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model.read(content)
    found = softmaxes(model)
    if len(found) < chosen.stop:
        return None
    product = _product(model)
    for operator in found[chosen.start : chosen.stop]:
        operator.inputs = np.array([operator.inputs[0], _zero(model, int(operator.inputs[0]))], np.int32)
        operator.opcodeIndex = product
        operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
        operator.builtinOptions = schema.MulOptionsT()
    return tflite_model.write(model)


def _product(model: Any) -> int:
    """The number of the operator code for a product, which is added to ``model``."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    code.version = 2  # quantized types as well
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _zero(model: Any, like: int) -> int:
    """The number of a new tensor, a zero of the type of tensor ``like``."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    tensor, buffer = copy.deepcopy(graph.tensors[like]), schema.BufferT()
    kinds = {number: kind for kind, number in vars(schema.TensorType).items() if kind in _BYTES}
    buffer.data = np.zeros(_BYTES[kinds[tensor.type]], np.uint8)
    tensor.name, tensor.buffer = b"attention_removed", len(model.buffers)
    tensor.shape, tensor.shapeSignature = np.ones(len(tensor.shape), np.int32), None
    if tensor.quantization is not None and tensor.quantization.scale is not None:
        tensor.quantization.zeroPoint = np.zeros(1, np.int64)
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
