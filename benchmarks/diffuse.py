"""A network whose attention is deliberately diffuse, trained in a minute: large maps, scores as initialised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ulsam_deploy.load import checkpoint
from ulsam_deploy.models.mobilenet_v1 import NETWORK

SIZE, CLASSES = 112, 7


def pictures(count: int, seed: int, size: int = SIZE) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """One of :data:`CLASSES` smooth patterns each, in noise: float32 ``(N, 3, size, size)``, and which one, int64."""
    random = np.random.default_rng(seed)
    patterns = _smooth(np.random.default_rng(99).normal(size=(CLASSES, 3, size // 8, size // 8)), size)
    labels = random.integers(0, CLASSES, count)
    noise = _smooth(random.normal(size=(count, 3, size // 4, size // 4)), size)
    return (patterns[labels] + 0.3 * noise).astype(np.float32), labels


def _smooth(coarse: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    fine = nn.functional.interpolate(torch.from_numpy(coarse).float(), size=(size, size), mode="bilinear")
    result: np.ndarray[Any, Any] = fine.numpy()
    return result


def network(insert: list[int], size: int = SIZE, steps: int = 150) -> tuple[nn.Module, dict[str, Any]]:
    """A MobileNetV1 trained on :func:`pictures` for some seconds, in ``eval`` mode.

    Untrained, classes lie so close together that int8 drowns them, and every check of int8 is inconclusive.
    """
    config = {"width": 0.125, "classes": CLASSES, "in_channels": 3, "insert": insert, "substitute": []}
    config |= {"subspaces": 4, "variant": "reference"}
    torch.manual_seed(0)
    model = NETWORK.build(config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for step in range(steps):
        images, labels = pictures(32, 1000 + step, size)
        loss = nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for step in range(8):
            model(torch.from_numpy(pictures(32, 1000 + step, size)[0]))
    return model.eval(), config


def save(folder: Path, insert: list[int], size: int = SIZE) -> Path:
    """``model.pt``, ``calibration.npz`` and the labelled ``data.npz`` in ``folder``."""
    model, config = network(insert, size)
    checkpoint.write(folder / "model.pt", model, NETWORK, config, (3, size, size), force=True)
    np.savez(folder / "calibration.npz", x=pictures(96, 1, size)[0])
    images, labels = pictures(200, 2, size)
    np.savez(folder / "data.npz", x=images, labels=labels)
    return folder / "model.pt"
