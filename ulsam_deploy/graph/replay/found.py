"""What a walk has found: the value of each node, its uncertainty, and how it was seen in the artifact."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.graph.editing import call
from ulsam_deploy.graph.replay.rounding import BIAS, FUSED, PRODUCTS, operation
from ulsam_deploy.graph.replay.tensors import Distance, Form


@dataclass(frozen=True)
class ReplayStep:
    """One operator of the network in one run.

    Attributes:
        module: Its module, by PyTorch path.
        operator: Its name, e.g. ``conv2d``.
        tensor: The artifact's tensor; empty if it is hidden.
        ratio: The difference in tolerances; ``None`` if it is hidden.
        relative: The difference relative to the result's spread.
        clipped: The share of elements outside the range of an 8-bit tensor.
        region: How many operators were replayed together up to here; 1: this one alone.
        products: Its multiply-adds.
        closed: How many operators the shortest run has that it was replayed in; 0: none.
        reached: For an output: whether the artifact has it; true for anything else.
        wrong: Whether the artifact went on with a wrong result.
    """

    module: str
    operator: str
    tensor: str
    ratio: float | None
    relative: float
    clipped: float
    region: int
    products: int
    closed: int
    reached: bool
    wrong: bool = False


@dataclass
class FoundValue:
    """What is known after a node: its value, its uncertainty, and how it was seen.

    ``others``: its value before a quantizer, or behind another one, where the artifact shows several: any of them may
    be what the next operator reads. ``hidden``: the operators up to it that nothing was seen behind; ``run``: those
    that a seen one ended, with itself. ``quantizer``: how far the value behind one is from rounding the one before it;
    ``rounding``: by how much it moved the value, which a product's bias may make good (bias correction).
    """

    value: Any
    others: tuple[Any, ...] = ()
    bound: Any = None
    form: Form | None = None
    distance: Distance | None = None
    hidden: frozenset[Node] = frozenset()
    run: frozenset[Node] = frozenset()
    wrong: bool = False
    quantizer: Distance | None = None
    rounding: Any = None

    @property
    def region(self) -> int:
        """How many operators were replayed together."""
        return len(self.run)


@dataclass
class WalkState:
    """Everything found so far, by node."""

    found: dict[Node, FoundValue] = field(default_factory=dict)

    def values(self) -> AttributeView:
        """The value of each node."""
        return AttributeView(self.found, "value")

    def bounds(self) -> Mapping[Node, Any]:
        """The uncertainty of each node that has one."""
        return AttributeView(self.found, "bound")


class AttributeView(Mapping[Node, Any]):
    """One attribute of what was found, by node; nodes without it are absent."""

    def __init__(self, found: Mapping[Node, FoundValue], name: str) -> None:
        self.found, self.name = found, name

    def __getitem__(self, node: Node) -> Any:
        value = getattr(self.found[node], self.name)
        if value is None:
            raise KeyError(node)
        return value

    def __iter__(self) -> Any:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def shifted(node: Node, run: Collection[Node], values: Mapping[Node, Any], state: WalkState) -> Array | None:
    """How far bias correction may have moved the result of ``node``, by one amount for each channel; ``None`` if not.

    Quantizers add to a bias what they take for the mean error of a product whose input and weights they have rounded.
    What rounding its input changes in one direction bounds it.

    Args:
        node: The operator.
        run: What it is computed together with, itself included.
        values: What it and those were computed from.
        state: What was found before.
    """
    ordered = [one for one in node.graph.nodes if one in run or one is node]
    products = [one for one in ordered if operation(one) in PRODUCTS]
    if len(products) != 1 or any(operation(one) not in FUSED for one in ordered):
        return None
    (product,) = products
    name = operation(product)
    used, weight = (product.args[place] for place in PRODUCTS[name])
    moved = state.found[used].rounding if isinstance(used, Node) and used in state.found else None
    if moved is None or not isinstance(weight, Node):
        return None
    changed: dict[Node, Any] = {used: moved, weight: values[weight].abs()}
    bias = product.args[BIAS[name]] if name in BIAS and len(product.args) > BIAS[name] else None
    if isinstance(bias, Node):
        changed[bias] = torch.zeros_like(values[bias])
    amount = call(product, lambda one: changed.get(one, values[one]), torch.float64)
    before = {product: call(product, values.__getitem__, torch.float64)}
    after = {product: before[product] + amount}
    for one in ordered[ordered.index(product) + 1 :]:
        before[one] = call(one, lambda part: before.get(part, values.get(part)), torch.float64)
        after[one] = call(one, lambda part: after.get(part, values.get(part)), torch.float64)
    found = after[node] - before[node]
    return np.asarray(found.abs().numpy()) if isinstance(found, Tensor) else None
