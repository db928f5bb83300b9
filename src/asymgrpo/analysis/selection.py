"""What choosing a checkpoint on a test set gains over the last one. Pure functions of accuracies by seed and problem.

Of B benchmarks one, s, has chosen the checkpoint. With d_b the best checkpoint's accuracy minus the last one's,

    gain = mean_b d_b = d_s / B + (B - 1) / B mean_{b != s} d_b

so the share of the gain that is on s itself is told apart. Choosing on s favours s: what d_s exceeds the mean of the
others by is no better policy but the noise of the choice, as far as the benchmarks are alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asymgrpo.analysis.differences import estimate
from asymgrpo.analysis.intervals import AVERAGE

OTHERS = "others"
EXCESS = "chosen on minus others"
"""Stand for a benchmark's name: the mean of those that did not choose; and the excess of the one that did."""


def gains(differences: Mapping[str, NDArray[np.float64]], chosen_on: str) -> pd.DataFrame:
    """The gain of each benchmark, on average, of the others together, and what the choosing one has more than these.

    Args:
        differences: benchmark -> best minus last checkpoint, shape (seeds, problems).
        chosen_on: the benchmark that chose.

    Returns:
        ``benchmark`` (a name, :data:`~asymgrpo.analysis.intervals.AVERAGE`, :data:`OTHERS` or :data:`EXCESS`),
        ``mean``, ``low``, ``high`` (:func:`asymgrpo.analysis.differences.estimate`), ``of_average`` (points of the
        average's gain that this part makes up; NaN of the excess), ``by_seed`` (the mean of every seed).

    Raises:
        ValueError: the benchmark that chose is not among them.
    """
    if chosen_on not in differences:
        raise ValueError(f"{chosen_on}: is not among {', '.join(differences)}; expected the benchmark that chose")
    names = list(differences)
    others = [name for name in names if name != chosen_on]
    parts: dict[str, dict[str, float]] = {name: {name: 1.0} for name in names}
    parts[AVERAGE] = dict.fromkeys(names, 1 / len(names))
    if others:
        parts[OTHERS] = dict.fromkeys(others, 1 / len(others))
        parts[EXCESS] = {chosen_on: 1.0} | dict.fromkeys(others, -1 / len(others))
    rows = []
    for name, weights in parts.items():
        tables = [differences[benchmark] for benchmark in weights]
        mean, low, high = estimate(tables, list(weights.values()))
        by_seed = sum(weight * differences[benchmark].mean(axis=1) for benchmark, weight in weights.items())
        share = {AVERAGE: 1.0, OTHERS: len(others) / len(names), EXCESS: np.nan}.get(name, 1 / len(names))
        row = {"benchmark": name, "mean": mean, "low": low, "high": high, "of_average": share * mean}
        rows.append(row | {"by_seed": list(np.asarray(by_seed))})
    return pd.DataFrame(rows)


def best_steps(evaluations: pd.DataFrame, chosen_on: str, decoding: str) -> pd.DataFrame:
    """The step of the best checkpoint of every run: the earliest evaluation with the highest accuracy, the start apart.

    Args:
        evaluations: from :func:`asymgrpo.analysis.runs.evaluations`.
        chosen_on: benchmark.
        decoding: of the evaluations while training.

    Returns:
        ``backbone``, ``method``, ``seed``, ``best_step``, ``last_step``, one row for each run.
    """
    rows = evaluations[
        (evaluations["benchmark"] == chosen_on) & (evaluations["decoding"] == decoding) & (evaluations["step"] > 0)
    ].sort_values("step", kind="stable")
    keys = ["backbone", "method", "seed"]
    best = rows.loc[rows.groupby(keys, sort=False)["accuracy"].idxmax(), [*keys, "step"]]
    last = rows.groupby(keys, sort=False, as_index=False)["step"].max()
    return best.rename(columns={"step": "best_step"}).merge(last.rename(columns={"step": "last_step"}), on=keys)
