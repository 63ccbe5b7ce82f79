"""Compares several bundles and result files: one table, and a trend of each figure over them.

Files are compared in the order given: versions of one network, or one network on several devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ulsam_deploy.report import plots

COLUMNS = ("file", "where", "artifact", "verdict", "error", "least retention", "p50, ms", "p90, ms", "size, MB")


@dataclass(frozen=True)
class Figures:
    """The figures of one artifact in one file; ``None``: not measured.

    ``error`` is in noise floors, ``retention`` the smallest of any block, ``p50`` and ``p90`` are in milliseconds, and
    ``size`` is in bytes. ``where`` names the machine of the times.
    """

    where: str
    verdict: str
    size: int
    error: float | None = None
    retention: float | None = None
    p50: float | None = None
    p90: float | None = None


#: The figures drawn as a trend: name, axis label, function that reads it, and the plot's caption.
_TRENDS: Sequence[tuple[str, str, Callable[[Figures], float | None], str]] = (
    ("p50", "latency (p50), ms", lambda f: f.p50, "The median latency: lower is better."),
    ("p90", "latency (p90), ms", lambda f: f.p90, "Nine of ten runs are as fast as this."),
    ("error", "error, noise floors", lambda f: f.error, "The largest difference to PyTorch in float64."),
    ("size", "size, MB", lambda f: f.size / 1e6, "The files of each artifact."),
)


def comparison(files: Sequence[tuple[str, Mapping[str, Figures]]]) -> dict[str, Any]:
    """The template's data for comparing ``files`` (name, and figures by artifact)."""
    from markupsafe import Markup

    rows = [(name, *_cells(label, figures)) for name, found in files for label, figures in found.items()]
    drawn = []
    for key, what, read, caption in _TRENDS:
        series = _series(files, read, by_machine=what.endswith("ms"))
        if any(sum(value is not None for value in values) > 1 for values in series.values()):
            svg = plots.trend_plot(series, [name for name, _ in files], what, f"trend-{key}")
            drawn.append((Markup(svg), caption))
    return {"columns": COLUMNS, "rows": rows, "plots": drawn, "notes": _notes(files)}


def _series(
    files: Sequence[tuple[str, Mapping[str, Figures]]], read: Callable[[Figures], float | None], *, by_machine: bool
) -> dict[str, list[float | None]]:
    """One value for each file and artifact, ``None`` for a gap; times of different machines are separate series."""
    several = by_machine and len({figures.where for _, found in files for figures in found.values()}) > 1
    series: dict[str, list[float | None]] = {}
    for number, (_, found) in enumerate(files):
        for label, figures in found.items():
            if (value := read(figures)) is not None:
                name = f"{label}, {figures.where}" if several else label
                series.setdefault(name, [None] * len(files))[number] = value
    return series


def _cells(label: str, figures: Figures) -> tuple[str, ...]:
    def said(value: float | None, form: str) -> str:
        return "n/a" if value is None else format(value, form)

    return (
        figures.where,
        label,
        figures.verdict,
        said(figures.error, ".2f"),
        said(figures.retention, ".2f"),
        said(figures.p50, ".3f"),
        said(figures.p90, ".3f"),
        said(figures.size / 1e6, ".2f"),
    )


def _notes(files: Sequence[tuple[str, Mapping[str, Figures]]]) -> list[str]:
    """Notes that a reader must know before comparing."""
    machines = {figures.where for _, found in files for figures in found.values() if figures.p50 is not None}
    notes = []
    if len(machines) > 1:
        notes.append("The times are from different machines, so that their differences are not changes of the network.")
    notes.append("A file's own times are a few hundred single runs; 'ulsam-deploy compare' says what is significant.")
    return notes
