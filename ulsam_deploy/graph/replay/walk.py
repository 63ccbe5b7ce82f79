"""Walks the network in float64, fed at every operator with what the artifact has there.

An operator's result is *seen* if a tensor of the artifact agrees with it within the rounding of its precision: that
tensor goes on in its place. Otherwise it is *hidden* (fused away, or wrong): the float64 result goes on, with what is
uncertain about it. A run of hidden operators that ends in a seen one was right as a whole. Where it does not end, a
tensor of the artifact that resembles one of them is put in its place: if what follows then agrees, that operator's
result is wrong, and the artifact really went on with it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.types import StepGrid
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.modules import module_of
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.replay.found import AttributeView, FoundValue, ReplayStep, WalkState, shifted
from ulsam_deploy.graph.replay.rounding import (
    ALLOWED,
    MOVES,
    ROUNDINGS,
    UNIFORM,
    Propagation,
    operation,
    products,
)
from ulsam_deploy.graph.replay.tensors import RESEMBLES, Distance, Form, Inner, apart, distance, resembles, rounded

#: A run of hidden operators that ends farther off than this is looked into; one that went on with a wrong result fits
#: better than this with it.
SUSPECT, FITS = 2.5, 1.5
#: How many ways an operator is computed in whose inputs may be read before or behind a quantizer.
WAYS = 4
#: Only cut values off at the ends of a range, as a quantizer in their place does.
_CUTS = {"relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"}
#: What the operator of a row is called that is about a quantizer.
QUANTIZE = "quantize"
#: How many hidden operators may follow each other before a wrong one is looked for among them.
PATIENCE = 6
_CANDIDATES = 4
#: Tensors this close, relative to the spread of every channel, are equal but for rounding.
_EQUAL = 1e-6
#: Results of two operators that are this close, relative to their size, may have been taken for each other.
_CLOSE = 1e-3


class _Instead(AttributeView):
    """The values of nodes, with others of some."""

    def __init__(self, chosen: Mapping[Node, Any], values: AttributeView) -> None:
        super().__init__(values.found, values.name)
        self._chosen = chosen

    def __getitem__(self, node: Node) -> Any:
        return self._chosen[node] if node in self._chosen else super().__getitem__(node)


class Walk(Evaluator):
    """The walk of one program, for any number of batches."""

    def __init__(self, program: Program, precision: str) -> None:
        """``precision``: the artifact's."""
        super().__init__(program)
        self._rounding = ROUNDINGS[precision]
        self._quantized = self._rounding.int8_weights
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
    def steps(
        self, inputs: Sequence[Tensor], inside: ArrayMap, outputs: ArrayMap, grids: Mapping[str, StepGrid]
    ) -> list[ReplayStep]:
        """Replay one batch.

        Args:
            inputs: The batch, in order.
            inside: Every tensor inside the artifact, by its name there.
            outputs: The artifact's outputs, by name, in PyTorch's axis order.
            grids: The tensors inside that are rounded to steps.
        """
        self._inner = Inner(inside, grids)
        self._ends: dict[Node, list[Array]] = {}
        self._least: dict[int, float] = {}  # how near the nearest tensor inside is to an output
        for name, node in zip(self._outputs, self._results):
            self._ends.setdefault(node, []).append(np.asarray(outputs[name], np.float64))
        state = WalkState({node: self._given(node, value) for node, value in self._begin(inputs).items()})
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
        rows = [self._row(node, state, closed) for node in self._nodes if self._counts(node, state)]
        return rows + [row for node in self._nodes for row in self._quantizer(node, state)]

    def _given(self, node: Node, value: Any) -> FoundValue:
        """An input of the network, which the artifact may round before anything reads it."""
        if node not in self._varying or not isinstance(value, Tensor) or not value.is_floating_point():
            return FoundValue(value)
        exact = np.zeros(value.shape)
        for form in self._inner.forms(value.numpy()):
            if form.steps and distance(value.numpy(), exact, form).ratio <= ALLOWED:
                moved = torch.from_numpy(np.abs(form.array - value.numpy()))
                return FoundValue(_tensor(form), (value,), rounding=moved)
        return FoundValue(value)

    def _step(self, node: Node, state: WalkState) -> FoundValue:
        """Compute ``node`` in the way that the artifact has its result by; hidden if it has none."""
        found: list[FoundValue] = []
        for chosen in self._ways(node, state):
            found.append(self._computed(node, state, _Instead(chosen, state.values())))
            best = found[-1].distance
            if best is not None and best.ratio <= FITS:
                return found[-1]
        seen = [one for one in found if one.distance is not None]
        if seen:
            return min(seen, key=lambda one: one.distance.ratio if one.distance else math.inf)
        return replace(found[0], others=tuple(one.value for one in found[1:]))

    @staticmethod
    def _ways(node: Node, state: WalkState) -> Iterator[dict[Node, Any]]:
        """What ``node`` may have read: first what goes on of each input, then what it was before its quantizer."""
        several = [used for used in node.all_input_nodes if used in state.found and state.found[used].others]
        if operation(node) in MOVES or len(several) > 2:
            yield {}
            if several:
                yield {used: state.found[used].others[-1] for used in several}
            return
        options = ((state.found[used].value, *state.found[used].others) for used in several)
        for chosen in itertools.islice(itertools.product(*options), WAYS):
            yield dict(zip(several, chosen))

    def _computed(self, node: Node, state: WalkState, values: Mapping[Node, Any]) -> FoundValue:
        """Compute ``node`` from ``values``, and see whether the artifact has its result."""
        result = self._value(node, values)
        if node not in self._varying or not isinstance(result, (Tensor, tuple, list)):  # sizes, assertions
            return FoundValue(result)
        bound = self._propagation.tolerance(node, values, state.bounds(), result)
        hidden = frozenset().union(*(state.found[used].hidden for used in node.all_input_nodes if used in state.found))
        if operation(node) in MOVES and not hidden and node not in self._ends:
            return FoundValue(result, bound=bound)
        if operation(node) not in MOVES:
            hidden |= {node}
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return FoundValue(result, bound=bound, hidden=hidden)
        shift = shifted(node, hidden, values, state) if self._quantized else None
        seen = self._nearest(node, result, bound, shift)
        if not seen or seen[0][1].ratio > ALLOWED:
            return FoundValue(result, bound=bound, hidden=hidden)
        form, far = seen[0]
        source = self._inner.before(form)
        if source is None:
            source, behind = form, self._inner.behind(form)
            checks = [rounded(form, one, clips=not _is_cut(node)) for one in behind]
            before = [form]
        else:  # the quantizer is in the place of this operator, and cuts off as it does
            behind, before, checks = [form], list[Form](), [rounded(source, form, clips=False)]
        again = [other for one in behind for other in self._inner.behind(one)]  # rounded to other steps once more
        goes_on, *others = [*behind, *again, *before]
        worst = max(checks, key=lambda one: one.ratio, default=None)
        return FoundValue(
            _tensor(goes_on), tuple(map(_tensor, others)), None, form, far,
            run=hidden, quantizer=worst, rounding=_rounding(goes_on, others),
        )  # fmt: skip

    def _nearest(
        self, node: Node, result: Tensor, bound: Tensor, shift: Array | None = None
    ) -> list[tuple[Form, Distance]]:
        """The artifact's tensors nearest to this result, best first; for an output, those that are the output."""
        value, tolerance = result.numpy(), bound.numpy()
        found: list[tuple[Form, Distance]] = []
        cuts = operation(node) in _CUTS
        for form in self._inner.forms(value):
            if node in self._ends and not self._is_end(node, form):
                continue
            if not cuts and self._inner.before(form) is not None:
                continue  # what it was before its quantizer tells more
            found.append((form, distance(value, tolerance, form, clips=not _is_cut(node), shift=shift)))
            near = found[-1][1].ratio
            if near < FITS or (len(found) > _CANDIDATES and near > ALLOWED):
                break
        return sorted(found, key=lambda one: one[1].ratio)

    def _is_end(self, node: Node, form: Form) -> bool:
        """Whether ``form``, or what it is rounded to, is an output that ``node`` gives: none is nearer to that.

        An engine shows its inner values less fused, so that the output itself may differ from what it gave before.
        """
        for end in self._ends[node]:
            if id(end) not in self._least:
                self._least[id(end)] = min((apart(one.array, end) for one in self._inner.forms(end)), default=0.0)
            for one in (form, *self._inner.behind(form)):
                array = one.array.reshape(end.shape)
                if resembles(array, end) and apart(array, end) <= 2 * self._least[id(end)] + _EQUAL:
                    return True
        return False

    def _exchange(self, node: Node, state: WalkState) -> None:
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
            trial = WalkState({**state.found, before: FoundValue(result, bound=bound, hidden=seen.run)})
            affected = {before}
            for one in self._after(before, self._nodes.index(node), affected):
                trial.found[one] = self._step(one, trial)
            now = trial.found[node]
            fits = now.distance is not None and now.distance.ratio < min(FITS, seen.distance.ratio)
            if fits and now.form is not None and now.form.name == seen.form.name:
                state.found.update({one: trial.found[one] for one in affected})
                return

    def _is_due(self, node: Node, state: WalkState) -> bool:
        """Whether a wrong result has to be looked for among the hidden operators before ``node``."""
        found = state.found[node]
        if found.distance is not None and found.distance.ratio > SUSPECT:
            return found.region > 1
        new = len(found.hidden - self._looked)
        return new > 0 and (node in self._ends or new >= PATIENCE)

    def _look(self, node: Node, state: WalkState) -> None:
        """Look for the wrong result among the operators hidden before ``node``; go on with it where one is found."""
        hidden = state.found[node].hidden or state.found[node].run
        ordered = [one for one in self._nodes if one in hidden and state.found[one].form is None]
        last = self._nodes.index(node)
        taken = {found.form.name for found in state.found.values() if found.form is not None}
        for suspect in ordered:
            for form in self._alike(state.found[suspect], taken):
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

    def _alike(self, found: FoundValue, taken: Collection[str]) -> list[Form]:
        """The tensors of the artifact that resemble a hidden result, but those that are ``taken``: other results."""
        value = found.value.numpy() if isinstance(found.value, Tensor) else None
        if value is None or value.size < 2:
            return []
        size = float(np.sqrt(np.mean(np.square(value))))
        near = []
        free = (form for form in self._inner.forms(value) if form.name not in taken)
        for number, form in enumerate(free):
            far = float(np.sqrt(np.mean(np.square(form.array - value))))
            if far <= RESEMBLES * size:
                near.append((far, form))
            if number >= _CANDIDATES:
                break
        return [form for _, form in sorted(near, key=lambda pair: pair[0])]

    def _tried(self, suspect: Node, form: Form, last: int, state: WalkState) -> dict[Node, FoundValue] | None:
        """What follows up to position ``last`` if the artifact has ``form`` for ``suspect``; ``None`` if all disagrees.

        Agreement that there was without it proves nothing, nor does one with ``form`` again in another place.
        """
        value = state.found[suspect].value
        bound = state.found[suspect].bound
        far = distance(value.numpy(), bound.numpy(), form)
        if far.ratio <= ALLOWED:
            return None
        replaced = _tensor(form)
        wrong = FoundValue(replaced, form=form, distance=far, run=state.found[suspect].hidden, wrong=True)
        trial = WalkState({**state.found, suspect: wrong})
        affected, agreed = {suspect}, False
        for node in self._after(suspect, last, affected):
            trial.found[node] = after = self._step(node, trial)
            if after.form is not None and not _same(after.form.array, form.array):
                agreed |= _explained(state.found[node], after)
        return {node: trial.found[node] for node in affected} if agreed else None

    def _counts(self, node: Node, state: WalkState) -> bool:
        found = state.found.get(node)
        if found is None or node.op != "call_function" or node not in self._varying:
            return False
        seen = found.form is not None or operation(node) not in MOVES
        return isinstance(found.value, Tensor) and found.value.is_floating_point() and (seen or node in self._ends)

    @staticmethod
    def _quantizer(node: Node, state: WalkState) -> Iterator[ReplayStep]:
        """The row of the quantizer behind ``node``, if it is wrong."""
        found = state.found.get(node)
        far = found.quantizer if found else None
        if found is not None and found.form is not None and far is not None and far.ratio > ALLOWED:
            path, name = module_of(node) or "", found.form.name
            yield ReplayStep(path, QUANTIZE, name, far.ratio, far.relative, far.clipped, 1, 0, 0, True, wrong=True)

    def _row(self, node: Node, state: WalkState, closed: Mapping[Node, int]) -> ReplayStep:
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
            max((far.clipped for far in (found.distance, found.quantizer) if far), default=0.0),
            found.region,
            products(node, state.values(), found.value),
            closed.get(node, 0),
            reached,
            wrong,
        )


def _tensor(form: Form) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(form.array))


def _rounding(form: Form, others: Sequence[Form]) -> Tensor | None:
    """What rounding to ``form`` may have moved, from what it was before or from its steps; ``None`` for a float."""
    if form.steps is None:
        return None
    if others:
        return torch.from_numpy(np.abs(form.array - others[-1].array))
    return torch.from_numpy(np.broadcast_to(form.steps.step * UNIFORM, form.array.shape).copy())


def _is_cut(node: Node) -> bool:
    """Whether what reads ``node`` only cuts its values off, so that a quantizer may do it instead."""
    return bool(node.users) and all(operation(user) in _CUTS for user in node.users)


def _shown(node: Node) -> str:
    """The operator as its user knows it: batch norm gives one of several results."""
    name = operation(node.args[0] if operation(node) == "getitem" else node)  # type: ignore[arg-type]
    return "batch_norm" if "batch_norm" in name else name


def _explained(before: FoundValue, after: FoundValue) -> bool:
    """Whether an operator that did not fit, or badly, fits now."""
    if after.distance is None:
        return False
    if before.distance is None:
        return True
    return before.distance.ratio > SUSPECT and after.distance.ratio < FITS


def _is_close(one: Tensor, other: Tensor) -> bool:
    """Whether two results are the same but for something that only a comparison by rounding tells."""
    return one.shape == other.shape and bool((one - other).square().mean() <= (_CLOSE**2) * other.square().mean())


def _same(one: Array, other: Array) -> bool:
    return one.size == other.size and bool(np.array_equal(np.sort(one, axis=None), np.sort(other, axis=None)))
