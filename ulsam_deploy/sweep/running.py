"""Distributes the cells that are not done yet, reports each result, and continues after failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, as_completed

from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.workers import Pool
from ulsam_deploy.sweep.plan import Cell, Sweep
from ulsam_deploy.sweep.results import Row
from ulsam_deploy.sweep.store import Store
from ulsam_deploy.sweep.work import BUNDLE, SETTLED, CellResult, CellTask, do_cell, lost, result_of


class Run:
    """One run of ``sweep``; :meth:`rows` is the table, in the order of the cells."""

    def __init__(self, sweep: Sweep, progress: Progress) -> None:
        self.sweep, self._progress = sweep, progress
        self._store = Store(sweep.output)
        self._results: dict[int, CellResult] = {}
        self._started, self._made = time.perf_counter(), 0
        self.found = 0  # the number of cells that were done before this run

    def go(self, pool: Pool) -> None:
        """Do all cells that are not done yet."""
        output = self.sweep.output
        waiting = {pool.submit(do_cell, CellTask(cell, output)): number for number, cell in self._to_make()}
        for future in as_completed(waiting):
            self._take_result(waiting[future], future)

    def _to_make(self) -> Iterator[tuple[int, Cell]]:
        for number, cell in enumerate(self.sweep.cells):
            if done := result_of(self._store, cell.key):
                self._results[number] = done
            else:
                yield number, cell
        self.found = len(self._results)
        if self.found:
            self._progress.say(f"{self.found} of {len(self.sweep.cells)} cells are done already")

    def _take_result(self, number: int, future: Future[CellResult]) -> None:
        cell = self.sweep.cells[number]
        try:
            result = future.result()
        except (Exception, CancelledError) as error:  # the worker died; the pool's own error
            result = lost(cell, error)
        self._results[number] = result
        self._made += 1
        done, total = len(self._results), len(self.sweep.cells)
        left = (time.perf_counter() - self._started) / self._made * (total - done)
        said = result.found.verdict.value if result.code in SETTLED else "no result"
        self._progress.say(
            f"[{done}/{total}] {cell.words}: {result.found.level.label}, {said} "
            f"({result.run.seconds:.1f} s on {result.run.worker}; about {left / 60:.0f} min left)"
        )

    def rows(self) -> list[Row]:
        """The table; a cell that is not done has no result yet."""
        return [
            Row(
                self._results[number],
                len(self._store.names(f"cells/{cell.key}/attempts")),
                f"cells/{cell.key}/{BUNDLE}",
            )
            for number, cell in enumerate(self.sweep.cells)
        ]
