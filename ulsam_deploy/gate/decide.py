"""Compares a result with a baseline and budgets, limit by limit: pass, fail, or inconclusive with the reason.

A limit on time fails only if the whole interval is beyond it, and passes only if the whole interval is within it. Two
results that cannot be compared are inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.bench.intervals import CONFIDENCE, Interval, log_times, paired, quantile_interval, unpaired
from ulsam_deploy.device.bench.result import Cause, Condition, Disturbance, Machine, Measured, Result
from ulsam_deploy.device.commands.answer import schema_field
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.spelling import meant
from ulsam_deploy.gate.budgets import DeviceBudget, budgets_for

__all__ = ["UNDISTURBED", "CompareDocument", "LimitFinding", "decide", "obstacles"]

#: The kernel reserves a varying part of the memory; a larger difference means another board.
MEMORY = 0.05
#: The quantile of each round that two builds are compared by. Other programs only ever add time, often to more than
#: half of a round, so that medians change without a change of code; the undisturbed runs show what the code itself
#: takes. Occasional delays are the subject of the limit on p90.
UNDISTURBED = 0.10
_BOTH = 2 * CONFIDENCE - 1


@dataclass(frozen=True)
class LimitFinding:
    """One limit of one artifact: what was found, what is allowed (both as readable text), and the verdict.

    ``text`` is a self-contained sentence, and empty for a pass.
    """

    label: str
    limit: str
    found: str
    allowed: str
    verdict: Verdict
    text: str = ""


@dataclass(frozen=True)
class CompareDocument:
    """``compare``: every limit of the budgets that applies to a measured artifact."""

    findings: tuple[LimitFinding, ...]
    exit_code: int
    schema: str = schema_field("compare", 1)


def decide(
    baseline: Result, current: Result, budgets: Sequence[DeviceBudget], *, allow_unknown: bool = False
) -> list[LimitFinding]:
    """Decide every limit of ``budgets`` that applies to an artifact measured in ``current``, in that order.

    A budget for this machine whose artifact was not measured is inconclusive.

    Args:
        baseline: The earlier result.
        current: The result to judge.
        budgets: The budgets.
        allow_unknown: Accept machines that do not report clocks, temperature or throttling, such as virtual machines.
    """
    found = [
        finding
        for measured in current.measured
        for budget in budgets_for(budgets, measured, current.machine)
        for finding in _limits(baseline, current, measured, budget, allow_unknown)
    ]
    for budget in budgets:
        if budget.on(current.machine) and not any(budget.is_for(one, current.machine) for one in current.measured):
            label = f"{budget.target} {budget.precision}"
            why = next((why for name, why in current.left_out.items() if name.split()[0] == budget.target), "")
            near = "" if why else meant(budget.target, {one.target for one in current.measured} - {budget.target})
            text = f"There is a budget for {label}, and nothing of that kind was measured. {why or near}".strip()
            found.append(LimitFinding(label, "measured", "no", "yes", Verdict.INCONCLUSIVE, text))
    return found


def _limits(
    baseline: Result, current: Result, one: Measured, budget: DeviceBudget, allow_unknown: bool
) -> Iterator[LimitFinding]:
    if budget.max_error is not None:
        error = one.parity.error if one.parity else None
        yield _plain(one, "largest error", error, budget.max_error, "noise floors", far=one.parity is not None)
    if budget.min_retention is not None:
        alive = one.parity.retention if one.parity else None
        yield _plain(one, "retention", alive, budget.min_retention, "", least=True)
    if budget.max_size_mb is not None:
        yield _plain(one, "size", one.size / 1e6, budget.max_size_mb, "MB")
    if budget.max_rss_mb is not None:
        memory = None if one.peak_rss is None else one.peak_rss / 1e6
        yield _plain(one, "memory", memory, budget.max_rss_mb, "MB")
    if budget.max_energy_mj is not None:
        used = one.energy.joules_per_inference * 1e3 if one.energy else None
        yield _doubted(_plain(one, "energy", used, budget.max_energy_mj, "mJ"), one, allow_unknown)
    if budget.max_p90_ms is not None:
        yield _doubted(_p90(one, budget.max_p90_ms), one, allow_unknown)
    if budget.max_regression_percent is not None:
        yield _regression(baseline, current, one, budget.max_regression_percent, allow_unknown)


def _plain(
    one: Measured, name: str, value: float | None, limit: float, unit: str, *, least: bool = False, far: bool = False
) -> LimitFinding:
    """Decide a limit on a figure without a random part. ``far``: ``None`` means that it was too large to measure."""
    allowed = f"{'at least' if least else 'at most'} {limit:g} {unit}".strip()
    if value is None:
        verdict = Verdict.FAIL if far else Verdict.INCONCLUSIVE
        found = "far off" if far else "not measured"
        return LimitFinding(
            one.label, name, found, allowed, verdict, f"{one.label}: {name} is {found}; {allowed} is allowed."
        )
    found = f"{value:.4g} {unit}".strip()
    if value >= limit if least else value <= limit:
        return LimitFinding(one.label, name, found, allowed, Verdict.PASS)
    return LimitFinding(
        one.label, name, found, allowed, Verdict.FAIL, f"{one.label}: {name} is {found}; {allowed} is allowed."
    )


def _p90(one: Measured, limit: float) -> LimitFinding:
    interval = quantile_interval([times / 1e6 for times in one.times()], 0.90)
    found = f"{interval.estimate:.4g} ms {_bounds(interval)}"
    return _by_interval(one.label, "p90", interval, limit, found, f"at most {limit:g} ms")


def _regression(baseline: Result, current: Result, one: Measured, percent: float, allow_unknown: bool) -> LimitFinding:
    allowed = f"at most {percent:g} % longer"
    before = {each.label: each for each in baseline.measured}.get(one.label)
    if before is None:
        text = f"{one.label}: the baseline has no such artifact."
        return LimitFinding(one.label, "regression", "not comparable", allowed, Verdict.INCONCLUSIVE, text)
    against = obstacles(baseline, current, before, one, allow_unknown=allow_unknown)
    if against:
        text = f"{one.label}: not comparable: {' '.join(against)}"
        return LimitFinding(one.label, "regression", "not comparable", allowed, Verdict.INCONCLUSIVE, text)
    old, new = log_times(before.times(), UNDISTURBED), log_times(one.times(), UNDISTURBED)
    in_turns = _in_turns(baseline, current, before, one)
    interval = paired(new - old) if in_turns else unpaired(old, new)
    how = "in turns" if in_turns else "at different times"
    found = f"{interval.estimate:.4g} times as long {_bounds(interval)}, {how}"
    return _by_interval(one.label, "regression", interval, 1 + percent / 100, found, allowed)


def _by_interval(label: str, name: str, interval: Interval, limit: float, found: str, allowed: str) -> LimitFinding:
    if interval.low is None or interval.high is None:
        text = (
            f"{label}: {name}: {interval.blocks} independent blocks of rounds are too few to say; measure more rounds."
        )
        return LimitFinding(label, name, found, allowed, Verdict.INCONCLUSIVE, text)
    if interval.high <= limit:
        return LimitFinding(label, name, found, allowed, Verdict.PASS)
    if interval.low > limit:
        return LimitFinding(
            label, name, found, allowed, Verdict.FAIL, f"{label}: {name} is {found}; {allowed} is allowed."
        )
    text = f"{label}: {name} is {found}; {allowed} is allowed, which lies within the interval: measure more rounds."
    return LimitFinding(label, name, found, allowed, Verdict.INCONCLUSIVE, text)


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "[too few rounds]"
    return f"[{interval.low:.4g}, {interval.high:.4g}] ({_BOTH:.0%})"


def _doubted(finding: LimitFinding, one: Measured, allow_unknown: bool) -> LimitFinding:
    """Make a failure on a disturbed machine inconclusive: a disturbed machine is slower, so only a pass is reliable."""
    in_the_way = _reasons(one, allow_unknown)
    if finding.verdict is not Verdict.FAIL or not in_the_way:
        return finding
    text = f"{finding.text} But the conditions were not clean: {' '.join(in_the_way)}"
    return LimitFinding(finding.label, finding.limit, finding.found, finding.allowed, Verdict.INCONCLUSIVE, text)


def obstacles(
    baseline: Result, current: Result, before: Measured, after: Measured, *, allow_unknown: bool = False
) -> list[str]:
    """Why the times of two artifacts cannot be compared, as sentences; empty if they can.

    Load by other programs is no reason if they ran in turns: it affects both alike and widens the interval.
    """
    in_turns = _in_turns(baseline, current, before, after)
    old, new = baseline.machine, current.machine
    found = [
        f"The {name} differs: {was!a} in the baseline, {now!a} now."
        for name, was, now in (
            *_machine(old, new),
            ("number of threads", baseline.settings.threads, current.settings.threads),
            ("set of processors", baseline.settings.cpus, current.settings.cpus),
            ("batch", before.batch, after.batch),
            ("power mode", _modes(before)[0], _modes(after)[0]),
            ("governor", _modes(before)[1], _modes(after)[1]),
        )
        if was != now
    ]
    for side, one in (("baseline", before), ("current", after)):
        found += [f"{side.capitalize()}: {text}" for text in _reasons(one, allow_unknown, load=not in_turns)]
    return found


def _machine(old: Machine, new: Machine) -> Iterator[tuple[str, object, object]]:
    for name in ("board", "cpu", "cores", "architecture", "page_size"):
        yield name.replace("_", " "), getattr(old, name), getattr(new, name)
    if old.memory and new.memory and abs(old.memory - new.memory) > MEMORY * old.memory:
        yield "memory", old.memory, new.memory


def _modes(one: Measured) -> tuple[list[str | None], list[tuple[str, str | None]]]:
    watches = [process.watch for process in one.processes]
    powers = {watch.power_mode for watch in watches}
    governors = {pair for watch in watches for pair in watch.governors.items()}
    return sorted(powers, key=str), sorted(governors, key=str)


def _in_turns(baseline: Result, current: Result, before: Measured, after: Measured) -> bool:
    """Whether the two ran side by side, round by round."""
    rounds = [[process.round for process in one.processes] for one in (before, after)]
    return baseline.session == current.session and rounds[0] == rounds[1]


def _reasons(one: Measured, allow_unknown: bool, *, load: bool = True) -> list[str]:
    """The reasons of the monitors why the conditions were not clean, each sentence once."""
    return list(
        dict.fromkeys(
            reason.text
            for process in one.processes
            for reason in process.watch.reasons
            if _matters(reason, allow_unknown, load)
        )
    )


def _matters(reason: Disturbance, allow_unknown: bool, load: bool) -> bool:
    if reason.condition is Condition.UNKNOWN and allow_unknown:
        return False
    return load or reason.cause is not Cause.LOAD
