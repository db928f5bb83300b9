"""Interval estimates: t intervals over seeds, and a bootstrap over seeds and what lies within a seed. Pure functions.

The unit of replication is the seed (its own warm start, prompts and sampling), never the step or the response: an
interval that resamples only responses would be far too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_SEEDS = 3
"""With fewer seeds nothing is decided that seeds decide."""
ENOUGH_SEEDS = 5
"""With fewer a bootstrap over seeds is not to be taken at its word."""
AVERAGE = "average"
"""Stands for a benchmark's name where the unweighted mean over benchmarks is meant."""


def t_interval(values: ArrayLike, level: float = LEVEL) -> tuple[NDArray, NDArray, NDArray]:
    """Mean and two-sided t interval over the last axis, NaN values left out.

    Args:
        values: shape (..., n).
        level: coverage, e.g. 0.95.

    Returns:
        mean, low, high, each of shape (...), float64. The interval is NaN where fewer than two values are finite, the
        mean where there is none.
    """
    x = np.asarray(values, dtype=np.float64)
    n = np.sum(~np.isnan(x), axis=-1)
    count = np.maximum(n, 1)
    mean = np.where(n > 0, np.nansum(x, axis=-1) / count, np.nan)
    squares = np.nansum((x - mean[..., None]) ** 2, axis=-1)
    freedom = np.maximum(n - 1, 1)
    half = stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(squares / freedom / count)
    half = np.where(n > 1, half, np.nan)
    return mean, mean - half, mean + half


def seed_band(values: ArrayLike, level: float = LEVEL) -> tuple[NDArray, NDArray, NDArray]:
    """What a figure draws over seeds: mean and band over the last axis.

    Three seeds or more: the t interval. Two: their range, because a t interval with one degree of freedom (12.7
    standard errors) says nothing that two lines do not. One: no band (NaN). :func:`band_name` says which it is.

    Args:
        values: shape (..., seeds).
        level: coverage of the t interval.

    Returns:
        mean, low, high, each of shape (...), float64.
    """
    x = np.asarray(values, dtype=np.float64)
    seeds = x.shape[-1]
    mean, low, high = t_interval(x, level)
    if seeds >= 3:
        return mean, low, high
    finite = ~np.isnan(x)
    some = finite.sum(axis=-1) > 1
    low = np.where(some, np.where(finite, x, np.inf).min(axis=-1), np.nan)
    high = np.where(some, np.where(finite, x, -np.inf).max(axis=-1), np.nan)
    return mean, low, high


def band_name(seeds: int, level: float = LEVEL) -> str:
    """How a caption names the band that :func:`seed_band` gives for this number of seeds."""
    if seeds >= 3:
        return f"{level:.0%} t interval over {seeds} seeds"
    return "range of 2 seeds" if seeds == 2 else "no band (1 seed)"


def bootstrap_note(seeds: int) -> str:
    """One sentence about what a bootstrap of so few seeds is worth; empty where there are enough.

    Its numbers are those of benchmarks/calibration.py (2,000 simulations, 95.3% at four seeds, 96.0% at five).
    """
    if seeds >= ENOUGH_SEEDS:
        return ""
    if seeds == 1:
        return "An interval from one seed says nothing of other seeds."
    return (
        f"With fewer than {ENOUGH_SEEDS} seeds the interval tends to be too narrow: simulated with a spread as in the "
        "reference results of the local scale, it covers 92% with two seeds and 94% with three."
    )


@lru_cache(maxsize=64)
def _weights(size: int, resamples: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Bootstrap weights, shape (resamples, size): how often each unit is drawn, divided by `size`. Deterministic."""
    draws = np.random.default_rng(seed).integers(size, size=(resamples, size))
    flat = draws + np.arange(resamples)[:, None] * size
    weights = np.bincount(flat.ravel(), minlength=resamples * size).reshape(resamples, size) / size
    weights.setflags(write=False)
    return weights


def bootstrap_crossed(
    values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, stream: int = 0
) -> NDArray[np.float64]:
    """Bootstrap distribution of the mean over seeds and over units that are the same in every seed (problems).

    Seeds are drawn with replacement, and so are units, the same ones for all seeds. Drawing n of n seeds understates
    their variance by (n-1)/n, a factor of two at n = 2; the seeds' deviations from their mean are therefore scaled by
    sqrt(n/(n-1)) first. With one seed the interval covers the units only.

    Draws depend on ``seed``, ``stream`` and the shape alone, so that two methods' distributions over the same
    benchmark are paired, and different benchmarks (``stream``) share the seeds that were drawn.

    Args:
        values: shape (seeds, units), one value per unit (e.g. a problem's accuracy over its samples), finite.
        resamples: number of bootstrap draws.
        seed: of the random generator.
        stream: separates the draws of different benchmarks' units.

    Returns:
        float64, shape (resamples,).

    Raises:
        ValueError: not two-dimensional, empty, or not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"bootstrap: expected finite values of shape (seeds, units), found shape {x.shape}")
    means = x.mean(axis=1)
    x = x + _spread(means)[:, None]
    of_seeds = _weights(len(x), resamples, (seed, 0))
    return np.einsum("rp,rp->r", of_seeds @ x, _weights(x.shape[1], resamples, (seed, 1, stream)))


def bootstrap_nested(values: Sequence[ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Bootstrap distribution of the mean of the seeds' means, over seeds and over units within a seed (steps).

    As :func:`bootstrap_crossed`, but every seed has its own units, drawn anew. Their noise is in the seeds' means as
    well as drawn again, so the interval errs on the wide side.

    Args:
        values: one array of shape (units of this seed,) per seed, finite, not empty.
        resamples: number of bootstrap draws.
        seed: of the random generator.

    Returns:
        float64, shape (resamples,).

    Raises:
        ValueError: no seed, or a seed without values, or a value that is not finite.
    """
    series = [np.asarray(row, dtype=np.float64) for row in values]
    if not series or any(row.ndim != 1 or row.size == 0 or not np.isfinite(row).all() for row in series):
        raise ValueError("bootstrap: expected at least one seed, each with a one-dimensional array of finite values")
    extra = _spread(np.array([row.mean() for row in series]))
    of_seeds = _weights(len(series), resamples, (seed, 0))
    return sum(
        (
            of_seeds[:, index] * (_weights(len(row), resamples, (seed, 1, index)) @ (row + extra[index]))
            for index, row in enumerate(series)
        ),
        start=np.zeros(resamples),
    )


def _spread(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to each seed's values so that resampled seeds have the variance of a mean of n seeds; shape (n,)."""
    n = len(means)
    return (np.sqrt(n / (n - 1)) - 1.0) * (means - means.mean()) if n > 1 else np.zeros(n)


def percentile_interval(distribution: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The central ``level`` of a bootstrap distribution of shape (resamples,): low, high."""
    low, high = np.quantile(np.asarray(distribution, dtype=np.float64), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def accuracy_intervals(counts: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Avg@k of one method with its interval over seeds and problems, per benchmark and on average, in percent.

    The interval is that of :func:`bootstrap_crossed`: problems are the same for every seed. Draws are shared
    between methods (so differences are paired) and seeds' draws between benchmarks (so that the average's interval
    keeps what a good or bad seed does to all of them).

    Args:
        counts: one row per (seed, benchmark, problem_id) with ``correct`` of ``samples``; see
            :func:`asymgrpo.analysis.runs.final_counts`.
        level: coverage.

    Returns:
        One row per benchmark, in order of appearance, and a last one for :data:`AVERAGE`: ``benchmark``, ``problems``
        (n), ``samples`` (k), ``mean``, ``low``, ``high``; for every seed ``accuracy_seed_<s>`` and
        ``correct_seed_<s>`` (out of n * k; of the average, the sum).

    Raises:
        ValueError: seeds differ in a benchmark's problems, or problems in k.
    """
    rows, distributions = [], []
    for stream, (benchmark, part) in enumerate(counts.groupby("benchmark", sort=False)):
        correct = part.pivot(index="seed", columns="problem_id", values="correct")
        if correct.isna().to_numpy().any() or part["samples"].nunique() != 1:
            raise ValueError(f"{benchmark}: expected the same problems, with as many samples each, in every seed")
        samples = int(part["samples"].iloc[0])
        values = 100.0 * correct.to_numpy(dtype=float) / samples
        distributions.append(bootstrap_crossed(values, stream=stream))
        rows.append(
            {"benchmark": benchmark, "problems": values.shape[1], "samples": samples, "mean": values.mean()}
            | {f"accuracy_seed_{seed}": value for seed, value in zip(correct.index, values.mean(axis=1), strict=True)}
            | {f"correct_seed_{seed}": total for seed, total in correct.sum(axis=1).astype(int).items()}
        )
    table = pd.DataFrame(rows)
    summed = ["problems", *(name for name in table if str(name).startswith("correct_seed_"))]
    means = ["mean", *(name for name in table if str(name).startswith("accuracy_seed_"))]
    average = {"benchmark": AVERAGE, "samples": table["samples"].max()} | table[summed].sum().to_dict()
    table = pd.concat([table, pd.DataFrame([average | table[means].mean().to_dict()])], ignore_index=True)
    distributions.append(np.mean(distributions, axis=0))
    ends = [percentile_interval(distribution, level) for distribution in distributions]
    table.insert(4, "low", [low for low, _ in ends])
    table.insert(5, "high", [high for _, high in ends])
    return table.astype({"problems": int, "samples": int})


def benchmark_intervals(values: Mapping[str, ArrayLike], level: float = LEVEL) -> pd.DataFrame:
    """Means with their intervals over seeds and problems, per benchmark and on average; as :func:`accuracy_intervals`.

    Args:
        values: benchmark -> one value per seed and problem, shape (seeds, problems), finite.
        level: coverage.

    Returns:
        One row per benchmark, in order, and a last one for :data:`AVERAGE`, their unweighted mean: ``benchmark``,
        ``problems``, ``mean``, ``low``, ``high``, ``by_seed`` (the mean of every seed).
    """
    arrays = [np.asarray(value, dtype=np.float64) for value in values.values()]
    distributions = [bootstrap_crossed(array, stream=stream) for stream, array in enumerate(arrays)]
    distributions.append(np.mean(distributions, axis=0))
    by_seed = [array.mean(axis=1) for array in arrays]
    by_seed.append(np.mean(by_seed, axis=0))
    problems = [array.shape[1] for array in arrays]
    ends = [percentile_interval(distribution, level) for distribution in distributions]
    return pd.DataFrame(
        {
            "benchmark": [*values, AVERAGE],
            "problems": [*problems, sum(problems)],
            "mean": [means.mean() for means in by_seed],
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "by_seed": [list(means) for means in by_seed],
        }
    )
