"""What ``ulsam::subspace_attention`` means on TensorRT in float16, and on its DLA; float32 has ``lowerings.broadcast``.

In float16 ``1 + a`` has steps of 2**-10: on a map of 46x46 or more, where ``a`` is about ``1 / (H * W)``, all of it can
round to 1. Here ``a`` is stored by itself and ``x + a * x`` is rounded once, so that more of it survives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.program.operator import attention_scores


def separate(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """One softmax over [N, g, H*W], and ``x + a * x`` in 5-D."""
    _, channels, height, width = x.shape
    logits = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    attention = torch.softmax(logits.reshape(-1, subspaces, height * width), -1)
    grouped = x.reshape(-1, subspaces, channels // subspaces, height, width)
    weighted = grouped * attention.reshape(-1, subspaces, 1, height, width)
    return (grouped + weighted).reshape(-1, channels, height, width)


def accelerator(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """All in 4-D, operands of equal shape: a map reaches its channels through a 1x1 convolution with 0/1 weights.

    A DLA has no exponential, so the softmax cannot be spelled out; it runs over the third axis of [N, g, H*W, 1].
    """
    _, channels, height, width = x.shape
    logits = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    attention = torch.softmax(logits.reshape(-1, subspaces, height * width, 1), 2)
    owner = torch.arange(channels) // (channels // subspaces)
    spread = (owner[:, None] == torch.arange(subspaces)[None, :]).to(x.dtype)
    maps = F.conv2d(attention.reshape(-1, subspaces, height, width), spread[:, :, None, None])
    return x + x * maps
