"""Counts the instructions of an inference on an emulated board: a cost without noise, and not a latency."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulsam_deploy.bundle import ArtifactRecord, Bundle
from ulsam_deploy.devices import device
from ulsam_deploy.emulate import plugin, tools
from ulsam_deploy.emulate.elf import Elf
from ulsam_deploy.emulate.guest import FIRST, LOAD, STEADY
from ulsam_deploy.emulate.machine import Machine, emulated
from ulsam_deploy.errors import UnavailableError
from ulsam_deploy.progress import Progress

__all__ = ["NOTE", "Counts", "Kernel", "Phase", "count", "counted"]

NOTE = (
    "Executed instructions under emulation: a count, not a latency. It has no caches, no stalls and no clock; it is "
    "for comparing two artifacts on one processor model."
)
#: Kernels that are told apart; the rest is one line.
TOP = 12


@dataclass(frozen=True)
class Phase:
    """Instructions of one phase, whole and by class (``load/store``, ``branch``, ...; a class of 32-bit code is 0)."""

    instructions: int
    classes: Mapping[str, int]


@dataclass(frozen=True)
class Kernel:
    """A function of the engine with the instructions it spends in one inference; ``name`` is empty for the rest."""

    name: str
    library: str
    instructions: int


@dataclass(frozen=True)
class Counts:
    """What one artifact costs on a board. ``inference`` is the median of ``runs`` after the first, of one batch.

    ``over`` says which budget of the device profile it exceeds, in words; empty: none.
    """

    target: str
    precision: str
    board: str
    core: str
    batch: int
    load: Phase
    first: Phase
    inference: Phase
    runs: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    engine: Mapping[str, Any]
    over: tuple[str, ...] = ()
    note: str = NOTE


def count(bundle: Bundle, record: ArtifactRecord, board: str, progress: Progress | None = None) -> Counts:
    """Count what loading, the first and one further inference of an artifact of ``bundle`` execute on ``board``.

    The bundle's integrity is checked first. One thread, the first probes of the golden set; timed region: the engine's
    run with inputs and outputs as arrays. Raises as :func:`~ulsam_deploy.emulate.verify_bundle` does, and
    :class:`UnavailableError` where the plugin can't be compiled or used.
    """
    bundle.verify_integrity()
    with emulated(board, progress or Progress(quiet=True)) as machine:
        return counted(machine, bundle, record)


def counted(machine: Machine, bundle: Bundle, record: ArtifactRecord) -> Counts:
    """As :func:`count`, on a machine that is ready."""
    if record.target not in machine.targets:
        raise UnavailableError(
            f"the profile of {machine.board} has no engine for '{record.target}'", expected=", ".join(machine.targets)
        )
    qemu = tools.qemu(machine.profile.machine)
    with tempfile.TemporaryDirectory(prefix="ulsam-deploy-") as scratch:
        output = Path(scratch, "counts")
        words = plugin.arguments(plugin.compiled(qemu), qemu, output)
        answer = machine.run(["count", bundle.root, record.target, record.precision], plugin=words)
        tally = plugin.read_tally(output.read_text())
    runs = sorted(tally.phases[STEADY])
    typical = runs[len(runs) // 2]
    return Counts(
        target=record.target,
        precision=record.precision,
        board=machine.board,
        core=machine.profile.core,
        batch=answer["batch"],
        load=_phase(tally.phases[LOAD][0]),
        first=_phase(tally.phases[FIRST][0]),
        inference=_phase(typical),
        runs=tuple(run[0] for run in tally.phases[STEADY]),
        kernels=_kernels(tally.places, answer["maps"], len(runs)),
        engine=answer["engine"],
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


def _kernels(places: Mapping[int, int], maps: Sequence[Sequence[Any]], runs: int) -> tuple[Kernel, ...]:
    """Instructions an inference by function, the largest first, everything beyond :data:`TOP` in one."""
    libraries: dict[str, Elf] = {}
    spent: Counter[tuple[str, str]] = Counter()
    for address, instructions in places.items():
        spent[_place(address, maps, libraries)] += instructions
    top = spent.most_common(TOP)
    rest = sum(spent.values()) - sum(instructions for _, instructions in top)
    names = _readable([name for (_, name), _ in top])
    kernels = [Kernel(name, library, n // runs) for name, ((library, _), n) in zip(names, top)]
    return (*kernels, Kernel("", "", rest // runs)) if rest else tuple(kernels)


def _place(address: int, maps: Sequence[Sequence[Any]], libraries: dict[str, Elf]) -> tuple[str, str]:
    """Library and function at an address of the emulated program."""
    for start, end, offset, file in maps:
        if start <= address < end:
            if file not in libraries:
                libraries[file] = Elf(Path(file))
            virtual = libraries[file].address(address - start + offset)
            return Path(file).name, (libraries[file].function(virtual) if virtual is not None else "")
    return "", ""


def _readable(names: list[str]) -> list[str]:
    """C++ names as people write them, where the host has ``c++filt``; a function without a name says so."""
    program = shutil.which("c++filt")
    if program and names:
        said = subprocess.run([program, "-p"], input="\n".join(names), capture_output=True, text=True).stdout
        names = said.splitlines() if len(said.splitlines()) == len(names) else names
    return [name or "(no symbol)" for name in names]
