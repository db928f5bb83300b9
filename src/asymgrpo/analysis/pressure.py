"""Prop. 2 in training: where over the group accuracy the advantages' mass lies, given the groups. Pure functions.

The pressure p * A+(p) of Prop. 2 is what *one* group of accuracy p puts on its correct rollouts, and (1 - p) * |A-(p)|
on its wrong ones. A batch puts there that much times the share of its groups with this accuracy: the difficulty of the
problems decides with the exponent where the mass lies.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from asymgrpo.advantages import Estimator
from asymgrpo.analysis.group_advantages import by_count

SHARE = 0.2
"""Early and late: this share of a run's steps, its first and its last ones."""
CHANNELS = ("positive", "negative")


def windows(steps: int) -> dict[str, tuple[int, int]]:
    """First and last step (both included) of ``early`` and ``late``."""
    length = max(1, round(SHARE * steps))
    return {"early": (1, length), "late": (steps - length + 1, steps)}


def mass(histogram: ArrayLike, estimator: Estimator) -> pd.DataFrame:
    """The mass over group accuracy.

    Args:
        histogram: (G + 1,) number of groups with k correct rollouts, k = 0..G; not all zero.
        estimator: which advantages.

    Returns:
        One row per k: ``p`` = k / G; ``groups``, the share of groups; ``positive`` = groups * p * |A+(p)| and
        ``negative`` = groups * (1 - p) * |A-(p)|, both per rollout of the batch; ``positive_even`` and
        ``negative_even``, the same if groups were spread evenly over the G + 1 accuracies: Prop. 2's curve / (G + 1).

    Raises:
        ValueError: the histogram is empty.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    if not counts.sum() > 0:
        raise ValueError("histogram: expected at least one group, found none")
    size = len(counts) - 1
    p, table = np.arange(size + 1) / size, by_count(estimator, size)
    groups = counts / counts.sum()
    positive, negative = p * np.abs(table.positive), (1 - p) * np.abs(table.negative)
    return pd.DataFrame(
        {
            "p": p,
            "groups": groups,
            "positive": groups * positive,
            "negative": groups * negative,
            "positive_even": positive / (size + 1),
            "negative_even": negative / (size + 1),
        }
    )


def masses(steps: pd.DataFrame, estimators: dict[str, Estimator]) -> pd.DataFrame:
    """:func:`mass` of every run, early and late.

    Args:
        steps: ``backbone``, ``method``, ``seed``, ``step``, ``group_accuracy_histogram``.
        estimators: method -> estimator.

    Returns:
        ``backbone``, ``method``, ``seed``, ``window`` and the columns of :func:`mass`.
    """
    parts = []
    for (backbone, method, seed), part in steps.groupby(["backbone", "method", "seed"], sort=False):
        for window, (first, last) in windows(int(part["step"].max())).items():
            inside = part.loc[part["step"].between(first, last), "group_accuracy_histogram"]
            found = mass(np.sum(inside.to_list(), axis=0), estimators[method])
            for position, (name, value) in enumerate(
                {"backbone": backbone, "method": method, "seed": seed, "window": window}.items()
            ):
                found.insert(position, name, value)
            parts.append(found)
    return pd.concat(parts, ignore_index=True)


def peak(p: ArrayLike, values: ArrayLike) -> float:
    """The accuracy with the most mass, the lowest of several equal ones; NaN if there is no mass."""
    x, y = np.asarray(p, dtype=float), np.asarray(values, dtype=float)
    return float(x[np.argmax(y)]) if y.max() > 0 else np.nan
