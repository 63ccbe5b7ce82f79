"""Reading and editing the graph of an ``ExportedProgram``: constants, concrete shapes, module paths, new buffers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram, ModuleCallEntry
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Graph, Node
from torch.fx.node import map_aggregate, map_arg
from torch.utils._pytree import tree_structure


def concrete(value: Any) -> int:
    """A size as an integer; a symbolic size has the value that it had during capture."""
    return int(value.node.hint) if isinstance(value, torch.SymInt) else int(value)


def shape_of(node: Node) -> tuple[int, ...]:
    """The concrete shape of the tensor that ``node`` produces; ``()`` if it does not produce a single tensor."""
    value = node.meta.get("val")
    return tuple(concrete(size) for size in value.shape) if isinstance(value, Tensor) else ()


def constant_leaves(
    program: ExportedProgram, exact: Mapping[str, Tensor], dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Map the placeholder name of every parameter, buffer and constant of ``program`` to its tensor.

    ``dtype`` converts floating-point tensors; for float64, the values in ``exact`` (by target) replace the float32
    values that were rounded from them.
    """
    leaves = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT or spec.target is None or not isinstance(spec.arg, TensorArgument):
            continue
        tensor = program.state_dict.get(spec.target, program.constants.get(spec.target))
        if dtype is torch.float64:
            tensor = exact.get(spec.target, tensor)
        if isinstance(tensor, Tensor):
            converts = dtype is not None and tensor.is_floating_point()
            leaves[spec.arg.name] = tensor.detach().to(dtype) if converts else tensor.detach()
    return leaves


def call(node: Node, value_of: Callable[[Node], Any], dtype: torch.dtype | None = None) -> Any:
    """Compute the value of a ``call_function`` node; ``dtype``, if given, replaces floating dtypes in its arguments.

    It also replaces the default dtype of a newly created tensor, such as ``torch.empty(2, 3)``.
    """
    args, kwargs = map_aggregate(
        map_arg((node.args, node.kwargs), value_of),
        lambda item: dtype if dtype and isinstance(item, torch.dtype) and item.is_floating_point else item,
    )
    assert callable(node.target)
    value = node.target(*args, **kwargs)
    return value.to(dtype) if dtype and isinstance(value, Tensor) and value.is_floating_point() else value


def _tags(node: Node) -> Sequence[torch.Tag]:
    return node.target.tags if isinstance(node.target, torch._ops.OpOverload) else ()


class Constants:
    """Values of nodes that depend on no user input: parameters, buffers, and everything computed from them."""

    def __init__(
        self, program: ExportedProgram, exact: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self._leaves = constant_leaves(program, exact or {}, dtype)
        self._dtype = dtype
        self._known: dict[Node, bool] = {}
        self._values: dict[Node, Any] = {}

    def known(self, node: Node) -> bool:
        """Whether the value of ``node`` depends on no user input."""
        if node not in self._known:
            if node.op == "placeholder":
                self._known[node] = node.name in self._leaves
            else:
                inputs_known = node.op == "call_function" and all(map(self.known, node.all_input_nodes))
                self._known[node] = inputs_known and torch.Tag.nondeterministic_seeded not in _tags(node)
        return self._known[node]

    def value(self, node: Node) -> Any:
        """The value of a :meth:`known` node."""
        if node not in self._values:
            leaf = node.op == "placeholder"
            self._values[node] = self._leaves[node.name] if leaf else call(node, self.value, self._dtype)
        return self._values[node]


class Editor:
    """A private copy of a program's graph for editing; :meth:`finish` returns the new ``ExportedProgram``.

    ``exact`` collects the float64 values of the buffers that were added, by target.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.exact: dict[str, Tensor] = {}
        self._program = program
        self._module = copy.deepcopy(program.graph_module)
        self._inputs = list(program.graph_signature.input_specs)
        self._outputs = list(program.graph_signature.output_specs)
        self._state = dict(program.state_dict)
        self._counterparts: dict[str, Node] = dict(
            zip((node.name for node in program.graph.nodes), self._module.graph.nodes)
        )
        self._replaced: dict[Node, Node] = {}
        self._added = 0
        self._first_input = self.graph.find_nodes(op="placeholder")[0]
        self.fake_mode = next(
            node.meta["val"].fake_mode for node in self.graph.nodes if hasattr(node.meta.get("val"), "fake_mode")
        )

    @property
    def graph(self) -> Graph:
        """The graph to edit."""
        graph: Graph = self._module.graph
        return graph

    def counterpart(self, node: Node) -> Node:
        """The node of this copy for ``node`` of the original graph; its replacement if it was replaced."""
        counterpart = self._counterparts[node.name]
        while counterpart in self._replaced:
            counterpart = self._replaced[counterpart]
        return counterpart

    def add_buffer(self, name: str, tensor: Tensor) -> Node:
        """Add a constant input called ``name`` (made unique) in front of all others.

        A float64 ``tensor`` is stored as float32; its exact values are kept in :attr:`exact`.
        """
        if tensor.dtype is torch.float64:
            node = self.add_buffer(name, tensor.to(torch.float32))
            self.exact[str(node.target)] = tensor
            return node
        with self.graph.inserting_before(self._first_input):
            node = self.graph.placeholder(name)
        node.target = target = node.name  # the graph made the name unique
        node.meta["val"] = self.fake_mode.from_tensor(tensor, static_shapes=True)
        self._state[target] = tensor
        spec = InputSpec(InputKind.BUFFER, TensorArgument(name=node.name), target=target, persistent=True)
        self._inputs.insert(self._added, spec)
        self._added += 1
        return node

    def set_constant(self, name: str, tensor: Tensor) -> None:
        """Give the parameter or buffer whose node is called ``name`` another value of the same shape."""
        spec = next(spec for spec in self._inputs if spec.arg.name == name)
        assert spec.target in self._state
        is_parameter = spec.kind is InputKind.PARAMETER
        self._state[spec.target] = torch.nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor

    def drop_outputs(self, kind: OutputKind) -> None:
        """Remove the outputs of ``kind``."""
        output = self.graph.output_node()
        pairs = [(node, spec) for node, spec in zip(output.args[0], self._outputs) if spec.kind is not kind]  # type: ignore[arg-type]
        output.args = (tuple(node for node, _ in pairs),)
        self._outputs = [spec for _, spec in pairs]

    def replace(self, node: Node, by: Node) -> None:
        """Replace every use of ``node`` by ``by``, also in the program's outputs."""
        node.replace_all_uses_with(by)
        self._replaced[node] = by
        for i, spec in enumerate(self._outputs):
            if isinstance(spec.arg, TensorArgument) and spec.arg.name == node.name:
                self._outputs[i] = OutputSpec(spec.kind, TensorArgument(name=by.name), spec.target)

    def finish(self) -> ExportedProgram:
        """Remove unused nodes and build the new program, which torch's own verifier checks."""
        self.graph.eliminate_dead_code()
        self._drop_unused_constants()
        self.graph.lint()
        self._module.recompile()
        old = self._program
        return ExportedProgram(
            root=self._module,
            graph=self.graph,
            graph_signature=ExportGraphSignature(self._inputs, self._outputs),
            state_dict=self._state,
            range_constraints=old.range_constraints,
            module_call_graph=[self._call_entry(old.module_call_graph[0])],
            example_inputs=old.example_inputs,
            constants=old.constants,
            verifiers=old.verifiers,
        )

    def _call_entry(self, entry: ModuleCallEntry) -> ModuleCallEntry:
        """The network's calling convention: as before, with the user outputs that are left."""
        assert entry.signature is not None
        returned = [spec.arg for spec in self._outputs if spec.kind is OutputKind.USER_OUTPUT]
        spec = tree_structure(tuple(0 for _ in returned))
        return ModuleCallEntry(entry.fqn, dataclasses.replace(entry.signature, outputs=returned, out_spec=spec))

    def _drop_unused_constants(self) -> None:
        dead = {
            node.name: node
            for node, spec in zip(self.graph.find_nodes(op="placeholder"), self._inputs)
            if not node.users and spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)
        }
        kept = [spec for spec in self._inputs if spec.arg.name not in dead]
        self._inputs = kept
        for node in dead.values():
            self.graph.erase_node(node)
        targets = {spec.target for spec in kept}
        self._state = {name: tensor for name, tensor in self._state.items() if name in targets}
