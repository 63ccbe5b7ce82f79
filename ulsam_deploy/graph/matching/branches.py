"""From a softmax back to the input of its gate: reads one attention branch of ULSAM from a captured graph.

    x -> [1x1 depthwise conv, BN]* -> ReLU -> max pool 3x3 s1 p1 -> 1x1 conv -> [BN]* -> ReLU -> softmax over H*W

Batch norms and per-channel constants are folded in float64 on the way. A branch that starts like this and then differs
raises :class:`NotUlsamError` with the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.graph.editing import Constants, shape_of
from ulsam_deploy.graph.matching.movement import Origins, only_source, reached, sources
from ulsam_deploy.graph.matching.wordings import POOLS, RELUS, is_relu, pool_window, relu_input, softmax_of

aten = torch.ops.aten
_ADDS, _MULS = (aten.add.Tensor,), (aten.mul.Tensor,)
_SUBS, _DIVS = (aten.sub.Tensor,), (aten.div.Tensor,)
_CONVS = (aten.conv2d.default, aten.conv2d.padding)
_WEIGHING = (*_MULS, *_ADDS, *_SUBS, aten.rsub.Scalar, aten.neg.default, aten.addcmul.default)
_BATCH_NORMS = (aten._native_batch_norm_legit_no_training.default, aten.batch_norm.default)
_ACTIVATIONS = (*RELUS, aten.relu6.default, aten.elu.default, aten.gelu.default, aten.silu.default)

POOLS_ANOTHER = "its max pool reads another tensor than the gated branch (depthwise affine, then ReLU)"


class NotUlsamError(Exception):
    """Why something that looks like ULSAM attention must be left unchanged."""


@dataclass(frozen=True)
class Affine:
    """``scale * source[:, channels] + bias``; float64 ``scale`` and ``bias`` of shape ``(len(channels),)``."""

    scale: Tensor
    bias: Tensor
    source: Node
    channels: Tensor

    @classmethod
    def identity(cls, source: Node, channels: Tensor) -> Affine:
        """The identity on the ``channels`` of ``source``."""
        ones = torch.ones(len(channels), dtype=torch.float64)
        return cls(ones, torch.zeros_like(ones), source, channels)

    def at(self, channels: Tensor) -> Affine:
        """The same function for only some of the channels."""
        return Affine(self.scale[channels], self.bias[channels], self.source, self.channels[channels])


@dataclass(frozen=True, eq=False)
class Unit:
    """One branch: ``maps`` attention maps computed from the same number of equal runs of channels.

    Attributes:
        scores: The node ``(N, maps, H, W)`` whose maps a softmax normalises.
        gate: The node that is max-pooled.
        gates: The readings of the input of the gate's ReLU, from the nearest source to the farthest: a batch norm in
            front may belong to the block or to the network, which only the block's input can decide.
        score_weight: Float64 ``(maps, C/maps)``.
        score_bias: Float64 ``(maps,)``.
        kernel: Identifies the module that the score weights belong to.
    """

    scores: Node
    gate: Affine
    gates: tuple[Affine, ...]
    kernel: tuple[object, ...]
    score_weight: Tensor
    score_bias: Tensor

    @property
    def maps(self) -> int:
        """The number of attention maps of this branch for one image."""
        return len(self.score_bias)


def looks_like_attention(softmax: Node, constants: Constants, origins: Origins) -> bool:
    """Whether ``softmax`` normalises scores like ULSAM's and its result weights something: a refusal needs a reason.

    Such scores come from a convolution, with a max pool before it, an activation after it, or both.
    """
    weighs = any(user.target in _WEIGHING for node in reached(softmax) for user in node.users)
    scores = [node for node in sources(softmax_of(softmax)[0]) if len(shape_of(node)) == 4]
    return weighs and any(_from_marked_convolution(node, constants, origins) for node in scores)


def _from_marked_convolution(node: Node, constants: Constants, origins: Origins) -> bool:
    activated = False
    while True:
        node = _peel(node, constants, origins)[-1].source
        inner = relu_input(node) or (node.all_input_nodes[0] if node.target in _ACTIVATIONS else None)
        if inner is None:
            break
        activated, node = True, inner
    if node.target not in _CONVS:
        return False
    pooled, _ = _selection(node.all_input_nodes[0], origins)
    before = relu_input(pooled)
    return activated or pooled.target in POOLS or (before is not None and before.target in POOLS)


def read_softmax(softmax: Node, constants: Constants, origins: Origins) -> tuple[list[Node], Tensor]:
    """The score nodes ``(N, k, H, W)`` that ``softmax`` normalises, and the origin of each of its elements."""
    normalised, axes = softmax_of(softmax)
    scores = sorted(sources(normalised))
    for node in scores:
        if len(shape_of(node)) != 4:
            raise NotUlsamError("its scores are not a map of shape N x k x H x W")
        reading = _peel(node, constants, origins)[-1]
        if not is_relu(reading.source):
            raise NotUlsamError("its scores reach the softmax without a ReLU")
        if not bool((reading.scale > 0).all()):
            raise NotUlsamError("its scores are changed between their ReLU and the softmax")
    order = origins.of(normalised)
    _check_rows(order.movedim(axes, tuple(range(-len(axes), 0))).flatten(-len(axes)), scores, origins)
    return scores, order


def _check_rows(order: Tensor, scores: Sequence[Node], origins: Origins) -> None:
    """Check that each softmax row (the last axis) holds all H*W positions of one map of one image, and nothing else."""
    height, width = shape_of(scores[0])[2:]
    rows = order.reshape(-1, order.shape[-1]).sort(1).values
    if rows.shape[1] == 1 and height * width > 1:
        raise NotUlsamError("its softmax runs over an axis of length 1, so the attention is 1 everywhere")
    maps = [origins.of(node).flatten(2).flatten(0, 1) for node in scores]
    fits = all(of_one.shape[1] == rows.shape[1] for of_one in maps)
    if not fits or len(set(rows[:, 0].tolist())) < len(rows) or not _are_rows_of(rows, torch.cat(maps)):
        raise NotUlsamError(f"its softmax runs over {rows.shape[1]} elements that are not one {height}x{width} map")


def _are_rows_of(rows: Tensor, table: Tensor) -> bool:
    """Whether every row is a row of ``table``, whose rows are distinct ascending runs."""
    table = table[table[:, 0].argsort()]
    at = torch.searchsorted(table[:, 0].contiguous(), rows[:, 0].contiguous()).clamp_max(len(table) - 1)
    return torch.equal(table[at], rows)


def read_unit(scores: Node, constants: Constants, origins: Origins) -> Unit:
    """Read the branch that ends in ``scores``; raises :class:`NotUlsamError` if it differs from ULSAM's.

    A positive factor behind the ReLU (a temperature) is one of the scores as well, and a number added there is without
    effect in a softmax.
    """
    after = _peel(scores, constants, origins)[-1]
    inner = relu_input(after.source)
    assert inner is not None
    norm = _peel(inner, constants, origins)[-1].at(after.channels)
    norm = replace(norm, scale=norm.scale * after.scale, bias=norm.bias * after.scale)
    conv = norm.source
    if conv.target not in _CONVS or not _is_pointwise(conv):
        raise NotUlsamError("its scores do not come from a 1x1 convolution")
    weight, bias, groups = _weights(conv, constants)
    weight, groups = _grouped(weight, groups)
    if groups != len(weight):
        raise NotUlsamError(f"its {len(weight)} score maps each read all channels instead of a subspace of their own")
    rows, size = norm.channels, weight.shape[1]
    read = (rows[:, None] * size + torch.arange(size)).flatten()
    relu, seen, channels = _gate(conv.all_input_nodes[0], origins)
    gates = _peel(seen, constants, origins, through_depthwise=True)
    kernel = conv.args[1]
    assert isinstance(kernel, Node)
    return Unit(
        scores=scores,
        gate=Affine.identity(relu, channels[read]),
        gates=tuple(gate.at(channels[read]) for gate in gates),
        kernel=(kernel, *rows.tolist()),
        score_weight=norm.scale[:, None] * weight.flatten(1)[rows],
        score_bias=norm.scale * bias[rows] + norm.bias,
    )


def _gate(pooled: Node, origins: Origins) -> tuple[Node, Node, Tensor]:
    """The node that is pooled, the input of its ReLU, and the channels of that input which reach ``pooled``.

    Max pool and ReLU commute, so either may come first.
    """
    node, channels = _selection(pooled, origins)
    if (before := relu_input(node)) is not None:
        node, inner = _selection(before, origins)
        seen = _check_pool(node)
        return seen, seen, inner[channels]
    relu, inner = _selection(_check_pool(node), origins)
    if (before := relu_input(relu)) is None:
        raise NotUlsamError(POOLS_ANOTHER)
    return relu, before, inner[channels]


def _selection(node: Node, origins: Origins) -> tuple[Node, Tensor]:
    """The node that ``node`` takes whole channels from, and which; ``node`` itself if it moves more than channels."""
    own = torch.arange(shape_of(node)[1]) if len(shape_of(node)) > 1 else torch.arange(0)
    source = only_source(node)
    if source is None or len(shape_of(node)) != 4 or len(shape_of(source)) != 4:
        return node, own
    _, channels, height, width = shape_of(source)
    taken, whole = origins.of(node), origins.of(source)
    picked = (taken[0, :, 0, 0] - origins.start(source)) // (height * width)
    inside = bool(((picked >= 0) & (picked < channels)).all())
    return (source, picked) if inside and torch.equal(taken, whole[:, picked]) else (node, own)


def _check_pool(pool: Node) -> Node:
    """The input of ``pool``, which must be a max pool with kernel 3x3, stride 1 and padding 1."""
    window = pool_window(pool)
    if window is None:
        raise NotUlsamError("there is no max pool between its gate and its scores")
    if not window.is_plain or (window.kernel, window.padding) != ((3, 3), (1, 1)):
        given = (window.kernel, window.stride, window.padding, window.dilation)
        found = zip(("", "stride ", "padding ", "dilation "), given)
        sizes = " ".join(what + shape_text(pair) for what, pair in found)
        raise NotUlsamError(f"its max pool is {sizes}, not 3x3 stride 1x1 padding 1x1 dilation 1x1")
    return window.source


def _is_pointwise(conv: Node) -> bool:
    """Whether a ``conv2d`` has a 1x1 kernel, stride 1 and no padding."""
    weight = conv.args[1]
    assert isinstance(weight, Node)
    stride: Any = conv.args[3] if len(conv.args) > 3 else [1]
    padding: Any = conv.args[4] if len(conv.args) > 4 else [0]
    return shape_of(weight)[2:] == (1, 1) and set(stride) == {1} and (isinstance(padding, str) or set(padding) == {0})


def _weights(conv: Node, constants: Constants) -> tuple[Tensor, Tensor, int]:
    """Weight, bias (zeros if there is none) and groups of a convolution."""
    weight_node, bias_node = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
    assert isinstance(weight_node, Node)
    if not constants.known(weight_node) or (isinstance(bias_node, Node) and not constants.known(bias_node)):
        raise NotUlsamError("its convolution weights are computed from the input")
    weight = constants.value(weight_node)
    bias = constants.value(bias_node) if isinstance(bias_node, Node) else weight.new_zeros(weight.shape[0])
    return weight, bias, int(conv.args[6]) if len(conv.args) > 6 else 1  # type: ignore[arg-type]


def _grouped(weight: Tensor, groups: int) -> tuple[Tensor, int]:
    """Rewrite a dense convolution as a grouped one, if only the weights of one group for each output are not zero.

    Some engines are faster with the zeros, so converters write such dense convolutions.
    """
    outputs, channels = weight.shape[:2]
    if groups != 1 or outputs == 1 or channels % outputs:
        return weight, groups
    apart = weight.reshape(outputs, outputs, channels // outputs, *weight.shape[2:])
    own = apart[torch.arange(outputs), torch.arange(outputs)]
    return (own, outputs) if apart.count_nonzero() == own.count_nonzero() else (weight, groups)


def _peel(node: Node, constants: Constants, origins: Origins, *, through_depthwise: bool = False) -> tuple[Affine, ...]:
    """Walk back over per-channel affine steps; every step on the way gives a reading of ``node``."""
    reading = Affine.identity(node, torch.arange(shape_of(node)[1]))
    readings = [reading]
    while step := _affine_step(reading.source, constants, origins, through_depthwise):
        inner = step.at(reading.channels)
        scale, bias = reading.scale * inner.scale, reading.scale * inner.bias + reading.bias
        reading = Affine(scale, bias, inner.source, inner.channels)
        readings.append(reading)
    return tuple(readings)


def _affine_step(node: Node, constants: Constants, origins: Origins, through_depthwise: bool) -> Affine | None:
    """``node`` as a per-channel affine function of the node before it; ``None`` if it is none."""
    if node.target is operator.getitem and isinstance(node.args[0], Node) and node.args[0].target in _BATCH_NORMS:
        node = node.args[0]
    if node.target in _BATCH_NORMS:
        return _batch_norm(node, constants)
    if through_depthwise and node.target in _CONVS and _is_pointwise(node):
        weight, bias, groups = _weights(node, constants)
        source = node.all_input_nodes[0]
        depthwise = groups == len(weight) == shape_of(source)[1]
        return Affine(weight.flatten(), bias, source, torch.arange(groups)) if depthwise else None
    if node.target in (*_ADDS, *_MULS, *_SUBS, *_DIVS) and not node.kwargs:
        return _constant_step(node, constants)
    source, channels = _selection(node, origins)
    return None if source is node else Affine.identity(source, channels)


def _batch_norm(node: Node, constants: Constants) -> Affine | None:
    """``(z - mean) / sqrt(var + eps) * weight + bias`` as scale and bias."""
    source, weight, bias, mean, var = node.args[:5]
    if not isinstance(mean, Node) or not isinstance(var, Node) or not isinstance(source, Node):
        return None
    if not all(constants.known(given) for given in (weight, bias, mean, var) if isinstance(given, Node)):
        return None
    if node.target is aten.batch_norm.default and node.args[5]:
        return None
    eps = float(node.args[7 if node.target is aten.batch_norm.default else 6])  # type: ignore[arg-type]
    scale = (constants.value(var) + eps).rsqrt()
    if isinstance(weight, Node):
        scale = scale * constants.value(weight)
    shift = -constants.value(mean) * scale
    shift = shift + constants.value(bias) if isinstance(bias, Node) else shift
    return Affine(scale, shift, source, torch.arange(len(scale)))


def _constant_step(node: Node, constants: Constants) -> Affine | None:
    """Arithmetic with a constant that has one number for each channel."""
    left, right = node.args[:2]
    for source, other, swapped in ((left, right, False), (right, left, True)):
        if not isinstance(source, Node) or constants.known(source) or shape_of(source) != shape_of(node):
            continue
        value = _per_channel(other, shape_of(node)[1], constants)
        if value is None or (swapped and node.target in _DIVS):
            continue
        scale, bias = torch.ones_like(value), torch.zeros_like(value)
        if node.target in _MULS:
            scale = value
        elif node.target in _DIVS:
            scale = 1 / value
        elif node.target in _ADDS:
            bias = value
        else:
            scale, bias = (-scale, value) if swapped else (scale, -value)
        return Affine(scale, bias, source, torch.arange(len(value)))
    return None


def _per_channel(value: object, channels: int, constants: Constants) -> Tensor | None:
    """A number, or a constant that broadcasts to one number for each channel, as float64 ``(channels,)``."""
    if isinstance(value, Node):
        value = constants.value(value) if constants.known(value) else None
    if isinstance(value, (int, float)):
        value = torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, Tensor) or value.numel() not in (1, channels):
        return None
    if value.numel() > 1 and (value.ndim < 3 or value.shape[-3] != channels):
        return None
    return value.to(torch.float64).reshape(-1).expand(channels)
