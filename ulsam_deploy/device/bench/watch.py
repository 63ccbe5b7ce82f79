"""Judges a series of samples by the state of the machine before and after it: clean, disturbed, or unknown.

Standard library only; device-safe. Nothing is read while samples are taken. A sensor that can't be read never counts
as good: the verdict is ``unknown`` at best. A low clock of an idle machine means nothing, so the second snapshot is
taken while the network still runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.result import Cause, Condition, Disturbance, Reading, Watch

__all__ = ["Snapshot", "judge", "snapshot", "worst"]

#: A busy core or GPU below this share of its expected clock is throttled.
REACHED = 0.95
#: A share of all cores used by other programs above this is a disturbance.
OTHER_LOAD = 0.10

_DISTURBED, _UNKNOWN = Condition.DISTURBED, Condition.UNKNOWN
_CHANGED = "the governor or the power mode was changed meanwhile"

Sensors = tuple[tuple[str, "float | None", "float | None"], ...]


@dataclass(frozen=True)
class Snapshot:
    """The state of the machine at one time; sensors are ``(name, value, limit)`` as in :class:`Board`.

    ``busy`` and ``there``: busy and total CPU seconds of all cores; ``own``: CPU seconds of the timed process.
    """

    temperatures: Sensors
    cpu_clocks: Sensors
    gpu_clocks: Sensors
    governors: Mapping[str, str | None]
    power_mode: str | None
    needs_power_mode: bool
    counts: Mapping[str, int | None]
    flags: Mapping[str, tuple[bool, bool] | None]
    busy: float | None
    there: float | None
    own: float | None


def snapshot(board: Board, process: int, cpus: Sequence[int] = ()) -> Snapshot:
    """Read the state of the machine once; ``process`` runs the network, on ``cpus`` if it is pinned.

    Load is read last, so that the commands of the first snapshot don't count as other programs.
    """
    look = Snapshot(
        temperatures=tuple(board.temperatures()),
        cpu_clocks=tuple(board.cpu_clocks(cpus)),
        gpu_clocks=tuple(board.gpu_clocks()),
        governors=board.governors(),
        power_mode=board.power_mode(),
        needs_power_mode=board.is_jetson,
        counts=board.throttle_counts(),
        flags=board.throttle_flags(),
        busy=None,
        there=None,
        own=None,
    )
    busy, there = board.cpu_seconds() or (None, None)
    return dataclasses.replace(look, busy=busy, there=there, own=board.process_seconds(process))


def judge(before: Snapshot, after: Snapshot, *, on_gpu: bool = False) -> Watch:
    """Judge the two snapshots; ``on_gpu``: the network runs on the GPU, so its clock matters."""
    throttled = dict(_throttled(before, after))
    load = _other_load(before, after)
    hot = _readings("temperature", before.temperatures, after.temperatures)
    clocks = _readings("clock", before.cpu_clocks, after.cpu_clocks)
    gpu = _readings("clock", before.gpu_clocks, after.gpu_clocks)
    reasons = [
        *_said(Cause.TEMPERATURE, _DISTURBED, (_too_hot(r) for r in hot)),
        *_said(Cause.CLOCK, _DISTURBED, _held_back(clocks)),
        *_said(Cause.CLOCK, _DISTURBED, _held_back(gpu) if on_gpu else ()),
        *_said(Cause.THROTTLING, _DISTURBED, (_events(kind, n) for kind, n in throttled.items() if n)),
        *_said(Cause.MODE, _DISTURBED, [_CHANGED if _modes(before) != _modes(after) else ""]),
        *_said(Cause.LOAD, _DISTURBED, [_others(load)]),
        *_said(Cause.TEMPERATURE, _UNKNOWN, _unread("temperature", hot)),
        *_said(Cause.CLOCK, _UNKNOWN, _unread("clock", clocks)),
        *_said(Cause.CLOCK, _UNKNOWN, _unread("GPU clock", gpu) if on_gpu else ()),
        *_said(Cause.THROTTLING, _UNKNOWN, _unknown_throttling(throttled, before)),
        *_said(Cause.MODE, _UNKNOWN, _unknown_modes(after)),
        *_said(Cause.LOAD, _UNKNOWN, ["" if load is not None else "the load by other programs can't be read"]),
    ]
    return Watch(
        condition=worst(reason.condition for reason in reasons) if reasons else Condition.CLEAN,
        reasons=tuple(reasons),
        readings=(*hot, *clocks, *gpu),
        throttled=throttled,
        power_mode=after.power_mode,
        governors=after.governors,
        other_load=load,
    )


def _said(cause: Cause, condition: Condition, texts: Iterable[str]) -> Iterator[Disturbance]:
    """One reason, a sentence, for each text that isn't empty."""
    yield from (Disturbance(cause, condition, f"{text[:1].upper()}{text[1:]}.") for text in texts if text)


def worst(conditions: Iterable[Condition]) -> Condition:
    """The condition of several measurements: clean only if all of them are."""
    found = set(conditions)
    order = (Condition.DISTURBED, Condition.UNKNOWN, Condition.CLEAN)
    return next((condition for condition in order if condition in found), Condition.UNKNOWN)


def _readings(kind: str, before: Sensors, after: Sensors) -> tuple[Reading, ...]:
    """The sensors of both snapshots; one that is missing in the second couldn't be read."""
    places = range(max(len(before), len(after)))
    pairs = [(_at(before, place), _at(after, place)) for place in places]
    return tuple(
        Reading(
            one[0] or other[0], kind, one[1], other[1] if other[0] else None, one[2] if other[2] is None else other[2]
        )
        for one, other in pairs
    )


def _at(sensors: Sensors, place: int) -> tuple[str, float | None, float | None]:
    return sensors[place] if place < len(sensors) else ("", None, None)


def _too_hot(reading: Reading) -> str:
    if reading.after is None or reading.limit is None or reading.after < reading.limit:
        return ""
    return f"{reading.sensor} reached {reading.after:g} C; it slows down from {reading.limit:g}"


def _events(kind: str, count: int) -> str:
    return f"{kind} happened {'once' if count == 1 else f'{count} times'}"


def _others(load: float | None) -> str:
    return f"other programs used {load:.0%} of all cores" if load is not None and load > OTHER_LOAD else ""


def _held_back(clocks: Sequence[Reading]) -> Iterator[str]:
    """One sentence if even the fastest clock domain stayed below its clock: the others may have been idle.

    Nothing if one can't be read, because that may be the fastest.
    """
    known = [(r.after / r.limit, r) for r in clocks if r.after is not None and r.limit is not None]
    if known and not any(r.after is None for r in clocks):
        share, best = max(known, key=lambda pair: pair[0])
        if share < REACHED:
            yield f"{best.sensor} ran at {best.after:.0f} of {best.limit:.0f} MHz under load"


def _unread(what: str, readings: Sequence[Reading]) -> Iterator[str]:
    if not readings:
        yield f"nothing here tells a {what}"
    yield from (f"the {what} {r.sensor} can't be read" for r in readings if r.before is None or r.after is None)


def _throttled(before: Snapshot, after: Snapshot) -> Iterator[tuple[str, int | None]]:
    """Events between the snapshots by kind; ``None`` if that is unknown."""
    for kind in {**before.counts, **after.counts}:
        first, last = before.counts.get(kind), after.counts.get(kind)
        yield kind, None if first is None or last is None or last < first else last - first
    for kind in {**before.flags, **after.flags}:
        one, other = before.flags.get(kind), after.flags.get(kind)
        if one is None or other is None:
            yield kind, None
        elif one[0] or other[0] or (other[1] and not one[1]):
            yield kind, 1
        else:  # a flag that was set before stays set until the machine restarts, and hides later events
            yield kind, None if one[1] else 0


def _unknown_throttling(throttled: Mapping[str, int | None], before: Snapshot) -> Iterator[str]:
    if not throttled:
        yield "nothing here tells of throttling"
    for kind, count in throttled.items():
        if count is None:
            flag = before.flags.get(kind)
            since = "happened before, and its flag stays up until the board restarts" if flag and flag[1] else ""
            yield f"{kind}: {since}" if since else f"{kind} can't be read"


def _unknown_modes(after: Snapshot) -> Iterator[str]:
    yield from (f"the governor of {name} can't be read" for name, word in after.governors.items() if word is None)
    if after.needs_power_mode and after.power_mode is None:
        yield "the power mode can't be read"


def _modes(look: Snapshot) -> tuple[object, object]:
    return dict(look.governors), look.power_mode


def _other_load(before: Snapshot, after: Snapshot) -> float | None:
    """The share of all cores' time that was used by anything but the timed process."""
    looks = (before.busy, after.busy, before.there, after.there, before.own, after.own)
    if any(value is None for value in looks):
        return None
    busy, there, own = (b - a for a, b in zip(looks[::2], looks[1::2]) if a is not None and b is not None)
    if there <= 0 or busy < 0 or own < 0:
        return None
    return min(1.0, max(0.0, (busy - own) / there))
