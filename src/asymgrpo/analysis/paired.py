"""Differences between methods, paired by seed: the same start policy and prompts, and of the local backend the same
sampling streams. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asymgrpo.analysis.intervals import benchmark_intervals, seed_band

SHARE = 0.1
"""The end of a run: this share of its steps, the last ones, because the rollouts of a single step are few."""

QUANTITIES = {
    "reward": "reward",
    "entropy": "entropy (nats)",
    "response_length": "response length (tokens)",
    "accuracy": "test accuracy (%)",
}
"""Column of :func:`at_end` -> its name and unit."""

_KEYS = ["group", "seed"]


def at_end(steps: pd.DataFrame, accuracy: pd.DataFrame, last: int) -> pd.DataFrame:
    """What each run has come to.

    Args:
        steps: ``group``, ``seed``, ``step``, ``reward``, ``entropy``, ``response_length``.
        accuracy: ``group``, ``seed``, ``step``, ``accuracy`` (percent).
        last: the step that counts as the last one, the same for all.

    Returns:
        Index (``group``, ``seed``); of :data:`QUANTITIES` the means over the last :data:`SHARE` of the steps up to
        ``last``, and the accuracy of the last evaluation not after it.
    """
    window = steps[steps["step"].between(last - max(1, round(SHARE * last)) + 1, last)]
    ends = window.groupby(_KEYS, sort=False)[["reward", "entropy", "response_length"]].mean()
    before = accuracy[accuracy["step"] <= last]
    latest = before.loc[before.groupby(_KEYS, sort=False)["step"].idxmax()].set_index(_KEYS)
    return ends.join(latest["accuracy"])


def estimates(values: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Mean and band over the seeds of every group.

    Args:
        values: from :func:`at_end`.
        quantity: one of its columns.

    Returns:
        Index ``group``; ``mean``, ``low``, ``high`` (:func:`asymgrpo.analysis.intervals.seed_band`), ``seeds`` (how
        many).
    """
    rows = {group: _estimate(part.to_numpy()) for group, part in values[quantity].groupby(level="group", sort=False)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")


def difference(values: pd.DataFrame, quantity: str, group: str, reference: str) -> dict[str, float]:
    """A group minus a reference, over the seeds that both have.

    Args:
        values: from :func:`at_end`.
        quantity: one of its columns.
        group: name.
        reference: name.

    Returns:
        ``mean``, ``low``, ``high`` of the differences of equal seeds, ``seeds`` (how many), and each difference as
        ``seed_<n>``; the mean is NaN if the two have no seed in common.
    """
    apart = (values.loc[group, quantity] - values.loc[reference, quantity]).dropna()
    return _estimate(apart.to_numpy()) | {f"seed_{seed}": float(value) for seed, value in apart.items()}


def accuracy_differences(counts: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of one method minus that of another, per benchmark and on average, paired by seed and problem.

    Args:
        counts: of the one method, from :func:`asymgrpo.analysis.runs.final_counts`.
        reference: of the other.

    Returns:
        As :func:`asymgrpo.analysis.intervals.benchmark_intervals`; in percentage points.

    Raises:
        ValueError: they differ in seeds, benchmarks or problems.
    """
    ours, theirs = by_problem(counts), by_problem(reference)
    if list(ours) != list(theirs):
        raise ValueError(f"expected the same benchmarks, found {sorted(ours)} and {sorted(theirs)}")
    differences = {}
    for benchmark, values in ours.items():
        other = theirs[benchmark]
        if not (values.index.equals(other.index) and values.columns.equals(other.columns)):
            raise ValueError(f"{benchmark}: expected the same seeds and problems of both methods")
        differences[benchmark] = (values - other).to_numpy()
    return benchmark_intervals(differences)


def by_problem(counts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Benchmark -> accuracy in percent, (seeds, problems), of :func:`asymgrpo.analysis.runs.final_counts`."""
    accuracy = counts.assign(accuracy=100.0 * counts["correct"] / counts["samples"])
    return {
        str(benchmark): part.pivot(index="seed", columns="problem_id", values="accuracy")
        for benchmark, part in accuracy.groupby("benchmark", sort=False)
    }


def _estimate(values: NDArray[np.float64] | Sequence[float]) -> dict[str, float]:
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return {"mean": np.nan, "low": np.nan, "high": np.nan, "seeds": 0}
    mean, low, high = seed_band(x)
    return {"mean": float(mean), "low": float(low), "high": float(high), "seeds": len(x)}
