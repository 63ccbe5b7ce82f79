"""ONNX in: turns a model without its PyTorch code into a network that the pipeline handles like any other.

reading      reads an untrusted file into a checked :class:`~ulsam_deploy.load.onnx.reading.Graph`
unfolding    what onnx's native code does for that, in another process; budget counts before it
names        maps node names to module paths
functions    replaces operators by the definitions that the standard gives for them
known        computes what is known before the network runs: shapes, axes, indices
operators    implements each operator in torch
network      assembles everything as one ``nn.Module``
sizes        chooses the input sizes, and proposes those that the file leaves open
reference    runs the ONNX model itself in float64, by code other than ours, to check the import
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.errors import ExportError, UnavailableError, UsageError
from ulsam_deploy.device.third_party import installed
from ulsam_deploy.load.onnx.reading import Graph, digest, is_onnx, read

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Imported", "digest", "is_onnx", "load"]


@dataclass(frozen=True)
class Imported:
    """A network from an ONNX file. ``shapes`` are its inputs without the batch.

    ``reference`` runs the file itself in float64: from one batch of inputs, in order, to the outputs by name.
    """

    model: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    opset: int
    producer: str
    reference: Callable[[Sequence[Tensor]], Mapping[str, Tensor]]
    notes: tuple[str, ...]


def load(path: Path, shapes: Sequence[Sequence[int]] = (), batch: int | None = 1) -> Imported:
    """Load the network in an ONNX file.

    Args:
        path: The file.
        shapes: The inputs without the batch; empty: those of the file.
        batch: The batch size; ``None`` means dynamic.

    Raises:
        UsageError: The file has another fixed batch or shape, or as in :func:`.reading.read`.
        ExportError: Operators cannot be read (the message names all of them, or the first node), or as in
            :func:`.reading.read`.
        UlsamError: As in :func:`.reading.read`.
    """
    if not (here := installed("torch", extra="export")).usable:
        raise UnavailableError(f"reading an ONNX model needs PyTorch: {here.detail}", todo=here.todo)
    graph = read(path)
    from ulsam_deploy.load.onnx.network import OnnxNetwork, sized, unknown_operators
    from ulsam_deploy.load.onnx.reference import Reference
    from ulsam_deploy.load.onnx.sizes import chosen

    if unknown := unknown_operators(graph):
        raise ExportError(
            f"'{path.name}' has operators that cannot be read: {', '.join(unknown[:8])}",
            expected="a CNN of the operators that docs/onnx-in.md lists",
            todo="export from the checkpoint itself",
        )
    _check_batch(graph, path, batch)
    wanted = chosen(graph, path, shapes, batch)
    model = OnnxNetwork(graph).eval()
    sized(model, [(batch or 2, *shape) for shape in wanted])
    return Imported(model, wanted, graph.opset, graph.producer, Reference(graph).run, graph.notes)


def _check_batch(graph: Graph, path: Path, batch: int | None) -> None:
    fixed = {port.shape[0] for port in graph.inputs if port.shape[0]}
    if fixed and fixed != {batch}:
        told = min(fixed)
        raise UsageError(
            f"'{path.name}' is made for batches of {told}",
            expected="the batch that the file fixes",
            todo=f"add --batch {told}, or export the ONNX model with a dynamic batch axis",
        )
