"""Several artifacts on one emulated board, as many at once as there are cores: nothing here is timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ulsam_deploy.boards.emulate.machine import EmulatedMachine
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle
from ulsam_deploy.device.errors import UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.progress import Progress

__all__ = ["each", "records"]

T = TypeVar("T")

#: Each is a process with an engine in it, some 300 MiB.
AT_ONCE = 8


def records(bundle: Bundle, targets: Sequence[str]) -> list[ArtifactRecord]:
    """The artifacts of ``bundle`` (for ``targets``, where given), after its integrity was checked.

    Raises :class:`RefusedError` for a byte that isn't as recorded, :class:`UsageError` for a target that isn't there.
    """
    bundle.verify_integrity()
    return list(bundle.chosen(targets))


def each(
    machine: EmulatedMachine,
    wanted: Sequence[ArtifactRecord],
    work: Callable[[ArtifactRecord], T],
    progress: Progress | None,
    said: Callable[[T], str],
) -> list[tuple[ArtifactRecord, T | None, UlsamError | None]]:
    """What ``work`` makes of each artifact, in their order, or the error that it ended with; ``said`` tells of one.

    Raises :class:`UsageError` for what is wrong with the board and not with an artifact: its profile.
    """

    def one(record: ArtifactRecord) -> tuple[ArtifactRecord, T | None, UlsamError | None]:
        if record.target not in machine.targets:
            found = f"the profile of {machine.board} has no engine for '{record.target}'"
            return record, None, UnavailableError(found, expected=", ".join(machine.targets))
        try:
            return record, work(record), None
        except UsageError:
            raise
        except UlsamError as error:
            return record, None, error

    with (progress or Progress(quiet=True)).stage(machine.board) as notes:
        with ThreadPoolExecutor(min(AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
            done = list(pool.map(one, wanted))
        notes.append(f"an emulated {machine.profile.core}")
        notes += [
            f"{record.target} {record.precision} {'failed' if made is None else said(made)}" for record, made, _ in done
        ]
    return done
