"""A CSV of reported accuracies, wide or long, as a list of entries. A number stays text until its decimals are known.

Wide: a row for each method; a column for each benchmark of the protocol; if need be one for the average.
Long: a row for each cell, with the columns ``benchmark`` and ``accuracy``; the average is a benchmark of that name.

In both, the columns named in :data:`BLOCK_COLUMNS` tell blocks apart: the rows of one model, which are taken to have
been evaluated alike. Other columns that hold no number are labels of a row; one that holds numbers and is no benchmark
is a mistake, unless it is to be ignored.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asymgrpo.analysis.granularity import Printed, printed
from asymgrpo.audit.protocol import Protocol
from asymgrpo.config.errors import did_you_mean

BLOCK_COLUMNS = ("backbone", "model", "block")
"""The first of these that is there names the block."""
VERSION = "version"
"""Rows of another version of a table are a block of their own."""
LABEL_COLUMNS = ("method", "name", "row")
AVERAGES = ("avg", "avg.", "average", "mean")
"""How an average may be called, in any case."""
LONG = {"benchmark", "accuracy"}
NOTHING = ("", "-", "–", "—", "n/a", "na", "nan")
"""A cell that is not there, in any case."""


@dataclass(frozen=True)
class Layout:
    """What the file itself does not say.

    Attributes:
        block: the column that tells blocks apart; None: the first of :data:`BLOCK_COLUMNS`, if any.
        average: what the average is called; None: one of :data:`AVERAGES`.
        ignore: columns that are not looked at.
        decimals: how many were printed, if the file has lost trailing zeros; None: those of each cell.
        fractions: whether accuracies are from 0 to 1 instead of percent.
    """

    block: str | None = None
    average: str | None = None
    ignore: Collection[str] = ()
    decimals: int | None = None
    fractions: bool = False

    def is_average(self, name: str) -> bool:
        """Whether a benchmark or column of this name is the average."""
        return name == self.average if self.average is not None else name.casefold() in AVERAGES


@dataclass(frozen=True)
class Entry:
    """A reported accuracy, and where it stands. Of an average, ``benchmark`` is empty."""

    line: int
    column: str
    block: str
    version: str
    label: str
    benchmark: str
    number: Printed


def read(path: Path, protocol: Protocol, layout: Layout | None = None) -> list[Entry]:
    """Every accuracy of a file, in its order.

    Args:
        path: CSV with a header, in UTF-8; with tabs if it ends in .tsv.
        protocol: the benchmarks.
        layout: what the file itself does not say.

    Raises:
        ValueError: something in the file is not as expected; with file, line and column.
    """
    layout = layout or Layout()
    header, rows = _rows(path)
    for name in [*layout.ignore, *([layout.block] if layout.block else [])]:
        if name not in header:
            hint = did_you_mean(name, header)
            raise ValueError(f"{path}: there is no column {name!r}{hint}; expected one of {', '.join(header)}")
    kept = [name for name in header if name not in layout.ignore]
    found = list((_long if set(kept) >= LONG else _wide)(path, kept, rows, protocol, layout))
    if not any(entry.benchmark for entry in found):
        raise ValueError(f"{path}: holds no accuracy; expected numbers for {', '.join(protocol)}")
    seen: dict[tuple[str, ...], int] = {}
    for entry in found:
        key = (entry.block, entry.version, entry.label, entry.benchmark)
        if key in seen:
            what = f"{entry.label or 'the row'}: {entry.benchmark or 'the average'}"
            raise ValueError(f"{path}: line {entry.line}: {what} is given again; expected once, as in line {seen[key]}")
        seen[key] = entry.line
    return found


Row = tuple[int, dict[str, str]]


def _rows(path: Path) -> tuple[list[str], list[Row]]:
    """The header, and of every other row its line and its cells by column."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a CSV of reported accuracies")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected CSV in UTF-8") from None
    reader = csv.reader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ",")
    header = [name.strip() for name in next(reader, [])]
    if len(header) < 2:
        raise ValueError(f"{path}: line 1: found {header}; expected the names of columns, with commas between")
    for name, count in Counter(header).items():
        if count > 1 or not name:
            found = f"the column {name!r} is there {count} times" if name else "a column has no name"
            raise ValueError(f"{path}: line 1: {found}; expected a name of its own for each column")
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f"{path}: line {reader.line_num}: found {len(cells)} cells; expected {len(header)}")
        rows.append((reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    return header, rows


def _long(
    path: Path, header: Sequence[str], rows: Sequence[Row], protocol: Protocol, layout: Layout
) -> Iterator[Entry]:
    labels = _labels(header, layout, [name for name in header if name not in LONG])
    for line, cells in rows:
        name = cells["benchmark"]
        average = layout.is_average(name)
        if name not in protocol and not average:
            raise _unknown(f"{path}: line {line}, column benchmark: unknown benchmark", name, protocol)
        number = _number(cells["accuracy"], f"{path}: line {line}, column accuracy", layout)
        if number:
            yield _entry(line, "accuracy", cells, labels, "" if average else name, number)


def _wide(
    path: Path, header: Sequence[str], rows: Sequence[Row], protocol: Protocol, layout: Layout
) -> Iterator[Entry]:
    averages = [name for name in header if layout.is_average(name) and name not in protocol]
    if layout.average is not None and not averages:
        hint = did_you_mean(layout.average, header)
        raise ValueError(f"{path}: there is no column {layout.average!r}{hint}; expected one of {', '.join(header)}")
    if len(averages) > 1:
        raise ValueError(f"{path}: the columns {', '.join(averages)} are all averages; expected one: name it")
    numbers = [name for name in header if name in protocol or name in averages]
    others = [name for name in header if name not in numbers]
    labels = _labels(header, layout, others)
    for name in others:
        line = next((line for line, cells in rows if name not in labels[0] and _is_number(cells[name])), None)
        if line is not None and name not in LABEL_COLUMNS:
            place = f"{path}: line {line}, column {name}: holds a number, but there is no benchmark"
            raise _unknown(place, name, protocol, f", or --ignore '{name}'")
    for line, cells in rows:
        for name in numbers:
            number = _number(cells[name], f"{path}: line {line}, column {name}", layout)
            if number:
                yield _entry(line, name, cells, labels, "" if name in averages else name, number)


Labels = tuple[list[str], str]
"""The columns of a block's name and version, and the column of a row's label (empty: none)."""


def _labels(header: Sequence[str], layout: Layout, others: Sequence[str]) -> Labels:
    block = layout.block or next((name for name in BLOCK_COLUMNS if name in header), "")
    blocks = [name for name in (block, VERSION) if name in header]
    left = [name for name in others if name not in blocks]
    return blocks, next((name for name in LABEL_COLUMNS if name in left), left[0] if left else "")


def _entry(line: int, column: str, cells: dict[str, str], labels: Labels, benchmark: str, number: Printed) -> Entry:
    blocks, label = labels
    named = [cells[name] for name in blocks if name != VERSION]
    version = cells[VERSION] if VERSION in blocks else ""
    return Entry(line, column, named[0] if named else "", version, cells[label] if label else "", benchmark, number)


def _is_number(text: str) -> bool:
    try:
        printed(text)
    except ValueError:
        return False
    return True


def _number(text: str, place: str, layout: Layout) -> Printed | None:
    if text.casefold() in NOTHING:
        return None
    decimals = None if layout.decimals is None else layout.decimals + 2 * layout.fractions
    try:
        number = printed(text, decimals)
        if not layout.fractions:
            return number
        if number.value > 1:
            raise ValueError(f"found {text!r}; expected a share from 0 to 1")
        if number.decimals < 2:
            raise ValueError(f"found {text!r}; expected a share with at least two decimals")
        return Printed(number.units, number.decimals - 2)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _unknown(place: str, name: str, protocol: Protocol, otherwise: str = "") -> ValueError:
    known = ", ".join(protocol)
    hint = did_you_mean(name, protocol)
    return ValueError(f"{place} {name!r}{hint}; expected one of {known}; or say --benchmark '{name}=NxK'{otherwise}")
