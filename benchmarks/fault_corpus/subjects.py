"""The networks whose artifacts are judged: several sizes, placements of attention, and kinds of output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ulsam_deploy.cli import main
from ulsam_deploy.device.parity import Golden, make_probes
from ulsam_deploy.graph import Program, capture, fuse_attention, make_golden
from ulsam_deploy.inputs.probes import PROBES
from ulsam_deploy.load import checkpoint
from ulsam_deploy.models.mobilenet_v2 import InvertedResidual
from ulsam_deploy.models.ulsam import ULSAM

#: How many :func:`subjects` there are.
NETWORKS = 5
REFERENCE = Path(__file__).parents[2] / "models" / "cluttered_digits.pt"


@dataclass(frozen=True)
class Subject:
    """A network in ``eval`` mode; ``shape`` is its input, C x H x W. What is costly is made on first use, once."""

    name: str
    model: nn.Module
    shape: tuple[int, int, int]

    @functools.cached_property
    def captured(self) -> Program:
        """With a dynamic batch: the golden set serves artifacts of any batch size."""
        return capture(self.model, [self.shape], None)

    @functools.cached_property
    def fused(self) -> Program:
        """With every block as one node."""
        return fuse_attention(self.captured)

    @functools.cached_property
    def golden(self) -> Golden:
        """What an export of this network would be held against."""
        probes, names = make_probes({self.captured.inputs[0].name: self.shape}, count=PROBES)
        return make_golden(self.captured, self.fused, probes, names)

    @functools.cached_property
    def blocks(self) -> tuple[str, ...]:
        """Module paths of the attention, in the order in which it runs."""
        return tuple(block.path for block in self.fused.blocks)


class Small(nn.Module):
    """Two heads, a dense one and class scores; maps that are not square; two blocks in 20 operators."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.early = ULSAM(16, 4)
        self.middle = InvertedResidual(16, 16, 1, 3)
        self.down = InvertedResidual(16, 32, 2, 2)
        self.late = ULSAM(32, 4)
        self.mask = nn.Sequential(nn.Conv2d(32, 16, 1), nn.ReLU6(), nn.Conv2d(16, 4, 3, 1, 1))
        self.classifier = nn.Linear(32, 12)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores ``[N, 12]`` and a mask ``[N, 4, H/4, W/4]`` of images ``[N, 3, H, W]``."""
        x = self.late(self.down(self.middle(self.early(self.stem(image)))))
        return self.classifier(x.mean((2, 3))), self.mask(x)


def small() -> Subject:
    """A network of the user's own with two outputs, the quickest to build."""
    torch.manual_seed(5)
    model = Small()
    shape = (3, 40, 56)
    _calibrate(model, shape)
    return Subject("own network, two outputs", model.eval(), shape)


def fresh(folder: Path, name: str, network: str, shape: tuple[int, int, int], *words: str) -> Subject:
    """A network as ``ulsam-deploy new`` makes it, with peaky attention in its deeper half."""
    path = folder / f"{network}-{shape[1]}.pt"
    size = "x".join(map(str, shape))
    if main(["new", network, "--input", size, "-o", str(path), "--json", *words]):
        raise SystemExit(f"'new {network}' failed")
    subject = _read(path, name, shape)
    blocks = [module for module in subject.model.modules() if isinstance(module, ULSAM)]
    for block in blocks[len(blocks) // 2 :]:
        for subspace in block.subspaces:
            subspace.bn_point.weight.data.mul_(3.0)
    return subject


def _read(path: Path, name: str, shape: tuple[int, int, int]) -> Subject:
    weights = checkpoint.read(path)
    network, config = checkpoint.identify(weights, None, None)
    return Subject(name, checkpoint.build(weights, network, config), shape)


def _calibrate(model: nn.Module, shape: Sequence[int]) -> None:
    """Give batch norms the statistics of probe images, and affine weights that are not the initial ones."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        nn.init.uniform_(norm.weight, 0.7, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    images = torch.from_numpy(make_probes({"image": shape}, count=16)[0]["image"])
    with torch.no_grad():
        for batch in images.split(8):
            model.train()(batch)


def subjects(folder: Path) -> list[Callable[[], Subject]]:
    """Every network of the full corpus, made when called; checkpoints are written to ``folder``."""
    return [
        small,
        lambda: fresh(folder, "MobileNetV2, 64 px", "mobilenet_v2", (3, 64, 64), *_V2),
        lambda: fresh(folder, "MobileNetV1, 64 px", "mobilenet_v1", (3, 64, 64), *_V1),
        lambda: fresh(folder, "MobileNetV2, 96 px, four blocks", "mobilenet_v2", (3, 96, 96), *_V2_FOUR),
        lambda: _read(REFERENCE, "cluttered digits, trained", (1, 96, 96)),
    ]


_V2 = ("--insert", "6,13", "--width", "0.35", "--classes", "10", "--seed", "1")
_V1 = ("--insert", "3", "--substitute", "9", "--width", "0.25", "--classes", "20", "--seed", "2")
_V2_FOUR = ("--insert", "2,6,13,16", "--width", "0.25", "--classes", "100", "--seed", "3")


def probes_of(golden: Golden) -> np.ndarray:
    """The images of a golden set of a network with one input."""
    (images,) = golden.inputs.values()
    return images
