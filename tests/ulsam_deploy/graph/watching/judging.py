"""Networks with attention, honest and tampered with, through real converters and engines, and judged."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from tests.ulsam_deploy.graph.watching.networks import SIDE, small
from ulsam_deploy.device import plugins
from ulsam_deploy.device.engines import produce
from ulsam_deploy.device.parity import Golden, Report, check, make_probes, tolerance_of
from ulsam_deploy.device.types import Calibration
from ulsam_deploy.graph import Program, capture, fuse_attention, lower, make_golden, measure_floors
from ulsam_deploy.graph.editing import Editor
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.graph.reference import choose_watched
from ulsam_deploy.graph.replay.rounding import operation
from ulsam_deploy.graph.views import watched_feeds
from ulsam_deploy.graph.watching import kinds
from ulsam_deploy.graph.watching.ablation import Folded
from ulsam_deploy.graph.watching.choice import folded_on
from ulsam_deploy.graph.watching.finding import AttentionGate
from ulsam_deploy.graph.watching.reading import GateReader
from ulsam_deploy.inputs.calibration import digest

Array = np.ndarray[Any, Any]
SHAPE = (3, 2 * SIDE, 2 * SIDE)


def pictures(count: int, seed: int) -> Array:
    """Blobs of colour, some bright and some faint, float32."""
    random = np.random.default_rng(seed)
    blobs = random.uniform(-1, 1, (count, 3, 6, 6)) * random.uniform(0.2, 2, (count, 3, 1, 1))
    return np.ascontiguousarray(blobs.astype(np.float32).repeat(4, 2).repeat(4, 3))


@dataclass(frozen=True)
class WatchedNetwork:
    """A network with what its artifacts are judged by."""

    captured: Program
    fused: Program
    golden: Golden
    folded: Folded

    @property
    def gates(self) -> tuple[AttentionGate, ...]:
        return self.folded.gates


@cache
def subject(kind: str) -> WatchedNetwork:
    captured = capture(small(kind), [SHAPE])
    return judged_by(captured, fuse_attention(captured))


def judged_by(captured: Program, fused: Program, watch: tuple[str, ...] = ("auto",)) -> WatchedNetwork:
    built_in, names = make_probes({"x": SHAPE[:]}, count=24)
    probes = {"x": np.concatenate([built_in["x"], pictures(12, 1)])}
    every = (*names, *(f"yours-{i}" for i in range(12)))
    chosen = choose_watched(captured, fused, probes, watch)
    golden = make_golden(captured, fused, probes, every, chosen)
    golden = dataclasses.replace(
        golden,
        precision_floors={
            "fp16": measure_floors(captured, fused, golden, "fp16"),
            "int8": measure_floors(captured, fused, golden, "int8", calibration()),
        },
    )
    feeds = [[torch.from_numpy(feed["x"])] for feed in watched_feeds(fused, golden)]
    return WatchedNetwork(captured, fused, golden, folded_on(fused, golden.gates, feeds))


@cache
def calibration() -> Calibration:
    arrays = {"x": pictures(24, 2)}
    return Calibration(arrays, digest(arrays))


def tampered(found: WatchedNetwork, how: str) -> Program:
    """The network with its first gate folded to its mean, made constant, left out, or halved."""
    if how == "honest":
        return found.fused
    gate = found.gates[0]
    editor = Editor(found.fused.exported)
    source, result = editor.counterpart(gate.source), editor.counterpart(gate.result)
    if how == "removed":
        editor.replace(result, by=source)
        return dataclasses.replace(found.fused, exported=editor.finish())
    for number, core in enumerate(map(editor.counterpart, gate.cores)):
        value, original, users = core.meta["val"], gate.cores[number], list(core.users)
        given = {}
        if operation(original) == kinds.ATTENTION:  # it gives features: with these, what it weighs them by
            weighed = original.args[2]
            given = {weighed: torch.eye(weighed.meta["val"].shape[-2], dtype=torch.float64)}
        mean = found.folded.instead(gate)[original](torch.empty(value.shape), given).float()
        buffer = editor.add_buffer(f"tampered_{number}", mean if how != "constant" else torch.full_like(mean, 0.5))
        if given:
            buffer = features(editor, buffer, core)
        with editor.graph.inserting_after(buffer if given else core):
            less = editor.graph.call_function(torch.ops.aten.add.Tensor, (core, buffer))
        less.meta = {**core.meta}
        with editor.graph.inserting_after(less):
            half = editor.graph.call_function(torch.ops.aten.mul.Tensor, (less, 0.5))
        half.meta = {**core.meta}
        for user in users:
            user.replace_input_with(core, half if how == "halved" else buffer)
    return dataclasses.replace(found.fused, exported=editor.finish())


def features(editor: Editor, weights: Node, core: Node) -> Node:
    """What ``weights`` make of the features that ``core`` weighs, with its strides: a view follows."""
    aten, last = torch.ops.aten, core
    for operator, arguments in (
        (aten.matmul.default, (weights, core.args[2])),
        (aten.transpose.int, (1, 2)),
        (aten.clone.default, ()),
        (aten.transpose.int, (1, 2)),
    ):
        given = arguments if operator is aten.matmul.default else (last, *arguments)
        with editor.graph.inserting_after(last):
            last = editor.graph.call_function(operator, given)
        if operator is aten.clone.default:
            last.kwargs = {"memory_format": torch.contiguous_format}
        value = core.meta["val"]
        last.meta = {**core.meta, "val": value.transpose(1, 2) if operator is not aten.matmul.default else value}
    last.meta = {**core.meta}
    return last


def judged(found: WatchedNetwork, program: Program, target: str, precision: str, folder: Path) -> Report:
    """Convert ``program``, run it, and judge it as the honest network ``found``."""
    exporter = plugins.load(plugins.EXPORTERS, target)
    request = ExportRequest(precision, calibration=calibration() if precision == "int8" else None)
    artifact = exporter.export(lower(program, exporter.lowering(request), exporter.rewrites()), request, folder)
    engine = plugins.load(plugins.RUNTIMES, exporter.runtime)
    golden = found.golden.at(precision)
    reader = GateReader(found.fused, found.folded)
    with engine([folder / name for name in artifact.files], artifact.inputs, artifact.outputs) as runtime:
        produced = produce(runtime, golden.inputs)
        for feed in watched_feeds(found.fused, golden):
            reader.note(feed, runtime.values(feed))
    inside = reader.readings()
    return check(
        golden, produced, tolerance=tolerance_of(precision), outputs_decide=precision == "fp32", gates_inside=inside
    )
