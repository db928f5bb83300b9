"""A table as text: markdown for people, LaTeX (booktabs) for papers. Pure functions of :class:`Table`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

DAGGER = "†"


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and unit, ``45.3 [43.1, 47.6] points``; NaN is a dash, a NaN end no interval."""

    mean: float
    low: float = float("nan")
    high: float = float("nan")
    digits: int = 1
    unit: str = ""

    def text(self) -> str:
        """As in markdown."""
        if not isfinite(self.mean):
            return "–"
        mean, low, high = (f"{number:.{self.digits}f}" for number in (self.mean, self.low, self.high))
        interval = f"[{low}, {high}]" if isfinite(self.low) else ""
        return " ".join(filter(None, [mean, interval, self.unit]))

    def latex(self) -> str:
        """The interval small, below the mean's baseline, so that columns stay narrow."""
        if not isfinite(self.mean):
            return "--"
        mean, low, high = (f"{number:.{self.digits}f}" for number in (self.mean, self.low, self.high))
        interval = rf"_{{[{low},\,{high}]}}" if isfinite(self.low) else ""
        return " ".join(filter(None, [f"${mean}{interval}$", escape(self.unit)]))


Cell = str | Estimate


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        title: one line.
        header: column names; a line break separates a second line of small type.
        rows: one list of cells per row, as long as the header; a string cell may hold mathtext between dollars.
        notes: sentences below the table.
        label: LaTeX label.
        left: so many columns are aligned to the left, the others to the right.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)
    label: str = ""
    left: int = 1

    def __post_init__(self) -> None:
        """Every row has a cell for every column."""
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: expected {len(self.header)} cells in a row, found {len(row)}")


def markdown(*tables: Table) -> str:
    """The tables one below the other, each with its title and notes."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    head = [cell.replace("\n", "<br>").replace("|", "\\|") for cell in table.header]
    body = [
        [(cell if isinstance(cell, str) else cell.text()).replace("|", "\\|") for cell in row] for row in table.rows
    ]
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    rule = ["-" * width if column < table.left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [head, rule, *body]
    ]
    notes = "".join(f"{note}\n\n" for note in table.notes)
    return f"**{table.title}**\n\n" + "\n".join(lines) + "\n\n" + notes


def latex(*tables: Table) -> str:
    """A ``table`` environment per table; needs the packages booktabs and graphicx."""
    return "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    heads = [cell.split("\n") for cell in table.header]
    depth = max(map(len, heads))
    header = [
        " & ".join((r"\scriptsize " if line else "") + escape(cell[line]) if line < len(cell) else "" for cell in heads)
        + r" \\"
        for line in range(depth)
    ]
    body = [
        " & ".join(escape(cell) if isinstance(cell, str) else cell.latex() for cell in row) + r" \\"
        for row in table.rows
    ]
    notes = " ".join(escape(note) for note in table.notes)
    caption = re.sub(r"^Table \d+[.,] ", "", table.title)  # LaTeX numbers tables itself
    return "\n".join(
        [
            "% needs: booktabs, graphicx",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            *([rf"\label{{{table.label}}}"] if table.label else []),
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *([rf"\par\smallskip\footnotesize {notes}"] if notes else []),
            r"\end{table}",
            "",
        ]
    )


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", DAGGER: r"$^\dagger$", "‡": r"$^\ddagger$", "–": "--",
    "−": "$-$", "∞": r"$\infty$", "×": r"$\times$", "±": r"$\pm$",
    "α": r"$\alpha$", "β": r"$\beta$", "<": r"$<$", ">": r"$>$", "`": "'",
    "*": r"\textasteriskcentered{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text for LaTeX; what stands between two dollars is mathematics and stays."""
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(
        part if index % 2 else "".join(_SPECIAL.get(character, character) for character in part)
        for index, part in enumerate(parts)
    )
