"""The networks that are compared: a backbone, and the same with ULSAM at the paper's placements and after every block.

Weights are random, batch norms in equilibrium with normal noise, so that no value decays into denormal numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ulsam_deploy.device import plugins

__all__ = ["BACKBONE", "EVERYWHERE", "GROUPS", "PLACED", "POINTS", "Group"]

BACKBONE, PLACED, EVERYWHERE = "backbone", "paper's placement", "after every block"
REFERENCE = Path(__file__).parents[2] / "models" / "cluttered_digits.pt"


@dataclass(frozen=True)
class Group:
    """Networks that share a backbone; ``networks`` gives each a configuration of the family ``family``."""

    name: str
    family: str
    shape: tuple[int, int, int]
    networks: Mapping[str, Mapping[str, Any]]
    #: Layers that ULSAM takes the place of at the paper's placement.
    substituted: str = ""
    checkpoint: Path | None = None
    batch: int = 1

    def build(self, form: str) -> nn.Module:
        """The network in ``eval`` mode; the same weights each time."""
        network = plugins.load(plugins.MODELS, self.family)
        torch.manual_seed(0)
        model: nn.Module = network.build(self.networks[form])
        if self.checkpoint and form != BACKBONE:
            model.load_state_dict(_read(self.checkpoint)["state_dict"])
            return model.eval()
        return balanced(model, self.shape)


def balanced(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """``model`` after batch norms took mean and variance of four normal images (C, H, W); in ``eval`` mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average: exactly those of this batch
    with torch.no_grad():
        model.train()(torch.randn(4, *shape))
    return model.eval()


def _paper(family: str, size: int, placed: Mapping[str, Any], positions: int) -> Group:
    network = plugins.load(plugins.MODELS, family)
    everywhere = {**placed, "substitute": (), "insert": tuple(range(1, positions + 1))}
    substituted = ", ".join(map(str, placed["substitute"]))
    networks = {BACKBONE: network.backbone(placed), PLACED: placed, EVERYWHERE: everywhere}
    return Group(f"{family} {size}", family, (3, size, size), networks, substituted)


def _groups() -> dict[str, Group]:
    first, second = (plugins.load(plugins.MODELS, name) for name in ("mobilenet_v1", "mobilenet_v2"))
    found = []
    for size in (224, 96):
        found.append(_paper("mobilenet_v1", size, first.named()["mobilenet_v1_ulsam_sub_11"], 13))
        found.append(_paper("mobilenet_v2", size, second.named()["mobilenet_v2_ulsam_sub_12_13_15_16"], 17))
    card = _read(REFERENCE)["ulsam_deploy"]
    networks = {BACKBONE: second.backbone(card["config"]), PLACED: card["config"]}
    found.append(Group("reference", card["network"], tuple(card["input"]), networks, checkpoint=REFERENCE))
    return {group.name: group for group in found}


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def _points() -> dict[str, dict[float, Group]]:
    """MobileNetV2 with one property varied at a time, by axis and value; the others stay at those of ``usual``."""
    usual = {"size": 160, "batch": 1, "width": 0.5, "blocks": 4}
    axes = {
        "size": (64, 96, 160, 224, 320),
        "batch": (1, 2, 4, 8),
        "width": (0.25, 0.5, 1.0, 1.4),
        "blocks": (1, 2, 4, 8, 17),
    }
    return {axis: {value: _point(axis, {**usual, axis: value}) for value in values} for axis, values in axes.items()}


def _point(axis: str, at: Mapping[str, Any]) -> Group:
    """Blocks are spread evenly over the 17 layers, the last one after the last layer."""
    count, layers = at["blocks"], 17
    config = {"insert": [round(layers * (k + 1) / count) for k in range(count)], "width": at["width"]}
    size = at["size"]
    return Group(f"{axis} {at[axis]}", "mobilenet_v2", (3, size, size), {PLACED: config}, batch=at["batch"])


#: By name; the reference network is the one that is shipped, trained.
GROUPS = _groups()
#: What benchmarks/growth.py measures.
POINTS = _points()
