"""Lowers a program: replaces every fused node by plain torch operators that suit one target.

A *lowering* is a torch function with the operator's signature. It is traced with the node's own (fake) inputs, and the
resulting operators replace the node. A *rewrite* does the same for an ordinary operator that a target's converter does
not take. Whatever does not depend on the network's input (index tensors, 0/1 kernels,
reshaped weights) is computed here and becomes a constant, so that no converter has to handle it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from ulsam_deploy.graph.editing import Constants, Editor
from ulsam_deploy.graph.operator import ATTENTION_MAPS, SUBSPACE_ATTENTION, lowered_maps
from ulsam_deploy.graph.program import Program

Lowering = Callable[..., Tensor]


@dataclass(frozen=True)
class Replacement:
    """What stands for a node: ``function`` of the values of ``inputs``; a list or tuple where the node gives one."""

    function: Callable[..., Any]
    inputs: Sequence[Node]


#: Gives what stands for a node; ``None`` if the node can stay.
Rewrite = Callable[[Node], "Replacement | None"]


def lower(program: Program, lowering: Lowering, rewrites: Mapping[Any, Rewrite] | None = None) -> Program:
    """Replace every ``ulsam::subspace_attention`` of ``program`` by ``lowering``; no custom operator is left.

    ``rewrites``: what else is replaced, by operator.
    """
    meanings: Mapping[Any, Lowering] = {SUBSPACE_ATTENTION: lowering, ATTENTION_MAPS: lowered_maps}
    editor = Editor(program.exported)
    for node in list(editor.graph.nodes):
        if node.target in meanings:
            tensors = [arg for arg in node.args if isinstance(arg, Node)]
            numbers = [arg for arg in node.args if not isinstance(arg, Node)]
            function = meanings[node.target]
            _inline(editor, node, Replacement(lambda *given, f=function, n=numbers: f(*given, *n), tensors))
        elif rewrites and node.target in rewrites and (found := rewrites[node.target](node)):
            _inline(editor, node, found)
    return fold_constants(dataclasses.replace(program, exported=editor.finish()))


def _inline(editor: Editor, node: Node, replacement: Replacement) -> None:
    """Replace ``node`` by the operators of ``replacement``."""
    with editor.fake_mode:  # tensors that the function creates must belong to the program's own fake mode
        traced: GraphModule = make_fx(replacement.function, pre_dispatch=True)(
            *(tensor.meta["val"] for tensor in replacement.inputs)
        )
    placed: dict[Node, Any] = dict(zip(traced.graph.find_nodes(op="placeholder"), replacement.inputs))
    stack = node.meta.get("nn_module_stack", {})
    with editor.graph.inserting_before(node):
        for inner in traced.graph.nodes:
            if inner.op == "call_function":
                placed[inner] = editor.graph.node_copy(inner, placed.__getitem__)
                placed[inner].meta["nn_module_stack"] = stack
            elif inner.op == "get_attr":
                placed[inner] = editor.add_buffer(f"{node.name}_{inner.name}", getattr(traced, str(inner.target)))
    result: Any = map_arg(traced.graph.output_node().args[0], placed.__getitem__)
    if isinstance(result, Node):
        editor.replace(node, by=result)
        return
    for part in list(node.users):  # each takes one of several results
        if part.users:
            editor.replace(part, by=result[part.args[1]])


def fold_constants(program: Program) -> Program:
    """Compute in float64 everything that depends on no user input, and store the results as buffers."""
    exported = program.exported
    exact = Constants(exported, program.exact, torch.float64)
    editor = Editor(exported)
    for node in exported.graph.nodes:
        foldable = node.op == "call_function" and exact.known(node) and isinstance(node.meta.get("val"), Tensor)
        if foldable and any(not exact.known(user) for user in node.users):
            buffer = editor.add_buffer(f"{node.name}_folded", exact.value(node).contiguous())
            editor.replace(editor.counterpart(node), by=buffer)
    return dataclasses.replace(program, exported=editor.finish(), exact={**program.exact, **editor.exact})
