"""Artifact ablation in LiteRT: the softmaxes of one block become zero; nothing else changes.

A softmax is one operator, or written as ``exp / sum``, as in our exports. The operator, or the division, is replaced by
its input minus itself, which is zero in any type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import model as tflite_model

#: Operators that only change how a tensor is stored.
_STORAGE = ("QUANTIZE", "DEQUANTIZE")


def softmaxes(model: Any) -> list[Any]:
    """The operators, in execution order, whose result is a softmax."""
    makers = {int(index): operator for operator in model.subgraphs[0].operators for index in operator.outputs}

    def of_exponentials(operator: Any) -> bool:
        tensor = int(operator.inputs[0])
        while tensor in makers and tflite_model.kind_of(model, makers[tensor]) in _STORAGE:
            tensor = int(makers[tensor].inputs[0])
        return tensor in makers and tflite_model.kind_of(model, makers[tensor]) == "EXP"

    kinds = [(operator, tflite_model.kind_of(model, operator)) for operator in model.subgraphs[0].operators]
    return [op for op, kind in kinds if kind == "SOFTMAX" or (kind == "DIV" and of_exponentials(op))]


def ablated(content: bytes, chosen: Sequence[int]) -> bytes | None:
    """``content`` with the softmaxes numbered ``chosen``, in execution order, set to zero; ``None`` without them."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_model.read(content)
    found = softmaxes(model)
    if len(found) <= max(chosen):
        return None
    model.operatorCodes.append(_difference())
    for operator in (found[number] for number in chosen):
        operator.inputs = np.array([operator.inputs[0]] * 2, np.int32)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.builtinOptionsType = schema.BuiltinOptions.SubOptions
        operator.builtinOptions = schema.SubOptionsT()
        operator.builtinOptions.potScaleInt16 = False
    return tflite_model.write(model)


def _difference() -> Any:
    """The operator code of SUB."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SUB
    code.version = 2  # the version that supports quantized types
    return code
