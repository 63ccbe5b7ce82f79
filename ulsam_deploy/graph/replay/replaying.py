"""Replays an artifact on several batches, and sums up what was found by module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.findings import Replay, ReplayedModule
from ulsam_deploy.device.types import StepGrid
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.replay.found import ReplayStep
from ulsam_deploy.graph.replay.rounding import ALLOWED
from ulsam_deploy.graph.replay.walk import Walk


@dataclass(frozen=True)
class Batch:
    """One batch: the network's inputs, every tensor inside the artifact, and its outputs, by name."""

    inputs: ArrayMap
    inside: ArrayMap
    outputs: ArrayMap


@dataclass(frozen=True)
class ShownOutputs:
    """The outputs of one batch as the engine computed them while it showed its inner values."""

    outputs: ArrayMap


def replay(
    program: Program, precision: str, batches: Iterable[Batch], grids: Mapping[str, StepGrid] | None = None
) -> tuple[Replay, list[ShownOutputs]]:
    """Replay every module of ``program`` inside an artifact of it.

    Args:
        program: The network, in the form that is nearest to the artifact's.
        precision: The artifact's precision.
        batches: What the artifact was fed with and has inside.
        grids: The tensors inside that are rounded to steps.

    Returns:
        What was found, and for each batch the outputs that belong to the values shown.
    """
    walk = Walk(program, precision)
    runs, shown = list[list[ReplayStep]](), list[ShownOutputs]()
    for batch in batches:
        given = [torch.from_numpy(np.ascontiguousarray(batch.inputs[spec.name])) for spec in program.inputs]
        runs.append(walk.steps(given, batch.inside, batch.outputs, grids or {}))
        shown.append(ShownOutputs(walk.ends))
    return _summed(runs), shown


def _summed(runs: Sequence[Sequence[ReplayStep]]) -> Replay:
    worst: dict[str, ReplayStep] = {}
    clipped: dict[str, float] = {}
    for steps in runs:
        for step in steps:
            clipped[step.module] = max(step.clipped, clipped.get(step.module, 0.0))
            if step.module not in worst or _rank(step) > _rank(worst[step.module]):
                worst[step.module] = step
    last = runs[-1] if runs else ()
    total = sum(step.products for step in last) or 1
    alone = sum(step.products for step in last if step.closed == 1) / total
    together = sum(step.products for step in last if step.closed > 1) / total
    return Replay(
        batches=len(runs),
        allowed=ALLOWED,
        alone=alone,
        together=together,
        unseen=max(0.0, 1.0 - alone - together) if total > 1 else 0.0,
        outputs=all(step.reached for steps in runs for step in steps),
        modules=tuple(_module(step, clipped[step.module]) for step in worst.values()),
    )


def _rank(step: ReplayStep) -> tuple[bool, float]:
    return step.wrong, -1.0 if step.ratio is None else step.ratio


def _module(step: ReplayStep, clipped: float) -> ReplayedModule:
    ratio = None if step.ratio is None or not np.isfinite(step.ratio) else float(f"{step.ratio:.4g}")
    relative = float(f"{step.relative:.4g}")
    return ReplayedModule(step.module, step.operator, ratio, relative, clipped, step.region, step.wrong)
