"""Trains the reference network and writes its checkpoint and model card; takes about 15 minutes on one core.

    python -m examples.train_reference FOLDER

Seeds are fixed, but the result still depends on the last digits of the machine's arithmetic, so a new run gives another
checkpoint of about the same accuracy. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ulsam_deploy.load import checkpoint
from ulsam_deploy.models.digits import cluttered_digits
from ulsam_deploy.models.mobilenet_v2 import NETWORK
from ulsam_deploy.models.reference import (
    ATTENTION_RATE,
    CHECKPOINT,
    CONFIG,
    INPUT,
    accuracy,
    attention_paths,
    card,
    evaluation_set,
)
from ulsam_deploy.models.ulsam import ULSAM, SubSpace

SEED = 1
IMAGES, BATCH, DECAY, SMOOTHING = 8_000, 32, 0.02, 0.05
#: Epochs and highest learning rate of each cycle, which has its own images.
CYCLES = ((7, 3e-3), (6, 1.5e-3))
#: The initial scale of each block's scores (the weight of ``bn_point``): diffuse for large maps, otherwise peaked.
SCORE_GAIN = {3: 2.0, 6: 3.0, 10: 4.0, 13: 4.0}


def build() -> nn.Module:
    """The untrained network; :data:`SEED` determines its weights."""
    torch.manual_seed(SEED)
    model = NETWORK.build(CONFIG)
    for path in attention_paths(model):
        block = model.get_submodule(path)
        assert isinstance(block, ULSAM)
        for subspace in block.subspaces:
            assert isinstance(subspace, SubSpace)
            subspace.bn_point.weight.data.fill_(SCORE_GAIN[int(path.rsplit(".", 1)[1])])
    return model


def optimizer(
    model: nn.Module, steps: int, rate: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with one warm-up and one cosine; weight decay only on the backbone's convolutions and the classifier."""
    attention = [value for name, value in model.named_parameters() if ".subspaces." in name]
    backbone = [value for name, value in model.named_parameters() if ".subspaces." not in name]
    groups: list[dict[str, Any]] = [
        {"params": attention, "lr": rate * ATTENTION_RATE, "weight_decay": 0.0},
        {"params": [value for value in backbone if value.ndim == 1], "lr": rate, "weight_decay": 0.0},
        {"params": [value for value in backbone if value.ndim > 1], "lr": rate, "weight_decay": DECAY},
    ]
    chosen = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in groups]
    return chosen, torch.optim.lr_scheduler.OneCycleLR(chosen, rates, total_steps=steps, pct_start=0.15)


def batches(images: Tensor, labels: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches in random order, each shifted by up to 4 px (rolled, as the canvas mostly has dark edges)."""
    order = torch.randperm(len(labels), generator=generator)
    for start in range(0, len(labels) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        down, right = torch.randint(-4, 5, (2,), generator=generator).tolist()
        yield images[chosen].roll((down, right), (2, 3)), labels[chosen]


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor) -> None:
    """Average batch norm's statistics again: with ULSAM's momentum of 0.9 they are those of the last batch."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for start in range(0, len(images), BATCH):
        model(images[start : start + BATCH])
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.eval()


def train() -> nn.Module:
    """Train from scratch; prints a line per epoch to stderr."""
    model = build()
    for number, (epochs, rate) in enumerate(CYCLES):
        cycle(model, SEED + number, epochs, rate)
        torch.manual_seed(SEED + number + 1)  # so that a cycle can be repeated from the weights before it alone
    return model


def cycle(model: nn.Module, seed: int, epochs: int, rate: float) -> None:
    """Train ``model`` on the images of ``seed``, warming up to ``rate`` and down again over ``epochs``."""
    began = time.monotonic()
    images, labels = (torch.from_numpy(array) for array in cluttered_digits("train", IMAGES, seed))
    held_out = evaluation_set(300)
    _store(model, torch.channels_last)  # saves a third of the time on a CPU
    generator = torch.Generator().manual_seed(seed)
    chosen, schedule = optimizer(model, epochs * (len(labels) // BATCH), rate)
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for part, truth in batches(images, labels, generator):
            loss = nn.functional.cross_entropy(model(part), truth, label_smoothing=SMOOTHING)
            chosen.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            chosen.step()
            schedule.step()
            total += loss.item() * BATCH / len(labels)
        recalibrate(model, images[:640])
        seen, spent = accuracy(model, *held_out), time.monotonic() - began
        print(f"epoch {epoch}: loss {total:.3f}, held out {seen:.4f}, {spent:.0f} s", file=sys.stderr, flush=True)
    recalibrate(model, images[:4000])
    _store(model, torch.contiguous_format)


def _store(model: nn.Module, layout: torch.memory_format) -> None:
    model.to(memory_format=layout)  # type: ignore[call-overload]


def main() -> None:
    """Train, then write the checkpoint and the card into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parents[1] / "models")
    folder = parser.parse_args().folder
    model = train()
    checkpoint.write(folder / CHECKPOINT, model, NETWORK, CONFIG, INPUT, force=True)
    (folder / CHECKPOINT).with_suffix(".md").write_text(card(model), encoding="utf-8")


if __name__ == "__main__":
    main()
