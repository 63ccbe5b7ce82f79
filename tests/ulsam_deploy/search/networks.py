"""Small networks for the search, as checkpoints that the project recognizes, so that its cache works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ulsam_deploy import checkpoint
from ulsam_deploy.models.mobilenet_v1 import NETWORK

SIZE, CLASSES = 32, 7


def pictures(count: int, seed: int, size: int = SIZE) -> np.ndarray[Any, Any]:
    """Smooth random pictures, float32 ``(N, 3, size, size)``."""
    coarse = np.random.default_rng(seed).normal(size=(count, 3, size // 8, size // 8)).astype(np.float32)
    return nn.functional.interpolate(torch.from_numpy(coarse), size=(size, size), mode="bilinear").numpy()


def network(insert: list[int], size: int = SIZE, width: float = 0.125) -> tuple[nn.Module, dict[str, Any]]:
    """A MobileNetV1 with random weights and batch norms that fit :func:`pictures`, in ``eval`` mode."""
    config = {"width": width, "classes": CLASSES, "in_channels": 3, "insert": insert, "substitute": []}
    config |= {"subspaces": 4, "variant": "reference"}
    torch.manual_seed(0)
    model = NETWORK.build(config)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for seed in range(4):
            model(torch.from_numpy(pictures(16, 1000 + seed, size)))
    return model.eval(), config


def save(folder: Path, insert: list[int], size: int = SIZE) -> Path:
    """``model.pt``, ``calibration.npz`` and ``data.npz`` in ``folder``; the labels are what the network itself says."""
    model, config = network(insert, size)
    checkpoint.write(folder / "model.pt", model, NETWORK, config, (3, size, size))
    np.savez(folder / "calibration.npz", x=pictures(48, 1, size))
    images = pictures(120, 2, size)
    with torch.no_grad():
        labels = model(torch.from_numpy(images)).argmax(1).numpy()
    np.savez(folder / "data.npz", x=images, labels=labels)
    return folder / "model.pt"
