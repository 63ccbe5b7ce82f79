"""Hands out what is not done yet, tells what comes in, and goes on whatever fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from typing import Any

from ulsam_deploy.device.errors import Exit, UlsamError
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.sweep.accuracy import HitCounts
from ulsam_deploy.sweep.plan import Cell, Shard, Sweep
from ulsam_deploy.sweep.results import Row
from ulsam_deploy.sweep.store import Store
from ulsam_deploy.sweep.work import BUNDLE, CellResult, do_cell, do_shard, lost, result_of


@dataclass(frozen=True)
class _Task:
    """A cell to be made (``shard`` is ``None``), or one shard of the labelled set to run its artifact on."""

    number: int
    cell: Cell
    shard: Shard | None = None


class Run:
    """One run of ``sweep``; :meth:`rows` is the table, in the order of the cells."""

    def __init__(self, sweep: Sweep, progress: Progress) -> None:
        self.sweep, self._progress = sweep, progress
        self._store = Store(sweep.output)
        self._results: dict[int, CellResult] = {}
        self._counts: dict[int, dict[str, HitCounts]] = {}
        self._troubles: dict[int, str] = {}
        self._started, self._made = time.perf_counter(), 0
        self.found = 0  # so many cells were done before this run

    def go(self, executor: Executor) -> None:
        """Do everything that is left."""
        waiting: dict[Future[Any], _Task] = {}
        for task in self._to_make():
            waiting[executor.submit(do_cell, task.cell, self.sweep.output)] = task
        for number in self._results:
            self._hand_out(executor, waiting, number)
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                task = waiting.pop(future)
                if task.shard is None:
                    self._take_result(task, future)
                    self._hand_out(executor, waiting, task.number)
                else:
                    self._take_counts(task, future)

    def _to_make(self) -> Iterator[_Task]:
        for number, cell in enumerate(self.sweep.cells):
            if done := result_of(self._store, cell.key):
                self._results[number] = done
            else:
                yield _Task(number, cell)
        self.found = len(self._results)
        if self.found:
            self._progress.say(f"{self.found} of {len(self.sweep.cells)} cells are done already")

    def _hand_out(self, executor: Executor, waiting: dict[Future[object], _Task], number: int) -> None:
        """The shards for a cell that is made."""
        cell = self.sweep.cells[number]
        if not self._results[number].found["files"]:
            return
        for shard in self.sweep.shards:
            waiting[executor.submit(do_shard, cell.key, shard, self.sweep.output)] = _Task(number, cell, shard)

    def _take_result(self, task: _Task, future: Future[Any]) -> None:
        try:
            result = future.result()
        except (Exception, CancelledError) as error:  # the worker's death, in the executor's own words
            result = lost(task.cell, error)
        self._results[task.number] = result
        self._made += 1
        done, total = len(self._results), len(self.sweep.cells)
        left = (time.perf_counter() - self._started) / self._made * (total - done)
        said = (
            result.found["verdict"] if result.code in (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE) else "no result"
        )
        self._progress.say(
            f"[{done}/{total}] {task.cell.words}: {result.found['tier']}, {said} "
            f"({result.run['seconds']:.1f} s on {result.run['worker']}; about {left / 60:.0f} min left)"
        )

    def _take_counts(self, task: _Task, future: Future[Any]) -> None:
        assert task.shard
        try:
            self._counts.setdefault(task.number, {})[task.shard.sha256] = future.result()
        except (Exception, CancelledError) as error:
            found = error.found if isinstance(error, UlsamError) else f"{type(error).__name__}: {error}"
            self._troubles.setdefault(task.number, f"{task.shard.place}: {found}")

    def rows(self) -> list[Row]:
        """The table; a cell without a result has none yet."""
        return [
            Row(
                self._results[number],
                sum(self._counts.get(number, {}).values(), HitCounts()) if self.sweep.shards else None,
                self._troubles.get(number, ""),
                len(self._store.names(f"cells/{cell.key}/attempts")),
                f"cells/{cell.key}/{BUNDLE}",
            )
            for number, cell in enumerate(self.sweep.cells)
        ]
