"""How far honest float16 runs are off: the noise floors of an artifact that stores or computes in float16."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from ulsam_deploy.errors import ExportError
from ulsam_deploy.parity import Floor, Golden, noise_floors
from ulsam_deploy.program.evaluate import Evaluator, batches
from ulsam_deploy.program.program import Program


def half_floors(captured: Program, raised: Program, golden: Golden) -> tuple[Golden, dict[str, Floor]]:
    """The part of ``golden`` on which float16 does not overflow, and the float16 noise floors on it.

    Weights, inputs and every result are rounded to float16, in the network's order of operations and in the
    rewritten one. Raises :class:`ExportError` when float16 overflows on most probes.
    """
    inputs = {name: torch.from_numpy(array) for name, array in golden.inputs.items()}
    runs = []
    for program in (captured, raised):
        evaluator = Evaluator(program, torch.float16)
        parts = [evaluator.run(batch) for batch in batches(inputs, captured.batch or 1)]
        runs.append({name: torch.cat([part[name] for part in parts]).double().numpy() for name in golden.outputs})
    size = captured.batch or 1
    finite = np.logical_and.reduce(
        [np.isfinite(array.reshape(len(golden.probes), -1)).all(1) for run in runs for array in run.values()]
    )
    kept = np.flatnonzero(np.repeat(finite.reshape(-1, size).all(1), size))  # whole batches, for static artifacts
    if 2 * len(kept) < len(golden.probes):
        raise ExportError(
            f"the network overflows float16 on {len(golden.probes) - len(kept)} of {len(golden.probes)} probes",
            expected="a network whose activations fit float16",
            todo="use --precision fp32, or probes of the real input range (--probes)",
        )
    chosen = golden.take([int(i) for i in kept])
    floors = noise_floors(chosen.outputs, [{name: run[name][kept] for name in run} for run in runs])
    return dataclasses.replace(chosen, floors=floors), floors
