"""Kits of small networks in every form that the TensorRT exporter makes; each network is captured once."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device.parity import Golden, make_probes
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.exporters.tensorrt.exporter import EXPORTER
from ulsam_deploy.graph import Program, capture, fuse_attention, lower, make_golden, measure_floors
from ulsam_deploy.graph.interfaces import ExportRequest

from ..conftest import small_network  # tests are not a package

HALF = ExportRequest("fp16")
DLA = ExportRequest("fp16", "jetson-orin-jp6", dla=True)


@cache
def fused(batch: int | None) -> tuple[Program, Program]:
    """The small network of the session as captured, and fused."""
    captured = capture(small_network(), [(3, 32, 32)], batch)
    return captured, fuse_attention(captured)


@cache
def golden() -> Golden:
    """The golden set of the small network, for float16 too."""
    probes, names = make_probes({"input": (3, 32, 32)}, count=24)
    return with_half(*fused(1), make_golden(*fused(1), probes, names))


def with_half(captured: Program, program: Program, truth: Golden) -> Golden:
    """``truth`` with the noise floor of float16."""
    return dataclasses.replace(truth, precision_floors={"fp16": measure_floors(captured, program, truth, "fp16")})


def exported(program: Program, request: ExportRequest, folder: Path) -> Artifact:
    """The kit of a fused ``program`` in ``folder``."""
    return EXPORTER.export(lower(program, EXPORTER.lowering(request)), request, folder)


def wide_network(size: int) -> Any:
    """One block of one subspace on a ``size`` x ``size`` map, then the mean of the squares of each channel.

    Squares, because the mean of ``x * a`` itself hardly sees where the attention lies.
    """
    import torch
    from torch import nn

    from ulsam_deploy.models.ulsam import ULSAM

    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * x).mean((2, 3))

    torch.manual_seed(3)
    return nn.Sequential(ULSAM(8, 1), Squares(), nn.Linear(8, 16)).eval(), (8, size, size)


def wide(size: int) -> tuple[Program, Golden]:
    """The fused wide network and its golden set."""
    network, shape = wide_network(size)
    captured = capture(network, [shape], 1)
    program = fuse_attention(captured)
    probes, names = make_probes({"input": shape}, count=16)
    truth = make_golden(captured, program, {k: np.clip(v, -8, 8) for k, v in probes.items()}, names)
    return program, with_half(captured, program, truth)
