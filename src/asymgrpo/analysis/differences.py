"""Accuracies by seed and problem, and the interval of their mean that the verdicts on claims have. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asymgrpo.analysis import paired
from asymgrpo.analysis.claims.statistics import crossed
from asymgrpo.analysis.intervals import LEVEL, bootstrap_crossed, percentile_interval

Values = dict[str, NDArray[np.float64]]
"""Benchmark -> one value for each seed and problem, shape (seeds, problems)."""


def by_problem(counts: pd.DataFrame, seeds: Sequence[int]) -> Values:
    """Accuracy in percent.

    Args:
        counts: from :func:`asymgrpo.analysis.runs.final_counts`.
        seeds: which, in order; one may come several times (the start policy of several runs).

    Raises:
        ValueError: a benchmark lacks a seed, or seeds differ in its problems.
    """
    found = {}
    for benchmark, known in paired.by_problem(counts).items():
        table = known.reindex(seeds)
        if table.isna().to_numpy().any():
            raise ValueError(
                f"{benchmark}: expected the same problems in each of the seeds {', '.join(map(str, seeds))}"
            )
        found[benchmark] = table.to_numpy(dtype=np.float64)
    return found


def minus(values: Mapping[str, NDArray[np.float64]], reference: Mapping[str, NDArray[np.float64]]) -> Values:
    """Differences, seed by seed and problem by problem; ValueError if the two differ in benchmarks or shapes."""
    shapes = [{name: table.shape for name, table in side.items()} for side in (values, reference)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"expected the same benchmarks, seeds and problems, found {shapes[0]} and {shapes[1]}")
    return {name: values[name] - reference[name] for name in values}


def estimate(
    tables: Sequence[NDArray[np.float64]], weights: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Mean over benchmarks, with its 95% interval over seeds and problems.

    From two seeds on that of :func:`asymgrpo.analysis.claims.statistics.crossed`. With one seed a bootstrap over
    problems: it says nothing of other seeds. :func:`interval_name` says which it is.

    Args:
        tables: for each benchmark shape (seeds, problems).
        weights: of the benchmarks; default: equal ones that add up to 1.

    Returns:
        mean, low, high; the ends are NaN if seeds do not differ at all, since then their spread is not known.
    """
    shares = [1.0 / len(tables)] * len(tables) if weights is None else list(weights)
    # `crossed` weighs every benchmark alike
    scaled = [len(tables) * share * table for share, table in zip(shares, tables, strict=True)]
    if len(tables[0]) == 1:
        drawn = np.mean([bootstrap_crossed(table, stream=stream) for stream, table in enumerate(scaled)], axis=0)
        return float(np.mean([table.mean() for table in scaled])), *percentile_interval(drawn)
    found = crossed(scaled)
    low, high = found.interval(LEVEL)
    return float(found.effect), float(low), float(high)


def interval_name(seeds: int) -> str:
    """How a caption names the interval of :func:`estimate`."""
    if seeds == 1:
        return f"[{LEVEL:.0%} interval] over problems, by bootstrap; one seed, so it says nothing of other seeds"
    return f"[{LEVEL:.0%} interval] over {seeds} seeds and the problems, by t statistics, as in the table of claims"
