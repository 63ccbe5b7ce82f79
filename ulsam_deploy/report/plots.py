"""Plots as inline SVG by matplotlib, in the page's own colours: placeholder colours are replaced by CSS variables.

The same figures give the same bytes. Every plot has a title for screen readers, and a table with the same data.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ulsam_deploy.device.printing import shown

_SERIES = 8
#: A placeholder for each variable of the page's style sheet; nothing else in a plot has these colours.
_STANDINS = {"--ink": "#010203", "--soft": "#010204", "--line": "#010205"} | {
    f"--s{i}": f"#0103{i:02x}" for i in range(_SERIES)
}
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "ulsam-deploy", "font.size": 11, "font.family": "sans-serif",
    "text.color": _STANDINS["--ink"], "axes.labelcolor": _STANDINS["--ink"], "axes.edgecolor": _STANDINS["--soft"],
    "xtick.color": _STANDINS["--soft"], "ytick.color": _STANDINS["--soft"], "grid.color": _STANDINS["--line"],
    "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "legend.frameon": False,
    "figure.constrained_layout.use": True, "axes.formatter.use_mathtext": False, "axes.unicode_minus": False,
}  # fmt: skip
_DASHES = ("-", "--", "-.", ":")
#: Limits of a measured value; no axis can show values outside them.
_SMALLEST, _LARGEST = 1e-30, 1e30
#: The maximum length of a label; a longer one would leave no space for the plot.
_LONGEST = 36
#: The number of labels below a trend.
_TICKS = 10


@dataclass(frozen=True)
class PlotCurve:
    """The times of one artifact's runs: ``quantiles`` in ms at equal steps from 0 to 1."""

    label: str
    quantiles: Sequence[float]
    marks: Mapping[str, float]


@dataclass(frozen=True)
class PlotPoint:
    """One artifact in a plane of cost and error."""

    label: str
    cost: float
    error: float


def is_drawable(*values: float) -> bool:
    """Whether an axis can show all of ``values``."""
    return all(value == 0 or _SMALLEST <= abs(value) <= _LARGEST for value in values)


def latency_plot(curves: Sequence[PlotCurve], name: str) -> str:
    """The cumulative distribution of run times, one curve for each artifact; percentiles are marked."""

    def draw(axes: Any) -> None:
        for i, curve in enumerate(curves):
            shares = [100 * j / (len(curve.quantiles) - 1) for j in range(len(curve.quantiles))]
            axes.plot(curve.quantiles, shares, **_look(i), label=_label(curve.label))
            for mark, value in curve.marks.items():
                axes.plot([value], [float(mark[1:])], "o", color=_STANDINS[f"--s{i % _SERIES}"], markersize=5)
        _log_x(axes, [value for curve in curves for value in curve.quantiles])
        axes.set(xlabel="milliseconds", ylabel="runs that took no longer, %", ylim=(0, 103))
        axes.legend(loc="lower right", fontsize=10)

    return _svg(draw, f"Latency: {', '.join(curve.label for curve in curves)}", name)


def pareto_plot(
    points: Sequence[PlotPoint], cost: str, name: str, error: str = "error, in noise floors of its precision"
) -> str:
    """Error against cost, one mark for each artifact; a line joins those that no other one beats in both."""

    def draw(axes: Any) -> None:
        best = sorted((p for p in points if not any(_beats(q, p) for q in points)), key=lambda p: p.cost)
        axes.plot([p.cost for p in best], [p.error for p in best], color=_STANDINS["--soft"], linestyle=":", zorder=1)
        for i, point in enumerate(points):
            axes.plot([point.cost], [point.error], "o", color=_STANDINS[f"--s{i % _SERIES}"], markersize=7)
            axes.annotate(
                _label(point.label), (point.cost, point.error), xytext=(6, 5), textcoords="offset points", fontsize=10
            )
        axes.set(xlabel=cost, ylabel=error)
        if min(p.error for p in points) > 0 and max(p.error for p in points) > 100 * min(p.error for p in points):
            axes.set_yscale("log")
        axes.margins(x=0.2, y=0.2)

    return _svg(draw, f"Error against {cost}: {', '.join(point.label for point in points)}", name)


def trend_plot(series: Mapping[str, Sequence[float | None]], files: Sequence[str], what: str, name: str) -> str:
    """One figure of each artifact over several files, in the order given; a file without it leaves a gap."""

    def draw(axes: Any) -> None:
        for i, (label, values) in enumerate(series.items()):
            numbers = [float("nan") if value is None else value for value in values]
            axes.plot(range(len(files)), numbers, marker="o", **_look(i), label=_label(label))
        marked = range(len(files) - 1, -1, -len(files) // _TICKS)  # more labels could not be read
        axes.set_xticks(marked, [_label(files[i][-18:]) for i in marked], rotation=20, ha="right")
        axes.set(ylabel=what)
        highest = max(value for values in series.values() for value in values if value is not None)
        axes.set_ylim(0, 1.08 * highest or 1)  # the marks of the highest values are whole
        axes.legend(fontsize=10)

    return _svg(draw, f"{what} over {', '.join(files)}", name)


def module_plot(series: Mapping[str, Sequence[float | None]], modules: Sequence[str], allowed: float, name: str) -> str:
    """The error of each module by itself, in roundings, in the order of the network; a line at what is ``allowed``."""

    def draw(axes: Any) -> None:
        for i, (label, values) in enumerate(series.items()):
            numbers = [float("nan") if value is None else value for value in values]
            axes.plot(range(len(modules)), numbers, marker="o", markersize=4, **_look(i), label=_label(label))
        axes.axhline(allowed, color=_STANDINS["--soft"], linestyle=":", label=f"allowed: {allowed:g}")
        marked = range(0, len(modules), max(1, -(-len(modules) // _TICKS)))
        axes.set_xticks(marked, [_label(modules[i][-18:]) for i in marked], rotation=30, ha="right")
        axes.set_yscale("log")
        axes.set(ylabel="error, in roundings of the precision")
        axes.legend(fontsize=10)

    return _svg(draw, f"Error of each module by itself: {', '.join(series)}", name)


def _beats(one: PlotPoint, other: PlotPoint) -> bool:
    return one.cost <= other.cost and one.error <= other.error and (one.cost, one.error) != (other.cost, other.error)


def _label(text: str) -> str:
    """``text`` as a label in a plot: unprintable characters are escaped, and a long text is truncated."""
    label = shown(text)
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 3]}..."


def _look(i: int) -> dict[str, Any]:
    """Colour and dashes, so that series can be distinguished without colours."""
    return {"color": _STANDINS[f"--s{i % _SERIES}"], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 2}


def _log_x(axes: Any, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high > 4 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _svg(draw: Callable[[object], None], title: str, name: str) -> str:
    """The plot as SVG for embedding in a page; ``name`` makes its identifiers unique there."""
    # Imported here, because commands that may write a page import this module even if matplotlib is not installed.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's own fonts show the text
        figure = Figure(figsize=(5.2, 3.4))
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for variable, colour in _STANDINS.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    return f'{head} role="img" aria-label="{escape(title)}">{rest}'
