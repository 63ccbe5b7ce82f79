"""Networks with naive ULSAM, in the spellings that exporters treat differently; weights far from their initial ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ulsam_deploy.device import plugins
from ulsam_deploy.models.ulsam import ULSAM

CHANNELS, SIZE, GROUPS = 16, 8, 4


class Branch(nn.Module):
    """One subspace; ``attend`` makes a map of the scores and weighs ``x`` with it."""

    def __init__(self, channels: int, attend: Callable[[Tensor, Tensor], Tensor], bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1, groups=channels, bias=bias)
        self.norm = nn.BatchNorm2d(channels)
        self.score, self.score_norm = nn.Conv2d(channels, 1, 1, bias=bias), nn.BatchNorm2d(1)
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        """``x + a*x``."""
        pooled = F.max_pool2d(F.relu(self.norm(self.gate(x))), 3, 1, 1)
        return self.attend(F.relu(self.score_norm(self.score(pooled))), x)


class Block(nn.Module):
    """All subspaces, split by ``split``."""

    def __init__(self, split: Callable[[Tensor], Sequence[Tensor]], attend: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(CHANNELS // GROUPS, attend) for _ in range(GROUPS))
        self.split = split

    def forward(self, x: Tensor) -> Tensor:
        """``x + a*x``."""
        return torch.cat([branch(part) for branch, part in zip(self.branches, self.split(x))], 1)


class AllAtOnce(nn.Module):
    """Grouped convolutions instead of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.norm = nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS), nn.BatchNorm2d(CHANNELS)
        self.score = nn.Conv2d(CHANNELS, GROUPS, 1, groups=GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """``x + a*x``."""
        n, c, h, w = x.shape
        scores = F.relu(self.score(F.max_pool2d(F.relu(self.norm(self.gate(x))), 3, 1, 1)))
        maps = torch.softmax(scores.view(n, GROUPS, h * w), -1).view(n, GROUPS, 1, h, w)
        grouped = x.view(n, GROUPS, c // GROUPS, h, w)
        return (grouped + maps * grouped).view(n, c, h, w)


def _viewed(scores: Tensor, x: Tensor) -> Tensor:
    n, k, h, w = scores.shape
    return torch.softmax(scores.view(n, k, -1), 2).view(n, k, h, w).expand(x.shape) * x + x


def _flattened(scores: Tensor, x: Tensor) -> Tensor:
    return x * (1 + torch.softmax(scores.flatten(2), -1).reshape(scores.shape))


def _by_hand(scores: Tensor, x: Tensor) -> Tensor:
    powers = torch.exp(scores.flatten(1))
    return x + x * (powers / powers.sum(1, keepdim=True)).view(-1, 1, *x.shape[2:])


def _chunked(x: Tensor) -> Sequence[Tensor]:
    return torch.chunk(x, GROUPS, 1)


def _sliced(x: Tensor) -> Sequence[Tensor]:
    size = x.shape[1] // GROUPS
    return [x[:, i * size : (i + 1) * size] for i in range(GROUPS)]


def _grouped(x: Tensor) -> Sequence[Tensor]:
    return x.view(x.shape[0], GROUPS, -1, *x.shape[2:]).unbind(1)


def spellings() -> nn.Module:
    """Five blocks in a row, each written in another way: the authors', and four of other people."""
    blocks: Mapping[str, nn.Module] = {
        "authors": ULSAM(CHANNELS, GROUPS),
        "viewed": Block(_chunked, _viewed),
        "sliced": Block(_sliced, _flattened),
        "unbound": Block(_grouped, _viewed),
        "at_once": AllAtOnce(),
    }
    network = nn.Sequential()
    network.add_module("stem", nn.Sequential(nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU6()))
    for name, block in blocks.items():
        network.add_module(name, block)
    network.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 5)))
    return _trained(network)


def softmax_by_hand() -> nn.Module:
    """One block whose softmax is written out: it is not ULSAM by its operations, and has to be left as it is."""
    return _trained(nn.Sequential(nn.Conv2d(3, CHANNELS, 3, 2, 1), Block(_chunked, _by_hand)))


def no_score_relu() -> nn.Module:
    """One block that lacks the ReLU in front of its softmax: it is refused, and the reason is named."""
    block = AllAtOnce()
    block.forward = lambda x: _without_relu(block, x)  # type: ignore[method-assign]
    return _trained(nn.Sequential(nn.Conv2d(3, CHANNELS, 3, 2, 1), block))


def _without_relu(block: AllAtOnce, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    scores = block.score(F.max_pool2d(F.relu(block.norm(block.gate(x))), 3, 1, 1))
    maps = torch.softmax(scores.view(n, GROUPS, h * w), -1).view(n, GROUPS, 1, h, w)
    grouped = x.view(n, GROUPS, c // GROUPS, h, w)
    return (grouped + maps * grouped).view(n, c, h, w)


def mobilenet(name: str, seed: int, **config: Any) -> nn.Module:
    """The project's own MobileNet as ``ulsam-deploy new`` makes it, narrow, with maps that peak in its deeper half."""
    torch.manual_seed(seed)
    model: nn.Module = plugins.load(plugins.MODELS, name).build(config)
    blocks = [module for module in model.modules() if isinstance(module, ULSAM)]
    for block in blocks[len(blocks) // 2 :]:
        for subspace in block.subspaces:  # flat maps hardly show in the outputs, and nothing could be told
            subspace.bn_point.weight.data.mul_(3.0)
    return model.eval()


def reference() -> nn.Module:
    """The trained MobileNetV2 that comes with this project."""
    found = torch.load(Path(__file__).parents[2] / "models" / "cluttered_digits.pt", weights_only=True)
    card = found["ulsam_deploy"]
    model: nn.Module = plugins.load(plugins.MODELS, card["network"]).build(card["config"])
    model.load_state_dict(found["state_dict"])
    return model.eval()


def _trained(model: nn.Module) -> nn.Module:
    """Statistics and weights under which attention is far from uniform; in evaluation mode."""
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))  # type: ignore
            module.running_var.copy_(0.5 + 1.5 * torch.rand(module.num_features, generator=generator))  # type: ignore
            module.weight.data.copy_(0.7 + 0.8 * torch.rand(module.num_features, generator=generator))
            module.bias.data.copy_(0.3 * torch.randn(module.num_features, generator=generator))
    return model.eval()


#: Networks by name: how they are made, their input, and how many ULSAM blocks have to be fused.
NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "five spellings": (spellings, (3, 2 * SIZE, 2 * SIZE), 5),
    "MobileNetV1": (
        lambda: mobilenet("mobilenet_v1", 2, insert=[3], substitute=[9], width=0.25, classes=20),
        (3, 64, 64),
        2,
    ),
    "MobileNetV2": (lambda: mobilenet("mobilenet_v2", 1, insert=[6, 13], width=0.35, classes=10), (3, 64, 64), 2),
    "trained MobileNetV2": (reference, (1, 96, 96), 4),
}

#: Networks whose attention only looks like ULSAM.
LEFT: Mapping[str, Callable[[], nn.Module]] = {
    "softmax written out": softmax_by_hand,
    "no ReLU in front of the softmax": no_score_relu,
}
