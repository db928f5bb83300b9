"""Plain text for a terminal: aligned columns, no wider than the window. Pure functions but for :func:`width`."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

GAP = "  "
BROKEN = 28
"""Characters in a line of a broken column; the last one of them has more if there is room."""


def width() -> int | None:
    """Columns of the window; None, for no limit, if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(rows: Sequence[Sequence[str]], limit: int | None = None, left: int = 1, wrap: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two blanks between.

    Args:
        rows: as many cells in each.
        limit: characters in a line. A table that is wider comes in several blocks, each with the first column again.
        left: so many columns are aligned to the left, the others to the right.
        wrap: break the text of these columns instead, at blanks; the last of them takes what room there is.
    """
    rows = [list(row) for row in rows]
    if not rows:
        return ""
    widths = _widths(rows)
    if limit is None or sum(widths) + len(GAP) * (len(widths) - 1) <= limit:
        return _lines(rows, widths, left)
    if wrap:
        *others, last = sorted(wrap)
        room = {column: min(widths[column], BROKEN) for column in others}
        taken = sum(room.get(column, width) for column, width in enumerate(widths) if column != last)
        room[last] = max(BROKEN, limit - taken - len(GAP) * (len(widths) - 1))
        rows = [line for row in rows for line in _broken(row, room)]
        return _lines(rows, _widths(rows), left)
    blocks: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        if len(blocks[-1]) > 1 and sum(widths[c] + len(GAP) for c in [*blocks[-1], column]) - len(GAP) > limit:
            blocks.append([0])
        blocks[-1].append(column)
    parts = ([[row[column] for column in block] for row in rows] for block in blocks)
    return "\n\n".join(_lines(part, _widths(part), left) for part in parts)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _broken(row: Sequence[str], room: Mapping[int, int]) -> list[list[str]]:
    """A row as several lines. A path stays whole, to be copied."""
    cells = [
        textwrap.wrap(cell, room[column], break_long_words=False, break_on_hyphens=False) if column in room else [cell]
        for column, cell in enumerate(row)
    ]
    return [list(line) for line in zip_longest(*cells, fillvalue="")]


def words(value: Any) -> str:
    """A setting's value in one line, as YAML would write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return str(value).replace("\n", "\\n")


def paragraph(text: str, limit: int | None = None) -> str:
    """Text broken at the window's width, at 100 characters if there is no limit."""
    return textwrap.fill(text, min(limit or 100, 100), break_long_words=False, break_on_hyphens=False)


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int], left: int) -> str:
    return "\n".join(
        GAP.join(
            cell.ljust(size) if column < left else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
