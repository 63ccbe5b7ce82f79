"""How results are shown in plain text: tables, sizes, and the rows that describe artifacts."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ulsam_deploy.device.bundle import ArtifactRecord, Evidence
from ulsam_deploy.device.commands.layout import TablePart, laid_out
from ulsam_deploy.device.findings import AttentionState, BlockCheck, Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.printing import say, shown
from ulsam_deploy.device.progress import terminal

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "unverified": "dim"}
_UNPROVEN = {
    Verdict.FAIL: "failed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.UNVERIFIED: "made and not executed here",
}
_OPEN = AttentionState.INCONCLUSIVE
ARTIFACT_COLUMNS = ("target", "artifact", "size", "evidence", "error", "retention", "p50", "verdict")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table: columns as wide as their widest cell, two spaces apart, a rule under the headings."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (columns, *rows)]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: with rich if it is installed and stdout is a terminal, otherwise as plain text.

    On a terminal the table is limited to its width; elsewhere lines have their full length, for other programs.
    """
    rows = [[shown(cell) for cell in row] for row in rows]
    console = terminal(sys.stdout)
    if not sys.stdout.isatty():
        say(*table(columns, rows).split("\n"))
        return
    width = shutil.get_terminal_size().columns
    drawn = laid_out(columns, rows, width, gap=3, frame=4)
    if console is None or any(sum(part.widths) + 3 * len(part.widths) + 1 > width for part in drawn):
        say(*"\n\n".join(_plain(part) for part in laid_out(columns, rows, width)).split("\n"))
        return
    for part in drawn:
        console.print(_drawn(part))


def _plain(part: TablePart) -> str:
    """A part of a table; further lines of a cell are rows in which other cells are empty."""
    rows = [cells for row in part.rows for cells in itertools.zip_longest(*row, fillvalue="")]
    return table(part.columns, rows)


def _drawn(part: TablePart) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*part.columns, box=box.ROUNDED, header_style="bold")
    for row in part.rows:
        drawn.add_row(*(Text("\n".join(cell), style=_STYLES.get(cell[0], ""), no_wrap=True) for cell in row))
    return drawn


def next_step(command: Sequence[object], why: str = "", *, on_host: bool = False) -> list[str]:
    """The last line of a command's output: the exact command to type next; ``why`` is a line before it."""
    return [*([f"{why}:"] if why else []), f"Next:   {typed(*command, on_host=on_host)}"]


def proven(evidence: Sequence[Evidence]) -> str:
    """One sentence: how many artifacts hold, and the lowest evidence level among them."""
    if not evidence:
        return "nothing: there is no artifact"
    verdicts = [item.verdict for item in evidence]
    held = [item for item in evidence if item.verdict is Verdict.PASS]
    parts = []
    if held:
        least = min(item.level for item in held)
        blocks = {block.block for item in held if item.parity for block in item.parity.blocks}
        alive = f", all {len(blocks)} attention blocks kept" if blocks else ""
        gates = [gate for item in held if item.parity for gate in item.parity.gates]
        kept = sum(gate.state is AttentionState.KEPT for gate in gates)
        alive += f", {kept} of {len(gates)} attention gates seen to be kept" if gates else ""
        parts.append(f"{len(held)} of {len(evidence)} artifacts equal the PyTorch model ({least.label}){alive}")
    for verdict, what in _UNPROVEN.items():
        if verdict in verdicts:
            parts.append(f"{verdicts.count(verdict)} {what}")
    return "; ".join(parts)


def size(count: float) -> str:
    """A number of bytes as readable text."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def artifact_row(record: ArtifactRecord, evidence: Evidence) -> tuple[str, ...]:
    """One row of a results table, for an artifact of a bundle."""
    return evidence_row(record.target, record.files[0].path, sum(file.size for file in record.files), evidence)


def further_rows(target: str, file: str, evidence: Evidence) -> list[tuple[str, ...]]:
    """The rows below that of an artifact: the engine's defaults, if they compute otherwise, and other interpreters."""
    found = []
    if plain := evidence.plain:
        found.append((f"{file} by the engine's defaults: {plain.precision}", plain.error, plain.verdict))
    found += [(f"{file} by {row.title}", row.error, row.verdict) for row in evidence.interpreters if row.probes]
    return [
        (
            target,
            name,
            "",
            evidence.level.label,
            "far off" if error is None else f"{error:.2f}x noise",
            "-",
            "-",
            verdict.value,
        )
        for name, error, verdict in found
    ]


def further_words(subject: str, evidence: Evidence) -> list[str]:
    """What has to be known about :func:`further_rows`, and which interpreters have none, and why."""
    found = []
    if plain := evidence.plain:
        agreed = plain.agreement
        off = f", off by {agreed.deviation:.2g} of the variation between inputs" if agreed and agreed.deviation else ""
        computes = f"its engine computes in {plain.precision} on this machine"
        meant = "The verdict is that of the artifact's own precision, which has to be asked for"
        found.append(f"{subject}: opened without options, {computes}{off}. {meant}.")
    found += [f"{subject}: not run by {row.name}: {row.note}" for row in evidence.interpreters if not row.probes]
    return found


def _gates(gates: Sequence[BlockCheck]) -> list[str]:
    """The retention of watched gates in one cell: networks may have many."""
    known = [gate.retention for gate in gates if gate.retention is not None and gate.state is not _OPEN]
    if not gates:
        return []
    low, high = (f"{end(known):.2f}" if known else "" for end in (min, max))
    span = low if low == high else f"{low} to {high}"
    open_ = f"{len(gates) - len(known)} of {len(gates)} open" if len(known) < len(gates) else ""
    return [f"gates {', '.join(filter(None, [span, open_]))}"]


def evidence_row(target: str, name: str, count: int, evidence: Evidence) -> tuple[str, ...]:
    """One row of a results table; size ``count`` in bytes, error in noise floors, retention per block, p50 of a run."""
    parity = evidence.parity
    errors = [output.error for output in parity.outputs] if parity else []
    alive = [f"{value:.2f}" for value in parity.retentions] + _gates(parity.gates) if parity else []
    p50 = evidence.latency.p50 if evidence.latency else None
    return (
        target,
        name,
        size(count),
        evidence.level.label,
        "-" if not errors or not parity else "far off" if None in errors else f"{parity.error:.2f}x noise",
        " ".join(alive) or "-",
        f"{p50:.2f} ms" if p50 is not None else "-",
        evidence.verdict.value,
    )
