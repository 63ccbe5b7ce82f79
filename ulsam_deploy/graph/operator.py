"""``ulsam::subspace_attention``: the operator that replaces every ULSAM block, and its plain implementation.

For an input ``x`` of shape ``(N, C, H, W)`` split into ``g`` subspaces of ``C/g`` channels (ULSAM, WACV 2020,
arXiv 2006.15102, with batch norms folded)::

    t = maxpool3x3(relu(gate_scale * x + gate_bias))          per channel
    a = softmax over H*W of relu(score_weight . t + score_bias)    one map per subspace
    y = x + a * x                                                  the map of its subspace for every channel

``ulsam::attention_maps`` is ``a`` alone, shape ``(N, g, H, W)``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_scores(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """The scores that the softmax normalises, ``(N, g, H, W)``: the part that all lowerings share.

    ``x`` is ``(N, C, H, W)``; ``gate_scale`` ``(C, 1, 1, 1)``; ``gate_bias`` ``(C,)``; ``score_weight``
    ``(g, C/g, 1, 1)``; ``score_bias`` ``(g,)``; all of one floating dtype.
    """
    gate = F.relu(F.conv2d(x, gate_scale, gate_bias, groups=x.shape[1]))
    return F.relu(F.conv2d(F.max_pool2d(gate, 3, 1, 1), score_weight, score_bias, groups=subspaces))


def attention_map(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """The attention maps ``a`` as ``(N, g, H*W)``; shapes as in :func:`attention_scores`."""
    scores = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return torch.softmax(scores.reshape(-1, subspaces, x.shape[2] * x.shape[3]), -1)


@torch.library.custom_op("ulsam::subspace_attention", mutates_args=())
def subspace_attention(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """ULSAM on all subspaces at once; shapes as in :func:`attention_scores`, result ``(N, C, H, W)``."""
    a = attention_map(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    grouped = x.reshape(-1, subspaces, x.shape[1] // subspaces, x.shape[2] * x.shape[3])
    return (grouped + a.unsqueeze(2) * grouped).reshape(x.shape)


@subspace_attention.register_fake
def _(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("ulsam::attention_maps", mutates_args=())
def attention_maps(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """The attention maps alone, ``(N, g, H, W)``; each sums to one over H and W."""
    return lowered_maps(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)


@attention_maps.register_fake
def _(x: Tensor, *weights_and_subspaces: Any) -> Tensor:
    return x.new_empty((x.shape[0], weights_and_subspaces[-1], x.shape[2], x.shape[3]))


def lowered_maps(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """The lowering of ``ulsam::attention_maps`` that serves every target."""
    a = attention_map(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return a.reshape(-1, subspaces, x.shape[2], x.shape[3])


SUBSPACE_ATTENTION = torch.ops.ulsam.subspace_attention.default
ATTENTION_MAPS = torch.ops.ulsam.attention_maps.default
