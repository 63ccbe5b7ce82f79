"""The network without what a gate adds: its weights are their own mean over inputs, as a converter could fold them.

A module that the user named gives the best affine fit of its result by channel instead. All in float64, on the fused
network; as for ULSAM, only what follows a gate is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.graph.evaluate import Evaluator, Instead
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.replay.rounding import operation
from ulsam_deploy.graph.watching import kinds
from ulsam_deploy.graph.watching.finding import AttentionGate, GateForm

#: Features of at least this many axes have their channels second; others are taken as one channel.
CHANNELS_SECOND = 4
_RIDGE = 1e-12


class Folded:
    """What each of ``gates`` is folded to, learned on a few inputs."""

    def __init__(self, program: Program, gates: Sequence[AttentionGate]) -> None:
        self.gates = tuple(gates)
        self._evaluator = Evaluator(program)
        self._means = {core: _Mean(core) for gate in gates for core in gate.cores}
        self._fits = {gate.result: _Fit(gate) for gate in gates if gate.form is GateForm.MODULE}

    def learn(self, inputs: Sequence[Tensor]) -> None:
        """Add one batch."""
        learners: dict[Node, _Mean | _Fit] = {**self._means, **self._fits}
        wanted = {node for learner in learners.values() for node in learner.reads}
        kept: dict[Node, Any] = {}
        for node, value in self._evaluator.every(inputs, given=True):
            if node in wanted:
                kept[node] = value
            if node in learners:
                learners[node].add(value, kept, len(inputs[0]))

    def instead(self, gate: AttentionGate) -> dict[Node, Instead]:
        """What replaces which nodes to ablate ``gate``."""
        if gate.form is GateForm.MODULE:
            return {gate.result: self._fits[gate.result].applied}
        return {core: self._means[core].applied for core in gate.cores}

    def keep(self) -> set[Node]:
        """The nodes whose values must stay until a gate's result for :meth:`instead`."""
        return {gate.source for gate in self.gates if gate.form is GateForm.MODULE}


class _Mean:
    """The mean weights of one core."""

    def __init__(self, core: Node) -> None:
        self._fused = operation(core) == kinds.ATTENTION
        self.reads: tuple[Node, ...] = tuple(core.all_input_nodes) if self._fused else ()
        self._core = core
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, value: Tensor, kept: Mapping[Node, Any], samples: int) -> None:
        """Add the core's ``value`` for one batch."""
        weights = _attention(self._core, kept) if self._fused else value
        parts = weights.reshape(samples, -1, *weights.shape[1:]) if len(weights) % samples == 0 else weights[None]
        self._sum = parts.sum(0) if self._sum is None else self._sum + parts.sum(0)
        self._count += len(parts)

    def applied(self, value: Tensor, values: Mapping[Node, Any]) -> Tensor:
        """The mean weights in place of ``value``; for the fused form of attention, features weighed by them."""
        assert self._sum is not None
        mean = self._sum / self._count
        mean = mean.repeat(len(value) // len(mean), *[1] * (mean.ndim - 1))
        return mean @ values[self._core.args[2]] if self._fused else mean  # type: ignore[index]


class _Fit:
    """The affine fit of a module's result from its input, by channel; of other shapes, its mean."""

    def __init__(self, gate: AttentionGate) -> None:
        self._source = gate.source
        self.reads: tuple[Node, ...] = (gate.source,)
        self._moments: Tensor | None = None

    def add(self, value: Tensor, kept: Mapping[Node, Any], samples: int) -> None:  # noqa: ARG002
        """Add the module's result ``value`` for one batch."""
        x = kept[self._source]
        x = x if x.shape == value.shape else torch.zeros_like(value)
        axes = _pooled_axes(value)
        products = (torch.ones_like(x), x, value, x * x, x * value)
        found = torch.stack([product.sum(axes, keepdim=True) for product in products])
        self._moments = found if self._moments is None else self._moments + found

    def applied(self, value: Tensor, values: Mapping[Node, Any]) -> Tensor:
        """The fit in place of ``value``."""
        assert self._moments is not None
        n, x, y, xx, xy = self._moments
        slope = (xy - x * y / n) / (xx - x * x / n + _RIDGE * xx + torch.finfo(x.dtype).tiny)
        source = values[self._source]
        fitted: Tensor = (y - slope * x) / n + (slope * source if source.shape == value.shape else 0.0)
        return fitted.expand_as(value)


def _attention(node: Node, values: Mapping[Node, Any]) -> Tensor:
    """The weights inside the fused form of attention."""
    arguments: list[Any] = [values[arg] if isinstance(arg, Node) else arg for arg in node.args]
    keyed: dict[str, Any] = {name: values[arg] if isinstance(arg, Node) else arg for name, arg in node.kwargs.items()}
    unit = torch.eye(arguments[1].shape[-2], dtype=arguments[1].dtype)
    arguments[2] = unit.expand(*arguments[1].shape[:-2], *unit.shape)
    return torch.nn.functional.scaled_dot_product_attention(*arguments, **keyed)


def _pooled_axes(value: Tensor) -> tuple[int, ...]:
    """The axes over which a channel's elements lie."""
    return tuple(axis for axis in range(value.ndim) if axis != 1 or value.ndim < CHANNELS_SECOND)
