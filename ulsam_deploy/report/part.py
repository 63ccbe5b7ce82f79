"""The interface of every part of a report, for any kind of file: a name, a verdict, and the template's data."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from ulsam_deploy.device.findings import Summary, Verdict
from ulsam_deploy.report.comparison import Figures

PERCENTILES = ("p50", "p90", "p95", "p99")
#: For each section: anchor, name, and the key of the context that says whether it exists.
_SECTIONS = (
    ("artifacts", "Artifacts", ("cards",)),
    ("failures", "Failures", ("failures",)),
    ("attention", "Attention", ("viewer", "blind")),
    ("modules", "Modules", ("replayed",)),
    ("time", "Time", ("plots",)),
    ("graph", "Graph", ("graphs",)),
    ("lints", "Lints", ("lints",)),
    ("environment", "Environment", ("environment",)),
)


class Part(abc.ABC):
    """One file in a report: a bundle, or a result of ``ulsam-deploy bench``."""

    name: str

    @property
    @abc.abstractmethod
    def verdict(self) -> Verdict:
        """The verdict."""

    @property
    @abc.abstractmethod
    def sentence(self) -> str:
        """The verdict in one sentence."""

    @property
    @abc.abstractmethod
    def subtitle(self) -> str:
        """The subject of the file, in one line."""

    @abc.abstractmethod
    def figures(self) -> Mapping[str, Figures]:
        """The figures to compare with other files, by artifact."""

    @abc.abstractmethod
    def without_maps(self) -> Part:
        """The same part without the maps, which are large."""

    @abc.abstractmethod
    def context(self, number: int | None = None) -> dict[str, Any]:
        """The template's data; ``number`` makes this part's identifiers unique on the page."""

    def sections(self) -> list[tuple[str, str]]:
        """Anchor and name of every section that exists, in order."""
        context = self.context()
        return [(anchor, name) for anchor, name, keys in _SECTIONS if any(context[key] for key in keys)]

    def empty(self, number: int | None) -> dict[str, Any]:
        """A context with every key of the template, but only the verdict to show."""
        return {
            "anchor": "" if number is None else f"s{number}",
            "id": "" if number is None else f"s{number}-",
            "suffix": "" if number is None else f": {self.name}",
            "name": self.name,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            **dict.fromkeys(("cards", "failures", "blind", "plots", "graphs", "totals", "lints", "files"), ()),
            **dict.fromkeys(("viewer", "times", "operations", "replayed"), None),
            "environment": (),
            "block": "",
        }


def milliseconds(value: float | None) -> str:
    """Three decimal places, or ``n/a``."""
    return "n/a" if value is None else f"{value:.3f}"


def times_table(rows: Sequence[tuple[str, Summary]]) -> dict[str, Any] | None:
    """The percentiles of each artifact's summary, for the template; ``None`` without any."""
    if not rows:
        return None
    names = ("min", "mean", *PERCENTILES)
    cells = [
        (label, str(s.count), *map(milliseconds, (s.min, s.mean, s.p50, s.p90, s.p95, s.p99))) for label, s in rows
    ]
    return {"columns": ("artifact", "samples", *names), "rows": cells}
