"""What an audit has found, in sentences and as text for a terminal."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from asymgrpo.analysis import granularity as g
from asymgrpo.audit.judging import Audit
from asymgrpo.terminal import paragraph, table


def rules(found: Audit) -> list[str]:
    """What the verdicts mean, and what they do not."""
    return [
        "A cell is a multiple if 100 c / (n k) with a whole number c is printed so: rounded to the nearest (a tie "
        "either way, half up or half to even), or cut off. Off: the nearest such accuracy minus the cell, in units of "
        "the last place; up to 1 could come from rounding each of k results before their mean.",
        "A block is the rows of one model, taken to have been evaluated alike: one n x k, and one way of rounding, "
        f"must fit all of its cells of a benchmark. Looked at: up to {found.missing:.0%} of the problems missing, and "
        f"k {found.samples}. By chance, of a pair that is stated: that as many random numbers would fit it; of "
        "another: how many pairs at most as fine as it would fit them, of those looked at. Only below "
        f"{g.TELLING:g} is it taken for an explanation (another pair), else the block is undecided. Fine pairs (large "
        "n k) fit everything. Pairs with the same n k cannot be told apart.",
    ]


def findings(found: Audit) -> list[str]:
    """One sentence for each thing that was found, from the numbers alone."""
    cells = found.of("cell")
    parts = [_cells_in_words(cells, "")]
    versions = list(dict.fromkeys(cells["version"]))
    if len(versions) > 1:
        parts = [_cells_in_words(cells[cells["version"] == name], f" of {name}") for name in versions]
    blocks = found.of("block")
    for (benchmark, n, k), part in blocks[blocks["verdict"] == g.OTHER_PAIR].groupby(
        ["benchmark", "fit_problems", "fit_samples"], sort=False
    ):
        listed = ", ".join(_with_rounding(row) for row in part.to_dict("records"))
        expected = f"expected by chance {part['expected'].max():.1g}"
        stated = found.protocol[benchmark]
        parts.append(f"{benchmark} fits {n} x {k} (n k = {n * k}) instead of {stated} in {listed}: {expected}.")
    for verdict, text in (
        (g.UNDECIDED, "does not fit the stated pair; others do, but chance explains them, too"),
        (g.NO_PAIR, "fits no pair that was looked at"),
    ):
        for benchmark, part in blocks[blocks["verdict"] == verdict].groupby("benchmark", sort=False):
            parts.append(f"{benchmark} {text}: {', '.join(part['block'])}.")
    return [*parts, *_averages_in_words(found.of("average"))]


def _cells_in_words(cells: pd.DataFrame, whose: str) -> str:
    counts = cells["verdict"].value_counts()
    wrong, cut = int(counts.get(g.NO_MULTIPLE, 0)), int(counts.get(g.CUT_OFF, 0))
    text = f"{wrong} of {len(cells)} cells{whose} are no multiple of 100 / (n k), rounded or cut off"
    if cut:
        text += f"; {wrong + cut} if numbers are rounded and never cut off"
    if wrong:
        far = int((cells.loc[cells["verdict"] == g.NO_MULTIPLE, "off"].abs() > 1).sum())
        text += f"; {far} are off by more than one unit in the last place"
    if blind := int(counts.get(g.NO_POWER, 0)):
        text += f"; of {blind} nothing can be said, as every number is a multiple"
    return text + "."


def _with_rounding(row: dict[str, Any]) -> str:
    return row["block"] + (f" ({g.CUT})" if row["fit_rounding"] == g.CUT else "")


def _averages_in_words(averages: pd.DataFrame) -> list[str]:
    if averages.empty:
        return []
    counts = averages["verdict"].value_counts()
    if counts.get(g.SAME, 0) == len(averages):
        every = "Every one" if len(averages) > 1 else "The only one"
        return [f"{every} of {len(averages)} averages is the mean of its row."]
    wrong = averages[averages["verdict"] == g.NOT_THE_MEAN]
    listed = "; ".join(f"{row['row'] or row['block']} (line {row['line']})" for row in wrong.to_dict("records"))
    text = f"{counts.get(g.SAME, 0)} of {len(averages)} averages are the mean of their row"
    text += f", {counts[g.WITHIN_ROUNDING]} may be before rounding" if g.WITHIN_ROUNDING in counts else ""
    return [text + (f", {len(wrong)} are not: {listed}." if listed else ".")]


def as_text(found: Audit, name: str, width: int | None = None) -> str:
    """For a terminal: what was audited, cells that are no multiple, blocks, averages, and what it comes to."""
    cells, blocks, averages = (found.of(check) for check in ("cell", "block", "average"))
    several = blocks["block"].nunique() > 1
    counted = f"{len(cells)} accuracies in {blocks['block'].nunique()} block{'s' * several}, {len(averages)} averages"
    parts = [f"{name}: {counted}", table(_protocol(found), width)]
    listed = cells[cells["verdict"].isin([g.NO_MULTIPLE, g.CUT_OFF])]
    if len(listed):
        parts.append(table(cell_rows(listed, several), width, left=2 + several))
    parts.append(table(block_rows(blocks), width, left=4))
    wrong = averages[averages["verdict"] != g.SAME]
    if len(wrong):
        rows = [[row["row"] or row["block"], row["reported"], _off(row["off"]), row["verdict"]]
                for row in wrong.to_dict("records")]  # fmt: skip
        parts.append(table([["average of", "reported", "off", "verdict"], *rows], width))
    parts.append("\n".join(paragraph(text, width) for text in rules(found)))
    return "\n\n".join([*parts, "\n".join(paragraph(f"- {text}", width) for text in findings(found))])


def _protocol(found: Audit) -> list[list[str]]:
    rows = [["benchmark", "stated n x k", "step (%)", "a random number passes"]]
    chances = found.of("cell").groupby("benchmark")["chance"].max()
    for name, pair in found.protocol.items():
        rows.append([name, str(pair), f"{100 / pair.total:.3g}", f"{chances[name]:.0%}"])
    return rows


def cell_rows(cells: pd.DataFrame, blocks: bool = True) -> list[list[str]]:
    """Header, and a row of texts for each of these cells."""
    head = ["row", "benchmark", "reported", "n x k", "nearest", "off", "verdict", "n that fit", "k that fit"]
    body = [
        [
            row["row"],
            row["benchmark"],
            row["reported"],
            f"{row['problems']} x {row['samples']}",
            f"{row['count']} / {row['problems'] * row['samples']}",
            _off(row["off"]),
            row["verdict"],
            _first(row["problems_that_fit"]),
            _first(row["samples_that_fit"]),
        ]
        for row in cells.to_dict("records")
    ]
    rows = [head, *body]
    if blocks:
        rows = [[first, *row] for first, row in zip(["block", *cells["block"]], rows, strict=True)]
    return rows


def block_rows(blocks: pd.DataFrame) -> list[list[str]]:
    """Header, and a row of texts for each block and benchmark."""
    head = [
        "block",
        "benchmark",
        "verdict",
        "also fit by",
        "cells",
        "stated",
        "fits",
        "rounding",
        "by chance",
        "fitting",
    ]
    rows = [head]
    for row in blocks.to_dict("records"):
        fitting = not pd.isna(row["fit_problems"])
        as_stated = row["verdict"] == g.AS_STATED
        n, k = (row["problems"], row["samples"]) if as_stated else (row["fit_problems"], row["fit_samples"])
        rows.append(
            [
                row["block"],
                row["benchmark"],
                row["verdict"],
                "" if as_stated or not fitting else row["also_fits"],
                str(row["cells"]),
                f"{row['problems']} x {row['samples']}",
                f"{n} x {k}" if fitting or as_stated else "–",
                row["rounding"] if as_stated else row["fit_rounding"] if fitting else "",
                f"{row['chance'] if as_stated else row['expected']:.1g}" if fitting or as_stated else "",
                f"{row['fits']} of {row['looked_at']}",
            ]
        )
    return rows


def _off(value: float) -> str:
    return f"{value:+.2f}"


def _first(text: Any, most: int = 4) -> str:
    """The first few of the numbers that fit."""
    if not isinstance(text, str) or not text:
        return "–"
    found = text.split()
    return " ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def as_json(found: Audit) -> str:
    """The same for machines: protocol, findings, and a list for each kind of check; what does not apply is left out."""
    kinds = {}
    for check in ("cell", "block", "average"):
        rows = [{key: value for key, value in row.items() if key != "check" and not pd.isna(value)}
                for row in found.of(check).to_dict("records")]  # fmt: skip
        kinds[f"{check}s"] = rows
    stated = {name: {"problems": pair.problems, "samples": pair.samples} for name, pair in found.protocol.items()}
    return json.dumps({"protocol": stated, "findings": findings(found), **kinds}, indent=2, ensure_ascii=False)
