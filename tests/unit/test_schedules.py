"""Schedules of the exponents: their ends, their quantiles, and that they are the same after any restart."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymgrpo import records
from asymgrpo.advantages import AdvantageFamily, MeanCentred, estimator_at
from asymgrpo.config import Run, load
from asymgrpo.schedules import (
    accuracy_quantile,
    betas,
    exponents_of_run,
    recent_mixed,
    schedule_from_spec,
)
from asymgrpo.theory import negative_pressure, positive_pressure
from asymgrpo.training import local
from asymgrpo.training.local import train
from asymgrpo.training.spec import run_spec

GRPO, ASYMGRPO = {"beta_pos": 0.5, "beta_neg": 0.5}, {"beta_pos": 0.9, "beta_neg": 0.4}
LINEAR = {"name": "linear", "start": GRPO, "end": ASYMGRPO}
COSINE = LINEAR | {"name": "cosine"}
ADAPTIVE = {"name": "adaptive", "start": ASYMGRPO, "quantiles": {"positive": 0.1, "negative": 0.4}}
ADAPTIVE |= {"memory": 0.9, "range": [0.05, 0.95]}
SCHEDULES = {schedule["name"]: schedule for schedule in (LINEAR, COSINE, ADAPTIVE)}
FAMILY = {"name": "family", "flip": None, "all_solved_zero": False, "none_solved_zero": False}

histogram = st.lists(st.integers(0, 20), min_size=9, max_size=9)


def at(spec, step, steps, history=()):
    return betas(schedule_from_spec(spec), step, steps, history)


def adaptive(history, **changes):
    """Exponents of the step after these."""
    return at(ADAPTIVE | changes, len(history) + 1, 100, history)


# -- linear and cosine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [LINEAR, COSINE])
@pytest.mark.parametrize("steps", [2, 3, 60, 200])
def test_they_begin_and_end_where_they_should(spec, steps):
    assert at(spec, 1, steps) == (0.5, 0.5)
    assert at(spec, steps, steps) == pytest.approx((0.9, 0.4))
    assert steps % 2 == 0 or at(spec, steps // 2 + 1, steps) == pytest.approx((0.7, 0.45))


def test_in_between():
    assert [at(LINEAR, step, 5).beta_pos for step in range(1, 6)] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert [at(LINEAR, step, 5).beta_neg for step in range(1, 6)] == pytest.approx([0.5, 0.475, 0.45, 0.425, 0.4])
    quarter = 0.5 + 0.4 * (1 - math.sqrt(0.5)) / 2
    assert [at(COSINE, step, 5).beta_pos for step in range(1, 6)] == pytest.approx(
        [0.5, quarter, 0.7, 1.4 - quarter, 0.9]
    )


@pytest.mark.parametrize("spec", [LINEAR, COSINE])
def test_a_run_of_one_step_has_the_first(spec):
    assert at(spec, 1, 1) == (0.5, 0.5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("step", [0, -1, 6])
def test_there_is_no_such_step(name, step):
    with pytest.raises(ValueError, match=f"step: expected 1 to 5, found {step}"):
        at(SCHEDULES[name], step, 5, [[1] * 9] * 6)


# -- adaptive ----------------------------------------------------------------------------------------------------------


def test_before_there_was_a_mixed_group_it_has_its_start():
    assert adaptive([]) == (0.9, 0.4)
    assert adaptive([[30, 0, 0, 0, 0, 0, 0, 0, 34]] * 5) == (0.9, 0.4)


def test_spread_evenly_over_large_groups_it_is_asymgrpo():
    """The rule by which the quantiles of config/methods.yaml were chosen."""
    study = load(".", {"scale": "local"})
    schedule = study.every_method["schedule-adaptive"].estimator["schedule"]
    assert adaptive([[1] * 10_001], **schedule) == pytest.approx((0.9, 0.4), abs=2e-4)
    assert adaptive([[5] * 9], **schedule) == pytest.approx((0.85, 0.4125))  # groups of 8, as its note says


def test_a_distribution_by_hand():
    """Half of the mixed groups have p = 1/4 (0.125..0.375), the other half p = 3/4 (0.625..0.875)."""
    history = [[7, 10, 0, 10, 99]]
    quantiles = {"positive": 0.25, "negative": 0.75}
    assert adaptive(history, quantiles=quantiles) == pytest.approx((1 - 0.25, 0.75))
    assert adaptive(history, quantiles={"positive": 0.1, "negative": 0.4}) == pytest.approx((1 - 0.175, 0.325))


@pytest.mark.parametrize("p", [0.125, 0.375, 0.75])
def test_its_peaks_are_where_the_groups_are(p):
    """With all mixed groups at one accuracy both medians are there, and so are Prop. 2's peaks of learning pressure."""
    counts = [0] * 9
    counts[round(8 * p)] = 12
    beta_pos, beta_neg = adaptive([counts], quantiles={"positive": 0.5, "negative": 0.5})
    grid = np.linspace(0.001, 0.999, 9981)
    assert grid[np.argmax(positive_pressure(grid, beta_pos))] == pytest.approx(p, abs=2e-3)
    assert grid[np.argmax(negative_pressure(grid, beta_neg))] == pytest.approx(p, abs=2e-3)


def test_harder_groups_raise_the_positive_exponent_and_lower_the_negative_one():
    hard, easy = adaptive([[0, 9, 5, 3, 1, 0, 0, 0, 0]]), adaptive([[0, 0, 0, 0, 1, 3, 5, 9, 0]])
    assert hard.beta_pos > easy.beta_pos
    assert hard.beta_neg < easy.beta_neg


def test_exponents_stay_in_their_range():
    hard, easy = [0] * 65, [0] * 65
    hard[1], easy[63] = 5, 5
    assert adaptive([hard]) == (0.95, 0.05)
    assert adaptive([easy]) == (0.05, 0.95)
    assert adaptive([hard], range=[0.2, 0.7]) == (0.7, 0.2)


def test_how_long_it_remembers():
    old, new = [0, 8, 0, 0, 0], [0, 0, 0, 4, 0]
    assert recent_mixed([old, old, new], 0.5).tolist() == [8 * 0.25 + 8 * 0.5, 0, 4]
    assert recent_mixed([old, old, new], 0).tolist() == [0, 0, 4]
    assert adaptive([old] * 20 + [new], memory=0) == adaptive([new])
    assert adaptive([old] * 20 + [new]) != adaptive([new])


@given(st.lists(histogram, min_size=1, max_size=12), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_quantiles(history, first, second):
    mixed = recent_mixed(history, 0.9)
    if not mixed.any():
        return
    low, high = sorted((first, second))
    a, b = accuracy_quantile(mixed, low), accuracy_quantile(mixed, high)
    assert 1 / 16 <= a <= b <= 15 / 16
    edges = (np.arange(8) + 0.5) / 8
    share = np.interp(a, edges, np.concatenate([[0], np.cumsum(mixed)])) / mixed.sum()
    assert share == pytest.approx(low)  # that share of the mixed groups lies below


def test_a_history_that_is_too_short_is_an_error():
    with pytest.raises(ValueError, match="histograms of 4 steps before step 5, found 3"):
        at(ADAPTIVE, 5, 10, [[1] * 9] * 3)


@given(st.lists(histogram, min_size=4, max_size=12))
def test_only_the_steps_before_count(history):
    """So the exponents of a resumed run, and those worked out from a finished one, are those it had."""
    whole = exponents_of_run({"schedule": ADAPTIVE}, len(history), history)
    assert whole == [at(ADAPTIVE, step, len(history), history[: step - 1]) for step in range(1, len(history) + 1)]
    stored = json.loads(json.dumps(history))
    assert whole == exponents_of_run({"schedule": ADAPTIVE}, len(history), [np.array(row, np.int32) for row in stored])


# -- what a spec may say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "schedule: name: expected one of linear, cosine, adaptive, found None"),
        (LINEAR | {"name": "step"}, "expected one of linear, cosine, adaptive, found 'step'"),
        ({"name": "linear", "start": GRPO}, r"keys missing: \['end'\]"),
        (LINEAR | {"memory": 0.5}, r"keys unknown: \['memory'\]"),
        (LINEAR | {"start": {"beta_pos": 0.5}}, r"start: keys missing: \['beta_neg'\]"),
        (LINEAR | {"end": GRPO | {"beta_pos": -1}}, "end: beta_pos: expected a finite number >= 0, found -1"),
        (LINEAR | {"end": GRPO | {"beta_neg": math.nan}}, "end: beta_neg: expected a finite number >= 0, found nan"),
        (ADAPTIVE | {"quantiles": {"positive": 0.1}}, r"quantiles: keys missing: \['negative'\]"),
        (
            ADAPTIVE | {"quantiles": {"positive": 0, "negative": 0.4}},
            "quantiles: positive: .* 0 and 1, found 0",
        ),
        (ADAPTIVE | {"memory": 1}, "memory: expected a number between 0 and 1, found 1"),
        (ADAPTIVE | {"range": [0.9, 0.1]}, r"range: expected \[smallest, largest\], found \[0.9, 0.1\]"),
        (ADAPTIVE | {"range": [-0.1, 0.9]}, "range: expected a finite number >= 0, found -0.1"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(ValueError, match=message):
        schedule_from_spec(spec)


def test_estimators_of_a_step():
    fixed = FAMILY | ASYMGRPO
    assert estimator_at(fixed, 3, 5, []) == AdvantageFamily(0.9, 0.4)
    assert estimator_at({"name": "mean_centred"}, 3, 5, []) == MeanCentred()
    found = estimator_at(FAMILY | {"flip": "positive", "schedule": LINEAR}, 3, 5, [])
    assert found == AdvantageFamily(*at(LINEAR, 3, 5), flip="positive")
    with pytest.raises(ValueError, match="beta_pos: is given beside a schedule"):
        estimator_at(fixed | {"schedule": LINEAR}, 3, 5, [])


def test_constant_exponents_of_a_run():
    assert exponents_of_run(FAMILY | ASYMGRPO, 3, []) == [(0.9, 0.4)] * 3
    assert exponents_of_run({"name": "mean_centred"}, 3, []) == []


def test_the_specs_of_other_methods_know_nothing_of_schedules():
    """Else every run that there is would be made again."""
    study = load(".", {"scale": "local"})
    scheduled = {name for name, method in study.every_method.items() if "schedule" in method.estimator}
    assert scheduled == {"schedule-linear", "schedule-cosine", "schedule-adaptive"}
    keys = {"name", "flip", "all_solved_zero", "none_solved_zero", "beta_pos", "beta_neg"}
    for name, method in study.every_method.items():
        spec = study.spec(Run(study.primary, name, 1))
        if name not in scheduled:
            assert set(spec["estimator"]) == ({"name"} if name == "dr-grpo" else keys)
        else:
            assert set(spec["estimator"]) == keys - {"beta_pos", "beta_neg"} | {"schedule"}
            assert method.beta_pos is None
            schedule_from_spec(spec["estimator"]["schedule"])
    grpo = '{"name": "family", "flip": null, "all_solved_zero": false, "none_solved_zero": false, "beta_pos": 0.5, '
    assert json.dumps(study.spec(Run(study.primary, "grpo", 1))["estimator"]) == grpo + '"beta_neg": 0.5}'


# -- in a run of the local backend -------------------------------------------------------------------------------------


def run(small, values, directory):
    output = directory / "run"
    train(run_spec(values), small.policy, small.problems, small.benchmarks, output, directory / "work")
    return output


def histograms(output):
    return records.read(output / "steps.parquet", records.STEPS)["group_accuracy_histogram"].to_pylist()


@pytest.fixture
def used(monkeypatch):
    """The estimator of every step that is trained, in order."""
    found, advantages = [], local.compute_advantages

    def compute(rewards, group_ids, estimator):
        found.append(estimator)
        return advantages(rewards, group_ids, estimator)

    monkeypatch.setattr(local, "compute_advantages", compute)
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_step_has_its_exponents_and_they_follow_from_the_files(small, run_values, used, tmp_path, name):
    spec = FAMILY | {"schedule": SCHEDULES[name]}
    output = run(small, run_values(estimator=spec), tmp_path)
    expected = exponents_of_run(spec, 5, histograms(output))
    assert [(estimator.beta_pos, estimator.beta_neg) for estimator in used] == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_restart_does_not_show(small, run_values, used, tmp_path, monkeypatch, name):
    values = run_values(estimator=FAMILY | {"schedule": SCHEDULES[name]})
    whole = run(small, values, tmp_path / "whole")
    of_whole = list(used)
    used.clear()

    described = local.describe_step

    def kill_in_step_3(*arguments):
        if len(used) == 3:
            raise KeyboardInterrupt
        return described(*arguments)

    monkeypatch.setattr(local, "describe_step", kill_in_step_3)
    with pytest.raises(KeyboardInterrupt):
        run(small, values, tmp_path / "again")
    monkeypatch.setattr(local, "describe_step", described)
    again = run(small, values, tmp_path / "again")
    assert used == [*of_whole[:3], *of_whole[2:]]  # step 3, which no checkpoint had, is done twice
    assert (again / "steps.parquet").read_bytes() == (whole / "steps.parquet").read_bytes()
