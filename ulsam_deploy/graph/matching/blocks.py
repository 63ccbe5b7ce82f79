"""From attention branches to whole blocks: finds ``y = x + a*x`` over all subspaces of one tensor ``x``.

Everything between the operations that compute is data movement, which is compared by origins (:mod:`.movement`). A
block is a set of products whose elements come from ``x`` position by position, are weighted by the attention of their
own subspace at their own position, and are put together again in the order of ``x``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, Node

from ulsam_deploy.graph.editing import Constants, shape_of
from ulsam_deploy.graph.matching.branches import (
    POOLS_ANOTHER,
    Affine,
    NotUlsamError,
    Unit,
    looks_like_attention,
    read_softmax,
    read_unit,
)
from ulsam_deploy.graph.matching.movement import Origins, reached, sources, upstream
from ulsam_deploy.graph.matching.wordings import is_one, is_softmax, signed, summands
from ulsam_deploy.graph.modules import common_module

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Piece:
    """A node ``x' + a*x'``: ``x_origin`` and ``score_origin`` say where ``x'`` and ``a`` of each element come from.

    ``product`` is the node that ``a`` multiplies; ``softmaxes`` are the nodes that ``a`` consists of.
    """

    node: Node
    product: Node
    x_origin: Tensor
    score_origin: Tensor
    softmaxes: frozenset[Node]


@dataclass(frozen=True)
class Match:
    """One ULSAM block: output node ``y``, input node ``x``, its units in channel order and the gate of each.

    ``maps`` are the origins of its attention maps, ``(N, g, H, W)``; ``orders`` those of the softmaxes that give them.
    """

    y: Node
    x: Node
    units: tuple[Unit, ...]
    gates: tuple[Affine, ...]
    maps: Tensor
    orders: Mapping[Node, Tensor]
    path: str

    @property
    def subspaces(self) -> int:
        """The number of attention maps."""
        return sum(unit.maps for unit in self.units)


@dataclass(frozen=True)
class Findings:
    """What was found in a graph: blocks to fuse, and look-alikes as ``(softmax nodes, reason)``."""

    matches: tuple[Match, ...]
    refused: tuple[tuple[tuple[Node, ...], str], ...]


class _Scores:
    """The unit that each attention map belongs to, by the origins of the scores of each softmax (``orders``)."""

    def __init__(self, units: Iterable[Unit], orders: Mapping[Node, Tensor], origins: Origins) -> None:
        self.orders = orders
        self._maps = {unit: origins.of(unit.scores) for unit in units}
        self._owner = {
            int(maps[0, k, 0, 0]): (unit, k) for unit, maps in self._maps.items() for k in range(maps.shape[1])
        }

    def owner(self, origin: Tensor) -> tuple[Unit, int]:
        """The unit, and the number of its map, that weights one channel; ``origin`` has shape ``(N, H, W)``."""
        first = int(origin[0, 0, 0])
        if first not in self._owner:
            raise NotUlsamError("its attention map is not applied position by position (transposed, mixed or shifted)")
        unit, number = self._owner[first]
        if not torch.equal(origin, self._maps[unit][:, number]):
            raise NotUlsamError("its attention map is not applied position by position (transposed, mixed or shifted)")
        return unit, number


def find_blocks(graph: Graph, constants: Constants) -> Findings:
    """Find all ULSAM blocks of ``graph``, and the look-alikes with the reason why they are none."""
    origins = Origins(constants)
    scores, reasons = _read_scores(graph, constants, origins)
    pieces = {piece.node: piece for piece in _pieces(graph, scores, constants, origins)}
    matches: list[Match] = []
    done: set[Node] = set()
    for piece in pieces.values():
        if piece.node in done:
            continue
        try:
            match = _assemble(piece, pieces, scores, origins)
        except NotUlsamError as reason:
            reasons.update({softmax: str(reason) for softmax in piece.softmaxes})
            continue
        matches.append(match)
        done |= sources(match.y)
    fused = {softmax for match in matches for softmax in match.orders}
    weighing = {softmax for piece in pieces.values() for softmax in piece.softmaxes}
    for softmax in scores.orders:
        what = "its subspaces are not put together again in channel order"
        reasons.setdefault(softmax, what if softmax in weighing else "it does not compute x + a*x of its own input")
    unfused = {softmax: reason for softmax, reason in reasons.items() if softmax not in fused}
    return Findings(tuple(matches), tuple(_grouped(unfused, constants)))


def _read_scores(graph: Graph, constants: Constants, origins: Origins) -> tuple[_Scores, dict[Node, str]]:
    """Read every branch that ends in a softmax as in ULSAM; for softmaxes that only look like it, the reason."""
    units: dict[Node, Unit] = {}
    orders: dict[Node, Tensor] = {}
    reasons: dict[Node, str] = {}
    for node in graph.nodes:
        if node.op == "call_function" and is_softmax(node) and looks_like_attention(node, constants, origins):
            try:
                scores, order = read_softmax(node, constants, origins)
                units.update({s: read_unit(s, constants, origins) for s in scores if s not in units})
                orders[node] = order
            except NotUlsamError as reason:
                reasons[node] = str(reason)
    return _Scores(units.values(), orders, origins), reasons


def _grouped(reasons: dict[Node, str], constants: Constants) -> Iterator[tuple[tuple[Node, ...], str]]:
    """Group refused softmaxes whose chains start at the same tensor and have the same reason into one refusal."""
    groups: dict[tuple[str, Node], list[Node]] = {}
    for softmax, reason in reasons.items():
        start = softmax
        while len(inputs := [node for node in start.all_input_nodes if not constants.known(node)]) == 1:
            start = inputs[0]
        groups.setdefault((reason, start), []).append(softmax)
    for (reason, _), nodes in groups.items():
        yield tuple(nodes), reason


def _pieces(graph: Graph, scores: _Scores, constants: Constants, origins: Origins) -> Iterator[Piece]:
    for node in graph.nodes:
        for attention, product, residual in _readings(node, constants):
            softmaxes = sources(attention)
            if not softmaxes or not softmaxes <= scores.orders.keys():
                continue
            shape = shape_of(node)
            x_origin = origins.of(product).expand(shape)
            if torch.equal(x_origin, origins.of(residual).expand(shape)):
                score_origin = origins.of(attention, scores.orders).expand(shape)
                yield Piece(node, product, x_origin, score_origin, frozenset(softmaxes))
                break


def _readings(node: Node, constants: Constants) -> Iterator[tuple[Node, Node, Node]]:
    """Every reading of ``node`` as ``a * product + residual``: ``x + a*x``, ``x * (1 + a)`` and ``addcmul``."""
    if node.kwargs or not all(isinstance(arg, Node) for arg in node.args):
        return
    for (sign, product), (positive, residual) in itertools.permutations(summands(node), 2):
        if positive == 1 and isinstance(product, Node) and isinstance(residual, Node):
            yield from ((a, x, residual) for a, x in _factors(product, sign))
    if node.target is aten.mul.Tensor:
        for factor, x in _both(node):
            for (sign, a), (positive, one) in itertools.permutations(summands(factor), 2):
                if sign == positive == 1 and isinstance(a, Node) and is_one(one, constants):
                    yield a, x, x
    elif node.target is aten.addcmul.default:
        residual, left, right = (arg for arg in node.args if isinstance(arg, Node))
        yield from ((left, right, residual), (right, left, residual))


def _factors(product: Node, sign: int) -> Iterator[tuple[Node, Node]]:
    """``a`` and ``x`` of a product ``a * x``, or of ``-a * x`` where ``sign`` is -1."""
    if product.target is aten.mul.Tensor:
        for factor, x in _both(product):
            own, a = signed(factor)
            if own == sign:
                yield a, x


def _both(node: Node) -> tuple[tuple[Node, Node], ...]:
    """The two operands of a binary node in both orders; empty if one is a number."""
    left, right = node.args[:2]
    if not isinstance(left, Node) or not isinstance(right, Node) or node.kwargs:
        return ()
    return (left, right), (right, left)


def _assemble(first: Piece, pieces: Mapping[Node, Piece], scores: _Scores, origins: Origins) -> Match:
    """The block that ``first`` is part of."""
    x, y, x_origin = _ends(first, pieces, origins)
    parts = [pieces[node] for node in sources(y)]
    score_origin = origins.of(y, {part.node: part.score_origin for part in parts})
    owners = [scores.owner(score_origin[:, channel]) for channel in range(x_origin.shape[1])]
    order = list(dict.fromkeys(owners))
    size, remainder = divmod(len(owners), len(order))
    if remainder or any(owner != order[channel // size] for channel, owner in enumerate(owners)):
        raise NotUlsamError("its subspaces are not equal runs of neighbouring channels")
    units = tuple(dict.fromkeys(unit for unit, _ in order))
    if order != [(unit, k) for unit in units for k in range(unit.maps)]:
        raise NotUlsamError("its attention maps are not used in the order of their channels")
    gates = _gates(units, x_origin, size, origins)
    maps = torch.cat([origins.of(unit.scores) for unit in units], 1)
    orders = {softmax: scores.orders[softmax] for part in parts for softmax in part.softmaxes}
    return Match(y, x, units, gates, maps, orders, common_module([y, *orders, *(unit.scores for unit in units)]))


def _ends(first: Piece, pieces: Mapping[Node, Piece], origins: Origins) -> tuple[Node, Node, Tensor]:
    """The block's input and output node: every element of ``y`` is from a piece made of the same element of ``x``.

    A single subspace matches that too; the whole block is the largest match.
    """
    candidates = [node for node in upstream(first.product) if len(shape_of(node)) == 4]
    for y in sorted(sorted(reached(first.node)), key=lambda node: -math.prod(shape_of(node))):
        if len(shape_of(y)) != 4 or not sources(y) <= pieces.keys():
            continue
        x_origin = origins.of(y, {node: pieces[node].x_origin for node in sources(y)})
        for x in sorted(candidates):
            if shape_of(x) == shape_of(y) and torch.equal(origins.of(x), x_origin):
                return x, y, x_origin
    raise NotUlsamError("its subspaces are not put together again in channel order")


def _gates(units: Sequence[Unit], x_origin: Tensor, size: int, origins: Origins) -> tuple[Affine, ...]:
    """For each unit, the reading of its gate whose source is exactly the channels of ``x`` that its maps weight."""
    gates, start = [], 0
    for unit in units:
        own = x_origin[:, start : start + size * unit.maps]
        read = [(gate, origins.of(gate.source)[:, gate.channels]) for gate in unit.gates]
        fitting = [gate for gate, origin in read if torch.equal(origin, own)]
        if not fitting and torch.equal(origins.of(unit.gate.source)[:, unit.gate.channels], own):
            raise NotUlsamError(POOLS_ANOTHER)
        if not fitting and any(torch.isin(origin, x_origin).all() for _, origin in read):
            raise NotUlsamError("its scores are computed from other channels or positions than they weight")
        if not fitting:
            raise NotUlsamError("its gate is not a per-channel affine of the tensor that its attention weights")
        gates.append(fitting[0])
        start += size * unit.maps
    return tuple(gates)
