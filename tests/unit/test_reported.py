"""Reported beside reproduced, and what choosing a checkpoint on a test set gains: from arrays whose truth is known."""

import dataclasses
import importlib
import shutil

import numpy as np
import pandas as pd
import pytest
from test_figures import ROOT, quick, study_at, write_run, write_scores, write_study

from asymgrpo import records
from asymgrpo.analysis import differences, reproduction, selection
from asymgrpo.analysis.claims import verdicts
from asymgrpo.config import BASE, Run
from asymgrpo.tables import TABLES, make
from asymgrpo.tables.reported import COLUMNS, same_task
from asymgrpo.tables.table2 import REPORTED, read_reported


def with_config(study):
    """The configuration beside the runs: the audit's protocol is that of the paper's scale, whatever the study's."""
    for part in ("config", "workflow/schemas"):
        shutil.copytree(ROOT / part, study.root / part, dirs_exist_ok=True)
    return study


def set_scores(study, run, accuracy):
    """Make the scores of a run those of ``accuracy(benchmark, checkpoint)``: that share of the problems solved."""
    for benchmark in study.benchmarks:
        path = study.evaluation_dir(run) / f"{benchmark}.scores.parquet"
        table = records.read(path, records.SCORES).to_pandas()
        for checkpoint in ("last", "best"):
            mask = table["checkpoint"] == checkpoint
            ranked = table.loc[mask, "problem_id"].rank(method="dense") / table.loc[mask, "problem_id"].nunique()
            table.loc[mask, "correct"] = ranked <= accuracy(benchmark, checkpoint) + 1e-9
        records.write(path, table.to_dict("records"), records.SCORES)


LEVELS = {"grpo": 0.5, "asymgrpo": 0.6, "reinforce": 0.5, "pos-only-0.5": 0.6, BASE: 0.2}
"""Known truths: of the reported signs REINFORCE's and Pos-Only's are below GRPO, AsymGRPO's above."""


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Three seeds whose levels are known, a little apart from seed to seed; GRPO's best checkpoint is better by 0.1 on
    the benchmark that chooses alone, AsymGRPO's by 0.05 on all."""
    root = tmp_path_factory.mktemp("known")
    study = study_at(root, "tiny", seeds="1,2,3", artefacts=["reported"])
    for run in study.runs("reported", "selection"):
        write_run(study, run)
    for run in [*study.runs("reported", "selection"), Run(study.primary, BASE, 1), Run("qwen3-80k", BASE, 1)]:
        write_scores(study, run, 20)
        level = LEVELS.get(run.method, 0.5)
        shift = 0.05 * (run.seed == 2) * (run.method in ("asymgrpo", "pos-only-0.5"))

        def accuracy(benchmark, checkpoint, run=run, level=level, shift=shift):
            gain = 0.0
            if checkpoint == "best":
                gain = {"grpo": 0.1 * (benchmark == "countdown-4"), "asymgrpo": 0.05}.get(run.method, 0.0)
            return level + shift + gain

        set_scores(study, run, accuracy)
    return with_config(study)


@pytest.fixture(scope="module")
def table(known):
    return importlib.import_module(TABLES["reported"]).build(known)


def pick(data, **where):
    for name, value in where.items():
        data = data[data[name] == value]
    return data


# -- arrays -----------------------------------------------------------------------------------------------------------


def test_accuracies_by_seed_and_problem():
    rows = [(s, b, p, s + p, 4) for b in ("x", "y") for s in (1, 2) for p in (0, 1, 2)]
    counts = pd.DataFrame(rows, columns=["seed", "benchmark", "problem_id", "correct", "samples"])
    values = differences.by_problem(counts, [2, 1, 2])
    assert values["x"].tolist() == [[50, 75, 100], [25, 50, 75], [50, 75, 100]]
    assert differences.minus(values, values)["y"].tolist() == [[0, 0, 0]] * 3
    with pytest.raises(ValueError, match="x: expected the same problems in each of the seeds 1, 3"):
        differences.by_problem(counts, [1, 3])
    with pytest.raises(ValueError, match="expected the same benchmarks, seeds and problems"):
        differences.minus(values, {"x": values["x"]})


def simulated(rng, seeds, spread, count, problems, effect=0.0):
    """Differences of a mean effect, over seeds, problems and samples, for each of `count` benchmarks."""
    of_seed = rng.normal(scale=spread, size=(seeds, 1))
    return [effect + of_seed + rng.normal(scale=4, size=(1, problems)) + rng.normal(scale=30, size=(seeds, problems))
            for _ in range(count)]  # fmt: skip


@pytest.mark.parametrize(("seeds", "problems"), [(2, 100), (3, 20), (3, 100), (5, 100)])
def test_intervals_cover_the_truth(seeds, problems):
    rng, trials = np.random.default_rng(seeds), 400
    inside = 0
    for _ in range(trials):
        mean, low, high = differences.estimate(simulated(rng, seeds, 1.0, 5, problems, effect=2.0))
        assert low < mean < high
        assert high - low < 500  # few problems or seeds that vary hardly must not blow it up
        inside += low <= 2.0 <= high
    assert inside / trials > 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)


def test_a_weighted_mean_over_benchmarks():
    rng = np.random.default_rng(0)
    tables = simulated(rng, 3, 1.0, 3, 50)
    equal = differences.estimate(tables)
    assert differences.estimate(tables, [1 / 3] * 3) == pytest.approx(equal)
    mean, low, high = differences.estimate(tables, [2.0, 0.0, -1.0])
    assert mean == pytest.approx(2 * tables[0].mean() - tables[2].mean())
    assert differences.estimate(tables[:1], [3.0]) == pytest.approx([3 * v for v in differences.estimate(tables[:1])])
    assert high - low > equal[2] - equal[1]


def test_one_seed_has_an_interval_over_problems_and_says_so():
    tables = [np.random.default_rng(0).normal(1, 10, size=(1, 200)) for _ in range(2)]
    mean, low, high = differences.estimate(tables)
    assert low < mean < high
    assert mean == pytest.approx(np.mean([table.mean() for table in tables]))
    assert "says nothing of other seeds" in differences.interval_name(1)
    assert "over 3 seeds and the problems" in differences.interval_name(3)


def test_agreement_of_levels_is_that_of_one_further_run():
    """Of a reported run drawn as ours are, 95 in 100 are inside."""
    rng, trials, inside = np.random.default_rng(0), 2000, 0
    for _ in range(trials):
        ours, theirs = rng.normal(50, 1, 4), rng.normal(50, 1)
        difference, low, high = reproduction.prediction(ours, theirs)
        assert difference == pytest.approx(ours.mean() - theirs)
        inside += reproduction.level(low, high, 4) == reproduction.INSIDE
    assert abs(inside / trials - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials)
    ours = [50.0, 50.5, 49.5]
    assert reproduction.level(*reproduction.prediction(ours, 90.0)[1:], 3) == reproduction.OUTSIDE
    assert reproduction.level(*reproduction.prediction(ours[:2], 90.0)[1:], 2) == reproduction.UNDECIDED
    assert reproduction.level(*reproduction.prediction(ours[:1], 50.0)[1:], 1) == reproduction.UNDECIDED


@pytest.mark.parametrize(
    ("reported", "low", "high", "seeds", "expected"),
    [
        (1.0, 0.1, 2.0, 3, reproduction.SIGN_AGREES),
        (-1.0, -2.0, -0.1, 3, reproduction.SIGN_AGREES),
        (-1.0, 0.1, 2.0, 3, reproduction.SIGN_DIFFERS),
        (1.0, -2.0, -0.1, 5, reproduction.SIGN_DIFFERS),
        (1.0, -0.1, 2.0, 5, reproduction.UNDECIDED),
        (1.0, 0.1, 2.0, 2, reproduction.UNDECIDED),
        (0.0, 0.1, 2.0, 5, reproduction.UNDECIDED),
        (1.0, np.nan, np.nan, 5, reproduction.UNDECIDED),
        (np.nan, 0.1, 2.0, 5, reproduction.UNDECIDED),
    ],
)
def test_agreement_of_signs(reported, low, high, seeds, expected):
    assert reproduction.sign(reported, low, high, seeds) == expected


def test_what_is_decided_needs_as_many_seeds_as_in_the_claims():
    assert reproduction.FEWEST_SEEDS == verdicts.FEWEST_SEEDS


def test_gains_are_told_apart():
    """Benchmark x gains 5 on both seeds, y and z 1; so the average gains 7/3, and x 4 more than the others."""
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=(2, 40)) for name in "xyz"}
    known = {name: table - table.mean(axis=1, keepdims=True) for name, table in noise.items()}
    gained = {name: table + {"x": 5.0}.get(name, 1.0) for name, table in known.items()}
    found = selection.gains(gained, "x").set_index("benchmark")
    assert found["mean"].to_dict() == pytest.approx(
        {"x": 5, "y": 1, "z": 1, "average": 7 / 3, selection.OTHERS: 1, selection.EXCESS: 4}
    )
    shares = found["of_average"]
    assert shares["x"] + shares[selection.OTHERS] == pytest.approx(shares["average"]) == pytest.approx(7 / 3)
    assert found.loc[selection.EXCESS, "by_seed"] == pytest.approx([4, 4])
    assert list(selection.gains({"x": gained["x"]}, "x")["benchmark"]) == ["x", "average"]
    with pytest.raises(ValueError, match="w: is not among x, y, z; expected the benchmark that chose"):
        selection.gains(gained, "w")


def test_the_best_step_is_the_earliest_of_the_highest():
    rows = [("a", "m", 1, step, "x", "greedy", value) for step, value in [(0, 0.9), (4, 0.5), (2, 0.5), (6, 0.4)]]
    rows += [("a", "m", 2, step, "x", "greedy", value) for step, value in [(0, 0.1), (2, 0.2), (4, 0.3), (6, 0.4)]]
    rows += [("a", "m", 1, 6, "y", "greedy", 1.0), ("a", "m", 1, 6, "x", "t1", 1.0)]
    names = ["backbone", "method", "seed", "step", "benchmark", "decoding", "accuracy"]
    found = selection.best_steps(pd.DataFrame(rows, columns=names), "x", "greedy")
    assert found[["seed", "best_step", "last_step"]].values.tolist() == [[1, 2, 6], [2, 6, 6]]


# -- the tables -------------------------------------------------------------------------------------------------------


def test_every_reported_cell_is_there_for_each_checkpoint(table):
    reported = read_reported(ROOT / REPORTED)
    for _, part in table.data.groupby("checkpoint"):
        keys = part[["reported_backbone", "reported_row", "reported_benchmark"]].agg(tuple, axis=1)
        assert sorted(keys) == sorted(reported[["backbone", "method", "benchmark"]].agg(tuple, axis=1))
        assert part["reported"].sum() == pytest.approx(reported["accuracy"].sum())
    assert list(table.data["checkpoint"].unique()) == ["best", "last"]
    assert list(table.data.columns) == [*COLUMNS, "seed_1", "seed_2", "seed_3"]
    assert set(table.data["agreement"]) <= set(reproduction.AGREEMENT)


def test_signs_of_known_runs(known, table):
    last = pick(table.data, checkpoint="last", reported_benchmark="Avg", backbone=known.primary)
    found = last.set_index("method")
    assert found.loc["asymgrpo", "agreement"] == reproduction.SIGN_AGREES
    assert found.loc["pos-only-0.5", "agreement"] == reproduction.SIGN_DIFFERS  # the paper has it below GRPO
    assert found.loc["reinforce", "agreement"] == reproduction.UNDECIDED  # as GRPO, in every seed
    assert found.loc["grpo", "agreement"] == reproduction.REFERENCE
    row = found.loc["asymgrpo"]
    assert row["reported_minus_grpo"] == pytest.approx(59.36 - 56.50)
    assert row["minus_grpo"] == pytest.approx(100 * (0.1 + 0.05 / 3))
    assert row["minus_grpo_low"] < row["minus_grpo"] < row["minus_grpo_high"]
    assert row["difference"] == pytest.approx(row["minus_grpo"] - row["reported_minus_grpo"])
    assert row["compared"] == "minus GRPO"
    assert [row[f"seed_{seed}"] for seed in (1, 2, 3)] == pytest.approx([60, 65, 60])
    base = pick(table.data, checkpoint="best", reported_row="base", reported_benchmark="Avg", backbone=known.primary)
    assert base["reproduced"].tolist() == pytest.approx([20])
    assert base["seeds"].tolist() == [1]  # three runs from one start
    assert base["minus_grpo"].tolist() == pytest.approx([-32])


def test_what_the_scale_has_nothing_for_is_said(known, table):
    nothing = pick(table.data, agreement=reproduction.NOT_REPRODUCED)
    assert set(nothing["reported_benchmark"]) == {"MATH-500", "AIME24", "AIME25", "AMC23", "OlympiadBench", "Avg"}
    assert set(pick(nothing, reported_benchmark="Avg")["reported_backbone"]) == {"Qwen2.5-7B-Base"}
    assert nothing["reproduced"].isna().all()
    text = make("reported", known)[1].read_text()
    assert "so levels cannot be compared" in text
    assert "Seeds 1, 2, 3; [95% interval] over 3 seeds and the problems" in text
    assert "sign differs" in text
    assert "nan" not in text


def test_levels_are_compared_at_the_papers_scale(tmp_path):
    study = study_at(tmp_path, "paper", seeds="1,2,3", artefacts=["reported"])
    for run in [*study.runs("reported"), *(Run(backbone, BASE, seed) for backbone, seed in study.starts())]:
        write_scores(study, run, 4)
    assert same_task(study, "qwen3-4b", "average")
    cut = dict(study.benchmarks["aime24"].sources)
    cut["max_problems",] = cut["problems",]
    fewer = dataclasses.replace(study.benchmarks["aime24"], sources=cut)
    assert not same_task(
        dataclasses.replace(study, benchmarks=study.benchmarks | {"aime24": fewer}), "qwen3-4b", "aime24"
    )
    result = importlib.import_module(TABLES["reported"]).build(with_config(study))
    measured = result.data[result.data["agreement"] != reproduction.NOT_REPRODUCED]
    assert set(measured["compared"]) == {"level"}
    assert len(measured) == 2 * 6 * 17
    assert set(measured["agreement"]) <= {reproduction.INSIDE, reproduction.OUTSIDE, reproduction.UNDECIDED}
    row = pick(measured, checkpoint="best", method="grpo", backbone="qwen3-4b", benchmark="math-500").iloc[0]
    values = [row[f"seed_{seed}"] for seed in study.seeds]
    assert row[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(
        reproduction.prediction(values, 88.20)
    )
    assert row["agreement"] == (
        reproduction.INSIDE if row["difference_low"] <= 0 <= row["difference_high"] else reproduction.OUTSIDE
    )
    assert "one further run on the same problems" in " ".join(result.tables[0].notes)
    base = pick(measured, method=BASE)
    assert set(base["agreement"]) == {reproduction.UNDECIDED}  # one policy, sampled once


def test_selection_of_known_runs(known):
    """GRPO gains 10 on the benchmark that chose and nothing elsewhere, AsymGRPO 5 on each, the others nothing."""
    result = importlib.import_module(TABLES["selection"]).build(known)
    found = pick(result.data, backbone=known.primary).set_index(["method", "benchmark"])
    assert found.loc[("grpo", "average"), "gain"] == pytest.approx(2)
    assert found.loc[("grpo", "countdown-4"), "gain"] == pytest.approx(10)
    assert found.loc[("grpo", "countdown-4"), "of_average"] == pytest.approx(2)
    assert found.loc[("grpo", selection.OTHERS), "gain"] == pytest.approx(0)
    assert found.loc[("grpo", selection.EXCESS), "gain"] == pytest.approx(10)
    assert found.loc[("asymgrpo", "average"), "gain"] == pytest.approx(5)
    assert found.loc[("asymgrpo", selection.EXCESS), "gain"] == pytest.approx(0)
    assert found.loc[("asymgrpo", "lead over GRPO"), "gain"] == pytest.approx(3)
    assert ("grpo", "lead over GRPO") not in found.index
    assert found.loc[("grpo", "average"), "best"] - found.loc[("grpo", "average"), "last"] == pytest.approx(2)
    assert found.loc[("reinforce", "average"), "gain"] == 0
    assert set(found["chosen_on"]) == {"countdown-4"}
    text = make("selection", known)[1].read_text()
    assert "GRPO" in text
    assert "a test set, every 2 steps, as the paper chooses" in text
    assert "No interval: no seed differs from another." in text  # of REINFORCE's zeros
    assert "nan" not in text


def test_selection_needs_both_checkpoints(known):
    settings = {
        path: dataclasses.replace(setting, value=["last"]) if path[-1] == "checkpoints" else setting
        for path, setting in known.scale_settings.items()
    }
    with pytest.raises(ValueError, match=r"config/scales/tiny.yaml: evaluation.final: .* expected both"):
        make("selection", dataclasses.replace(known, scale_settings=settings))


def test_missing_files_are_named_with_the_command(tmp_path):
    study = with_config(study_at(tmp_path))
    for name in ("reported", "selection"):
        with pytest.raises(ValueError, match=r"no such file; make it with: snakemake"):
            make(name, study)


def test_the_audit_needs_no_run(tmp_path):
    study = with_config(study_at(tmp_path))
    csv, text, latex = make("audit", study)
    assert "21 of 80 cells of v2 are no multiple" in text.read_text()
    assert latex.read_text().isascii()
    data = pd.read_csv(csv)
    assert data["check"].value_counts().to_dict() == {"cell": 85, "block": 20, "average": 17}
    assert csv.read_bytes() == make("audit", with_config(study_at(tmp_path, "paper")))[0].read_bytes()


def test_the_reported_methods_are_those_with_a_row_in_the_paper():
    study = study_at(ROOT, "local")
    rows = [name for name, method in study.methods.items() if method.paper_row]
    assert study.methods_of("reported", study.primary) == rows


@pytest.mark.parametrize(("scale", "seeds"), [("tiny", "1"), ("smoke", "1"), ("paper", "1,2")])
def test_tables_come_out_at_every_scale_and_with_few_seeds(tmp_path, scale, seeds):
    study = study_at(tmp_path, scale, seeds=seeds, artefacts=["reported", "selection"])
    study = with_config(write_study(quick(study) if scale == "paper" else study, problems=4))
    for name in ("reported", "selection"):
        paths = make(name, study)
        for path in paths[1:]:
            assert "nan" not in path.read_text()
        assert paths[2].read_text().isascii()
    data = pd.read_csv(study.table_stem("reported").with_suffix(".csv"))
    assert set(data["agreement"]) <= {reproduction.UNDECIDED, reproduction.REFERENCE, reproduction.NOT_REPRODUCED}
    text = study.table_stem("selection").with_suffix(".md").read_text()
    assert ("this scale runs only" in text) == (scale == "smoke")
    assert ("it says nothing of other seeds" in text) == (seeds == "1")
