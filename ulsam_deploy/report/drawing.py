"""Lays out a block's graph for drawing: steps in rows by depth, each below its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ulsam_deploy.device.findings import Step
from ulsam_deploy.device.maps import step_counts

_GAP, _ROW, _HEIGHT = 8, 34, 20
#: In pixels: the width of a letter at the template's font size, the smallest width of a box, and its padding.
_LETTER, _NARROWEST, _MARGIN = 6.4, 72, 12
_INPUT = "input"


def drawn(title: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Boxes and edges in pixels for the template, and the same as text for screen readers."""
    depths = _depths(steps)
    columns = _columns(steps, depths)
    box = max([_NARROWEST, *(round(_MARGIN + _LETTER * len(step.name)) for step in steps)])
    widest = max((columns.count_in(depth) for depth in range(max(depths, default=0) + 1)), default=1)
    width = widest * (box + _GAP) + _GAP

    def place(number: int) -> tuple[float, float]:
        depth = 0 if number < 0 else depths[number]
        room = columns.count_in(depth) * (box + _GAP) - _GAP
        left = (width - room) / 2 + columns.of(number) * (box + _GAP)
        return left, 4 + depth * _ROW

    names = {-1: (_INPUT, ""), **{i: (step.name, step.shape) for i, step in enumerate(steps)}}
    nodes = [
        {"name": name, "shape": shape, "x": x, "y": y, "width": box}
        for number, (name, shape) in names.items()
        for x, y in [place(number)]
    ]
    edges = []
    for number, step in enumerate(steps):
        for source in step.sources:
            (x1, y1), (x2, y2) = place(source), place(number)
            edges.append((x1 + box / 2, y1 + _HEIGHT, x2 + box / 2, y2))
    counts = ", ".join(f"{count} {name}" for name, count in step_counts(steps).items())
    return {
        "title": title,
        "count": len(steps),
        "nodes": nodes,
        "edges": edges,
        "width": width,
        "box": _HEIGHT,
        "height": (max(depths, default=0) + 1) * _ROW,
        "words": f"Graph of {len(steps)} operations: {counts}",
    }


class _Columns:
    """The position of each step in its row, from the left."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._rows = rows
        self._places = {number: place for row in rows for place, number in enumerate(row)}

    def of(self, number: int) -> int:
        return self._places[number]

    def count_in(self, depth: int) -> int:
        return len(self._rows[depth])


def _depths(steps: Sequence[Step]) -> list[int]:
    """The depth of each step below the block's input."""
    depths: list[int] = []
    for step in steps:
        depths.append(1 + max((depths[source] if source >= 0 else 0 for source in step.sources), default=0))
    return depths


def _columns(steps: Sequence[Step], depths: Sequence[int]) -> _Columns:
    """Sort each row by the mean position of its steps' inputs, so that few edges cross."""
    rows: list[list[int]] = [[-1]]
    places = {-1: 0.5}
    for depth in range(1, max(depths, default=0) + 1):
        row = [number for number, own in enumerate(depths) if own == depth]
        means = {number: fmean(places[source] for source in steps[number].sources or (-1,)) for number in row}
        row.sort(key=lambda number: (means[number], number))
        places |= {number: (place + 0.5) / len(row) for place, number in enumerate(row)}
        rows.append(row)
    return _Columns(rows)
