"""The corpus, continued: blocks that only look like ULSAM, each with the reason why it must be left as it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import spellings as s
from .corpus import refused
from .spellings import Block, Branch, C, H, W

AXIS = "its softmax runs over"
APPLIED = "its attention map is not applied position by position"
POOL = "its max pool is"
NO_POOL = "there is no max pool between its gate and its scores"
NO_RELU = "its scores reach the softmax without a ReLU"
OTHER = "its gate is not a per-channel affine of the tensor that its attention weights"
RESIDUAL = "it does not compute x + a*x of its own input"
NO_RELU_POOL = "its max pool is"


class Crossed(Block):
    """``order[i]`` is the branch whose attention weighs part ``i``; ``own`` decides which part it is computed from."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__(len(order))
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts(x)
        maps = [branch.attention(part) for branch, part in zip(self.branches, parts)]
        return self.join([part + maps[i] * part for i, part in zip(self.order, parts)])


class OfAnother(nn.Module):
    """Attention computed from one tensor weighs another one."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.other = Branch(C), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        other = self.other(x)
        return other + self.branch.attention(x) * other


class Uneven(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = Branch(4), Branch(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.small(x[:, :4]), self.large(x[:, 4:])], 1)


class PoolOfInput(Branch):
    def forward(self, x: Tensor) -> Tensor:
        self.relu(self.gate(x))  # a dead branch, as in the variant found in the wild
        return self.weigh(self.attend(self.score_relu(self.score(self.pool(x)))), x)


def pool_of_stride_two(t: Tensor) -> Tensor:
    return F.interpolate(F.max_pool2d(t, 3, 2, 1), size=(H, W))


def to_every_channel(a: Tensor, x: Tensor) -> Tensor:
    return x + a.repeat_interleave(x.shape[1] // a.shape[1], 1) * x


def shifted(a: Tensor, x: Tensor) -> Tensor:
    return x + torch.cat([a[:, :, 1:], a[:, :, :1]], 2) * x


def mixed_rows(t: Tensor) -> Tensor:
    """A softmax over as many elements as a map has, half of each of two images."""
    return torch.softmax(t.movedim(0, -1).reshape(-1, H * W), 1).reshape(1, H, W, -1).movedim(-1, 0)


def half_weighed(a: Tensor, x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    return x + torch.cat([a.repeat(1, half, 1, 1), torch.sigmoid(x[:, half:])], 1) * x


class Turned(s.GateConvNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT)


REFUSED = [
    refused("softmax over parts of two images", AXIS, lambda: Block(attend=mixed_rows)),
    refused("attention for half the channels", RESIDUAL, lambda: Block(weigh=half_weighed)),
    refused(
        "attention of the turned tensor", "other channels or positions", lambda: Block(gate=Turned), inputs=((3, 6, 6),)
    ),
    refused("gate with a bias taken twice", OTHER, lambda: Block(gate=lambda c: s.GateAffine(c, "w*x+2*b"))),
    refused(
        "softmax over the 1-channel axis", AXIS, lambda: Block(attend=lambda t: t.flatten(2).softmax(1).view_as(t))
    ),
    refused("softmax over the 1-channel axis, 4-D", AXIS, lambda: Block(attend=nn.Softmax(1))),
    refused("softmax over the batch", AXIS, lambda: Block(attend=nn.Softmax(0))),
    refused("softmax over H", AXIS, lambda: Block(attend=nn.Softmax(2))),
    refused("softmax over W", AXIS, lambda: Block(attend=nn.Softmax(3))),
    refused("softmax over all images", AXIS, lambda: Block(attend=lambda t: torch.softmax(t.flatten(), 0).view_as(t))),
    refused(
        "softmax over the subspaces",
        AXIS,
        lambda: Block(
            groups=1, score=lambda c: s.conv_norm_score(c, maps=3), attend=nn.Softmax(1), weigh=to_every_channel
        ),
        path="block.branches.0.attend",
    ),
    refused("maps that see all channels", "read all channels", lambda: s.Vectorised(maps_see_all=True)),
    refused("pool of the input", "its max pool reads another tensor", lambda: PoolOfInput(C)),
    refused("gate without ReLU", "its max pool reads another tensor", lambda: Block(relu=lambda t: t)),
    refused("gate with ReLU6", "its max pool reads another tensor", lambda: Block(relu=F.relu6)),
    refused("pool 5x5", POOL, lambda: Block(pool=lambda t: F.max_pool2d(t, 5, 1, 2))),
    refused("pool 3x5", POOL, lambda: Block(pool=lambda t: F.max_pool2d(t, (3, 5), 1, (1, 2)))),
    refused("pool 3x3, dilated", POOL, lambda: Block(pool=lambda t: F.max_pool2d(F.pad(t, (1,) * 4), 3, 1, 1, 2))),
    refused(
        "pool padded with ones",
        NO_RELU_POOL,
        lambda: Block(pool=lambda t: F.max_pool2d(F.pad(t, (1,) * 4, value=1), 3, 1)),
    ),
    refused(
        "pool padded at one end", NO_RELU_POOL, lambda: Block(pool=lambda t: F.max_pool2d(F.pad(t, (2, 0, 2, 0)), 3, 1))
    ),
    refused(
        "two pools of one direction",
        POOL,
        lambda: Block(pool=lambda t: F.max_pool2d(F.max_pool2d(t, (3, 1), 1, (1, 0)), (3, 1), 1, (1, 0))),
    ),
    refused("x - (1 - a)*x", RESIDUAL, lambda: Block(weigh=lambda a, x: x - (1 - a) * x)),
    refused("x - a*x", RESIDUAL, lambda: Block(weigh=lambda a, x: x - a * x)),
    refused("x*(1 - a)", RESIDUAL, lambda: Block(weigh=lambda a, x: x * (1 - a))),
    refused("-x - a*x", RESIDUAL, lambda: Block(weigh=lambda a, x: -x - a * x)),
    refused("twos + a", RESIDUAL, lambda: Block(weigh=lambda a, x: x * (2 * torch.ones_like(a) + a))),
    refused("pool of stride 2, upsampled", NO_POOL, lambda: Block(pool=pool_of_stride_two)),
    refused("average pool", NO_POOL, lambda: Block(pool=lambda t: F.avg_pool2d(t, 3, 1, 1))),
    refused("no pool", NO_POOL, lambda: Block(pool=lambda t: t)),
    refused("scores without ReLU", NO_RELU, lambda: Block(score_relu=lambda t: t)),
    refused("scores with ReLU6", NO_RELU, lambda: Block(score_relu=F.relu6)),
    refused("scores with a leaky ReLU", NO_RELU, lambda: Block(score_relu=F.leaky_relu)),
    refused(
        "negated scores",
        "changed between their ReLU and the softmax",
        lambda: Block(attend=lambda t: s.softmax_view(-1 * t)),
    ),
    refused("a*x without x", RESIDUAL, lambda: Block(weigh=lambda a, x: a * x)),
    refused("x + 2*a*x", RESIDUAL, lambda: Block(weigh=lambda a, x: torch.add(x, a * x, alpha=2))),
    refused("x*(a + 2)", RESIDUAL, lambda: Block(weigh=lambda a, x: x * torch.add(a, 1, alpha=2))),
    refused("x*(2 + a)", RESIDUAL, lambda: Block(weigh=lambda a, x: x * (2 + a))),
    refused("x + a*relu(x)", RESIDUAL, lambda: Block(weigh=lambda a, x: x + a * F.relu(x))),
    refused("x + a*a*x", RESIDUAL, lambda: Block(weigh=lambda a, x: x + a * a * x)),
    refused("addcmul with a value", RESIDUAL, lambda: Block(weigh=lambda a, x: torch.addcmul(x, a, x, value=2))),
    refused("map transposed", APPLIED, lambda: Block(attend=lambda t: s.softmax_view(t).mT), inputs=((3, 6, 6),)),
    refused("map shifted", APPLIED, lambda: Block(weigh=shifted)),
    refused("map of the other image", APPLIED, lambda: Block(weigh=lambda a, x: x + torch.cat([a[1:], a[:1]]) * x)),
    refused("x mirrored", "other", lambda: Block(weigh=lambda a, x: x.mT + a * x.mT), inputs=((3, 6, 6),)),
    refused("attention of another subspace", "its scores are computed from other channels", lambda: Crossed((1, 2, 0))),
    refused("one attention for two subspaces", "", lambda: Crossed((0, 0, 2))),
    refused("attention maps reversed", "not used in the order", lambda: s.Vectorised(mix=lambda a: a.flip(1))),
    refused("attention of another tensor", OTHER, OfAnother),
    refused("statistics of the input itself", OTHER, lambda: Branch(C, gate=lambda _: s.GateSelfNorm())),
    refused("score convolution 3x3", "do not come from a 1x1", lambda: Block(score=lambda c: s.conv_norm_score(c, 3))),
    refused("uneven subspaces", "not equal runs of neighbouring channels", Uneven),
]
