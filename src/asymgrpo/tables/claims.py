"""The verdicts on the paper's claims as a table, and as claims.json for what shows them elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo.analysis.claims.power import MOST_SEEDS, resolution
from asymgrpo.analysis.claims.quantities import QUANTITIES
from asymgrpo.analysis.claims.verdicts import (
    FAMILY,
    INCONCLUSIVE,
    NOT_TESTED,
    Judged,
    Verdict,
    as_json,
    judge,
    p_text,
    rules,
)
from asymgrpo.analysis.intervals import FEWEST_SEEDS
from asymgrpo.figures import closing_notes
from asymgrpo.tables import Result
from asymgrpo.tables.render import Cell, Estimate, Table
from asymgrpo.tables.table2 import REPORTED, read_reported

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "claims"
REFERENCE, CHOSEN = "GRPO", "AsymGRPO"
"""Rows of the paper's table: the accuracy that the protocol's resolution is computed at, and the gap shown beside."""


def build(study: Study) -> Result:
    """Verdicts from the runs that the claims speak of; ValueError if a file of theirs is missing or incomplete."""
    reported = read_reported(Path(study.root) / REPORTED)
    verdicts = judge(study, reported)
    resolved = paper_resolution(study, reported)
    plain = as_json(study, verdicts) | {
        "protocol": {key: study.claims["protocol"][key] for key in ("provenance", "note")},
        "resolution": [{key: _plain(value) for key, value in row.items()} for row in resolved.to_dict("records")],
    }
    tables = [_overview(study, verdicts), _statements(study, verdicts), _resolution(study, resolved)]
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return Result(as_frame(plain), tables, {".json": text.encode()})


def as_frame(plain: dict[str, Any]) -> pd.DataFrame:
    """One row per statement, with its claim's verdict; lists of seeds as text."""
    rows = [
        {"claim": claim["claim"], "claim_verdict": claim["verdict"], "own": claim["own"]}
        | {key: " ".join(map(str, value)) if key == "seeds" else value for key, value in statement.items()}
        for claim in plain["claims"]
        for statement in claim["statements"]
    ]
    return pd.DataFrame(rows).astype({"seeds_needed": "Int64"})


def paper_resolution(study: Study, reported: pd.DataFrame) -> pd.DataFrame:
    """What the protocol of the paper's Table 2 can resolve, beside the gaps that it reports.

    Returns:
        ``backbone`` (the paper's) and the columns of :func:`asymgrpo.analysis.claims.power.resolution`, at the accuracy
        of :data:`REFERENCE`, with ``gap``: what :data:`CHOSEN` is reported to be better, in points.
    """
    parts = []
    for backbone, rows in reported.groupby("backbone", sort=False):
        accuracy = rows.pivot(index="method", columns="benchmark", values="accuracy")
        protocol = study.claims["protocol"]["benchmarks"]
        part = resolution(protocol, accuracy.loc[REFERENCE], study.claims["alpha"], study.claims["power"])
        part.insert(0, "backbone", backbone)
        gaps = accuracy.loc[CHOSEN] - accuracy.loc[REFERENCE]
        parts.append(part.assign(gap=gaps.loc[part["benchmark"]].round(2).to_numpy()))
    return pd.concat(parts, ignore_index=True)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


# -- for people -------------------------------------------------------------------------------------------------------


def _overview(study: Study, verdicts: Sequence[Verdict]) -> Table:
    rows: list[list[Cell]] = [[v.claim.name, v.claim.title, v.verdict, v.claim.figure, v.why] for v in verdicts]
    notes = [
        f"Scale `{study.scale}`, {_seeds(study)}. What would count was written down before the runs, in "
        "config/claims.yaml. Claims with an S are questions of this project, not the paper's.",
        f"{rules(study.claims['alpha'])} {FAMILY}",
    ]
    if len(study.seeds) < FEWEST_SEEDS:
        notes.append(
            f"With fewer than {FEWEST_SEEDS} seeds nothing is decided: every verdict is at most {INCONCLUSIVE}."
        )
    header = ["Claim", "What it says", "Verdict", "Shown by", "Why"]
    return Table("Verdicts on the paper's claims", header, rows, notes, "tab:claims", left=5)


def _statements(study: Study, verdicts: Sequence[Verdict]) -> Table:
    rows: list[list[Cell]] = []
    for v in verdicts:
        for judged in v.statements:
            s = judged.statement
            backbone = study.backbones[s.backbone].label if s.backbone else "–"
            paper = "–" if judged.paper is None else f"{judged.paper:+.2f}"
            p = p_text(judged.p_holm).removeprefix("= ")
            rows.append([v.claim.name, backbone, judged.verdict, s.text, _effect(judged), p, paper, _needed(judged)])
    level = f"{1 - study.claims['alpha']:.0%}"
    notes = [
        f"Effect: mean over seeds with its {level} interval; of final accuracies over seeds and problems, crossed. Of "
        "a statement about several windows the weakest one's. Differences are of equal seeds.",
        "p: two-sided, after Holm's correction within the claim. Paper: the difference in its Table 2, one run and the "
        "checkpoint that is best on a test set.",
        f"Seeds needed: how many would decide what is undecided with {study.claims['power']:.0%} chance, if the effect "
        "and the spread, of all windows of a statement together, are as measured here; ∞: more than "
        f"{MOST_SEEDS:,}, or never, because the effect is next to nothing or the uncertainty is that of the problems.",
    ]
    skipped = Counter(j.note for v in verdicts for j in v.statements if j.verdict == NOT_TESTED)
    if skipped:
        listed = "; ".join(f"{why} ({count} statement{'s' * (count > 1)})" for why, count in skipped.items())
        notes.append(f"Not tested: {listed}. The CSV says it of each.")
    header = ["Claim", "Backbone", "Verdict", "Statement", "Effect", "p", "Paper", "Seeds needed"]
    notes += closing_notes(study, NAME)
    return Table("Statements behind the verdicts", header, rows, notes, "tab:statements", left=4)


def _resolution(study: Study, resolved: pd.DataFrame) -> Table:
    rows: list[list[Cell]] = [
        [
            row.backbone, row.benchmark, str(row.problems), "" if row.benchmark == "Avg" else str(row.samples),
            f"{row.accuracy:.1f}", f"{row.independent:.1f}", f"{row.agreeing:.1f}", f"{row.gap:+.2f}",
        ]
        for row in resolved.itertuples()
    ]  # fmt: skip
    notes = [
        f"Smallest true difference, in percentage points, that two runs show with {study.claims['power']:.0%} chance "
        f"at {study.claims['alpha']:.0%} significance, if samples of a problem are independent, and if they always "
        "agree. For these problems alone the first is an upper bound; for other problems of the same kind the second, "
        "as both methods answer the same ones. Both runs are taken as given: that other seeds train otherwise comes on "
        "top.",
        f"{study.claims['protocol']['note']}. p = reported accuracy of {REFERENCE}.",
    ]
    header = [
        "Backbone",
        "Benchmark",
        "n",
        "k",
        f"{REFERENCE}\n(%)",
        "independent",
        "agreeing",
        f"{CHOSEN}\n− {REFERENCE}",
    ]
    return Table("What the protocol of the paper's Table 2 can resolve", header, rows, notes, "tab:resolution", left=2)


def _seeds(study: Study) -> str:
    return f"seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"


def _effect(judged: Judged) -> Cell:
    if judged.effect is None:
        return "–"
    low, high = (float("nan") if end is None else end for end in judged.interval)
    quantity = QUANTITIES[judged.statement.quantity]
    return Estimate(judged.effect, low, high, quantity.digits, quantity.unit)


def _needed(judged: Judged) -> str:
    if judged.verdict != INCONCLUSIVE or judged.estimate is None:
        return ""
    if judged.seeds_needed is not None:
        return str(judged.seeds_needed)
    return "∞" if judged.interval[0] is not None else "?"
