"""What this CPU can do at most: multiply-adds a second and bytes a second, measured; and what a network needs of both.

S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
Communications of the ACM 52 (2009). No engine can be faster than either roof: all multiply-adds at the rate of a large
matrix product, and every weight read once from memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Need", "Roof", "measured", "need"]


@dataclass(frozen=True)
class Roof:
    """Multiply-adds a second (float32), and bytes a second read and written."""

    macs: float
    bandwidth: float


@dataclass(frozen=True)
class Need:
    """Multiply-adds of one inference, and bytes of its weights."""

    macs: int
    weights: int

    def bound(self, roof: Roof) -> float:
        """Milliseconds under which no engine can get."""
        return 1e3 * max(self.macs / roof.macs, self.weights / roof.bandwidth)


def measured(threads: int) -> Roof:
    """The better of many tries: a 1536 x 1536 matrix product, and copying 256 MiB (read and written)."""
    torch.set_num_threads(threads)
    side = 1536
    left, right = torch.randn(side, side), torch.randn(side, side)
    source = torch.ones(64 * 2**20)
    target = torch.empty_like(source)
    product, copy = _fastest(lambda: left @ right), _fastest(lambda: target.copy_(source))
    return Roof(side**3 / product, 2 * source.nbytes / copy)


def _fastest(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def need(model: nn.Module, shape: tuple[int, int, int]) -> Need:
    """What one image (C, H, W) costs ``model``, counted by PyTorch: convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    return Need(counter.get_total_flops() // 2, sum(each.nbytes for each in model.parameters()))
