"""How runs differ: settings, and paired differences, recomputed by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_figures import study_at, write_run
from test_status import record

from asymgrpo import records
from asymgrpo.analysis import paired
from asymgrpo.compare import as_text, compare
from asymgrpo.config import Run

METHODS = ("asymgrpo", "grpo", "dr-grpo")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = study_at(tmp_path_factory.mktemp("compare"), seeds="1,2,3")
    for method in METHODS:
        for seed in study.seeds:
            record(study, Run(study.primary, method, seed))
            write_run(study, Run(study.primary, method, seed))
    return study


def place(study, method, seed=None):
    directory = study.runs_dir(Run(study.primary, method, seed or 1))
    return str(directory if seed else directory.parent)


def of_run(study, method, seed, quantity):
    """At the last of four steps, which is the last tenth."""
    directory = study.runs_dir(Run(study.primary, method, seed))
    if quantity == "accuracy":
        rows = records.read(directory / "evaluations.parquet", records.EVALUATIONS).to_pandas()
        return 100 * rows.loc[rows["step"] == 4, "accuracy"].mean()
    return records.read(directory / "steps.parquet", records.STEPS).to_pandas()[quantity].iloc[-1]


@pytest.mark.parametrize("quantity", ["reward", "entropy", "accuracy"])
def test_differences_are_paired_by_seed(study, quantity):
    found = compare([place(study, "asymgrpo"), place(study, "grpo")])
    assert found.last == 4
    apart = paired.difference(found.values, quantity, "asymgrpo", "grpo")
    by_hand = np.array([of_run(study, "asymgrpo", s, quantity) - of_run(study, "grpo", s, quantity) for s in (1, 2, 3)])
    assert [apart[f"seed_{seed}"] for seed in (1, 2, 3)] == pytest.approx(by_hand)
    low, high = stats.t.interval(0.95, 2, by_hand.mean(), stats.sem(by_hand))
    assert (apart["mean"], apart["low"], apart["high"]) == pytest.approx((by_hand.mean(), low, high))


def test_what_is_told(study):
    text = as_text(compare([place(study, method) for method in METHODS]))
    settings = text.split("\n\n")[1].splitlines()
    assert settings[0].split() == ["setting", *METHODS]
    assert {line.split()[0] for line in settings[1:]} == {
        f"estimator.{key}" for key in ("name", "beta_pos", "beta_neg", "flip", "all_solved_zero", "none_solved_zero")
    }
    assert any(line.split() == ["estimator.beta_pos", "0.9", "0.5", "–"] for line in settings)
    assert "asymgrpo − grpo" in text
    assert "asymgrpo − dr-grpo" in text
    assert "grpo − dr-grpo" not in text.replace("asymgrpo − dr-grpo", "")
    assert "paired by seed, 3 of them; 95% t interval over 3 seeds" in text
    assert "Means over the last 10% of the steps up to step 4; test accuracy: greedy" in text


@pytest.mark.parametrize("form", ["runs", "pattern"])
def test_runs_are_put_together_by_their_settings(study, form):
    whole = compare([place(study, "asymgrpo"), place(study, "grpo")])
    single = {
        "runs": [place(study, method, seed) for method in ("asymgrpo", "grpo") for seed in (1, 2, 3)],
        "pattern": [f"{place(study, 'asymgrpo')}/seed-*", f"{place(study, 'grpo')}/seed-[123]"],
    }[form]
    assert as_text(compare(single)) == as_text(whole)


def test_only_seeds_in_common_are_paired(study):
    runs = [place(study, "asymgrpo", 1), place(study, "asymgrpo", 2), place(study, "grpo", 2), place(study, "grpo", 3)]
    text = as_text(compare(runs))
    assert "Differences are of one seed: no interval." in text
    header = next(line for line in text.splitlines() if "asymgrpo − grpo" in line)
    assert header.split()[-2:] == ["seed", "2"]
    with_none = as_text(compare([place(study, "asymgrpo", 1), place(study, "grpo", 3)]))
    assert "Without a seed in common nothing is paired" in with_none
    expected = of_run(study, "asymgrpo", 1, "entropy") - of_run(study, "grpo", 3, "entropy")
    assert f"{expected:.4f}" in with_none


def test_seeds_of_one_method_are_compared_with_each_other(study):
    text = as_text(compare([place(study, "grpo")]))
    assert "No setting differs." in text
    assert "seed-1 − seed-2" in text
    assert "seed-1 − seed-3" in text


def test_a_setting_that_a_method_got_another_value_of_makes_another_group(study, tmp_path):
    other = study_at(tmp_path, seeds="1,2,3")
    for seed in (1, 2, 3):
        run = Run(study.primary, "grpo", seed)
        record(other, run, checkpoint_every=4)
        write_run(other, run)
    text = as_text(compare([place(study, "grpo"), place(other, "grpo")]))
    assert any(line.split() == ["checkpoint_every", "2", "4"] for line in text.splitlines())
    assert "grpo (1) − grpo (2)" in text
    reward = next(line for line in text.splitlines() if line.startswith("reward"))
    assert "0.0000 [0.0000, 0.0000]" in reward  # the same curves


def test_runs_of_other_lengths_are_compared_where_both_are(study, tmp_path):
    long = study_at(tmp_path, seeds="1")
    run = Run(study.primary, "grpo", 1)
    record(long, run, steps=2)
    write_run(long, run)
    for name, schema in (("steps", records.STEPS), ("evaluations", records.EVALUATIONS)):
        file = long.runs_dir(run) / f"{name}.parquet"
        rows = records.read(file, schema).to_pandas()
        records.write(file, rows[rows["step"] <= 2].to_dict("records"), schema)
    found = compare([place(study, "grpo", 1), place(long, "grpo", 1)])
    assert found.last == 2
    assert (found.values["entropy"].nunique(), found.values["accuracy"].nunique()) == (1, 1)
    assert "up to step 2, the last one that all have" in as_text(found)


@pytest.mark.parametrize("case", ["one", "nowhere", "pattern", "no record", "no file"])
def test_what_cannot_be_compared(study, tmp_path, case):
    given, message = {
        "one": ([place(study, "grpo", 1)], "found 1 run, expected at least two"),
        "nowhere": ([str(tmp_path), place(study, "grpo")], "no run is there"),
        "pattern": ([f"{tmp_path}/*/seed-*", place(study, "grpo")], "no run is there"),
        "no record": ([str(tmp_path / "x"), place(study, "grpo")], r"x/run\.yaml: is no record of a run"),
        "no file": ([str(tmp_path / "y"), place(study, "grpo")], r"steps\.parquet: no such file"),
    }[case]
    for name, text in (
        ("x", "a: 1\n"),
        ("y", (study.runs_dir(Run(study.primary, "grpo", 1)) / "run.yaml").read_text()),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        compare(given)


def test_the_end_of_a_run_is_a_tenth_of_its_steps():
    steps = pd.DataFrame({"group": "a", "seed": 1, "step": range(1, 41), "reward": range(1, 41)})
    steps = steps.assign(entropy=0.0, response_length=0.0)
    accuracy = pd.DataFrame({"group": "a", "seed": 1, "step": [0, 30, 40], "accuracy": [1.0, 2.0, 3.0]})
    assert paired.at_end(steps, accuracy, 40).loc[("a", 1), "reward"] == np.mean([37, 38, 39, 40])
    ended = paired.at_end(steps, accuracy, 35).loc[("a", 1)]
    assert (ended["reward"], ended["accuracy"]) == (np.mean([32, 33, 34, 35]), 2.0)


def test_accuracy_differences_need_the_same_problems():
    rows = [{"seed": 1, "benchmark": "b", "problem_id": str(n), "correct": n, "samples": 4} for n in range(4)]
    counts = pd.DataFrame(rows)
    other = counts.assign(correct=0)
    found = paired.accuracy_differences(counts, other)
    assert found["mean"].tolist() == [37.5, 37.5]
    with pytest.raises(ValueError, match="expected the same seeds and problems"):
        paired.accuracy_differences(counts, other[:-1])
    with pytest.raises(ValueError, match="expected the same benchmarks"):
        paired.accuracy_differences(counts, other.assign(benchmark="c"))
