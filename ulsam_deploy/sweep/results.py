"""A sweep's table: rows of text, Markdown, JSON, and one HTML page that fetches nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy import report
from ulsam_deploy._version import __version__
from ulsam_deploy.device.bundle.kinds import GENERATOR
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands.markdown import markdown
from ulsam_deploy.device.errors import Exit, combine
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.sweep.accuracy import Tally
from ulsam_deploy.sweep.work import Result

COLUMNS = (
    *("checkpoint", "target", "precision", "input", "device", "evidence", "error", "liveness", "top-1", "size"),
    *("p50", "seconds", "verdict"),
)
_CSS = Path(report.__file__).parent / "templates" / "page.css"


@dataclass(frozen=True)
class Row:
    """One cell: its result, its accuracy (``None``: nobody asked), what stopped that, and how often it was begun."""

    result: Result
    accuracy: Tally | None
    trouble: str
    attempts: int
    bundle: str

    @property
    def verdict(self) -> Verdict:
        """Of the whole cell: one without a result failed."""
        if self.trouble or self.result.code not in (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE):
            return Verdict.UNVERIFIED if self.result.code is Exit.UNAVAILABLE and not self.trouble else Verdict.FAIL
        return self.result.found.verdict

    @property
    def code(self) -> Exit:
        """What it contributes to the exit code."""
        own = (
            Exit.EXPORT_FAILED if self.result.code is Exit.USAGE else self.result.code
        )  # of one cell, not of the words
        return combine([own, Exit.CHECK_FAILED if self.trouble else Exit.OK])

    @property
    def reasons(self) -> list[str]:
        """What a reader has to know besides the numbers."""
        return [*self.result.found.reasons, *([f"accuracy: {self.trouble}"] if self.trouble else [])]

    def cells(self) -> tuple[str, ...]:
        """The row as text, by :data:`COLUMNS`."""
        found, run = self.result.found, self.result.run
        top1 = "-"
        if self.accuracy and self.accuracy.samples:
            low, high = self.accuracy.interval()
            top1 = f"{100 * self.accuracy.top1 / self.accuracy.samples:.2f} % ({100 * low:.1f} to {100 * high:.1f})"
        return (
            found.checkpoint,
            found.target,
            found.precision,
            found.input or "-",
            found.device or "-",
            found.tier.label,
            "-" if run.error is None else f"{run.error:.2f} floors",
            "-" if run.liveness is None else f"{run.liveness:.2f}",
            top1,
            f"{found.bytes / 1e6:.2f} MB" if found.bytes else "-",
            "-" if run.p50 is None else f"{run.p50:.2f} ms",
            f"{run.seconds:.1f}",
            self.verdict.value,
        )


def exit_code(rows: Sequence[Row]) -> Exit:
    """The one exit code of the whole sweep."""
    return combine(row.code for row in rows)


def sentence(rows: Sequence[Row], found: int) -> str:
    """The sweep in one sentence; ``found`` cells were done before."""
    verdicts = [row.verdict for row in rows]
    parts = [f"{verdicts.count(verdict)} {verdict.value}" for verdict in Verdict if verdict in verdicts]
    return f"{len(rows)} cells: {', '.join(parts)}" + (f"; {found} were done already" if found else "")


def checks(rows: Sequence[Row]) -> list[Check]:
    """One check a cell, for JUnit and job summaries."""
    return [
        Check(" ".join(cell for cell in row.cells()[:5] if cell != "-"), "cell", row.verdict, "\n".join(row.reasons))
        for row in rows
    ]


def as_markdown(title: str, rows: Sequence[Row], found: int) -> str:
    """The report in Markdown, below 1 MiB."""
    return markdown(title, sentence(rows, found), COLUMNS, [row.cells() for row in rows], checks(rows))


def as_html(title: str, rows: Sequence[Row], found: int) -> str:
    """The report as one page."""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()[:-1]) + _verdict(row) + "</tr>"
        for row in rows
    )
    notes = "".join(
        f"<li><b>{html.escape(' '.join(row.cells()[:5]))}</b>: {html.escape(reason)}</li>"
        for row in rows
        for reason in row.reasons
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{GENERATOR} {__version__}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{html.escape(title)}: ulsam-deploy sweep</title>
<link rel="icon" href="data:,">
<style>{_CSS.read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1><p class="verdict">{html.escape(sentence(rows, found))}</p></header>
<main>
<div class="scroll" tabindex="0" role="region" aria-label="All cells"><table>
<caption>Every cell, in the order of the file</caption>
<thead><tr>{head}</tr></thead>
<tbody>{body}</tbody></table></div>
<ul>{notes}</ul>
</main>
</body>
</html>
"""


def _verdict(row: Row) -> str:
    return f'<td><span class="badge {row.verdict.value}">{row.verdict.value}</span></td>'
