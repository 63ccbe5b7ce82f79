"""Runs a captured program operator by operator in any floating dtype, with the attention of any block removed.

The float64 reference, the reference ablations and the float32 control runs all come from here. An ablation equals the
reference up to its block, so only what follows the block is computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device import share
from ulsam_deploy.device.bench.measure import peak_rss
from ulsam_deploy.graph.editing import call, constant_leaves
from ulsam_deploy.graph.operator import SUBSPACE_ATTENTION
from ulsam_deploy.graph.program import Program

R = TypeVar("R")

#: Gives what the value of a node is replaced by: from that value, and the values that are still there before it.
Instead = Callable[[Tensor, Mapping[Node, Any]], Tensor]

#: In a batch of fewer seconds of CPU, operators are so short that Python threads wait for each other.
LONG = 0.2


def removed(x: Tensor) -> Tensor:
    """The output of a block without its attention: its input."""
    return x


def uniform(x: Tensor) -> Tensor:
    """The output of a block whose attention map is uniform: ``x + x / (H*W)``."""
    return x * (1 + 1 / (x.shape[2] * x.shape[3]))


@dataclass
class _Moment:
    """The values that are still needed just before a node runs."""

    position: int
    values: dict[Node, Any]


class Evaluator:
    """Runs ``program`` on the CPU without gradients: in float64 for the reference, in float32 for control runs."""

    def __init__(self, program: Program, dtype: torch.dtype = torch.float64) -> None:
        exported = program.exported
        self._outputs = [spec.name for spec in program.outputs]
        self._dtype = dtype
        self._nodes = list(exported.graph.nodes)
        leaves = constant_leaves(exported, program.exact, dtype)
        placeholders = exported.graph.find_nodes(op="placeholder")
        self._constants = {node: leaves[node.name] for node in placeholders if node.name in leaves}
        self._inputs = [node for node in placeholders if node.name not in leaves]
        self._last_use = {used: node for node in self._nodes for used in node.all_input_nodes}
        self._blocks = frozenset(node for node in self._nodes if node.target is SUBSPACE_ATTENTION)

    def run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The program's outputs by name, in this evaluator's dtype."""
        return self._finish(_Moment(0, self._begin(inputs)))

    def replaced(
        self, inputs: Sequence[Tensor], changes: Sequence[Mapping[Node, Instead]], keep: Collection[Node] = ()
    ) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """Run the program, and again with each of ``changes``.

        Args:
            inputs: One batch of inputs, in order.
            changes: The operators whose values are replaced, and by what.
            keep: Nodes whose values a change still reads after their last use.

        Returns:
            The outputs, and those with each change.
        """
        firsts = [min(change) for change in changes]
        moments: list[_Moment] = []
        reference = self._finish(_Moment(0, self._begin(inputs)), moments, frozenset(firsts), keep=frozenset(keep))
        at = {self._nodes[moment.position]: moment for moment in moments}
        found = [self._finish(at[first], None, instead=change) for first, change in zip(firsts, changes)]
        return reference, found

    def ablations(self, inputs: Sequence[Tensor], *instead: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
        """Run the program, and again with each fused block replaced in turn.

        Args:
            inputs: One batch of inputs, in order.
            instead: What replaces a block: :func:`removed` (the default) or :func:`uniform`.

        Returns:
            The outputs, then for each of ``instead`` a list: for each block, in order, the outputs with it replaced.
        """
        moments: list[_Moment] = []
        reference = self._finish(_Moment(0, self._begin(inputs)), moments, self._blocks)
        return reference, *([self._without(moment, other) for moment in moments] for other in instead or (removed,))

    def maps(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The attention maps ``(N, g, H, W)`` of every fused block, in order."""
        return [maps for _, maps in self.attended(inputs)]

    def attended(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The input ``(N, C, H, W)`` of every fused block and its attention maps ``(N, g, H, W)``, in order."""
        moments: list[_Moment] = []
        self._finish(_Moment(0, self._begin(inputs)), moments, self._blocks)
        found = []
        for moment in moments:
            arguments = [moment.values[a] if isinstance(a, Node) else a for a in self._nodes[moment.position].args]
            found.append((arguments[0], torch.ops.ulsam.attention_maps(*arguments)))
        return found

    @torch.no_grad()
    def every(self, inputs: Sequence[Tensor], *, given: bool = False) -> Iterator[tuple[Node, Any]]:
        """Iterate over every operator, in graph order, with its value; ``given``: first over inputs and constants."""
        values = self._begin(inputs)
        if given:
            yield from values.items()
        for node in self._nodes:
            if node.op == "call_function":
                values[node] = self._value(node, values)
                yield node, values[node]
            for used in node.all_input_nodes:
                if self._last_use[used] is node:
                    del values[used]

    def _value(self, node: Node, values: Mapping[Node, object]) -> Any:
        """The result of ``node``; subclasses override this to evaluate differently."""
        return call(node, values.__getitem__, self._dtype)

    def _begin(self, inputs: Sequence[Tensor]) -> dict[Node, Any]:
        given = (t.to(self._dtype) if t.is_floating_point() else t for t in inputs)
        return {**self._constants, **dict(zip(self._inputs, given, strict=True))}

    def _without(self, moment: _Moment, instead: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        block = self._nodes[moment.position]
        values = {**moment.values, block: instead(moment.values[block.args[0]])}
        return self._finish(_Moment(moment.position + 1, values))

    @torch.no_grad()
    def _finish(
        self,
        start: _Moment,
        moments: list[_Moment] | None = None,
        marks: Collection[Node] = frozenset(),
        *,
        instead: Mapping[Node, Instead] | None = None,
        keep: Collection[Node] = frozenset(),
    ) -> dict[str, Tensor]:
        """Run from ``start`` to the end, with values replaced ``instead``.

        Append to ``moments`` the moment before each node in ``marks``; values of nodes in ``keep`` stay.
        """
        values = dict(start.values)
        for position, node in enumerate(self._nodes[start.position :], start.position):
            if node.op == "output":
                return dict(zip(self._outputs, (values[result] for result in node.args[0]), strict=True))
            if node.op != "call_function":
                continue
            if moments is not None and node in marks:
                moments.append(_Moment(position, dict(values)))
            values[node] = self._value(node, values)
            if instead and node in instead:
                own = values[node]  # a view of it may depend on its strides
                values[node] = torch.empty_like(own).copy_(instead[node](own, values))
            for used in node.all_input_nodes:
                if self._last_use[used] is node and used not in keep:
                    del values[used]
        raise AssertionError("a graph ends with its output")  # pragma: no cover


def batches(inputs: Mapping[str, Tensor], size: int) -> Iterator[list[Tensor]]:
    """The inputs cut into batches of ``size`` along their first axis."""
    total = len(next(iter(inputs.values())))
    for start in range(0, total, size):
        yield [tensor[start : start + size] for tensor in inputs.values()]


def of_each(function: Callable[[list[Tensor]], R], parts: Iterable[list[Tensor]]) -> list[R]:
    """The result of ``function`` for each batch; where a batch takes long, several are computed at once.

    Each is computed in one thread of torch, because sums are split among threads: no result depends on the cores or on
    the load of the machine.
    """
    first, *others = parts
    with one_thread():
        began = time.thread_time()
        found = [function(first)]
        workers = min(share.at_once(), len(others)) if time.thread_time() - began > LONG else 1
        if workers > 1:  # each needs at most as much memory as this process has ever needed
            workers = min(workers, 1 + share.memory() // (peak_rss() or 1))
        if workers < 2:
            return found + [function(part) for part in others]
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return found + list(pool.map(function, others))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread of torch, so that no result depends on the cores or on the load of the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
