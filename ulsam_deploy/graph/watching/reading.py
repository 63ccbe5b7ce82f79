"""Reads, inside a running artifact, how much of a gate's effect is there: at the gate, given what it was fed with.

The features before a gate are found in the artifact by value, and the gate is computed from them in float64, whole and
folded. What the artifact has behind the gate is a mixture of the two: its share of the whole gate is the retention.
Both are compared after the best affine function, by channel, of the folded features is taken away from them: then any
gate that a converter has folded, to whatever constants, is at 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.parity import Reading
from ulsam_deploy.graph.editing import call
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.replay.rounding import MOVES, operation
from ulsam_deploy.graph.replay.tensors import orders
from ulsam_deploy.graph.watching import kinds
from ulsam_deploy.graph.watching.ablation import CHANNELS_SECOND, Folded
from ulsam_deploy.graph.watching.finding import AttentionGate, GateForm

#: Features within this relative distance are those in front of the gate, with the errors of what precedes them.
_FEATURES = 0.5
#: How many tensors are considered as a gate's result, by their distance on a sample.
_CANDIDATES, _SAMPLE = 12, 512
#: A gate's result is such a mixture but for this share of its variance.
_MIXTURE = 0.05
#: Tensors that are nearly as good mixtures as the best one must say the same up to this.
_NEARLY, _APART = 4.0, 0.25
#: A tensor this much nearer to the features than the whole gate's result is, is the features.
_COPY = 0.25
_SIGMAS = 3.0
#: The effect of a gate on its own result must be more than this, relative to the result's size, to be read at all.
_EFFECT = 1e-5
_TINY = 1e-13


class GateReader:
    """Reads all watched gates of one artifact, batch by batch."""

    def __init__(self, program: Program, folded: Folded) -> None:
        self._evaluator = Evaluator(program)
        self._gates = [_Reader(program, gate, folded) for gate in folded.gates]
        ends = [_carried_on(gate.result) for gate in folded.gates]
        self._further = [
            _Reader(program, replace(gate, result=end), folded) if end is not gate.result else None
            for gate, end in zip(folded.gates, ends)
        ]
        self._inputs = [spec.name for spec in program.inputs]

    def note(self, feed: ArrayMap, values: ArrayMap) -> None:
        """Add one batch: the network's inputs, and every value inside the artifact by name."""
        inputs = [torch.from_numpy(np.ascontiguousarray(feed[name])) for name in self._inputs]
        readers = [reader for reader in (*self._gates, *self._further) if reader]
        needed = {node for reader in readers for node in reader.reads}
        reference = {node: value for node, value in self._evaluator.every(inputs, given=True) if node in needed}
        sizes: dict[int, list[tuple[str, Array]]] = {}
        for name, array in values.items():
            if array.size > 1 and array.dtype.kind == "f" and np.all(np.isfinite(array)):
                sizes.setdefault(array.size, []).append((name, array))
        for reader in readers:
            reader.note(reference, sizes, len(inputs[0]))

    def readings(self) -> tuple[Reading | None, ...]:
        """For each gate its retention and interval; ``None`` where its result was not found.

        A converter may have folded a constant gate into the convolution behind it: then that one's result is read.
        """
        return tuple(
            near.reading() or (far.reading() if far else None) for near, far in zip(self._gates, self._further)
        )


@dataclass
class _Mixture:
    """The products of one tensor with what it may be a mixture of: (4, 4, channels) for each sample.

    In order: ones, the folded result, the whole result, the tensor.
    """

    products: list[Array] = field(default_factory=list)


class _Reader:
    """One gate."""

    def __init__(self, program: Program, gate: AttentionGate, folded: Folded) -> None:
        self._gate = gate
        self._instead = folded.instead(gate)
        self._path = _path(program, gate)
        inside = {gate.source, *self._path}
        self.reads = {used for node in self._path for used in node.all_input_nodes if used not in self._path}
        self.reads |= {gate.source, gate.result} | (inside & {gate.source})
        self._found: dict[tuple[str, int], _Mixture] = {}
        self._batches = 0

    @torch.no_grad()
    def note(self, reference: Mapping[Node, Any], sizes: Mapping[int, Sequence[tuple[str, Array]]], count: int) -> None:
        """Add one batch of ``count`` samples."""
        self._batches += 1
        source = reference[self._gate.source]
        seen = _nearest(source.numpy(), sizes.get(source.numel(), ()))
        given = source if seen is None else torch.from_numpy(seen)
        whole = self._result(reference, given, folded=False).numpy()
        plain = self._result(reference, given, folded=True).numpy()
        features = given.numpy()
        for key, tensor in _alike(whole, plain, sizes.get(whole.size, ()), self._found if self._batches > 1 else None):
            if _is_copy(tensor, features, whole):
                continue
            products = _products(tensor, whole, plain, count)
            self._found.setdefault(key, _Mixture()).products.extend(products)

    def _result(self, reference: Mapping[Node, Any], source: Tensor, *, folded: bool) -> Tensor:
        """The gate's result for the features ``source``, with its own weights or ``folded`` ones."""
        values = {**reference, self._gate.source: source}
        for node in self._path:
            values[node] = call(node, values.__getitem__, torch.float64)
            if folded and node in self._instead:
                own = values[node]
                values[node] = torch.empty_like(own).copy_(self._instead[node](own, values))
        result: Tensor = values[self._gate.result]
        return result

    def reading(self) -> Reading | None:
        """The retention of the tensor that is most surely the gate's result."""
        samples = max((len(one.products) for one in self._found.values()), default=0)
        fits = [
            fit
            for mixture in self._found.values()
            if len(mixture.products) == samples and samples > 2 and (fit := _fit(np.stack(mixture.products)))
        ]
        near = sorted((fit for fit in fits if fit.left < _MIXTURE), key=lambda fit: fit.left)
        if not near:
            return None
        best = near[0]
        others = [fit for fit in near if fit.left <= _NEARLY * best.left]
        if any(abs(fit.share - best.share) > _APART for fit in others):
            return None
        return best.share, best.share - best.half, best.share + best.half


@dataclass(frozen=True)
class _MixtureFit:
    """A tensor's ``share`` of the whole gate, half its interval, and the share of its variance that is ``left``."""

    share: float
    half: float
    left: float


def _fit(products: Array) -> _MixtureFit | None:
    """The fit of a tensor from its ``products`` (S, 4, 4, channels); ``None`` if the gate has no effect of its own."""
    total = products.sum(0)
    whole, cross, own, size = _without_folded(total)
    if whole <= (_EFFECT**2) * size or own <= 0:
        return None
    share = cross / whole
    variance = _variance(total)
    left = max(own - share * cross, 0.0) / variance if variance > 0 else math.inf
    count = len(products)
    others = []
    for sample in range(count):
        its_whole, its_cross, _, _ = _without_folded(total - products[sample])
        others.append(its_cross / its_whole if its_whole > 0 else share)
    spread = np.asarray(others) - np.mean(others)
    jackknife = _SIGMAS * math.sqrt((count - 1) / count * float(np.square(spread).sum()))
    chance = math.sqrt(max(own - share * cross, 0.0) / (whole * count * products.shape[-1]))
    return _MixtureFit(share, math.hypot(jackknife, _SIGMAS * chance), left)


def _without_folded(total: Array) -> tuple[float, float, float, float]:
    """Squares of the whole gate's effect, its product with the tensor, squares of the tensor, and of the result.

    All but the last one after the best affine function of the folded result, by channel, is taken away.
    """
    left = total
    for given in (0, 1):
        size = left[given, given]
        there = size > _TINY * total[given, given]
        left = left - np.where(there, left[given, :, None] * left[None, :, given] / np.where(there, size, 1.0), 0.0)
    whole, cross, own = left[2, 2].sum(), left[2, 3].sum(), left[3, 3].sum()
    return float(max(whole, 0.0)), float(cross), float(own), float(total[2, 2].sum())


def _variance(total: Array) -> float:
    return float((total[3, 3] - np.square(total[0, 3]) / total[0, 0]).sum())


def _products(tensor: Array, whole: Array, plain: Array, count: int) -> list[Array]:
    """For each sample, the products of ones, ``plain``, ``whole`` and ``tensor`` with each other by channel."""
    rows = np.stack([np.ones_like(whole), plain, whole, tensor])
    rows = np.moveaxis(rows, 2, 1) if whole.ndim >= CHANNELS_SECOND else rows[:, None]  # (4, channels, N, ...)
    groups = count if rows.shape[2] % count == 0 else 1
    rows = rows.reshape(4, rows.shape[1], groups, -1)
    found = np.einsum("acne,bcne->nabc", rows, rows, optimize=True)
    return list(found)


def _path(program: Program, gate: AttentionGate) -> list[Node]:
    """The nodes between a gate's source and its result, with the result, in order; and its cores."""
    nodes = list(program.exported.graph.nodes)
    below = {gate.source}
    cores = set(gate.cores)
    for node in nodes:
        if node.op == "call_function" and (node in cores or any(used in below for used in node.all_input_nodes)):
            below.add(node)
    above = {gate.result}
    for node in reversed(nodes):
        if node in above and node is not gate.source:
            above.update(node.all_input_nodes)
    inner = (below & above) - {gate.source}
    if gate.form is GateForm.MODULE:
        inner.add(gate.result)
    return [node for node in nodes if node in inner]


def _carried_on(result: Node) -> Node:
    """The last node behind ``result`` that is an affine function of it, if each is used once: a convolution, a norm."""
    node = result
    while len(node.users) == 1:
        (user,) = node.users
        name = operation(user)
        varying = [used for used in user.all_input_nodes if used.op != "placeholder"]
        if user.op != "call_function" or varying != [node] or not (kinds.is_affine_module(name) or name in MOVES):
            break
        node = user
    return node if isinstance(node.meta.get("val"), Tensor) else result


def _nearest(value: Array, tensors: Sequence[tuple[str, Array]]) -> Array | None:
    """The artifact's tensor nearest to ``value``, in its axis order; ``None`` if none is near."""
    chosen = _sample(value.size)
    wanted = value.ravel()[chosen]
    best, least = None, _FEATURES * float(np.linalg.norm(wanted))
    for _, array in tensors:
        for _, form in _forms(array, value.shape):
            distance = float(np.linalg.norm(form[np.unravel_index(chosen, form.shape)].astype(np.float64) - wanted))
            if distance < least:
                best, least = form, distance
    return None if best is None else np.ascontiguousarray(best, dtype=np.float64).reshape(value.shape)


def _alike(
    whole: Array, plain: Array, tensors: Sequence[tuple[str, Array]], known: Mapping[tuple[str, int], _Mixture] | None
) -> list[tuple[tuple[str, int], Array]]:
    """The tensors that may be the gate's result, each with a name for it; of those ``known``, if given."""
    chosen = _sample(whole.size)
    found: list[tuple[float, int, tuple[str, int], Array]] = []
    for name, array in tensors:
        for order, form in _forms(array, whole.shape):
            if known is not None and (name, order) not in known:
                continue
            taken = form[np.unravel_index(chosen, form.shape)].astype(np.float64)
            far = min(float(np.linalg.norm(taken - value.ravel()[chosen])) for value in (whole, plain))
            found.append((far, len(found), (name, order), form))
    nearest = sorted(found, key=lambda one: one[:2])[: None if known is not None else _CANDIDATES]
    return [(key, np.asarray(form, np.float64).reshape(whole.shape)) for _, _, key, form in nearest]


def _forms(array: Array, shape: tuple[int, ...]) -> Iterator[tuple[int, Array]]:
    """``array`` in each axis order that gives it ``shape``, numbered; as it is, it may have other axes."""
    for number, form in enumerate(orders(array)):
        if number == 0 or form.shape == shape:
            yield number, form


def _is_copy(tensor: Array, features: Array, whole: Array) -> bool:
    """Whether ``tensor`` is the features again, rounded perhaps, and not the gate's result ``whole``."""
    if tensor.size != features.size:
        return False
    before = features.reshape(whole.shape)
    return float(np.linalg.norm(tensor - before)) <= _COPY * float(np.linalg.norm(whole - before))


def _sample(size: int) -> Array:
    return np.random.default_rng(0).integers(0, size, min(size, _SAMPLE))
