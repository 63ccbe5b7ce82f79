"""Limits that a budget file states by themselves, whatever the baseline: pass, fail, or inconclusive with the reason.

A limit on time fails only if the whole interval is beyond it, and passes only if the whole interval is within it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ulsam_deploy.device.bench.intervals import CONFIDENCE, Interval, quantile_interval
from ulsam_deploy.device.bench.result import Measured
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.gate.budgets import DeviceBudget
from ulsam_deploy.gate.build import ArtifactFigures
from ulsam_deploy.gate.comparable import disturbances

__all__ = ["LimitFinding", "by_interval", "interval_text", "limits"]

_BOTH = 2 * CONFIDENCE - 1


@dataclass(frozen=True)
class LimitFinding:
    """One limit of one artifact: the baseline's figure, what was found, what is allowed (as text), and the verdict.

    ``baseline`` is empty for a limit that has nothing to do with it. ``text`` is a self-contained sentence, and empty
    for a pass.
    """

    label: str
    limit: str
    baseline: str
    found: str
    allowed: str
    verdict: Verdict
    text: str = ""


def limits(one: ArtifactFigures, budget: DeviceBudget, allow_unknown: bool) -> Iterator[LimitFinding]:
    """Decide every absolute limit of ``budget`` for an artifact to which it applies.

    A limit on what this kind of file never has (times in a bundle, a size in an answer of ``verify``) is none here.
    """
    measured = one.measured
    if budget.max_error is not None and one.level is not None:
        yield _plain(one, "largest error", one.error, budget.max_error, "noise floors")
    if budget.min_retention is not None and one.level is not None:
        yield _plain(one, "least retention", one.retention, budget.min_retention, "", least=True)
    if budget.max_size_mb is not None and one.size is not None:
        yield _plain(one, "size", one.size / 1e6, budget.max_size_mb, "MB")
    if measured is None:
        return
    if budget.max_rss_mb is not None:
        memory = measured.peak_rss / 1e6 if measured.peak_rss is not None else None
        yield _plain(one, "memory", memory, budget.max_rss_mb, "MB")
    if budget.max_energy_mj is not None:
        used = measured.energy.joules_per_inference * 1e3 if measured.energy else None
        yield _doubted(_plain(one, "energy", used, budget.max_energy_mj, "mJ"), measured, allow_unknown)
    if budget.max_p90_ms is not None:
        yield _doubted(_p90(measured, budget.max_p90_ms), measured, allow_unknown)


def _plain(
    one: ArtifactFigures, name: str, value: float | None, limit: float, unit: str, *, least: bool = False
) -> LimitFinding:
    """Decide a limit on a figure without a random part."""
    allowed = f"{'at least' if least else 'at most'} {limit:g} {unit}".strip()
    if value is None or math.isinf(value):
        verdict, found = (Verdict.INCONCLUSIVE, "not measured") if value is None else (Verdict.FAIL, "far off")
    else:
        holds = value >= limit if least else value <= limit
        verdict, found = Verdict.PASS if holds else Verdict.FAIL, f"{value:.4g} {unit}".strip()
    text = "" if verdict is Verdict.PASS else f"{one.label}: {name} is {found}; {allowed} is allowed."
    return LimitFinding(one.label, name, "", found, allowed, verdict, text)


def _p90(one: Measured, limit: float) -> LimitFinding:
    interval = quantile_interval([times / 1e6 for times in one.times()], 0.90)
    found = f"{interval.estimate:.4g} ms {interval_text(interval)}"
    return by_interval(one.label, "p90", "", interval, limit, found, f"at most {limit:g} ms")


def by_interval(
    label: str, name: str, baseline: str, interval: Interval, limit: float, found: str, allowed: str
) -> LimitFinding:
    """Decide by the whole interval; inconclusive where the limit lies within it, or there is none."""
    if interval.low is None or interval.high is None:
        text = (
            f"{label}: {name}: {interval.blocks} independent blocks of rounds are too few to say; measure more rounds."
        )
        return LimitFinding(label, name, baseline, found, allowed, Verdict.INCONCLUSIVE, text)
    if interval.high <= limit:
        return LimitFinding(label, name, baseline, found, allowed, Verdict.PASS)
    text = f"{label}: {name} is {found}; {allowed} is allowed"
    if interval.low > limit:
        return LimitFinding(label, name, baseline, found, allowed, Verdict.FAIL, f"{text}.")
    text += ", which lies within the interval: measure more rounds."
    return LimitFinding(label, name, baseline, found, allowed, Verdict.INCONCLUSIVE, text)


def interval_text(interval: Interval) -> str:
    """Its bounds as text."""
    if interval.low is None or interval.high is None:
        return "[too few rounds]"
    return f"[{interval.low:.4g}, {interval.high:.4g}] ({_BOTH:.0%})"


def _doubted(finding: LimitFinding, one: Measured, allow_unknown: bool) -> LimitFinding:
    """Make a failure on a disturbed machine inconclusive: a disturbed machine is slower, so only a pass is reliable."""
    in_the_way = disturbances(one, allow_unknown)
    if finding.verdict is not Verdict.FAIL or not in_the_way:
        return finding
    text = f"{finding.text} But the conditions were not clean: {' '.join(in_the_way)}"
    return LimitFinding(
        finding.label, finding.limit, finding.baseline, finding.found, finding.allowed, Verdict.INCONCLUSIVE, text
    )
