"""The sizes of a network's inputs: those of the file, those that the user gives, and a proposal for the open ones.

The proposal comes from the graph itself: channels from the first convolution, sides by running the network without data
on the usual ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ulsam_deploy.device.errors import UlsamError, UsageError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.load.onnx.network import OnnxNetwork, sized
from ulsam_deploy.load.onnx.reading import Graph, Port

__all__ = ["chosen"]

#: Sides that networks are trained at, the likeliest first.
_SIDES = (224, 640, 320, 256, 416, 128, 64, 32, 28, 48, 96, 112, 160, 192, 299, 300, 384, 512)
#: A network of more operators is not run to find a proposal.
_MOST_NODES = 2_000

Shape = tuple[int, ...]


def chosen(graph: Graph, path: Path, given: Sequence[Sequence[int]], batch: int | None) -> tuple[Shape, ...]:
    """The shapes of the inputs without the batch: ``given``, or those of the file.

    Raises a :class:`UsageError` with a proposal if some size is open or ``given`` does not fit.
    """
    told = [port.shape[1:] for port in graph.inputs]
    shapes = [tuple(shape) for shape in given] or [tuple(size or 0 for size in shape) for shape in told]
    fits = len(shapes) == len(told) and all(map(_fits, shapes, told))
    if fits and all(size > 0 for shape in shapes for size in shape):
        return tuple(shapes)
    wanted = (shape_text(size or None for size in shape) for shape in told)
    proposal, why = _proposal(graph, batch)
    flags = " ".join(f"--input {shape_text(shape)}" for shape in proposal)
    raise UsageError(
        f"'{path.name}' takes {', '.join(wanted)}",
        expected="one --input for each input, with a size for each axis that the file leaves open",
        todo=f"add, for example, {flags} ({why})",
    )


def _fits(shape: Sequence[int], told: Sequence[int | None]) -> bool:
    return len(shape) == len(told) and all(size in (None, mine) for mine, size in zip(shape, told))


def _proposal(graph: Graph, batch: int | None) -> tuple[list[Shape], str]:
    """Shapes that the network runs on, and how they were found."""
    found = list(islice(_running(graph, batch), 2)) if len(graph.nodes) <= _MOST_NODES else []
    if not found:
        return _filled(graph, _SIDES[0]), "a guess: the network was not run on it"
    only = len(found) == 1 and found[0] != _filled(graph, _SIDES[0])
    return found[0], "the only usual size that it runs on" if only else "it runs on that"


def _running(graph: Graph, batch: int | None) -> Iterator[list[Shape]]:
    network = OnnxNetwork(graph).eval()
    for side in _SIDES:
        shapes = _filled(graph, side)
        try:
            sized(network, [(batch or 2, *shape) for shape in shapes])
        except UlsamError:
            continue
        yield shapes


def _filled(graph: Graph, side: int) -> list[Shape]:
    return [
        tuple(
            size or (_channels(graph, port) if axis == 0 and len(port.shape) > 2 else side)
            for axis, size in enumerate(port.shape[1:])
        )
        for port in graph.inputs
    ]


def _channels(graph: Graph, port: Port) -> int:
    """The channels that the first convolution over ``port`` takes; 3 if there is none."""
    for node in graph.nodes:
        if node.op == "Conv" and node.inputs[0] == port.name and node.inputs[1] in graph.weights:
            return int(graph.weights[node.inputs[1]].shape[1] * node.attributes.get("group", 1))
    return 3
