"""The float64 result of every module of the captured network for one batch: the points to compare an artifact at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.parity import noise_floors
from ulsam_deploy.graph.divergence import Point
from ulsam_deploy.graph.editing import constant_leaves
from ulsam_deploy.graph.evaluate import Evaluator, batches
from ulsam_deploy.graph.modules import module_of, module_paths
from ulsam_deploy.graph.program import Program

#: The control run of each precision whose values still identify a module; quantized values do not.
CONTROL = {"fp32": torch.float32, "fp16": torch.float16}


def module_points(captured: Program, inputs: Mapping[str, Array], precision: str = "fp32") -> list[Point]:
    """One point for each tensor that leaves a module, in graph order.

    The noise of a point is the error of a control run in ``precision`` there, and at least the usual noise before it,
    because errors accumulate along the network. Constant values identify nothing and are left out.

    Args:
        captured: The captured network.
        inputs: (P, ...) by name; P fills whole batches of ``captured`` (1 if it is dynamic), as an artifact may have a
            larger batch.
        precision: The artifact's precision.
    """
    if precision not in CONTROL:
        raise UnavailableError(f"modules cannot be told apart by value in {precision}", expected=" or ".join(CONTROL))
    batch = {spec.name: torch.from_numpy(np.ascontiguousarray(inputs[spec.name])) for spec in captured.inputs}
    parts = list(batches(batch, captured.batch or 1))
    exact, sound = Evaluator(captured), Evaluator(captured, CONTROL[precision])
    known = set(constant_leaves(captured.exported, {}, None))
    points: list[Point] = []
    behind: dict[Node, frozenset[int]] = {}  # the last points on every path to a node; absent for constants
    noises: list[float] = []
    for (node, value), (_, rough) in zip(_every(exact, parts), _every(sound, parts)):
        ways = [behind.get(used, frozenset()) for used in node.all_input_nodes if _varies(used, known, behind)]
        if not ways:
            continue
        behind[node] = frozenset().union(*ways)
        if _leaves_module(node) and _tells(value):
            noises.append(_noise(value, rough))
            noise = max(noises[-1], median(noises))
            points.append(Point(module_of(node) or "", value.numpy(), noise, tuple(sorted(behind[node]))))
            behind[node] = frozenset({len(points) - 1})
    return points


def _every(evaluator: Evaluator, parts: list[list[Tensor]]) -> Iterator[tuple[Node, Any]]:
    """Every operator with its values for all ``parts``, concatenated along the first axis."""
    for runs in zip(*(evaluator.every(part) for part in parts)):
        values = [value for _, value in runs]
        joined = all(isinstance(value, Tensor) and value.ndim for value in values) and len(values) > 1
        yield runs[0][0], torch.cat(values) if joined else values[0]


def _varies(node: Node, known: set[str], behind: Mapping[Node, object]) -> bool:
    """Whether the node depends on the network's input."""
    return node in behind or (node.op == "placeholder" and node.name not in known)


def _leaves_module(node: Node) -> bool:
    paths = module_paths(node)
    return bool(paths) and any(paths[-1] not in module_paths(user) for user in node.users)


def _tells(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim > 1
        and bool(torch.isfinite(value).all())
        and bool(value.std(correction=0) > 0)
    )


def _noise(value: Tensor, rough: Tensor) -> float:
    floor = noise_floors({"": value.flatten()[None].numpy()}, [{"": rough.flatten()[None].numpy()}])
    return floor[""].l2
