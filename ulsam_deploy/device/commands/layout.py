"""Lays a table out for a terminal's width without ever breaking a word.

First, long cells are broken between words. If that isn't enough, the remaining columns are in further tables below,
each of which begins with the columns that identify its rows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TablePart", "laid_out"]

#: A cell of several words isn't broken to fewer characters than this, if possible.
_NARROW = 24

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class TablePart:
    """Some columns of a table; a cell is a list of lines that fit the width of its column."""

    widths: tuple[int, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], ...], ...]


def laid_out(columns: Sequence[str], rows: Rows, width: int, gap: int = 2, frame: int = 0) -> list[TablePart]:
    """Split a table into parts that fit.

    Args:
        columns: The headings.
        rows: The rows, with one cell for each heading.
        width: The most characters of a line.
        gap: Characters between two columns.
        frame: Characters at both ends of a line together.

    Returns:
        The parts, to be printed one below the other. A part is only too wide if one of its words is.
    """
    whole = [max(len(cell) for cell in column) for column in zip(columns, *rows)]
    least = [_least(natural, column) for natural, column in zip(whole, zip(columns, *rows))]
    room = width - frame + gap

    def fits(chosen: Sequence[int]) -> bool:
        return sum(least[i] + gap for i in chosen) <= room

    groups, keys = [list[int]()], _keys(rows, len(columns))
    if not all(fits([*range(keys), i]) for i in range(keys, len(columns))):  # each may be the first of a further table
        keys = 1
    for i in range(len(columns)):
        if groups[-1] and not fits([*groups[-1], i]) and i >= keys:
            groups.append(list(range(keys)))
        groups[-1].append(i)
    parts = []
    for chosen in groups:
        # In the further tables, a row without contents is omitted.
        told = [row for row in rows if chosen is groups[0] or any(row[i] for i in chosen[keys:])]
        parts.append(_part(columns, told, chosen, whole, least, room - gap * len(chosen)))
    return parts


def _least(natural: int, cells: Sequence[str]) -> int:
    longest = max((len(word) for cell in cells for word in cell.split()), default=0)
    return max(longest, min(natural, _NARROW))


def _keys(rows: Rows, count: int) -> int:
    """How many of the first columns identify all rows; one if that would take most columns."""
    for number in range(1, count // 2 + 1):
        if len({tuple(row[:number]) for row in rows}) == len(rows):
            return number
    return 1


def _part(
    columns: Sequence[str], rows: Rows, chosen: Sequence[int], whole: Sequence[int], least: Sequence[int], room: int
) -> TablePart:
    """The columns ``chosen``; those whose contents are wider than their minimum share the rest of ``room``."""
    widths = {i: least[i] for i in chosen}
    for left, i in enumerate(sorted(chosen, key=lambda i: whole[i] - least[i])):
        share = max(room - sum(widths.values()), 0) // (len(chosen) - left)
        widths[i] += min(whole[i] - least[i], share)
    lines = [tuple(tuple(_broken(row[i], widths[i])) for i in chosen) for row in rows]
    return TablePart(tuple(widths[i] for i in chosen), tuple(columns[i] for i in chosen), tuple(lines))


def _broken(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)
