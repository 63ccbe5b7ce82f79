"""Finds the PyTorch modules that each operator of an artifact computes, so that module paths work for every format.

No name survives all converters, but values do (as in :mod:`ulsam_deploy.graph.divergence`): an operator computes
whatever is in the graph between the values that it reads and the value that it makes, including batch norms and
activations that were fused into it. So the unquantized artifact is run once, and its tensors are matched with the
network's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.fx import Node

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.matching.movement import is_move
from ulsam_deploy.graph.modules import module_of
from ulsam_deploy.graph.program import Program

#: The largest relative distance of a float32 artifact's value to the network's, even at the end of a deep network.
_SAME = 1e-3
#: Of all values within that distance, only those not much farther than the nearest count: diffuse attention changes its
#: input by ``1 / (H*W)`` only, less than the noise at the end of other networks, and its input and output must not be
#: confused.
_AS_NEAR = 4.0


@dataclass(frozen=True)
class Operator:
    """One operator: its name in the artifact, and the names of the tensors that it reads (no weights) and makes."""

    name: str
    inputs: tuple[str, ...]
    output: str


def owners(
    program: Program, operators: Sequence[Operator], values: Mapping[str, Array], feed: Mapping[str, Array]
) -> dict[str, frozenset[str]]:
    """Find the modules that each operator computes any part of.

    An operator whose own value is not found, such as a padding or half a batch norm, belongs to the operators after it.

    Args:
        program: The lowered network that the artifact was made from.
        operators: The artifact's operators in execution order.
        values: The artifact's tensors by name, in any layout, on ``feed``.
        feed: One batch by input name.

    Returns:
        The paths of the modules, by the operator's name.
    """
    batch = [torch.from_numpy(np.ascontiguousarray(feed[spec.name])) for spec in program.inputs]
    found = _Found(values)
    for node, value in Evaluator(program).every(batch):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            found.note(node, value.numpy())
    places = found.places()
    sources = {operator.output: operator for operator in operators}
    owned: dict[str, set[str]] = {operator.name: set() for operator in operators}
    for operator in operators:
        if nodes := places.get(operator.output):
            hidden, read = _behind(operator, sources, places)
            paths = {path for node in _between(read, nodes) if (path := module_of(node)) is not None}
            for name in (operator.name, *hidden):
                owned[name] |= paths
    return {name: frozenset(paths) for name, paths in owned.items()}


def kept(owned: Mapping[str, Iterable[str]], keep: Iterable[str]) -> tuple[str, ...]:
    """The operators that compute any part of a module in ``keep``, or of one inside it; ``""`` is the network."""
    chosen = tuple(path.split("#")[0] for path in keep)  # "#2": the second use of the same module
    return tuple(name for name, paths in owned.items() if any(inside(path, chosen) for path in paths))


def inside(path: str, modules: Iterable[str]) -> bool:
    """Whether ``path`` is one of ``modules`` or inside one."""
    return any(not module or f"{path}.".startswith(f"{module}.") for module in modules)


class _Found:
    """Collects, for each tensor of the artifact, the graph nodes with the same value."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        self._nearest: dict[str, list[tuple[float, Node]]] = defaultdict(list)
        self._sizes: dict[int, list[tuple[str, Array, float]]] = defaultdict(list)
        for name, array in values.items():
            if array.dtype.kind == "f" and np.all(np.isfinite(array)) and np.ptp(array) > 0:  # no constants
                flat = array.astype(np.float64).ravel()
                self._sizes[array.size].append((name, flat, float(np.linalg.norm(flat))))

    def note(self, node: Node, value: Array) -> None:
        if value.size not in self._sizes:
            return
        norm = float(np.linalg.norm(value))
        forms = [value.ravel()] + ([np.moveaxis(value, 1, -1).ravel()] if value.ndim > 2 else [])
        for name, flat, size in self._sizes[value.size]:
            if abs(size - norm) <= _SAME * norm:
                distance = min(float(np.linalg.norm(flat - form)) for form in forms) / norm
                if distance <= _SAME:
                    self._nearest[name].append((distance, node))

    def places(self) -> dict[str, list[Node]]:
        """For each tensor, the nodes with the same value, in graph order."""
        return {
            name: [node for distance, node in near if distance <= _AS_NEAR * min(near, key=_distance)[0] + 1e-7]
            for name, near in self._nearest.items()
        }


def _distance(near: tuple[float, Node]) -> float:
    return near[0]


def _behind(
    operator: Operator, sources: Mapping[str, Operator], places: Mapping[str, list[Node]]
) -> tuple[list[str], set[Node]]:
    """The operators before ``operator`` whose values are not found, and the nodes that all of them read."""
    hidden: list[str] = []
    read: set[Node] = set()
    open_ = list(operator.inputs)
    while open_:
        tensor = open_.pop()
        if tensor in places:
            read.update(places[tensor])
        elif tensor in sources and sources[tensor].name not in hidden:
            hidden.append(sources[tensor].name)
            open_.extend(sources[tensor].inputs)
    return hidden, read


def _between(read: set[Node], made: Sequence[Node]) -> set[Node]:
    """The nodes after ``read`` up to and including ``made``; ``made`` itself if it equals what was read."""
    between: set[Node] = set()
    fresh = [node for node in made if node not in read]
    # A reshape after it has the same value, and belongs to its reader.
    open_ = [node for node in fresh if not is_move(node)] or fresh
    while open_:
        node = open_.pop()
        if node not in between and node.op == "call_function":
            between.add(node)
            open_.extend(used for used in node.all_input_nodes if used not in read)
    return between or set(made)
