"""A result of ``bench`` as text: rows of a table, sentences, checks for CI, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping

from ulsam_deploy.device.bench.result import Comparison, Condition, Measured, Result
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.invocation import command

COLUMNS = (
    *("artifact", "p50", "p90", "p95", "p99", "first", "load", "memory", "a second", "energy", "times as long"),
    "conditions",
)
_CONDITIONS = {
    Condition.CLEAN: Verdict.PASS,
    Condition.UNKNOWN: Verdict.UNVERIFIED,
    Condition.DISTURBED: Verdict.INCONCLUSIVE,
}


def rows(named: Mapping[str, Result]) -> list[tuple[str, ...]]:
    """A row for each artifact of each result, its label preceded by the result's name, if any."""
    return [_row(result, one, name) for name, result in named.items() for one in result.measured]


def _row(result: Result, one: Measured, name: str) -> tuple[str, ...]:
    latency = one.latency
    batch = f" x{one.batch}" if one.batch > 1 else ""
    return (
        f"{name} {one.label}{batch}".strip(),
        *(_ms(value) for value in (latency.p50, latency.p90, latency.p95, latency.p99, one.first_ms, one.load_ms)),
        words.size(one.peak_rss) if one.peak_rss is not None else "n/a",
        f"{one.throughput:.4g}",
        f"{one.energy.joules_per_inference * 1e3:.3g} mJ" if one.energy else "n/a",
        _compared(result, one),
        one.condition.value,
    )


def _ms(value: float | None) -> str:
    return f"{value:.4g} ms" if value is not None else "n/a"


def _compared(result: Result, one: Measured) -> str:
    found = next((c for c in result.comparisons if c.label == one.label), None)
    if found is None:
        return "1" if result.comparisons else "-"
    return f"{found.ratio:.3g} {_within(found)}"


def _within(found: Comparison) -> str:
    return f"[{found.low:.3g}, {found.high:.3g}]" if found.low is not None and found.high is not None else "[?]"


def sentence(result: Result) -> str:
    """Which artifact is the fastest, or why that cannot be determined."""
    where = result.machine.board or result.machine.cpu or result.machine.architecture
    if len(result.measured) == 1:
        one = result.measured[0]
        return f"{one.label} takes {_ms(one.latency.p50)} on {where} (median of {one.latency.count})."
    if result.fastest:
        slower = [c for c in result.comparisons if c.low is not None]
        next_one = min(slower, key=lambda c: c.ratio)
        return (
            f"{result.fastest} is the fastest on {where}: {next_one.label} takes {next_one.ratio:.3g} times as long "
            f"({next_one.confidence:.0%} interval {_within(next_one)[1:-1]})."
        )
    return f"{result.settings.rounds} rounds do not show which is the fastest on {where}."


def remarks(result: Result, name: str = "") -> list[str]:
    """Lines: the sentence, disturbances, missing artifacts, and what the figures contain."""
    lines = [sentence(result), f"Conditions: {result.condition.value}."]
    if result.machine.device:
        lines.append(f"Measured on the device: this machine proves to be {result.machine.device}.")
    lines += [f"  {reason.text}" for reason in result.reasons]
    lines += [f"Left out: {label}: {why}" for label, why in sorted(result.left_out.items())]
    for one in result.measured:
        if one.parity and one.parity.verdict is not Verdict.PASS:
            lines.append(f"{one.label} does not compute what the model computes: {one.parity.verdict.value}.")
    sensors = {one.energy.sensor for one in result.measured if one.energy}
    lines += [f"Energy is in excess of an idle machine's, by {sensor}." for sensor in sorted(sensors)]
    lines.append(f"Timed: {result.measured[0].timed}.")
    lines[0] = f"{name}: {lines[0]}" if name else lines[0]
    return ["", *lines]


def checks(result: Result) -> list[Check]:
    """For each artifact, whether it computes what it should and whether it was disturbed; and missing artifacts."""
    found = []
    for one in result.measured:
        if one.parity:
            found.append(Check(one.label, "parity", one.parity.verdict, _parity_text(one)))
        texts = dict.fromkeys(reason.text for process in one.processes for reason in process.watch.reasons)
        found.append(Check(one.label, "conditions", _CONDITIONS[one.condition], " ".join(texts)))
    found += [Check(label, "run", Verdict.UNVERIFIED, why) for label, why in sorted(result.left_out.items())]
    return found


def _parity_text(one: Measured) -> str:
    if one.parity is None or one.parity.verdict is Verdict.PASS:
        return ""
    return f"{one.label} does not compute what the model computes; '{command('verify')}' says where."


def code(result: Result) -> Exit:
    """1 for an artifact that failed its check, 5 for a disturbance; unknown conditions are reported and don't count."""
    verdicts = {one.parity.verdict for one in result.measured if one.parity}
    return combine(
        [
            Exit.CHECK_FAILED if Verdict.FAIL in verdicts else Exit.OK,
            Exit.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Exit.OK,
            Exit.INCONCLUSIVE if result.condition is Condition.DISTURBED else Exit.OK,
        ]
    )
