"""Theory against measurement: runs and policies whose truth is known beforehand must give it back."""

import dataclasses
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from asymgrpo import records
from asymgrpo.advantages import AdvantageFamily, MeanCentred, compute_advantages
from asymgrpo.analysis import coverage, entropy_change, pressure, tabular
from asymgrpo.analysis.group_advantages import by_count
from asymgrpo.analysis.shares import fieller
from asymgrpo.config import Run, load
from asymgrpo.figures import coverage as coverage_figure
from asymgrpo.figures import endpoints, prop1, style
from asymgrpo.figures import pressure as pressure_figure
from asymgrpo.theory import negative_peak, negative_pressure, positive_peak, positive_pressure
from asymgrpo.training.measurement import Measured, describe_rollouts

ROOT = Path(__file__).resolve().parents[2]
REINFORCE, GRPO = AdvantageFamily(0.0, 0.0), AdvantageFamily(0.5, 0.5)
ESTIMATORS = {
    "reinforce": REINFORCE,
    "pos-only-0.5": AdvantageFamily(0.5, 0.0),
    "neg-only-0.5": AdvantageFamily(0.0, 0.5),
    "grpo": GRPO,
    "asymgrpo": AdvantageFamily(0.9, 0.4),
}
KEYS = ["backbone", "seed", "step"]


def study_at(root, scale="tiny", **overrides):
    return dataclasses.replace(load(ROOT, {"scale": scale, **overrides}), root=root)


# Advantages by the number of correct rollouts


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("estimator", [*ESTIMATORS.values(), MeanCentred(), AdvantageFamily(0.5, 0.5, flip="positive")])
def test_advantages_by_count_are_those_of_real_groups(estimator, size):
    table = by_count(estimator, size)
    for k in range(size + 1):
        rewards = torch.tensor([1] * k + [0] * (size - k))[torch.randperm(size)]
        given = compute_advantages(rewards, torch.zeros(size, dtype=torch.int64), estimator)
        for value, reward in zip(given.tolist(), rewards.tolist(), strict=True):
            assert value == (table.positive[k] if reward else table.negative[k])
    assert table.positive[0] == table.negative[size] == 0  # no such rollout


# Covariances


def batch(seed, groups=12, size=4):
    """Random rollouts of one step: confidence (rollouts,), rewards, ids; some groups with all and with none right."""
    rng = np.random.default_rng(seed)
    confidence = torch.tensor(rng.normal(-1, 0.5, groups * size))
    rewards = torch.tensor(rng.random(groups * size) < np.repeat(rng.choice([0.0, 0.3, 0.6, 1.0], groups), size)).int()
    return confidence, rewards, torch.arange(groups).repeat_interleave(size)


def group_rows(confidence, rewards, ids, advantages, step=1):
    """Rows of groups.parquet, made by the code that makes them in training."""
    ones = torch.ones(len(ids))
    rollouts = Measured(rewards, ids, advantages, ones, confidence, confidence, ones, ones)
    row, rows = describe_rollouts(rollouts, int(torch.bincount(ids).max()))
    identity = {"backbone": "b", "method": "reinforce", "seed": 1, "step": step}
    return row, pd.DataFrame([identity | one for one in rows])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_covariances_are_those_of_the_rollouts_themselves(name):
    confidence, rewards, ids = batch(1)
    advantages = compute_advantages(rewards, ids, ESTIMATORS[name])
    row, groups = group_rows(confidence, rewards, ids, advantages)
    assert {0, 4} <= set(groups["correct"])  # both endpoints are there
    found = entropy_change.covariances(groups, ESTIMATORS[name]).loc["b", 1, 1]
    assert found["within"] == pytest.approx(row["advantage_covariance"])
    a, s = advantages.numpy().astype(float), confidence.numpy()
    assert found["batch"] == pytest.approx(np.cov(s, a, ddof=0)[0, 1], rel=1e-5)
    assert found["alpha"] == pytest.approx(row["alpha"] * row["n_mixed"] / row["n_groups"])
    ends = np.isin(rewards.numpy().reshape(-1, 4).sum(1), (0, 4)).repeat(4)
    assert found["endpoints"] == pytest.approx(((s - s.mean()) * a * ends).mean(), rel=1e-5)
    assert (found["endpoints"] == 0) == (name not in ("reinforce", "pos-only-0.5", "neg-only-0.5"))


def test_groups_of_different_sizes_count_by_their_rollouts():
    confidence, rewards, _ = batch(2, groups=6, size=4)
    ids = torch.tensor([0] * 8 + [1] * 4 + [2] * 8 + [3] * 4)
    advantages = compute_advantages(rewards, ids, GRPO)
    _, groups = group_rows(confidence, rewards, ids, advantages)
    found = entropy_change.covariances(groups, GRPO).loc["b", 1, 1]
    expected = np.cov(confidence.numpy(), advantages.numpy().astype(float), ddof=0)[0, 1]
    assert found["batch"] == pytest.approx(expected, rel=1e-5)


def test_a_step_without_mixed_groups_has_no_covariance_within():
    confidence, _, ids = batch(3)
    rewards = (ids % 2).int()
    _, groups = group_rows(confidence, rewards, ids, compute_advantages(rewards, ids, REINFORCE))
    found = entropy_change.covariances(groups, REINFORCE).loc["b", 1, 1]
    assert found["within"] == found["alpha"] == 0
    assert found["batch"] == pytest.approx(found["endpoints"])


# Predictions against policies for which they are exact

SHARES = np.array([4, 2, 1, 1]) / 8


def sampled_groups(rng, prompts):
    """Groups of 8 whose rollouts have the policy's own frequencies: (actions, rewards) of shape (prompts, 8)."""
    actions = np.tile(np.repeat(np.arange(4), [4, 2, 1, 1]), (prompts, 1))
    right = rng.random((prompts, 4)).argsort(1) < rng.integers(0, 5, (prompts, 1))  # none to all of the actions
    return actions, np.take_along_axis(right, actions, 1).astype(int)


def steps_row(method, change, covariance, step=1, seed=1):
    row = {"backbone": "b", "method": method, "seed": seed, "step": step, "entropy": 1.0, "entropy_after": 1.0 + change}
    return row | {"advantage_covariance": covariance}


def test_without_shared_parameters_the_finite_beta_prediction_is_exact():
    """A softmax of its own for every prompt, one natural-gradient step; entropies before and after from all actions."""
    rng, eta = np.random.default_rng(0), 1e-4
    actions, rewards = sampled_groups(rng, 40)
    ids, flat = torch.arange(40).repeat_interleave(8), torch.tensor(rewards.ravel())
    logits = np.tile(np.log(SHARES), (40, 1))
    rows, first = [], None
    for method, estimator in ESTIMATORS.items():
        advantages = compute_advantages(flat, ids, estimator)
        by_action = np.zeros((40, 4))
        np.put_along_axis(by_action, actions, advantages.numpy().reshape(40, 8).astype(float), 1)
        change = (tabular.entropy(logits + eta * by_action) - tabular.entropy(logits)).mean()
        row, groups = group_rows(torch.tensor(np.log(SHARES)[actions].ravel()), flat, ids, advantages)
        first = groups if first is None else first
        rows.append(steps_row(method, change, row["advantage_covariance"]))
    found = entropy_change.contrasts(pd.DataFrame(rows), first, ESTIMATORS, "reinforce").set_index("method")
    assert len(found) == 4
    np.testing.assert_allclose(eta * found["finite_beta"], found["measured"], rtol=2e-3)
    np.testing.assert_allclose(found["own_groups"], found["finite_beta"], rtol=1e-5)
    assert found.loc["grpo", "first_order"] == 0 != found.loc["grpo", "finite_beta"]


def test_with_one_softmax_for_all_the_prediction_with_endpoints_is_exact():
    """The batch has the policy's frequencies, its groups do not: some hold one action only, always right or wrong."""
    rng, eta = np.random.default_rng(1), 1e-4
    actions = np.repeat(np.arange(4), (SHARES * 320).astype(int))
    rng.shuffle(actions[160:])  # the first twenty groups keep action 0 alone
    actions = actions.reshape(40, 8)
    rewards = np.where(actions == 0, 1, rng.random((40, 8)) < 0.3).astype(int)
    rewards[-5:] = 0
    ids, flat = torch.arange(40).repeat_interleave(8), torch.tensor(rewards.ravel())
    logits = np.log(SHARES)[None]
    rows, first = [], None
    for method, estimator in ESTIMATORS.items():
        advantages = compute_advantages(flat, ids, estimator)
        sums = np.bincount(actions.ravel(), weights=advantages.numpy().astype(float), minlength=4)
        change = (tabular.entropy(logits + eta * sums / (320 * SHARES)) - tabular.entropy(logits)).item()
        row, groups = group_rows(torch.tensor(np.log(SHARES)[actions].ravel()), flat, ids, advantages)
        first = groups if first is None else first
        rows.append(steps_row(method, change, row["advantage_covariance"]))
    found = entropy_change.contrasts(pd.DataFrame(rows), first, ESTIMATORS, "reinforce").set_index("method")
    np.testing.assert_allclose(eta * found["with_endpoints"], found["measured"], rtol=2e-3)
    # here the endpoints decide, and what leaves them out has even another sign for some method
    assert (np.sign(found["finite_beta"]) != np.sign(found["measured"])).any()


def test_for_small_beta_all_predictions_of_mixed_groups_are_proposition_1():
    confidence, rewards, ids = batch(5, groups=50)
    row, groups = group_rows(confidence, rewards, ids, compute_advantages(rewards, ids, REINFORCE))
    beta = 1e-5
    small = {"reinforce": REINFORCE, "up": AdvantageFamily(beta, 0.0), "down": AdvantageFamily(0.0, beta)}
    steps = pd.DataFrame([steps_row(name, 0.0, 0.0) for name in small])
    found = entropy_change.contrasts(steps, groups, small, "reinforce").set_index("method")
    alpha = row["alpha"] * row["n_mixed"] / row["n_groups"]
    assert found.loc["up", "first_order"] == pytest.approx(beta * alpha)
    assert found.loc["down", "first_order"] == pytest.approx(-beta * alpha)
    # advantages are float32
    np.testing.assert_allclose(found["finite_beta"], found["first_order"], rtol=0.05)


# The size of a step, and how predictions fit


def test_the_step_size_is_the_one_that_was_put_in():
    rng = np.random.default_rng(0)
    covariance = rng.normal(0.1, 0.05, 4000)
    change = -0.03 * covariance + rng.normal(0, 0.001, 4000)
    assert entropy_change.step_size(covariance, change) == pytest.approx(0.03, rel=0.02)
    assert entropy_change.step_size(covariance, -change) == pytest.approx(-0.03, rel=0.02)
    assert np.isnan(entropy_change.step_size(np.zeros(5), np.ones(5)))


def test_where_no_positive_step_size_fits_nothing_is_predicted():
    contrast = pd.DataFrame({"backbone": ["a", "b"], "measured": 1.0} | dict.fromkeys(entropy_change.KINDS, 2.0))
    sizes = pd.DataFrame({"backbone": ["a", "a", "b", "b"], "kind": ["within", "batch"] * 2, "eta": [0.5, 3, -1, 2]})
    scaled = entropy_change.scaled(contrast, sizes)
    assert scaled["finite_beta"].tolist()[0] == scaled["first_order"].tolist()[0] == 1.0
    assert scaled["with_endpoints"].tolist() == [6.0, 4.0]
    assert scaled["finite_beta"].isna().tolist() == [False, True]
    assert scaled["measured"].tolist() == [1.0, 1.0]


def test_agreement_counts_signs_and_says_where_nothing_can_be_counted():
    steps = pd.DataFrame({"backbone": "b", "method": "m", "seed": np.repeat([1, 2, 3], 4), "step": [1, 2, 3, 4] * 3})
    right = np.array([1.0, -1.0, 2.0, 3.0])
    frame = steps.assign(
        measured=np.tile(right, 3),
        first_order=0.0,
        finite_beta=np.concatenate([right, right, -right]),
        with_endpoints=np.tile([1.0, 1.0, 1.0, -1.0], 3),
        own_groups=np.nan,
    )
    found = entropy_change.agreement(frame)
    found = found[found["method"] == "m"].set_index(["prediction", "statistic"])
    assert found.loc[("finite_beta", "sign"), "mean"] == pytest.approx(2 / 3)
    assert found.loc[("finite_beta", "sign"), ["seed_1", "seed_3"]].tolist() == [1.0, 0.0]
    assert found.loc[("finite_beta", "first_sign"), "mean"] == pytest.approx(2 / 3)
    assert found.loc[("finite_beta", "correlation"), ["seed_1", "seed_3"]].tolist() == pytest.approx([1.0, -1.0])
    assert found.loc[("finite_beta", "sign"), "low"] < 2 / 3 < found.loc[("finite_beta", "sign"), "high"]
    assert found.loc[("with_endpoints", "sign"), "mean"] == 0.5
    for nothing in ("first_order", "own_groups"):
        assert np.isnan(found.loc[(nothing, "sign"), "mean"])
        assert np.isnan(found.loc[(nothing, "correlation"), "mean"])
        assert found.loc[(nothing, "sign"), "seeds"] == 0


# Runs written with a known truth


def write_steps(study, run, histograms, entropy, change, groups=None):
    """Run files with these accuracies, entropies and changes per step; groups: one frame per step."""
    rows = []
    for step, histogram in enumerate(histograms, start=1):
        counts = np.asarray(histogram)
        values = dict.fromkeys(records.STEPS.names, 0.0) | {
            "step": step,
            "group_accuracy_histogram": counts.tolist(),
            "none_solved": counts[0] / counts.sum(),
            "all_solved": counts[-1] / counts.sum(),
            "n_groups": int(counts.sum()),
            "n_mixed": int(counts[1:-1].sum()),
            "entropy": entropy[step - 1],
            "entropy_after": entropy[step - 1] + change[step - 1],
            "tokens": 1,
        }
        rows.append(values)
    records.write(study.runs_dir(run) / "steps.parquet", rows, records.STEPS)
    if groups is not None:
        frame = pd.concat([one.assign(step=step) for step, one in enumerate(groups, start=1)])
        frame = frame.assign(problem=0)[records.GROUPS.names]
        records.write(study.runs_dir(run) / "groups.parquet", frame.to_dict("records"), records.GROUPS)


def write_scores(study, run, right):
    """Final scores: `right` maps decoding to (problems, samples) booleans, the same for every benchmark."""
    rows = []
    for decoding, how in study.settings["evaluation"]["final"].items():
        for checkpoint in how["checkpoints"]:
            for (problem, sample), correct in np.ndenumerate(right[decoding]):
                row = dict.fromkeys(records.SCORES.names, "") | {"checkpoint": checkpoint, "decoding": decoding}
                row |= {"problem_id": f"{problem:03d}", "sample": sample, "correct": bool(correct), "tokens": 1}
                rows.append(row | {"finish_reason": "stop", "extracted": "1"})
    for benchmark in study.benchmarks:
        records.write(study.evaluation_dir(run) / f"{benchmark}.scores.parquet", rows, records.SCORES)


def test_proposition_1_gives_back_the_truth_it_is_drawn_from(tmp_path):
    """Entropy falls by exactly 0.02 times each method's own covariance: fitted on REINFORCE, met by every contrast."""
    study, eta = study_at(tmp_path, seeds=[1, 2, 3]), 0.02
    estimators = {}
    for run in study.runs("prop1"):
        spec = study.methods[run.method].estimator
        estimators[run.method] = AdvantageFamily(spec["beta_pos"], spec["beta_neg"])
        rng = np.random.default_rng(run.seed)
        batches = [group_rows(*(b := batch(rng.integers(10**6))), torch.zeros(len(b[0])))[1] for _ in range(4)]
        found = [entropy_change.covariances(one, estimators[run.method]).iloc[0]["within"] for one in batches]
        histograms = [np.bincount(one["correct"], minlength=5) for one in batches]
        write_steps(study, run, histograms, np.ones(4), -eta * np.array(found), batches)
    contrast, sizes, points = prop1.measured_and_predicted(study, list(study.backbones))
    within = sizes[sizes["kind"] == "within"]
    assert within["eta"].tolist() == pytest.approx([eta, eta])
    assert within["correlation"].tolist() == pytest.approx([1, 1])
    assert len(points) == 2 * 3 * 4
    scaled = entropy_change.scaled(contrast, sizes)
    assert set(scaled["method"]) == set(estimators) - {"reinforce"}
    assert (scaled["measured"].abs() > 1e-6).any()
    np.testing.assert_allclose(scaled["finite_beta"], scaled["measured"], atol=1e-9)
    fits = entropy_change.agreement(contrast).set_index(["method", "prediction", "statistic"])
    for method in set(scaled["method"]) | {entropy_change.EVERY}:
        assert fits.loc[(method, "finite_beta", "correlation"), "mean"].tolist() == pytest.approx([1, 1])
        assert (fits.loc[(method, "finite_beta", "sign"), "mean"] == 1).all()
    with style.context():
        artefact = prop1.draw(study)
    runs = len(contrast[contrast["step"] == 1])
    assert f"at step 1 (finite beta): {runs} of {runs} runs" in artefact.caption
    assert (
        "finite beta: sign as predicted in 100 [100, 100]% of steps, correlation over steps 1 [1, 1]"
        in artefact.caption
    )
    sums = artefact.data[artefact.data["quantity"] == "sum_measured"]
    last = sums[(sums["method"] == "grpo") & (sums["backbone"] == study.primary)].iloc[-1]
    part = contrast[(contrast["method"] == "grpo") & (contrast["backbone"] == study.primary) & (contrast["seed"] == 2)]
    assert last["raw_seed_2"] == pytest.approx(part["measured"].sum())


def test_proposition_1_says_when_no_step_size_fits(tmp_path):
    study = study_at(tmp_path)
    for run in study.runs("prop1"):
        batches = [group_rows(*(b := batch(step)), torch.zeros(len(b[0])))[1] for step in range(4)]
        found = [entropy_change.covariances(one, REINFORCE).iloc[0] for one in batches]
        rising = np.array([one["within"] for one in found])  # entropy rises where theory wants it to fall
        histograms = [np.bincount(one["correct"], minlength=5) for one in batches]
        write_steps(study, run, histograms, np.ones(4), rising, batches)
    with style.context():
        figure = prop1.draw(study).figure
    assert [text.get_text() for axes in figure.axes for text in axes.texts].count("no positive\nstep size") >= 4


# Mass of the advantages


@pytest.mark.parametrize("beta", [0.25, 0.5, 0.75])
def test_the_mass_of_evenly_spread_groups_is_proposition_2(beta):
    size = 8
    found = pressure.mass(np.full(size + 1, 3), AdvantageFamily(beta, beta))
    np.testing.assert_allclose(found["positive"], positive_pressure(found["p"].to_numpy(), beta) / 9, rtol=1e-6)
    np.testing.assert_allclose(found["negative"], negative_pressure(found["p"].to_numpy(), beta) / 9, rtol=1e-6)
    np.testing.assert_allclose(found["positive"], found["positive_even"])
    assert pressure.peak(found["p"], found["positive"]) == positive_peak(beta)
    assert pressure.peak(found["p"], found["negative"]) == negative_peak(beta)


def test_the_mass_is_the_mean_magnitude_over_the_rollouts():
    _, rewards, ids = batch(8, groups=40)
    advantages = compute_advantages(rewards, ids, REINFORCE).numpy()
    correct = rewards.numpy().reshape(-1, 4).sum(1)
    found = pressure.mass(np.bincount(correct, minlength=5), REINFORCE)
    right = rewards.numpy() == 1
    assert found["positive"].sum() == pytest.approx(np.where(right, advantages, 0).mean())
    assert found["negative"].sum() == pytest.approx(np.where(right, 0, -advantages).mean())
    assert found["groups"].sum() == 1


def test_hard_problems_move_the_mass_away_from_the_stated_peak():
    found = pressure.mass([0, 90, 5, 3, 1, 1, 0, 0, 0], GRPO)
    assert pressure.peak(found["p"], found["positive"]) == 0.125 != positive_peak(0.5)
    assert np.isnan(pressure.peak([0, 1], [0, 0]))
    with pytest.raises(ValueError, match="at least one group"):
        pressure.mass([0, 0, 0], GRPO)


def test_early_and_late_are_the_ends_of_the_run():
    assert pressure.windows(60) == {"early": (1, 12), "late": (49, 60)}
    assert pressure.windows(2) == {"early": (1, 1), "late": (2, 2)}


def test_the_figure_of_the_mass_has_the_peaks_that_were_put_in(tmp_path):
    study = study_at(tmp_path, artefacts=["pressure"])
    early, late = [1, 5, 1, 1, 0], [0, 1, 1, 5, 1]
    for run in study.runs():
        write_steps(study, run, [early, early, late, late], np.ones(4), np.zeros(4))
    with style.context():
        artefact = pressure_figure.draw(study)
    found = pressure_figure.peaks(artefact.data).set_index(["quantity", "backbone", "method", "window"])["peak"]
    assert found["positive", study.primary, "grpo", "early"] == 0.25
    assert found["positive", study.primary, "grpo", "late"] == 0.75
    assert found["negative", study.primary, "reinforce", "early"] == 0.25
    assert "GRPO, correct: stated 0.5, most mass early at 0.25, late at 0.75" in artefact.caption
    assert "AsymGRPO, wrong: stated 0.4" in artefact.caption
    assert pressure_figure.stated_peak("positive", study.methods["reinforce"]) is None


# Shares of an effect


def test_a_share_without_noise_is_itself():
    whole = np.array([1.0, 1.2, 0.9, 1.1])
    share = fieller(0.4 * whole, whole)
    assert (share.point, share.low, share.high, share.seeds) == pytest.approx((0.4, 0.4, 0.4, 4))


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ([1.0, 1.0, 1.0], [1.0, -1.1, 0.5]),  # the whole's interval covers 0
        ([1.0, 1.0], [2.0, 2.1]),  # two seeds
        ([1.0], [2.0]),
        ([np.nan, 1.0, 1.0], [2.0, 2.1, 2.0]),  # two that both have
        ([np.nan] * 3, [2.0, 2.1, 2.0]),  # a run that is not there
    ],
)
def test_a_share_of_what_may_not_be_there_is_undefined(part, whole):
    share = fieller(part, whole)
    assert np.isnan([share.point, share.low, share.high]).all()
    known = np.isfinite(np.array(part) + np.array(whole))
    assert share.seeds == known.sum()
    assert np.isnan(share.raw) == (not known.any())


def test_the_interval_of_a_share_holds_the_true_ones_at_its_level():
    """2,000 experiments of five paired seeds, correlated noise; the whole is far from 0, so nothing is left out."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        shared = rng.normal(0, 0.2, 5)
        part = 0.4 * 2 + shared + rng.normal(0, 0.3, 5)
        share = fieller(part, 2 + shared + rng.normal(0, 0.2, 5))
        assert np.isfinite(share.point)
        inside += share.low <= 0.4 <= share.high
    assert abs(inside / 2000 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 2000)


def test_the_interval_is_bounded_exactly_where_the_wholes_t_interval_leaves_out_zero():
    from asymgrpo.analysis.intervals import t_interval

    rng, seen = np.random.default_rng(1), set()
    for _ in range(200):
        whole = rng.normal(0.8, 1, 4)
        _, low, high = t_interval(whole)
        defined = np.isfinite(fieller(rng.normal(0.3, 1, 4), whole).point)
        assert defined == (low > 0 or high < 0)
        seen.add(bool(defined))
    assert seen == {True, False}


def endpoint_study(root, scale="tiny", seeds=(1, 2, 3, 4)):
    """Each exponent moves the entropy by 0.1 of itself, the endpoints alone by 0.03 and -0.02, times a seed's noise."""
    study = study_at(root, scale, seeds=list(seeds), artefacts=["endpoints"])
    steps = study.settings["training"]["steps"]
    size = study.settings["training"]["rollout"]["group_size"]
    for run in study.runs():
        rng = np.random.default_rng(run.seed)
        noise = 1 + 0.05 * rng.normal()
        effect = {"reinforce-all-solved-zero": 0.03, "reinforce-none-solved-zero": -0.02}
        method = study.methods[run.method]
        moved = effect.get(run.method, 0.1 * (method.beta_pos or 0) - 0.1 * (method.beta_neg or 0)) * noise
        histogram = np.zeros(size + 1, dtype=int)
        histogram[[0, 1, size]] = 2, 4, 2
        write_steps(study, run, [histogram] * steps, np.full(steps, 0.5 + 0.01 * run.seed + moved), np.zeros(steps))
        most = {name: how["samples"] for name, how in study.settings["evaluation"]["final"].items()}
        most = {name: max(k.values()) if isinstance(k, dict) else k for name, k in most.items()}
        write_scores(study, run, {name: np.arange(10)[:, None] < np.full(k, 5) for name, k in most.items()})
    return study


def test_shares_of_the_endpoints_are_those_that_were_put_in(tmp_path):
    study = endpoint_study(tmp_path)
    with style.context():
        artefact = endpoints.draw(study)
    shares = artefact.data[artefact.data["statistic"] == "share"].set_index(["quantity", "method"])
    for method, share in {"pos-only-0.25": 120, "pos-only-0.5": 60, "neg-only-0.5": 40, "neg-only-0.25": 80}.items():
        row = shares.loc[("entropy", method)]
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((share, share, share))
    assert shares.loc[("accuracy", slice(None)), "mean"].isna().all()  # no effect, hence no share
    assert "entropy, Pos-Only (0.5): 60% [60, 60]" in artefact.caption
    effects = artefact.data[artefact.data["statistic"] == "difference"].set_index(["quantity", "method"])
    assert effects.loc[("entropy", "neg-only-0.75"), "mean"] == pytest.approx(-0.075, rel=0.1)
    assert effects.loc[("all_solved", "pos-only-0.5"), "mean"] == 0


def test_a_scale_without_the_ablations_shows_effects_and_no_shares(tmp_path):
    study = endpoint_study(tmp_path, "smoke", seeds=(1,))
    with style.context():
        artefact = endpoints.draw(study)
    assert {run.method for run in study.runs()} == {"reinforce", "pos-only-0.5"}
    assert artefact.data.loc[artefact.data["statistic"] == "share", ["mean", "raw"]].isna().all(axis=None)
    assert "No share is defined" in artefact.caption
    assert any("not run" in text.get_text() for axes in artefact.figure.axes for text in axes.texts)


# Coverage


def responses(counts, samples, seed=1, benchmark="a"):
    """One row per problem, as from final_responses."""
    frame = pd.DataFrame({"correct": counts, "samples": samples, "seed": seed, "benchmark": benchmark})
    return frame.assign(problem_id=[f"{i}" for i in range(len(counts))])


def test_pass_at_k_is_the_share_of_draws_with_a_correct_sample():
    frame = pd.concat([responses([0, 1, 3], 4), responses([4, 2], 4, benchmark="b"), responses([1, 1], 4, seed=2)])
    found = coverage.pass_curves(frame)
    assert list(found.columns) == [1, 2, 3, 4]
    for k in found.columns:
        chance = {c: np.mean([any(i < c for i in draw) for draw in combinations(range(4), k)]) for c in range(5)}
        assert found.loc[1, k] == pytest.approx(50 * ((chance[0] + chance[1] + chance[3]) / 3 + (1 + chance[2]) / 2))
        assert found.loc[2, k] == pytest.approx(100 * chance[1])
    assert coverage.accuracies(frame)[1] == pytest.approx(found.loc[1, 1])


def test_pass_at_k_ends_where_a_benchmark_has_no_more_samples():
    found = coverage.pass_curves(pd.concat([responses([1, 2], 4), responses([1], 2, benchmark="b")]))
    assert list(found.columns) == [1, 2]


def test_the_decoding_for_pass_at_k_has_the_most_samples_and_of_equals_the_hottest():
    final = {"a": {"temperature": 0.4, "samples": 8}, "b": {"temperature": 1.0, "samples": {"x": 9, "y": 4}}}
    assert coverage.widest(final, ["x", "y"]) == "a"
    assert coverage.widest(final, ["x"]) == "b"
    assert coverage.widest({"a": final["a"], "c": {"temperature": 1.0, "samples": 8}}, ["x"]) == "c"


def test_rank_correlation_over_methods_is_per_seed():
    x = pd.DataFrame({1: [1.0, 2.0, 3.0, 4.0], 2: [1.0, 2.0, 3.0, 4.0], 3: [1.0, 2.0, np.nan, np.nan]}, list("abcd"))
    y = pd.DataFrame({1: [1.0, 4.0, 9.0, 16.0], 2: [9.0, 7.0, 2.0, 1.0], 3: [1.0, 2.0, 3.0, 4.0]}, list("abcd"))
    found = coverage.rank_correlation(x, y)
    assert found[1] == pytest.approx(1)
    assert found[2] == pytest.approx(-1)
    assert np.isnan(found[3])


def test_the_figure_of_coverage_holds_what_was_put_in(tmp_path):
    """Every method solves a tenth of its problems in every sample, and so many more in one sample of two."""
    study = study_at(tmp_path, artefacts=["coverage"], seeds=[1, 2])
    methods = study.methods_of("coverage", study.primary)
    steps = study.settings["training"]["steps"]
    for run in study.runs():
        rank = methods.index(run.method)
        write_steps(study, run, [[1, 1, 1, 1, 1]] * steps, np.full(steps, 0.1 + 0.01 * rank), np.zeros(steps))
        two = np.zeros((40, 2), dtype=bool)
        two[:4] = True
        two[4 : 4 + rank + 1, 0] = True
        write_scores(study, run, {"t0.4": two, "t1": two, "greedy": two[:, :1]})
    with style.context():
        artefact = coverage_figure.draw(study)
    data = artefact.data.set_index(["quantity", "method"])
    last = len(methods) - 1
    for rank, method in enumerate(methods):
        passes = data.loc[("pass", method)].set_index("k")["mean"]
        assert passes[1] == pytest.approx(100 * (4 + (rank + 1) / 2) / 40)
        assert passes[2] == pytest.approx(100 * (4 + rank + 1) / 40)
        trade = data.loc[("trade", method)]
        assert trade["mean"].item() == pytest.approx(100 * (rank + 1) / 80)
        assert trade["entropy"].item() == pytest.approx(0.1 + 0.01 * rank)
        assert list(data.loc[("accuracy", method), "temperature"]) == [0.0, 0.4, 1.0]
    differences = data.loc[("pass_difference", methods[last])].set_index("k")["mean"]
    assert differences[2] == pytest.approx(100 * (last - methods.index("grpo")) / 40)
    assert "pass@2 minus pass@1 1.00 [1.00, 1.00]" in artefact.caption
    assert "decoding t1" in artefact.caption
    assert Run(study.primary, "grpo", 1) in study.runs()
