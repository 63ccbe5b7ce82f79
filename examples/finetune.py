"""From a pre-trained backbone to artifacts: insert ULSAM, fine-tune, watch the attention, export.

    python -m examples.finetune --weights mobilenet_v2.pth     torchvision's MobileNetV2, or any width of it
    python -m examples.finetune --quick                        a small backbone of its own first; a minute in all

The task is to read the cluttered digits of ``ulsam_deploy.models.digits`` (needs scikit-learn); yours replaces
:func:`data`. Training steps come from the reference network's own: no weight decay on ULSAM, which learns at a higher
rate, and batch norm's statistics averaged anew at the end, because ULSAM's momentum of 0.9 keeps the last batch's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ulsam_deploy as ud
from ulsam_deploy import checkpoint
from ulsam_deploy.bundle import Bundle
from ulsam_deploy.models.backbone import AttentionNet
from ulsam_deploy.models.digits import CLASSES, SIZE, cluttered_digits
from ulsam_deploy.models.mobilenet_v2 import NETWORK
from ulsam_deploy.models.pretrained import adapt, load_backbone
from ulsam_deploy.models.reference import accuracy
from ulsam_deploy.models.train_reference import batches, optimizer, recalibrate
from ulsam_deploy.models.training import AttentionWatch

EPOCHS, RATE, SMOOTHING = 4, 3e-3, 0.05
IMAGES, QUICK_IMAGES, HELD_OUT = 8_000, 1_000, 300
INSERT = [6, 13]
#: The backbone that is trained first when no weights are given: a plain MobileNetV2, as people have one.
SMALL = {"width": 0.35, "classes": CLASSES, "in_channels": 1}


def data(split: Any, count: int, channels: int) -> tuple[Tensor, Tensor]:
    """Images ``[count, channels, 96, 96]`` in 0..1 (grey, repeated for networks that want colours) and labels."""
    images, labels = cluttered_digits(split, count, seed=11)
    return torch.from_numpy(images).expand(-1, channels, -1, -1), torch.from_numpy(labels)


def train(model: nn.Module, images: Tensor, labels: Tensor, name: str) -> None:
    """A few epochs over ``images``, a line each."""
    steps, generator = EPOCHS * sum(1 for _ in batches(images, labels, torch.Generator())), torch.Generator()
    chosen, schedule = optimizer(model, steps, RATE)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for part, truth in batches(images, labels, generator):
            loss = nn.functional.cross_entropy(model(part), truth, label_smoothing=SMOOTHING)
            chosen.zero_grad()
            loss.backward()
            chosen.step()
            schedule.step()
        print(f"{name}, epoch {epoch} of {EPOCHS}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    recalibrate(model, images[:640])


def plain_backbone(folder: Path, images: int) -> Path:
    """Train a small MobileNetV2 without ULSAM and save its ``state_dict``, torchvision's way."""
    model = NETWORK.build(SMALL)
    train(model, *data("train", images, channels=1), "backbone")
    path = folder / "backbone.pth"
    torch.save(model.state_dict(), path)
    return path


def with_attention(weights: Mapping[str, Tensor]) -> tuple[AttentionNet, dict[str, Any]]:
    """The network that ``weights`` belong to, with ULSAM inserted and ten classes, and its configuration."""
    adapted = adapt(weights)
    config = {**adapted.config, "insert": INSERT, "classes": CLASSES}
    model = NETWORK.build(config)
    print(load_backbone(model, adapted.state_dict))
    return model, config


def main(argv: list[str] | None = None) -> Bundle:
    """Run the example; returns the bundle."""
    parser = argparse.ArgumentParser(description="insert ULSAM in a trained backbone, fine-tune and export")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a MobileNetV2 state_dict in torchvision's keys")
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"to train on (default {IMAGES})")
    parser.add_argument("--quick", action="store_const", dest="images", const=QUICK_IMAGES, help="few images")
    parser.add_argument("--target", default="onnx", help="targets, comma-separated, or all (default onnx)")
    parser.add_argument("-o", "--output", type=Path, default=Path("finetuned"), metavar="DIR", help="what is made")
    chosen = parser.parse_args(argv)
    chosen.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    weights = chosen.weights or plain_backbone(chosen.output, chosen.images)
    model, config = with_attention(checkpoint.read(weights).tensors)
    channels = config["in_channels"]
    with AttentionWatch(model) as watch:
        train(model, *data("train", chosen.images, channels), "with ULSAM")
        for peaks in watch.peaks():
            print(peaks)
    images, labels = data("held-out", HELD_OUT, channels)
    print(f"accuracy on {HELD_OUT} held-out images: {accuracy(model, images.numpy(), labels.numpy()):.3f}")

    path = chosen.output / "finetuned.pt"
    checkpoint.write(path, model, NETWORK, config, (channels, SIZE, SIZE))
    bundle = ud.export(path, targets=chosen.target.split(","))
    for record in bundle.manifest.artifacts:
        print(f"{record.target}: {record.evidence.tier.label}, {record.evidence.verdict.value}")
    print(f"The bundle is {bundle.root}")
    return bundle


if __name__ == "__main__":
    main()
