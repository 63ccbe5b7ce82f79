"""Finds attention gates in a captured graph by their operations, however they are written.

A product of two tensors that depend on the network's input is a gate where one factor, or what it is computed from
beyond the other one, has seen more than single elements: a pool, a mean, a softmax, or a convolution with a sigmoid
behind it. An activation (``x * sigmoid(x)``), a normalization and a layer scale are none.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.graph.editing import constant_leaves, shape_of
from ulsam_deploy.graph.modules import common_module, is_within, module_of, own_path
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.replay.rounding import operation
from ulsam_deploy.graph.watching import kinds

#: A gate's own computation is short. A path of more operators is a branch of the network, with gates of its own.
_SHORT = 64
#: A softmax over fewer elements, times constants, is no attention over space.
_FEWEST_PLACES = 16


class GateForm(str, enum.Enum):
    """What a gate weighs: ``channels``, ``places``, each ``element``, or places by others of them (``attention``).

    ``module``: what the user named, and nothing in it was found to be a gate.
    """

    CHANNELS = "channels"
    PLACES = "places"
    ELEMENTS = "elements"
    ATTENTION = "attention"
    MODULE = "module"


@dataclass(frozen=True)
class AttentionGate:
    """One gate of a graph.

    Attributes:
        path: Its module, as the user knows it, numbered if it has several.
        form: What it weighs.
        cores: The nodes whose values weigh the features; empty for :attr:`GateForm.MODULE`.
        source: The features that are weighed; for weights of constants, what they are computed from.
        result: The weighed features.
    """

    path: str
    form: GateForm
    cores: tuple[Node, ...]
    source: Node
    result: Node


def find_gates(program: Program) -> tuple[AttentionGate, ...]:
    """Every attention gate of ``program`` that is not fused, in graph order."""
    graph = _Graph(program)
    pairs = [pair for node in graph.nodes if (pair := graph.pair(node))]
    pairs = [pair for pair in pairs if not any(graph.is_part(pair, other) for other in pairs)]
    return _named(graph.of_parts(_merged(pairs)), [block.path for block in program.blocks])


def watched_gates(program: Program, watch: Sequence[str]) -> tuple[AttentionGate, ...]:
    """The gates that ``watch`` chooses.

    Args:
        program: The network.
        watch: ``("auto",)``, ``("all",)``, ``("none",)``, or module paths: the gates inside each, or the module itself
            where there are none.

    Raises:
        UsageError: The network has no such module, or nothing goes through it.
    """
    if tuple(watch) == ("none",):
        return ()
    found = find_gates(program)
    if tuple(watch) in (("auto",), ("all",)):
        return found
    chosen = [gate for gate in found if is_within(gate.path.split("#")[0], watch)]
    for path in watch:
        if not any(is_within(gate.path.split("#")[0], [path]) for gate in chosen):
            chosen.append(_module(program, path))
    taken = [gate for gate in chosen if not _is_fused(gate, program)]
    return tuple(sorted(dict.fromkeys(taken), key=lambda gate: gate.result))


def named_gates(program: Program, names: Sequence[str]) -> tuple[AttentionGate, ...]:
    """The gates of ``program`` called ``names``, in that order."""
    found = {gate.path: gate for gate in find_gates(program)}
    return tuple(found[name] if name in found else _module(program, name) for name in names)


def _is_fused(gate: AttentionGate, program: Program) -> bool:
    """Whether a named module is a fused block or inside of one, which is watched anyway."""
    blocks = [block.path.split("#")[0] for block in program.blocks]
    return gate.form is GateForm.MODULE and is_within(gate.path, blocks)


class _Graph:
    """The graph with what each node depends on, as a bit for each node."""

    def __init__(self, program: Program) -> None:
        constants = constant_leaves(program.exported, {}, None)
        self.nodes = list(program.exported.graph.nodes)
        self._place = {node: place for place, node in enumerate(self.nodes)}
        self._above: dict[Node, int] = {}  # with the node itself; absent for what depends on no input
        for place, node in enumerate(self.nodes):
            above = 0
            for used in node.all_input_nodes:
                above |= self._above.get(used, 0)
            if above or (node.op == "placeholder" and node.name not in constants):
                self._above[node] = above | 1 << place

    def pair(self, node: Node) -> AttentionGate | None:
        """The gate whose result is ``node``, still without its path; ``None`` if it is none."""
        if node.op != "call_function" or not _is_float(node):
            return None
        name = operation(node)
        if name == kinds.ATTENTION and isinstance(node.args[2], Node):
            return AttentionGate("", GateForm.ATTENTION, (node,), node.args[2], node)
        if name != "mul" and not kinds.is_product(name):
            return None
        one, other = node.args[:2]
        if not isinstance(one, Node) or not isinstance(other, Node) or one is other:
            return None
        if one not in self._above or other not in self._above:
            return self._of_constants(node, one, other)
        if any(kinds.is_scale(operation(self._end(factor))) for factor in (one, other)):
            return None
        found = [both for x, gate in ((one, other), (other, one)) if (both := self._weighs(gate, x, name))]
        if not found:
            return None
        best = min(found, key=lambda pair: (not self._is_bounded(pair[1]), _size(pair[1])))
        source, gate = best
        core = _core(gate)
        form = GateForm.ATTENTION if name != "mul" else _form(shape_of(gate), shape_of(source))
        return AttentionGate("", form, (core,), source, node)

    def _weighs(self, gate: Node, x: Node, name: str) -> tuple[Node, Node] | None:
        """``x`` and ``gate``, if ``gate`` is attention on ``x``."""
        between = self._between(gate, x)
        names = {operation(node) for node in between}
        if not _is_float(gate):
            return None
        if name != "mul":  # of a matrix product, only what a softmax or another such product gives is attention
            inner = any(self._is_varying_product(node) for node in between)
            return (x, gate) if any(map(kinds.is_softmax, names)) or (inner and not self._is_varying(x)) else None
        itself = bool(self._above[gate] & 1 << self._place[_core(x)])
        mixed = any(map(kinds.mixes, names)) and (itself or self._is_bounded(gate))
        return (x, gate) if any(map(kinds.reduces, names)) or mixed else None

    def _is_varying(self, node: Node) -> bool:
        return self._is_varying_product(_core(node))

    def _is_varying_product(self, node: Node) -> bool:
        """Whether ``node`` is a matrix product of two tensors that both depend on the network's input."""
        return kinds.is_product(operation(node)) and all(arg in self._above for arg in node.args[:2])

    def _of_constants(self, node: Node, one: Node, other: Node) -> AttentionGate | None:
        """Constants weighed by a softmax, such as the coordinates of a soft argmax."""
        gate, constant = (one, other) if one in self._above else (other, one)
        core = _core(gate)
        shape = shape_of(core)
        if gate not in self._above or not kinds.is_softmax(operation(core)) or _size(constant) < 2:
            return None
        places = shape[int(core.args[1])]  # type: ignore[arg-type]
        if places < _FEWEST_PLACES:
            return None
        return AttentionGate("", GateForm.PLACES, (core,), core.all_input_nodes[0], node)

    def _between(self, gate: Node, x: Node) -> list[Node]:
        """The nodes that ``gate`` depends on, with itself, and ``x`` does not."""
        bits = self._above[gate] & ~self._above[x]
        found = []
        while bits:
            low = bits & -bits
            found.append(self.nodes[low.bit_length() - 1])
            bits ^= low
        return found

    def is_part(self, pair: AttentionGate, other: AttentionGate) -> bool:
        """Whether ``pair`` only serves to compute the weights of ``other``."""
        if pair is other or other.source not in self._above:
            return False
        core = other.cores[0]
        if core is other.result:
            return False
        between = self._between(core, other.source)
        return len(between) <= _SHORT and pair.result in between

    def of_parts(self, pairs: Sequence[AttentionGate]) -> list[AttentionGate]:
        """``pairs`` with those as one that weigh parts of the same features in one module."""
        groups: dict[tuple[Node, str | None], list[AttentionGate]] = {}
        for pair in pairs:
            groups.setdefault((_core(pair.source), module_of(pair.result)), []).append(pair)
        found = []
        for (source, _), group in groups.items():
            together = self._together(group) if len(group) > 1 else None
            if together is None or _size(together) != _size(source):
                found += group
                continue
            cores = tuple(core for pair in group for core in pair.cores)
            found.append(AttentionGate("", group[0].form, cores, source, together))
        return sorted(found, key=lambda pair: pair.result)

    def _together(self, group: Sequence[AttentionGate]) -> Node | None:
        """The first node that depends on the results of all of ``group``, in its module."""
        for node in self.nodes:
            above = self._above.get(node, 0)
            if node.op == "call_function" and all(above & 1 << self._place[pair.result] for pair in group):
                return node if module_of(node) == module_of(group[0].result) else None
        return None

    def _end(self, node: Node) -> Node:
        """The operator that gives the values of ``node``, behind movement, resizing and constant factors."""
        while node.op == "call_function":
            varying = [used for used in node.all_input_nodes if used in self._above]
            name = operation(node)
            if not varying or not (kinds.is_passing(name) or (kinds.is_affine(name) and len(varying) == 1)):
                break
            node = varying[0]
        return node

    def _is_bounded(self, node: Node) -> bool:
        return kinds.is_bounded(operation(self._end(node)))


def _core(node: Node) -> Node:
    """The node whose values ``node`` only moves."""
    while node.op == "call_function" and kinds.is_passing(operation(node)) and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def _merged(pairs: Sequence[AttentionGate]) -> list[AttentionGate]:
    """``pairs`` with those as one that weigh the same features in turn in one module, or by the same weights."""
    done: list[AttentionGate] = []
    for pair in pairs:
        for place, one in enumerate(done):
            if set(one.cores) & set(pair.cores):
                break
            if _core(pair.source) is one.result and module_of(pair.result) == module_of(one.result):
                form = one.form if one.form is pair.form else GateForm.ELEMENTS
                done[place] = replace(one, form=form, cores=(*one.cores, *pair.cores), result=pair.result)
                break
        else:
            done.append(pair)
    return done


def _named(pairs: Sequence[AttentionGate], blocks: Sequence[str]) -> tuple[AttentionGate, ...]:
    """``pairs`` with their paths, numbered where a module has several, or has a fused block as well."""
    taken = [path.split("#")[0] for path in blocks]
    found = []
    for pair in pairs:
        path = own_path(common_module([pair.result, *pair.cores])) or module_of(pair.result) or "forward"
        taken.append(path)
        number = taken.count(path)
        found.append(replace(pair, path=f"{path}#{number}" if number > 1 else path))
    return tuple(found)


def _module(program: Program, path: str) -> AttentionGate:
    """The module ``path`` as a whole: from its first input to its last result."""
    constants = constant_leaves(program.exported, {}, None)
    calls = [node for node in program.exported.graph.nodes if node.op == "call_function"]
    inside = [node for node in calls if is_within(module_of(node) or "", [path])]
    known = {module_of(node) or "" for node in calls} - {""}
    if not inside:
        raise unknown(f"the network has no module '{path}' to watch", path, sorted(known))
    members = set(inside)
    ends = [node for node in inside if _is_float(node) and any(user not in members for user in node.users)]
    starts = [
        used
        for node in inside
        for used in node.all_input_nodes
        if used not in members and used.name not in constants and _is_float(used)
    ]
    if not ends or not starts:
        raise UsageError(
            f"no tensor goes through module '{path}'", expected="a module that weighs features by attention"
        )
    return AttentionGate(path, GateForm.MODULE, (), starts[0], ends[-1])


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype in (torch.float32, torch.float64)


def _size(node: Node) -> int:
    size = 1
    for length in shape_of(node):
        size *= length
    return size


def _form(gate: tuple[int, ...], x: tuple[int, ...]) -> GateForm:
    """What a gate of one shape weighs of features of another, both with the batch in front."""
    aligned = (1,) * (len(x) - len(gate)) + gate
    if len(x) < 4 or aligned[1:] == x[1:]:
        return GateForm.ELEMENTS
    if all(length == 1 for length in aligned[-2:]):
        return GateForm.CHANNELS
    return GateForm.PLACES if aligned[1] == 1 else GateForm.ELEMENTS
