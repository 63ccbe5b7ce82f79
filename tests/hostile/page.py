"""Tables of docs/security.md, first that of the hostile corpus: a run of some kinds replaces their rows alone."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ulsam_deploy.device.errors import Exit

from .watch import Seen

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- made by tests/hostile -->", "<!-- end of hostile -->"
#: Column and the exit codes that it counts; 0 and 5 where a file turned out to mean no harm, or was none to refuse.
ENDS = (
    ("refused", (Exit.REFUSED,)),
    ("called broken", (Exit.EXPORT_FAILED,)),
    ("failed a check", (Exit.CHECK_FAILED,)),
    ("wrong usage", (Exit.USAGE,)),
    ("not available", (Exit.UNAVAILABLE,)),
    ("harmless", (Exit.OK, Exit.INCONCLUSIVE)),
)
#: How many of each kind broke a rule when the kind was added to the corpus.
BEFORE = {
    "configuration": "14 of 22",
    "device profile": "17 of 18",
    "budget": "0 of 18",
    "a file that is none": "48 of 196, with pictures",
    "arrays": "1 of 100",
    "weights that are not": "7 of 45",
    "ONNX that unfolds": "17 of 44",
    "words of a bundle": "14 of 316, all words",
    "an output that must not be": "16 of 193, all outputs",
    "an artifact that does not behave": "0 of 24",
}
_HEADS = ("kind", "in the corpus", "tried", "right", "wrong", *(name for name, _ in ENDS), "wrong when it was added")


def put(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put ``text`` between two marks of the page."""
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


def put_rows(rows: Sequence[Sequence[str]], heads: Sequence[str], begin: str, end: str, below: str) -> None:
    """Put ``rows`` into the table between two marks, each in place of the row that begins like it."""
    there = dict(_rows(PAGE.read_text().partition(begin)[2].partition(end)[0].splitlines(), heads))
    there |= {row[0]: list(row) for row in rows}
    numbers = [[row[place] for row in there.values()] for place in range(1, len(heads))]
    lines = [heads, ["---"] * len(heads), *there.values(), ["all", *map(_sum, numbers)]]
    put("\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{below}", begin, end)


def write(seen: Sequence[Seen], known: Mapping[str, int]) -> None:
    """Put a row for each kind of ``seen`` into the page, beside the rows that other kinds have there.

    ``known``: how many inputs of each kind there are.
    """
    kinds = dict.fromkeys(one.input.kind for one in seen)
    rows = [_row(kind, known[kind], [one for one in seen if one.input.kind == kind]) for kind in kinds]
    machine = f"{time.strftime('%d %B %Y')}, Linux {platform.release()}, Python {platform.python_version()}."
    put_rows(rows, _HEADS, BEGIN, END, machine)


def _sum(cells: Sequence[str]) -> str:
    """The total of a column of whole numbers; empty for any other column."""
    plain = [cell.replace(",", "") for cell in cells]
    return f"{sum(map(int, plain)):,}" if all(cell.isdigit() for cell in plain) else ""


def _rows(lines: Iterable[str], heads: Sequence[str]) -> Iterable[tuple[str, list[str]]]:
    for line in lines:
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if len(cells) == len(heads) and cells[0] not in (heads[0], "---", "all"):
            yield cells[0], cells


def _row(kind: str, known: int, seen: Sequence[Seen]) -> list[str]:
    wrong = sum(bool(one.problems) for one in seen)
    ended = [sum(one.code in codes for one in seen) for _, codes in ENDS]
    return [kind, *map(str, (known, len(seen), len(seen) - wrong, wrong, *ended)), BEFORE.get(kind, "")]
