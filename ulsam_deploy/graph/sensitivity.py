"""Measures what int8 does to each part of a network, one at a time, in torch: the start of the search for ``auto``.

Engines differ in how they round, but hardly in which part of a network tolerates it least. So this is measured once for
all targets, without any converter: one part in int8 (:mod:`ulsam_deploy.graph.quantized`, with every stored tensor
rounded, like the least accurate engine), everything else in float32, judged by the same check as artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.parity import Golden, Report, check
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph.editing import shape_of
from ulsam_deploy.graph.evaluate import batches, removed
from ulsam_deploy.graph.modules import is_within, module_of
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.quantized import PRODUCTS, Fake, Grid, Ranges, observe, rounded_weights


@dataclass(frozen=True)
class Product:
    """A module with a convolution or matrix product that engines compute in int8: its path and MACs for one sample."""

    path: str
    macs: int


def products(fused: Program) -> tuple[Product, ...]:
    """Every such module of the network outside its attention blocks, in execution order."""
    attention = _attention(fused)
    macs: dict[str, int] = {}
    for node in fused.exported.graph.nodes:
        path = module_of(node) or ""
        if node.target not in PRODUCTS or is_within(path, attention):
            continue
        out, weight = shape_of(node), shape_of(node.args[1])
        macs[path] = macs.get(path, 0) + int(np.prod(out[1:]) * np.prod(weight[1:]))
    return tuple(Product(path, count) for path, count in macs.items())


def sensitivity(
    fused: Program, golden: Golden, calibration: Calibration, parts: Sequence[Sequence[str]]
) -> list[Report]:
    """Check the network with only one part in int8, for each part.

    Args:
        fused: The fused network.
        golden: The golden set; its int8 noise floors and probes are used.
        calibration: The inputs that ranges are taken from.
        parts: Groups of module paths.

    Returns:
        The report of the check for each part; retention is judged by the quantized network's own ablations.
    """
    judged = golden.at("int8")
    ranges = Ranges(observe(fused, calibration), Grid(symmetric=False, everywhere=True))
    inputs = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in judged.inputs.items()}
    found = []
    for part in parts:
        fake = Fake(fused, weights=rounded_weights, activations=ranges, skip=_others(fused, part))
        outputs, ablations = _run(fake, inputs, fused.batch or 1)
        artifact_ablations = (
            {name: np.stack([ablation[name] for ablation in ablations]) for name in outputs} if ablations else None
        )
        found.append(check(judged, outputs, artifact_ablations=artifact_ablations))
    return found


def _run(fake: Fake, inputs: Mapping[str, torch.Tensor], size: int) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """The outputs, and for each block those without its attention: float32 ``(P, ...)`` by name."""
    parts = [fake.ablations(batch, removed) for batch in batches(inputs, size)]
    whole = _joined([part[0] for part in parts])
    return whole, [_joined([part[1][block] for part in parts]) for block in range(len(parts[0][1]))]


def _joined(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Array]:
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _others(fused: Program, part: Sequence[str]) -> tuple[str, ...]:
    """The paths of the attention blocks and of all modules with operators outside ``part``, but not around it."""
    paths = {module_of(node) or "" for node in fused.exported.graph.nodes if node.op == "call_function"}
    outside = {path for path in paths if not is_within(path, part) and not any(is_within(own, [path]) for own in part)}
    return tuple(sorted(outside | set(_attention(fused))))


def _attention(fused: Program) -> tuple[str, ...]:
    return tuple(block.path.split("#")[0] for block in fused.blocks)  # "#2": the second use of the same module
