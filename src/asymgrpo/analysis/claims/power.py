"""What more seeds would decide, and what the paper's own protocol can resolve. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from asymgrpo.analysis.claims.statistics import Estimate

MOST_SEEDS = 1000
"""More are not worth naming."""


def chance(estimate: Estimate, now: int, seeds: int, direction: str, threshold: float, tail: float) -> float:
    """The chance that so many seeds decide a statement, if the effect and the spread are what was measured.

    Args:
        estimate: of one statement (scalars), from ``now`` seeds.
        now: how many it is from.
        seeds: how many there would be, at least 2.
        direction: a key of :data:`asymgrpo.analysis.claims.statistics.DIRECTIONS`.
        threshold: in the estimate's unit.
        tail: one-sided p that decides.

    Returns:
        Of a decision the way the measured effect points (for ``within``: of one for it if it lies inside, else
        against it); from the non-central t distribution.
    """
    more = estimate._replace(seeds=estimate.seeds * now / seeds, seeds_freedom=seeds - 1.0)
    error, critical = float(more.error), float(more.critical(tail))
    effect = float(estimate.effect)
    if direction != "within":
        return _beyond(abs(effect - threshold) / error, critical, seeds - 1)
    if abs(effect) >= threshold:
        return _beyond((abs(effect) - threshold) / error, critical, seeds - 1)
    both = [_beyond((threshold - sign * effect) / error, critical, seeds - 1) for sign in (1, -1)]
    return max(0.0, sum(both) - 1.0)


def _beyond(shift: float, critical: float, freedom: float) -> float:
    """P(T > critical) of a t statistic whose true value is ``shift`` standard errors."""
    if shift > critical + 12:
        return 1.0
    return float(stats.nct.sf(critical, freedom, shift))


def seeds_needed(
    estimate: Estimate, now: int, direction: str, threshold: float, tail: float, power: float
) -> int | None:
    """How many seeds would decide a statement with this chance; arguments as of :func:`chance`.

    Returns:
        At least 3; None if the spread is not known, or if :data:`MOST_SEEDS` would not do: because the effect is next
        to nothing, or because the uncertainty that remains is that of the problems.
    """
    if not np.isfinite(estimate.error):
        return None
    low, high = 2, 3
    while chance(estimate, now, high, direction, threshold, tail) < power:
        low, high = high, high * 2
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = chance(estimate, now, middle, direction, threshold, tail) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high if high <= MOST_SEEDS else None


def resolution(
    protocol: Mapping[str, Mapping[str, int]], accuracy: pd.Series, alpha: float, power: float
) -> pd.DataFrame:
    """The smallest true difference between two methods that a table of single runs can be expected to show.

    Each run is taken as given, without any noise of training, which comes on top. Both methods have about the same
    accuracy p. The error of a cell is sqrt(p (1-p) / (n k)) if the samples of a problem are as independent as those of
    different problems, and sqrt(p (1-p) / n) if they always agree. For these n problems and no others the first is an
    upper bound, since a problem that is mostly solved or mostly not has less to vary. For other problems of the same
    kind the error of *one* accuracy lies between the two; that of a difference may be smaller than both, as both
    methods answer the same problems, which single published numbers do not tell.

    Args:
        protocol: benchmark -> ``problems`` (n) and ``samples`` (k).
        accuracy: of a typical method, in percent, by benchmark.
        alpha: two-sided level of significance.
        power: chance of seeing the difference.

    Returns:
        One row per benchmark and a last one for ``Avg``, their unweighted mean: ``benchmark``, ``problems``,
        ``samples``, ``accuracy``, and the smallest detectable difference in percentage points for each of the two
        errors, ``independent`` and ``agreeing``.
    """
    width = stats.norm.isf(alpha / 2) + stats.norm.ppf(power)
    names = list(protocol)
    n = np.array([protocol[name]["problems"] for name in names], dtype=float)
    k = np.array([protocol[name]["samples"] for name in names], dtype=float)
    p = accuracy.loc[names].to_numpy(dtype=float) / 100.0
    table = pd.DataFrame({"benchmark": names, "problems": n, "samples": k, "accuracy": 100 * p})
    average = {"benchmark": "Avg", "problems": n.sum(), "samples": k.max(), "accuracy": 100 * p.mean()}
    for name, sampled in (("independent", n * k), ("agreeing", n)):
        variance = 2.0 * p * (1.0 - p) / sampled
        table[name] = 100 * width * np.sqrt(variance)
        average[name] = 100 * width * float(np.sqrt(variance.sum())) / len(names)
    table = pd.concat([table, pd.DataFrame([average])], ignore_index=True)
    return table.astype({"problems": int, "samples": int})
