"""Several artifacts on one emulated board, in parallel on all cores: nothing here is timed."""

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

#: The most artifacts in parallel: each is a process with an engine, about 300 MiB.
AT_ONCE = 8


def records(bundle: Bundle, targets: Sequence[str]) -> list[ArtifactRecord]:
    """Check the integrity of ``bundle``; returns its artifacts (of ``targets``, if given).

    Raises :class:`RefusedError` if a byte isn't as recorded, :class:`UsageError` for a target that isn't there.
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
    """The result of ``work`` for each artifact, in order, or its error; ``said`` describes a result for the progress.

    Raises :class:`UsageError` if the profile of the board, and not an artifact, is wrong.
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
