"""Intervals and tests of differences between methods. Pure functions of arrays; leading axes are independent cases.

The unit of replication is the seed. Two methods share a seed's start policy and prompts, with the local backend its
sampling streams as well, so their differences are taken seed by seed, and tested with a t statistic.

**Final accuracies** vary over seeds *and* over problems, the same problems in every seed. The mean over benchmarks with
equal weights w = 1/B has, for differences of shape (S seeds, P_b problems) in benchmark b, the variance

    Var = s_T^2 / S + sum_b w^2 max(0, MS_problem,b - MS_interaction,b) / (S P_b)

with s_T^2 the variance over seeds of the seeds' averages T_s, and MS the mean squares of the two-way table; for one
benchmark this is (MS_seed + MS_problem - MS_interaction) / (S P). It speaks of other seeds and of other problems of the
same kind. The first term rests on S - 1 degrees of freedom, the second on hundreds, so one t distribution does not fit
their sum: the critical value is Cochran's, the mean of the two t quantiles weighted by the two terms.

Measured with ``benchmarks/calibration.py`` (2,000 simulated tables each, five benchmarks of 200 problems; Monte-Carlo
error 0.5 points; the bootstrap 400, 1.1 points), in per cent, what the nominal 95% interval covers at worst and at best
over four mixtures of the two variances:

    ===================================  ============  ============  ============
    interval                             S = 3         S = 5         S = 10
    ===================================  ============  ============  ============
    crossed, Cochran's critical value    94.4 to 96.9  94.5 to 96.5  95.3 to 95.9
    crossed, Satterthwaite's freedom     92.6 to 94.3  94.0 to 94.5  94.8 to 95.5
    bootstrap over seeds and problems    81.8 to 98.5  84.2 to 98.5  92.8 to 96.8
    ===================================  ============  ============  ============

So neither Satterthwaite's single t distribution nor a bootstrap is used: few seeds are too few to resample, and the
percentiles of a bootstrap lack the width of the t quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
DIRECTIONS = {"above": ">", "below": "<", "within": "="}
TINY = 1e-12
"""A spread below this share of the values is rounding: the seeds do not differ."""
SMALLEST_P = 1e-12
BISECTIONS = 40


class Estimate(NamedTuple):
    """A mean difference and the two terms of its variance; every field has the shape of the leading axes.

    ``seeds`` is the term that more seeds make smaller, ``problems`` the one that they do not (0 where problems are not
    sampled). ``seeds`` is NaN where the spread is not known: one seed, or seeds that do not differ at all.
    """

    effect: Floats
    seeds: Floats
    seeds_freedom: float
    problems: Floats
    problems_freedom: Floats

    @property
    def error(self) -> Floats:
        """Standard error."""
        return np.sqrt(self.seeds + self.problems)

    def critical(self, tail: ArrayLike) -> Floats:
        """How many standard errors leave this much probability in one tail."""
        of_seeds = -special.stdtrit(self.seeds_freedom, tail)
        of_problems = np.where(self.problems > 0, -special.stdtrit(self.problems_freedom, tail), 0.0)
        with np.errstate(invalid="ignore"):
            return (self.seeds * of_seeds + self.problems * of_problems) / (self.seeds + self.problems)

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Two-sided interval of this coverage; NaN where the spread is not known."""
        half = self.critical((1.0 - level) / 2) * self.error
        return self.effect - half, self.effect + half

    def above(self, bound: float) -> Floats:
        """One-sided p against "not above the bound"; 1 where the spread is not known."""
        with np.errstate(invalid="ignore"):
            t = np.asarray((self.effect - bound) / self.error)
        if np.isnan(t).all() or not np.any(self.problems):
            return np.where(np.isnan(t), 1.0, special.stdtr(self.seeds_freedom, -t))
        low, high = np.full(np.shape(t), np.log(SMALLEST_P)), np.full(np.shape(t), np.log(0.5))
        for _ in range(BISECTIONS):  # the critical value has no inverse in closed form, but it falls with the tail
            middle = (low + high) / 2
            enough = np.abs(t) < self.critical(np.exp(middle))
            low, high = np.where(enough, middle, low), np.where(enough, high, middle)
        tail = np.exp(high)
        return np.where(np.isnan(t), 1.0, np.where(t > 0, tail, 1.0 - tail))

    def below(self, bound: float) -> Floats:
        """One-sided p against "not below the bound"; 1 where the spread is not known."""
        return self._replace(effect=-np.asarray(self.effect)).above(-bound)


def paired(differences: ArrayLike) -> Estimate:
    """Mean over seeds of their differences.

    Args:
        differences: one per seed, shape (..., S), finite.
    """
    d = np.asarray(differences, dtype=np.float64)
    seeds = d.shape[-1]
    nothing = np.zeros(d.shape[:-1])
    if seeds < 2:
        return Estimate(d.mean(-1), nothing + np.nan, 1.0, nothing, nothing + 1.0)
    spread = d.std(-1, ddof=1)
    known = spread > TINY * np.abs(d).max(-1, initial=0.0)
    return Estimate(d.mean(-1), np.where(known, spread**2 / seeds, np.nan), seeds - 1.0, nothing, nothing + 1.0)


def crossed(differences: Sequence[ArrayLike]) -> Estimate:
    """Mean over benchmarks, with the variance over seeds and problems; see the top of this module.

    Args:
        differences: per benchmark, shape (..., S, P_b) with the same S; P_b >= 2; finite.
    """
    tables = [np.asarray(table, dtype=np.float64) for table in differences]
    totals = np.mean([table.mean(-1) for table in tables], axis=0)
    over_seeds = paired(totals)
    seeds = totals.shape[-1]
    if seeds < 2:
        return over_seeds
    problems, squares = np.zeros(totals.shape[:-1]), np.zeros(totals.shape[:-1])
    for table in tables:
        count = table.shape[-1]
        of_seeds, of_problems = table.mean(-1, keepdims=True), table.mean(-2, keepdims=True)
        rest = table - of_seeds - of_problems + table.mean((-2, -1), keepdims=True)
        between = seeds * of_problems[..., 0, :].var(-1, ddof=1)
        interaction = (rest**2).sum((-2, -1)) / ((seeds - 1) * (count - 1))
        share = 1.0 / (len(tables) ** 2 * seeds * count)
        part = share * np.maximum(0.0, between - interaction)
        problems += part
        free = share**2 * (between**2 / (count - 1) + interaction**2 / ((seeds - 1) * (count - 1)))
        squares += np.where(part > 0, free, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(problems > 0, problems**2 / squares, 1.0)
    # a variance next to nothing, left over from a subtraction, would have next to no degrees of freedom
    return over_seeds._replace(problems=problems, problems_freedom=np.maximum(freedom, seeds - 1.0))


class Evidence(NamedTuple):
    """One-sided p for a statement (small: it holds) and against it (small: its contrary does), of the same shape."""

    for_it: Floats
    against: Floats

    @property
    def p(self) -> Floats:
        """Two-sided: the chance of so much evidence either way if there were nothing to find."""
        return np.minimum(1.0, 2.0 * np.minimum(self.for_it, self.against))


def evidence(parts: Sequence[Estimate], direction: str, threshold: float = 0.0) -> tuple[Evidence, NDArray[np.intp]]:
    """Evidence about a statement.

    ``above`` and ``below`` are about the threshold. ``within`` is equivalence by two one-sided tests against plus and
    minus the threshold, at the strictness of the two-sided interval (the 95% interval lies inside; with the customary
    TOST it would be the 90% interval). Of several parts (windows), each must hold, so the weakest decides; against the
    statement is what is against one of them, corrected for their number.

    Args:
        parts: estimates, one per window.
        direction: a key of :data:`DIRECTIONS`.
        threshold: in the unit of the estimates; for ``within`` above 0.

    Returns:
        The evidence, and the index of the weakest part (where more is against than for: of the one that says so most),
        of the same shape.
    """
    for_it, against = zip(*(_one_sided(part, direction, threshold) for part in parts), strict=True)
    whole = Evidence(np.max(for_it, axis=0), np.minimum(1.0, len(parts) * np.min(against, axis=0)))
    # a part whose spread is not known is no evidence, and so not the one to show where another is against it
    weakest = np.where(whole.against < whole.for_it, np.argmin(against, axis=0), np.argmax(for_it, axis=0))
    return whole, weakest


def _one_sided(part: Estimate, direction: str, threshold: float) -> tuple[Floats, Floats]:
    if direction == "within":
        inside = np.maximum(part.below(threshold), part.above(-threshold))
        return inside, np.minimum(part.above(threshold), part.below(-threshold))
    above, below = part.above(threshold), part.below(threshold)
    return (above, below) if direction == "above" else (below, above)


def holm(p: ArrayLike) -> Floats:
    """Holm's adjusted p over the last axis: the family-wise error stays below the level at which they are read."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1) * np.arange(values.shape[-1], 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(ranked, axis=-1))
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result
