"""The page of one method, from run files that the tests of figures write."""

import re

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from test_figures import study_at, write_run, write_scores

from asymgrpo import records
from asymgrpo.analysis.intervals import bootstrap_crossed, percentile_interval
from asymgrpo.config import ConfigError, Run
from asymgrpo.figures import ablation as figure
from asymgrpo.tables import ablation


def written(root, method, scale="tiny", seeds="1,2,3"):
    study = study_at(root, scale, seeds=seeds)
    for run in study.ablation(method):
        write_run(study, run)
        write_scores(study, run, 12)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return written(tmp_path_factory.mktemp("ablation"), "asymgrpo")


@pytest.fixture(scope="module")
def page(study):
    paths = ablation.make(study, "asymgrpo")
    endings = ("pdf", "svg", "png", "csv", "md", "table.csv")
    assert [path.name for path in paths] == [f"asymgrpo.{end}" for end in endings]
    return (study.ablation_stem("asymgrpo").parent / "asymgrpo.md").read_text()


def section(page, title):
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


def rows_of(text):
    """The cells of the table rows in a text, rule and header included."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def accuracy_of(study, method, seed, benchmark, decoding="t0.4", checkpoint="last"):
    """Accuracy by problem, in percent."""
    path = study.evaluation_dir(Run(study.primary, method, seed)) / f"{benchmark}.scores.parquet"
    rows = records.read(path, records.SCORES).to_pandas()
    rows = rows[(rows["decoding"] == decoding) & (rows["checkpoint"] == checkpoint)]
    return 100 * rows.groupby("problem_id")["correct"].mean()


def test_it_needs_only_its_own_runs_and_those_of_the_references(study):
    needed = study.ablation("asymgrpo")
    assert [run.method for run in needed] == ["asymgrpo"] * 3 + ["grpo"] * 3 + ["reinforce"] * 3
    assert {run.backbone for run in needed} == {study.primary}
    assert [run.method for run in study.ablation("grpo")] == ["grpo"] * 3 + ["reinforce"] * 3
    assert [run.method for run in study.ablation("reinforce")] == ["reinforce"] * 3 + ["grpo"] * 3


def test_the_curves_are_beside_the_page(study, page):
    (link,) = re.findall(r"!\[\w+\]\((.+?)\)", page)
    image = study.ablation_stem("asymgrpo").parent / link
    assert matplotlib.image.imread(image).std() > 0.01
    drawn = pd.read_csv(image.with_suffix(".csv"))
    assert set(drawn["method"]) == {"asymgrpo", "grpo", "reinforce"}
    assert set(drawn["quantity"]) == {quantity for quantity, _ in figure.PANELS}
    run = Run(study.primary, "grpo", 2)
    steps = records.read(study.runs_dir(run) / "steps.parquet", records.STEPS).to_pandas()
    part = drawn[(drawn["quantity"] == "entropy") & (drawn["method"] == "grpo")]
    assert part["raw_seed_2"].to_list() == pytest.approx(steps["entropy"].to_list())


def test_final_accuracies_and_their_paired_differences(study, page):
    numbers = pd.read_csv(study.ablation_stem("asymgrpo").parent / "asymgrpo.table.csv").fillna({"minus": ""})
    benchmark = list(study.benchmarks)[1]
    chosen = numbers[
        (numbers["decoding"] == "t0.4") & (numbers["checkpoint"] == "last") & (numbers["benchmark"] == benchmark)
    ].set_index(["method", "minus"])
    of = {m: np.array([accuracy_of(study, m, s, benchmark) for s in (1, 2, 3)]) for m in ("asymgrpo", "grpo")}
    assert chosen.loc[("grpo", ""), "mean"] == pytest.approx(of["grpo"].mean())
    apart = of["asymgrpo"] - of["grpo"]
    row = chosen.loc[("asymgrpo", "grpo")]
    assert row["mean"] == pytest.approx(apart.mean())
    assert [row[f"seed_{seed}"] for seed in (1, 2, 3)] == pytest.approx(apart.mean(axis=1).tolist())
    low, high = percentile_interval(bootstrap_crossed(apart, stream=1))
    assert (row["low"], row["high"]) == pytest.approx((low, high))

    table = {cells[0]: cells[1:] for cells in rows_of(section(page, "Final accuracy"))}
    assert list(table)[2:] == ["AsymGRPO", "GRPO", "REINFORCE", "AsymGRPO − GRPO", "AsymGRPO − REINFORCE"]
    assert table["AsymGRPO − GRPO"][1] == f"{apart.mean():.1f} [{low:.1f}, {high:.1f}]"
    assert set(numbers["decoding"].dropna()) == {"t0.4", "t1", "greedy"}
    average = table["AsymGRPO"][5]
    assert f"Final accuracy, average: **{average}** percent; {table['AsymGRPO − GRPO'][5]} against GRPO" in page


def test_the_end_of_training(study, page):
    table = {cells[0]: cells[1:] for cells in rows_of(section(page, "At the end of training"))}
    values = []
    for seed in (1, 2, 3):
        ends = {}
        for method in ("asymgrpo", "reinforce"):
            path = study.runs_dir(Run(study.primary, method, seed)) / "steps.parquet"
            ends[method] = records.read(path, records.STEPS).to_pandas()["entropy"].iloc[-1]
        values.append(ends["asymgrpo"] - ends["reinforce"])
    assert table["AsymGRPO − REINFORCE"][1].startswith(f"{np.mean(values):.3f} [")
    assert "95% t interval over 3 seeds" in page


def test_settings_what_differs_first_then_all(study, page):
    first, second = section(page, "Settings").split("**All settings**")
    assert [cells[:4] for cells in rows_of(first)][2:] == [
        ["estimator.beta_pos", "0.9", "0.5", "v1"],
        ["estimator.beta_neg", "0.4", "0.5", "v1"],
    ]
    everything = {cells[0]: cells[1:] for cells in rows_of(second)[2:]}
    provenance = study.provenance(Run(study.primary, "asymgrpo", 1))
    assert set(everything) == set(provenance)
    assert all(everything[key][1] == entry["provenance"] for key, entry in provenance.items())
    assert everything["seed"][0] == "1, 2, 3"
    assert everything["loss.dual_clip"][:2] == ["3.0", "assumed"]


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("grpo-clip-higher", {"loss.clip_high": ["0.28", "0.2", "assumed"]}),
        ("grpo-entropy", {"loss.entropy_coefficient": ["0.03", "0.0", "assumed"]}),
        ("dr-grpo", {"estimator.name": ["mean_centred", "family", "stated"], "estimator.beta_pos": ["–", "0.5", ""]}),
        ("grid-0.5-0.4", {"estimator.beta_neg": ["0.4", "0.5", "ours"]}),
        ("grpo", {"estimator.beta_pos": ["0.5", "0.0", "stated"], "estimator.beta_neg": ["0.5", "0.0", "stated"]}),
        ("reinforce", {"estimator.beta_pos": ["0.0", "0.5", "stated"]}),
    ],
)
def test_any_method(tmp_path, method, changed):
    study = written(tmp_path, method, seeds="1")
    ablation.make(study, method)
    text = (study.ablation_stem(method).parent / f"{method}.md").read_text()
    found = {cells[0]: cells[1:4] for cells in rows_of(section(text, "Settings").split("**All settings**")[0])[2:]}
    assert {key: found.get(key) for key in changed} == changed
    assert text.startswith(f"# {study.every_method[method].label}\n")
    assert not re.search(r"\bnan\b", text)
    assert "problems (one seed)" in text


def test_a_method_that_the_scale_does_not_run_otherwise(tmp_path):
    study = written(tmp_path, "symmetric", scale="smoke", seeds="1,2")
    assert "symmetric" not in study.methods
    ablation.make(study, "symmetric")
    text = (study.ablation_stem("symmetric").parent / "symmetric.md").read_text()
    assert "The scale does not run this method otherwise; it was asked for by its name." in text
    assert "verl.trainer.device" in text


def test_the_same_bytes_twice(study, page):
    place = study.ablation_stem("asymgrpo").parent
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    ablation.make(study, "asymgrpo")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_what_is_missing_is_named(tmp_path):
    study = study_at(tmp_path)
    with pytest.raises(ConfigError, match="unknown method 'gpro'"):
        ablation.make(study, "gpro")
    with pytest.raises(ValueError, match=r"symmetric/seed-1/countdown-3\.scores\.parquet: no such file; make it with"):
        ablation.make(study, "symmetric")
    assert not study.ablation_stem("symmetric").parent.exists()
