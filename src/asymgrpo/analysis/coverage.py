"""Coverage: pass@k over k, accuracy over temperature, and whether entropy that is kept goes with it. Pure functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from asymgrpo.evaluation.metrics import pass_at_k


def widest(final: dict[str, dict], benchmarks: list[str]) -> str:
    """The decoding for pass@k: the one with the most samples that every benchmark has; of several, the hottest.

    Args:
        final: decoding -> ``temperature`` and ``samples`` (one number, or one per benchmark), as in a scale.
        benchmarks: those that count.
    """

    def key(name: str) -> tuple[int, float]:
        samples = final[name]["samples"]
        fewest = min(samples[b] for b in benchmarks) if isinstance(samples, dict) else samples
        return fewest, final[name]["temperature"]

    return max(final, key=key)


def pass_curves(responses: pd.DataFrame) -> pd.DataFrame:
    """Unbiased pass@k of one method and decoding, unweighted mean over benchmarks, for every k that all of them have.

    Args:
        responses: ``seed``, ``benchmark``, ``problem_id``, ``samples``, ``correct``, one row per problem.

    Returns:
        Index ``seed``, columns k = 1, 2, ..., percent.
    """
    most = int(responses.groupby("benchmark")["samples"].min().min())
    rows = {}
    for seed, part in responses.groupby("seed"):
        by_benchmark = [
            [100.0 * pass_at_k(one["correct"], int(one["samples"].iloc[0]), k).mean() for k in range(1, most + 1)]
            for _, one in part.groupby("benchmark", sort=False)
        ]
        rows[seed] = np.mean(by_benchmark, axis=0)
    curve = pd.DataFrame.from_dict(rows, orient="index", columns=list(range(1, most + 1)))
    return curve.rename_axis("seed").sort_index()


def accuracies(responses: pd.DataFrame) -> pd.Series:
    """Avg@k of every seed, unweighted mean over benchmarks, percent; index ``seed``. See :func:`pass_curves`."""
    sums = responses.groupby(["seed", "benchmark"])[["correct", "samples"]].sum()
    return (100.0 * sums["correct"] / sums["samples"]).groupby("seed").mean()


def rank_correlation(x: pd.DataFrame, y: pd.DataFrame) -> pd.Series:
    """Spearman's rank correlation over methods, of every seed; NaN for fewer than three methods or constant values.

    Args:
        x: (methods, seeds).
        y: the same labels.
    """
    found = {}
    for seed in x.columns:
        both = pd.concat([x[seed], y[seed]], axis=1).dropna().to_numpy()
        enough = len(both) >= 3 and (np.ptp(both, axis=0) > 0).all()
        found[seed] = float(stats.spearmanr(both[:, 0], both[:, 1]).statistic) if enough else np.nan
    return pd.Series(found, dtype=float)
