"""The twin of a LiteRT model without one block's attention: its maps reach no channel, and nothing else changes.

The form that is exported spells the softmax out, ``exp / sum``, and hands ``1 + a`` to the channels by a 1x1
convolution of the maps with 0/1 weights and bias 1. With weights of 0 its result is the bias alone, in any precision.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from . import tflite_model

#: What only changes how a tensor is stored.
_STORAGE = ("QUANTIZE", "DEQUANTIZE")


def silenced(content: bytes, block: int) -> bytes | None:
    """``content`` with the attention of block number ``block``, in running order, taken as zero, or ``None``."""
    model = tflite_model.read(content)
    spreads = _spreads(model)
    if len(spreads) <= block:
        return None
    graph, spread = model.subgraphs[0], spreads[block]
    source = _stored(model, int(spread.inputs[1]))
    # A tensor and a buffer of its own: converters let blocks share equal weights.
    tensor, buffer = copy.deepcopy(graph.tensors[source]), copy.deepcopy(model.buffers[graph.tensors[source].buffer])
    buffer.data = np.zeros(len(buffer.data), np.uint8)
    tensor.name, tensor.buffer = b"attention_removed", len(model.buffers)
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    last = len(graph.tensors) - 1
    changed = _makers(model).get(int(spread.inputs[1]), spread)  # float16 weights are made float32 first
    changed.inputs = np.array([last if index == source else index for index in changed.inputs], np.int32)
    return tflite_model.write(model)


def _makers(model: Any) -> dict[int, Any]:
    return {int(index): operator for operator in model.subgraphs[0].operators for index in operator.outputs}


def _stored(model: Any, tensor: int) -> int:
    """The tensor that ``tensor`` is made from by changes of storage alone."""
    makers = _makers(model)
    while tensor in makers and tflite_model.kind_of(model, makers[tensor]) in _STORAGE:
        tensor = int(makers[tensor].inputs[0])
    return tensor


def _spreads(model: Any) -> list[Any]:
    """The convolutions, in running order, that read what a softmax spelled out gives."""
    makers = _makers(model)

    def made_by(tensor: int, kind: str) -> Any:
        maker = makers.get(_stored(model, tensor))
        return maker if maker is not None and tflite_model.kind_of(model, maker) == kind else None

    found = []
    for operator in model.subgraphs[0].operators:
        if tflite_model.kind_of(model, operator) == "CONV_2D":
            division = made_by(int(operator.inputs[0]), "DIV")
            if division is not None and made_by(int(division.inputs[0]), "EXP") is not None:
                found.append(operator)
    return found
