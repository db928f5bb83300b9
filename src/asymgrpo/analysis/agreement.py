"""Do two backends train alike? One verl run against several torch runs of the same method from the same start policy.

Rollouts are sampled by different engines, so single steps cannot agree; what must is the distribution over seeds. The
tolerance is that of the torch runs themselves, stated in the scale before anything is run: for each quantity and each
window of steps, the verl run must lie inside the interval in which another torch seed would lie with the stated
probability (all comparisons together, by Bonferroni; normal theory).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

QUANTITIES = ("reward", "entropy", "alpha")


class Window(NamedTuple):
    """Steps first..last, both included."""

    name: str
    first: int
    last: int


def windows(steps: int) -> list[Window]:
    """The whole run, in which noise is smallest, and its last quarter, where a difference that builds up is largest."""
    return [Window("all steps", 1, steps), Window("last quarter", steps - max(1, steps // 4) + 1, steps)]


def compare(reference: pd.DataFrame, tested: pd.DataFrame, steps: int, level: float) -> pd.DataFrame:
    """Whether the tested runs are inside the reference runs' prediction intervals.

    Args:
        reference: ``seed``, ``step`` and :data:`QUANTITIES` of at least three runs.
        tested: the same of one or more runs.
        steps: how many each has.
        level: e.g. 0.99, the probability that a run that trains alike passes everything.

    Returns:
        One row per tested seed, quantity and window: ``seed``, ``quantity``, ``window``, ``value``, ``mean``, ``sd``
        (over reference seeds), ``low``, ``high``, ``z`` (deviations from the mean), ``within``.

    Raises:
        ValueError: fewer than three reference runs, none to test, or a run of another length.
    """
    for name, frame in (("reference", reference), ("tested", tested)):
        lengths = frame.groupby("seed")["step"].agg(["count", "nunique", "max"])
        if not (lengths == steps).all(axis=None):
            raise ValueError(f"{name}: expected {steps} steps of every run, found {lengths['count'].to_dict()}")
    n = reference["seed"].nunique()
    if n < 3:
        raise ValueError(f"reference: expected at least 3 runs, found {n}")
    if tested.empty:
        raise ValueError("tested: expected at least one run, found none")
    every = windows(steps)
    comparisons = len(QUANTITIES) * len(every) * tested["seed"].nunique()
    # of one more value of the same normal distribution, whose mean and deviation are estimated from n
    factor = stats.t.ppf(1 - (1 - level) / comparisons / 2, n - 1) * np.sqrt(1 + 1 / n)
    rows = []
    for window in every:
        means, values = (_means(frame, window) for frame in (reference, tested))
        for quantity in QUANTITIES:
            mean, sd = means[quantity].mean(), means[quantity].std(ddof=1)
            low, high = mean - factor * sd, mean + factor * sd
            for seed, value in values[quantity].items():
                rows.append(
                    {
                        "seed": seed,
                        "quantity": quantity,
                        "window": window.name,
                        "value": value,
                        "mean": mean,
                        "sd": sd,
                        "low": low,
                        "high": high,
                        "z": (value - mean) / sd,
                        "within": bool(low <= value <= high),
                    }
                )
    return pd.DataFrame(rows)


def _means(frame: pd.DataFrame, window: Window) -> pd.DataFrame:
    chosen = frame[frame["step"].between(window.first, window.last)]
    quantities: Sequence[str] = list(QUANTITIES)
    return chosen.groupby("seed")[quantities].mean()  # a step without mixed groups has no alpha, and is left out
