"""What an artifact has lost since the baseline: its parts, its verdict and evidence, and every figure of the table.

Absence never passes: what the baseline has and the artifact does not is a failure. What was measured otherwise is not
comparable, which is inconclusive and says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ulsam_deploy.device.bench.intervals import log_times, paired, unpaired
from ulsam_deploy.device.bench.result import Measured
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.gate.build import ArtifactFigures, Build, Same
from ulsam_deploy.gate.comparable import in_turns, obstacles_to
from ulsam_deploy.gate.figures import FIGURES, Change, Figure, Value
from ulsam_deploy.gate.limits import LimitFinding, by_interval, interval_text

__all__ = ["Pair", "changes", "gone", "lost"]

_NOT_COMPARABLE = "not comparable"
#: The smaller, the better. A check that was not run, or could not tell, is worse than a pass.
_RANK = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.UNVERIFIED: 1, Verdict.FAIL: 2}
_WORST = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@dataclass(frozen=True)
class Pair:
    """One artifact in the baseline and now."""

    baseline: Build
    current: Build
    before: ArtifactFigures
    after: ArtifactFigures
    allow_unknown: bool


def gone(label: str, why: str) -> LimitFinding:
    """The finding for an artifact of the baseline that is not there now."""
    text = f"{label}: the baseline has it, and it is gone. {why}".strip()
    return LimitFinding(label, "presence", "there", "gone", "there", Verdict.FAIL, text)


def lost(label: str, before: tuple[str, ...], after: tuple[str, ...]) -> LimitFinding:
    """Whether everything that the baseline consists of is still there."""
    missing = [part for part in before if part not in after]
    found = f"without {', '.join(missing)}" if missing else "there"
    text = f"{label}: the baseline has {', '.join(missing)}, and it is gone." if missing else ""
    verdict = Verdict.FAIL if missing else Verdict.PASS
    return LimitFinding(label, "presence", "there", found, "there", verdict, text)


def changes(pair: Pair, allowed: Mapping[str, float]) -> Iterator[LimitFinding]:
    """Every finding about one artifact; ``allowed`` has the limit of each figure by its key."""
    yield lost(pair.after.label, pair.before.parts, pair.after.parts)
    yield from _evidence(pair.before, pair.after)
    for same in Same:
        figures = [each for each in FIGURES if each.same is same and allowed[each.key] != math.inf]
        yield from _figures(pair, {each: allowed[each.key] for each in figures if each.read(pair.before)}, same)


def _evidence(before: ArtifactFigures, after: ArtifactFigures) -> Iterator[LimitFinding]:
    """The evidence level, the verdict and the effective precision."""
    if before.level is not None:
        reached = after.level is not None and after.level >= before.level
        now = after.level.label if after.level is not None else "none"
        yield _word(after, "evidence", before.level.label, now, Verdict.PASS if reached else Verdict.FAIL)
    if before.verdict is not None or after.verdict is Verdict.FAIL:
        old, new = before.verdict or Verdict.UNVERIFIED, after.verdict
        is_worse = new is not None and _RANK[new] > _RANK[old]
        verdict = Verdict.INCONCLUSIVE if is_worse else Verdict.PASS
        verdict = Verdict.FAIL if new in (None, Verdict.FAIL) else verdict
        yield _word(after, "verdict", old.value, new.value if new else "none", verdict)
    if before.computes:
        verdict = Verdict.PASS if after.computes == before.computes else Verdict.INCONCLUSIVE
        verdict = verdict if after.computes else Verdict.FAIL
        yield _word(after, "effective precision", before.computes, after.computes or "unknown", verdict)


def _word(one: ArtifactFigures, name: str, old: str, new: str, verdict: Verdict) -> LimitFinding:
    text = "" if verdict is Verdict.PASS else f"{one.label}: {name} is '{new}'; it is '{old}' in the baseline."
    return LimitFinding(one.label, name, old, new, "no worse", verdict, text)


def _figures(pair: Pair, limits: Mapping[Figure, float], same: Same) -> Iterator[LimitFinding]:
    """The findings about the figures that need ``same``: one for all of them, if they can't be compared."""
    missing = {figure: _missing(pair, figure) for figure in limits}
    yield from (_gone(pair, figure, limits[figure], parts) for figure, parts in missing.items() if parts)
    there = [figure for figure, parts in missing.items() if not parts]
    sides = (pair.baseline, pair.current, pair.before, pair.after)
    if there and (against := obstacles_to(same, *sides, allow_unknown=pair.allow_unknown)):
        names = ", ".join(figure.name for figure in there)
        text = f"{pair.after.label}: {names}: not comparable: {' '.join(against)}"
        yield LimitFinding(pair.after.label, names, "", _NOT_COMPARABLE, "", Verdict.INCONCLUSIVE, text)
        return
    for figure in there:
        yield from _figure(pair, figure, limits[figure])


def _missing(pair: Pair, figure: Figure) -> list[str]:
    """The parts whose figure is gone; a block or an output that is gone itself is reported once, as a missing part."""
    new, away = figure.read(pair.after), set(pair.before.parts) - set(pair.after.parts)
    return [part for part in figure.read(pair.before) if part not in new and part not in away]


def _gone(pair: Pair, figure: Figure, limit: float, parts: Sequence[str]) -> LimitFinding:
    label, names = pair.after.label, ", ".join(filter(None, parts))
    text = f"{label}: the baseline has the figure '{figure.name}'{f' of {names}' if names else ''}, and it is gone."
    return LimitFinding(label, figure.name, "there", "gone", figure.allowed(limit), Verdict.FAIL, text)


def _figure(pair: Pair, figure: Figure, limit: float) -> Iterator[LimitFinding]:
    """One finding for all parts of an artifact: that of its worst part, with the sentences of all that did not pass."""
    if figure.share is not None and pair.before.measured and pair.after.measured:
        yield _time(pair, figure, pair.before.measured, pair.after.measured, limit)
        return
    label, new = pair.after.label, figure.read(pair.after)
    values = [(part, value) for part, value in figure.read(pair.before).items() if part in new]
    found = [_part(label, figure, part, value, new[part], limit) for part, value in values]
    if found:
        worst = min(found, key=lambda each: (_WORST[each[0].verdict], -each[1]))[0]
        text = " ".join(each.text for each, _ in found if each.text)
        yield replace(worst, text=text)


def _time(pair: Pair, figure: Figure, before: Measured, after: Measured, percent: float) -> LimitFinding:
    share = figure.share or 0.0
    old, new = log_times(before.times(), share), log_times(after.times(), share)
    assert pair.baseline.result is not None
    assert pair.current.result is not None
    turns = in_turns(pair.baseline.result, pair.current.result, before, after)
    interval = paired(new - old) if turns else unpaired(old, new)
    how = "in turns" if turns else "at different times"
    found = f"{interval.estimate:.4g} times as long {interval_text(interval)}, {how}"
    shown = _text(figure, figure.read(pair.before)[""])
    return by_interval(after.label, figure.name, shown, interval, 1 + percent / 100, found, figure.allowed(percent))


def _part(
    label: str, figure: Figure, part: str, before: Value, after: Value, limit: float
) -> tuple[LimitFinding, float]:
    """The finding about one part, and by how much of the limit it is worse."""
    worse = _worsening(figure.change, before.value, after.value)
    verdict = Verdict.PASS if worse <= limit + 1e-9 else Verdict.FAIL
    best = after.high if figure.change is Change.LESS else after.low
    reach = best if figure.is_noisy else None
    if verdict is Verdict.FAIL and reach is not None and _worsening(figure.change, before.value, reach) <= limit:
        verdict = Verdict.INCONCLUSIVE  # the interval reaches to what is allowed
    old, new = _text(figure, before), _text(figure, after)
    of = f" of {part}" if part else ""
    text = f"{label}: {figure.name}{of} is {new}, {old} in the baseline; {figure.allowed(limit)} is allowed."
    found = f"{new} ({part})" if part else new
    return LimitFinding(
        label, figure.name, old, found, figure.allowed(limit), verdict, "" if verdict is Verdict.PASS else text
    ), worse


def _worsening(change: Change, before: float, after: float) -> float:
    """By how much ``after`` is worse; 0 if the two are equal, as infinite errors can be."""
    if before == after:
        return 0.0
    if change is Change.PERCENT:
        return 100 * (after / before - 1) if before else math.inf
    return after - before if change is Change.MORE else before - after


def _text(figure: Figure, value: Value) -> str:
    shown = "far off" if math.isinf(value.value) else f"{value.value:.4g} {figure.unit}".strip()
    if value.low is not None and value.high is not None:
        shown += f" [{value.low:.4g}, {value.high:.4g}]"
    return f"{shown} in {value.where}" if value.where else shown
