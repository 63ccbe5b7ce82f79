"""From a softmax back to the input of its gate: reads one attention branch of ULSAM out of a captured graph.

    x -> [1x1 depthwise conv, BN]* -> ReLU -> max pool 3x3 s1 p1 -> 1x1 conv -> [BN]* -> ReLU -> softmax over H*W

Batch norms and per-channel constants are folded in float64 on the way. A branch that starts like this and then isn't
raises :class:`NotUlsamError` with the reason.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.program.graph import Constants, shape_of
from ulsam_deploy.program.moves import Origins, is_move, only_source, reached

aten = torch.ops.aten
_ADDS, _MULS = (aten.add.Tensor,), (aten.mul.Tensor,)
_BATCH_NORMS = (aten._native_batch_norm_legit_no_training.default, aten.batch_norm.default)
_SOFTMAXES = (aten.softmax.int, aten._softmax.default)


class NotUlsamError(Exception):
    """Why something that looks like ULSAM attention must be left as it is."""


@dataclass(frozen=True)
class Affine:
    """``scale * source + bias`` per channel; float64 of shape ``(C,)``."""

    scale: Tensor
    bias: Tensor
    source: Node


@dataclass(frozen=True, eq=False)
class Unit:
    """One softmax and its branch: ``maps`` attention maps computed from one run of channels.

    ``scores`` is the node ``(N, maps, H, W)`` that the softmax normalises, ``order`` the origin of every element of the
    softmax. ``gates`` are the readings of what the gate's ReLU sees, from the nearest source to the
    farthest: a batch norm in front may belong to the block or to the network, and only the block's input can tell.
    ``score_weight`` ``(maps, C/maps)`` and ``score_bias`` ``(maps,)`` are float64; ``kernel`` is the node of the score
    weights.
    """

    softmax: Node
    scores: Node
    order: Tensor
    gates: tuple[Affine, ...]
    kernel: Node
    score_weight: Tensor
    score_bias: Tensor

    @property
    def maps(self) -> int:
        """How many attention maps this softmax yields per image."""
        return len(self.score_bias)


def is_softmax(node: Node) -> bool:
    """Whether ``node`` is a softmax, in either of torch's spellings."""
    return node.target in _SOFTMAXES


def looks_like_attention(softmax: Node, constants: Constants) -> bool:
    """Whether scores from a 1x1 convolution are normalised and then weight something: worth a reason if refused."""
    scores = only_source(softmax.all_input_nodes[0])
    while scores is not None and scores.target is aten.relu.default:
        scores = only_source(scores.all_input_nodes[0])
    if scores is None or scores.meta["val"].ndim != 4:
        return False
    conv = _peel(scores, constants)[-1].source
    weighs = any(
        user.target in (*_MULS, *_ADDS, aten.addcmul.default) for node in reached(softmax) for user in node.users
    )
    return weighs and conv.target is aten.conv2d.default and _is_pointwise(conv)


def read_unit(softmax: Node, constants: Constants, origins: Origins) -> Unit:
    """The attention branch that ends in ``softmax``; raises :class:`NotUlsamError` where it differs from ULSAM's."""
    scores = only_source(softmax.all_input_nodes[0])
    if scores is None:
        raise NotUlsamError("its softmax reads scores put together from several tensors")
    if scores.target is not aten.relu.default:
        raise NotUlsamError("its scores reach the softmax without a ReLU")
    if scores.meta["val"].ndim != 4:
        raise NotUlsamError("its scores are not a map of shape N x k x H x W")
    order = origins.of(softmax.all_input_nodes[0])
    _check_axis(order - origins.start(scores), int(softmax.args[1]), shape_of(scores))  # type: ignore[arg-type]

    norm = _peel(scores.all_input_nodes[0], constants)[-1]
    conv = norm.source
    weight, conv_bias, groups = _pointwise(conv, constants)
    maps = weight.shape[0]
    if groups not in (1, maps) or (groups == 1 and maps > 1):
        raise NotUlsamError(f"its {maps} score maps each read all channels instead of a subspace of their own")

    pool = conv.all_input_nodes[0]
    gate = _check_pool(pool)
    if gate.target is not aten.relu.default:
        raise NotUlsamError("its max pool reads another tensor than the gated branch (depthwise affine, then ReLU)")
    kernel = conv.args[1]
    assert isinstance(kernel, Node)
    return Unit(
        softmax=softmax,
        scores=scores,
        order=order,
        gates=_peel(gate.all_input_nodes[0], constants, through_depthwise=True),
        kernel=kernel,
        score_weight=norm.scale[:, None] * weight.flatten(1),
        score_bias=norm.scale * conv_bias + norm.bias,
    )


def _check_axis(order: Tensor, dim: int, shape: tuple[int, ...]) -> None:
    """Each softmax row must hold all H*W positions of one map of one image, and nothing else."""
    size = shape[2] * shape[3]
    rows = order.movedim(dim, -1).reshape(-1, order.shape[dim])
    if rows.shape[1] == 1 and size > 1:
        raise NotUlsamError("its softmax runs over an axis of length 1, so the attention is 1 everywhere")
    whole = rows.shape[1] == size and bool((rows // size == rows[:, :1] // size).all())
    if not whole or rows.flatten().sort().values.diff().eq(0).any():
        raise NotUlsamError(
            f"its softmax runs over {rows.shape[1]} elements that are not one {shape[2]}x{shape[3]} map"
        )


def _check_pool(pool: Node) -> Node:
    """The input of a 3x3, stride 1, padding 1 max pool."""
    if pool.target is operator.getitem and isinstance(pool.args[0], Node):
        pool = pool.args[0]
    if pool.target not in (aten.max_pool2d.default, aten.max_pool2d_with_indices.default):
        raise NotUlsamError("there is no max pool between its gate and its scores")

    def pair(position: int, default: list[int]) -> list[int]:
        given: Any = pool.args[position] if len(pool.args) > position else default
        value: list[int] = list(given) or [3, 3]
        return value * 2 if len(value) == 1 else value

    kernel, stride, padding = pair(1, [3]), pair(2, []), pair(3, [0])
    if len(pool.args) > 2 and not pool.args[2]:
        stride = kernel
    if (kernel, stride, padding, pair(4, [1])) != ([3, 3], [1, 1], [1, 1], [1, 1]):
        raise NotUlsamError(
            f"its max pool is {kernel[0]}x{kernel[1]} stride {stride[0]} padding {padding[0]}, "
            "not 3x3 stride 1 padding 1"
        )
    return pool.all_input_nodes[0]


def _is_pointwise(conv: Node) -> bool:
    """Whether a ``conv2d`` has a 1x1 kernel, stride 1 and no padding."""
    weight = conv.args[1]
    assert isinstance(weight, Node)
    stride: Any = conv.args[3] if len(conv.args) > 3 else [1]
    padding: Any = conv.args[4] if len(conv.args) > 4 else [0]
    return (
        tuple(weight.meta["val"].shape[2:]) == (1, 1)
        and set(stride) == {1}
        and (padding == "valid" or padding == "same" or set(padding) == {0})
    )


def _pointwise(conv: Node, constants: Constants) -> tuple[Tensor, Tensor, int]:
    """Weight, bias (zeros where there is none) and groups of a 1x1 convolution."""
    if conv.target is not aten.conv2d.default or not _is_pointwise(conv):
        raise NotUlsamError("its scores do not come from a 1x1 convolution")
    weight_node, bias_node = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
    assert isinstance(weight_node, Node)
    if not constants.known(weight_node) or (isinstance(bias_node, Node) and not constants.known(bias_node)):
        raise NotUlsamError("its convolution weights are computed from the input")
    weight = constants.value(weight_node)
    bias = constants.value(bias_node) if isinstance(bias_node, Node) else weight.new_zeros(weight.shape[0])
    return weight, bias, int(conv.args[6]) if len(conv.args) > 6 else 1  # type: ignore[arg-type]


def _peel(node: Node, constants: Constants, *, through_depthwise: bool = False) -> tuple[Affine, ...]:
    """Walk back over per-channel affine steps; every stop on the way is a reading of ``node``."""
    channels = shape_of(node)[1]
    scale, bias = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    readings = [Affine(scale, bias, node)]
    while step := _affine_step(node, channels, constants, through_depthwise):
        scale, bias, node = scale * step.scale, scale * step.bias + bias, step.source
        readings.append(Affine(scale, bias, node))
    return tuple(readings)


def _affine_step(node: Node, channels: int, constants: Constants, through_depthwise: bool) -> Affine | None:
    if node.target is operator.getitem and isinstance(node.args[0], Node) and node.args[0].target in _BATCH_NORMS:
        node = node.args[0]
    if node.target in _BATCH_NORMS:
        return _batch_norm(node, constants)
    if through_depthwise and node.target is aten.conv2d.default and _is_pointwise(node):
        weight, bias, groups = _pointwise(node, constants)
        source = node.all_input_nodes[0]
        if groups == channels and shape_of(source)[1] == channels:
            return Affine(weight.flatten(), bias, source)
        return None
    if node.target in (*_ADDS, *_MULS) and not node.kwargs:
        return _constant_step(node, channels, constants)
    if is_move(node) and node.all_input_nodes and shape_of(node) == shape_of(node.all_input_nodes[0]):
        source = node.all_input_nodes[0]
        origins = Origins(constants)
        if torch.equal(origins.of(node), origins.of(source)):
            return Affine(torch.ones(channels), torch.zeros(channels), source)
    return None


def _batch_norm(node: Node, constants: Constants) -> Affine | None:
    """``(z - mean) / sqrt(var + eps) * weight + bias`` as scale and bias."""
    source, weight, bias, mean, var = node.args[:5]
    if not isinstance(mean, Node) or not isinstance(var, Node) or not isinstance(source, Node):
        return None
    if node.target is aten.batch_norm.default and node.args[5]:
        return None
    eps = float(node.args[7 if node.target is aten.batch_norm.default else 6])  # type: ignore[arg-type]
    scale = (constants.value(var) + eps).rsqrt()
    if isinstance(weight, Node):
        scale = scale * constants.value(weight)
    shift = -constants.value(mean) * scale
    return Affine(scale, shift + constants.value(bias) if isinstance(bias, Node) else shift, source)


def _constant_step(node: Node, channels: int, constants: Constants) -> Affine | None:
    """Multiplication by, or addition of, a constant that is one number a channel."""
    for source, other in (node.args[:2], node.args[1::-1]):
        if not isinstance(source, Node) or constants.known(source):
            continue
        value = constants.value(other) if isinstance(other, Node) and constants.known(other) else other
        if isinstance(value, (int, float)):
            value = torch.tensor(float(value), dtype=torch.float64)
        if not isinstance(value, Tensor) or value.numel() not in (1, channels):
            continue
        if value.numel() > 1 and (value.ndim < 3 or value.shape[-3] != channels):
            continue
        per_channel = value.to(torch.float64).reshape(-1).expand(channels)
        ones, zeros = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
        return Affine(per_channel, zeros, source) if node.target in _MULS else Affine(ones, per_channel, source)
    return None
