"""The ONNX operators that work on tensors, implemented in torch.

Each is a function of the node's attributes and its inputs, with ``None`` for an absent input. An input is a tensor, or
an array of what is known before the network runs (:mod:`ulsam_deploy.load.onnx.known`). Opsets 11 and later; semantics
by the ONNX operator reference.

values          what the operators share
arithmetic      one element at a time, products, reductions
windows         convolutions and pools
normalisation   norms and softmaxes
movement        what only moves elements
choosing        what chooses elements by position or value
resizing        resizing and sampling
recurrent       LSTM, GRU and plain recurrence
quantised       rounding to integers and back
"""

from __future__ import annotations

from ulsam_deploy.load.onnx.operators import (
    arithmetic,
    choosing,
    movement,
    normalisation,
    quantised,
    recurrent,
    resizing,
    windows,
)
from ulsam_deploy.load.onnx.operators.values import Meaning

__all__ = ["OPERATORS"]

OPERATORS: dict[str, Meaning] = {
    **arithmetic.OPERATORS,
    **windows.OPERATORS,
    **normalisation.OPERATORS,
    **movement.OPERATORS,
    **choosing.OPERATORS,
    **resizing.OPERATORS,
    **recurrent.OPERATORS,
    **quantised.OPERATORS,
}
