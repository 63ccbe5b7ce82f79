"""Times several artifacts in turns: fresh processes, A B B A, the machine watched around each, energy at the end.

Standard library and numpy only; device-safe. Each round gives every artifact one process, and every other round is in
reverse order, so that a steady drift (a warming board) affects all artifacts equally.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ulsam_deploy.device.bench import power
from ulsam_deploy.device.bench.board import Board
from ulsam_deploy.device.bench.process import FreshProcess, Subject
from ulsam_deploy.device.bench.profiles import Profile
from ulsam_deploy.device.bench.result import Energy, Measured, Process
from ulsam_deploy.device.bench.statistics import percentile, summarize
from ulsam_deploy.device.bench.watch import judge, snapshot, worst
from ulsam_deploy.device.bench.worker import TIMED
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import EngineFacts

__all__ = ["Plan", "TimedSubject", "order", "take_turns"]


@dataclass(frozen=True)
class Plan:
    """How to measure: see :class:`~ulsam_deploy.device.bench.result.Settings`."""

    profile: Profile
    threads: int | None = None
    cpus: tuple[int, ...] = ()


@dataclass
class TimedSubject:
    """One subject while it is timed; ``error`` says why it was abandoned."""

    subject: Subject
    facts: EngineFacts | None = None
    processes: list[Process] = field(default_factory=list)
    energy: Energy | None = None
    error: UlsamError | None = None

    def measured(self) -> Measured:
        """Its figures over all processes, of which there is at least one."""
        assert self.facts is not None
        times = np.concatenate([process.times() for process in self.processes])
        memory = [process.peak_rss for process in self.processes]
        known = [peak for peak in memory if peak is not None]
        return Measured(
            target=self.subject.target,
            precision=self.subject.precision,
            sha256=self.subject.sha256,
            size=self.subject.size,
            batch=self.subject.batch,
            timed=TIMED,
            engine=self.facts,
            latency=summarize(times),
            throughput=self.subject.batch / (float(times.mean()) / 1e9),
            load_ms=percentile([process.load_ms for process in self.processes], 0.5),
            first_ms=percentile([process.first_ms for process in self.processes], 0.5),
            peak_rss=max(known) if len(known) == len(memory) else None,
            energy=self.energy,
            parity=self.subject.parity,
            condition=worst(process.watch.condition for process in self.processes),
            processes=tuple(self.processes),
        )


def order(count: int, rounds: int) -> Iterator[tuple[int, int, int]]:
    """``(round, position, which)`` of each process: forwards in even rounds, backwards in odd ones."""
    for turn in range(rounds):
        for position in range(count):
            yield turn, position, position if turn % 2 == 0 else count - 1 - position


def take_turns(
    subjects: Sequence[Subject], plan: Plan, board: Board, tell: Callable[[str], None] = lambda _: None
) -> list[TimedSubject]:
    """Time every subject; one whose process fails is abandoned, the others go on. ``tell`` reports each process."""
    timed = [TimedSubject(subject) for subject in subjects]
    meter = power.meter(board)
    idle = power.draw(meter, plan.profile.energy_seconds) if meter else None
    rounds = plan.profile.rounds
    for turn, position, which in order(len(subjects), rounds):
        each = timed[which]
        if each.error is None:
            name = f"{each.subject.model} {each.subject.label}"
            tell(f"round {turn + 1} of {rounds}: {name}\n")
            try:
                _one_process(each, turn, position, plan, board, (meter, idle) if turn == rounds - 1 else None)
            except UlsamError as error:
                each.error = error
    return timed


def _one_process(
    each: TimedSubject,
    turn: int,
    position: int,
    plan: Plan,
    board: Board,
    energy: tuple[power.Meter | None, power.Drawn | None] | None,
) -> None:
    profile = plan.profile
    with FreshProcess(
        each.subject,
        threads=plan.threads,
        cpus=plan.cpus,
        warmup=profile.warmup,
        warmup_seconds=profile.warmup_seconds,
    ) as process:
        ready = process.ready
        before = snapshot(board, process.pid, plan.cpus)
        taken = process.measure(profile.min_seconds / profile.rounds, math.ceil(profile.min_count / profile.rounds))
        after = snapshot(board, process.pid, plan.cpus)  # the network still runs
        process.rest()
        each.facts = ready.facts
        each.processes.append(
            Process(
                round=turn,
                position=position,
                load_ms=ready.load_ms,
                first_ms=ready.first_ms,
                peak_rss=taken.peak_rss,
                count=taken.count,
                samples=taken.samples,
                watch=judge(before, after, on_gpu=bool(ready.facts.gpu)),
            )
        )
        if energy and energy[0] and energy[1]:
            each.energy = _energy(process, energy[0], energy[1], profile.energy_seconds)


def _energy(process: FreshProcess, meter: power.Meter, idle: power.Drawn, seconds: float) -> Energy | None:
    """The energy of one call in excess of an idle machine; ``None`` if load doesn't differ from idling."""
    process.spin()
    time.sleep(min(0.5, seconds / 4))  # the sensors average over some time
    busy = power.draw(meter, seconds)
    ran = process.rest()
    if busy is None or busy.watts <= idle.watts or not ran.count:
        return None
    return Energy(
        sensor=meter.sensor,
        idle_watts=idle.watts,
        busy_watts=busy.watts,
        joules_per_inference=(busy.watts - idle.watts) * ran.seconds / ran.count,
        seconds=busy.seconds,
        readings=busy.readings,
    )
