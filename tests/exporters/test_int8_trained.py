"""int8 of a network that was trained on real pictures agrees with PyTorch: torchvision's MobileNetV2, on every engine.

Needs packages that are no dependencies of this project; ``benchmarks/real_networks.py`` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[Any, Any]]:
    """The benchmark, and the network with its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        real = import_module("real_networks")
        found = real.folder()
        if found is None:
            pytest.skip(f"{real.VARIABLE} names no folder with {', '.join(real.PACKAGES)}")
        quality = import_module("int8_quality")
        yield quality, quality.subject("mobilenet_v2", found)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino", "tflite"])
def test_it_agrees_where_pytorch_is_sure(measured: tuple[Any, Any], target: str, tmp_path: Path) -> None:
    quality, subject = measured
    artifact = quality.exported(target, "int8", subject, tmp_path / target)
    with quality.opened(target, artifact, tmp_path / target) as session:
        found = quality.quality(session, subject)
    print(target, found.of_all, found.of_sure, found.error)
    assert found.of_sure >= 0.97
    assert found.of_all >= 0.8
    assert found.error <= 0.2
