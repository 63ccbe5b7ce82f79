"""The lowering of ``ulsam::subspace_attention`` for a Jetson's DLA; for TensorRT itself see ``exporters.lowerings``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.graph.operator import attention_scores


def accelerator(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """All in 4-D, with operands of equal shape: a 1x1 convolution with 0/1 weights copies a map to its channels.

    A DLA has no exponential, so the softmax stays one operator; it runs over the third axis of [N, g, H*W, 1].
    """
    _, channels, height, width = x.shape
    logits = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    attention = torch.softmax(logits.reshape(-1, subspaces, height * width, 1), 2)
    owner = torch.arange(channels) // (channels // subspaces)
    spread = (owner[:, None] == torch.arange(subspaces)[None, :]).to(x.dtype)
    maps = F.conv2d(attention.reshape(-1, subspaces, height, width), spread[:, :, None, None])
    return x + x * maps
