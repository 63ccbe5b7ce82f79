"""Networks with other softmaxes in front of a block: self-attention and a choice of branches. Honest artifacts pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ulsam_deploy as ud
from ulsam_deploy.device.findings import AttentionState, Verdict

pytestmark = pytest.mark.long

SHAPE = (3, 48, 48)


class Subspace(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.gate_norm = nn.Conv2d(width, width, 1, groups=width), nn.BatchNorm2d(width)
        self.score, self.score_norm = nn.Conv2d(width, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(torch.relu(self.gate_norm(self.gate(x))), 3, 1, 1)
        score = torch.relu(self.score_norm(self.score(pooled)))
        return x + score.flatten(2).softmax(2).view_as(score) * x


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.subspaces = nn.ModuleList(Subspace(4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([attend(part) for attend, part in zip(self.subspaces, x.chunk(4, 1))], 1)


class Selective(nn.Module):
    """Two branches, weighted by a softmax over two numbers, in front of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 2, dilation=2)
        self.choose, self.block = nn.Linear(16, 2), Attention()

    def forward(self, x: Tensor) -> Tensor:
        share = self.choose(x.mean((2, 3))).softmax(1)
        return self.block(self.left(x) * share[:, 0, None, None, None] + self.right(x) * share[:, 1, None, None, None])


class SelfAttention(nn.Module):
    """Self-attention on a coarse grid, then two blocks; ``effect``: of the second one."""

    def __init__(self, effect: float = 1e-12) -> None:
        super().__init__()
        self.effect = effect
        self.query, self.key, self.value = (nn.Conv2d(16, 16, 1) for _ in range(3))
        self.first, self.second = Attention(), Attention()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(F.avg_pool2d(x, 4)).flatten(2) for f in (self.query, self.key, self.value))
        seen = v @ (q.transpose(1, 2) @ k / 4).softmax(2).transpose(1, 2)
        x = self.first(x + 0.1 * F.interpolate(seen.view(-1, 16, 6, 6), scale_factor=4.0))
        return x + self.effect * self.second(x)


def network(middle: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*stem, middle(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8))
    for module in model.modules():
        if isinstance(module, Subspace):
            module.score_norm.weight.data.fill_(8.0)  # attention that looks somewhere
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(8, *SHAPE))
    return model.eval()


@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("middle", "precision"),
    [(Selective, "fp16"), (SelfAttention, "fp32"), (SelfAttention, "fp16"), (partial(SelfAttention, 1.0), "fp16")],
)
def test_an_honest_artifact_keeps_its_attention(
    middle: Callable[[], nn.Module], precision: str, target: str, tmp_path: Path
) -> None:
    bundle = ud.export(network(middle), target, precisions=precision, inputs=(SHAPE,), output=tmp_path / "b")
    evidence = bundle.manifest.artifacts[0].evidence
    assert evidence.parity is not None
    assert evidence.verdict is Verdict.PASS, evidence.reasons
    assert evidence.replay is not None
    assert evidence.replay.proves
    effective = [block for block in evidence.parity.blocks if "second" not in block.block]
    assert {block.state for block in effective} == {AttentionState.KEPT}
