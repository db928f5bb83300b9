"""Tables are pure functions of run files, written here by the writers of test_figures."""

import importlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from test_figures import ROOT, study_at, write_run, write_study

from asymgrpo import records
from asymgrpo.config import Run
from asymgrpo.tables import TABLES, make
from asymgrpo.tables.render import Estimate, Table, escape, latex, markdown
from asymgrpo.tables.table1 import alpha
from asymgrpo.tables.table2 import REPORTED, read_reported


def with_reported(study):
    (study.root / REPORTED).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / REPORTED, study.root / REPORTED)
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
    frame = pd.concat([pd.DataFrame({"seed": s, "alpha": values, "n_mixed": 5}) for s in (1, 2)])
    assert alpha(frame)["sign"] == sign


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
        assert [path.suffix for path in paths] == [".csv", ".md", ".tex"]
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
    with pytest.raises(ValueError, match="no table 'table9'; there are table1, table2"):
        make("table9", study_at(tmp_path))


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
