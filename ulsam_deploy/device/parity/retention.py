"""Is the attention of each block still there? Estimated from the outputs alone, for any artifact. numpy; device-safe.

With ``y`` the reference, ``t_b`` the ablation without the attention of block b and ``z`` the artifact, the least
squares solution of ``z - y = sum_b c_b (t_b - y)`` over all probes and outputs gives the retention ``1 - c_b``: 1
if the artifact takes the whole step from ablation to reference, 0 if the attention is lost.

Every row is divided by the size of the probe's output and the output's noise floor ("whitened"), so that huge and tiny
probes, and outputs of any unit, have equal weight. The half width of the interval adds three terms in quadrature:
three jackknife standard errors over probes (Efron 1982; probes are the unit that was sampled, elements of one probe
are not independent); three times the effect of noise of one floor in each value; and the bias of a *systematic* error,
such as weights rounded once for all probes, which does not average out over probes. Such an error aligns with the step
by chance, with a cosine near ``1 / sqrt(d_s d_r)`` for the effective numbers of directions of step and residual
(participation ratios), so the bias is that times residual over step. The form of this term was chosen on 672 simulated
blocks with weights rounded to 6 .. 12 bits, 31 % of which were outside the interval without it. On 1800 new ones
(other seeds, 5 .. 12 bits, intact and lost) the interval always contained the truth, at most at 0.89 of its half width.
Because of this term a poor int8 artifact is inconclusive and not wrongly "lost".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import AttentionState, Floor, Retention
from ulsam_deploy.device.parity.golden import Golden
from ulsam_deploy.device.parity.noise import scales
from ulsam_deploy.device.parity.sketch import compact
from ulsam_deploy.device.thresholds import KEPT, LOST

#: An interval that contains this value could mean kept or lost, so nothing is concluded from it.
_MIDDLE = 0.5

#: A block whose step, minus its best approximation by the other blocks' steps, keeps less than this fraction of its
#: squared length (an angle under 2 degrees) has no direction of its own: second-order effects of others are larger.
_OWN_PART = 1e-3

_SIGMAS = 3.0
_RIDGE = 1e-12


def retention(golden: Golden, produced: Mapping[str, Array], floors: Mapping[str, Floor]) -> tuple[Retention, ...]:
    """The retention of every block of ``golden``, in its order; empty when it has none.

    ``produced``: finite outputs (P, ...) of the artifact, raw or compact; ``floors``: of the artifact's precision.
    """
    return _estimate(golden.blocks, *_whitened(golden, produced, floors))


def by_ablations(
    golden: Golden, produced: Mapping[str, Array], artifact_ablations: Mapping[str, Array], floors: Mapping[str, Floor]
) -> tuple[Retention, ...]:
    """The retention of every block from artifact ablations: how much of the step does its attention still make?

    ``artifact_ablations``: (B, P, ...) by output, the outputs of the same artifact in the same engine without each
    block's attention. The effect of rounded weights is common to an artifact and its ablation and cancels in their
    difference, so this shows in int8 what the outputs alone cannot. The difference is projected on the reference's
    step; the interval is three jackknife standard errors over probes, plus the chance alignment of the residual. If
    nothing differs at all, the interval is what the grid of the output values could hide.
    """
    steps, error = _whitened(golden, produced, floors)
    _, shifted = _whitened(golden, {name: produced[name] + _grain(produced[name]) for name in golden.outputs}, floors)
    found = []
    for b, block in enumerate(golden.blocks):
        _, other = _whitened(golden, {name: artifact_ablations[name][b] for name in golden.outputs}, floors)
        found.append(_projected(block, steps[b], other - error, shifted - error))
    return tuple(found)


def _grain(values: Array) -> float:
    """The grid step of ``values``: the least difference of two of them, but at least the float32 resolution there."""
    distinct = np.unique(np.asarray(values, np.float64))
    finest = float(np.spacing(np.float32(np.abs(distinct).max(initial=0.0))))
    return max(finest, float(np.diff(distinct).min())) if distinct.size > 1 else finest


def _projected(block: str, step: Array, effect: Array, grain: Array) -> Retention:
    """``effect`` (P, K) along ``step`` (P, K): 1 if they are equal, 0 if there is no effect.

    ``grain`` (P, K): the grid steps of the outputs. Rounding errors are assumed to be uniform, so their variance is
    ``grain ** 2 / 12``.
    """
    lengths = np.square(step).sum(1)
    if not lengths.any():
        note = "removing its attention changes no output"
        return Retention(block, None, None, None, AttentionState.INCONCLUSIVE, note)
    total = lengths.sum()
    if not effect.any():
        hidden = math.sqrt(np.square(step * grain).sum() / 12) / total
        return _conclude(block, 0.0, _SIGMAS * float(hidden), "")
    value = float((effect * step).sum() / total)
    half = _SIGMAS * float(_jackknife(lengths[:, None, None], (effect * step).sum(1)[:, None], np.sqrt([total]))[0])
    residual = effect - value * step
    chance = np.square(residual).sum() / (total * _directions(step) * _directions(residual))
    return _conclude(block, value, math.hypot(half, math.sqrt(chance)), "")


def map_shape(golden: Golden, produced: Mapping[str, Array], floors: Mapping[str, Floor]) -> tuple[Retention, ...]:
    """How much of the step from *uniform* attention to the reference each block took; empty without such ablations.

    1 if its map is the reference's, 0 if the map is the same everywhere. It is estimated together with the retention,
    so that attention that is removed altogether does not count as uniform.
    """
    if not golden.uniform_ablations:
        return ()
    steps, error = _whitened(golden, produced, floors)
    uniform_ablations, _ = _whitened(golden, produced, floors, golden.uniform_ablations)
    names = (*golden.blocks, *(f"uniform {block}" for block in golden.blocks))
    return _estimate(names, np.concatenate([steps, uniform_ablations]), error)[len(golden.blocks) :]


def overall(golden: Golden, produced: Mapping[str, Array], floors: Mapping[str, Floor]) -> Retention | None:
    """The retention of all blocks together, along the sum of their steps; ``None`` when there is no block."""
    if not golden.blocks:
        return None
    steps, error = _whitened(golden, produced, floors)
    return _estimate(("all blocks",), steps.sum(0, keepdims=True), error)[0]


def classify(low: float, high: float) -> AttentionState:
    """The state for an interval: it must be on one side of the middle, and reach into ``kept`` or ``lost``.

    Nothing is concluded from one that is outside -0.1..1.1 altogether: lost attention alone cannot cause that.
    """
    if is_beyond(low, high):
        return AttentionState.INCONCLUSIVE
    if low > _MIDDLE and high >= KEPT:
        return AttentionState.KEPT
    if high < _MIDDLE and low <= LOST:
        return AttentionState.LOST
    if low > LOST and high < KEPT:
        return AttentionState.WEAKENED
    return AttentionState.INCONCLUSIVE


def is_beyond(low: float, high: float) -> bool:
    """Whether a retention is certainly above 1.1 or below -0.1: too strong, reversed, or something else is wrong."""
    return low > 1.0 + LOST or high < -LOST


def _whitened(
    golden: Golden,
    produced: Mapping[str, Array],
    floors: Mapping[str, Floor],
    ablations: Mapping[str, Array] | None = None,
) -> tuple[Array, Array]:
    """The steps (B, P, K) and the artifact's error (P, K) of all outputs side by side, in noise floors.

    ``ablations``: steps to use instead of those of the reference ablations.
    """
    made = golden.reference_ablations if ablations is None else ablations
    steps, errors = [], []
    for name in golden.outputs:
        y = compact(golden.outputs[name])
        weight = 1.0 / (scales(y) * floors[name].l2)[:, None]
        steps.append(made[name].reshape(len(golden.blocks), *y.shape) * weight)
        errors.append((compact(produced[name]) - y) * weight)
    return np.concatenate(steps, axis=2), np.concatenate(errors, axis=1)


def _estimate(blocks: tuple[str, ...], steps: Array, error: Array) -> tuple[Retention, ...]:
    if not blocks:
        return ()
    grams = np.einsum("bpk,cpk->pbc", steps, steps, optimize=True)  # the normal equations of each probe
    crosses = np.einsum("bpk,pk->pb", steps, error, optimize=True)
    gram = grams.sum(0)
    size = np.sqrt(np.diagonal(gram))
    unit = np.where(size > 0, size, 1.0)
    c = _solve(gram, crosses.sum(0), unit)
    own = _own_part(gram, unit)
    length = unit * np.sqrt(np.maximum(own, _RIDGE))  # of each step, minus its approximation by the others
    residual = error - np.tensordot(c, steps, 1)
    directions = np.array([_directions(step) for step in steps]) * _directions(residual)
    half = np.sqrt(
        np.square(_SIGMAS * _jackknife(grams, crosses, unit))
        + np.square(_SIGMAS / length)
        + np.square(residual).sum() / (np.square(length) * directions)
    )
    return tuple(
        _conclude(block, 1.0 - float(c[b]), float(half[b]), _hidden(b, blocks, gram, unit, own[b]))
        for b, block in enumerate(blocks)
    )


def _directions(rows: Array) -> float:
    """The effective number of directions of the rows (P, K): the participation ratio of squared singular values."""
    gram = rows @ rows.T
    squares = float(np.square(gram).sum())
    return float(np.trace(gram)) ** 2 / squares if squares > 0 else 1.0


def _solve(gram: Array, cross: Array, unit: Array) -> Array:
    """``gram @ c = cross`` (also stacked), in units of the step lengths; the tiny ridge keeps it solvable."""
    scaled = gram / np.outer(unit, unit) + _RIDGE * np.eye(len(unit))
    return np.asarray(np.linalg.solve(scaled, (cross / unit)[..., None])[..., 0] / unit)


def _own_part(gram: Array, unit: Array) -> Array:
    """The fraction of each step's squared length that the others cannot express, 0..1 (B,); 0 for a zero step."""
    scaled = gram / np.outer(unit, unit) + _RIDGE * np.eye(len(unit))
    part = 1.0 / np.diagonal(np.linalg.inv(scaled))
    return np.where(np.diagonal(gram) > 0, np.clip(part, 0.0, 1.0), 0.0)


def _jackknife(grams: Array, crosses: Array, unit: Array) -> Array:
    """The jackknife standard error of each coefficient over probes (B,); infinite for one probe."""
    probes = len(grams)
    if probes < 2:
        return np.full(len(unit), np.inf)
    without = _solve(grams.sum(0) - grams, crosses.sum(0) - crosses, unit)
    return np.asarray(np.sqrt((probes - 1) / probes * np.square(without - without.mean(0)).sum(0)))


def _hidden(b: int, blocks: tuple[str, ...], gram: Array, unit: Array, own: float) -> str:
    """Why the step of block ``b`` has no direction of its own, or an empty string."""
    if gram[b, b] == 0:
        return "removing its attention changes no output"
    if own >= _OWN_PART:
        return ""
    alike = np.abs(gram[b] / (unit[b] * unit))
    alike[b] = -1.0
    return f"its step cannot be distinguished from that of '{blocks[int(np.argmax(alike))]}'"


def _conclude(block: str, value: float, half: float, note: str) -> Retention:
    if note:
        return Retention(block, _finite(value), None, None, AttentionState.INCONCLUSIVE, note)
    return concluded(block, value, value - half, value + half)


def concluded(block: str, value: float, low: float, high: float) -> Retention:
    """The retention for an interval, with a note if nothing can be concluded from it."""
    note = ""
    word = classify(low, high)
    if is_beyond(low, high):
        note = f"the artifact errs by {1.0 - value:.2f} of its step, which lost attention alone cannot do"
    elif word is AttentionState.INCONCLUSIVE:
        note = f"noise or other errors hide its step: the interval is {low:.2f} to {high:.2f}"
    return Retention(block, _finite(value), _finite(low), _finite(high), word, note)


def _finite(value: float) -> float | None:
    """``value``, or ``None`` where it is not finite."""
    return value if math.isfinite(value) else None
