"""How a reported number and ours agree. Pure functions.

Two numbers of the same model and task are compared themselves. Ours is a mean over seeds with a spread; the reported
one is taken for a single run with as much spread as one of ours, on the same problems, so that the difference of the
two has the interval of a prediction: t quantile times s sqrt(1 + 1/S).

With another model or task only the sign of the difference to a reference method is compared, with the interval of our
difference (:func:`asymgrpo.analysis.differences.estimate`). Of the reported difference only the sign is used; it has no
interval of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from asymgrpo.analysis.intervals import FEWEST_SEEDS, LEVEL

INSIDE = "inside"
OUTSIDE = "outside"
SIGN_AGREES = "sign agrees"
SIGN_DIFFERS = "sign differs"
UNDECIDED = "undecided"
REFERENCE = "reference"
NOT_REPRODUCED = "not reproduced"

AGREEMENT = {
    INSIDE: "same model and task: the interval of the difference contains 0",
    OUTSIDE: "same model and task: it does not",
    SIGN_AGREES: "another model or task: the difference to GRPO has the reported sign, and its interval excludes 0",
    SIGN_DIFFERS: "another model or task: it has the other sign, and its interval excludes 0",
    UNDECIDED: f"the interval contains 0, or there are fewer than {FEWEST_SEEDS} seeds, or no difference is reported",
    REFERENCE: "another model or task: GRPO itself, which differences are to",
    NOT_REPRODUCED: "the scale has no such model, method or benchmark",
}
"""Values of the column `agreement`, with their meaning."""


def prediction(by_seed: ArrayLike, reported: float) -> tuple[float, float, float]:
    """Mean over seeds minus a reported number of one run, with the interval that such a difference has by seeds alone.

    Args:
        by_seed: one value for each seed, of the same problems.
        reported: a number.

    Returns:
        difference, low, high; the ends are NaN for one seed.
    """
    values = np.asarray(by_seed, dtype=np.float64)
    count = len(values)
    difference = float(values.mean() - reported)
    if count < 2:
        return difference, float("nan"), float("nan")
    half = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / count))
    return difference, difference - half, difference + half


def level(low: float, high: float, seeds: int) -> str:
    """Of the interval of the difference of two numbers of the same model and task."""
    if seeds < FEWEST_SEEDS or not np.isfinite([low, high]).all():
        return UNDECIDED
    return INSIDE if low <= 0 <= high else OUTSIDE


def sign(reported: float, low: float, high: float, seeds: int) -> str:
    """Of a reported difference to the reference, and the interval of ours."""
    if seeds < FEWEST_SEEDS or not np.isfinite([reported, low, high]).all() or reported == 0 or low <= 0 <= high:
        return UNDECIDED
    return SIGN_AGREES if (low > 0) == (reported > 0) else SIGN_DIFFERS
