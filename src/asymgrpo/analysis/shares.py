"""How much of an effect another one explains: a ratio of means over seeds, with Fieller's interval. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from asymgrpo.analysis.intervals import LEVEL


class Share(NamedTuple):
    """A ratio of means; NaN where it is not defined."""

    point: float
    """mean(part) / mean(whole); NaN if the whole's interval covers 0."""
    low: float
    high: float
    raw: float
    """mean(part) / mean(whole) whatever the interval, for the CSV; NaN if the whole is 0 or there is no seed."""
    seeds: int


def fieller(part: ArrayLike, whole: ArrayLike, level: float = LEVEL) -> Share:
    """mean(part) / mean(whole) over paired seeds, with the interval of Fieller (1954).

    The interval holds the ratios r for which a paired t test does not reject mean(part - r * whole) = 0. It is bounded
    only if the t interval of the whole leaves out 0. Where it does not, or with fewer than three seeds (one degree of
    freedom says nothing), no share is defined, because what is to be shared may not be there at all.

    Args:
        part: (seeds,) e.g. the ablation minus REINFORCE; seeds with a NaN in either are left out.
        whole: (seeds,) e.g. Pos-Only minus REINFORCE, of the same seeds.
        level: coverage.
    """
    x, y = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    n = len(x)
    mean_x, mean_y = (float(v.mean()) if n else np.nan for v in (x, y))
    raw = mean_x / mean_y if n and mean_y != 0 else np.nan
    undefined = Share(np.nan, np.nan, np.nan, raw, n)
    if n < 3:
        return undefined
    (xx, xy), (_, yy) = np.cov(x, y, ddof=1) / n
    t2 = float(stats.t.ppf(0.5 + level / 2, n - 1)) ** 2
    # (mean_x - r mean_y)^2 <= t^2 (xx - 2 r xy + r^2 yy), a quadratic in r
    a, b, c = mean_y**2 - t2 * yy, mean_x * mean_y - t2 * xy, mean_x**2 - t2 * xx
    if a <= 0:
        return undefined
    root = np.sqrt(max(b * b - a * c, 0.0))
    return Share(raw, float((b - root) / a), float((b + root) / a), raw, n)
