"""Trains MobileNetV2 with ULSAM at 224 x 224 on cluttered digits in colour: half an hour on two cores.

    python benchmarks/mobilenet_224.py FOLDER

The paper's network, with ULSAM in place of bottlenecks 13 and 16, but for its ten classes. What int8 does to a network
can only be told of one that has learnt something: with random weights its classes lie closer together than int8's own
noise, and every check of it is inconclusive. Learns on small pictures first, then on those of full size. Writes
``mobilenet.pt``, ``calibration.npz`` (training pictures) and the labelled ``data.npz`` (held out). Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ulsam_deploy.load import checkpoint
from ulsam_deploy.models.digits import CLASSES, Split, cluttered_digits
from ulsam_deploy.models.mobilenet_v2 import NETWORK
from ulsam_deploy.models.reference import accuracy, attention_paths

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.train_reference import BATCH, SMOOTHING, batches, optimizer, recalibrate

SIZE, SEED = 224, 3
MODEL, CALIBRATION, DATA = "mobilenet.pt", "calibration.npz", "data.npz"
CONFIG: dict[str, Any] = {**NETWORK.named()["mobilenet_v2_ulsam_sub_13_16"], "classes": CLASSES}
#: Side of the pictures, how many there are, epochs, and the highest learning rate, of each part of the training.
STAGES = ((112, 8000, 6, 3e-3), (SIZE, 4000, 2, 5e-4))
#: As for the reference network's block 13: where maps are small, scores start steep.
SCORE_GAIN = 4.0


def pictures(split: Split, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` canvases of 96 x 96, each in two colours: float32 ``(N, 3, 96, 96)`` in 0..1, and their labels."""
    grey, labels = (torch.from_numpy(array) for array in cluttered_digits(split, count, seed))
    dark, light = torch.rand(2, count, 3, 1, 1, generator=torch.Generator().manual_seed(seed))
    return 0.4 * dark + grey * (0.6 + 0.4 * light - 0.4 * dark), labels


def enlarged(images: Tensor, size: int = SIZE) -> Tensor:
    """``images`` as ``(N, 3, size, size)``, bilinear."""
    return nn.functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def train() -> nn.Module:
    """From random weights, in ``eval`` mode; prints a line an epoch to stderr."""
    torch.manual_seed(SEED)
    model = NETWORK.build(CONFIG).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for path in attention_paths(model):
        for subspace in model.get_submodule(path).subspaces:  # type: ignore[union-attr]
            subspace.bn_point.weight.data.fill_(SCORE_GAIN)  # type: ignore[union-attr]
    held_out, truth = pictures("held-out", 300, SEED)
    for number, (size, count, epochs, rate) in enumerate(STAGES):
        images, labels = pictures("train", count, SEED + number)
        generator = torch.Generator().manual_seed(SEED + number)
        chosen, schedule = optimizer(model, epochs * (count // BATCH), rate)
        for epoch in range(1, epochs + 1):
            began, total = time.monotonic(), 0.0
            model.train()
            for part, wanted in batches(images, labels, generator):
                loss = nn.functional.cross_entropy(model(enlarged(part, size)), wanted, label_smoothing=SMOOTHING)
                chosen.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                chosen.step()
                schedule.step()
                total += loss.item() * BATCH / count
            recalibrate(model, enlarged(images[:512], size))
            seen = accuracy(model, enlarged(held_out, size).numpy(), truth.numpy())
            spent = time.monotonic() - began
            print(f"{size} px, epoch {epoch}: loss {total:.3f}, held out {seen:.4f}, {spent:.0f} s", file=sys.stderr)
    return model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def save(folder: Path) -> None:
    """The trained network and its data."""
    checkpoint.write(folder / MODEL, train(), NETWORK, CONFIG, (3, SIZE, SIZE), force=True)
    np.savez(folder / CALIBRATION, x=enlarged(pictures("train", 256, 100)[0]).numpy())
    images, labels = pictures("held-out", 1000, 7)
    np.savez(folder / DATA, x=enlarged(images).numpy(), labels=labels.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    save(folder)


if __name__ == "__main__":
    main()
