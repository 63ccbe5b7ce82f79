"""Makes the golden set of a network: float64 reference, reference ablations and float32 control runs on all probes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.graph.evaluate import Evaluator, batches, of_each, removed, uniform
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.watching.choice import WatchedGates, choose_gates, gate_ablations

_TOGETHER = 4  # probes in one evaluation; more would need much memory, as float64 ablations hold many activations


def make_golden(
    captured: Program,
    fused: Program,
    probes: Mapping[str, Array],
    names: tuple[str, ...],
    watched: WatchedGates | None = None,
) -> Golden:
    """Compute what every artifact of this network is checked against.

    Args:
        captured: The unrewritten network; gives the reference and the noise floor.
        fused: The fused network, proven equal to it; gives the ablations, because its blocks can be removed.
        probes: Float32 ``(P, ...)`` by input name.
        names: The name of each probe.
        watched: The attention gates to watch besides the blocks.
    """
    inputs = {spec.name: torch.from_numpy(probes[spec.name]) for spec in captured.inputs}
    size = captured.batch or _TOGETHER
    reference = _run(Evaluator(captured), inputs, size)
    ablations, uniform_ablations = _ablations(fused, inputs, size)
    controls = [_run(Evaluator(program, torch.float32), inputs, n, way) for program, n, way in _ways(captured, fused)]
    blocks = [block.path for block in fused.blocks]
    parts = gate_ablations(fused, watched, inputs, size) if watched and watched.gates else []
    gates = tuple(gate.path for gate in watched.gates) if watched else ()
    return Golden.build(
        probes, reference, ablations, controls, uniform_ablations=uniform_ablations, blocks=blocks, probes=names,
        gates=gates, gate_ablations=[_joined([part[number] for part in parts]) for number in range(len(gates))],
    )  # fmt: skip


def choose_watched(
    captured: Program, fused: Program, probes: Mapping[str, Array], watch: Sequence[str]
) -> WatchedGates:
    """Choose the attention gates that ``watch`` says, on the probes of :func:`make_golden`."""
    inputs = {spec.name: torch.from_numpy(probes[spec.name]) for spec in captured.inputs}
    return choose_gates(fused, watch, inputs, captured.batch or _TOGETHER)


def _ways(captured: Program, fused: Program) -> list[tuple[Program, int, Callable[[], AbstractContextManager[Any]]]]:
    """The control runs: correct float32 evaluations that differ in batch size, kernels and operation order."""
    size = captured.batch or _TOGETHER
    return [
        (captured, size, nullcontext),
        (captured, captured.batch or 1, _plain_kernels),
        (fused, size, nullcontext),
    ]


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Use torch's own convolutions instead of oneDNN's, which sum in another order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _run(
    evaluator: Evaluator,
    inputs: Mapping[str, Tensor],
    size: int,
    way: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Array]:
    with way():
        return _joined(of_each(evaluator.run, batches(inputs, size)))


def _ablations(fused: Program, inputs: Mapping[str, Tensor], size: int) -> list[list[dict[str, Array]]]:
    """Outputs without each block's attention, and outputs with each block's attention uniform."""
    evaluator = Evaluator(fused)
    parts = of_each(lambda batch: evaluator.ablations(batch, removed, uniform)[1:], batches(inputs, size))
    blocks = range(len(fused.blocks))
    return [[_joined([part[kind][block] for part in parts]) for block in blocks] for kind in (0, 1)]


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Array]:
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
