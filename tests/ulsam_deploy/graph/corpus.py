"""The corpus: differently written ULSAM blocks and networks, and what fusing must say of each.

A case says which blocks are fused, as ``path: subspaces``, and which reasons of refusal are given. Nothing else of
these blocks may be left in the graph. Cases with neither are networks that must be left alone without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import spellings as s
from .spellings import Block, Branch, C, H, W


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], nn.Module]
    blocks: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[tuple[str, str], ...] = ()
    inputs: tuple[tuple[int, ...], ...] = ((3, H, W),)
    batch: int | None = 2
    alone: bool = False  # nothing but the block stands between two convolutions
    keeps: int = 0  # softmaxes of fused blocks that stay, because the network returns what they give


def net(block: nn.Module, channels: int = C) -> nn.Module:
    """A stem, the block and a head."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.head = nn.Conv2d(3, channels, 1), block, nn.Conv2d(channels, 4, 1)

        def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
            y = self.block(self.stem(image))
            if isinstance(y, tuple):
                return {"y": self.head(y[0])} | {f"map{i}": a for i, a in enumerate(y[1:])}
            return self.head(y)

    return Net()


def fused(name: str, block: Callable[[], nn.Module], groups: int = 2, **options: object) -> Case:
    """A block that is fused as one node, of ``groups`` subspaces."""
    options = {"blocks": {"block": groups}, "alone": True} | options
    return Case(name, lambda: net(block()), **options)


def refused(name: str, reason: str, block: Callable[[], nn.Module], path: str = "block", **options: object) -> Case:
    """A block that is left, every subspace of it for one reason."""
    return Case(name, lambda: net(block()), refusals=((path, reason),), **options)


# ---- ways to split and to join


def by_slicing(x: Tensor, groups: int) -> list[Tensor]:
    size = x.shape[1] // groups
    return [x[:, i * size : (i + 1) * size] for i in range(groups)]


def by_narrow(x: Tensor, groups: int) -> list[Tensor]:
    size = x.shape[1] // groups
    return [x.narrow(1, i * size, size) for i in range(groups)]


def by_select(x: Tensor, groups: int) -> list[Tensor]:
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return [grouped[:, i] for i in range(groups)]


def by_index_select(x: Tensor, groups: int) -> list[Tensor]:
    return [x.index_select(1, channels) for channels in torch.arange(x.shape[1]).chunk(groups)]


def by_list(x: Tensor, groups: int) -> list[Tensor]:
    size = x.shape[1] // groups
    return [x[:, list(range(i * size, (i + 1) * size))] for i in range(groups)]


def interleaved(x: Tensor, groups: int) -> list[Tensor]:
    return [x[:, i::groups] for i in range(groups)]


SPLITS: dict[str, Callable[[Tensor, int], object]] = {
    "split of a size": lambda x, g: x.split(x.shape[1] // g, 1),
    "split of sizes": lambda x, g: torch.split(x, [x.shape[1] // g] * g, dim=1),
    "tensor_split": lambda x, g: torch.tensor_split(x, g, dim=1),
    "slicing": by_slicing,
    "narrow": by_narrow,
    "unflatten and unbind": lambda x, g: x.unflatten(1, (g, -1)).unbind(1),
    "view and select": by_select,
    "index_select": by_index_select,
    "a list of channels": by_list,
}

JOINS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "stack and view": lambda p: torch.stack(p, 1).view(-1, len(p) * p[0].shape[1], H, W),
    "stack and flatten": lambda p: torch.stack(p, dim=1).flatten(1, 2),
    "hstack": torch.hstack,
    "concatenate last": lambda p: torch.cat([q.movedim(1, -1) for q in p], -1).movedim(-1, 1),
    "pairwise cat": lambda p: functools.reduce(lambda a, b: torch.cat([a, b], 1), p),
}


def assigned(parts: list[Tensor]) -> Tensor:
    y = torch.empty(parts[0].shape[0], C, H, W)
    for i, part in enumerate(parts):
        y[:, i * part.shape[1] : (i + 1) * part.shape[1]] = part
    return y


def by_rows_and_columns(t: Tensor) -> Tensor:
    return F.max_pool2d(F.max_pool2d(t, (1, 3), 1, (0, 1)), (3, 1), 1, (1, 0))


# ---- ways to normalise and to weigh

SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten, -1": lambda t: torch.softmax(t.flatten(2), -1).view_as(t),
    "reshape, F.softmax": lambda t: F.softmax(t.reshape(t.shape[0], t.shape[1], -1), dim=2).reshape(t.shape),
    "nn.Softmax": lambda t: nn.Softmax(dim=-1)(t.view(t.size(0), 1, -1)).view(t.size()),
    "two axes": lambda t: torch.softmax(t.view(-1, H * W), 1).view(-1, 1, H, W),
    "squeeze and unsqueeze": lambda t: torch.softmax(t.squeeze(1).flatten(1), 1).unflatten(1, (H, W)).unsqueeze(1),
    "positions first": lambda t: F.softmax(t.permute(0, 2, 3, 1).reshape(-1, H * W, 1), 1).reshape(-1, 1, H, W),
    "columns first": lambda t: F.softmax(t.transpose(2, 3).flatten(2), 2).view(-1, 1, W, H).transpose(2, 3),
    "positions in the first axis": lambda t: F.softmax(t.flatten(1).t(), 0).t().view(-1, 1, H, W),
    "float32 named": lambda t: F.softmax(t.flatten(2), -1, dtype=torch.float32).type_as(t).view_as(t),
}

WEIGHINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + a*x": lambda a, x: x + a * x,
    "a*x + x": lambda a, x: a * x + x,
    "x + x*a": lambda a, x: x + x * a,
    "x*(1+a)": lambda a, x: x * (1 + a),
    "(a+1)*x": lambda a, x: (a + 1.0) * x,
    "x*(1+a), wide": lambda a, x: x * (1 + a.expand_as(x)),
    "torch.mul and add": lambda a, x: torch.add(x, torch.mul(a, x)),
    "addcmul": lambda a, x: torch.addcmul(x, a, x),
    "addcmul, swapped": lambda a, x: torch.addcmul(x, x, a.expand_as(x)),
    "repeat": lambda a, x: x + a.repeat(1, x.shape[1], 1, 1) * x,
    "repeat_interleave": lambda a, x: x + a.repeat_interleave(x.shape[1], 1) * x,
    "tile and cat": lambda a, x: x + torch.cat([a] * x.shape[1], 1) * x,
    "in place": lambda a, x: (a * x).add_(x),
    "x - (-a)*x": lambda a, x: x - (-a) * x,
    "x - -(a*x)": lambda a, x: x - -(a * x),
    "x*(1 - (-a))": lambda a, x: x * (1 - (-a)),
    "x*(a - -1)": lambda a, x: x * (a - -1),
    "ones_like": lambda a, x: x * (torch.ones_like(a) + a),
    "full": lambda a, x: x * (a + torch.full((1, 1, H, W), 1.0)),
    "flattened": lambda a, x: (x.flatten(2) + a.flatten(2) * x.flatten(2)).view_as(x),
    "permuted": lambda a, x: (x.permute(0, 2, 3, 1) * (1 + a.permute(0, 2, 3, 1))).permute(0, 3, 1, 2).contiguous(),
}


def in_place_plus(a: Tensor, x: Tensor) -> Tensor:
    y = x.clone()
    y += a * x
    return y


# ---- ways to write the rest of a branch

RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "in place": torch.relu_,
    "nn.ReLU(inplace)": nn.ReLU(inplace=True),
    "clamp(min=0)": lambda t: t.clamp(min=0),
    "clamp_min": lambda t: torch.clamp_min(t, 0.0),
    "hardtanh": lambda t: F.hardtanh(t, 0.0, float("inf")),
    "threshold": lambda t: F.threshold(t, 0.0, 0.0),
    "leaky with slope 0": lambda t: F.leaky_relu(t, 0.0),
}

GATES: dict[str, Callable[[int], nn.Module]] = {
    "no conv bias": lambda c: s.GateConvNorm(c, bias=False),
    "norm without affine": lambda c: s.GateConvNorm(c, affine=False),
    "conv alone": s.conv_gate,
    "norm alone": s.norm_gate,
    "parameter*x + parameter": s.GateAffine,
    "parameter + mul": lambda c: s.GateAffine(c, "b+w*x"),
    "parameter - parameter*x": lambda c: s.GateAffine(c, "b-w*x"),
    "norm by hand": s.GateHandNorm,
    "scaled and shifted": lambda c: s.Scaled(s.GateConvNorm(c)),
    "two convs": lambda c: nn.Sequential(s.conv_gate(c), s.GateConvNorm(c)),
    "dropout": lambda c: nn.Sequential(s.GateConvNorm(c), nn.Dropout2d(0.5)),
    "contiguous": lambda c: nn.Sequential(s.GateConvNorm(c), Called(lambda t: t.contiguous())),
    "permuted there and back": lambda c: nn.Sequential(
        Called(lambda t: t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), s.GateConvNorm(c)
    ),
}

SCORES: dict[str, Callable[[int], nn.Module]] = {
    "no bias, no norm": s.conv_score,
    "scaled and shifted": lambda c: s.Scaled(s.conv_score(c)),
    "norm by hand": lambda c: nn.Sequential(s.conv_score(c), s.Scaled(nn.Identity())),
    "dropout": lambda c: nn.Sequential(s.conv_norm_score(c), nn.Dropout(0.5)),
    "dropout in front": lambda c: nn.Sequential(nn.Dropout(0.5), s.conv_norm_score(c)),
    "channels_last": lambda c: nn.Sequential(
        Called(lambda t: t.contiguous(memory_format=torch.channels_last)), s.conv_norm_score(c)
    ),
}


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


APART = {"block.branches.0": 1, "block.branches.1": 1}

SPELLED = [
    fused("the reference form", Block),
    *(fused(f"split: {name}", lambda f=f: Block(split=f)) for name, f in SPLITS.items()),
    *(fused(f"join: {name}", lambda f=f: Block(join=f)) for name, f in JOINS.items()),
    *(fused(f"softmax: {name}", lambda f=f: Block(attend=f)) for name, f in SOFTMAXES.items()),
    *(fused(f"weigh: {name}", lambda f=f: Block(weigh=f)) for name, f in WEIGHINGS.items()),
    fused("weigh: +=", lambda: Block(weigh=in_place_plus)),
    *(fused(f"relu: {name}", lambda f=f: Block(relu=f, score_relu=f)) for name, f in RELUS.items()),
    *(fused(f"gate: {name}", lambda f=f: Block(gate=f)) for name, f in GATES.items()),
    *(fused(f"score: {name}", lambda f=f: Block(score=f)) for name, f in SCORES.items()),
    fused("zeros in front of the pool", lambda: Block(pool=lambda t: F.max_pool2d(F.pad(t, (1,) * 4), 3, 1))),
    fused(
        "zeros, the pool, then ReLU", lambda: Block(relu=lambda t: F.max_pool2d(F.pad(t, (1,) * 4), 3, 1), pool=F.relu)
    ),
    fused("pool by rows, then by columns", lambda: Block(pool=by_rows_and_columns)),
    fused("pools of 2, one padded", lambda: Block(pool=lambda t: F.max_pool2d(F.max_pool2d(t, 2, 1, 1), 2, 1))),
    fused("one module for all groups", s.Shared, groups=3),
    fused("pool and ReLU swapped", lambda: Block(relu=s.pool, pool=F.relu)),
    fused("dropout on the attention", lambda: Block(attend=s.then(s.softmax_view, nn.Dropout(0.3).eval()))),
    fused("grouped convolutions, one softmax", s.Vectorised, groups=3),
    fused("maps together, one product", s.MapsFirst),
    fused("scores together, one softmax", s.ScoresFirst),
    fused("one gate, split after the pool", s.GateFirst),
    fused("one subspace", lambda: Block(groups=1), blocks={"block.branches.0": 1}, alone=False),
    fused("one subspace a channel", lambda: Block(groups=C), groups=C),
    fused("three subspaces", lambda: Block(groups=3), groups=3),
    fused("slices of the output assigned", lambda: Block(join=assigned), batch=2),
    fused("grouped scores, one softmax a map", lambda: s.Vectorised(apart=True), groups=3),
    fused("gate without an affine", lambda: Block(gate=lambda _: nn.Identity())),
    fused("a bare branch", lambda: Branch(C), groups=1),
    # Exact as one-subspace blocks: what moves channels between them is not part of them.
    fused("interleaved subspaces", lambda: Block(split=interleaved), blocks=APART, alone=False),
    fused(
        "subspaces put together in another order",
        lambda: Block(join=lambda p: torch.cat(p[::-1], 1)),
        blocks=APART,
        alone=False,
    ),
    fused("one module, groups in the batch", lambda: s.Shared(folded=True), blocks={"block.branch": 1}, alone=False),
    fused("batch 1", Block, batch=1),
    fused("batch 1, grouped", s.Vectorised, groups=3, batch=1),
    fused("batch 1, scores together", s.ScoresFirst, batch=1),
    fused("dynamic batch", Block, batch=None),
    fused("dynamic batch, grouped", s.Vectorised, groups=3, batch=None),
    fused("dynamic batch, maps returned", s.Returning, batch=None, alone=False),
    fused("maps returned", s.Returning, alone=False),
    fused("maps returned, last subspace first", s.Backwards, alone=False),
]
