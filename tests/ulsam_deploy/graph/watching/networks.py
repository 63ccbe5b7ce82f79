"""Small networks with attention of many kinds, and some without, in plain words of this project."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

C, SIDE = 16, 12


class Squeeze(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.down, self.up, self.hard = nn.Conv2d(C, 4, 1), nn.Conv2d(4, C, 1), hard
        self.up.weight.data *= 5

    def forward(self, x: Tensor) -> Tensor:
        a = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * (F.hardsigmoid(a) if self.hard else torch.sigmoid(a))


class Expanded(Squeeze):
    """The same with linear layers, and the weights expanded to the features."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        a = F.linear(F.relu(F.linear(pooled, self.down.weight.flatten(1))), self.up.weight.flatten(1)).sigmoid()
        return a.view(len(x), C, 1, 1).expand_as(x) * x


class Cbam(nn.Module):
    """Channels by mean and maximum, then places by the same."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(C, 4, 1), nn.ReLU(), nn.Conv2d(4, C, 1))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        x = x * pooled.sigmoid()
        return x * self.spatial(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class Eca(nn.Module):
    """A short convolution over the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.conv.weight.data *= 5

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * y.sigmoid()


class Coordinate(nn.Module):
    """One gate over rows and one over columns."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.rows, self.columns = nn.Conv2d(C, 8, 1), nn.Conv2d(8, C, 1), nn.Conv2d(8, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        y = F.hardswish(self.both(torch.cat([h, w], 2)))
        h, w = torch.split(y, [SIDE, SIDE], 2)
        return x * self.columns(w.permute(0, 1, 3, 2)).sigmoid() * self.rows(h).sigmoid()


class Selective(nn.Module):
    """Two kernels, chosen between by a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(C, C, 3, padding=1, groups=C)
        self.five = nn.Conv2d(C, C, 3, padding=2, dilation=2, groups=C)
        self.down, self.up = nn.Linear(C, 8), nn.Linear(8, 2 * C)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.three(x), self.five(x)], 1)
        a = self.up(F.relu(self.down(both.sum(1).mean((2, 3))))).view(len(x), 2, C, 1, 1).softmax(1)
        return (both * a).sum(1)


class Context(nn.Module):
    """One softmax over space pools a context that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.transform = nn.Conv2d(C, 1, 1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.score(x).flatten(2).softmax(2).transpose(1, 2)
        return x + self.transform((x.flatten(2) @ a).unsqueeze(-1))


class Bam(nn.Module):
    """A gate of channels and places together, beside the features."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.Linear(C, C)
        self.places = nn.Sequential(nn.Conv2d(C, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=2, dilation=2))

    def forward(self, x: Tensor) -> Tensor:
        channels = self.channels(x.mean((2, 3)))[:, :, None, None].expand_as(x)
        return x * (1 + torch.sigmoid(channels * self.places(x).expand_as(x)))


class Simam(nn.Module):
    """No weights: how far each element is from its channel's mean."""

    def forward(self, x: Tensor) -> Tensor:
        far = (x - x.mean((2, 3), keepdim=True)) ** 2
        energy = far / (4 * (far.sum((2, 3), keepdim=True) / (SIDE * SIDE - 1) + 1e-4)) + 0.5
        return x * energy.sigmoid()


class Groups(nn.Module):
    """Groups of channels against their own mean (SGE)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, 4, 1, 1)), nn.Parameter(torch.zeros(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n * 4, c // 4, h, w)
        t = (y * y.mean((2, 3), keepdim=True)).sum(1).reshape(n * 4, -1)
        t = (t - t.mean(1, keepdim=True)) / (t.std(1, keepdim=True) + 1e-5)
        t = (t.view(n, 4, h, w) * self.weight + self.bias).view(n * 4, 1, h, w)
        return (y * t.sigmoid()).view(n, c, h, w)


class Multiscale(nn.Module):
    """Groups, rows and columns, and two branches across (EMA)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.one, self.three = nn.GroupNorm(8, 8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        g = x.reshape(n * 2, c // 2, h, w)
        rows, columns = g.mean(3, keepdim=True), g.mean(2, keepdim=True).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.one(torch.cat([rows, columns], 2)), [h, w], 2)
        first = self.norm(g * rows.sigmoid() * columns.permute(0, 1, 3, 2).sigmoid())
        second = self.three(g)
        a = first.mean((2, 3))[:, None].softmax(-1) @ second.flatten(2)
        b = second.mean((2, 3))[:, None].softmax(-1) @ first.flatten(2)
        return (g * (a + b).view(n * 2, 1, h, w).sigmoid()).reshape(n, c, h, w)


class SoftArgmax(nn.Module):
    """Where each channel looks: a softmax over space times coordinates."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.linspace(-1, 1, SIDE)
        self.register_buffer("where", torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2))
        self.back = nn.Linear(2 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        points = (4 * x.flatten(2)).softmax(2) @ self.where
        return x + self.back(points.flatten(1))[:, :, None, None]


class NonLocal(nn.Module):
    """Every place looks at every other one."""

    def __init__(self, *, softmax: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Conv2d(C, C, 1) for _ in range(4))
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).flatten(2) for part in (self.q, self.k, self.v))
        a = q.transpose(1, 2) @ k
        a = (a / math.sqrt(C)).softmax(-1) if self.softmax else a / (SIDE * SIDE)
        return x + self.out((a @ v.transpose(1, 2)).transpose(1, 2).reshape(x.shape))


class Heads(nn.Module):
    """Self-attention with heads, by torch's own fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        n, t, c = tokens.shape
        q, k, v = self.qkv(tokens).view(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(3 * q, k, v).transpose(1, 2).reshape(n, t, c)
        return x + self.out(y).transpose(1, 2).reshape(x.shape)


class LookAlike(nn.Module):
    """ULSAM with the pool of its input: the form of its authors' first code, which is not fused."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.ModuleList(nn.Conv2d(4, 1, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for part, point in zip(x.chunk(4, 1), self.point):
            a = point(F.max_pool2d(part, 3, 1, 1)).flatten(2).softmax(2).view(len(x), 1, SIDE, SIDE)
            parts.append(part + 20 * a * part)
        return torch.cat(parts, 1)


class SkipGate(nn.Module):
    """A skip connection weighed by what came later (attention U-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.w, self.g, self.psi = (nn.Conv2d(C, o, k, s, k // 2) for o, k, s in (
            (C, 3, 2), (8, 1, 1), (8, 1, 1), (1, 1, 1)))  # fmt: skip
        self.psi = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        deep = F.interpolate(F.relu(self.deep(x)), scale_factor=2.0, mode="nearest")
        return x * self.psi(F.relu(self.w(x) + self.g(deep))).sigmoid()


class Response(nn.Module):
    """Global response normalization (GRN): the size of each channel against the others'."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1, C, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        return self.gamma * (x * (size / (size.mean(1, keepdim=True) + 1e-6))) + x


#: What is found, by the kind's name.
GATES: Mapping[str, Callable[[], nn.Module]] = {
    "se": Squeeze, "se_hard": lambda: Squeeze(hard=True), "se_expanded": Expanded, "cbam": Cbam, "eca": Eca,
    "coordinate": Coordinate, "sk": Selective, "context": Context, "bam": Bam, "simam": Simam, "sge": Groups,
    "ema": Multiscale, "soft_argmax": SoftArgmax, "non_local": NonLocal,
    "non_local_dot": lambda: NonLocal(softmax=False), "heads": Heads, "ulsam_look_alike": LookAlike,
    "skip_gate": SkipGate, "grn": Response,
}  # fmt: skip


class Scaled(nn.Module):
    """A layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.conv = nn.Parameter(torch.full((C, 1, 1), 0.1)), nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.conv(x)


class Normed(nn.Module):
    """Norms in plain words: by the mean square of the channels, by their length, and by mean and variance."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)
        x = F.normalize(x, dim=1) * 3
        return (x - x.mean((2, 3), keepdim=True)) * (1 / (x.var((2, 3), keepdim=True) + 1e-5).sqrt())


class Halves(nn.Module):
    """A gated linear unit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, 2 * C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv(x), 1)


class Activations(nn.Module):
    """Activations in plain words that multiply with themselves."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * x.sigmoid()
        x = x * F.relu6(x + 3) / 6
        x = x * torch.tanh(F.softplus(x))
        x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return x * (x > 0) + 0.1 * x * x


class Plain(nn.Module):
    """Convolutions and torch's own activations."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C), nn.SiLU(), nn.Conv2d(C, C, 1), nn.Hardswish(),
            nn.GroupNorm(4, C), nn.GELU(), nn.PReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


#: In which nothing is found.
NO_GATES: Mapping[str, Callable[[], nn.Module]] = {
    "layer_scale": Scaled, "norms": Normed, "glu": Halves, "activations": Activations, "plain": Plain,
}  # fmt: skip


class Small(nn.Module):
    """A stem, two uses of a block that is given, and a head that sees places."""

    def __init__(self, block: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, C, 3, 2, 1), nn.BatchNorm2d(C), nn.ReLU())
        self.attention = block()
        self.middle = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C), nn.ReLU())
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(C * 9, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.attention(self.stem(x))))


def small(kind: str) -> Small:
    """The network called ``kind``, with weights drawn from a fixed seed and batch norms that fit them."""
    torch.manual_seed(len(kind))
    network = Small((GATES | NO_GATES)[kind])
    for weight in network.attention.parameters():
        weight.data *= 3 if weight.ndim > 1 and kind in GATES else 1  # attention that does something, as after training
    network.train()
    for _ in range(20):
        network(torch.randn(8, 3, 2 * SIDE, 2 * SIDE))
    return network.eval()
