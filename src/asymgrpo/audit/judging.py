"""Entries and a protocol -> every verdict, as frames. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from asymgrpo.analysis import granularity as g
from asymgrpo.audit.protocol import Protocol
from asymgrpo.audit.reading import Entry

COLUMNS = {
    "check": "what the row is about: cell, block (all cells of a benchmark in it) or average",
    "line": "of the file; of a cell or an average",
    "block": "the rows that are taken to have been evaluated alike",
    "row": "label of the row",
    "version": "of the table, if the file says",
    "benchmark": "name; empty for an average",
    "reported": "as it is printed, percent",
    "problems": "n that is stated",
    "samples": "k that is stated",
    "verdict": "one of CELL_VERDICTS, BLOCK_VERDICTS or AVERAGE_VERDICTS in asymgrpo.analysis.granularity",
    "chance": "that random numbers would fit the stated n x k: the cell, or (at most) all different cells of the block",
    "cells": "how many: different ones of a block, those of an average's row",
    "count": "of a cell: the number of correct responses of n k that comes nearest",
    "off": "its accuracy minus the cell, of an average the row's mean minus it, in units of the last place",
    "problems_that_fit": "of a cell that is no multiple: other n that fit with the stated k, rounded or cut off",
    "samples_that_fit": "the same: other k that fit with the stated n",
    "rounding": "of a block that fits the stated n x k: nearest or cut off",
    "fit_problems": "of a block: the n of the pair that chance explains least",
    "fit_samples": "its k",
    "fit_rounding": "with which it fits",
    "fit_chance": "that random numbers would all fit this pair so rounded",
    "expected": "how many pairs at most as fine would fit by chance, of those looked at",
    "also_fits": "the other blocks that fit the same pair",
    "fits": "how many of the pairs looked at fit the block",
    "looked_at": "how many those are",
}
"""Columns of :attr:`Audit.data`."""


@dataclass(frozen=True)
class Audit:
    """An audited table.

    Attributes:
        protocol: the benchmarks that the table has, in its order, with the stated n x k.
        missing: share of the problems that a pair that was looked at may lack.
        samples: the k that were looked at, in words.
        data: one row per cell, then per block and benchmark, then per average; columns :data:`COLUMNS`.
    """

    protocol: Protocol
    missing: float
    samples: str
    data: pd.DataFrame

    def of(self, check: str) -> pd.DataFrame:
        """The rows of one kind: cell, block or average."""
        return self.data[self.data["check"] == check]


def audit(
    entries: Sequence[Entry], protocol: Protocol, missing: float = g.MISSING, samples: Sequence[int] | None = None
) -> Audit:
    """Check every cell against the protocol, every average against its row, and look for what would fit instead.

    Args:
        entries: the reported accuracies, from :func:`asymgrpo.audit.read`.
        protocol: n x k of every benchmark that they name.
        missing: pairs are looked for with up to this share of the problems missing.
        samples: the k of pairs that are looked for; default: 1 to :data:`~asymgrpo.analysis.granularity.MOST_SAMPLES`,
            or to the stated k if that is larger.
    """
    used = {name: protocol[name] for name in dict.fromkeys(entry.benchmark for entry in entries) if name}
    looked_at = {name: g.candidates(pair, missing, samples) for name, pair in used.items()}
    names = _block_names(entries)
    rows = [_cell(entry, names, used, looked_at) for entry in entries if entry.benchmark]
    for benchmark in used:
        blocks: dict[str, list[g.Printed]] = {}
        for entry in entries:
            if entry.benchmark == benchmark:
                blocks.setdefault(names[entry.block, entry.version], []).append(entry.number)
        found = g.judge(blocks, used[benchmark], looked_at[benchmark])
        rows += [_block(name, benchmark, used, found[name], len(looked_at[benchmark])) for name in found]
    rows += [_average(entry, names, entries) for entry in entries if not entry.benchmark]
    data = pd.DataFrame(rows, columns=list(COLUMNS))
    whole = ["line", "problems", "samples", "cells", "count", "fit_problems", "fit_samples", "fits", "looked_at"]
    words = f"from {min(samples)} to {max(samples)}" if samples else f"from 1 to {g.MOST_SAMPLES} or the stated one"
    return Audit(used, missing, words, data.astype(dict.fromkeys(whole, "Int64")))


def _block_names(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """A block's name; with its version, if it is not the most frequent one of the file."""
    versions = Counter(entry.version for entry in entries)
    usual = max(versions, key=lambda version: versions[version])
    return {
        (entry.block, entry.version): (entry.block or "all rows")
        + ("" if entry.version == usual else f" ({entry.version})")
        for entry in entries
    }


def _cell(
    entry: Entry,
    names: Mapping[tuple[str, str], str],
    protocol: Protocol,
    looked_at: Mapping[str, Sequence[g.Pair]],
) -> dict[str, Any]:
    pair = protocol[entry.benchmark]
    verdict = g.check(entry.number, pair)
    count, off = g.nearest(entry.number, pair)
    row = _where(entry, names) | {"check": "cell", "problems": pair.problems, "samples": pair.samples}
    row |= {"verdict": verdict, "count": count, "off": off}
    row["chance"] = g.chance_either(pair.total, entry.number.decimals)
    if verdict == g.NO_MULTIPLE:
        others = g.alternatives(entry.number, pair, looked_at[entry.benchmark])
        row |= {f"{name}_that_fit": " ".join(map(str, values)) for name, values in others.items()}
    return row


def _block(name: str, benchmark: str, protocol: Protocol, found: g.Block, looked_at: int) -> dict[str, Any]:
    pair = protocol[benchmark]
    row: dict[str, Any] = {"check": "block", "block": name, "benchmark": benchmark, "problems": pair.problems}
    row |= {"samples": pair.samples, "verdict": found.verdict, "chance": found.chance, "cells": found.cells}
    row |= {"rounding": found.rounding, "fits": found.fits, "looked_at": looked_at}
    if found.best:
        best = found.best
        row |= {"fit_problems": best.pair.problems, "fit_samples": best.pair.samples, "fit_rounding": best.rounding}
        row |= {"fit_chance": best.chance, "expected": best.expected, "also_fits": "; ".join(best.shared)}
    return row


def _average(entry: Entry, names: Mapping[tuple[str, str], str], entries: Sequence[Entry]) -> dict[str, Any]:
    whose = (entry.block, entry.version, entry.label)
    cells = [e.number for e in entries if e.benchmark and (e.block, e.version, e.label) == whose]
    row = _where(entry, names) | {"check": "average", "cells": len(cells)}
    if not cells:
        return row | {"verdict": g.NOT_THE_MEAN}
    mean = sum(cell.value for cell in cells) / len(cells)
    return row | {
        "verdict": g.check_average(entry.number, cells),
        "off": float((mean - entry.number.value) / entry.number.step),
    }


def _where(entry: Entry, names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    return {
        "line": entry.line,
        "block": names[entry.block, entry.version],
        "row": entry.label,
        "version": entry.version,
        "benchmark": entry.benchmark,
        "reported": str(entry.number),
    }
