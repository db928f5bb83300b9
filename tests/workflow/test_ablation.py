"""The page of one method by its path: what it trains, for real at the tiny scale, and what it makes again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from asymgrpo.config import load

from .jobs import planned

TINY = ("--config", "scale=tiny")
PAGE = "results/tiny/ablations/dr-grpo.md"
METHODS = {"dr-grpo", "grpo", "reinforce"}


def methods(jobs, rule="train"):
    return {job.wildcards["method"] for job in jobs if job.rule == rule}


def asymgrpo(directory: Path, *arguments: str) -> str:
    """Standard output of a command in a copy of the workflow."""
    command = [sys.executable, "-m", "asymgrpo", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("scale", "method", "trained"),
    [
        ("tiny", "dr-grpo", METHODS),
        ("tiny", "grpo", {"grpo", "reinforce"}),
        ("tiny", "grid-0.5-0.4", {"grid-0.5-0.4", "grpo", "reinforce"}),
        ("smoke", "symmetric", {"symmetric", "grpo", "reinforce"}),  # which that scale does not run otherwise
        ("paper", "reinforce-all-solved-zero", {"reinforce-all-solved-zero", "grpo", "reinforce"}),
    ],
)
def test_it_trains_and_evaluates_what_the_page_shows_and_nothing_else(workflow, call, scale, method, trained):
    config = ("--config", f"scale={scale}", "seeds=[1,2,3]")
    jobs = planned(call(workflow, "-n", f"results/{scale}/ablations/{method}.md", *config))
    study = load(workflow, {"scale": scale, "seeds": "1,2,3"})
    of_page = [job for job in jobs if job.rule in ("train", "sample", "score")]
    for rule in ("train", "sample", "score"):
        found = [(job.wildcards["method"], job.wildcards["seed"]) for job in of_page if job.rule == rule]
        assert sorted(found) == sorted((name, seed) for name in trained for seed in "123")
    assert {job.wildcards["backbone"] for job in of_page} == {study.primary}
    assert {job.rule for job in jobs} <= {
        "ablation", "train", "sample", "score", "warm_start", "training_problems", "benchmark", "fetch_problems",
        "fetch_model",
    }  # fmt: skip


def test_on_the_cluster_one_command_is_enough(workflow, call):
    """At paper scale, because the profile says so; a dry run needs no Slurm."""
    jobs = planned(call(workflow, "-n", "--profile", "slurm", "results/paper/ablations/asymgrpo.md"))
    assert methods(jobs) == {"asymgrpo", "grpo", "reinforce"}
    assert sum(job.rule == "ablation" for job in jobs) == 1


def test_it_is_no_part_of_all(workflow, call):
    assert not [job for job in planned(call(workflow, "-n", *TINY)) if job.rule == "ablation"]


def test_a_method_that_does_not_exist_is_named(workflow, call):
    result = call(workflow, "-n", "results/tiny/ablations/gpro.md", *TINY)
    assert result.returncode != 0
    assert "results/tiny/ablations/gpro.md" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.dag
def test_the_page_for_real(workflow, call):
    result = call(workflow, PAGE, *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (workflow / PAGE).read_text()
    (link,) = re.findall(r"!\[\w+\]\((.+?)\)", page)
    assert matplotlib.image.imread((workflow / PAGE).parent / link).std() > 0.01
    assert re.search(r"^\| Dr\.GRPO − GRPO +\| -?\d", page, re.MULTILINE)
    assert re.search(r"^\| estimator\.name +\| mean_centred +\| family +\| stated +\|", page, re.MULTILINE)
    assert not re.search(r"\bnan\b", page)

    # the other commands, on what has been made
    found = json.loads(asymgrpo(workflow, "status", "--scale", "tiny", "table2", "--json"))
    done = {run["name"] for run in found["runs"] if run["state"] == "done"}
    assert done == {f"qwen3-160k/{method}/seed-1" for method in METHODS}
    evaluated = {of["name"] for of in found["evaluations"] if of["state"] == "done"}
    assert evaluated == done
    assert [start["state"] for start in found["starts"]] == ["done", "missing"]
    place = "results/tiny/runs/qwen3-160k"
    assert "estimator.name" in asymgrpo(workflow, "compare", f"{place}/dr-grpo", f"{place}/grpo")
    assert asymgrpo(workflow, "show", "run", f"{place}/dr-grpo/seed-1").startswith("Dr.GRPO, Qwen3-160k (cut), seed 1")

    # what is there is used again, and a change of a setting makes only that method's runs again
    assert "Nothing to be done" in "".join(call(workflow, PAGE, *TINY).__dict__[key] for key in ("stdout", "stderr"))
    assert methods(planned(call(workflow, "-n", "fig4", *TINY))).isdisjoint(METHODS)
    (workflow / PAGE).unlink()
    assert {job.rule for job in planned(call(workflow, "-n", PAGE, *TINY))} == {"ablation"}
    settings = workflow / "config/methods.yaml"
    text = settings.read_text()
    note = 'note: "A = r - p, no std (Liu et al. 2025)"'
    assert note in text
    settings.write_text(text.replace(note, "note: another one"))
    assert {job.rule for job in planned(call(workflow, "-n", PAGE, *TINY))} == {"ablation"}
    settings.write_text(text.replace("name: {value: mean_centred", "beta_pos: {value: 0.7, provenance: ours, note: x}\n"
                                     "      beta_neg: {value: 0.7, provenance: ours, note: x}\n"
                                     "      name: {value: family"))  # fmt: skip
    jobs = planned(call(workflow, "-n", PAGE, *TINY))
    assert methods(jobs) == methods(jobs, "score") == {"dr-grpo"}
    stale = json.loads(asymgrpo(workflow, "status", "--scale", "tiny", "table2", "--json"))
    assert [run["name"] for run in stale["runs"] if run["state"] == "stale"] == ["qwen3-160k/dr-grpo/seed-1"]

    # what is made from something that is stale is stale: as many as Snakemake would make again
    settings.write_text(text)
    scale = workflow / "config/scales/tiny.yaml"
    text = scale.read_text()
    for old, new, note in (
        ("steps: {value: 600,", "steps: {value: 601,", "its start policy is stale"),
        ("problems: {value: 200,", "problems: {value: 210,", "train: problems was 200, is 210"),
    ):
        assert text.count(old) == 1
        scale.write_text(text.replace(old, new))
        jobs = planned(call(workflow, "-n", PAGE, *TINY))
        found = json.loads(asymgrpo(workflow, "status", "--scale", "tiny", "table2", "--json"))
        stale = [run for run in found["runs"] if run["state"] == "stale"]
        assert {run["name"].split("/")[1] for run in stale} == methods(jobs) == METHODS
        assert {run["note"] for run in stale} == {note}
        assert {of["name"] for of in found["evaluations"] if of["state"] == "stale"} == {run["name"] for run in stale}
