"""Prop. 1 in training: what the first-order theory predicts from a run's groups, and how it fits. Pure functions.

To first order a natural-gradient step of size eta changes the entropy by -eta * Cov(S, A), S the rollouts' confidence.
Advantages of two estimators on the *same* groups differ, and so do their covariances: that difference, for an estimator
minus REINFORCE, is what Prop. 1 is about. Three predictions of it, each divided by eta:

- ``first_order``, Prop. 1 itself: (beta_pos - beta_neg) * alpha, times the share of mixed groups;
- ``finite_beta``: minus the difference of the mean of Cov_g(S, A) over groups, without the expansion in beta. Exact for
  prompts that share no parameter. Groups with all or none right have a constant A, hence no covariance: silent;
- ``with_endpoints``: minus the difference of Cov(S, A) over the *whole batch*, which by the law of total covariance is
  the former plus the covariance between groups of their mean S and mean A. Exact for prompts that share everything,
  one softmax for all. Groups with all or none right count, since their A = +-1 at beta = 0 is 0 at beta > 0.

A network lies somewhere between the two. A step of Adam on a network has no known eta, so *one* scale factor per
backbone and kind of covariance is fitted, on REINFORCE's own steps only (:func:`step_size`): no contrast is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asymgrpo.advantages import AdvantageFamily, Estimator
from asymgrpo.analysis.group_advantages import by_count
from asymgrpo.analysis.intervals import seed_band

KINDS = {"first_order": "within", "finite_beta": "within", "with_endpoints": "batch", "own_groups": "within"}
"""Prediction -> the covariance whose step size scales it."""
EVERY = "all"
"""Stands for a method's name where all methods together are meant."""

_KEYS = ["backbone", "seed", "step"]


def covariances(groups: pd.DataFrame, estimator: Estimator) -> pd.DataFrame:
    """Cov(S, A) of every step's rollouts, had `estimator` given them their advantages.

    Args:
        groups: columns ``backbone``, ``seed``, ``step`` and those of :data:`asymgrpo.records.GROUPS`, of one method.
        estimator: which advantages; need not be the one the run was trained with.

    Returns:
        Index (``backbone``, ``seed``, ``step``), nats per token: ``within``, the mean over rollouts of their group's
        covariance (groups of equal size: the column ``advantage_covariance`` of :data:`asymgrpo.records.STEPS`);
        ``batch``, the covariance over all rollouts of the step; ``endpoints``, the part of ``batch`` that is due to the
        constant advantages of groups with all or none right; ``alpha``, alpha times the share of mixed groups.
    """
    size = groups["rollouts"].to_numpy(dtype=int)
    correct = groups["correct"].to_numpy(dtype=int)
    p = correct / size
    right = np.where(correct > 0, groups["confidence_correct"], 0.0)
    wrong = np.where(correct < size, groups["confidence_wrong"], 0.0)
    mixed = (correct > 0) & (correct < size)
    positive, negative = np.zeros(len(p)), np.zeros(len(p))
    for each in np.unique(size):
        table, here = by_count(estimator, int(each)), size == each
        positive[here], negative[here] = table.positive[correct[here]], table.negative[correct[here]]
    gap = np.where(mixed, right - wrong, 0.0)
    confidence = p * right + (1 - p) * wrong
    # the weight of a group is its number of rollouts
    mean = (groups[_KEYS].assign(w=size, ws=size * confidence)).groupby(_KEYS).transform("sum")
    between = (confidence - (mean["ws"] / mean["w"]).to_numpy()) * (p * positive + (1 - p) * negative)
    logit = np.log(np.where(mixed, p, 0.5) / np.where(mixed, 1 - p, 0.5))
    sums = (
        groups[_KEYS]
        .assign(
            rollouts=size,
            within=size * p * (1 - p) * (positive - negative) * gap,
            between=size * between,
            endpoints=size * np.where(mixed, 0.0, between),
            groups=1,
            alpha=p * (1 - p) * gap * logit,
        )
        .groupby(_KEYS)
        .sum()
    )
    within = sums["within"] / sums["rollouts"]
    return pd.DataFrame(
        {
            "within": within,
            "batch": within + sums["between"] / sums["rollouts"],
            "endpoints": sums["endpoints"] / sums["rollouts"],
            "alpha": sums["alpha"] / sums["groups"],
        }
    )


def contrasts(
    steps: pd.DataFrame, groups: pd.DataFrame, estimators: Mapping[str, Estimator], reference: str
) -> pd.DataFrame:
    """Every method minus the reference, per seed and step: the entropy change, measured and predicted.

    Args:
        steps: ``backbone``, ``method``, ``seed`` and the columns of :data:`asymgrpo.records.STEPS`, of all methods.
        groups: the same with :data:`asymgrpo.records.GROUPS`, at least of the reference.
        estimators: method -> estimator; the reference too.
        reference: the method to be subtracted.

    Returns:
        ``backbone``, ``method``, ``seed``, ``step``; ``measured``: nats per token, the change over the step's update on
        the step's own tokens, minus the reference's; then, in nats per token and per unit of step size, the predictions
        from the reference's groups of the step, :data:`KINDS`, among them ``own_groups``: as ``finite_beta``, but each
        run's covariance from its own groups, which have drifted apart after step 1. ``first_order`` is NaN for an
        estimator outside the family.
    """
    steps = steps.assign(change=steps["entropy_after"] - steps["entropy"]).set_index(_KEYS)
    own = steps[steps["method"] == reference]
    mine = groups[groups["method"] == reference]
    base = covariances(mine, estimators[reference])
    parts = []
    for method in dict.fromkeys(steps["method"]):
        if method == reference or method not in estimators:
            continue
        part = steps[steps["method"] == method].sort_index()
        other = covariances(mine, estimators[method]).reindex(part.index)
        against = base.reindex(part.index)
        beta = _channels(estimators[method])
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "measured": part["change"] - own["change"].reindex(part.index),
                    "first_order": np.nan if beta is None else (beta[0] - beta[1]) * against["alpha"],
                    "finite_beta": against["within"] - other["within"],
                    "with_endpoints": against["batch"] - other["batch"],
                    "own_groups": (own["advantage_covariance"].reindex(part.index) - part["advantage_covariance"]),
                },
                index=part.index,
            ).reset_index()
        )
    return pd.concat(parts, ignore_index=True)[["backbone", "method", "seed", "step", "measured", *KINDS]]


def _channels(estimator: Estimator) -> tuple[float, float] | None:
    """The exponents of an unflipped member of the family."""
    if not isinstance(estimator, AdvantageFamily) or estimator.flip is not None:
        return None
    return estimator.beta_pos, estimator.beta_neg


def step_size(covariance: Sequence[float] | NDArray, change: Sequence[float] | NDArray) -> float:
    """The eta of ``change = -eta * covariance``, least squares through the origin; NaN if every covariance is 0.

    Args:
        covariance: (steps,) Cov(S, A), nats per token.
        change: (steps,) measured entropy change, nats per token.
    """
    x, y = np.asarray(covariance, dtype=np.float64), np.asarray(change, dtype=np.float64)
    norm = float(x @ x)
    return float(-(x @ y) / norm) if norm > 0 else np.nan


def step_sizes(steps: pd.DataFrame, groups: pd.DataFrame, estimator: Estimator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`step_size` of one method's own steps: per backbone and kind of covariance, the same for all seeds.

    Args:
        steps: as in :func:`contrasts`, of one method.
        groups: the same.
        estimator: the method's.

    Returns:
        ``backbone``, ``kind`` ("within" or "batch"), ``eta`` (from all steps of all seeds), ``low``, ``high`` (band
        over the seeds' own fits), ``correlation`` (of -Cov with the change, over all steps; NaN if one is constant),
        and ``eta_seed_<n>``; and the points behind it: ``backbone``, ``seed``, ``step``, ``within``, ``batch``,
        ``change``.
    """
    points = covariances(groups, estimator)[["within", "batch"]]
    measured = steps.assign(change=steps["entropy_after"] - steps["entropy"]).set_index(_KEYS)
    points = points.join(measured["change"]).reset_index()
    rows = []
    for backbone, part in points.groupby("backbone", sort=False):
        for kind in ("within", "batch"):
            by_seed = {seed: step_size(one[kind], one["change"]) for seed, one in part.groupby("seed")}
            _, low, high = seed_band(list(by_seed.values()))
            rows.append(
                {
                    "backbone": backbone,
                    "kind": kind,
                    "eta": step_size(part[kind], part["change"]),
                    "low": float(low),
                    "high": float(high),
                    "correlation": correlation(-part[kind].to_numpy(), part["change"].to_numpy()),
                }
                | {f"eta_seed_{seed}": eta for seed, eta in by_seed.items()}
            )
    return pd.DataFrame(rows), points


def scaled(contrast: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """:func:`contrasts` with every prediction times its backbone's step size, so in nats per token as ``measured``.

    A step size is positive: where the fit is not, the predictions are NaN.
    """
    eta = sizes.set_index(["backbone", "kind"])["eta"]
    eta = eta.where(eta > 0)
    result = contrast.copy()
    for name, kind in KINDS.items():
        result[name] *= contrast["backbone"].map(eta.xs(kind, level="kind")).to_numpy()
    return result


def agreement(contrast: pd.DataFrame) -> pd.DataFrame:
    """How well each prediction fits, whatever the (positive) step size: per method, and over all methods together.

    Args:
        contrast: from :func:`contrasts`.

    Returns:
        One row per ``backbone``, ``method`` (or :data:`EVERY`), ``prediction`` and ``statistic``: ``sign``, the share
        of steps whose measured contrast has the predicted sign (those with a contrast of exactly 0 left out),
        ``first_sign``, the same of step 1 alone, where policies (of the local backend rollouts, too) are equal, and
        ``correlation`` over steps (Pearson). ``mean``, ``low``, ``high`` over the seeds, ``seeds`` (how many have a
        value), and ``seed_<n>``.
    """
    rows = []
    methods = {name: [name] for name in dict.fromkeys(contrast["method"])} | {EVERY: list(set(contrast["method"]))}
    for backbone, whole in contrast.groupby("backbone", sort=False):
        for method, names in methods.items():
            part = whole[whole["method"].isin(names)]
            for prediction in KINDS if len(part) else ():
                by_seed = {seed: _fit(one[prediction], one) for seed, one in part.groupby("seed")}
                for statistic in ("sign", "first_sign", "correlation"):
                    values = {seed: found[statistic] for seed, found in by_seed.items()}
                    mean, low, high = seed_band(list(values.values()))
                    rows.append(
                        {
                            "backbone": backbone,
                            "method": method,
                            "prediction": prediction,
                            "statistic": statistic,
                            "mean": float(mean),
                            "low": float(low),
                            "high": float(high),
                            "seeds": int(np.isfinite(list(values.values())).sum()),
                        }
                        | {f"seed_{seed}": value for seed, value in values.items()}
                    )
    return pd.DataFrame(rows)


def _fit(predicted: pd.Series, part: pd.DataFrame) -> dict[str, float]:
    x, y = predicted.to_numpy(dtype=float), part["measured"].to_numpy(dtype=float)
    known = np.isfinite(x) & np.isfinite(y)
    signed = known & (x != 0) & (y != 0)
    agrees, first = np.sign(x) == np.sign(y), signed & (part["step"].to_numpy() == 1)
    return {
        "sign": float(agrees[signed].mean()) if signed.any() else np.nan,
        "first_sign": float(agrees[first].mean()) if first.any() else np.nan,
        "correlation": correlation(x[known], y[known]),
    }


def correlation(x: NDArray, y: NDArray) -> float:
    """Pearson's r; NaN for fewer than three points, or if one of the two is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1])
