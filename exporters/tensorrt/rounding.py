"""How an engine may round: three models of fp16 arithmetic, which should bracket a real engine, and plain float32.

A network's declared types say how its tensors are stored, not how a kernel sums or what a fusion keeps in registers.
Running the network under each model gives a range of errors instead of one guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array


@dataclass(frozen=True)
class Rounding:
    """One model of rounding.

    Attributes:
        stored: Round the result of each layer to its declared type; otherwise float16 stays float32.
        chunk: With float16 operands, sum this many products in float32 before rounding the running sum to float16, as
            matrix instructions with a float16 accumulator do; 0 sums in float32 throughout.
    """

    name: str
    stored: bool = True
    chunk: int = 0

    def keep(self, value: Array, declared: np.dtype[Any]) -> Array:
        """``value`` as the layer's output of type ``declared``; float16 is stored as float32."""
        if declared != np.float16:
            return value.astype(declared, copy=False)
        return round_half(value) if self.stored else value.astype(np.float32, copy=False)


#: The declared types and float32 sums: used for a float32 network.
DECLARED = Rounding("declared")
#: The most accurate: everything is fused, so that only weights and inputs are rounded.
FUSED = Rounding("fused", stored=False)
#: The usual: each layer's output is stored in float16, sums are float32.
STORED = Rounding("stored")
#: The least accurate: float16 accumulators as well.
ACCUMULATED = Rounding("accumulated", chunk=16)


def round_half(value: Array) -> Array:
    """``value`` rounded to float16 (to nearest even; infinite beyond 65504), stored as float32."""
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(np.float32)


def product(weights: Array, x: Array, chunk: int, total: Array | None = None) -> Array:
    """``total + weights @ x`` over the last and next-to-last axis in float32, rounded to float16 every ``chunk`` terms.

    ``weights`` [..., M, K] and ``x`` [..., K, L]; a ``chunk`` of 0 rounds nothing.
    """
    depth = weights.shape[-1]
    step = chunk or depth
    for start in range(0, depth, step):
        part = np.matmul(weights[..., start : start + step], x[..., start : start + step, :])
        total = part if total is None else total + part
        total = round_half(total) if chunk else total
    assert total is not None
    return total
