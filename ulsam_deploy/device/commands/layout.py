"""Lays a table out for a terminal's width: every word stays whole, whatever has to give.

First long cells are broken between words. Where that isn't enough, columns go on in further tables below, each of which
begins with the columns that tell its rows apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TablePart", "laid_out"]

#: A cell of several words isn't broken to fewer characters than this, where that can be helped.
_NARROW = 24

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class TablePart:
    """Some columns of a table; a cell is its lines, each at most as long as its column is wide."""

    widths: tuple[int, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], ...], ...]


def laid_out(columns: Sequence[str], rows: Rows, width: int, gap: int = 2, frame: int = 0) -> list[TablePart]:
    """The table in parts that fit.

    Args:
        columns: The headings.
        rows: As many cells in each.
        width: Characters that a line may have.
        gap: Characters between two columns.
        frame: Characters at both ends of a line together.

    Returns:
        The parts, to be shown one below another. One that is still too wide holds a word that is.
    """
    whole = [max(len(cell) for cell in column) for column in zip(columns, *rows)]
    least = [_least(natural, column) for natural, column in zip(whole, zip(columns, *rows))]
    room = width - frame + gap

    def fits(chosen: Sequence[int]) -> bool:
        return sum(least[i] + gap for i in chosen) <= room

    groups, keys = [list[int]()], _keys(rows, len(columns))
    if not fits(range(min(keys + 1, len(columns)))):
        keys = 1
    for i in range(len(columns)):
        if groups[-1] and not fits([*groups[-1], i]) and i >= keys:
            groups.append(list(range(keys)))
        groups[-1].append(i)
    parts = []
    for chosen in groups:
        # Further down, a row that has nothing to say there is left out.
        told = [row for row in rows if chosen is groups[0] or any(row[i] for i in chosen[keys:])]
        parts.append(_part(columns, told, chosen, whole, least, room - gap * len(chosen)))
    return parts


def _least(natural: int, cells: Sequence[str]) -> int:
    longest = max((len(word) for cell in cells for word in cell.split()), default=0)
    return max(longest, min(natural, _NARROW))


def _keys(rows: Rows, count: int) -> int:
    """How many of the first columns tell all rows apart; one where that takes most of them."""
    for number in range(1, count // 2 + 1):
        if len({tuple(row[:number]) for row in rows}) == len(rows):
            return number
    return 1


def _part(
    columns: Sequence[str], rows: Rows, chosen: Sequence[int], whole: Sequence[int], least: Sequence[int], room: int
) -> TablePart:
    """The columns ``chosen``, those that want to be wider than they must be sharing what is left of ``room``."""
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
