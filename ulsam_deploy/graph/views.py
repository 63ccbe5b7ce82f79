"""Data for the report that only the programs can give: the reference's attention maps, and a block's graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import Step
from ulsam_deploy.device.findings.artifact import MOST_STEPS
from ulsam_deploy.device.maps import Maps, chosen, pooled
from ulsam_deploy.device.parity import Added, Golden, is_built_in
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.graph.editing import constant_leaves
from ulsam_deploy.graph.evaluate import Evaluator, batches
from ulsam_deploy.graph.modules import module_paths, own_path
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.resolution import Resolution, forecast

#: Short names of operators for which torch has a longer name.
_PLAIN = {"_native_batch_norm_legit_no_training": "batch_norm"}
#: The number of inputs on which attention is measured for a forecast.
_WATCHED = 6


def reference_maps(captured: Program, fused: Program, golden: Golden) -> Maps:
    """The float64 attention maps of every block on the probes that :func:`chosen` picks, and the first block's graph.

    The maps come from ``fused``, which was proven equal to ``captured``; the graph is the unfused one of ``captured``.
    """
    numbers = sum(b.subspaces * b.height * b.width for b in fused.blocks)
    rows = chosen(golden, numbers)
    size = fused.batch or 1
    filled = rows + rows[-1:] * (-len(rows) % size)
    inputs = {spec.name: torch.from_numpy(golden.inputs[spec.name][filled]) for spec in fused.inputs}
    evaluator = Evaluator(fused)
    parts = [evaluator.maps(batch) for batch in batches(inputs, size)] if fused.blocks else []
    whole = [np.concatenate([part[b].numpy() for part in parts])[: len(rows)] for b in range(len(fused.blocks))]
    paths = [block.path for block in fused.blocks]
    return Maps(
        probes=tuple(golden.probes[row] for row in rows),
        shapes={path: (int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for path, m in zip(paths, whole)},
        reference={path: pooled(maps) for path, maps in zip(paths, whole)},
        naive=block_steps(captured, paths[0]) if paths else (),
    )


def watched(fused: Program, golden: Golden) -> Iterator[tuple[dict[str, Array], list[Added]]]:
    """A few inputs of ``golden``, real ones if it has any, in whole batches, and what the blocks compute for them."""
    for feed, blocks in _attended(fused, golden):
        yield feed, [Added(*_added(x, maps), maps) for x, maps in blocks]


def watched_feeds(program: Program, golden: Golden) -> Iterator[dict[str, Array]]:
    """A few inputs of ``golden``, real ones if it has any, in whole batches."""
    real = [row for row, name in enumerate(golden.probes) if not is_built_in(name)] or list(range(len(golden.probes)))
    size = program.batch or 1
    rows = real[: max(_WATCHED, 2 * size)]
    rows += rows[-1:] * (-len(rows) % size)
    for start in range(0, len(rows), size):
        yield {spec.name: golden.inputs[spec.name][rows[start : start + size]] for spec in program.inputs}


def _added(x: Array, maps: Array) -> tuple[Array, Array]:
    added = np.repeat(maps, x.shape[1] // maps.shape[1], 1) * x
    return x + added, added


def resolutions(fused: Program, golden: Golden) -> tuple[Resolution, ...]:
    """The forecast for each block's attention in lower precisions, on the inputs of :func:`watched`."""
    if not fused.blocks:
        return ()
    parts = [blocks for _, blocks in _attended(fused, golden)]
    joined = ([np.concatenate([part[b][kind] for part in parts]) for kind in (0, 1)] for b in range(len(fused.blocks)))
    return tuple(forecast(block.path, x, maps) for block, (x, maps) in zip(fused.blocks, joined))


def _attended(fused: Program, golden: Golden) -> Iterator[tuple[dict[str, Array], list[tuple[Array, Array]]]]:
    evaluator = Evaluator(fused)
    for feed in watched_feeds(fused, golden):
        found = evaluator.attended([torch.from_numpy(array) for array in feed.values()])
        yield feed, [(x.numpy(), maps.numpy()) for x, maps in found]


def block_steps(program: Program, path: str) -> tuple[Step, ...]:
    """The operations of the block at the module path ``path`` that depend on the network's input, in order.

    Empty if there are too many to draw.
    """
    known = set(constant_leaves(program.exported, {}, None))
    numbers: dict[Node, int] = {}
    steps: list[Step] = []
    live: set[Node] = set()
    for node in program.exported.graph.nodes:
        if not (any(used in live for used in node.all_input_nodes) or _is_input(node, known)):
            continue
        live.add(node)
        if node.op == "call_function" and _inside(node, path) and _name(node) != "getitem":
            sources = dict.fromkeys(_number(used, numbers) for used in node.all_input_nodes if used in live)
            numbers[node] = len(steps)
            steps.append(Step(_name(node), _shape(node.meta.get("val")), tuple(sources)))
        elif _name(node) == "getitem":  # selects one of several results: part of the same step
            numbers[node] = _number(node.all_input_nodes[0], numbers)
    return tuple(steps) if len(steps) <= MOST_STEPS else ()


def first_block(lowered: Program) -> tuple[Step, ...]:
    """The lowered operations of the first block; empty without blocks."""
    return block_steps(lowered, lowered.blocks[0].path) if lowered.blocks else ()


def _is_input(node: Node, known: set[str]) -> bool:
    return node.op == "placeholder" and node.name not in known


def _inside(node: Node, path: str) -> bool:
    return any(path in (found, own_path(found)) for found in module_paths(node))


def _number(node: Node, numbers: dict[Node, int]) -> int:
    return numbers.get(node, -1)


def _name(node: Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``."""
    target = getattr(node.target, "__name__", str(node.target))
    return _PLAIN.get(target.split(".")[0], target.split(".")[0])


def _shape(value: object) -> str:
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    return shape_text(first.shape) if isinstance(first, Tensor) and first.shape else ""
