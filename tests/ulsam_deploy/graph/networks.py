"""The corpus, continued: blocks inside networks, and networks with other attention that must be left without a word."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ulsam_deploy.models.ulsam import POOL_OF_INPUT, SOFTMAX_OVER_CHANNEL, ULSAM

from .corpus import SOFTMAXES, SPELLED, Case, fused, net
from .lookalikes import REFUSED
from .spellings import Block, Branch, C, H, Returning, W, softmax_view


class Wired(nn.Module):
    """Modules by name, and how they are wired."""

    def __init__(self, wiring: Callable[..., object], **modules: nn.Module) -> None:
        super().__init__()
        self.wiring = wiring
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> object:
        return self.wiring(self, x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.block = nn.Conv2d(3, C, 1), nn.Conv2d(2, C, 3, padding=1), Block()

    def forward(self, image: Tensor, depth: Tensor) -> dict[str, Tensor]:
        y = self.block(self.left(image) + self.right(depth))
        return {"dense": y, "logits": y.mean((2, 3))}


class UNet(nn.Module):
    """Three blocks at two resolutions; one reads a concatenation with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low, self.high, self.skip = nn.Conv2d(C, 8, 3, 2, 1), Block(4, 8), Block(5, C + 8), Block(2)
        self.stem = nn.Conv2d(3, C, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.stem(image)
        low = self.low(self.down(x))
        y = self.high(torch.cat([self.skip(x), F.interpolate(low, size=(H, W))], 1))
        return y, [low]


class Transformer(nn.Module):
    """Self-attention over positions with queries and keys from 1x1 convolutions."""

    def __init__(self, library: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(C, C, 1) for _ in range(3))
        self.mha = nn.MultiheadAttention(C, 2, batch_first=True) if library else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (conv(x).flatten(2).mT for conv in (self.q, self.k, self.v))
        y = self.mha(q, k, v)[0] if self.mha else torch.softmax(q @ k.mT / C**0.5, -1) @ v
        return x + y.mT.reshape(x.shape)


class SoftMask(nn.Module):
    """A segmentation head whose class probabilities weigh features again."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.softmax(self.head(x), 1) * x


class Context(nn.Module):
    """A global context block: a softmax over positions whose result is summed, not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.softmax(self.score(x).flatten(2), -1)
        return x + (x.flatten(2) @ a.mT).unsqueeze(-1)


class Excite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(F.relu(x.mean((2, 3), keepdim=True))))


class Halves(Block):
    """A proper subspace beside one with an average pool."""

    def __init__(self) -> None:
        super().__init__(2)
        self.branches[1].pool = lambda t: F.avg_pool2d(t, 3, 1, 1)  # type: ignore[assignment]


class LatePut(Block):
    """Its input is put together only after its maps were computed, and the maps are returned."""

    def __init__(self) -> None:
        super().__init__(2)
        self.a, self.b = nn.Conv2d(C, C // 2, 1), nn.Conv2d(C, C // 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        parts = [self.a(x), self.b(x)]
        maps = [branch.attention(part) for branch, part in zip(self.branches, parts)]
        whole = torch.cat(parts, 1)
        wide = torch.cat([a.expand(p.shape) for a, p in zip(maps, parts)], 1)
        return whole + wide * whole, *maps


class WideScale(nn.Module):
    """A constant that makes three maps of one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(channels, 1, 1), nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, t: Tensor) -> Tensor:
        return self.conv(t) * self.scale


def by_hand(t: Tensor) -> Tensor:
    powers = torch.exp(t - t.amax((2, 3), keepdim=True))
    return powers / powers.sum((2, 3), keepdim=True)


def by_hand_overflowing(t: Tensor) -> Tensor:
    powers = torch.exp(t)
    return powers / powers.sum((2, 3), keepdim=True)


def by_hand_flat(t: Tensor) -> Tensor:
    flat = t.flatten(2)
    powers = (flat - flat.max(-1, keepdim=True).values).exp()
    return (powers / powers.sum(-1, keepdim=True)).view(t.shape)


def by_logarithm(t: Tensor) -> Tensor:
    return t.flatten(2).log_softmax(-1).exp().view(t.shape)


#: Other words for the same mathematics.
EQUAL = [
    fused("softmax by hand", lambda: Block(attend=by_hand)),
    fused("softmax by hand over a flat map", lambda: Block(attend=by_hand_flat)),
    fused("softmax by its logarithm", lambda: Block(attend=by_logarithm)),
    fused("temperature", lambda: Block(attend=lambda t: softmax_view(t / 0.5 + 3))),
    fused("ReLU as a maximum", lambda: Block(relu=lambda t: torch.maximum(t, torch.zeros_like(t)))),
    fused("ReLU as a mask", lambda: Block(relu=lambda t: t * (t > 0), score_relu=lambda t: (t > 0).float() * t)),
]


def shuffled(x: Tensor) -> Tensor:
    return x.view(x.shape[0], 3, C // 3, H, W).transpose(1, 2).reshape(x.shape)


def per_channel(a: Tensor, x: Tensor) -> Tensor:
    return x + a.repeat_interleave(x.shape[1] // a.shape[1], 1) * x


def input_changed(block: Wired, x: Tensor) -> Tensor:
    x += block.branch.attention(x) * x
    return x


CONV, POOL = nn.Conv2d, "there is no max pool between its gate and its scores"
INPUT = ((C, H, W),)
NETWORKS = [
    Case("back to back", lambda: net(nn.Sequential(Block(), Block(3))), {"block.0": 2, "block.1": 3}),
    Case(
        "one module at two places",
        lambda: net(Wired(lambda m, x: m.attend(torch.tanh(m.attend(x))), attend=Block())),
        {"block.attend": 2, "block.attend#2": 2},
    ),
    Case("in a residual branch", lambda: net(Wired(lambda m, x: x + m.attend(x), attend=Block())), {"block.attend": 2}),
    Case(
        "two blocks on one tensor",
        lambda: net(Wired(lambda m, x: m.a(x) - m.b(x), a=Block(), b=Block(3))),
        {"block.a": 2, "block.b": 3},
    ),
    Case(
        "channel shuffle in front",
        lambda: net(Wired(lambda m, x: m.attend(shuffled(x)), attend=Block())),
        {"block.attend": 2},
    ),
    Case(
        "norm and ReLU in front",
        lambda: net(nn.Sequential(nn.BatchNorm2d(C), nn.ReLU(), Block())),
        {"block.2": 2},
    ),
    Case("norm in front, no ReLU", lambda: net(nn.Sequential(nn.BatchNorm2d(C), Block())), {"block.1": 2}),
    Case("U-Net", UNet, {"low": 4, "skip": 2, "high": 5}),
    Case("U-Net, dynamic batch", UNet, {"low": 4, "skip": 2, "high": 5}, batch=None),
    Case("two inputs, two outputs", TwoInputs, {"block": 2}, inputs=((3, H, W), (2, H, W))),
    Case("nothing but the block", Block, {"forward": 2}, inputs=INPUT),
    Case(
        "nothing but a branch that changes its input",
        lambda: Wired(input_changed, branch=Branch(C)),
        {"forward": 1},
        inputs=INPUT,
    ),
    Case("map of one position", Block, {"forward": 2}, inputs=((C, 1, 1),)),
    Case("the reference module", lambda: net(ULSAM(C, 4)), {"block": 4}),
    Case("input put together late, maps returned", lambda: net(LatePut()), {"block": 2}, keeps=2),
    Case(
        "maps returned, columns first",
        lambda: net(Returning(attend=SOFTMAXES["columns first"])),
        {"block": 2},
        keeps=2,
    ),
    Case(
        "channels picked by the input itself",
        lambda: net(Wired(lambda m, x: m.attend(x[:, x.mean((0, 2, 3)).argsort()]), attend=Block())),
        {"block.attend": 2},
    ),
    Case(
        "parts returned as well",
        lambda: Wired(lambda m, x: (m.block(x), m.block.branches[0](x[:, :6])), block=Block()),
        {"block": 2, "block.branches.0": 1},
        inputs=INPUT,
    ),
    Case("one subspace of two", lambda: net(Halves()), {"block.branches.0": 1}, (("block.branches.1", POOL),)),
    Case(
        "one block of two",
        lambda: net(nn.Sequential(Block(), Block(pool=lambda t: t))),
        {"block.0": 2},
        (("block.1", POOL),),
    ),
    Case(
        "two blocks refused apart",
        lambda: net(nn.Sequential(Branch(C, pool=lambda t: t), Block(pool=lambda t: t))),
        refusals=(("block.0", POOL), ("block.1", POOL)),
    ),
    Case(
        "variant: pool of the input, behind a ReLU",
        lambda: net(nn.Sequential(nn.ReLU(), ULSAM(C, 2, POOL_OF_INPUT))),
        refusals=(("block.1", "its max pool reads another tensor"),),
    ),
    Case(
        "variant: softmax over the channel",
        lambda: net(ULSAM(C, 2, SOFTMAX_OVER_CHANNEL)),
        refusals=(("block", "an axis of length 1"),),
    ),
]
SILENT = [
    Case("classifier", lambda: nn.Sequential(CONV(3, C, 1), nn.Flatten(), nn.Linear(C * H * W, 5), nn.Softmax(1))),
    Case("segmentation head", lambda: nn.Sequential(CONV(3, C, 1), nn.ReLU(), CONV(C, 4, 1), nn.Softmax2d())),
    Case("soft mask", lambda: net(SoftMask())),
    Case("self-attention", lambda: net(Transformer(library=False))),
    Case("self-attention of the library", lambda: net(Transformer(library=True))),
    Case("global context", lambda: net(Context())),
    Case("squeeze and excitation", lambda: net(Excite())),
    Case("sigmoid gate", lambda: net(Block(attend=torch.sigmoid))),
    Case("softmax by hand that overflows", lambda: net(Block(attend=by_hand_overflowing))),
    Case("one score spread over maps", lambda: net(Branch(C, score=WideScale, weigh=per_channel))),
    Case(
        "scores that see the batch axis",
        lambda: net(Block(score=lambda c: CONV(c, 1, 1), score_relu=lambda t: t - t[:1])),
    ),
    Case("nothing at all", lambda: nn.Sequential(CONV(3, C, 1))),
]
ALL = [*SPELLED, *EQUAL, *REFUSED, *NETWORKS, *SILENT]
