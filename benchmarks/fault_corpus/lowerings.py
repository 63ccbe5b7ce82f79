"""TFLite's lowering with a fault in it; signatures as in ``exporters/lowerings.py``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.exporters.lowerings import channels_last


def removed(x: Tensor, *_: object) -> Tensor:
    """No attention in any block."""
    return x * 1.0


def uniform(x: Tensor, *_: object) -> Tensor:
    """The attention of every block uniform."""
    return x * (1 + 1 / (x.shape[2] * x.shape[3]))


def gate_bias(x: Tensor, scale: Tensor, bias: Tensor, weight: Tensor, score: Tensor, subspaces: int) -> Tensor:
    """Negative gate biases lost."""
    return channels_last(x, scale, F.relu(bias), weight, score, subspaces)


FAULTY = {
    "all attention removed": removed,
    "all attention uniform": uniform,
    "negative gate biases lost": gate_bias,
}
