"""What statements speak of, read from the runs: one value per seed and window, or one per seed and problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from asymgrpo.analysis import curves, paired, runs
from asymgrpo.analysis.claims.statistics import Floats
from asymgrpo.config.study import Run
from asymgrpo.figures import CURVE_DECODING

if TYPE_CHECKING:
    from asymgrpo.analysis.claims.definitions import Statement
    from asymgrpo.config import Study

CHECKPOINT = "last"


class Quantity(NamedTuple):
    """What it is called, its unit, what it is multiplied by, how many digits it is shown with, and its source.

    ``source``: a file of a run (``steps``, ``evaluations``) or the final ``scores``; ``column`` is one of its columns.
    """

    title: str
    unit: str
    scale: float
    digits: int
    source: str
    column: str


QUANTITIES: dict[str, Quantity] = {
    "entropy": Quantity("entropy", "nats", 1.0, 3, "steps", "entropy"),
    "entropy_ratio": Quantity("log of the mean entropy", "log ratio", 1.0, 3, "steps", "entropy"),
    "reward": Quantity("reward", "", 1.0, 3, "steps", "reward"),
    "accuracy": Quantity("test accuracy (greedy)", "points", 1.0, 2, "evaluations", "accuracy"),
    "degradation": Quantity("test accuracy against the own best", "points", 1.0, 2, "evaluations", "accuracy"),
    "none_solved": Quantity("share of groups that no rollout solves", "points", 100.0, 2, "steps", "none_solved"),
    "all_solved": Quantity("share of groups that all rollouts solve", "points", 100.0, 2, "steps", "all_solved"),
    "logprob_gain_correct": Quantity(
        "gain of log-probability on correct rollouts", "nats", 1.0, 4, "steps", "logprob_gain_correct"
    ),
    "alpha": Quantity("alpha", "nats per token", 1.0, 4, "steps", "alpha"),
    "final_average": Quantity("final accuracy on average", "points", 1.0, 2, "scores", ""),
}
"""Points are percentage points. Shares and accuracies are multiplied by 100 where the files do not do so."""


@dataclass(frozen=True)
class Differences:
    """What a statement is tested on: one of the two.

    Attributes:
        seeds: those that the values are of, in order.
        windows: shape (windows, seeds): differences of the means in each window.
        tables: per benchmark, shape (seeds, problems): differences of the accuracies, in percentage points.
    """

    seeds: tuple[int, ...]
    windows: Floats | None = None
    tables: tuple[Floats, ...] = ()


class Reader:
    """Differences of a study's runs; a file is read once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._read: dict[tuple[Any, ...], Any] = {}

    def differences(self, statement: Statement) -> Differences | str:
        """What a statement is tested on, or why there is nothing: no step, or no value in a window.

        Raises:
            ValueError: a file of a run is missing or incomplete.
        """
        quantity, seeds = QUANTITIES[statement.quantity], self._study.seeds
        if quantity.source == "scores":
            pairs = zip(
                *(self._scores(statement.backbone, name) for name in (statement.of, statement.minus)), strict=True
            )
            return Differences(seeds, tables=tuple(ours - theirs for ours, theirs in pairs))
        values = self._values(statement, statement.of)
        if statement.minus:
            values = values - self._values(statement, statement.minus)
        if not np.isfinite(values).all():
            return f"no value in some window ({statement.window})"
        return Differences(seeds, windows=values)

    def _values(self, statement: Statement, method: str) -> Floats:
        """Of one method, shape (windows, seeds); NaN where a window has no value."""
        quantity = QUANTITIES[statement.quantity]
        found = np.full((len(statement.windows), len(self._study.seeds)), np.nan)
        for column, seed in enumerate(self._study.seeds):
            series = self._series(quantity.source, quantity.column, Run(statement.backbone, method, seed))
            for row, (first, last) in enumerate(statement.windows):
                values = series[(series.index >= first) & (series.index <= last)].dropna()
                if len(values):
                    found[row, column] = _in_window(statement.quantity, values, series) * quantity.scale
        return found

    def _series(self, source: str, column: str, run: Run) -> pd.Series:
        """A column by step; accuracy is the mean over benchmarks, in percent."""
        key = (source, run)
        if key not in self._read:
            if source == "steps":
                frame = runs.steps(self._study, [run])
            else:
                frame = curves.mean_accuracy(runs.evaluations(self._study, [run]), CURVE_DECODING)
            self._read[key] = frame.set_index("step")
        return self._read[key][column]

    @cached_property
    def _decoding(self) -> str:
        return self._study.artefact("table2").decodings[0]

    def _scores(self, backbone: str, method: str) -> list[Floats]:
        """Accuracy in percent of the last policy, per benchmark, shape (seeds, problems)."""
        key = ("scores", backbone, method)
        if key not in self._read:
            counts = runs.final_counts(self._study, backbone, method, self._decoding, CHECKPOINT)
            self._read[key] = paired.by_problem(counts)
        tables = []
        for name, table in self._read[key].items():
            reference = self._read.setdefault(("problems", backbone, name), table.columns)
            if table.isna().to_numpy().any() or not table.columns.equals(reference):
                raise ValueError(f"{name}: expected the same problems in every seed and method of {backbone}")
            tables.append(table.to_numpy())
        return tables


def _in_window(quantity: str, values: pd.Series, series: pd.Series) -> float:
    mean = float(values.mean())
    if quantity == "entropy_ratio":
        return float(np.log(mean)) if mean > 0 else float("nan")
    if quantity == "degradation":
        return mean - float(series.max())
    return mean


def paper_difference(reported: pd.DataFrame, study: Study, backbone: str, methods: Sequence[str]) -> float | None:
    """What the paper's Table 2 says of a final average: a difference in points; None if a cell is not there.

    Args:
        reported: from :func:`asymgrpo.tables.table2.read_reported`.
        study: the study.
        backbone: name.
        methods: the method and the one that it is compared with.
    """
    cells = reported[reported["benchmark"] == "Avg"].set_index(["backbone", "method"])["accuracy"]
    keys = [(study.backbones[backbone].stands_for, study.every_method[name].paper_row) for name in methods]
    if any(key not in cells.index for key in keys):
        return None
    ours, theirs = (float(cells[key]) for key in keys)
    return round(ours - theirs, 2)
