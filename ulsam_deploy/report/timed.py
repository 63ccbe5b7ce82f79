"""The part of a report about a result file of ``ulsam-deploy bench``: times, machine and conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ulsam_deploy.device.bench.result import Condition, Measured, Result
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.report import plots
from ulsam_deploy.report.comparison import Figures
from ulsam_deploy.report.part import Part, milliseconds, times_table

_QUANTILES = 41
#: The page's verdict for the conditions of the measurement; unknown conditions do not give a pass.
_VERDICTS = {
    Condition.CLEAN: Verdict.PASS,
    Condition.DISTURBED: Verdict.INCONCLUSIVE,
    Condition.UNKNOWN: Verdict.UNVERIFIED,
}
_CONDITIONS = {
    Condition.CLEAN: "nothing disturbed the run",
    Condition.DISTURBED: "the run was disturbed",
    Condition.UNKNOWN: "the sensors do not say whether the run was disturbed",
}


@dataclass(frozen=True)
class TimedPart(Part):
    """One result file in a report."""

    name: str
    result: Result

    @property
    def verdict(self) -> Verdict:
        """Whether the times can be trusted."""
        return _VERDICTS[self.result.condition]

    @property
    def sentence(self) -> str:
        """The fastest artifact, and whether that can be trusted."""
        fastest = self.result.fastest
        which = f"{fastest} is the fastest" if fastest else "none is surely the fastest"
        if len(self.result.measured) == 1:
            only = self.result.measured[0]
            which = f"{only.label} takes {milliseconds(only.latency.p50)} ms (p50)"
        return f"{which} on {self.where}; {_CONDITIONS[self.result.condition]}."

    @property
    def subtitle(self) -> str:
        """Model and machine in one line."""
        return f"{self.result.model}, timed by {self.result.tool}"

    @property
    def where(self) -> str:
        """The most specific name of the machine."""
        machine = self.result.machine
        return machine.board or machine.cpu or f"{machine.system or 'a machine'} {machine.architecture}"

    def figures(self) -> Mapping[str, Figures]:
        """The figures of each artifact."""
        return {
            one.label: Figures(
                where=self.where,
                verdict=one.condition.value,
                size=one.size,
                p50=one.latency.p50,
                p90=one.latency.p90,
            )
            for one in self.result.measured
        }

    def without_maps(self) -> TimedPart:
        """The same part: it has no maps."""
        return self

    def context(self, number: int | None = None) -> dict[str, Any]:
        """The template's data."""
        from markupsafe import Markup

        place = "" if number is None else f"s{number}-"
        curves = [_curve(one) for one in self.result.measured]
        svg = plots.latency_plot(curves, f"{place}latency")
        rows = [(one.label, one.latency) for one in self.result.measured]
        return {
            **self.empty(number),
            "cards": [_card(one) for one in self.result.measured],
            "plots": [(Markup(svg), "How long single runs took: higher and further left is better.")],
            "times": times_table(rows),
            "lints": [*(reason.text for reason in self.result.reasons), *_left_out(self.result), *_ratios(self.result)],
            "environment": list(_environment(self.result)),
        }


def _card(one: Measured) -> dict[str, Any]:
    facts = [
        ("latency", f"{milliseconds(one.latency.p50)} ms (p50, batch {one.batch})"),
        ("throughput", f"{one.throughput:.1f} inputs/s"),
        ("loading", f"{milliseconds(one.load_ms)} ms"),
        ("first run", f"{milliseconds(one.first_ms)} ms"),
        ("peak memory", "not known" if one.peak_rss is None else f"{one.peak_rss / 2**20:.0f} MiB"),
        ("size", f"{one.size / 1e6:.2f} MB"),
        ("computes in", one.engine.precision or "not known"),
        ("timed", one.timed),
    ]
    if one.energy:
        joules = f"{1e3 * one.energy.joules_per_inference:.2f} mJ an inference ({one.energy.sensor})"
        facts.insert(2, ("energy", joules))
    return {
        "title": one.label,
        "verdict": _VERDICTS[one.condition].value,
        "facts": facts,
        "retentions": [],
        "reasons": list(dict.fromkeys(r.text for process in one.processes for r in process.watch.reasons)),
        "explained": [],
    }


def _curve(one: Measured) -> plots.PlotCurve:
    times = np.concatenate(one.times()) / 1e6
    quantiles = np.quantile(times, np.linspace(0, 1, _QUANTILES)).tolist()
    return plots.PlotCurve(one.label, quantiles, one.latency.percentiles())


def _left_out(result: Result) -> Iterator[str]:
    for label, why in result.left_out.items():
        yield f"{label} was not timed: {why}"


def _ratios(result: Result) -> Iterator[str]:
    for found in result.comparisons:
        interval = (
            f"between {found.low:.3f} and {found.high:.3f} with {100 * found.confidence:g} % confidence"
            if found.low is not None and found.high is not None
            else "too few rounds for an interval"
        )
        yield f"{found.label} takes {found.ratio:.3f} times as long as {found.baseline} ({interval})."


def _environment(result: Result) -> Iterator[tuple[str, str]]:
    yield "checkpoint", f"{result.model}, SHA-256 {result.sha256}"
    for name, value in dataclasses.asdict(result.machine).items():
        if value is not None:
            yield name.replace("_", " "), str(value)
    settings = dataclasses.asdict(result.settings)
    yield "settings", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
    for one in result.measured:
        yield one.label, f"{one.engine.title}, SHA-256 {one.sha256}"
