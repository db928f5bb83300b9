"""Tables: one module per table, each with ``build(study)``, from run files to a :class:`Result`.

``make(name, study)`` writes the CSV (for machines: raw counts, every seed), the markdown (for people) and the LaTeX
(for papers). Same runs, same bytes. A new table: a module here with ``build``, a line in :data:`TABLES`, an entry in
config/artefacts.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from asymgrpo.figures import csv_bytes, write_all
from asymgrpo.tables.render import Table, latex, markdown

if TYPE_CHECKING:
    import pandas as pd

    from asymgrpo.config import Study

TABLES: dict[str, str] = {
    "table1": "asymgrpo.tables.table1",
    "table2": "asymgrpo.tables.table2",
    "evaluation": "asymgrpo.tables.evaluation",
    "reported": "asymgrpo.tables.reported",
    "selection": "asymgrpo.tables.selection",
    "audit": "asymgrpo.tables.audit",
    "claims": "asymgrpo.tables.claims",
}
"""Table -> module with ``build(study)``; imported when built."""


@dataclass(frozen=True)
class Result:
    """A table, built.

    Attributes:
        data: one row per number, with raw counts and the values of every seed.
        tables: what people read, in order.
        files: further files, by their endings.
    """

    data: pd.DataFrame
    tables: Sequence[Table]
    files: Mapping[str, bytes] = field(default_factory=dict)


def make(name: str, study: Study) -> list[Path]:
    """Build one table and write its CSV, markdown and LaTeX under ``study.table_stem(name)``, all or none of them.

    Returns:
        The three paths, and those of further files that it has.

    Raises:
        ValueError: no such table; a run file that it needs is missing or incomplete.
    """
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; there are {', '.join(TABLES)}")
    result = import_module(TABLES[name]).build(study)
    files = {
        ".csv": csv_bytes(result.data),
        ".md": markdown(*result.tables).encode(),
        ".tex": latex(*result.tables).encode(),
        **result.files,
    }
    return write_all(Path(study.table_stem(name)), files)
