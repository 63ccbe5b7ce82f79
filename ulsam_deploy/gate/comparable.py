"""Whether figures of two builds mean the same: the reasons why they do not, as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ulsam_deploy.device.bench.result import Cause, Condition, Disturbance, Machine, Measured, Result
from ulsam_deploy.gate.build import ArtifactFigures, Build, Same

__all__ = ["disturbances", "in_turns", "obstacles", "obstacles_to"]

#: The kernel reserves a varying part of the memory; a larger difference means another board.
MEMORY = 0.05


def obstacles_to(
    same: Same, baseline: Build, current: Build, before: ArtifactFigures, after: ArtifactFigures, *, allow_unknown: bool
) -> list[str]:
    """Why the figures of ``before`` and ``after`` that need ``same`` cannot be compared; empty if they can.

    Where times are taken, the machine is the same for every other figure as well, or none can be compared.
    """
    if same is Same.NOTHING:
        return []
    old, new = before.under.get(same, {}), after.under.get(same, {})
    found = [
        f"The {name} differs: {old.get(name, '')!a} in the baseline, {new.get(name, '')!a} now."
        for name in {**old, **new}
        if old.get(name, "") != new.get(name, "")
    ]
    if not (baseline.result and current.result and before.measured and after.measured):
        return found
    if same is Same.TIME:
        times = (baseline.result, current.result, before.measured, after.measured)
        return [*found, *obstacles(*times, allow_unknown=allow_unknown)]
    pairs = list(_machine(baseline.result.machine, current.result.machine))
    if same is Same.MACHINE:
        pairs += _settings(baseline.result, current.result, before.measured, after.measured)
    return [*found, *_differences(pairs)]


def obstacles(
    baseline: Result, current: Result, before: Measured, after: Measured, *, allow_unknown: bool = False
) -> list[str]:
    """Why the times of two artifacts cannot be compared, as sentences; empty if they can.

    Load by other programs is no reason if they ran in turns: it affects both alike and widens the interval.
    """
    found = _differences(
        [
            *_machine(baseline.machine, current.machine),
            *_settings(baseline, current, before, after),
            ("power mode", _modes(before)[0], _modes(after)[0]),
            ("governor", _modes(before)[1], _modes(after)[1]),
        ]
    )
    load = not in_turns(baseline, current, before, after)
    for side, one in (("Baseline", before), ("Current", after)):
        found += [f"{side}: {text}" for text in disturbances(one, allow_unknown, load=load)]
    return found


def _differences(pairs: Iterable[tuple[str, object, object]]) -> list[str]:
    return [f"The {name} differs: {was!a} in the baseline, {now!a} now." for name, was, now in pairs if was != now]


def _settings(
    baseline: Result, current: Result, before: Measured, after: Measured
) -> Iterator[tuple[str, object, object]]:
    yield "number of threads", baseline.settings.threads, current.settings.threads
    yield "set of processors", baseline.settings.cpus, current.settings.cpus
    yield "batch", before.batch, after.batch
    yield "source of the inputs", baseline.settings.inputs, current.settings.inputs


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


def in_turns(baseline: Result, current: Result, before: Measured, after: Measured) -> bool:
    """Whether the two ran side by side, round by round."""
    rounds = [[process.round for process in one.processes] for one in (before, after)]
    return baseline.session == current.session and rounds[0] == rounds[1]


def disturbances(one: Measured, allow_unknown: bool, *, load: bool = True) -> list[str]:
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
