"""Rounds the weights of a network to int8 grids once for all targets, before any converter sees them.

The result is a network in float32 whose weights, with the batch norm behind them, lie on the grid that engines choose
themselves: symmetric, one step for each output channel. So every engine's own rounding changes nothing any more. Which
points of the grid are taken is decided by what products give on calibration inputs (:mod:`ulsam_deploy.graph.gptq`), in
execution order, each on the inputs that the network with rounded weights has there. What remains of the mean error of
each channel is taken out of its bias.

Weights of attention, of modules that are kept, and those that a network uses twice or computes stay as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph.editing import Editor, call, constant_leaves, shape_of
from ulsam_deploy.graph.evaluate import one_thread
from ulsam_deploy.graph.gptq import chosen
from ulsam_deploy.graph.modules import is_within, module_of
from ulsam_deploy.graph.ownership import inside
from ulsam_deploy.graph.program import Program

_ATEN = torch.ops.aten
#: The most samples to round on, and the memory that the values of one layer may take for all of them.
_SAMPLES, _MEMORY = 64, 1 << 30
#: The most positions of one sample's map, and the largest number of weights of one output channel, that are looked at.
_POSITIONS, _WEIGHTS = 1024, 4608

Values = dict[Node, Any]


@dataclass(frozen=True)
class _Layer:
    """A product and the batch norm behind it.

    Attributes:
        node: The product.
        weight: The parameter with its weights, ``(N, ...)``, which nothing else uses.
        bias: The parameter that is added to each channel at the end; ``None`` if there is none of its own.
        factor: What the batch norm multiplies each channel by, ``(N,)``.
    """

    node: Node
    weight: Node
    bias: Node | None
    factor: Tensor

    @property
    def groups(self) -> int:
        """The groups of a convolution; 1 for a matrix product."""
        found = _at(self.node, 6) if self.node.target is _ATEN.conv2d.default else None
        return 1 if found is None else int(found)

    def inputs(self, value: Tensor) -> Tensor:
        """What one output element is computed from, for some positions of the map: ``(G, K, L)`` in float64."""
        if self.node.target is _ATEN.linear.default:
            flat = value.reshape(-1, value.shape[-1]).T
        else:
            stride, padding, dilation = (
                _pair(self.node, place, default) for place, default in ((3, 1), (4, 0), (5, 1))
            )
            kernel = shape_of(self.weight)[2:]
            unfolded = functional.unfold(value, kernel, dilation, padding, stride)
            flat = unfolded.movedim(1, 0).flatten(1)
        flat = flat[:, :: max(1, math.ceil(flat.shape[1] / _POSITIONS))]
        return flat.double().reshape(self.groups, -1, flat.shape[1])


def _pair(node: Node, place: int, default: int) -> tuple[int, ...]:
    given: Any = node.args[place] if len(node.args) > place else default
    whole = (given,) if isinstance(given, int) else tuple(given)
    return whole * 2 if len(whole) == 1 else whole


@dataclass(frozen=True)
class RoundedWeights:
    """New values of weights and biases, float32.

    Attributes:
        values: By the name of the parameter's node.
        modules: The path of the product that each belongs to, by the same name.
    """

    values: Mapping[str, Tensor]
    modules: Mapping[str, str]

    def within(self, program: Program, keep: Iterable[str] = ()) -> Program:
        """``program``, which they were made for, with these weights, but for those of modules in ``keep`` (paths)."""
        kept = tuple(path.split("#")[0] for path in keep)  # "#2": the second use of the same module
        editor = Editor(program.exported)
        for name, tensor in self.values.items():
            if not inside(self.modules[name], kept):
                editor.set_constant(name, tensor)
        return dataclasses.replace(program, exported=editor.finish())


def rounded_weights(program: Program, calibration: Calibration, levels: int) -> RoundedWeights:
    """Round the weights of ``program`` outside attention.

    Args:
        program: The fused network.
        calibration: Real inputs.
        levels: The steps from zero to the largest weight of a channel: 127, or about 64 for weights of 7 bits.

    Returns:
        The new values; none if the network has no products.
    """
    attention = tuple(block.path.split("#")[0] for block in program.blocks)
    leaves = constant_leaves(program.exported, program.exact, torch.float64)
    layers = {layer.node: layer for layer in _layers(program, leaves, attention)}
    with one_thread(), torch.no_grad():
        changed = _Walk(program, calibration, leaves).over(layers, levels)
    owner = {part: module_of(node) or "" for node, layer in layers.items() for part in (layer.weight, layer.bias)}
    return RoundedWeights(
        {node.name: tensor for node, tensor in changed.items()}, {node.name: owner[node] for node in changed}
    )


def _layers(program: Program, leaves: Mapping[str, Tensor], left: tuple[str, ...]) -> Iterable[_Layer]:
    for node in program.exported.graph.nodes:
        if node.target not in (_ATEN.conv2d.default, _ATEN.linear.default) or is_within(module_of(node) or "", left):
            continue
        weight = node.args[1]
        if weight.name not in leaves or len(weight.users) > 1:
            continue
        if math.prod(shape_of(weight)[1:]) > _WEIGHTS:
            continue
        norm = _norm(node)
        bias, factor = _at(node, 2), torch.ones(shape_of(weight)[0], dtype=torch.float64)
        if norm is not None:
            arguments: Any = norm.args
            _, scale, shift, mean, variance, _, epsilon = arguments
            named = [leaves.get(part.name) if isinstance(part, Node) else None for part in (scale, mean, variance)]
            if named[1] is None or named[2] is None:
                continue
            gain = named[0] if named[0] is not None else torch.ones_like(factor)
            factor, bias = gain / (named[2] + epsilon).sqrt(), shift
        own = isinstance(bias, Node) and bias.name in leaves and len(bias.users) == 1
        yield _Layer(node, weight, bias if own else None, factor)


def _at(node: Node, place: int) -> Any:
    return node.args[place] if len(node.args) > place else None


def _norm(node: Node) -> Node | None:
    """The batch norm that alone reads ``node``."""
    (user,) = node.users if len(node.users) == 1 else (None,)
    return user if user is not None and user.target is _ATEN._native_batch_norm_legit_no_training.default else None


class _Walk:
    """Runs the network and the one with rounded weights side by side, operator by operator, for all samples at once."""

    def __init__(self, program: Program, calibration: Calibration, leaves: Mapping[str, Tensor]) -> None:
        graph = program.exported.graph
        self._nodes = [node for node in graph.nodes if node.op == "call_function"]
        self._last_use = {used: node for node in graph.nodes for used in node.all_input_nodes}
        placeholders = graph.find_nodes(op="placeholder")
        known = {node: leaves[node.name] for node in placeholders if node.name in leaves}
        self._constants = {n: t.float() if t.is_floating_point() else t for n, t in known.items()}
        inputs = [node for node in placeholders if node.name not in leaves]
        largest = max(4 * math.prod(shape_of(node)) for node in (*inputs, *self._nodes))
        size = program.batch or 1
        most = max(1, min(_SAMPLES // size, _MEMORY // (4 * largest))) * size
        self._feeds = [
            dict(zip(inputs, (torch.from_numpy(feed[spec.name]) for spec in program.inputs)))
            for feed in calibration.batches(size, most)
        ]

    def over(self, layers: Mapping[Node, _Layer], levels: int) -> dict[Node, Tensor]:
        """The new value of each weight and bias, float32."""
        full: list[Values] = [{**self._constants, **feed} for feed in self._feeds]
        low: list[Values] = [dict(values) for values in full]
        changed: dict[Node, Tensor] = {}
        for node in self._nodes:
            layer = layers.get(node)
            if layer is not None:
                changed |= _rounded(layer, full, low, levels)
                for values in low:
                    values.update({name: changed[name] for name in (layer.weight, layer.bias) if name in changed})
            for values in (*full, *low):
                values[node] = call(node, values.__getitem__, torch.float32)
                for used in node.all_input_nodes:
                    if self._last_use[used] is node and used not in self._constants:
                        del values[used]
        return changed


def _rounded(layer: _Layer, full: list[Values], low: list[Values], levels: int) -> dict[Node, Tensor]:
    """The layer's weights on their grid, and its bias without the mean error that this makes."""
    weight = full[0][layer.weight].double()
    source = layer.node.args[0]
    assert isinstance(source, Node)
    total, mean, before, square = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for right, values in zip(full, low):
        found = layer.inputs(values[source])
        total += found.shape[2]
        mean = mean + found.sum(2)
        square = square + found @ found.mT
        before = before + layer.inputs(right[source]).sum(2)
    mean, before = mean / total, before / total  # (G, K)
    covariance = square / total - mean.unsqueeze(2) * mean.unsqueeze(1)
    if not covariance.isfinite().all():
        return {}  # values beyond float32: the control runs say so, and engines round as they do
    usable = layer.factor.abs() > torch.finfo(torch.float32).tiny
    factor = torch.where(usable, layer.factor, torch.ones_like(layer.factor)).reshape(-1, *(1,) * (weight.ndim - 1))
    grouped = (weight * factor).reshape(layer.groups, -1, covariance.shape[1])
    on_grid = chosen(grouped, covariance, levels)
    result = {layer.weight: (on_grid.reshape(weight.shape) / factor).float()}
    if layer.bias is not None:
        error = (grouped @ before.unsqueeze(2) - on_grid @ mean.unsqueeze(2)).flatten()
        result[layer.bias] = (full[0][layer.bias].double() + torch.where(usable, error, 0.0)).float()
    return result
