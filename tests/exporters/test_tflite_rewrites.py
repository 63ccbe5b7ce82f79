"""What litert-torch does not convert, or converts wrongly, is written otherwise: equal, and then it converts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ulsam_deploy as ud
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.exporters.lowerings import broadcast
from ulsam_deploy.exporters.tflite.rewrites import REWRITES
from ulsam_deploy.graph import Proof, capture, lower

SHAPE = (3, 12, 20)
Middle = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """A small network; ``middle`` is applied to its features (8 channels)."""

    def __init__(self, middle: Middle, channels: int = 8) -> None:
        super().__init__()
        self.stem, self.spatial = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 1, 1)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.body, self.middle = nn.Conv2d(channels, 8, 3, 1, 1), middle

    def gate(self, z: Tensor) -> Tensor:
        return self.up(torch.relu(self.down(z))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.middle(self, torch.relu(self.stem(x)))).mean((2, 3))


def _context(net: Net, x: Tensor) -> Tensor:
    weights = net.spatial(x).flatten(2).softmax(2)
    return x * net.gate(torch.matmul(x.flatten(2), weights.transpose(1, 2)).unsqueeze(-1))


#: What is written otherwise, the operator that must be gone, and an operator that the network then still has.
CASES: dict[str, tuple[Net, str]] = {
    "squeeze and excitation": (Net(lambda n, x: x * n.gate(x.mean((2, 3), keepdim=True)).expand_as(x)), "expand"),
    "a repeated map": (Net(lambda n, x: x + x * n.spatial(x).sigmoid().repeat(1, 8, 1, 1)), "repeat"),
    "a repeated map alone": (Net(lambda n, x: n.spatial(x).repeat(1, 8, 1, 1)), "repeat"),
    "an expanded map alone": (Net(lambda n, x: n.spatial(x).expand(-1, 8, -1, -1)), "expand"),
    "a maximum over space": (Net(lambda n, x: x * n.gate(F.adaptive_max_pool2d(x, 1))), "adaptive_max_pool2d"),
    "context pooling": (Net(_context), "matmul"),
    "a split into one part": (Net(lambda _, x: torch.cat([p * 2 for p in x.chunk(1, 1)], 1)), "split"),
    "a nearest resize": (Net(lambda _, x: F.interpolate(x, size=(11, 17), mode="nearest")), "upsample_nearest2d"),
    "a smaller nearest resize": (Net(lambda _, x: F.interpolate(x, size=(4, 7), mode="nearest")), "upsample_nearest2d"),
}
KEPT: dict[str, tuple[Net, str]] = {
    "a resize by two": (Net(lambda _, x: F.interpolate(x, scale_factor=2, mode="nearest")), "upsample_nearest2d"),
    "a maximum over windows": (Net(lambda _, x: F.adaptive_max_pool2d(x, (3, 5))), "adaptive_max_pool2d"),
    "two parts": (Net(lambda _, x: torch.cat([p * 2 for p in x.chunk(2, 1)], 1)), "split"),
    "a tiled map": (Net(lambda _, x: x.repeat(1, 2, 1, 1), 16), "repeat"),
}


def operators(model: nn.Module) -> tuple[set[str], set[str]]:
    """The operators before and after, proven equal."""
    captured = capture(model.eval(), [SHAPE])
    lowered = lower(captured, broadcast, REWRITES)
    Proof(captured).check(lowered, "rewriting")
    before, after = (
        {str(node.target).split(".")[1] for node in p.exported.graph.nodes if "aten" in str(node.target)}
        for p in (captured, lowered)
    )
    return before, after


@pytest.mark.parametrize("name", CASES)
def test_it_is_equal_and_the_operator_is_gone(name: str) -> None:
    model, operator = CASES[name]
    before, after = operators(model)
    assert operator in before
    assert operator not in after


@pytest.mark.parametrize("name", KEPT)
def test_what_converts_is_left_as_it_is(name: str) -> None:
    model, operator = KEPT[name]
    before, after = operators(model)
    assert before == after
    assert operator in after


def test_where_the_maximum_is_asked_for_nothing_is_replaced() -> None:
    def where(_: Net, x: Tensor) -> Tensor:
        values, places = F.adaptive_max_pool2d(x, 1, return_indices=True)
        return x + values * places

    assert "adaptive_max_pool2d" in operators(Net(where))[1]


@pytest.mark.long
def test_each_of_them_converts_and_passes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for number, (name, (model, _)) in enumerate(CASES.items()):
        bundle = ud.export(model.eval(), "tflite", inputs=(SHAPE,), output=tmp_path / str(number))
        assert bundle.manifest.artifacts[0].evidence.verdict is Verdict.PASS, name
