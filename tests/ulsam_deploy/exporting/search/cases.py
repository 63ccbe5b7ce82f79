"""What the tests of the search share: checkpoints with their data, and commands about them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device.bundle import Manifest, read_bundle

ROOT = Path(__file__).parents[4]
REFERENCE = ROOT / "models" / "cluttered_digits.pt"


def write_reference(folder: Path, calibration: int = 64, samples: int = 200) -> None:
    """The reference checkpoint with its data, in ``folder``."""
    from ulsam_deploy.models.digits import cluttered_digits

    shutil.copyfile(REFERENCE, folder / "model.pt")
    np.savez(folder / "calibration.npz", x=cluttered_digits("train", calibration, 11)[0])
    images, labels = cluttered_digits("held-out", samples, 7)
    np.savez(folder / "data.npz", x=images, labels=labels)


def write_small(folder: Path, insert: list[int], size: int) -> None:
    """The benchmarks' MobileNetV1, trained for seconds, with its data, in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        from diffuse import save

        save(folder, insert, size)
    sys.modules.pop("diffuse", None)


def words(place: Path, output: str, *more: str, target: str = "onnx") -> list[str]:
    """An export of the checkpoint in ``place``."""
    model, calibration = str(place / "model.pt"), str(place / "calibration.npz")
    return ["export", model, "--target", target, "--calibration", calibration, "-o", str(place / output), *more]


def auto(place: Path, output: str, *limits: str) -> list[str]:
    """A search on labelled data within ``limits``."""
    asked = [word for limit in limits for word in ("--limit", limit)]
    return words(place, output, "--precision", "auto", "--data", str(place / "data.npz"), *asked)


def manifest(place: Path, name: str) -> Manifest:
    """Of a bundle in ``place``, whose every byte is as recorded."""
    bundle = read_bundle(place / name)
    bundle.verify_integrity()
    return bundle.manifest


def artifact_bytes(place: Path, name: str) -> list[str]:
    """The SHA-256 of each artifact's files."""
    return [file.sha256 for record in manifest(place, name).artifacts for file in record.files]
