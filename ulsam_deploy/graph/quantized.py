"""Runs a network with weights and activations rounded to int8 grids, as an engine would round them.

Every value stays float32, rounded to a grid of 8 bits where int8 would store it ("fake quantization": Jacob et al.,
CVPR 2018, arXiv 1712.05877). Weights are symmetric with one scale for each output channel; activations have one scale
for each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph.evaluate import Evaluator, batches
from ulsam_deploy.graph.modules import is_within, module_of
from ulsam_deploy.graph.program import Program

_ATEN = torch.ops.aten
#: The operators that int8 engines compute in int8: those with an activation and a weight.
PRODUCTS = (_ATEN.conv2d.default, _ATEN.convolution.default, _ATEN.linear.default, _ATEN.conv1d.default)
#: The number of inputs to observe ranges on; more would not change a minimum or maximum by much.
_OBSERVED = 64

Range = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """How activations are rounded.

    Attributes:
        symmetric: To -127..127 around zero; otherwise to 256 steps between the ends of the range.
        everywhere: Round every floating-point result, and not only the inputs of :data:`PRODUCTS`.
        widened: How much larger the range is than the observed one.
    """

    symmetric: bool
    everywhere: bool = False
    widened: float = 1.0


@dataclass(frozen=True)
class Ranges:
    """Minimum and maximum of tensors by the name of the node that makes them; any other tensor has its own range."""

    known: Mapping[str, Range]
    grid: Grid

    def round(self, node: Node, value: Tensor) -> Tensor:
        """``value``, made by ``node``, rounded to its grid."""
        low, high = self.known.get(node.name) or (float(value.min()), float(value.max()))
        low, high = min(low, 0.0) * self.grid.widened, max(high, 0.0) * self.grid.widened
        if self.grid.symmetric:
            scale = max(-low, high) / 127 or 1.0
            return torch.fake_quantize_per_tensor_affine(value, scale, 0, -127, 127)
        scale = (high - low) / 255 or 1.0
        return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 255)


def rounded_weights(weight: Tensor) -> Tensor:
    """``weight`` rounded to -127..127 with one scale for each index of its first axis, the output channels."""
    size = weight.abs().flatten(1).amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    scale = (size / 127).reshape(-1, *(1,) * (weight.ndim - 1))
    return (weight / scale).round().clamp(-127, 127) * scale


def observe(program: Program, calibration: Calibration) -> dict[str, Range]:
    """The smallest and largest value of every floating-point result, and of the inputs, over ``calibration``."""
    arrays = {spec.name: torch.from_numpy(calibration.arrays[spec.name][:_OBSERVED]) for spec in program.inputs}
    size = program.batch or 1
    whole = len(next(iter(arrays.values()))) // size * size
    observer = _Observer(program)
    for batch in batches({name: array[:whole] for name, array in arrays.items()}, size):
        observer.run(batch)
    return observer.found


class _Observer(Evaluator):
    """Records the range of every value."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, torch.float32)
        self.found: dict[str, Range] = {}

    def _begin(self, inputs: Any) -> dict[Node, Any]:
        values = super()._begin(inputs)
        for node in self._inputs:
            self._note(node, values[node])
        return values

    def _value(self, node: Node, values: Mapping[Node, object]) -> Any:
        value = super()._value(node, values)
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            self._note(node, value)
        return value

    def _note(self, node: Node, value: Tensor) -> None:
        low, high = self.found.get(node.name, (np.inf, -np.inf))
        self.found[node.name] = (min(low, float(value.min())), max(high, float(value.max())))


class Fake(Evaluator):
    """Runs ``program`` in float32 with fake quantization, except inside the modules of ``skip``.

    The weights of :data:`PRODUCTS` are passed through ``weights``, and their inputs are rounded by ``activations``.
    """

    def __init__(
        self,
        program: Program,
        *,
        weights: Callable[[Tensor], Tensor],
        activations: Ranges | None = None,
        skip: tuple[str, ...] = (),
    ) -> None:
        super().__init__(program, torch.float32)
        self._activations = activations
        self._left = {node for node in self._nodes if is_within(module_of(node) or "", skip)}
        self._weights = {
            node.args[1]: weights(self._constants[node.args[1]])
            for node in self._nodes
            if node.target in PRODUCTS and node not in self._left and node.args[1] in self._constants
        }

    def _value(self, node: Node, values: Mapping[Node, Any]) -> Any:
        if node in self._left or node.target not in PRODUCTS:
            value = super()._value(node, values)
            return self._stored(node, value)
        source, weight = node.args[:2]
        assert isinstance(source, Node)
        read = self._activations.round(source, values[source]) if self._activations else values[source]
        assert isinstance(weight, Node)
        changed = {**values, source: read, weight: self._weights.get(weight, values[weight])}
        return self._stored(node, super()._value(node, changed))

    def _stored(self, node: Node, value: object) -> Any:
        """``value`` as stored by an engine that has only int8 tensors outside attention."""
        rounds = self._activations is not None and self._activations.grid.everywhere and node not in self._left
        if not rounds or not isinstance(value, Tensor) or not value.is_floating_point() or not _kept(node):
            return value
        assert self._activations is not None
        return self._activations.round(node, value)


def _kept(node: Node) -> bool:
    """Whether the result is stored: engines fuse a convolution with the batch norm and the clip after it."""
    users = list(node.users)
    fused = len(users) == 1 and users[0].target in _FUSED and node.target in (*PRODUCTS, *_FUSED, _ATEN.add.Tensor)
    return not fused


_FUSED = (
    _ATEN.relu.default,
    _ATEN.hardtanh.default,
    _ATEN.relu6.default,
    _ATEN.clamp.default,
    _ATEN._native_batch_norm_legit_no_training.default,
    _ATEN.batch_norm.default,
)
