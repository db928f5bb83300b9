"""What the final evaluation says beside accuracy: pass@k, truncation, length, answers that could not be found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asymgrpo.analysis.intervals import LEVEL, benchmark_intervals
from asymgrpo.evaluation.metrics import pass_at_k

AVG, PASS, TRUNCATED, UNEXTRACTED, TOKENS = "avg", "pass", "truncated", "unextracted", "tokens"


def powers_of_two(samples: int) -> list[int]:
    """k = 1, 2, 4, ... up to the number of samples."""
    return [2**i for i in range(samples.bit_length())]


def metrics(responses: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Every metric of one method, decoding and checkpoint, per benchmark and on average, with intervals.

    Args:
        responses: rows of :func:`asymgrpo.analysis.runs.final_responses` of one decoding and checkpoint.
        level: coverage of the intervals.

    Returns:
        ``metric``, ``k``, and the columns of :func:`asymgrpo.analysis.intervals.benchmark_intervals`. Metrics: ``avg``
        (Avg@k, k samples), ``pass`` (unbiased pass@k, k = 1, 2, 4, ... up to the samples; on average those that every
        benchmark has), ``truncated`` (cut off at the longest response) and ``unextracted`` (no answer found), in
        percent; ``tokens``, the mean length. ``k`` is the number of samples behind a metric, of an average the largest.

    Raises:
        ValueError: seeds differ in a benchmark's problems, or in k.
    """
    wide = {name: _wide(str(name), part) for name, part in responses.groupby("benchmark", sort=False)}
    samples = {name: int(part["samples"].max()) for name, part in responses.groupby("benchmark", sort=False)}
    rows = []
    for metric, k in _asked(samples):
        has = {name: values for name, values in wide.items() if k is None or k <= samples[name]}
        part = benchmark_intervals(
            {str(name): _values(metric, k, samples[name], values) for name, values in has.items()}, level
        )
        if len(has) < len(wide):
            part = part.iloc[:-1]  # no average of some benchmarks only
        part.insert(0, "metric", metric)
        part.insert(1, "k", [*(k or samples[name] for name in has), k or max(samples.values())][: len(part)])
        rows.append(part)
    return pd.concat(rows, ignore_index=True)


def _asked(samples: dict) -> Iterator[tuple[str, int | None]]:
    yield AVG, None
    yield from ((PASS, k) for k in powers_of_two(max(samples.values())))
    yield from ((metric, None) for metric in (TRUNCATED, UNEXTRACTED, TOKENS))


def _wide(benchmark: str, part: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Counts by name, each of shape (seeds, problems)."""
    part = part.sort_values(["seed", "problem_id"])
    seeds = part["seed"].nunique()
    ids = part["problem_id"].to_numpy()
    same = len(part) % seeds == 0 and (ids.reshape(seeds, -1) == ids[: len(part) // seeds]).all()
    if not same or part["samples"].nunique() != 1:
        raise ValueError(f"{benchmark}: expected the same problems, with as many samples each, in every seed")
    names = ("correct", TRUNCATED, UNEXTRACTED, TOKENS)
    return {name: part[name].to_numpy(dtype=float).reshape(seeds, -1) for name in names}


def _values(metric: str, k: int | None, samples: int, counts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Of every seed and problem."""
    if metric == PASS and k is not None:
        correct = counts["correct"].astype(int)
        return 100.0 * pass_at_k(correct.ravel(), samples, k).reshape(correct.shape)
    if metric == TOKENS:
        return counts[TOKENS] / samples
    return 100.0 * counts["correct" if metric == AVG else metric] / samples
