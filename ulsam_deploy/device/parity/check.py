"""The check itself: an artifact's outputs against the golden set, and a verdict with reasons. numpy only; device-safe.

The check fails when an output is farther from the reference than its tolerance on any probe, or when a block's
attention is lost, weakened, uniform, too strong or reversed. It is inconclusive, and never a pass, when it could not
have failed: if losing a block's attention would neither exceed the tolerance nor show in the retention, or if constant
outputs would match as well. If only the *map* of a block could be wrong undetected, because its attention is
practically uniform on every probe, a pass says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ulsam_deploy.device.arrays import Array, ArrayMap
from ulsam_deploy.device.findings import (
    AttentionState,
    BlockCheck,
    Floor,
    OutputCheck,
    Reason,
    ReasonKind,
    Report,
    Retention,
    Statistic,
    Verdict,
)
from ulsam_deploy.device.parity.gates import check_gates, with_gates
from ulsam_deploy.device.parity.golden import Golden
from ulsam_deploy.device.parity.inside import Reading
from ulsam_deploy.device.parity.noise import drift, explain, relative, scales
from ulsam_deploy.device.parity.retention import (
    by_ablations,
    classify,
    concluded,
    is_beyond,
    map_shape,
    overall,
    retention,
)
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.thresholds import TOLERANCE

#: Removing a block's attention must move an output by this many tolerances for the tolerance alone to guard it.
DISTANCE = 4.0

#: Removing a block's attention must move an output by this part of its size: a float32 output carries no less.
_CARRIED = 2.0**-24
#: How far below 0 the interval of a map's shape may reach for the block to be called uniform.
_UNIFORM = 0.5
#: An artifact's values are clipped to this many times the largest value of the reference.
_ABSURD = 1e30

#: Some probe's reference must be this many tolerances from the mean one. Otherwise an artifact that ignores its input
#: and returns a constant would pass, or nearly.
CONTRAST = 2.0


def check(
    golden: Golden,
    produced: ArrayMap,
    *,
    tolerance: float = TOLERANCE,
    floors: Mapping[str, Floor] | None = None,
    artifact_ablations: Mapping[str, Array] | None = None,
    inside: Sequence[Reading | None] = (),
    outputs_decide: bool = False,
    gates_inside: Sequence[Reading | None] = (),
) -> Report:
    """Check an artifact's outputs against the golden set.

    Args:
        golden: The golden set.
        produced: The artifact's outputs on all of its probes, (P, ...) by name. Outputs that the golden set does not
            name are ignored.
        tolerance: In noise floors.
        floors: Those of the artifact's precision, from control runs in it; by default the golden set's own.
        artifact_ablations: The outputs of the artifact without each block's attention, (B, P, ...) by output. If given,
            they determine the retention.
        outputs_decide: Only of blocks about which the outputs conclude nothing: in float32, what the outputs show of
            attention is exact.
        inside: The retention read inside the artifact, one for each block. It decides where the outputs show nothing.
        gates_inside: The same for each watched gate.

    Returns:
        The verdict, with its figures and reasons.
    """
    used = dict(floors if floors is not None else golden.floors)
    arrays, faults = _admit(golden, produced)
    outputs = tuple(_check_output(golden, name, arrays.get(name), used[name], tolerance) for name in golden.outputs)
    outputs = tuple(replace(one, probe=one.probe or _blown(golden, produced.get(one.output))) for one in outputs)
    faults += [reason for output in outputs if (reason := _far(output))]
    if not set(golden.outputs) <= set(arrays):
        return Report(Verdict.FAIL, tolerance, outputs, (), None, tuple(faults))
    blocks = _blocks(golden, arrays, used, tolerance)
    if artifact_ablations:
        better = by_ablations(golden, arrays, artifact_ablations, used)
        open_ = [not outputs_decide or block.state is AttentionState.INCONCLUSIVE for block in blocks]
        blocks = _overruled(blocks, [found if asked else None for found, asked in zip(better, open_)])
    if inside:
        blocks = _overruled(blocks, [_read(block, found) for block, found in zip(blocks, inside)])
    blocks = _told(golden, blocks)
    faults += _swapped(golden, arrays, used, tolerance)
    faults += [
        Reason(block.block, ReasonKind.ATTENTION_FAULT, sentence) for block in blocks if (sentence := _lost(block))
    ]
    steps = ablation_distances(with_gates(golden), tolerance=tolerance, floors=used) if golden.gates else {}
    gates, about_gates = check_gates(golden, arrays, used, steps, gates_inside, exact=outputs_decide)
    faults += [reason for reason in about_gates if reason.kind is ReasonKind.ATTENTION_FAULT]
    doubts = [_unguarded(block) for block in blocks if _is_unguarded(block)]
    doubts += _insensitive(golden, used, tolerance)
    verdict = Verdict.FAIL if faults else Verdict.INCONCLUSIVE if doubts else Verdict.PASS
    whole = overall(golden, arrays, used)
    notes = [_unseen_map(block) for block in blocks if _is_flat(block)]
    notes += [reason for block, found in zip(blocks, inside) if (reason := _contradicted(block, found))]
    notes += [reason for reason in about_gates if reason.kind is not ReasonKind.ATTENTION_FAULT]
    reasons = faults + doubts + notes
    return Report(verdict, tolerance, outputs, blocks, whole.value if whole else None, tuple(reasons), gates)


def apart(golden: Golden, first: ArrayMap, second: ArrayMap) -> float | None:
    """How far two artifacts' outputs on all probes are apart at most, in noise floors; ``None`` if one is no number."""
    arrays, others = _admit(golden, first)[0], _admit(golden, second)[0]
    if not set(golden.outputs) <= set(arrays) & set(others):
        return None
    found = [
        float(_in_floors(arrays[name] - others[name], scales(compact(golden.outputs[name])), golden.floors[name]).max())
        for name in golden.outputs
    ]
    return max(found) if np.isfinite(found).all() else None


def ablation_distances(
    golden: Golden, *, tolerance: float = TOLERANCE, floors: Mapping[str, Floor] | None = None
) -> dict[str, float]:
    """How far removing each block's attention moves the output that it moves most, in tolerances, by block."""
    return _distances(golden, golden.reference_ablations, floors if floors is not None else golden.floors, tolerance)


def _distances(
    golden: Golden, ablations: Mapping[str, Array], floors: Mapping[str, Floor], tolerance: float
) -> dict[str, float]:
    distances = dict.fromkeys(golden.blocks, 0.0)
    for name, outputs in golden.outputs.items():
        y = compact(outputs)
        for block, step in zip(golden.blocks, ablations[name]):
            moved = _in_floors(compact(step), scales(y), floors[name]).max() / tolerance
            distances[block] = max(distances[block], float(moved))
    return distances


def _admit(golden: Golden, produced: ArrayMap) -> tuple[dict[str, Array], list[Reason]]:
    """The outputs that can be compared, in compact form, and the reasons why others cannot."""
    arrays: dict[str, Array] = {}
    faults = []
    for name, shape in golden.shapes.items():
        if problem := _inadmissible(golden, name, shape, produced):
            faults.append(Reason(name, ReasonKind.OUTPUT_FAULT, f"Output '{name}' {problem}."))
        else:
            arrays[name] = compact(_bounded(np.asarray(produced[name]), golden.outputs[name]))
    return arrays, faults


def _inadmissible(golden: Golden, name: str, shape: tuple[int, ...], produced: ArrayMap) -> str:
    """Why an output cannot be compared, or an empty string."""
    if name not in produced:
        return f"is missing; the artifact gave {', '.join(sorted(produced)) or 'none'}"
    array, wanted = np.asarray(produced[name]), (len(golden.probes), *shape)
    if array.dtype.kind not in "fiub":
        return f"has dtype {array.dtype}, which is not a number"
    if array.shape != wanted:
        return f"has shape {shape_text(array.shape)}; the reference has {shape_text(wanted)}"
    if not np.all(np.isfinite(array)):
        bad = ~np.isfinite(array).reshape(len(golden.probes), -1).all(1)
        return f"is not finite on {bad.sum()} of {len(bad)} probes, first on '{_blown(golden, array)}'"
    return ""


def _blown(golden: Golden, array: Array | None) -> str:
    """The first probe on which ``array`` is not finite, or an empty string if all values are finite."""
    found = np.asarray(array)
    if found.dtype.kind != "f" or found.shape[:1] != (len(golden.probes),):
        return ""
    bad = ~np.isfinite(found).reshape(len(found), -1).all(1)
    return golden.probes[int(np.argmax(bad))] if bad.any() else ""


def _bounded(array: Array, reference: Array) -> Array:
    """``array`` clipped so that no square overflows: values that large are wrong by any measure."""
    if array.dtype != np.float64:
        return array
    most = _ABSURD * (float(np.abs(reference).max(initial=0.0)) or 1.0)
    return np.clip(array, -most, most)


def _in_floors(delta: Array, scale: Array, floor: Floor) -> Array:
    """Both statistics of ``delta`` (P, K) in noise floors, (2, P): l2 and peak."""
    l2, peak = relative(delta, scale)
    return np.stack([l2 / floor.l2, peak / floor.peak])


def _check_output(golden: Golden, name: str, z: Array | None, floor: Floor, tolerance: float) -> OutputCheck:
    words = explain(name, floor, tolerance)
    if z is None:
        return OutputCheck(name, None, tolerance, floor, "", None, None, words)
    y = compact(golden.outputs[name])
    errors = _in_floors(z - y, scales(y), floor)
    row, probe = np.unravel_index(int(np.argmax(errors)), errors.shape)
    error, statistic = float(errors.max()), (Statistic.L2, Statistic.PEAK)[int(row)]
    drifted = drift(z - y, scales(y)) / floor.of(Statistic.DRIFT)
    if error <= tolerance and drifted > error:  # where single probes show it, they say more
        error, statistic = drifted, Statistic.DRIFT
    scores = len(golden.shapes[name]) == 1 and golden.shapes[name][0] == y.shape[1] > 1
    top1 = float(np.mean(z.argmax(1) == y.argmax(1))) if scores else None
    shown = error if math.isfinite(error) else None
    return OutputCheck(name, shown, tolerance, floor, golden.probes[int(probe)], statistic, top1, words)


def _blocks(
    golden: Golden, arrays: Mapping[str, Array], floors: Mapping[str, Floor], tolerance: float
) -> tuple[BlockCheck, ...]:
    alive = retention(golden, arrays, floors)
    removed = _distances(golden, golden.reference_ablations, floors, tolerance)
    blocks = [BlockCheck(a.block, a.value, a.low, a.high, a.state, removed[a.block], a.note) for a in alive]
    if not golden.uniform_ablations:
        return tuple(blocks)
    uniform_ablations = _distances(golden, golden.uniform_ablations, floors, tolerance)
    shapes = zip(blocks, map_shape(golden, arrays, floors))
    return tuple(replace(block, shape=found, shape_distance=uniform_ablations[block.block]) for block, found in shapes)


def _told(golden: Golden, blocks: tuple[BlockCheck, ...]) -> tuple[BlockCheck, ...]:
    """``blocks``, where one whose attention moves outputs by less than they can carry is not called lost.

    That it is kept can be read at the block itself. That it is gone can't: an engine's sums have no room for it.
    """
    found = []
    for number, block in enumerate(blocks):
        steps = ((name, compact(golden.reference_ablations[name][number])) for name in golden.outputs)
        moved = max(float(relative(step, scales(compact(golden.outputs[name])))[1].max()) for name, step in steps)
        if 0.0 < moved < _CARRIED and block.state is not AttentionState.KEPT:
            note = f"it moves no output by more than {moved:.1g} of its size, less than a float32 output can carry"
            shape = replace(block.shape, state=AttentionState.INCONCLUSIVE) if block.shape else None
            block = replace(block, low=None, high=None, state=AttentionState.INCONCLUSIVE, note=note, shape=shape)
        found.append(block)
    return tuple(found)


def _read(block: BlockCheck, found: Reading | None) -> Retention | None:
    """What was read inside the artifact, where outputs and ablations conclude nothing about ``block``."""
    if found is None or block.state is not AttentionState.INCONCLUSIVE:
        return None
    return concluded(block.block, *found)


def _contradicted(block: BlockCheck, found: Reading | None) -> Reason | None:
    """The note that what was read inside and what the outputs show of ``block`` differ, where they do."""
    if (
        found is None
        or AttentionState.INCONCLUSIVE in (block.state, word := classify(*found[1:]))
        or word is block.state
    ):
        return None
    value, low, high = found
    sentence = (
        f"Note: read inside the artifact, the attention of block '{block.block}' is {word.value} ({value:.2f}, between "
        f"{low:.2f} and {high:.2f}); by the outputs it is {block.state.value}. They decide: an engine may compute "
        f"otherwise while it shows its inner values."
    )
    return Reason(block.block, ReasonKind.ATTENTION_NOTE, sentence)


def _overruled(blocks: tuple[BlockCheck, ...], better: Sequence[Retention | None]) -> tuple[BlockCheck, ...]:
    """``blocks`` with the retention of a ``better`` source, if any; that of the outputs alone is kept beside it."""
    return tuple(
        block
        if found is None
        else replace(
            block,
            retention=found.value,
            low=found.low,
            high=found.high,
            state=found.state,
            note=found.note,
            outputs=block.outputs
            or Retention(block.block, block.retention, block.low, block.high, block.state, block.note),
        )
        for block, found in zip(blocks, better)
    )


def _far(output: OutputCheck) -> Reason | None:
    """The fault of an output that is farther from the reference than allowed, if it is."""
    if output.error is None or output.error <= output.tolerance:
        return None
    sentence = (
        f"Output '{output.output}' errs in one direction on all probes, by {output.error:.3g} noise floors; "
        f"{output.tolerance:g} are allowed. It is farthest from the reference on probe '{output.probe}'."
    )
    if output.statistic is not Statistic.DRIFT:
        kind = "root mean square" if output.statistic is Statistic.L2 else "largest element"
        sentence = (
            f"Output '{output.output}' is {output.error:.3g} noise floors from the reference on probe "
            f"'{output.probe}' ({kind}); {output.tolerance:g} are allowed."
        )
    return Reason(output.output, ReasonKind.OUTPUT_FAULT, sentence)


def _lost(block: BlockCheck) -> str:
    """The sentence for a block whose attention is not what it should be, or an empty string."""
    if block.retention is None or block.low is None or block.high is None:
        return _uniform(block)
    figures = f"retention {block.retention:.2f}, between {block.low:.2f} and {block.high:.2f}"
    if block.state in (AttentionState.LOST, AttentionState.WEAKENED):
        return f"The attention of block '{block.block}' is {block.state.value}: {figures}."
    if is_beyond(block.low, block.high):
        return (
            f"The attention of block '{block.block}' is too strong or reversed, or more than attention is wrong along "
            f"its step: {figures}."
        )
    # Uniform needs a narrow interval around 0: any wrong map is often as far from the right one as the uniform map is.
    return _uniform(block)


def _uniform(block: BlockCheck) -> str:
    """The sentence for a block whose map is the same everywhere, or an empty string."""
    shape = block.shape
    if shape is None or shape.state is not AttentionState.LOST or shape.low is None or shape.low <= -_UNIFORM:
        return ""
    return (
        f"The attention of block '{block.block}' is uniform: it takes {shape.value:.2f} of the step from "
        f"uniform attention to its own, between {shape.low:.2f} and {shape.high:.2f}."
    )


def _is_flat(block: BlockCheck) -> bool:
    """Whether a fault in computing this block's map could go undetected because the map is practically uniform."""
    if block.shape is None or block.shape_distance is None or block.distance < DISTANCE:
        return False
    return block.shape_distance < DISTANCE and block.shape.state is AttentionState.INCONCLUSIVE


def _unseen_map(block: BlockCheck) -> Reason:
    sentence = (
        f"Note: the attention of block '{block.block}' is as good as uniform on every probe (making it so moves no "
        f"output by more than {block.shape_distance:.2g} tolerances): that it is there was checked, how its map is "
        f"computed could not be; give inputs on which it looks somewhere (--probes)."
    )
    return Reason(block.block, ReasonKind.ATTENTION_NOTE, sentence)


def _is_unguarded(block: BlockCheck) -> bool:
    """Whether losing this block's attention could have gone undetected.

    A loss is detected if it exceeds the tolerance or shows in the retention: with float16 or int8 noise the step is
    often smaller than the tolerance, while its direction over many probes is still clear.
    """
    return block.distance < DISTANCE and block.state is AttentionState.INCONCLUSIVE


def _unguarded(block: BlockCheck) -> Reason:
    sentence = (
        f"Losing the attention of block '{block.block}' would move no output by more than {block.distance:.2g} "
        f"tolerances ({DISTANCE:g} are needed), and its retention is inconclusive ({block.note}): this check could not "
        f"have failed. What decides it: inputs on which its attention does more (--probes), or its operators by "
        f"themselves (--replay full, where the engine shows its inner values)."
    )
    return Reason(block.block, ReasonKind.ATTENTION_DOUBT, sentence)


def _insensitive(golden: Golden, floors: Mapping[str, Floor], tolerance: float) -> list[Reason]:
    """A doubt for each output that differs so little between probes that a constant would match it."""
    doubts = []
    for name, outputs in golden.outputs.items():
        y = compact(outputs)
        spread = _in_floors(y - y.mean(0), scales(y), floors[name]).max() / tolerance
        if spread < CONTRAST:
            sentence = (
                f"The reference output '{name}' differs between probes by {spread:.2g} tolerances only "
                f"({CONTRAST:g} are needed): a constant might have passed. What decides it: every module by itself "
                f"(--replay full, where the engine shows its inner values), or inputs between which PyTorch's output "
                f"differs more (--probes)."
            )
            doubts.append(Reason(name, ReasonKind.OUTPUT_DOUBT, sentence))
    return doubts


def _swapped(
    golden: Golden, arrays: Mapping[str, Array], floors: Mapping[str, Floor], tolerance: float
) -> list[Reason]:
    """A fault if failing probes equal, within the tolerance, the reference of other probes."""
    name = next(iter(golden.outputs))
    y, z = compact(golden.outputs[name]), arrays[name]
    scale = scales(y)
    wrong = np.flatnonzero(_in_floors(z - y, scale, floors[name]).max(0) > tolerance)
    for p in wrong:
        like = np.flatnonzero(_in_floors(z[p] - y, scale, floors[name]).max(0) <= tolerance)
        if like.size:
            sentence = (
                f"Output '{name}' on probe '{golden.probes[p]}' is the reference's on probe "
                f"'{golden.probes[int(like[0])]}': the batch seems to be permuted or repeated."
            )
            return [Reason(name, ReasonKind.OUTPUT_FAULT, sentence)]
    return []
