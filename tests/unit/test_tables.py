"""Tables are pure functions of run files, written here by the writers of test_figures."""

import importlib
import itertools
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from test_figures import ROOT, generator, quick, study_at, write_run, write_scores, write_study

from asymgrpo import records
from asymgrpo.analysis.intervals import bootstrap_note
from asymgrpo.config import BASE, Run
from asymgrpo.tables import TABLES, evaluation, make
from asymgrpo.tables.render import Estimate, Table, escape, latex, markdown
from asymgrpo.tables.table1 import alpha
from asymgrpo.tables.table2 import REPORTED, read_reported
from asymgrpo.tasks.overlap import Overlap, write_overlap


def with_reported(study):
    for part in ("config", "workflow/schemas"):  # the audit reads the paper's scale, whatever the study's
        shutil.copytree(ROOT / part, study.root / part, dirs_exist_ok=True)
    shared = {"countdown-4": ("a", "b")}
    found = [Overlap(name, 20, len(shared.get(name, ())), shared.get(name, ())) for name in study.benchmarks]
    write_overlap(found, study.overlap_file())
    return study


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return with_reported(write_study(study_at(tmp_path_factory.mktemp("tables"))))


@pytest.fixture(scope="module")
def table2(written):
    return importlib.import_module(TABLES["table2"]).build(written)


def scores(study, run, benchmark):
    return records.read(study.evaluation_dir(run) / f"{benchmark}.scores.parquet", records.SCORES).to_pandas()


def test_table2_counts_what_the_score_files_hold(written, table2):
    data = table2.data[table2.data["source"] == "measured"]
    for backbone, method, checkpoint in [("qwen3-160k", "grpo", "last"), ("qwen3-80k", "asymgrpo", "best")]:
        for benchmark in written.benchmarks:
            row = data[
                (data["backbone"] == backbone)
                & (data["method"] == method)
                & (data["checkpoint"] == checkpoint)
                & (data["benchmark"] == benchmark)
            ].iloc[0]
            accuracies = []
            for seed in written.seeds:
                table = scores(written, Run(backbone, method, seed), benchmark)
                table = table[(table["checkpoint"] == checkpoint) & (table["decoding"] == "t0.4")]
                assert row[f"correct_seed_{seed}"] == table["correct"].sum()
                assert row["problems"] * row["samples"] == len(table)
                accuracies.append(100 * table["correct"].mean())
            assert row["mean"] == pytest.approx(np.mean(accuracies))
            assert row["low"] <= row["mean"] <= row["high"]


def test_table2_average_is_unweighted_and_base_comes_first(written, table2):
    data = table2.data[table2.data["source"] == "measured"]
    for _, part in data.groupby(["backbone", "method", "checkpoint"], sort=False):
        assert part["benchmark"].iloc[-1] == "average"
        assert part["mean"].iloc[-1] == pytest.approx(part["mean"].iloc[:-1].mean())
    headline = table2.tables[0]
    assert headline.rows[0][0] == "Base policy (before RL)"
    assert [row[0].rstrip("†‡") for row in headline.rows[1:]] == [
        written.methods[name].label for name in written.methods_of("table2", written.primary)
    ]


def test_table2_has_the_papers_values_beside_and_says_they_are_not_comparable(written, table2):
    headline = table2.tables[0]
    paper = {row[0].rstrip("†‡"): row[-1] for row in headline.rows}
    assert paper["AsymGRPO"] == "59.36"
    assert paper["Base policy (before RL)"] == "46.91"
    assert paper["Pos-Only (0.5)"] == "55.31"
    assert paper["EntDecrease"] == "–"
    assert any("cannot be compared" in note for note in headline.notes)
    matched = table2.data[(table2.data["method"] == "grpo") & (table2.data["reported_benchmark"] == "MATH-500")]
    assert set(matched["reported"]) == {88.20, 73.24}
    reported = table2.data[table2.data["source"] == "reported"]
    assert len(reported) == len(read_reported(ROOT / REPORTED))


def test_table2_marks_what_is_assumed_ours_and_selected_on_a_test_set(written, table2):
    labels = [row[0] for row in table2.tables[0].rows]
    assert "GRPO + Clip-higher†" in labels
    assert "GRPO + entropy reg.†" in labels
    assert "GRPO" in labels
    assert "REINFORCE, all-solved 0‡" in labels
    notes = " ".join(table2.tables[0].notes)
    for statement in written.assumed("table2"):
        assert statement.removesuffix(" (assumed)") in notes
    assert "a test set" in notes
    assert any("best checkpoint" in table.title for table in table2.tables)


def test_table1_agrees_with_the_run_files(written):
    data = importlib.import_module(TABLES["table1"]).build(written).data
    for row in data.to_dict("records"):
        means = []
        for seed in written.seeds:
            run = Run(row["backbone"], row["method"], seed)
            steps = records.read(written.runs_dir(run) / "steps.parquet", records.STEPS).to_pandas()
            means.append(steps["alpha"].mean())
            assert row[f"alpha_seed_{seed}"] == pytest.approx(means[-1])
        assert row["mean"] == pytest.approx(np.mean(means))
        assert row["low"] < row["mean"] < row["high"]


@pytest.mark.parametrize(
    ("values", "sign"),
    [([0.1, 0.11, 0.12], "positive"), ([-0.1, -0.2, -0.1], "negative"), ([1.0, -1.1, 0.2], "undecided")],
)
def test_sign_of_alpha_needs_the_whole_interval(values, sign):
    frame = pd.concat([pd.DataFrame({"seed": s, "alpha": values, "n_mixed": 5}) for s in (1, 2, 3)])
    assert alpha(frame)["sign"] == sign
    assert alpha(frame[frame["seed"] < 3])["sign"] == "undecided"  # as the table of claims has it


def test_alpha_leaves_steps_without_mixed_groups_out():
    frame = pd.DataFrame({"seed": [1, 1, 2, 2], "alpha": [0.1, np.nan, np.nan, np.nan], "n_mixed": [3, 0, 0, 0]})
    result = alpha(frame)
    assert (result["mean"], result["steps"], result["n_mixed"]) == (pytest.approx(0.1), 1, 3)
    none = alpha(frame.assign(alpha=np.nan, n_mixed=0))
    assert none["sign"] == "unknown"
    assert np.isnan(none["mean"])


def test_table1_without_any_mixed_group_is_a_dash(tmp_path):
    study = study_at(tmp_path, artefacts=["table1"])
    for run in study.runs():
        write_run(study, run)
        path = study.runs_dir(run) / "steps.parquet"
        steps = records.read(path, records.STEPS).to_pandas().assign(alpha=np.nan, n_mixed=0)
        records.write(path, steps.to_dict("records"), records.STEPS)
    text = make("table1", study)[1].read_text()
    assert "unknown" in text
    assert "nan" not in text


def test_files_are_the_same_bytes_twice(written):
    for name in TABLES:
        paths = make(name, written)
        assert [path.suffix for path in paths] == [".csv", ".md", ".tex", *([".json"] if name == "claims" else [])]
        first = [path.read_bytes() for path in paths]
        assert [path.read_bytes() for path in make(name, written)] == first


def test_missing_scores_are_named_with_the_command(tmp_path):
    study = with_reported(study_at(tmp_path))
    with pytest.raises(ValueError, match=r"base/seed-1/countdown-3\.scores\.parquet: no such file.*snakemake"):
        make("table2", study)
    assert not study.table_stem("table2").parent.exists()


def test_scores_without_the_decoding_are_refused(tmp_path):
    study = with_reported(write_study(study_at(tmp_path, artefacts=["table2"]), problems=3))
    path = study.evaluation_dir(Run(study.primary, "grpo", 1)) / "countdown-4.scores.parquet"
    table = records.read(path, records.SCORES).to_pandas()
    records.write(path, table[table["decoding"] != "t0.4"].to_dict("records"), records.SCORES)
    with pytest.raises(ValueError, match=r"countdown-4\.scores\.parquet: expected rows with decoding 't0\.4'"):
        make("table2", study)


def test_reported_values_with_other_columns_are_refused(tmp_path):
    path = tmp_path / "table2.csv"
    with pytest.raises(ValueError, match="no such file"):
        read_reported(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected the columns"):
        read_reported(path)


def test_unknown_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no table 'table9'; there are table1, table2, evaluation"):
        make("table9", study_at(tmp_path))


# -- evaluation -------------------------------------------------------------------------------------------------------

METRICS = {"avg", "pass", "truncated", "unextracted", "tokens"}


def vary(study):
    """Responses of different lengths, some cut off, some without an answer."""
    for path in sorted((study.root / "results" / study.scale / "evaluation").rglob("*.scores.parquet")):
        rng = generator(*path.parts[-4:])
        table = records.read(path, records.SCORES).to_pandas()
        cut = rng.random(len(table)) < 0.2
        table["tokens"] = np.where(cut, 13, rng.integers(5, 12, len(table)))
        table["finish_reason"] = np.where(cut, "length", "stop")
        table["extracted"] = np.where(~table["correct"] & (rng.random(len(table)) < 0.3), "", "7")
        records.write(path, table.to_dict("list"), records.SCORES)
    return study


@pytest.fixture(scope="module", params=["tiny", "smoke"])
def varied(request, tmp_path_factory):
    """Two scales: one with several decodings, one with other numbers of samples for each benchmark."""
    return vary(with_reported(write_study(study_at(tmp_path_factory.mktemp("varied"), request.param, seeds="1,2"))))


@pytest.fixture(scope="module")
def evaluated(varied):
    return evaluation.build(varied)


def by_hand(table, metric, k):
    """Of one seed, benchmark, decoding and checkpoint; pass@k by looking at every choice of k samples."""
    if metric == "avg":
        return 100 * table["correct"].mean()
    if metric == "pass":
        hits = [
            np.mean([any(chosen) for chosen in itertools.combinations(part["correct"], k)])
            for _, part in table.groupby("problem_id")
        ]
        return 100 * np.mean(hits)
    if metric == "tokens":
        return table["tokens"].mean()
    return 100 * (table["finish_reason"] == "length" if metric == "truncated" else table["extracted"] == "").mean()


def test_evaluation_is_what_the_score_files_hold(varied, evaluated):
    data, final = evaluated.data, varied.settings["evaluation"]["final"]
    seen = set()
    others = list(varied.backbones)[-1]
    for backbone, method in [(varied.primary, BASE), (varied.primary, "reinforce"), (others, "grpo")]:
        starts = {varied.start_seed(backbone, seed) for seed in varied.seeds}
        seeds = sorted(starts) if method == BASE else varied.seeds
        rows = data[(data["backbone"] == backbone) & (data["method"] == method) & (data["benchmark"] != "average")]
        assert len(rows) > 0
        for row in rows.to_dict("records"):
            checkpoint = "last" if method == BASE else row["checkpoint"]
            values = []
            for seed in seeds:
                table = scores(varied, Run(backbone, method, seed), row["benchmark"])
                table = table[(table["decoding"] == row["decoding"]) & (table["checkpoint"] == checkpoint)]
                values.append(by_hand(table, row["metric"], row["k"]))
                assert row[f"seed_{seed}"] == pytest.approx(values[-1])
            assert row["mean"] == pytest.approx(np.mean(values))
            assert row["low"] - 1e-9 <= row["mean"] <= row["high"] + 1e-9
            assert row["seeds"] == len(seeds)
            assert row["trained_on"] == (2 if row["benchmark"] == "countdown-4" else 0)
            seen.add((row["decoding"], checkpoint, row["benchmark"], row["metric"], row["k"]))
    expected = set()
    for decoding, how in final.items():
        for checkpoint, benchmark in itertools.product(how["checkpoints"], varied.benchmarks):
            k = how["samples"] if isinstance(how["samples"], int) else how["samples"][benchmark]
            place = (decoding, checkpoint, benchmark)
            expected |= {(*place, metric, k) for metric in METRICS} | {(*place, "pass", j) for j in (1, 2, 4) if j <= k}
    assert seen == expected


def test_evaluation_averages_are_unweighted_and_only_of_what_every_benchmark_has(varied, evaluated):
    keys = ["backbone", "method", "checkpoint", "decoding", "metric"]
    for key, part in evaluated.data.groupby(keys):
        average, single = part[part["benchmark"] == "average"], part[part["benchmark"] != "average"]
        if key[-1] != "pass":
            assert average["mean"].tolist() == [pytest.approx(single["mean"].mean())]
            continue
        for k, of_k in single.groupby("k"):
            whole = len(of_k) == len(varied.benchmarks)
            assert average.loc[average["k"] == k, "mean"].tolist() == [pytest.approx(of_k["mean"].mean())] * whole


def test_evaluation_agrees_with_table2(varied, evaluated):
    table2 = importlib.import_module(TABLES["table2"]).build(varied).data
    table2 = table2[table2["source"] == "measured"]
    ours = evaluated.data[(evaluated.data["metric"] == "avg") & (evaluated.data["decoding"] == "t0.4")]
    ours = ours.assign(checkpoint=ours["checkpoint"].replace("start", "last"))
    keys = ["backbone", "method", "checkpoint", "decoding", "benchmark"]
    both = table2.merge(ours, on=keys, how="outer", suffixes=("", "_ours"), indicator=True)
    assert set(both["_merge"]) == {"both"}
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(both[name], both[f"{name}_ours"], rtol=1e-12)


def test_evaluation_shows_people_every_method_and_labels_checkpoints(varied, evaluated):
    for backbone, first, second in zip(varied.backbones, evaluated.tables[::2], evaluated.tables[1::2], strict=True):
        labels = [varied.methods[name].label for name in varied.methods_of("table2", backbone)]
        lines = [(row[0], row[1]) for row in first.rows]
        expected = [("Base policy (before RL)", "start"), *((x, c) for x in labels for c in ("last", "best"))]
        assert lines == expected
        assert [row[0] for row in second.rows] == ["Base policy (before RL)", *labels]
    notes = " ".join(evaluated.tables[0].notes)
    assert "best is chosen by accuracy on Countdown-4, a test set" in notes
    assert "in the training set too, by their normalised text: Countdown-4 2 of 20" in notes
    header = list(evaluated.tables[0].header)
    if varied.scale == "smoke":
        assert "2 (Countdown-3, Countdown-4-value) and 4 (Countdown-4) at T = 0.4" in notes
        assert header[2:4] == ["Avg@k", "pass@2"]
    else:
        assert header[-3:] == ["Avg@k\nT = 1", "pass@2\nT = 1", "Avg@k\ngreedy"]


def test_evaluation_comes_out_as_files_at_the_papers_scale(tmp_path):
    study = with_reported(study_at(tmp_path, "paper", artefacts=["evaluation"]))
    for run in [*study.runs("evaluation"), *(Run(backbone, BASE, seed) for backbone, seed in study.starts())]:
        write_scores(study, run, 4)
    text = make("evaluation", vary(study))[1].read_text()
    assert "5 (MATH-500, OlympiadBench) and 10 (AIME 2024, AIME 2025, AMC 2023) at T = 0.4" in text
    assert "pass@4" in text
    assert "nan" not in text
    data = pd.read_csv(study.table_stem("evaluation").with_suffix(".csv"))
    assert set(data.loc[(data["metric"] == "pass") & (data["benchmark"] == "aime24"), "k"]) == {1, 2, 4, 8}
    assert set(data.loc[(data["metric"] == "pass") & (data["benchmark"] == "average"), "k"]) == {1, 2, 4}


def test_evaluation_without_the_overlap_or_a_decoding_is_refused(tmp_path):
    study = with_reported(write_study(study_at(tmp_path, artefacts=["table2"]), problems=3))
    path = study.evaluation_dir(Run(study.primary, "grpo", 1)) / "countdown-4.scores.parquet"
    table = records.read(path, records.SCORES).to_pandas()
    records.write(path, table[table["checkpoint"] != "best"].to_dict("records"), records.SCORES)
    with pytest.raises(ValueError, match=r"grpo: countdown-4\.scores\.parquet: .* 't0\.4' and checkpoint 'best'"):
        make("evaluation", study)
    study.overlap_file().unlink()
    with pytest.raises(ValueError, match=r"overlap\.csv: no such file.*snakemake"):
        make("evaluation", study)


@pytest.mark.parametrize("name", ["table2", "evaluation"])
@pytest.mark.parametrize(("seeds", "said"), [("1", "says nothing of other seeds"), ("1,2", "tends to be too narrow")])
def test_intervals_from_few_seeds_are_not_passed_off_as_exact(tmp_path, name, seeds, said):
    study = with_reported(write_study(study_at(tmp_path, "smoke", seeds=seeds, artefacts=[name]), problems=4))
    notes = importlib.import_module(TABLES[name]).build(study).tables[0].notes
    assert [note for note in notes if said in note]


def test_selection_explains_cells_without_an_interval_only_if_there_are_some(written):
    result = importlib.import_module(TABLES["selection"]).build(written)
    assert result.data["low"].notna().all()
    assert "No interval" not in " ".join(note for table in result.tables for note in table.notes)
    assert [bool(table.notes) for table in result.tables] == [True, *[False] * (len(result.tables) - 1)]


def test_from_five_seeds_on_intervals_need_no_excuse():
    assert [bool(bootstrap_note(seeds)) for seeds in (1, 2, 4, 5, 10)] == [True, True, True, False, False]


@pytest.mark.parametrize("name", ["audit", "table1", "claims"])
def test_columns_of_words_are_aligned_to_the_left(written, name):
    number = re.compile(r"[-+<]? ?[\d.]+(e-\d+)?\b|–|∞|\?|$")
    for table in importlib.import_module(TABLES[name]).build(written).tables:
        for row in table.rows:
            for cell in row[table.left :]:
                assert isinstance(cell, Estimate) or number.match(cell), (table.title, cell)


def test_rendering():
    table = Table(
        "Table 3. A & B", ["Method", "x_1\nn = 2"], [["A†", Estimate(1.25, 1.0, 1.5)], ["50%", "$p^2$"]], ["C."]
    )
    assert "| A†" in markdown(table)
    assert "1.2 [1.0, 1.5]" in markdown(table)
    text = latex(table)
    assert r"\caption{A \& B}" in text
    assert r"A$^\dagger$ & $1.2_{[1.0,\,1.5]}$ \\" in text
    assert r"50\% & $p^2$ \\" in text
    assert Estimate(float("nan")).text() == "–"
    assert Estimate(1.25, 1.0, 1.5, 2, "points").text() == "1.25 [1.00, 1.50] points"
    assert Estimate(1.25, digits=2, unit="a_b").latex() == r"$1.25$ a\_b"
    with pytest.raises(ValueError, match="expected 2 cells"):
        Table("T", ["a", "b"], [["only one"]])


def test_latex_is_balanced_and_plain(written):
    for name in TABLES:
        text = make(name, written)[2].read_text()
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 0
        assert text.isascii(), re.findall(r"[^\x00-\x7f]", text)
        for line in text.splitlines():
            assert not re.search(r"(?<!\\)[#%]", line) or line.startswith("% needs") or line.endswith("{!}{%")
    assert escape(r"a_b \ ~") == r"a\_b \textbackslash{} \textasciitilde{}"


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_tables_come_out_at_scales_of_another_shape(tmp_path, scale):
    """One backbone and few methods; or three fetched backbones, and as many samples as each benchmark has."""
    study = study_at(tmp_path, scale, artefacts=["table1", "table2"])
    study = with_reported(write_study(quick(study) if scale == "paper" else study, problems=4))
    for name in ("table1", "table2"):
        assert all(path.stat().st_size > 100 for path in make(name, study))
    result = importlib.import_module(TABLES["table2"]).build(study)
    measured = result.data[result.data["source"] == "measured"]
    assert list(dict.fromkeys(measured["backbone"])) == list(study.backbones)
    samples = measured[measured["benchmark"] != "average"].groupby("benchmark")["samples"].agg(set).to_dict()
    assert samples == {name: {k} for name, k in study.settings["evaluation"]["final"]["t0.4"]["samples"].items()}
    for backbone in study.backbones:
        methods = set(measured[measured["backbone"] == backbone]["method"])
        assert methods == {"base", *study.methods_of("table2", backbone)}
    notes = " ".join(result.tables[0].notes)
    assert ("the same model and task" in notes) == (scale == "paper")
    assert ("this scale runs only" in notes) == (scale == "smoke")
