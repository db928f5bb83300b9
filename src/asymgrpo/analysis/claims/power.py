"""What more seeds would decide, and what the paper's own protocol can resolve. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from asymgrpo.analysis.claims.statistics import Estimate, evidence, paired

MOST_SEEDS = 1000
"""More are not worth naming."""
SIMULATIONS = 20_000
"""A chance of 80% then has a standard error of 0.3 points."""


def chance(estimate: Estimate, now: int, seeds: int, direction: str, threshold: float, tail: float) -> float:
    """The chance that so many seeds decide a statement, if the effect and the spread are what was measured.

    Args:
        estimate: of a statement about one window (scalars), from ``now`` seeds.
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


def joint_chance(windows: ArrayLike, seeds: int, direction: str, threshold: float, tail: float) -> float:
    """The chance that so many seeds decide a statement about several windows, simulated.

    A seed's windows are drawn together, from the normal distribution with the mean and the covariance that were
    measured, and weighed by :func:`asymgrpo.analysis.claims.statistics.evidence`, as the measured ones are.

    Args:
        windows: differences, shape (windows, seeds now), of two seeds at least.
        seeds: how many there would be, at least 2.
        direction: a key of :data:`asymgrpo.analysis.claims.statistics.DIRECTIONS`.
        threshold: in the unit of the differences.
        tail: one-sided p that decides.

    Returns:
        Of a decision either way, from :data:`SIMULATIONS` studies; the same number every time.
    """
    values = np.asarray(windows, dtype=np.float64)
    measured = paired(values)
    deviations = values - measured.effect[:, None]
    _, upper = np.linalg.qr(deviations.T)
    root = upper.T / np.sqrt(values.shape[1] - 1)  # times its transpose: the covariance
    size, freedom = root.shape[1], seeds - 1
    rng = np.random.default_rng(0)
    effect = measured.effect + rng.normal(size=(SIMULATIONS, size)) @ root.T / np.sqrt(seeds)
    # the deviations of so many seeds, rotated onto as few axes as there are windows (Bartlett's decomposition)
    rotated = np.tril(rng.normal(size=(SIMULATIONS, size, size)), -1)
    free = np.maximum(freedom - np.arange(size), 0)
    rotated[:, range(size), range(size)] = np.sqrt(2 * rng.standard_gamma(free / 2, (SIMULATIONS, size)))
    variance = ((root @ rotated[..., :freedom]) ** 2).sum(-1) / freedom
    variance[:, np.isnan(measured.seeds)] = np.nan  # a window of unknown spread says nothing with more seeds either
    parts = [
        Estimate(effect[:, w], variance[:, w] / seeds, float(freedom), np.zeros(1), np.ones(1))
        for w in range(len(values))
    ]
    whole, _ = evidence(parts, direction, threshold)
    return float(np.mean(whole.p < 2 * tail))


def seeds_needed(chance_of: Callable[[int], float], power: float) -> int | None:
    """The fewest seeds that decide a statement with this chance.

    Args:
        chance_of: :func:`chance` or :func:`joint_chance` as a function of the number of seeds; it rises.
        power: the chance that is asked for.

    Returns:
        At least 3; None if :data:`MOST_SEEDS` would not do: because the effect is next to nothing, or because the
        uncertainty that remains is that of the problems.
    """
    low, high = 2, 3
    while chance_of(high) < power:
        low, high = high, high * 2
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_of(middle) >= power else (middle, high)
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
