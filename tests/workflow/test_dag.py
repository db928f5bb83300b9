"""The whole DAG at the tiny scale, for real, and what a change makes it repeat."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import yaml

from asymgrpo import records
from asymgrpo.config import load
from asymgrpo.reference import save

from .conftest import copy_workflow, snakemake
from .jobs import planned

pytestmark = pytest.mark.dag

TINY = ("--config", "scale=tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A clone in which `snakemake` has made everything at the tiny scale."""
    clone = copy_workflow(tmp_path_factory.mktemp("whole") / "clone")
    result = snakemake(clone, *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    (clone / "console.txt").write_text(result.stdout + result.stderr)
    return clone


@pytest.fixture
def clone(finished, tmp_path) -> Path:
    """A copy of the finished clone to change; times are kept, since snakemake compares them."""
    return Path(shutil.copytree(finished, tmp_path / "clone", copy_function=shutil.copy2))


def digest(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


def replace(path: Path, pattern: str, new: str) -> None:
    changed, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} not in {path}"
    path.write_text(changed)


def test_every_artefact_is_there(finished):
    drawn = ("fig1", "fig2", "fig3", "fig4", "prop1", "prop1_tabular", "prop2", "pressure", "endpoints", "coverage")
    for name in (*drawn, "claims", "power"):
        for ending in ("pdf", "png", "csv", "md"):
            assert (finished / f"figures/tiny/{name}.{ending}").stat().st_size > 100, name
        assert matplotlib.image.imread(finished / f"figures/tiny/{name}.png").std() > 0.01  # not blank
    for name in ("table1", "table2", "evaluation", "reported", "selection", "audit", "claims"):
        for ending in ("csv", "md", "tex"):
            assert (finished / f"results/tiny/tables/{name}.{ending}").stat().st_size > 100, name


def test_every_run_has_its_files(finished):
    study = load(finished, {"scale": "tiny"})
    for run in study.runs():
        place = study.runs_dir(run)
        steps = records.read(place / "steps.parquet", records.STEPS)
        assert steps["step"].to_pylist() == list(range(1, study.spec(run)["steps"] + 1))
        record = yaml.safe_load((place / "run.yaml").read_text())
        assert record["spec"]["estimator"] == study.spec(run)["estimator"]
        assert {entry["provenance"] for entry in record["settings"].values()} <= {
            "stated", "derived", "v1", "assumed", "inferred", "ours",
        }  # fmt: skip
        assert (place / "policy/last/model.safetensors").exists()
        assert (place / "policy/best/config.json").exists()
        assert not study.work_dir(run).exists()


def test_console_shows_progress(finished):
    console = (finished / "console.txt").read_text()
    assert re.search(r"\d+ of \d+ steps \(\d+%\) done", console)
    assert re.search(r"\d+ of \d+ trainings done", console)


def test_reported_numbers_come_from_the_runs(finished):
    """One cell of Table 2, recomputed from the scores."""
    study = load(finished, {"scale": "tiny"})
    table = pd.read_csv(finished / "results/tiny/tables/table2.csv")
    text = (finished / "results/tiny/tables/table2.md").read_text()
    correct = total = 0
    for run in study.runs("table2"):
        if run.backbone == study.primary and run.method == "grpo":
            scores = records.read(study.evaluation_dir(run) / "countdown-3.scores.parquet", records.SCORES).to_pandas()
            chosen = scores[(scores.decoding == "t0.4") & (scores.checkpoint == "last")]
            correct, total = correct + int(chosen.correct.sum()), total + len(chosen)
    rows = table[(table.backbone == study.primary) & (table.method == "grpo") & (table.benchmark == "countdown-3")]
    assert total > 0
    assert len(rows) > 0
    assert "GRPO" in text
    assert any(abs(value - 100 * correct / total) < 1e-6 or abs(value - correct / total) < 1e-6
               for value in rows.select_dtypes("number").to_numpy().ravel())  # fmt: skip


def test_run_twice_does_nothing(clone):
    result = snakemake(clone, *TINY)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr


def test_figures_and_tables_are_the_same_bytes_again(clone):
    before = digest(clone / "figures/tiny") | digest(clone / "results/tiny/tables")
    shutil.rmtree(clone / "figures/tiny")
    shutil.rmtree(clone / "results/tiny/tables")
    result = snakemake(clone, *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert digest(clone / "figures/tiny") | digest(clone / "results/tiny/tables") == before


def test_a_run_again_gives_the_same_bytes(clone):
    place = clone / "results/tiny/runs/qwen3-160k/asymgrpo/seed-1"
    before = {name: (place / name).read_bytes() for name in ("steps.parquet", "groups.parquet", "evaluations.parquet")}
    shutil.rmtree(place)
    target = "results/tiny/runs/qwen3-160k/asymgrpo/seed-1/steps.parquet"
    result = snakemake(clone, target, *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {name: (place / name).read_bytes() for name in before} == before


def test_the_report_has_everything_and_is_the_same_when_made_again(clone):
    path = clone / "results/tiny/report.html"
    first = path.read_bytes()
    assert len(first) < 5e6
    text = first.decode()
    study = load(clone, {"scale": "tiny"})
    assert "Not there yet" not in text
    for run in study.runs():
        assert f'href="#run/{run.backbone}/{run.method}/seed-{run.seed}"' in text
    for name in ("fig1", "fig2", "fig3", "fig4", "prop1", "prop1_tabular", "prop2"):
        assert f'id="figure-{name}"' in text
    for name in ("table1", "table2", "evaluation", "claims"):
        assert f'id="table-{name}"' in text
    verdicts = json.loads((clone / "results/tiny/tables/claims.json").read_text())
    assert text.count('class="claim ') == len(verdicts["claims"])
    path.unlink()
    result = snakemake(clone, "report", *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert path.read_bytes() == first


def test_snakemakes_own_report_has_every_artefact_with_its_caption(finished, tmp_path):
    path = tmp_path / "report.html"
    result = snakemake(finished, "--report", str(path), *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    text = path.read_text()

    def held(name: str) -> dict:
        """What a variable of the page's scripts holds."""
        start = f"var {name} = "
        return json.JSONDecoder().raw_decode(text, text.index(start + "{") + len(start))[0]

    files = {
        category: [file for part in parts.values() for file in part] for category, parts in held("categories").items()
    }
    assert set(files) == {"Figures", "Tables", "Report"}
    assert "figures/tiny/fig2.svg" in files["Figures"]
    assert "results/tiny/tables/table2.csv" in files["Tables"]
    assert files["Report"] == ["results/tiny/report.html"]
    results = held("results")
    assert set(results) == {file for of_category in files.values() for file in of_category}
    assert all(result["caption"] for result in results.values())
    assert "<strong>fig2</strong>, scale" in results["figures/tiny/fig2.svg"]["caption"]


def test_changing_a_method_repeats_only_what_depends_on_it(clone):
    methods = yaml.safe_load((clone / "config/methods.yaml").read_text())
    assert methods["methods"]["symmetric"]["estimator"]["beta_pos"]["value"] == 0.75
    replace(clone / "config/methods.yaml", r"(^  symmetric:\n(?:.*\n)*?.*beta_pos: \{value: )0\.75", r"\g<1>0.8")
    jobs = planned(snakemake(clone, "-n", *TINY))
    retrained = {job.wildcards["method"] for job in jobs if job.rule == "train"}
    assert "symmetric" in retrained
    # a grid cell that was this method becomes one of its own
    assert all(method == "symmetric" or method.startswith("grid-") for method in retrained)
    drawn = {job.rule for job in jobs if job.rule.startswith(("draw_", "build_"))}
    assert "build_table2" in drawn
    assert not drawn & {"draw_fig1", "draw_fig2", "draw_fig3", "draw_prop2", "build_table1"}


def test_changing_a_word_of_provenance_trains_nothing(clone):
    replace(clone / "config/methods.yaml", r"provenance: v1", "provenance: stated")
    jobs = planned(snakemake(clone, "-n", *TINY))
    assert not [job for job in jobs if job.rule in ("train", "warm_start", "sample")]


def test_changing_a_style_trains_nothing(clone):
    style = clone / "src/asymgrpo/figures/style.py"
    style.write_text(style.read_text() + "\n# another colour\n")
    jobs = planned(snakemake(clone, "-n", *TINY))
    assert {job.rule for job in jobs if job.rule != "all"} >= {"draw_fig1", "draw_fig2", "draw_fig4"}
    assert all(job.rule.startswith("draw_") or job.rule in ("all", "report") for job in jobs)


def test_another_seed_trains_only_that_seed(clone):
    jobs = planned(snakemake(clone, "-n", "--config", "scale=tiny", "seeds=[1,2]"))
    assert {job.wildcards["seed"] for job in jobs if job.rule == "train"} <= {"2"}
    assert {"draw_fig2", "build_table2"} <= {job.rule for job in jobs}


def test_a_damaged_run_is_one_clear_message(clone):
    damaged = clone / "results/tiny/runs/qwen3-160k/grpo/seed-1/steps.parquet"
    damaged.write_bytes(b"not parquet")
    (clone / "figures/tiny/fig3.png").unlink()
    result = snakemake(clone, "fig3", *TINY)
    log = (clone / "results/tiny/logs/figures/fig3.log").read_text()
    assert result.returncode != 0
    assert str(Path("grpo/seed-1/steps.parquet")) in log
    assert "Traceback" not in log
    assert "fig3.log" in result.stdout + result.stderr


def test_a_failing_run_does_not_stop_the_others(clone):
    """What can be made is made, and the message names the log."""
    study = load(clone, {"scale": "tiny"})
    broken = study.warm_start_dir("qwen3-80k", 1) / "policy/config.json"
    config = json.loads(broken.read_text())
    broken.write_text(json.dumps(config | {"model_type": "llama"}))
    targets = [f"results/tiny/runs/{b}/grpo/seed-9/steps.parquet" for b in ("qwen3-80k", "qwen3-160k")]
    result = snakemake(clone, *targets, *TINY)
    assert result.returncode != 0
    assert (clone / targets[1]).exists()
    assert not (clone / targets[0]).exists()
    log = clone / "results/tiny/logs/train/qwen3-80k/grpo/seed-9.log"
    assert "model_type: expected 'qwen3', found 'llama'" in log.read_text()
    assert str(log.relative_to(clone)) in result.stdout + result.stderr


def test_what_it_came_to_can_be_kept_as_a_reference(clone):
    study = load(clone, {"scale": "tiny"})
    out = clone / "kept"
    save(study, out, "snakemake --config scale=tiny")
    manifest = yaml.safe_load((out / "manifest.yaml").read_text())
    runs = pd.read_csv(out / "runs.csv")
    assert manifest["runs"] == len(runs) == len(study.runs())
    assert manifest["cpu_hours"] > 0
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == expected, name
    assert {"figures/fig2.png", "figures/fig2.csv.gz", "tables/table2.md", "runs.csv"} <= set(manifest["files"])
    assert not any(name.endswith((".parquet", ".safetensors")) for name in manifest["files"])
    row = runs[runs["method"] == "grpo"].iloc[0]
    steps = records.read(
        clone / f"results/tiny/runs/{row['backbone']}/grpo/seed-{row['seed']}/steps.parquet", records.STEPS
    ).to_pandas()
    assert row["first_entropy"] == pytest.approx(steps["entropy"].iloc[0])
    assert row["reward"] == pytest.approx(steps["reward"].tail(max(1, round(0.1 * len(steps)))).mean())
    # a run that is not there changes nothing
    before = digest(out)
    shutil.rmtree(clone / f"results/tiny/runs/{row['backbone']}/grpo/seed-{row['seed']}")
    with pytest.raises(ValueError, match=r"grpo/seed-\d+/run.yaml: no such run"):
        save(study, out, "")
    assert digest(out) == before
