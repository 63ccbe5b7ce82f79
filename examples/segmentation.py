"""Export your own network to all targets: a small U-Net with two outputs, and ULSAM under other names in its own code.

    python -m examples.segmentation -o shapes.pt
    ulsam-export shapes.pt --model examples.segmentation:build --input 1x64x64 --target all

Nothing here comes from ``ulsam_deploy``: the tool finds the attention by what it computes. The task is to tell discs
from squares pixel by pixel, both as bright as the noise around them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE, CLASSES = 64, 3
STEPS, BATCH, RATE = 200, 8, 2e-2


class SpatialGate(nn.Module):
    """One attention map for ``channels`` channels (what the paper calls a subspace), written in another style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=channels), nn.BatchNorm2d(channels))
        self.score = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, channels, H, W]`` to the same shape."""
        pooled = F.max_pool2d(F.relu(self.scale(x)), 3, stride=1, padding=1)
        score = F.relu(self.score(pooled))
        weights = score.flatten(2).softmax(-1).reshape(score.shape)
        return x * (1 + weights)


class GroupedGate(nn.Module):
    """ULSAM: a :class:`SpatialGate` for each of ``groups`` equal parts of the channels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.size = channels // groups
        self.gates = nn.ModuleList(SpatialGate(self.size) for _ in range(groups))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, channels, H, W]`` to the same shape."""
        return torch.cat([gate(part) for gate, part in zip(self.gates, x.split(self.size, dim=1))], 1)


def stage(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A depthwise-separable convolution, which costs at most a third of a plain one."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """A stage with attention inside, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(stage(channels, channels), GroupedGate(channels, 4))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, channels, H, W]`` to the same shape."""
        y: Tensor = x + self.body(x)
        return y


class UNet(nn.Module):
    """Two levels down and up again: images to logits per pixel, at full size and at a quarter of it."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Sequential(nn.Conv2d(1, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
        self.down = nn.ModuleList([stage(c, 2 * c, 2), stage(2 * c, 4 * c, 2)])
        self.middle = Residual(4 * c)
        self.skip = GroupedGate(2 * c, 2)
        self.up = nn.ModuleList([nn.ConvTranspose2d(4 * c, 2 * c, 2, 2), nn.ConvTranspose2d(2 * c, c, 2, 2)])
        self.merge = nn.ModuleList([stage(4 * c, 2 * c), stage(2 * c, c)])
        self.fine, self.coarse = nn.Conv2d(c, CLASSES, 1), nn.Conv2d(4 * c, CLASSES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, 3, H, W]`` and ``[N, 3, H/4, W/4]``."""
        whole = self.stem(x)
        half = self.down[0](whole)
        quarter = self.middle(self.down[1](half))
        y = self.merge[0](torch.cat([self.up[0](quarter), self.skip(half)], 1))
        y = self.merge[1](torch.cat([self.up[1](y), whole], 1))
        return self.fine(y), self.coarse(quarter)


def build() -> UNet:
    """The network, for ``--model examples.segmentation:build``."""
    return UNet()


def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images ``[count, 1, 64, 64]`` of a disc and a square in noise; per pixel 0, 1 in the disc or 2 in the square."""
    random = np.random.RandomState(seed)
    images = random.normal(0.5, 0.25, (count, 1, SIZE, SIZE)).astype(np.float32)
    labels = np.zeros((count, SIZE, SIZE), np.int64)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for image, label in zip(images[:, 0], labels):
        for kind in (1, 2):
            y, x = random.randint(10, SIZE - 10, 2)
            down, right, radius = abs(rows - y), abs(columns - x), random.randint(6, 11)
            inside = down**2 + right**2 <= radius**2 if kind == 1 else np.maximum(down, right) <= radius
            label[inside] = kind
            image[inside] = random.normal(0.7, 0.1)
    return torch.from_numpy(images), torch.from_numpy(labels)


def train(model: UNet, steps: int) -> None:
    """Train both outputs on the same labels; takes a few seconds on one core."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for step in range(1, steps + 1):
        images, labels = shapes(BATCH, seed=step)
        fine, coarse = model(images)
        loss = F.cross_entropy(fine, labels) + F.cross_entropy(coarse, labels[:, 2::4, 2::4])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    model.eval()


@torch.no_grad()
def right_pixels(model: UNet) -> float:
    """The share of correctly classified pixels of held-out shapes, without the background."""
    images, labels = shapes(64, seed=0)
    guesses = model(images)[0].argmax(1)
    return float((guesses == labels)[labels > 0].float().mean())


def main(argv: list[str] | None = None) -> None:
    """Train, then save the weights with ``torch.save``."""
    parser = argparse.ArgumentParser(description="train a small segmentation network with ULSAM")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"training steps (default {STEPS})")
    parser.add_argument("-o", "--output", type=Path, default=Path("shapes.pt"), metavar="FILE", help="the weights")
    chosen = parser.parse_args(argv)
    torch.manual_seed(0)
    model = build()
    train(model, chosen.steps)
    torch.save(model.state_dict(), chosen.output)
    print(f"{right_pixels(model):.1%} of the pixels of discs and squares are right")
    command = ("ulsam-export", chosen.output, "--model", "examples.segmentation:build", "--input", "1x64x64")
    print(f"Next: {shlex.join(map(str, command))}")


if __name__ == "__main__":
    main()
