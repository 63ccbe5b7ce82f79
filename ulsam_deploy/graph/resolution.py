"""Forecasts how much of each block's attention survives a precision, from the block's inputs and attention maps.

This needs no compiled artifact. ULSAM adds ``a * x`` to ``x``. For each way to store that, the values seen on some
inputs are rounded in this way, with the attention and without, and the difference is projected on ``a * x``. That is
the retention that the block would have if nothing else were rounded: 1 is all, 0 is lost. numpy only.

=========== ===================================================================================================
``plain``   everything is stored in the precision: in int8 the softmax in steps of 1/256 (TFLite's fixed scale),
            the input and the output in 255 steps over their ranges; in 16 bits ``x``, ``1 + a`` and their product
``separate`` in 16 bits, ``x + a * x``: ``a`` is stored by itself, and the sum is rounded once
``cut``     the same in bfloat16 in an engine that does not round, but drops the lower 16 bits of a float32 (ncnn)
``float``   the block and its input are float32; what comes out is rounded once, for the next product
=========== ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import ResolutionRow
from ulsam_deploy.device.thresholds import KEPT, LOST
from ulsam_deploy.device.types import Artifact

if TYPE_CHECKING:
    from ulsam_deploy.device.bundle import Evidence


#: The number of steps of an int8 softmax, and of those between the ends of an int8 tensor's range.
_SOFTMAX_STEPS, _STEPS = 256, 255


@dataclass(frozen=True)
class Resolution:
    """The forecast for one block on a map of ``height`` x ``width``.

    Attributes:
        peak: The largest attention value of a map, averaged over inputs and subspaces.
        highest: The largest attention value of all maps.
        survives: By precision (``int8``, ``fp16``, ``bf16``) and form, how much of what the attention adds is left.
    """

    block: str
    height: int
    width: int
    peak: float
    highest: float
    survives: Mapping[str, Mapping[str, float]]


def forecast(block: str, x: Array, maps: Array) -> Resolution:
    """Make the forecast for a block with input ``x`` (P, C, H, W) and attention ``maps`` (P, g, H, W), both float64."""
    peaks = maps.reshape(*maps.shape[:2], -1).max(2)
    a = np.repeat(maps, x.shape[1] // maps.shape[1], 1)
    added = a * x
    total = float(np.square(added).sum())

    def left(store: Callable[[Array, Array], Array]) -> float:
        kept = float(((store(x, a) - store(x, np.zeros_like(a))) * added).sum())
        return round(kept / total, 4) if total else 0.0

    survives = {precision: {form: left(store) for form, store in ways.items()} for precision, ways in _WAYS.items()}
    height, width = (int(side) for side in maps.shape[2:])
    return Resolution(block, height, width, float(peaks.mean()), float(peaks.max()), survives)


def _on_grid(value: Array) -> Array:
    """``value`` in int8: 255 steps between its ends, zero among them."""
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    step = (high - low) / _STEPS or 1.0
    return np.asarray(np.round(value / step) * step)


def _half(value: Array) -> Array:
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(np.float64)


def _brain(value: Array) -> Array:
    """``value`` in bfloat16: float32 rounded to its upper 16 bits, to nearest even."""
    bits = value.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.asarray(rounded.view(np.float32).astype(np.float64))


def _cut(value: Array) -> Array:
    """``value`` in bfloat16: the upper 16 bits of float32."""
    bits = value.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return np.asarray(bits.view(np.float32).astype(np.float64))


def _int8_plain(x: Array, a: Array) -> Array:
    return _on_grid(_on_grid(x) * (1 + np.round(a * _SOFTMAX_STEPS) / _SOFTMAX_STEPS))


def _int8_float(x: Array, a: Array) -> Array:
    return _on_grid(x * (1 + a))


def _separate(stored: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda x, a: stored(stored(x) + stored(stored(x) * stored(a)))


def _sixteen(stored: Callable[[Array], Array]) -> dict[str, Callable[[Array, Array], Array]]:
    return {
        "plain": lambda x, a: stored(stored(x) * stored(1 + stored(a))),
        "separate": lambda x, a: stored(stored(x) + stored(x) * stored(a)),
    }


_WAYS: Mapping[str, Mapping[str, Callable[[Array, Array], Array]]] = {
    "int8": {"plain": _int8_plain, "float": _int8_float},
    "fp16": _sixteen(_half),
    "bf16": {**_sixteen(_brain), "cut": _separate(_cut)},
}


def word(survives: float) -> str:
    """``kept``, ``weakened`` or ``lost``, by the limits of retention."""
    return "kept" if survives >= KEPT else "lost" if survives <= LOST else "weakened"


def suggestion(found: Resolution) -> str:
    """One sentence on what to do about a block; empty if its attention survives every precision."""
    where = f"'{found.block}' ({found.height} x {found.width}, peak {found.peak:.2g})"
    plain = {precision: ways["plain"] for precision, ways in found.survives.items()}
    lost = [precision for precision, left in plain.items() if left < KEPT]
    if not lost:
        return ""
    figures = ", ".join(f"{plain[precision]:.2f} in {precision}" for precision in lost)
    todo = []
    for precision in lost:
        form, best = max(found.survives[precision].items(), key=lambda item: item[1])
        todo.append(f"{precision}: {_DOING[form]}" if best >= KEPT else f"{precision}: keep to fp32")
    return f"Stored plainly, of the attention of {where} survives {figures}. What helps: {'; '.join(todo)}."


_DOING = {
    "float": "leave the block and its input in floating point, as the exporters here do",
    **dict.fromkeys(("separate", "cut"), "x + a * x, rounded once, as the exporters here do"),
    "plain": "nothing",
}


def annotated(artifact: Artifact, evidence: Evidence, found: Iterable[Resolution]) -> Artifact:
    """Add to ``artifact`` the fact ``resolution``: the forecast of each block beside the measured retention.

    Also adds ``suggestions`` about blocks that would lose attention if everything were stored in its precision.
    """
    form = artifact.facts.attention
    precision = artifact.precision.removesuffix("-dynamic")
    measured = {block.block: block.retention for block in (evidence.parity.blocks if evidence.parity else ())}
    rows, said = [], []
    for one in found:
        ways = one.survives.get(precision)
        if ways is None:
            continue
        forecast = ways.get(form, 1.0)  # if only the weights are smaller, everything is computed in float32
        row = ResolutionRow(one.block, ways["plain"], form, forecast, measured.get(one.block))
        rows.append(row)
        if ways["plain"] < KEPT:
            said.append(_sentence(one, precision, row))
    if not rows:
        return artifact
    return replace(artifact, facts=replace(artifact.facts, resolution=tuple(rows), suggestions=tuple(said)))


def _sentence(found: Resolution, precision: str, row: ResolutionRow) -> str:
    where = f"'{found.block}' ({found.height} x {found.width}, peak attention {found.peak:.2g})"
    seen = "it was not measured here" if row.measured is None else f"{row.measured:.2f} was measured"
    sentence = (
        f"Of the attention of {where} would survive {row.plain:.2f} with everything stored in {precision}; in the "
        f"form chosen here ({row.form or 'float32'}) {row.forecast:.2f} was predicted, and {seen}."
    )
    if row.forecast < KEPT or (row.measured is not None and row.measured < KEPT):
        sentence += " Export with --precision fp32" + (" or fp16." if precision == "int8" else ".")
    return sentence


def in_short(found: Sequence[Resolution]) -> str:
    """How many blocks would lose attention if everything were stored in a precision, as text."""
    if not found:
        return "no block"
    lost = {name: sum(one.survives[name]["plain"] < KEPT for one in found) for name in _WAYS}
    words = [f"{count} of {len(found)} in {name}" for name, count in lost.items() if count]
    return "stored plainly, attention is lost in " + ", ".join(words) if words else "attention survives every precision"


def rows(found: Sequence[Resolution]) -> list[tuple[str, ...]]:
    """One row for each block, with the columns :data:`COLUMNS`."""
    return [
        (
            one.block,
            f"{one.height}x{one.width}",
            f"{one.peak:.2g}",
            f"{one.peak * one.height * one.width:.1f}",
            *(f"{left:.2f} {word(left)}" for left in _figures(one)),
        )
        for one in found
    ]


def _figures(one: Resolution) -> list[float]:
    return [one.survives[precision][form] for precision, ways in _WAYS.items() for form in ways]


COLUMNS = (
    *("block", "map", "peak", "in 1/(H*W)"),
    *(f"{precision} {form}" for precision, ways in _WAYS.items() for form in ways),
)
