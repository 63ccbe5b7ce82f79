"""The lowerings of ``ulsam::subspace_attention``: plain torch functions with the operator's signature.

Shapes: ``x`` [N, C, H, W]; ``gate_scale`` [C, 1, 1, 1]; ``gate_bias`` [C]; ``score_weight`` [g, C/g, 1, 1];
``score_bias`` [g]; subspace k owns channels k*C/g .. (k+1)*C/g - 1. H and W are static. N may be dynamic, so no
lowering uses its value: it is the -1 of a reshape. Constants made here are folded into buffers before export.

In fp32 a block has several equivalent forms (:data:`FORMS`); which is fastest depends on the engine and on the block's
geometry. ``lowerings.json``, made by ``benchmarks/lowerings.py``, holds the fastest as measured; :class:`ByGeometry`
looks it up, unless a recipe (from ``--tune``) chooses another.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.types import Block
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.graph.operator import attention_scores

if TYPE_CHECKING:
    from ulsam_deploy.graph import Program

TABLE = Path(__file__).with_name("lowerings.json")


def broadcast(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """ONNX Runtime, TensorRT, OpenVINO: one softmax over [N, g, H*W], and a broadcast multiply by ``1 + a`` in 5-D.

    ``1 + a`` is formed on the g maps, not on the C channels: C/g times fewer additions than ``x + a * x``.
    """
    return _broadcast(x, attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces))


def dense_broadcast(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """Like :func:`broadcast`, but the scores are one dense 1x1 convolution: g times the products, but no groups."""
    return _broadcast(x, _dense_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces))


def spread(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """A 1x1 convolution with 0/1 weights and bias 1 copies ``1 + a`` from the maps to the channels."""
    scores = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return x * _to_channels(_softmax(scores), x.shape[1])


def dense_spread(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """Dense scores, and maps copied to the channels by a convolution: no operator has groups or five axes."""
    scores = _dense_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return x * _to_channels(_softmax(scores), x.shape[1])


def take(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """A gather copies ``1 + a`` of its subspace to every channel."""
    scores = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return x * torch.index_select(_softmax(scores) + 1, 1, _owners(x.shape[1], subspaces))


def separate(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """For float16: ``x + a * x``, so that the sum is rounded once and ``a`` is stored by itself.

    In float16 ``1 + a`` has steps of 2**-10: on a map of 46x46 or more, where ``a`` is about ``1 / (H * W)``, it can
    round to 1 everywhere.
    """
    return _separate(x, attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces))


def dense_separate(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """Like :func:`separate`, with dense scores."""
    return _separate(x, _dense_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces))


def channels_last(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """TFLite: stays in 4-D, so that no TRANSPOSE, RESHAPE or BROADCAST_TO is needed in its NHWC layout.

    TFLite's SOFTMAX works on the last axis only, which in NHWC is the channels: it would need two transposes for each
    block. The softmax is therefore computed by simpler operators over H and W. A 1x1 convolution with 0/1 weights and
    bias 1 copies ``1 + a`` to the channels (``repeat_interleave`` would become BROADCAST_TO, eight times slower).
    """
    scores = attention_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return x * _to_channels(_spelled_softmax(scores), x.shape[1])


def dense_channels_last(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """Like :func:`channels_last`, but the scores are one dense 1x1 convolution: TFLite splits a grouped one."""
    scores = _dense_scores(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)
    return x * _to_channels(_spelled_softmax(scores), x.shape[1])


#: By target and name, the equivalent forms of an fp32 block; the first is used where nothing was measured.
_OF_FIVE_AXES = {form.__name__: form for form in (broadcast, dense_broadcast, spread, dense_spread, take)}
FORMS: Mapping[str, Mapping[str, Callable[..., Tensor]]] = {
    "onnx": _OF_FIVE_AXES,
    "openvino": _OF_FIVE_AXES,
    "tflite": {form.__name__: form for form in (channels_last, dense_channels_last)},
}


@dataclass(frozen=True)
class ByGeometry:
    """The lowering for fp32: each block in the form that is fastest for its geometry.

    ``said`` are pairs of a geometry (:attr:`Block.geometry`) and a name in :data:`FORMS`; they override the measured
    table. Raises :class:`UsageError` for an unknown name.
    """

    target: str
    said: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for geometry, name in self.said:
            if name not in FORMS[self.target]:
                raise UsageError(
                    f"{self.target} has no lowering '{name}' for blocks of {geometry}",
                    expected=", ".join(FORMS[self.target]),
                )

    def __call__(
        self, x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
    ) -> Tensor:
        """The operator, in the chosen form."""
        form = FORMS[self.target][self.name(Block("", x.shape[1], subspaces, x.shape[2], x.shape[3]))]
        return form(x, gate_scale, gate_bias, score_weight, score_bias, subspaces)

    def name(self, block: Block) -> str:
        """The form of ``block``."""
        first = next(iter(FORMS[self.target]))
        return {**_table().get(self.target, {}), **dict(self.said)}.get(block.geometry, first)


def by_geometry(target: str, request: ExportRequest) -> ByGeometry:
    """The lowering of ``target`` for ``request``."""
    return ByGeometry(target, request.lowerings)


def forms(target: str, program: Program, request: ExportRequest) -> dict[str, str]:
    """For the manifest: the form of each block by its path; empty if there was no choice."""
    if request.precision != "fp32" or not program.blocks:
        return {}
    chosen = by_geometry(target, request)
    return {block.path: chosen.name(block) for block in program.blocks}


@functools.cache
def _table() -> Mapping[str, Mapping[str, str]]:
    table: Mapping[str, Mapping[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))["forms"]
    return table


def _dense_scores(
    x: Tensor, gate_scale: Tensor, gate_bias: Tensor, score_weight: Tensor, score_bias: Tensor, subspaces: int
) -> Tensor:
    """Same result as :func:`attention_scores`, with a dense convolution that has zeros between the subspaces."""
    channels = x.shape[1]
    owned = _owners(channels, subspaces)[None, :] == torch.arange(subspaces)[:, None]
    dense = owned.to(x.dtype) * score_weight.reshape(1, channels)
    gate = F.relu(F.conv2d(x, gate_scale, gate_bias, groups=channels))
    return F.relu(F.conv2d(F.max_pool2d(gate, 3, 1, 1), dense[:, :, None, None], score_bias))


def _broadcast(x: Tensor, scores: Tensor) -> Tensor:
    _, channels, height, width = x.shape
    subspaces = scores.shape[1]
    attention = torch.softmax(scores.reshape(-1, subspaces, height * width), -1)
    gain = attention.reshape(-1, subspaces, 1, height, width) + 1
    grouped = x.reshape(-1, subspaces, channels // subspaces, height, width)
    return (grouped * gain).reshape(-1, channels, height, width)


def _separate(x: Tensor, scores: Tensor) -> Tensor:
    _, channels, height, width = x.shape
    subspaces = scores.shape[1]
    attention = torch.softmax(scores.reshape(-1, subspaces, height * width), -1)
    grouped = x.reshape(-1, subspaces, channels // subspaces, height, width)
    weighted = grouped * attention.reshape(-1, subspaces, 1, height, width)
    return (grouped + weighted).reshape(-1, channels, height, width)


def _softmax(scores: Tensor) -> Tensor:
    _, subspaces, height, width = scores.shape
    maps = torch.softmax(scores.reshape(-1, subspaces, height * width), -1)
    return maps.reshape(-1, subspaces, height, width)


def _spelled_softmax(scores: Tensor) -> Tensor:
    powers = torch.exp(scores - scores.amax((2, 3), keepdim=True))
    return powers / powers.sum((2, 3), keepdim=True)


def _to_channels(attention: Tensor, channels: int) -> Tensor:
    """Give every channel ``1 + a`` of its subspace, by a 1x1 convolution: [N, g, H, W] to [N, C, H, W]."""
    subspaces = attention.shape[1]
    reach = (_owners(channels, subspaces)[:, None] == torch.arange(subspaces)[None, :]).to(attention.dtype)
    return F.conv2d(attention, reach[:, :, None, None], torch.ones(channels, dtype=attention.dtype))


def _owners(channels: int, subspaces: int) -> Tensor:
    """The subspace of every channel, int64 [C]."""
    return torch.arange(channels) // (channels // subspaces)
