"""What each part of a network does alone in int8: the part that was made to suffer is the one that is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph import Program, capture, fuse_attention, make_golden, measure_floors
from ulsam_deploy.graph.sensitivity import products, sensitivity
from ulsam_deploy.models.ulsam import ULSAM


def pictures(count: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32)


def network(outlier: float) -> nn.Module:
    """Three convolutions and one ULSAM; what the second one reads has one channel of ``outlier`` times the others."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()),
        ULSAM(16, 4),
        nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    ).eval()
    with torch.no_grad():  # larger in the channel, and smaller in what reads it: the network stays the same
        net[0][0].weight[0] *= outlier
        net[0][0].bias[0] *= outlier
        net[1][0].weight[:, 0] /= outlier
    return net


def prepared(outlier: float) -> tuple[Program, Golden, Calibration]:
    captured = capture(network(outlier), [(3, 16, 16)])
    fused = fuse_attention(captured)
    names = tuple(f"held-out-{i}" for i in range(6))
    calibration = Calibration({captured.inputs[0].name: pictures(16, 1)}, "")
    golden = make_golden(captured, fused, {captured.inputs[0].name: pictures(6, 2)}, names)
    found = measure_floors(captured, fused, golden, "int8", calibration)
    return fused, Golden(**{**vars(golden), "precision_floors": {"int8": found}}), calibration


def test_products_are_named_as_in_pytorch_and_leave_attention_out() -> None:
    fused = fuse_attention(capture(network(1.0), [(3, 16, 16)]))
    assert [(product.path, product.macs) for product in products(fused)] == [
        ("0.0", 16 * 8 * 8 * 3 * 9),
        ("1.0", 16 * 8 * 8 * 16 * 9),
        ("3.0", 16 * 8 * 8 * 16),
        ("4.2", 16 * 5),
    ]


@pytest.mark.parametrize("outlier", [1.0, 300.0])
def test_the_part_that_suffers_is_found(outlier: float) -> None:
    fused, golden, calibration = prepared(outlier)
    parts = [[], ["0"], ["1"], ["3"], ["4"], ["0", "1", "3", "4"]]
    nothing, *single, everything = sensitivity(fused, golden, calibration, parts)
    errors = [report.error for report in single]
    assert nothing.error < 1e-2, "nothing in int8 is float32"
    assert min(errors) > 10 * nothing.error
    assert everything.error > 0.5 * max(errors)
    assert all(report.blocks for report in [nothing, everything])
    assert nothing.blocks[0].retention == pytest.approx(1.0, abs=1e-2)
    if outlier > 1:
        assert errors.index(max(errors)) in (0, 1), "the outlier is stored by one part and read by the next"
        assert max(errors[:2]) > 5 * max(errors[2:])
