"""Fuses ULSAM blocks: each one in a captured program, however written, becomes a ``ulsam::subspace_attention`` node."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.types import Block, Refusal
from ulsam_deploy.graph.editing import Constants, Editor, shape_of
from ulsam_deploy.graph.matching.blocks import Findings, Match, find_blocks
from ulsam_deploy.graph.modules import common_module, module_paths, own_path
from ulsam_deploy.graph.operator import ATTENTION_MAPS, SUBSPACE_ATTENTION
from ulsam_deploy.graph.program import Program


def fuse_attention(program: Program) -> Program:
    """Fuse every ULSAM block; the new program's ``blocks`` and ``refusals`` list what was found.

    Batch norms and per-channel constants are folded in float64 into the node's weights, which are stored as float32.
    An attention map that the network also returns, or uses elsewhere, comes from an ``ulsam::attention_maps`` node.
    """
    editor = Editor(program.exported)
    constants = Constants(program.exported, dtype=torch.float64)
    findings = find_blocks(program.exported.graph, constants)
    paths = _unique([own_path(match.path) or "forward" for match in findings.matches])
    arguments = [_replace(editor, match, number, paths[number]) for number, match in enumerate(findings.matches)]
    for claim in editor.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        editor.graph.erase_node(claim)  # what a conversion leaves behind would keep a fused block alive
    editor.graph.eliminate_dead_code()
    for match, of_block in zip(findings.matches, arguments):
        _keep_maps(editor, match, of_block)
    blocks = tuple(_describe(match, path) for match, path in zip(findings.matches, paths))
    return dataclasses.replace(
        program,
        exported=editor.finish(),
        blocks=blocks,
        refusals=_refusals(findings),
        exact={**program.exact, **editor.exact},
    )


def _unique(paths: Sequence[str]) -> list[str]:
    """Number the second and later uses of one module: ``attention``, ``attention#2``."""
    return [f"{p}#{n}" if (n := paths[: i + 1].count(p)) > 1 else p for i, p in enumerate(paths)]


def _describe(match: Match, path: str) -> Block:
    _, channels, height, width = shape_of(match.x)
    return Block(path, channels, match.subspaces, height, width)


def _refusals(findings: Findings) -> tuple[Refusal, ...]:
    return tuple(Refusal(own_path(common_module(nodes)) or "forward", reason) for nodes, reason in findings.refused)


def folded_weights(match: Match) -> dict[str, Tensor]:
    """The weights of one block, folded in float64; shapes as in :mod:`ulsam_deploy.graph.operator`."""
    channels = shape_of(match.x)[1]
    return {
        "gate_scale": torch.cat([gate.scale for gate in match.gates]).reshape(channels, 1, 1, 1),
        "gate_bias": torch.cat([gate.bias for gate in match.gates]),
        "score_weight": torch.cat([unit.score_weight for unit in match.units])[:, :, None, None],
        "score_bias": torch.cat([unit.score_bias for unit in match.units]),
    }


def _replace(editor: Editor, match: Match, number: int, path: str) -> tuple[Any, ...]:
    """Replace ``match`` by one node and return the node's arguments."""
    buffers = [editor.add_buffer(f"ulsam_{number}_{name}", tensor) for name, tensor in folded_weights(match).items()]
    x, y = editor.counterpart(match.x), editor.counterpart(match.y)
    arguments: tuple[Any, ...] = (x, *buffers, match.subspaces)
    with editor.graph.inserting_before(y):
        fused = editor.graph.call_function(SUBSPACE_ATTENTION, arguments)
    fused.meta = _meta_of_block(y, match.path) | {"ulsam_block": path}
    editor.replace(y, by=fused)
    return arguments


def _meta_of_block(y: Node, path: str) -> dict[str, object]:
    """The metadata of ``y`` for the fused node: its module stack ends at the block's own module."""
    stack = y.meta.get("nn_module_stack", {})
    depth = module_paths(y).index(path) + 1 if path in module_paths(y) else len(stack)
    return {"val": y.meta["val"], "nn_module_stack": dict(list(stack.items())[:depth])}


def _keep_maps(editor: Editor, match: Match, arguments: tuple[Any, ...]) -> None:
    """Give other users of the attention maps (a network that returns them) the maps of one ``attention_maps`` node."""
    x, shape = arguments[0], match.maps.shape
    maps: Node | None = None
    for node, order in sorted(match.orders.items()):
        softmax = editor.counterpart(node)
        first = int((match.maps[0, :, 0, 0] == order.flatten()[0]).nonzero().sum())
        count = order.numel() // (shape[0] * shape[2] * shape[3])
        in_order = torch.equal(match.maps[:, first : first + count].flatten(), order.flatten())
        if not softmax.users or not in_order or not x < softmax:
            continue
        with editor.graph.inserting_before(softmax):
            if maps is None:
                maps = editor.graph.call_function(ATTENTION_MAPS, arguments)
                maps.meta = {"val": x.meta["val"][:, : shape[1]]}
            part = editor.graph.call_function(torch.ops.aten.slice.Tensor, (maps, 1, first, first + count))
            part.meta = {"val": maps.meta["val"][:, first : first + count]}
            shaped = editor.graph.call_function(torch.ops.aten.reshape.default, (part, [-1, *shape_of(node)[1:]]))
            shaped.meta = {"val": softmax.meta["val"]}
        editor.replace(softmax, by=shaped)
