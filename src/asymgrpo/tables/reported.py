"""The paper's Table 2, reported beside reproduced: every cell with a difference, an interval and how the two agree.

A cell of the same model and task (the paper's scale) is compared itself. At every other scale a level means something
else, so the difference to GRPO is compared, and of it the sign; values of ``agreement`` are those of
:data:`asymgrpo.analysis.reproduction.AGREEMENT`. The paper takes the checkpoint that is best on a test set, so that one
comes first; the last one is compared in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asymgrpo.analysis import reproduction, runs
from asymgrpo.analysis.differences import Values, by_problem, estimate, interval_name, minus
from asymgrpo.analysis.intervals import AVERAGE
from asymgrpo.analysis.reproduction import NOT_REPRODUCED, REFERENCE
from asymgrpo.figures import closing_notes
from asymgrpo.tables import Result
from asymgrpo.tables.render import Cell, Estimate, Table
from asymgrpo.tables.table2 import REPORTED, read_reported

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "reported"
BASE = "base"
GRPO = "grpo"
GRPO_ROW = "GRPO"
AVERAGE_CELL = "Avg"
LEVEL = "level"
DIFFERENCE = "minus GRPO"
IDENTITY = ["reported_backbone", "reported_row", "reported_benchmark", "version", "place"]

COLUMNS = {
    "backbone": "ours, that stands for the reported one; empty if the scale has none",
    "method": "ours",
    "benchmark": "ours, or average",
    "checkpoint": "best (chosen on a test set, as the paper does) or last; of the untrained policy its only one",
    "decoding": "of the final evaluation",
    "reported_backbone": "as the paper's table has it",
    "reported_row": "of the paper's table: a method, or base",
    "reported_benchmark": "of the paper's table; Avg for its average",
    "version": "of the paper",
    "place": "in the paper",
    "reported": "percent",
    "reproduced": "percent, mean over seeds",
    "reproduced_low": "95% interval over seeds and problems; with one seed over problems",
    "reproduced_high": "the other end",
    "reported_minus_grpo": "points: the reported cell minus that of GRPO on the same backbone and benchmark",
    "minus_grpo": "points: the same of ours, paired by seed and problem",
    "minus_grpo_low": "95% interval",
    "minus_grpo_high": "the other end",
    "compared": "level, or minus GRPO where level means something else",
    "difference": "points: what is compared, reproduced minus reported",
    "difference_low": "95% interval: for a level that of one further run; for minus GRPO that of ours",
    "difference_high": "the other end",
    "agreement": "a key of asymgrpo.analysis.reproduction.AGREEMENT",
    "seeds": "how many",
}
"""Columns of the CSV; then ``seed_<s>``, the accuracy of every seed in percent."""


def build(study: Study) -> Result:
    """The table from the score files of its runs; ValueError if one is missing or lacks a decoding or checkpoint."""
    reported = read_reported(Path(study.root) / REPORTED)
    parts: list[pd.DataFrame] = []
    tables: list[Table] = []
    for decoding in study.artefact(NAME).decodings:
        for checkpoint in _checkpoints(study, decoding):
            part = compare(study, reported, decoding, checkpoint)
            parts.append(part)
            for backbone in dict.fromkeys(part["backbone"].dropna()):
                rows = part[part["backbone"] == backbone]
                tables.append(_table(study, backbone, rows, decoding, checkpoint, first=not tables))
    if not tables:
        tables = [Table("Reported and reproduced", ["Method"], [], ["The scale has none of the paper's models."])]
    return Result(pd.concat(parts, ignore_index=True), tables)


def same_task(study: Study, backbone: str, benchmark: str) -> bool:
    """Whether ours and the paper's are the same model and the same problems, so that levels can be compared."""
    entry = study.backbones[backbone]
    names = study.benchmarks if benchmark == AVERAGE else [benchmark]
    whole = [study.benchmarks[name] for name in names]
    same = all(b.fetched and b.stands_for and ("max_problems",) not in b.sources for b in whole)
    return entry.fetched and entry.label == entry.stands_for and same


def compare(study: Study, reported: pd.DataFrame, decoding: str, checkpoint: str) -> pd.DataFrame:
    """Every reported cell beside ours; one that the scale has nothing for is there too.

    Args:
        study: of one scale.
        reported: the paper's table, from :func:`asymgrpo.tables.table2.read_reported`.
        decoding: of the final evaluation.
        checkpoint: last or best.

    Returns:
        A row per reported cell and backbone that stands for its model; columns :data:`COLUMNS` and ``seed_<s>``.
    """
    rows: list[dict[str, Any]] = []
    cells = reported.rename(columns={"backbone": IDENTITY[0], "method": IDENTITY[1], "benchmark": IDENTITY[2]})
    value = cells.set_index(IDENTITY[:3])["accuracy"]
    for model, of_model in cells.groupby("reported_backbone", sort=False):
        ours: list[str | None] = [name for name, entry in study.backbones.items() if entry.stands_for == model]
        for backbone in ours or [None]:
            measured = _measured(study, backbone, decoding, checkpoint) if backbone else {}
            for cell in of_model.to_dict("records"):
                row = {name: cell[name] for name in IDENTITY} | {"reported": cell["accuracy"], "backbone": backbone}
                row |= {"decoding": decoding, "checkpoint": checkpoint, "agreement": NOT_REPRODUCED}
                reference = (model, GRPO_ROW, cell["reported_benchmark"])
                if reference in value.index:
                    row["reported_minus_grpo"] = round(cell["accuracy"] - value[reference], 6)
                if backbone:
                    row |= _reproduced(study, backbone, row, measured)
                rows.append(row)
    seeds = [f"seed_{seed}" for seed in study.seeds]
    return pd.DataFrame(rows, columns=[*COLUMNS, *seeds]).astype({"seeds": "Int64"})


def _measured(study: Study, backbone: str, decoding: str, checkpoint: str) -> dict[str, tuple[str, Values]]:
    """Row of the paper's table -> our method, and its accuracies by seed and problem; the untrained policy by run."""
    names = [BASE, *(name for name in study.methods_of(NAME, backbone) if study.methods[name].paper_row)]
    found = {}
    for name in names:
        which = "last" if name == BASE else checkpoint
        counts = runs.final_counts(study, backbone, name, decoding, which)
        seeds = [study.start_seed(backbone, seed) for seed in study.seeds] if name == BASE else list(study.seeds)
        found[study.methods[name].paper_row or "" if name != BASE else BASE] = (name, by_problem(counts, seeds))
    return found


def _reproduced(
    study: Study, backbone: str, row: dict[str, Any], measured: dict[str, tuple[str, Values]]
) -> dict[str, Any]:
    """What of a row is ours; empty if the scale has no such method or benchmark."""
    benchmark = _benchmark(study, row["reported_benchmark"])
    if row["reported_row"] not in measured or benchmark is None:
        return {}
    method, values = measured[row["reported_row"]]
    tables = _tables(values, benchmark)
    by_seed = np.mean([table.mean(axis=1) for table in tables], axis=0)
    # a start is one policy, however many runs begin from it
    starts = [study.start_seed(backbone, seed) if method == BASE else seed for seed in study.seeds]
    once = [starts.index(start) for start in dict.fromkeys(starts)]
    mean, low, high = estimate([table[once] for table in tables])
    found: dict[str, Any] = {"method": method, "benchmark": benchmark, "seeds": len(once), "reproduced": mean}
    found |= {"reproduced_low": low, "reproduced_high": high}
    found |= {f"seed_{seed}": accuracy for seed, accuracy in zip(study.seeds, by_seed, strict=True)}
    apart = (float("nan"), float("nan"), float("nan"))
    if GRPO_ROW in measured:
        apart = (
            (0.0, 0.0, 0.0) if method == GRPO else estimate(_tables(minus(values, measured[GRPO_ROW][1]), benchmark))
        )
        found |= dict(zip(("minus_grpo", "minus_grpo_low", "minus_grpo_high"), apart, strict=True))
    if same_task(study, backbone, benchmark):
        difference = reproduction.prediction(by_seed[once], row["reported"])
        agreement = reproduction.level(*difference[1:], len(once))
        compared = LEVEL
    else:
        theirs = row.get("reported_minus_grpo", float("nan"))
        difference = (apart[0] - theirs, apart[1] - theirs, apart[2] - theirs)
        agreement = REFERENCE if method == GRPO else reproduction.sign(theirs, *apart[1:], len(study.seeds))
        compared = DIFFERENCE
    ends = dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True))
    return found | ends | {"compared": compared, "agreement": agreement}


def _benchmark(study: Study, reported: str) -> str | None:
    """Ours that has the role of a reported benchmark."""
    if reported == AVERAGE_CELL:
        return AVERAGE
    return next((name for name, entry in study.benchmarks.items() if entry.stands_for == reported), None)


def _tables(values: Values, benchmark: str) -> Sequence[NDArray[np.float64]]:
    return list(values.values()) if benchmark == AVERAGE else [values[benchmark]]


def _checkpoints(study: Study, decoding: str) -> list[str]:
    """The best one, which the paper takes, comes first."""
    return sorted(study.settings["evaluation"]["final"][decoding]["checkpoints"])


# -- for people -------------------------------------------------------------------------------------------------------


def _table(study: Study, backbone: str, rows: pd.DataFrame, decoding: str, checkpoint: str, first: bool) -> Table:
    """A line per row of the paper's table, a column per cell that the scale has something for."""
    entry = study.backbones[backbone]
    columns = list(dict.fromkeys(rows.loc[rows["benchmark"].notna(), "reported_benchmark"]))
    cells = rows.set_index(["reported_row", "reported_benchmark"])
    body: list[list[Cell]] = []
    for name, part in rows.groupby("reported_row", sort=False):
        version = part["version"].iloc[0]
        label = str(name) + (f" ({version})" if version != "v2" else "")
        body.append([label, *(_cell(cells.loc[(name, column)]) for column in columns)])
    header = ["Method", *(_head(study, column) for column in columns)]
    temperature = study.settings["evaluation"]["final"][decoding]["temperature"]
    title = (
        f"Reported and reproduced, {entry.label} for {entry.stands_for}. {checkpoint.capitalize()} checkpoint, "
        f"temperature {temperature:g}"
    )
    notes = _notes(study) if first else []
    return Table(title, header, body, notes, f"tab:reported-{backbone}-{checkpoint}-{decoding}")


def _head(study: Study, reported: str) -> str:
    benchmark = _benchmark(study, reported)
    label = "Average" if benchmark == AVERAGE else study.benchmarks[str(benchmark)].label
    return label if label == reported else f"{label}\n{reported} in the paper"


def _cell(row: pd.Series) -> str:
    """`reported; reproduced; difference and agreement`, or of another task the differences to GRPO."""
    if row["agreement"] == NOT_REPRODUCED:
        return f"{row['reported']:.2f}; {NOT_REPRODUCED}"
    if row["compared"] == LEVEL:
        ours = _signed(row["difference"], row["difference_low"], row["difference_high"])
        return f"{row['reported']:.2f}; {row['reproduced']:.2f}; {ours}: {row['agreement']}"
    if row["agreement"] == REFERENCE:
        return f"{row['reported']:.2f}; {row['reproduced']:.2f}; {REFERENCE}"
    ours = _signed(row["minus_grpo"], row["minus_grpo_low"], row["minus_grpo_high"])
    return f"{row['reported_minus_grpo']:+.2f}; {ours}: {row['agreement']}"


def _signed(difference: float, low: float, high: float) -> str:
    text = Estimate(difference, low, high, 2).text()
    return f"+{text}" if difference >= 0 else text


def _notes(study: Study) -> list[str]:
    count = len(study.seeds)
    listed = ", ".join(map(str, study.seeds))
    same = [same_task(study, name, each) for name in study.backbones for each in (*study.benchmarks, AVERAGE)]
    whole = all(same)
    unused = {reproduction.INSIDE, reproduction.OUTSIDE} if not any(same) else set()
    meanings = "; ".join(f"{name}: {text}" for name, text in reproduction.AGREEMENT.items() if name not in unused)
    each = (
        "Each cell is read by itself: of many, some leave a 95% interval by chance; the table of claims corrects for "
        "that. The reported numbers have no interval."
    )
    if whole:
        notes = [
            f"A cell: reported; reproduced; reproduced minus reported: how they agree. {meanings}.",
            f"Seed{'s' * (count > 1)} {listed}. The interval is that of one further run on the same problems, by seeds "
            f"alone, because the reported number is taken for one run. {each}",
        ]
    else:
        notes = [
            "Another model and another task than the paper's, so levels cannot be compared. A cell: the reported "
            "difference to GRPO; ours with its interval: how they agree; of GRPO itself both levels. "
            f"{meanings}. The size of a difference is one of another task, too: only its sign is compared.",
            f"Seed{'s' * (count > 1)} {listed}; {interval_name(count)}. {each}",
        ]
    final = study.settings["evaluation"]
    if any("best" in how["checkpoints"] for how in final["final"].values()):
        chosen = study.benchmarks[final["select_on"]].label
        notes.append(f"The best checkpoint is chosen by accuracy on {chosen}, a test set, as in the paper.")
    notes.append(
        "A row of v1 is compared with v2's GRPO. The CSV has every reported cell, also where the scale has none."
    )
    return notes + closing_notes(study, NAME)
