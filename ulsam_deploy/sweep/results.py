"""A sweep's table: rows of text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.labelled import percent
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.errors import Exit, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.sweep.work import SETTLED, CellResult

COLUMNS = (
    *("checkpoint", "target", "precision", "input", "device", "evidence", "error", "retention", "top-1", "size"),
    *("p50", "seconds", "verdict"),
)


@dataclass(frozen=True)
class Row:
    """One cell: its result, how often it was started, and the location of its bundle."""

    result: CellResult
    attempts: int
    bundle: str

    @property
    def verdict(self) -> Verdict:
        """The verdict of the cell; one without a result has failed."""
        if self.result.code not in SETTLED:
            return Verdict.UNVERIFIED if self.result.code is Exit.UNAVAILABLE else Verdict.FAIL
        return self.result.found.verdict

    @property
    def code(self) -> Exit:
        """What the cell contributes to the exit code; a usage error concerns this cell only, not the command line."""
        return Exit.EXPORT_FAILED if self.result.code is Exit.USAGE else self.result.code

    @property
    def reasons(self) -> list[str]:
        """What a reader must know in addition to the figures."""
        return list(self.result.found.reasons)

    def cells(self) -> tuple[str, ...]:
        """The row as text, by :data:`COLUMNS`."""
        found, run = self.result.found, self.result.run
        right = run.accuracy
        return (
            found.checkpoint,
            found.target,
            found.precision,
            found.input or "-",
            found.device or "-",
            found.level.label,
            "-" if run.error is None else f"{run.error:.2f}x noise",
            "-" if run.retention is None else f"{run.retention:.2f}",
            percent(right.top1.value, right.top1.low, right.top1.high) if right else "-",
            f"{found.bytes / 1e6:.2f} MB" if found.bytes else "-",
            "-" if run.p50 is None else f"{run.p50:.2f} ms",
            f"{run.seconds:.1f}",
            self.verdict.value,
        )


def exit_code(rows: Sequence[Row]) -> Exit:
    """The exit code of the whole sweep."""
    return combine(row.code for row in rows)


def sentence(rows: Sequence[Row], found: int) -> str:
    """The sweep in one sentence; ``found`` cells were already done before."""
    verdicts = [row.verdict for row in rows]
    parts = [f"{verdicts.count(verdict)} {verdict.value}" for verdict in Verdict if verdict in verdicts]
    return f"{len(rows)} cells: {', '.join(parts)}" + (f"; {found} were done already" if found else "")


def checks(rows: Sequence[Row]) -> list[Check]:
    """One check for each cell, for JUnit and job summaries."""
    return [
        Check(" ".join(cell for cell in row.cells()[:5] if cell != "-"), "cell", row.verdict, "\n".join(row.reasons))
        for row in rows
    ]


def as_markdown(title: str, rows: Sequence[Row], found: int) -> str:
    """The report in Markdown, below 1 MiB."""
    return markdown(title, sentence(rows, found), COLUMNS, [row.cells() for row in rows], checks(rows))
