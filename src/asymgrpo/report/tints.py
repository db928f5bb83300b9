"""Colours of the cells of the table of reported against reproduced values, by how the two agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from asymgrpo.analysis.reproduction import INSIDE, NOT_REPRODUCED, OUTSIDE, SIGN_AGREES, SIGN_DIFFERS, UNDECIDED
from asymgrpo.report.markup import Table

TINTS = {
    INSIDE: "good",
    SIGN_AGREES: "good",
    OUTSIDE: "bad",
    SIGN_DIFFERS: "bad",
    UNDECIDED: "open",
    NOT_REPRODUCED: "",
}
"""Value of the column ``agreement``, which every cell of that table ends with -> the name of a colour."""

_LAST = re.compile(r"[:;] ([^:;]+)$")


def tinted(tables: Sequence[Table]) -> list[Table]:
    """The tables with a colour for every cell that ends with a word of :data:`TINTS`."""
    return [
        replace(table, tints=[[tint(str(cell.striptags())) for cell in row] for row in table.rows]) for table in tables
    ]


def tint(cell: str) -> str:
    """The colour of one cell, or nothing."""
    found = _LAST.search(cell)
    return TINTS.get(found.group(1), "") if found else ""
