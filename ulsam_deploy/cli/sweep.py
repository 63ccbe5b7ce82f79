"""``ulsam-deploy sweep``: the command around :mod:`ulsam_deploy.sweep`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ulsam_deploy.device.bundle.kinds import MARKDOWN, SWEEP
from ulsam_deploy.device.bundle.output import check_folder
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.ci import check_places, handover
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.workers import local_workers
from ulsam_deploy.sweep import executors, plan, results
from ulsam_deploy.sweep.plan import Sweep
from ulsam_deploy.sweep.results import Row
from ulsam_deploy.sweep.running import Run
from ulsam_deploy.sweep.store import Store, is_url
from ulsam_deploy.sweep.work import result_of


def run(arguments: argparse.Namespace) -> Exit:
    """Plan, do what is left, print the table and leave it beside the results."""
    sweep = plan.read(arguments.sweep, arguments.output)
    if arguments.dry_run:
        check_places(arguments)
        return _dry_run(sweep, arguments.json)
    _check(sweep, force=arguments.force)
    with handover(arguments, sweep.title) as told:
        doing = Run(sweep, Progress(beat=not arguments.json))
        workers = local_workers(arguments.workers, sweep.memory)
        with executors.executor(arguments.scheduler, workers, sweep.memory) as executor:
            doing.go(executor)
        rows = doing.rows()
        told.columns, told.rows = results.COLUMNS, [row.cells() for row in rows]
        told.sentence, told.checks = results.sentence(rows, doing.found), results.checks(rows)
        _leave(sweep, rows, doing.found)
    code = results.exit_code(rows)
    if arguments.json:
        words.print_json("sweep", {**results.as_json(sweep.title, rows), "exit_code": int(code)})
        return code
    words.print_table(told.columns, told.rows)
    for row in rows:
        for reason in row.reasons:
            say(f"{' '.join(cell for cell in row.cells()[:5] if cell != '-')}: {reason}")
    say("", told.sentence, f"The report is {sweep.output}/report.md")
    return code


#: The report in two forms, by name.
_REPORTS = {"report.md": MARKDOWN, "report.json": SWEEP}


def _check(sweep: Sweep, *, force: bool) -> None:
    """Raise :class:`UsageError` before any cell is done for a place that its reports can't go to."""
    if not is_url(sweep.output):
        place = Path(sweep.output).resolve()
        nearest = next(folder for folder in (place, *place.parents) if folder.is_dir())
        check_folder(nearest, f"'{sweep.output}'", todo="choose another folder with --output")
    store = Store(sweep.output)
    for name, kind in _REPORTS.items():
        store.check(name, kind, force=force)


def _leave(sweep: Sweep, rows: Sequence[Row], found: int) -> None:
    """The report, beside the results."""
    store = Store(sweep.output)
    store.write("report.md", results.as_markdown(sweep.title, rows, found).encode())
    document = {"schema": "ulsam-deploy.sweep/1", **results.as_json(sweep.title, rows)}
    store.write("report.json", (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def _dry_run(sweep: Sweep, as_json: bool) -> Exit:
    store = Store(sweep.output)
    done = [result_of(store, cell.key) is not None for cell in sweep.cells]
    if as_json:
        cells = [{"key": cell.key, "cell": cell.words, "done": is_done} for cell, is_done in zip(sweep.cells, done)]
        words.print_json("sweep-plan", {"output": sweep.output, "cells": cells})
        return Exit.OK
    for cell, is_done in zip(sweep.cells, done):
        say(f"{cell.words}{': done already' if is_done else ''}")
    left = len(done) - sum(done)
    say("", f"{len(done)} cells, {left} to be done")
    return Exit.OK
