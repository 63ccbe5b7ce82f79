"""How an engine may round: three models of fp16 arithmetic between which a real one should lie, and plain float32.

A network's declared types say what its tensors are stored in, not how a kernel sums or what a fusion keeps in
registers. Running the network under each model gives a band of errors instead of one guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ulsam_deploy.device.arrays import Array


@dataclass(frozen=True)
class Rounding:
    """One model. ``stored``: what a layer gives is rounded to its declared type (else float16 is kept as float32).

    ``chunk``: with float16 operands, that many products are summed in float32 before the running sum is rounded to
    float16, as a float16 accumulator of matrix instructions does; 0 sums in float32 throughout.
    """

    name: str
    stored: bool = True
    chunk: int = 0

    def keep(self, value: Array, declared: np.dtype[Any]) -> Array:
        """``value`` as the layer's output of type ``declared``; float16 is held as float32 while computing."""
        if declared != np.float16:
            return value.astype(declared, copy=False)
        return round_half(value) if self.stored else value.astype(np.float32, copy=False)


#: The declared types, float32 sums: what a float32 network is run under.
DECLARED = Rounding("declared")
#: The kindest: everything fused, so that only weights and inputs are rounded.
FUSED = Rounding("fused", stored=False)
#: The usual: each layer's output is stored in float16, sums are float32.
STORED = Rounding("stored")
#: The harshest: float16 accumulators on top.
ACCUMULATED = Rounding("accumulated", chunk=16)


def round_half(value: Array) -> Array:
    """``value`` rounded to float16 (round to nearest even; beyond 65504 infinite), held as float32."""
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(np.float32)


def product(weights: Array, x: Array, chunk: int, total: Array | None = None) -> Array:
    """``total + weights @ x`` over the last and next-to-last axis, float32, rounded to float16 each ``chunk`` terms.

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
