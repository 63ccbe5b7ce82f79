"""Walks the network in float64, fed at every operator with what the artifact has there.

An operator's result is *seen* if a tensor of the artifact agrees with it within the rounding of its precision: that
tensor goes on in its place. Otherwise it is *hidden* (fused away, or wrong): the float64 result goes on, with what is
uncertain about it. A run of hidden operators that ends in a seen one was right as a whole. Where it does not end, a
tensor of the artifact that resembles one of them is put in its place: if what follows then agrees, that operator's
result is wrong, and the artifact really went on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.modules import module_of
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.replay.rounding import MOVES, ROUNDINGS, UNIFORM, Propagation, operation, products
from ulsam_deploy.graph.replay.tensors import Distance, Form, Inner, distance

#: An honest result is off by at most this many tolerances: 3.1 was the most that real engines showed in fp32 and fp16.
ALLOWED = 8.0
#: Rounding to steps is off by its tolerance, hardly more: such a tensor is the one behind the quantizer and goes on.
ROUNDED = 2.0
#: A run of hidden operators that ends farther off than this is looked into; one that went on with a wrong result fits
#: better than this with it.
SUSPECT, FITS = 2.5, 1.5
#: The steps of a tensor of 8 bits, and the share of values that may lie outside the range of a quantizer.
STEPS, OUTSIDE = 255, 0.15
#: How many hidden operators may follow each other before a wrong one is looked for among them.
PATIENCE = 6
#: A tensor resembles a result up to this distance, relative to the result's size: no map at all is at 1.
_RESEMBLES = 1.0
_CANDIDATES = 4
#: Results of two operators that are this close, relative to their size, may have been taken for each other.
_CLOSE = 1e-3


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
class _Found:
    """What is known after a node: its value, its uncertainty, and how it was seen.

    ``hidden``: the operators up to it that nothing was seen behind; ``run``: those that a seen one ended, with itself.
    """

    value: Any
    bound: Any = None
    form: Form | None = None
    distance: Distance | None = None
    hidden: frozenset[Node] = frozenset()
    run: frozenset[Node] = frozenset()
    wrong: bool = False

    @property
    def region(self) -> int:
        """How many operators were replayed together."""
        return len(self.run)


@dataclass
class _State:
    """Everything found so far, by node."""

    found: dict[Node, _Found] = field(default_factory=dict)

    def values(self) -> Mapping[Node, Any]:
        return _View(self.found, "value")

    def bounds(self) -> Mapping[Node, Any]:
        return _View(self.found, "bound")


class _View(Mapping[Node, Any]):
    """One attribute of what was found, by node; nodes without it are absent."""

    def __init__(self, found: Mapping[Node, _Found], name: str) -> None:
        self._found, self._name = found, name

    def __getitem__(self, node: Node) -> Any:
        value = getattr(self._found[node], self._name)
        if value is None:
            raise KeyError(node)
        return value

    def __iter__(self) -> Any:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Walk(Evaluator):
    """The walk of one program, for any number of batches."""

    def __init__(self, program: Program, precision: str) -> None:
        """``precision``: the artifact's."""
        super().__init__(program)
        self._rounding = ROUNDINGS[precision]
        self._quantized = precision.startswith("int8")
        self._varying = self._depends()
        self._propagation = Propagation(self._rounding, lambda node: node not in self._varying)
        self._results = next(node for node in self._nodes if node.op == "output").args[0]

    def _depends(self) -> set[Node]:
        """The nodes whose values depend on an input."""
        varying = set(self._inputs)
        for node in self._nodes:
            if node.op == "call_function" and any(used in varying for used in node.all_input_nodes):
                varying.add(node)
        return varying

    @torch.no_grad()
    def steps(self, inputs: Sequence[Tensor], inside: ArrayMap, outputs: ArrayMap) -> list[ReplayStep]:
        """Replay one batch.

        Args:
            inputs: The batch, in order.
            inside: Every tensor inside the artifact, by its name there.
            outputs: The artifact's outputs, by name, in PyTorch's axis order.
        """
        self._inner = Inner(inside, quantized=self._quantized)
        self._ends: dict[Node, list[Array]] = {}
        for name, node in zip(self._outputs, self._results):
            self._ends.setdefault(node, []).append(outputs[name])
        state = _State({node: _Found(value) for node, value in self._begin(inputs).items()})
        self._looked: set[Node] = set()
        for node in self._nodes:
            if node.op != "call_function":
                continue
            state.found[node] = self._step(node, state)
            self._exchange(node, state)
            if self._is_due(node, state):
                self._look(node, state)
        closed: dict[Node, int] = {}
        for found in state.found.values():
            for node in found.run:
                closed[node] = min(found.region, closed.get(node, found.region))
        self.ends = {name: state.found[node].value.numpy() for name, node in zip(self._outputs, self._results)}
        return [self._row(node, state, closed) for node in self._nodes if self._counts(node, state)]

    def _step(self, node: Node, state: _State) -> _Found:
        """Compute ``node`` from what was found before it, and see whether the artifact has its result."""
        values = state.values()
        result = self._value(node, values)
        if node not in self._varying or not isinstance(result, (Tensor, tuple, list)):  # sizes, assertions
            return _Found(result)
        bound = self._propagation.tolerance(node, values, state.bounds(), result)
        before = frozenset().union(*(state.found[used].hidden for used in node.all_input_nodes if used in state.found))
        if operation(node) in MOVES and not before and node not in self._ends:
            return _Found(result, bound)
        hidden = before if operation(node) in MOVES else before | {node}
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return _Found(result, bound, hidden=hidden)
        seen = self._nearest(node, result, bound)
        if not seen or seen[0][1].ratio > ALLOWED:
            return _Found(result, bound, hidden=hidden)
        (form, far), *others = seen
        again = self._stored_again(form, [other for other, _ in others])
        goes_on = form if again is None or form.step else again
        left = None if again is None else torch.from_numpy(np.abs(again.array - form.array))
        return _Found(torch.from_numpy(np.ascontiguousarray(goes_on.array)), left, form, far, run=hidden)

    def _stored_again(self, form: Form, others: Sequence[Form]) -> Form | None:
        """The same value before or behind a quantizer, which may have a step for each channel; ``None`` if not there.

        Either of the two may go on to the next operator, so that their difference is uncertain there.
        """
        if not self._quantized:
            return None
        range_ = float(np.ptp(form.array))
        for other in others:
            apart = np.abs(other.array - form.array)
            step = max(form.step, other.step, range_ / STEPS)
            if apart.any() and float(np.mean(apart > step)) <= OUTSIDE:
                return other
        return None

    def _nearest(self, node: Node, result: Tensor, bound: Tensor) -> list[tuple[Form, Distance]]:
        """The artifact's tensors nearest to this result, best first; for an output, those that resemble the output.

        A value before and behind a quantizer is two tensors, and either may go on: the one behind comes first.
        """
        value, tolerance = result.numpy(), bound.numpy()
        found: list[tuple[Form, Distance]] = []
        for form in self._inner.forms(value):
            if node in self._ends and not any(_resembles(form.array, end) for end in self._ends[node]):
                continue
            found.append((form, distance(value, tolerance, form, UNIFORM)))
            near = found[-1][1].ratio
            if (near < FITS and not self._quantized) or (len(found) > _CANDIDATES and near > ALLOWED):
                break
        return sorted(found, key=lambda one: (not (one[0].step and one[1].ratio <= ROUNDED), one[1].ratio))

    def _exchange(self, node: Node, state: _State) -> None:
        """Take the tensor of an operator before ``node``, which is hidden, for ``node``'s, if it fits that one better.

        An operator that changes next to nothing (a batch norm that was never trained) has hardly another result than
        the one before it, and an engine that fuses the two has one tensor. Their run is then held to what is uncertain
        about all of it.
        """
        found = state.found[node]
        if found.form is not None or not found.hidden or not isinstance(found.value, Tensor):
            return
        for before in {used for one in found.hidden for used in one.all_input_nodes} - found.hidden:
            seen = state.found[before]
            if seen.form is None or seen.distance is None or not _is_close(seen.value, found.value):
                continue
            values = state.values()
            result = self._value(before, values)
            bound = self._propagation.tolerance(before, values, state.bounds(), result)
            trial = _State({**state.found, before: _Found(result, bound, hidden=seen.run)})
            affected = {before}
            for one in self._after(before, self._nodes.index(node), affected):
                trial.found[one] = self._step(one, trial)
            now = trial.found[node]
            fits = now.distance is not None and now.distance.ratio < min(FITS, seen.distance.ratio)
            if fits and now.form is not None and now.form.name == seen.form.name:
                state.found.update({one: trial.found[one] for one in affected})
                return

    def _is_due(self, node: Node, state: _State) -> bool:
        """Whether a wrong result has to be looked for among the hidden operators before ``node``."""
        found = state.found[node]
        if found.distance is not None and found.distance.ratio > SUSPECT:
            return found.region > 1
        new = len(found.hidden - self._looked)
        return new > 0 and (node in self._ends or new >= PATIENCE)

    def _look(self, node: Node, state: _State) -> None:
        """Look for the wrong result among the operators hidden before ``node``; go on with it where one is found."""
        hidden = state.found[node].hidden or state.found[node].run
        ordered = [one for one in self._nodes if one in hidden and state.found[one].form is None]
        last = self._nodes.index(node)
        for suspect in ordered:
            for form in self._alike(state.found[suspect]):
                trial = self._tried(suspect, form, last, state)
                if trial is not None:
                    state.found.update(trial)
                    return
        self._looked |= hidden

    def _after(self, first: Node, last: int, affected: set[Node]) -> Iterator[Node]:
        """The operators behind ``first`` up to position ``last`` that depend on it; each is added to ``affected``."""
        for node in self._nodes[self._nodes.index(first) + 1 : last + 1]:
            if node.op == "call_function" and affected.intersection(node.all_input_nodes):
                affected.add(node)
                yield node

    def _alike(self, found: _Found) -> list[Form]:
        """The tensors of the artifact that resemble a hidden result."""
        value = found.value.numpy() if isinstance(found.value, Tensor) else None
        if value is None or value.size < 2:
            return []
        size = float(np.sqrt(np.mean(np.square(value))))
        near = []
        for number, form in enumerate(self._inner.forms(value)):
            far = float(np.sqrt(np.mean(np.square(form.array - value))))
            if far <= _RESEMBLES * size:
                near.append((far, form))
            if number >= _CANDIDATES:
                break
        return [form for _, form in sorted(near, key=lambda pair: pair[0])]

    def _tried(self, suspect: Node, form: Form, last: int, state: _State) -> dict[Node, _Found] | None:
        """What follows up to position ``last`` if the artifact has ``form`` for ``suspect``; ``None`` if all disagrees.

        Agreement that there was without it proves nothing, nor does one with ``form`` again in another place.
        """
        value = state.found[suspect].value
        bound = state.found[suspect].bound
        far = distance(value.numpy(), bound.numpy(), form, UNIFORM)
        if far.ratio <= ALLOWED:
            return None
        replaced = torch.from_numpy(np.ascontiguousarray(form.array))
        wrong = _Found(replaced, None, form, far, run=state.found[suspect].hidden, wrong=True)
        trial = _State({**state.found, suspect: wrong})
        affected, agreed = {suspect}, False
        for node in self._after(suspect, last, affected):
            trial.found[node] = after = self._step(node, trial)
            if after.form is not None and not _same(after.form.array, form.array):
                agreed |= _explained(state.found[node], after)
        return {node: trial.found[node] for node in affected} if agreed else None

    def _counts(self, node: Node, state: _State) -> bool:
        found = state.found.get(node)
        if found is None or node.op != "call_function" or node not in self._varying:
            return False
        seen = found.form is not None or operation(node) not in MOVES
        return isinstance(found.value, Tensor) and found.value.is_floating_point() and (seen or node in self._ends)

    def _row(self, node: Node, state: _State, closed: Mapping[Node, int]) -> ReplayStep:
        found = state.found[node]
        ratio, wrong, reached = found.distance.ratio if found.distance else None, found.wrong, True
        if node in self._ends and found.form is None:  # an output that agrees with nothing
            seen = self._nearest(node, found.value, found.bound)
            reached = False
            if seen:
                ratio, wrong = seen[0][1].ratio, True
        return ReplayStep(
            module_of(node) or "",
            _shown(node),
            found.form.name if found.form else "",
            ratio,
            found.distance.relative if found.distance else 0.0,
            found.distance.clipped if found.distance else 0.0,
            found.region,
            products(node, state.values(), found.value),
            closed.get(node, 0),
            reached,
            wrong,
        )


def _shown(node: Node) -> str:
    """The operator as its user knows it: batch norm gives one of several results."""
    name = operation(node.args[0] if operation(node) == "getitem" else node)  # type: ignore[arg-type]
    return "batch_norm" if "batch_norm" in name else name


def _explained(before: _Found, after: _Found) -> bool:
    """Whether an operator that did not fit, or badly, fits now."""
    if after.distance is None:
        return False
    if before.distance is None:
        return True
    return before.distance.ratio > SUSPECT and after.distance.ratio < FITS


def _resembles(array: Array, other: Array) -> bool:
    """Whether one may be the other, computed in another order: an engine shows its inner values less fused."""
    distance = float(np.sqrt(np.mean(np.square(array.ravel() - other.ravel()))))
    return distance <= _RESEMBLES * (float(other.std()) or float(np.abs(other).max()))


def _is_close(one: Tensor, other: Tensor) -> bool:
    """Whether two results are the same but for something that only a comparison by rounding tells."""
    return one.shape == other.shape and bool((one - other).square().mean() <= (_CLOSE**2) * other.square().mean())


def _same(one: Array, other: Array) -> bool:
    return one.size == other.size and bool(np.array_equal(np.sort(one, axis=None), np.sort(other, axis=None)))
