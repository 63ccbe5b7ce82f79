"""Counts the instructions of an inference on an emulated board: a cost without noise, but not a latency."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.boards.emulate import guest, kernels, plugin, tools
from ulsam_deploy.boards.emulate.guest import FIRST, LOAD, STEADY
from ulsam_deploy.boards.emulate.machine import EmulatedMachine, emulated
from ulsam_deploy.boards.emulate.several import each, records
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle
from ulsam_deploy.device.errors import Exit, UlsamError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.profiles import device
from ulsam_deploy.device.progress import Progress

__all__ = ["NOTE", "Counted", "Counts", "Phase", "count_bundle"]

NOTE = (
    "Executed instructions under emulation: a count, not a latency. There are no caches, no stalls and no clock in it; "
    "it compares artifacts on one processor model, and the same artifact gives the same count again, to ten or so."
)


@dataclass(frozen=True)
class Phase:
    """Instructions of one phase, in total and by ``plugin.CLASSES`` (32-bit code is not classified)."""

    instructions: int
    classes: Mapping[str, int]


@dataclass(frozen=True)
class Counts:
    """The cost of one artifact on a board. ``inference`` is the median of ``runs`` after the first, of one ``batch``.

    ``over`` says which budgets of the device profile it exceeds, as text; empty: none.
    """

    core: str
    batch: int
    load: Phase
    first: Phase
    inference: Phase
    runs: tuple[int, ...]
    kernels: tuple[kernels.Kernel, ...]
    engine: EngineFacts
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counted:
    """One artifact of a bundle with its counts; ``error`` says why it could not be run."""

    record: ArtifactRecord
    counts: Counts | None
    error: UlsamError | None = None

    @property
    def exit_code(self) -> Exit:
        """What this artifact contributes to the exit code."""
        if self.error is not None:
            return self.error.exit_code
        return Exit.CHECK_FAILED if self.counts and self.counts.over else Exit.OK


def count_bundle(
    bundle: Bundle, board: str, targets: Sequence[str] = (), progress: Progress | None = None
) -> list[Counted]:
    """Count instructions of loading, the first and a further inference of every artifact (of ``targets``) on ``board``.

    One thread, the first probes of the golden set; counted region: the engine's run with inputs and outputs as arrays.
    Errors as of :func:`~ulsam_deploy.boards.emulate.verify_bundle`; :class:`UnavailableError` also if the plugin can't
    be compiled or used.
    """
    wanted = records(bundle, targets)
    with emulated(board, progress or Progress(quiet=True)) as machine:
        qemu = tools.qemu(machine.profile.machine)
        library = plugin.compiled(qemu)

        def one(record: ArtifactRecord) -> Counts:
            chosen = guest.Chosen(bundle.root, record.target, record.precision)
            _settle(machine, chosen)
            with tempfile.TemporaryDirectory(prefix="ulsam-deploy-") as scratch:
                output = Path(scratch, "counts")
                answer = machine.run(guest.count, chosen, plugin=plugin.arguments(library, qemu, output))
                return _counts(machine, record, plugin.read_tally(output.read_text()), answer)

        done = each(machine, wanted, one, progress, lambda counts: f"{counts.inference.instructions / 1e6:.1f} M")
    return [Counted(record, counts, error) for record, counts, error in done]


def _settle(machine: EmulatedMachine, chosen: guest.Chosen) -> None:
    """Run once uncounted if Python's compiled files aren't there yet: compiling changes heap and counts."""
    settled = machine.sysroot.pycache / f"{machine.runner.name}-{chosen.target}.settled"
    if not settled.exists():
        machine.run(guest.count, chosen)
        settled.touch()


def _counts(machine: EmulatedMachine, record: ArtifactRecord, tally: plugin.Tally, answer: guest.CountedRun) -> Counts:
    runs = tally.phases[STEADY]
    typical = sorted(runs)[len(runs) // 2]
    return Counts(
        core=machine.profile.core,
        batch=answer.batch,
        load=_phase(tally.phases[LOAD][0]),
        first=_phase(tally.phases[FIRST][0]),
        inference=_phase(typical),
        runs=tuple(run[0] for run in runs),
        kernels=kernels.costs(tally.places, answer.maps, len(runs)),
        engine=answer.engine,
        over=_over(machine.board, record, typical[0]),
    )


def _phase(totals: Sequence[int]) -> Phase:
    return Phase(totals[0], dict(zip(plugin.CLASSES[1:], totals[1:])))


def _over(board: str, record: ArtifactRecord, instructions: int) -> tuple[str, ...]:
    """The budgets of the profile that are exceeded."""
    budget = device(board).budget
    megabytes, millions = sum(file.size for file in record.files) / 1e6, instructions / 1e6
    limits = [
        (budget.size_mb, megabytes, "MB"),
        (budget.instructions_m, millions, "million instructions an inference"),
    ]
    return tuple(
        f"{found:.2f} {unit}; the budget of {board} is {limit:g}"
        for limit, found, unit in limits
        if limit is not None and found > limit
    )
