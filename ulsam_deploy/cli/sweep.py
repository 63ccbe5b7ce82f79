"""``ulsam-deploy sweep``: the command around :mod:`ulsam_deploy.sweep`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.device.commands.answer import Answer, Table
from ulsam_deploy.device.commands.arguments import add_ci_options, value
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UsageError

if TYPE_CHECKING:
    from ulsam_deploy.cli.documents import SweepDocument
    from ulsam_deploy.device.bundle.kinds import Kind
    from ulsam_deploy.sweep.plan import Sweep
    from ulsam_deploy.sweep.results import Row

HELP = "do many exports as one table, on this machine or on a Dask cluster"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("sweep", type=Path, metavar="SWEEP.toml", help="what to do; see docs/sweep.md")
    words.add(
        "-o",
        "--output",
        default="",
        metavar="DIR|URL",
        help="folder for the results (default: what the file states, or next to it)",
    )
    where = parser.one_of()
    where.add("--workers", type=value(_count), metavar="N", help="local processes (default: cores and memory)")
    where.add("--scheduler", default="", metavar="ADDRESS", help="a Dask cluster's, such as tcp://host:8786")
    words.add("--dry-run", action="store_true", help="print what would be done, and do nothing")
    add_ci_options(words)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"'{text}' is not a number of workers", expected="a positive number")
    return int(text)


def run(arguments: argparse.Namespace) -> Answer:
    """Plan, do what is not done yet, and write the table next to the results."""
    from ulsam_deploy.device.commands.ci import check_places, handover
    from ulsam_deploy.device.progress import Progress
    from ulsam_deploy.exporting.workers import local_workers
    from ulsam_deploy.sweep import executors, plan, results
    from ulsam_deploy.sweep.running import Run

    sweep = plan.read(arguments.sweep, arguments.output)
    if arguments.dry_run:
        check_places(arguments)
        return _planned(sweep)
    _check(sweep, force=arguments.force)
    with handover(arguments, arguments.sweep, title=sweep.title) as told:
        doing = Run(sweep, Progress(beat=not arguments.json))
        workers = local_workers(arguments.workers, sweep.memory)
        with executors.executor(arguments.scheduler, workers, sweep.memory) as executor:
            doing.go(executor)
        rows = doing.rows()
        told.columns, told.rows = results.COLUMNS, [row.cells() for row in rows]
        told.sentence, told.checks = results.sentence(rows, doing.found), results.checks(rows)
        document = _document(sweep, rows)
        _leave(sweep, rows, doing.found, document)
    reasons = [
        f"{' '.join(cell for cell in row.cells()[:5] if cell != '-')}: {reason}"
        for row in rows
        for reason in row.reasons
    ]
    ending = ["", told.sentence, f"The report is {sweep.output}/report.md"]
    return Answer(document, [Table(told.columns, told.rows), *reasons, *ending], results.exit_code(rows))


def _reports() -> dict[str, Kind]:
    """The report in two forms, by name."""
    from ulsam_deploy.device.bundle.kinds import MARKDOWN, SWEEP

    return {"report.md": MARKDOWN, "report.json": SWEEP}


def _check(sweep: Sweep, *, force: bool) -> None:
    """Raise :class:`UsageError` before any work if the reports can't be written."""
    from ulsam_deploy.device import codec
    from ulsam_deploy.device.bundle.output import check_folder
    from ulsam_deploy.sweep.store import Store, is_url

    if len(sweep.cells) > codec.MAX_ITEMS:
        raise UsageError(f"{len(sweep.cells)} cells are too many", expected=f"at most {codec.MAX_ITEMS} in one sweep")
    if not is_url(sweep.output):
        place = Path(sweep.output).resolve()
        nearest = next(folder for folder in (place, *place.parents) if folder.is_dir())
        check_folder(nearest, f"'{sweep.output}'", todo="choose another folder with --output")
    store = Store(sweep.output)
    for name, kind in _reports().items():
        store.check(name, kind, force=force)


def _document(sweep: Sweep, rows: Sequence[Row]) -> SweepDocument:
    from ulsam_deploy.cli.documents import SweepDocument, SweptCell
    from ulsam_deploy.sweep.results import exit_code

    cells = [
        SweptCell(
            key=row.result.key,
            found=row.result.found,
            run=row.result.run,
            attempts=row.attempts,
            bundle=row.bundle if row.result.found.files else None,
        )
        for row in rows
    ]
    return SweepDocument(sweep.title, tuple(cells), int(exit_code(rows)))


def _leave(sweep: Sweep, rows: Sequence[Row], found: int, document: SweepDocument) -> None:
    """Write the report next to the results."""
    from ulsam_deploy.device import codec
    from ulsam_deploy.sweep import results
    from ulsam_deploy.sweep.store import Store

    store = Store(sweep.output)
    store.write("report.md", results.as_markdown(sweep.title, rows, found).encode())
    store.write("report.json", codec.dumps(codec.encode(document, document.schema)).encode())


def _planned(sweep: Sweep) -> Answer:
    from ulsam_deploy.cli.documents import PlannedCell, SweepPlanDocument
    from ulsam_deploy.sweep.store import Store
    from ulsam_deploy.sweep.work import result_of

    store = Store(sweep.output)
    cells = tuple(PlannedCell(one.key, one.words, result_of(store, one.key) is not None) for one in sweep.cells)
    left = sum(not one.done for one in cells)
    text = [f"{one.cell}{': done already' if one.done else ''}" for one in cells]
    text += ["", f"{len(cells)} cells, {left} to be done"]
    return Answer(SweepPlanDocument(sweep.output, cells), text)
