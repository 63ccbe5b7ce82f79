"""What ``ulsam::subspace_attention`` means on each target: plain torch functions with the operator's signature.

Shapes: ``x`` [N, C, H, W]; ``gate_scale`` [C, 1, 1, 1]; ``gate_bias`` [C]; ``score_weight`` [g, C/g, 1, 1];
``score_bias`` [g]; subspace k owns channels k*C/g .. (k+1)*C/g - 1. H and W are static, N may be dynamic, so ``N`` is
never named: it is the -1 of a reshape. Constants made here are folded into buffers before an exporter sees them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.program.operator import attention_scores


def broadcast(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """ONNX Runtime, TensorRT, OpenVINO: one softmax over [N, g, H*W], and a broadcast multiply by ``1 + a`` in 5-D.

    ``1 + a`` is formed on the g maps, not on the C channels: C/g times fewer additions than ``x + a * x``.
    """
    _, channels, height, width = x.shape
    logits = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    attention = torch.softmax(logits.reshape(-1, subspaces, height * width), -1)
    gain = attention.reshape(-1, subspaces, 1, height, width) + 1
    grouped = x.reshape(-1, subspaces, channels // subspaces, height, width)
    return (grouped * gain).reshape(-1, channels, height, width)


def separate(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """The same in float16: ``x + a * x``, so that it is rounded once and ``a`` is stored by itself.

    There ``1 + a`` has steps of 2**-10: on a map of 46x46 or more, where ``a`` is about ``1 / (H * W)``, all of it can
    round to 1.
    """
    _, channels, height, width = x.shape
    logits = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    attention = torch.softmax(logits.reshape(-1, subspaces, height * width), -1)
    grouped = x.reshape(-1, subspaces, channels // subspaces, height, width)
    weighted = grouped * attention.reshape(-1, subspaces, 1, height, width)
    return (grouped + weighted).reshape(-1, channels, height, width)


def channels_last(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """TFLite: stays in 4-D, so that no TRANSPOSE, RESHAPE or BROADCAST_TO is needed in its NHWC layout.

    TFLite's SOFTMAX works on the last axis only, which is the channels there: it would need two transposes a block.
    The softmax is therefore spelled out over H and W. ``1 + a`` reaches the channels of each subspace through a 1x1
    convolution with 0/1 weights and bias 1 (``repeat_interleave`` would become BROADCAST_TO, eight times slower).
    """
    channels = x.shape[1]
    logits = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    powers = torch.exp(logits - logits.amax((2, 3), keepdim=True))
    attention = powers / powers.sum((2, 3), keepdim=True)
    owner = torch.arange(channels) // (channels // subspaces)
    spread = (owner[:, None] == torch.arange(subspaces)[None, :]).to(x.dtype)
    return x * F.conv2d(attention, spread[:, :, None, None], torch.ones(channels, dtype=x.dtype))
