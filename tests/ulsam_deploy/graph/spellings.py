"""Pieces from which the corpus builds ULSAM blocks: each step of the block, written in the ways that people write it.

A block splits ``x`` of shape (N, 12, 6, 5), runs one :class:`Branch` a part and joins the parts again. Every step is an
argument, so that a case of the corpus names only what it writes differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

C, H, W = 12, 6, 5


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics under which every ReLU sees both signs and attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        positive = name.endswith(("running_var", "std", "bias", "b", "beta"))
        tensor.data = noise.abs() + 0.5 if positive else noise
    return model.eval()


# ---- the gate: what the ReLU in front of the pool sees


class GateConvNorm(nn.Module):
    def __init__(self, channels: int, bias: bool = True, affine: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=bias)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class GateAffine(nn.Module):
    """A parameter times x plus a parameter."""

    def __init__(self, channels: int, form: str = "x*w+b") -> None:
        super().__init__()
        self.form = form
        self.w, self.b = nn.Parameter(torch.ones(channels, 1, 1)), nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "w*x+2*b":
            return torch.add(self.w * x, self.b, alpha=2)
        if self.form == "b-w*x":
            return self.b - self.w * x
        return x * self.w + self.b if self.form == "x*w+b" else self.b + torch.mul(self.w, x)


class GateHandNorm(nn.Module):
    """A depthwise convolution and a batch norm written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, groups=channels, padding="same")
        self.mean, self.std, self.gamma, self.beta = (nn.Parameter(torch.ones(channels)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        mean, std, gamma, beta = (p.view(1, -1, 1, 1) for p in (self.mean, self.std, self.gamma, self.beta))
        return (self.conv(x) - mean) / (std + 1e-5) * gamma + beta


class GateSelfNorm(nn.Module):
    """A normalisation by the input's own statistics: no constant affine."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, x.mean((0, 2, 3)).detach(), x.var((0, 2, 3)).detach(), training=False)


def then(*steps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run


def conv_gate(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, 1, groups=channels)


def norm_gate(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels)


class Scaled(nn.Module):
    """``inner`` and then a constant factor and a constant offset."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 0.1 + 2 * self.inner(x)


# ---- the scores


def conv_norm_score(channels: int, kernel: int = 1, maps: int = 1) -> nn.Module:
    conv = nn.Conv2d(channels, maps, kernel, padding=kernel // 2, groups=maps)
    return nn.Sequential(conv, nn.BatchNorm2d(maps))


def conv_score(channels: int) -> nn.Module:
    return nn.Conv2d(channels, 1, 1, bias=False)


# ---- steps without weights


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)


def softmax_view(s: Tensor) -> Tensor:
    n, k, h, w = s.shape
    return torch.softmax(s.view(n, k, -1), 2).view(n, k, h, w)


def expand_mul_add(a: Tensor, x: Tensor) -> Tensor:
    return a.expand(x.shape) * x + x


class Branch(nn.Module):
    """One subspace: gate, ReLU, pool, score, ReLU, softmax, ``x + a*x``."""

    def __init__(
        self,
        channels: int,
        gate: Callable[[int], nn.Module] = GateConvNorm,
        relu: Callable[[Tensor], Tensor] = F.relu,
        pool: Callable[[Tensor], Tensor] = pool,
        score: Callable[[int], nn.Module] = conv_norm_score,
        score_relu: Callable[[Tensor], Tensor] = F.relu,
        attend: Callable[[Tensor], Tensor] = softmax_view,
        weigh: Callable[[Tensor, Tensor], Tensor] = expand_mul_add,
    ) -> None:
        super().__init__()
        self.gate, self.score = gate(channels), score(channels)
        self.relu, self.pool, self.score_relu, self.attend, self.weigh = relu, pool, score_relu, attend, weigh

    def attention(self, x: Tensor) -> Tensor:
        return self.attend(self.score_relu(self.score(self.pool(self.relu(self.gate(x))))))

    def forward(self, x: Tensor) -> Tensor:
        return self.weigh(self.attention(x), x)


def chunk(x: Tensor, groups: int) -> Sequence[Tensor]:
    return torch.chunk(x, groups, 1)


def join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts), 1)


class Block(nn.Module):
    """All subspaces of one tensor; ``spelling`` goes to each :class:`Branch`."""

    def __init__(
        self,
        groups: int = 2,
        channels: int = C,
        split: Callable[[Tensor, int], Sequence[Tensor]] = chunk,
        join: Callable[[Sequence[Tensor]], Tensor] = join,
        **spelling: Any,
    ) -> None:
        super().__init__()
        self.split, self.join = split, join
        self.branches = nn.ModuleList(Branch(channels // groups, **spelling) for _ in range(groups))

    def parts(self, x: Tensor) -> Sequence[Tensor]:
        return self.split(x, len(self.branches))

    def forward(self, x: Tensor) -> Tensor:
        return self.join([branch(part) for branch, part in zip(self.branches, self.parts(x), strict=True)])


class Returning(Block):
    """Keeps its attention maps and returns them beside its output."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        parts = self.parts(x)
        maps = [branch.attention(part) for branch, part in zip(self.branches, parts)]
        return self.join([b.weigh(a, part) for b, a, part in zip(self.branches, maps, parts)]), *maps


class Backwards(Returning):
    """Runs its last subspace first."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        parts = self.parts(x)
        order = reversed(range(len(parts)))
        maps = {i: self.branches[i].attention(parts[i]) for i in order}
        done = [self.branches[i].weigh(maps[i], parts[i]) for i in range(len(parts))]
        return self.join(done), *maps.values()


class MapsFirst(Block):
    """Puts all maps together and multiplies once."""

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts(x)
        maps = [branch.attention(part).expand(part.shape) for branch, part in zip(self.branches, parts)]
        return x + torch.cat(maps, 1) * x


class ScoresFirst(Block):
    """Puts all scores together for one softmax."""

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts(x)
        scores = [b.score_relu(b.score(b.pool(b.relu(b.gate(part))))) for b, part in zip(self.branches, parts)]
        maps = softmax_view(torch.cat(scores, 1))
        return x + torch.repeat_interleave(maps, parts[0].shape[1], 1) * x


class GateFirst(Block):
    """One gate and one pool over all channels; each subspace has a score convolution of its own."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__(groups, gate=lambda _: nn.Identity())
        self.gate = GateConvNorm(C)

    def forward(self, x: Tensor) -> Tensor:
        gated = self.parts(pool(F.relu(self.gate(x))))
        maps = [softmax_view(F.relu(b.score(part))) for b, part in zip(self.branches, gated)]
        return self.join([expand_mul_add(a, part) for a, part in zip(maps, self.parts(x))])


class Vectorised(nn.Module):
    """All subspaces at once: grouped convolutions and one softmax, or one a map.

    ``mix`` reorders the maps before they weigh.
    """

    def __init__(
        self,
        groups: int = 3,
        mix: Callable[[Tensor], Tensor] = lambda a: a,
        maps_see_all: bool = False,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.groups, self.mix, self.apart = groups, mix, apart
        self.gate = GateConvNorm(C)
        score = nn.Conv2d(C, groups, 1, groups=1 if maps_see_all else groups)
        self.score = nn.Sequential(score, nn.BatchNorm2d(groups))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        s = F.relu(self.score(pool(F.relu(self.gate(x)))))
        a = torch.cat([softmax_view(m) for m in s.chunk(self.groups, 1)], 1) if self.apart else softmax_view(s)
        a = self.mix(a).reshape(n, self.groups, 1, h, w)
        grouped = x.reshape(n, self.groups, c // self.groups, h, w)
        return (grouped + a * grouped).reshape(n, c, h, w)


class Shared(nn.Module):
    """One branch serves all groups."""

    def __init__(self, groups: int = 3, folded: bool = False) -> None:
        super().__init__()
        self.groups, self.folded = groups, folded
        self.branch = Branch(C // groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.folded:  # the groups travel in the batch axis
            return self.branch(x.reshape(-1, C // self.groups, H, W)).reshape(x.shape)
        return torch.cat([self.branch(part) for part in torch.chunk(x, self.groups, 1)], 1)
