"""From a pre-trained backbone to artifacts: insert ULSAM, fine-tune, watch the attention, export.

    python -m examples.finetune --weights mobilenet_v2.pth     torchvision's MobileNetV2, at any width
    python -m examples.finetune --quick                        the shipped network's backbone; a minute on one core

The task is to read the cluttered digits of ``ulsam_deploy.models.digits`` (needs scikit-learn); replace :func:`data`
by your own. Training follows the reference network: no weight decay on ULSAM, which learns at a higher rate, and batch
norm's statistics averaged again at the end, because with ULSAM's momentum of 0.9 they are those of the last batch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ulsam_deploy as ud
from examples.train_reference import batches, optimizer, recalibrate
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.load import checkpoint
from ulsam_deploy.models import reference
from ulsam_deploy.models.backbone import AttentionNet
from ulsam_deploy.models.digits import CLASSES, SIZE, cluttered_digits
from ulsam_deploy.models.mobilenet_v2 import NETWORK
from ulsam_deploy.models.pretrained import adapt, load_backbone
from ulsam_deploy.models.training import AttentionWatch

EPOCHS, RATE, SMOOTHING = 4, 1e-3, 0.05
IMAGES, QUICK_IMAGES, HELD_OUT = 8_000, 800, 300
INSERT = [6, 13]
#: A small trained network in this package; it lacks bottleneck 13, which is newly initialised.
SHIPPED = Path(reference.__file__).with_name(reference.CHECKPOINT)


def data(split: Any, count: int, channels: int) -> tuple[Tensor, Tensor]:
    """Images ``[count, channels, 96, 96]`` in 0..1 (grey, repeated for networks that want colours) and labels."""
    images, labels = cluttered_digits(split, count, seed=11)
    return torch.from_numpy(images).expand(-1, channels, -1, -1), torch.from_numpy(labels)


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train for a few epochs over ``images``; prints one line for each."""
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
        print(f"epoch {epoch} of {EPOCHS}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    recalibrate(model, images[:640])


def with_attention(weights: Path) -> tuple[AttentionNet, dict[str, Any]]:
    """Build the backbone of ``weights`` with ULSAM and ten classes; also returns its configuration.

    Attention in the weights is ignored: :data:`INSERT` says where it is inserted.
    """
    adapted = adapt(checkpoint.read(weights).tensors)
    config = {**adapted.config, "insert": INSERT, "substitute": [], "classes": CLASSES}
    model = NETWORK.build(config)
    plain = {key: value for key, value in adapted.state_dict.items() if ".subspaces." not in key}
    print(load_backbone(model, plain))
    return model, config


def main(argv: list[str] | None = None) -> Bundle:
    """Run the example; returns the bundle."""
    parser = argparse.ArgumentParser(description="insert ULSAM in a trained backbone, fine-tune and export")
    parser.add_argument("--weights", type=Path, default=SHIPPED, metavar="FILE", help="a MobileNetV2 (default: ours)")
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"to train on (default {IMAGES})")
    parser.add_argument("--quick", action="store_const", dest="images", const=QUICK_IMAGES, help="few images")
    parser.add_argument("--target", default="onnx", help="targets, comma-separated, or all (default onnx)")
    parser.add_argument("-o", "--output", type=Path, default=Path("finetuned"), metavar="DIR", help="what is made")
    chosen = parser.parse_args(argv)
    chosen.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    model, config = with_attention(chosen.weights)
    channels = config["in_channels"]
    with AttentionWatch(model) as watch:
        train(model, *data("train", chosen.images, channels))
        for peaks in watch.peaks():
            print(peaks)
    images, labels = data("held-out", HELD_OUT, channels)
    print(f"accuracy on {HELD_OUT} held-out images: {reference.accuracy(model, images.numpy(), labels.numpy()):.3f}")

    path = chosen.output / "finetuned.pt"
    checkpoint.write(path, model, NETWORK, config, (channels, SIZE, SIZE), force=True)
    bundle = ud.export(path, targets=chosen.target.split(","))
    for record in bundle.manifest.artifacts:
        print(f"{record.target}: {record.evidence.level.label}, {record.evidence.verdict.value}")
    print(f"The bundle is {bundle.root}")
    return bundle


if __name__ == "__main__":
    main()
