"""Audit of the paper's Table 2: can its cells be what its protocol gives? Needs no run; the same at every scale.

For people the cells that cannot, and each block with what would fit; the CSV has every cell, block and average. The
checks are those of `asymgrpo audit` (:mod:`asymgrpo.audit`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asymgrpo.analysis.granularity import AS_STATED, CUT_OFF, NO_MULTIPLE
from asymgrpo.audit import audit, read, stated
from asymgrpo.audit.text import block_rows, cell_rows, findings, rules
from asymgrpo.config import load
from asymgrpo.tables import Result
from asymgrpo.tables.render import Table
from asymgrpo.tables.table2 import REPORTED

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "audit"


def build(study: Study) -> Result:
    """The audit of config/reported/table2.csv; ValueError if it or the paper's scale is not in the configuration."""
    root = Path(study.root)
    protocol = stated(root)
    found = audit(read(root / REPORTED, protocol), protocol)
    cells, blocks = found.of("cell"), found.of("block")
    wrong = cells[cells["verdict"].isin([NO_MULTIPLE, CUT_OFF])]
    whole = load(root, {"scale": "paper"}).benchmarks.values()
    where = "; ".join(f"{benchmark.stands_for} {protocol[benchmark.stands_for or '']}" for benchmark in whole)
    notes = [
        *findings(found),
        *rules(found),
        f"Stated n x k, from config/: {where}. The k are those of a public note on the paper's first version, the n "
        "those of the usual public copies of the benchmarks.",
        "What fits instead is inferred from the cells alone; that problems are missing is what a filter on the length "
        "of prompts would leave, and nothing here shows that there was one. Needs no run: no seeds, no intervals.",
    ]
    others = blocks[blocks["verdict"] != AS_STATED]
    rest = blocks[blocks["verdict"] == AS_STATED]
    kept = "; ".join(f"{name}: {', '.join(part['block'])}" for name, part in rest.groupby("benchmark", sort=False))
    return Result(
        found.data,
        [
            _table(
                "Blocks that do not fit the stated n x k", block_rows(others),
                ["block", "benchmark", "verdict", "rounding", "also fit by"], "blocks", [f"As stated: {kept}."],
            ),
            _table(
                "Cells that are no multiple of 100 / (n k), or only if cut off", cell_rows(wrong),
                ["block", "row", "benchmark", "verdict"], "cells", notes,
            ),
        ],
    )  # fmt: skip


def _table(what: str, rows: list[list[str]], words: list[str], label: str, notes: list[str]) -> Table:
    """With the columns that hold words first, aligned to the left."""
    order = sorted(range(len(rows[0])), key=lambda column: (*words, rows[0][column]).index(rows[0][column]))
    header, *body = [[row[column] for column in order] for row in rows]
    return Table(f"Audit of the paper's Table 2. {what}", header, body, notes, f"tab:audit-{label}", len(words))
