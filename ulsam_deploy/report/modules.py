"""What local replay found, for the page: the error of every module by itself, worst first, in a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ulsam_deploy.device.findings import Replay, ReplayedModule
from ulsam_deploy.report import plots

#: The modules that are listed before the reader asks for all.
_WORST = 12


@dataclass(frozen=True)
class ReplayTable:
    """One section of the page.

    ``columns`` and ``rows`` (the worst modules) or ``all_rows``; ``coverage``: a sentence for each artifact; ``plot``:
    SVG, empty if nothing can be drawn.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    all_rows: Sequence[tuple[str, ...]]
    coverage: Sequence[str]
    plot: Any


def replay_table(replays: Mapping[str, Replay], place: str) -> ReplayTable | None:
    """The section about ``replays``, by artifact; ``None`` without any. ``place`` makes its identifiers unique."""
    if not replays:
        return None
    order = list(dict.fromkeys(one.module for replay in replays.values() for one in replay.modules))
    found = {label: {one.module: one for one in replay.modules} for label, replay in replays.items()}
    worst = sorted(order, key=lambda module: -_worst([modules.get(module) for modules in found.values()]))
    rows = [(module or "forward", *(_figure(modules.get(module)) for modules in found.values())) for module in worst]
    return ReplayTable(
        columns=("module", *(f"{label}: errors in roundings" for label in found)),
        rows=rows[:_WORST],
        all_rows=rows if len(rows) > _WORST else (),
        coverage=[_coverage(label, replay) for label, replay in replays.items()],
        plot=_plot(replays, found, order, place),
    )


def _worst(modules: Sequence[ReplayedModule | None]) -> float:
    """The larger, the earlier in the table; a wrong module that no tensor resembles comes first of all."""
    shown = [one for one in modules if one is not None]
    if any(one.wrong and one.ratio is None for one in shown):
        return float("inf")
    return max((one.ratio for one in shown if one.ratio is not None), default=-1.0)


def _figure(one: ReplayedModule | None) -> str:
    if one is None:
        return ""
    word = f"{one.ratio:.3g}" if one.ratio is not None else "not seen" if not one.wrong else "far off"
    together = f", {one.region} operators together" if one.region > 1 else ""
    return f"{word} ({one.operator}{together}){' WRONG' if one.wrong else ''}"


def _coverage(label: str, replay: Replay) -> str:
    shares = f"{replay.alone:.0%} of the multiply-adds alone, {replay.together:.0%} with their neighbours"
    unseen = f", {replay.unseen:.0%} not seen" if replay.unseen else ""
    ends = "" if replay.outputs else "; not every output was reached"
    return f"{label}: {shares}{unseen}{ends}; {replay.allowed:g} roundings are allowed."


def _plot(
    replays: Mapping[str, Replay],
    found: Mapping[str, Mapping[str, ReplayedModule]],
    order: Sequence[str],
    place: str,
) -> Any:
    from markupsafe import Markup

    series = {label: [_point(modules.get(module)) for module in order] for label, modules in found.items()}
    drawn = {label: values for label, values in series.items() if any(value is not None for value in values)}
    allowed = max(replay.allowed for replay in replays.values())
    if len(order) < 2 or not drawn or not plots.is_drawable(allowed):
        return ""
    return Markup(plots.module_plot(drawn, [module or "forward" for module in order], allowed, f"{place}modules"))


def _point(one: ReplayedModule | None) -> float | None:
    ratio = one.ratio if one else None
    return ratio if ratio and plots.is_drawable(ratio) else None
