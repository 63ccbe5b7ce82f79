"""Measures the errors of control runs in low precision: the only definition of the noise floors of float16 and int8.

A faultless artifact computes the network and rounds only what its precision requires; how it rounds depends on its
engine. So several faultless ways are run here, in torch, and the floor is the largest error among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.parity import Golden, PrecisionFloors, is_built_in, noise_floors
from ulsam_deploy.device.precisions import NO_CALIBRATION
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph.evaluate import Evaluator, batches
from ulsam_deploy.graph.modules import module_of
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.quantized import Fake, Grid, Ranges, observe, rounded_weights

Run = Mapping[str, Array]


@dataclass(frozen=True)
class _Truth:
    """The network as captured and as fused, and the golden set."""

    captured: Program
    fused: Program
    golden: Golden


def measure_floors(
    captured: Program, fused: Program, golden: Golden, precision: str, calibration: Calibration | None = None
) -> PrecisionFloors:
    """Measure the noise floors of one precision below fp32.

    Args:
        captured: The captured network.
        fused: The fused network.
        golden: The golden set.
        precision: ``fp16``, ``bf16``, ``int8`` or ``int8-dynamic``.
        calibration: The inputs that int8 takes its ranges from.

    Returns:
        The noise floors, and the probes that they are valid for.

    Raises:
        ExportError: float16 overflows on most probes.
        UsageError: int8 without ``calibration``.
    """
    truth = _Truth(captured, fused, golden)
    runs = [_run(evaluator, truth) for evaluator in _WAYS[precision](truth, calibration)]
    kept = _kept(truth, runs, precision)
    chosen = truth.golden.take(kept)
    controls = [{name: array[list(kept)] for name, array in run.items()} for run in runs]
    return PrecisionFloors(noise_floors(chosen.outputs, controls), kept)


def _sixteen(truth: _Truth, dtype: torch.dtype) -> Iterator[Evaluator]:
    """Every result rounded to ``dtype``, in the network's order and in the fused one; and only the weights rounded."""
    yield Evaluator(truth.captured, dtype)
    yield Evaluator(truth.fused, dtype)
    yield Fake(truth.fused, weights=lambda weight: weight.to(dtype).float())


def _static(truth: _Truth, calibration: Calibration | None) -> Iterator[Evaluator]:
    """Weights in int8 by channel; activations in int8 by the ranges of ``calibration``, on the grids of real engines.

    Quantized are the inputs of convolutions and matrix products, symmetric (ONNX Runtime, TensorRT) or not (OpenVINO);
    then also every result outside attention, and with slightly wider ranges, which moves every rounding point (TFLite).
    """
    if calibration is None:
        raise UsageError("int8 needs ranges", expected="a calibration set", todo=NO_CALIBRATION)
    for program, grid in (
        (truth.captured, Grid(symmetric=True)),
        (truth.fused, Grid(symmetric=False)),
        (truth.fused, Grid(symmetric=False, everywhere=True)),
        (truth.captured, Grid(symmetric=True, widened=1.05)),
    ):
        ranges = observe(program, calibration)
        yield Fake(program, weights=rounded_weights, activations=Ranges(ranges, grid), skip=_attention(truth.fused))


def _dynamic(truth: _Truth, _: Calibration | None) -> Iterator[Evaluator]:
    """Weights in int8 by channel; inputs of convolutions and products in int8 by their own range, or not quantized."""
    skip = _attention(truth.fused)
    yield Fake(truth.captured, weights=rounded_weights, activations=Ranges({}, Grid(symmetric=False)), skip=skip)
    yield Fake(truth.fused, weights=rounded_weights, activations=Ranges({}, Grid(symmetric=True)), skip=skip)
    yield Fake(truth.fused, weights=rounded_weights, skip=skip)


_WAYS: Mapping[str, Callable[[_Truth, Calibration | None], Iterator[Evaluator]]] = {
    "fp16": lambda truth, _: _sixteen(truth, torch.float16),
    "bf16": lambda truth, _: _sixteen(truth, torch.bfloat16),
    "int8": _static,
    "int8-dynamic": _dynamic,
}


def _attention(fused: Program) -> tuple[str, ...]:
    return tuple(block.path.split("#")[0] for block in fused.blocks)  # "#2": the second use of the same module


def _run(evaluator: Evaluator, truth: _Truth) -> Run:
    inputs = {name: torch.from_numpy(array) for name, array in truth.golden.inputs.items()}
    parts: Sequence[Mapping[str, Tensor]] = [
        evaluator.run(batch) for batch in batches(inputs, truth.captured.batch or 1)
    ]
    return {name: torch.cat([part[name] for part in parts]).double().numpy() for name in truth.golden.outputs}


def _place(truth: _Truth, probe: int) -> str:
    """Where the network first exceeds float16 on the batch of ``probe``, in words; empty if nowhere in float32."""
    size = truth.captured.batch or 1
    start = probe // size * size
    inputs = [torch.from_numpy(array[start : start + size]) for array in truth.golden.inputs.values()]
    for node, value in Evaluator(truth.captured, torch.float32).every(inputs):
        if isinstance(value, Tensor) and value.is_floating_point() and value.abs().max() > torch.finfo(torch.half).max:
            return f", first in module '{module_of(node) or 'forward'}', which reaches {float(value.abs().max()):.3g}"
    return ""


def _kept(truth: _Truth, runs: Sequence[Run], precision: str) -> tuple[int, ...]:
    """Positions of the probes that the precision can represent; in whole batches, for static artifacts."""
    golden, size = truth.golden, truth.captured.batch or 1
    good = np.logical_and.reduce(
        [np.isfinite(array.reshape(len(golden.probes), -1)).all(1) for run in runs for array in run.values()]
    )
    if 2 * good.sum() < len(good):
        raise ExportError(
            f"the network overflows float16 on {len(good) - good.sum()} of {len(good)} probes"
            + _place(truth, int(np.flatnonzero(~good)[0])),
            expected="a network whose activations fit float16",
            todo="use --precision fp32, or probes of the real input range (--probes)",
        )
    if precision == "int8":
        good &= np.array([not is_built_in(name) for name in golden.probes])
    return tuple(int(i) for i in np.flatnonzero(np.repeat(good.reshape(-1, size).all(1), size)))
