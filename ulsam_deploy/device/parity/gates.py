"""Are the attention gates that are watched still there? numpy only; device-safe.

The same figures as for fused blocks, from two sources: the outputs, along the step that folding a gate's weights makes,
and values read at the gate in a running artifact. A gate whose effect rounding may hide is said to be open, which is no
doubt about the artifact: networks with attention are not made for this check, and many gates do little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import AttentionState, BlockCheck, Floor, Reason, ReasonKind, Retention
from ulsam_deploy.device.parity.golden import Golden
from ulsam_deploy.device.parity.inside import Reading
from ulsam_deploy.device.parity.retention import concluded, is_beyond, retention

#: In low precision, a gate that moves no output by more than this many tolerances is only spoken of.
_MATTERS = 0.05
#: In low precision, a gate's own weights are rounded as well: up to this much more or less of it is only noted.
_COARSE = 0.25


def with_gates(golden: Golden) -> Golden:
    """``golden`` with its gates as blocks behind the fused ones."""
    joined = {n: np.concatenate([steps, golden.gate_ablations[n]]) for n, steps in golden.reference_ablations.items()}
    return replace(
        golden, blocks=(*golden.blocks, *golden.gates), reference_ablations=joined, gates=(), gate_ablations={},
        uniform_ablations={}, artifact_ablations={}, inside={}, gates_inside={},
    )  # fmt: skip


def check_gates(
    golden: Golden,
    produced: Mapping[str, Array],
    floors: Mapping[str, Floor],
    distances: Mapping[str, float],
    inside: Sequence[Reading | None],
    *,
    exact: bool,
) -> tuple[tuple[BlockCheck, ...], list[Reason]]:
    """Check every gate of ``golden``.

    Args:
        golden: The golden set.
        produced: The artifact's outputs, compact.
        floors: Those of its precision.
        distances: How far folding each gate moves an output, in tolerances.
        inside: What was read at each gate in the artifact; empty if nothing was.
        exact: In float32, what the outputs show is exact, and anything but a whole gate is a fault.

    Returns:
        What was found about each gate, and the reasons for people.
    """
    if not golden.gates:
        return (), []
    joined = with_gates(golden)
    outputs = retention(joined, produced, floors)[len(golden.blocks) :]
    read = [_read(name, found) for name, found in zip(golden.gates, inside)] or [None] * len(golden.gates)
    checks, reasons = [], []
    for found, seen in zip(outputs, read):
        check = _chosen(found, seen, distances[found.block], exact=exact)
        checks.append(check)
        if reason := _reason(check, seen, exact=exact):
            reasons.append(reason)
    return tuple(checks), reasons


def _read(name: str, found: Reading | None) -> Retention | None:
    return concluded(name, *found) if found else None


def _is_open(found: Retention | None) -> bool:
    """Whether nothing is concluded; a certainly wrong retention is a conclusion."""
    if found is None or found.low is None or found.high is None:
        return True
    return found.state is AttentionState.INCONCLUSIVE and not is_beyond(found.low, found.high)


def _chosen(outputs: Retention, read: Retention | None, distance: float, *, exact: bool) -> BlockCheck:
    """One gate by the better source: its outputs where they are exact and show anything, what was read otherwise."""
    if read is None or (exact and not _is_open(outputs)) or (_is_open(read) and not _is_open(outputs)):
        one = outputs
        return BlockCheck(one.block, one.value, one.low, one.high, one.state, distance, one.note)
    return BlockCheck(read.block, read.value, read.low, read.high, read.state, distance, read.note, outputs=outputs)


def _reason(gate: BlockCheck, read: Retention | None, *, exact: bool) -> Reason | None:
    """What people should know about a gate that is not simply kept."""
    if gate.low is None or gate.high is None or gate.retention is None:
        return _open(gate)
    beyond = is_beyond(gate.low, gate.high)
    if gate.state is AttentionState.KEPT:
        return None
    if gate.state is AttentionState.INCONCLUSIVE and not beyond:
        return _open(gate)
    word = gate.state.value if not beyond else "overstated" if gate.low > 1.0 else "reversed"
    sentence = (
        f"The attention of gate '{gate.block}' is {word}: retention {gate.retention:.2f}, between {gate.low:.2f} and "
        f"{gate.high:.2f}."
    )
    if exact and read is not None and read.state is AttentionState.KEPT:
        why = f"Note: {sentence} That is what the outputs show; read in the artifact itself, it is whole."
        return Reason(gate.block, ReasonKind.ATTENTION_NOTE, why)
    if not exact and gate.distance < _MATTERS:
        why = f"Note: {sentence} Folding it would move no output by more than {gate.distance:.2g} tolerances."
        return Reason(gate.block, ReasonKind.ATTENTION_NOTE, why)
    if exact or gate.high < 1.0 - _COARSE or gate.low > 1.0 + _COARSE:
        return Reason(gate.block, ReasonKind.ATTENTION_FAULT, sentence)
    return Reason(gate.block, ReasonKind.ATTENTION_NOTE, f"Note: {sentence} Rounding its own weights does that much.")


def _open(gate: BlockCheck) -> Reason:
    sentence = (
        f"Note: whether the attention of gate '{gate.block}' is kept cannot be told here: {gate.note}; folding its "
        f"weights moves no output by more than {gate.distance:.2g} tolerances."
    )
    return Reason(gate.block, ReasonKind.ATTENTION_NOTE, sentence)
