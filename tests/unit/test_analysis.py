"""Curves and intervals: against closed forms, slow references and their own coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asymgrpo.analysis import curves, intervals


def slow_ema(values, factor):
    out = []
    for t in range(len(values)):
        pairs = [(factor ** (t - i), values[i]) for i in range(t + 1)]
        out.append(sum(w * v for w, v in pairs) / sum(w for w, _ in pairs))
    return out


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9])
def test_ema_is_the_weighted_mean_of_the_past(factor):
    values = np.random.default_rng(0).normal(size=40)
    np.testing.assert_allclose(curves.ema(values, factor), slow_ema(values, factor), rtol=1e-12)


def test_ema_of_a_constant_is_the_constant_and_starts_at_the_first_value():
    np.testing.assert_allclose(curves.ema(np.full(20, 3.5), 0.9), 3.5)
    assert curves.ema([2.0, 4.0], 0.9)[0] == pytest.approx(2.0)


def test_ema_skips_nan_and_continues():
    smoothed = curves.ema([1.0, np.nan, 3.0], 0.5)
    assert np.isnan(smoothed[1])
    np.testing.assert_allclose(smoothed[[0, 2]], curves.ema([1.0, 3.0], 0.5))
    assert np.isnan(curves.ema([np.nan, np.nan], 0.5)).all()


def test_ema_smooths_columns_independently():
    values = np.random.default_rng(1).normal(size=(30, 3))
    columns = [curves.ema(values[:, i], 0.7) for i in range(3)]
    np.testing.assert_allclose(curves.ema(values, 0.7), np.stack(columns, axis=1))


@pytest.mark.parametrize("factor", [-0.1, 1.0, float("nan")])
def test_ema_refuses_other_factors(factor):
    with pytest.raises(ValueError, match="EMA factor"):
        curves.ema([1.0], factor)


def test_curves_keep_the_order_of_methods_and_hold_every_seed():
    frame = pd.DataFrame(
        [
            {"backbone": "b", "method": m, "seed": s, "step": t, "entropy": s + t + (m == "x")}
            for m in ("z", "x")
            for s in (1, 2)
            for t in (1, 2, 3)
        ]
    )
    result = curves.curves(frame, "entropy", 0.0)
    assert list(result["method"].unique()) == ["z", "x"]
    first = result[result["method"] == "z"]
    np.testing.assert_allclose(first["mean"], [2.5, 3.5, 4.5])
    np.testing.assert_allclose(first["low"], [2, 3, 4])
    np.testing.assert_allclose(first["high"], [3, 4, 5])
    np.testing.assert_allclose(first["raw_seed_2"], first["smoothed_seed_2"])


def test_mean_accuracy_weighs_benchmarks_alike():
    rows = [
        {"benchmark": b, "decoding": d, "accuracy": a}
        for b, d, a in [("small", "greedy", 0.0), ("large", "greedy", 1.0), ("large", "t1", 0.3)]
    ]
    frame = pd.DataFrame(rows).assign(backbone="b", method="m", seed=1, step=0)
    assert curves.mean_accuracy(frame, "greedy")["accuracy"].tolist() == [50.0]
    with pytest.raises(ValueError, match=r"t0\.4"):
        curves.mean_accuracy(frame, "t0.4")


def test_t_interval_agrees_with_scipy():
    values = np.random.default_rng(2).normal(size=(4, 6))
    mean, low, high = intervals.t_interval(values)
    for row in range(4):
        reference = stats.ttest_1samp(values[row], 0.0).confidence_interval(0.95)
        assert (low[row], high[row]) == pytest.approx((reference.low, reference.high))
        assert mean[row] == pytest.approx(values[row].mean())


def test_t_interval_leaves_nan_out():
    mean, low, high = intervals.t_interval([[1.0, 2.0, np.nan], [5.0, np.nan, np.nan], [np.nan] * 3])
    np.testing.assert_allclose(mean[:2], [1.5, 5.0])
    assert np.isnan(mean[2])
    assert np.isfinite(low[0])
    assert np.isnan(low[1:]).all()
    assert np.isnan(high[1:]).all()


def test_band_is_a_range_for_two_seeds_and_nothing_for_one():
    mean, low, high = intervals.seed_band([[1.0, 3.0], [2.0, np.nan]])
    assert (mean[0], low[0], high[0]) == (2.0, 1.0, 3.0)
    assert np.isnan([low[1], high[1]]).all()
    assert np.isnan(intervals.seed_band([[4.0]])[1]).all()
    three = intervals.seed_band([[1.0, 2.0, 3.0]])
    assert three[1][0] == pytest.approx(2.0 - stats.t.ppf(0.975, 2) / np.sqrt(3))
    assert "range" in intervals.band_name(2)
    assert "t interval" in intervals.band_name(3)


def test_bootstrap_is_deterministic_and_paired():
    rng = np.random.default_rng(3)
    values = rng.random((2, 50))
    first = intervals.bootstrap_crossed(values)
    np.testing.assert_array_equal(first, intervals.bootstrap_crossed(values))
    # Paired: shifting every value shifts every resample, so the difference has no spread at all.
    np.testing.assert_allclose(intervals.bootstrap_crossed(values + 0.1) - first, 0.1)
    assert not np.array_equal(first, intervals.bootstrap_crossed(values, stream=1))


@pytest.mark.parametrize("crossed", [True, False])
def test_bootstrap_spread_matches_the_variance_of_the_design(crossed):
    """Seed effects, unit effects and noise of known size: the bootstrap's variance is near the true one on average."""
    rng = np.random.default_rng(4)
    bootstrap = intervals.bootstrap_crossed if crossed else intervals.bootstrap_nested
    seeds, units, variances = 3, 60, []
    for _ in range(200):
        unit = rng.normal(scale=0.5, size=units if crossed else (seeds, units))
        values = rng.normal(scale=0.1, size=(seeds, 1)) + unit
        variances.append(bootstrap(values, resamples=500).var())
    effect, noise = 0.1**2 / seeds, 0.5**2 / (units if crossed else seeds * units)
    # Not crossed, the units' noise is counted in the seeds' means and once more, with the seeds' uneven weights.
    expected = effect + noise if crossed else effect + noise * (1 + 1 + (seeds - 1) / seeds)
    assert np.mean(variances) / expected == pytest.approx(1.0, abs=0.15)


def test_bootstrap_of_one_seed_covers_units_only_and_refuses_nonsense():
    values = np.random.default_rng(5).normal(size=(1, 400))
    low, high = intervals.percentile_interval(intervals.bootstrap_crossed(values))
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    for bad in ([1.0, 2.0], np.empty((2, 0)), [[np.nan, 1.0]]):
        with pytest.raises(ValueError, match="bootstrap"):
            intervals.bootstrap_crossed(bad)
    for series in ([], [[1.0], []], [[1.0, np.nan]]):
        with pytest.raises(ValueError, match="bootstrap"):
            intervals.bootstrap_nested(series)


def test_nested_bootstrap_takes_seeds_of_different_length():
    low, high = intervals.percentile_interval(intervals.bootstrap_nested([[1.0, 1.0], [1.0, 1.0, 1.0]]))
    assert (low, high) == pytest.approx((1.0, 1.0))


def counts(right, samples=2):
    """Counts of shape (seeds, problems) for one benchmark as the frame of runs.final_counts."""
    return pd.DataFrame(
        [
            {"seed": seed, "benchmark": name, "problem_id": f"{problem}", "correct": correct, "samples": samples}
            for name, matrix in right.items()
            for seed, row in enumerate(matrix, start=1)
            for problem, correct in enumerate(row)
        ]
    )


def test_accuracy_intervals_count_and_average():
    table = intervals.accuracy_intervals(counts({"a": [[2, 0], [1, 1]], "b": [[2, 2, 2], [0, 0, 0]]}))
    assert table["benchmark"].tolist() == ["a", "b", intervals.AVERAGE]
    assert table["mean"].tolist() == pytest.approx([50.0, 50.0, 50.0])
    assert table["accuracy_seed_1"].tolist() == pytest.approx([50.0, 100.0, 75.0])
    assert table["correct_seed_1"].tolist() == [2, 6, 8]
    assert table["problems"].tolist() == [2, 3, 5]
    assert (table["low"] <= table["mean"]).all()
    assert (table["high"] >= table["mean"]).all()
    # All of b's spread is between seeds, and the draws of seeds are shared: its average with a keeps half of it.
    assert table["high"].iloc[2] - table["low"].iloc[2] >= 0.5 * (table["high"].iloc[1] - table["low"].iloc[1]) - 1e-9


def test_accuracy_intervals_refuse_different_problems():
    frame = counts({"a": [[2, 0], [1, 1]]})
    with pytest.raises(ValueError, match="same problems"):
        intervals.accuracy_intervals(frame.iloc[:-1])
