"""Training curves: smoothing, and the mean over seeds with its band. Pure functions of arrays and frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asymgrpo.analysis.intervals import seed_band


def ema(values: ArrayLike, factor: float) -> NDArray[np.float64]:
    """Exponential moving average, bias-corrected: a weighted mean of the values so far, weights factor^age.

    ``m_t = factor * m_{t-1} + (1 - factor) * x_t`` with ``m_{-1} = 0``, divided by the weight collected so far
    (``1 - factor^(t+1)``), so the first output equals the first value and the start is not held back by it. A NaN
    input gives a NaN output and leaves the state alone: weights count observations, not positions.

    Args:
        values: shape (n,) or (n, series), any float dtype; smoothed along the first axis.
        factor: in [0, 1); 0 returns the values.

    Returns:
        float64, the shape of ``values``.

    Raises:
        ValueError: a factor outside [0, 1).
    """
    if not 0.0 <= factor < 1.0:
        raise ValueError(f"EMA factor: expected a number in [0, 1), found {factor}")
    x = np.asarray(values, dtype=np.float64)
    out = np.full_like(x, np.nan)
    total = np.zeros(x.shape[1:])
    weight = np.zeros(x.shape[1:])
    for t in range(x.shape[0]):
        seen = ~np.isnan(x[t])
        total = np.where(seen, factor * total + (1.0 - factor) * np.where(seen, x[t], 0.0), total)
        weight = np.where(seen, factor * weight + (1.0 - factor), weight)
        out[t] = np.divide(total, weight, out=np.full_like(total, np.nan), where=seen & (weight > 0))
    return out


def seed_curve(raw: pd.DataFrame, factor: float) -> pd.DataFrame:
    """One method's curve: every seed smoothed by :func:`ema`, then mean and band over the seeds.

    Args:
        raw: index ``step`` (ascending), one column per seed, float.
        factor: EMA factor; 0 for none.

    Returns:
        One row per step: ``step``, ``mean``, ``low``, ``high`` (of the smoothed values, see
        :func:`~asymgrpo.analysis.intervals.seed_band`), ``raw_mean``, and ``raw_seed_<n>`` and ``smoothed_seed_<n>``
        per seed.
    """
    smoothed = ema(raw.to_numpy(dtype=float), factor)
    mean, low, high = seed_band(smoothed)
    columns: dict[str, NDArray[np.float64]] = {"mean": mean, "low": low, "high": high}
    columns["raw_mean"] = seed_band(raw.to_numpy(dtype=float))[0]
    for column, seed in enumerate(raw.columns):
        columns[f"raw_seed_{seed}"] = raw.iloc[:, column].to_numpy(dtype=float)
        columns[f"smoothed_seed_{seed}"] = smoothed[:, column]
    return pd.DataFrame(columns, index=raw.index.rename("step")).reset_index()


def curves(frame: pd.DataFrame, value: str, factor: float) -> pd.DataFrame:
    """:func:`seed_curve` of every (backbone, method) of a tidy frame.

    Args:
        frame: columns ``backbone``, ``method``, ``seed``, ``step`` and ``value``; at most one row per combination.
        value: the column to draw.
        factor: EMA factor; 0 for none.

    Returns:
        ``backbone``, ``method`` and the columns of :func:`seed_curve`, in the frame's order of methods.
    """
    parts = []
    for (backbone, method), part in frame.groupby(["backbone", "method"], sort=False):
        raw = part.pivot(index="step", columns="seed", values=value).sort_index()
        curve = seed_curve(raw, factor)
        curve.insert(0, "backbone", backbone)
        curve.insert(1, "method", method)
        parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def by_quantity(steps: pd.DataFrame, accuracy: pd.DataFrame, quantities: Iterable[str], factor: float) -> pd.DataFrame:
    """:func:`curves` of several quantities, one after the other, named in the column ``quantity``.

    Args:
        steps: as for :func:`curves`, with a column for every quantity but ``accuracy``.
        accuracy: the same with ``accuracy``, from :func:`mean_accuracy`.
        quantities: in the order wanted.
        factor: EMA factor; 0 for none.
    """
    parts = [
        curves(accuracy if quantity == "accuracy" else steps, quantity, factor).assign(quantity=quantity)
        for quantity in quantities
    ]
    return pd.concat(parts, ignore_index=True)


def mean_accuracy(evaluations: pd.DataFrame, decoding: str) -> pd.DataFrame:
    """Test accuracy as the paper draws it: the unweighted mean over benchmarks (App. G), in percent.

    Args:
        evaluations: columns ``backbone``, ``method``, ``seed``, ``step``, ``benchmark``, ``decoding``, ``accuracy``.
        decoding: which decoding to take, e.g. ``greedy``.

    Returns:
        ``backbone``, ``method``, ``seed``, ``step``, ``accuracy`` (percent).

    Raises:
        ValueError: no row has that decoding.
    """
    chosen = evaluations[evaluations["decoding"] == decoding]
    if chosen.empty:
        found = sorted(evaluations["decoding"].unique())
        raise ValueError(f"evaluations: expected the decoding {decoding!r}, found {found}")
    keys = ["backbone", "method", "seed", "step"]
    return chosen.groupby(keys, sort=False)["accuracy"].mean().mul(100.0).reset_index()
