"""``ulsam-deploy report FOLDER``: how each figure of the gate went over many builds, oldest first by file name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.cli.compare import sentence
from ulsam_deploy.cli.compare_files import read_build
from ulsam_deploy.device.bundle.manifest import MANIFEST
from ulsam_deploy.device.checks import Check, worst
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import Verdict

if TYPE_CHECKING:
    from ulsam_deploy.gate import ArtifactFigures, Build, Figure

__all__ = ["is_history", "page_of"]

#: Of a commit; as many as git shows.
_SHORT = 8


def is_history(paths: Sequence[Path]) -> bool:
    """Whether this is one folder of builds, and not a bundle."""
    return len(paths) == 1 and paths[0].is_dir() and not (paths[0] / MANIFEST).exists()


def page_of(folder: Path) -> tuple[str, Verdict, str]:
    """The page of all builds in ``folder``, the verdict on the last one against the one before, and a sentence.

    Raises:
        UsageError: There are fewer than two, or they are of different kinds.
        RefusedError: One is damaged.
    """
    from markupsafe import Markup

    from ulsam_deploy.gate import FIGURES, decide
    from ulsam_deploy.report import page, plots

    named = _builds(folder)
    names, builds = list(named), list(named.values())
    found = decide(builds[-2], builds[-1], allow_unknown=True)
    words = f"{len(named)} builds. The last one, {names[-1]}, against {names[-2]}: {sentence(found)}"
    drawn, shown = [], []
    for figure in FIGURES:
        series = _series(builds, figure)
        if series:
            shown.append(figure)
            what = f"{figure.name}, {figure.unit}".removesuffix(", ")
            svg = plots.trend_plot(series, names, what, figure.key)
            drawn.append((Markup(svg), f"From one build to the next the gate allows {figure.allowed(figure.default)}."))
    columns = ("build", "machine", "artifact", *(figure.name for figure in shown))
    rows = [
        (name, build.board or "n/a", label, *(_cell(one, figure) for figure in shown))
        for name, build in named.items()
        for label, one in build.artifacts.items()
    ]
    notes = [each.text for each in found if each.text]
    held = {"title": "History", "columns": columns, "rows": rows, "plots": drawn, "notes": notes}
    verdict = worst(Check(each.label, each.limit, each.verdict, each.text) for each in found)
    return page.page(folder.resolve().name, (), held, (verdict, words)), verdict, words


def _builds(folder: Path) -> dict[str, Build]:
    """Each build by its name: the commit if the file tells it, the file's name otherwise."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_dir() or path.suffix in (".json", ".zip")]
    read = [(path, *read_build(path)) for path in paths]
    kinds = sorted({kind for _, kind, _ in read})
    if len(read) < 2 or len(kinds) > 1:
        raise UsageError(
            f"{folder} has {len(read)} builds" + (f" of several kinds: {', '.join(kinds)}" if len(kinds) > 1 else ""),
            expected="at least two files of one kind, such as results of 'bench -o', whose names sort by age",
        )
    found: dict[str, Build] = {}
    for path, _, build in read:
        commit = build.result.commit[:_SHORT] if build.result else ""
        found[commit if commit and commit not in found else path.stem] = build
    return found


def _series(builds: Sequence[Build], figure: Figure) -> dict[str, list[float | None]]:
    """One value for each build and artifact, ``None`` for a gap; times of different machines are separate series."""
    from ulsam_deploy.gate.build import Same

    apart = figure.same in (Same.TIME, Same.MACHINE) and len({build.board for build in builds}) > 1
    series: dict[str, list[float | None]] = {}
    for number, build in enumerate(builds):
        for label, one in build.artifacts.items():
            if (value := _worst(one, figure)) is not None:
                name = f"{label}, {build.board}" if apart else label
                series.setdefault(name, [None] * len(builds))[number] = value
    return series


def _worst(one: ArtifactFigures, figure: Figure) -> float | None:
    """The figure of its worst part; ``None`` where it has none, or an output can't be compared."""
    from ulsam_deploy.gate.figures import Change

    values = [each.value for each in figure.read(one).values()]
    found = (min if figure.change is Change.LESS else max)(values) if values else None
    return None if found is None or math.isinf(found) else found


def _cell(one: ArtifactFigures, figure: Figure) -> str:
    value = _worst(one, figure)
    return "n/a" if value is None else f"{value:.4g} {figure.unit}".strip()
