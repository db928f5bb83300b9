"""What the DAG would do, and how it refuses bad configurations: dry runs, no training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asymgrpo import plan
from asymgrpo.config import ARTEFACTS, BASE, load

from .jobs import planned

TINY = ("--config", "scale=tiny")


def test_all_states_what_would_run(workflow, call):
    result = call(workflow, "-n", *TINY)
    assert result.returncode == 0, result.stderr
    jobs = planned(result)
    assert {"warm_start", "train", "sample", "score", "draw_fig2", "build_table2"} <= {job.rule for job in jobs}
    assert sum(job.rule == "warm_start" for job in jobs) == 2  # two backbones
    methods = {job.wildcards["method"] for job in jobs if job.rule == "train"}
    assert {"reinforce", "grpo", "asymgrpo", "ent-increase", "dr-grpo", "reinforce-none-solved-zero"} <= methods


def test_default_scale_is_local(workflow, call):
    jobs = planned(call(workflow, "-n"))
    trained = [job for job in jobs if job.rule == "train"]
    assert len(trained) > 60
    assert len({(job.wildcards["backbone"], job.wildcards["method"]) for job in trained}) * 2 == len(trained)


@pytest.mark.parametrize("targets", [("fig1", "prop2"), ("figures/tiny/prop1_tabular.pdf",)])
def test_theory_needs_no_training(workflow, call, targets):
    jobs = planned(call(workflow, "-n", *targets, *TINY))
    assert jobs
    assert not {job.rule for job in jobs} & {"train", "warm_start", "training_problems"}


@pytest.mark.parametrize("target", [*ARTEFACTS, "all"])
def test_every_named_target_plans(workflow, call, target):
    assert planned(call(workflow, "-n", target, *TINY))


def test_one_run_by_its_path_trains_that_run_only(workflow, call):
    target = "results/tiny/runs/qwen3-80k/asymgrpo/seed-7/steps.parquet"
    jobs = planned(call(workflow, "-n", target, *TINY))
    assert [job.wildcards for job in jobs if job.rule == "train"] == [
        {"backbone": "qwen3-80k", "method": "asymgrpo", "seed": "7"}
    ]


def test_one_figure_trains_only_its_methods(workflow, call):
    jobs = planned(call(workflow, "-n", "fig3", *TINY))
    assert {job.wildcards["method"] for job in jobs if job.rule == "train"} == {"grpo", "ent-decrease", "ent-increase"}
    assert not [job for job in jobs if job.rule == "sample"]  # its curves come from training


def test_more_seeds_are_one_value(workflow, call):
    jobs = planned(call(workflow, "-n", "fig3", "--config", "scale=tiny", "seeds=[1,2,3]"))
    assert {job.wildcards["seed"] for job in jobs if job.rule == "train"} == {"1", "2", "3"}


@pytest.mark.parametrize("scale", ["paper", "smoke"])
def test_the_scales_of_verl_plan_without_gpu_network_and_fetched_files(workflow, call, scale):
    """The whole DAG from a fresh copy; as many jobs of each kind as the configuration and the plan say."""
    result = call(workflow, "-n", "--config", f"scale={scale}")
    jobs = planned(result)
    assert not (workflow / "results").exists()
    study = load(workflow, {"scale": scale})

    def runs(*rules):
        found = [job.wildcards for job in jobs if job.rule in rules]
        return sorted((w["backbone"], w.get("method", BASE), int(w["seed"])) for w in found)

    assert runs("train") == sorted(study.runs())
    needed = plan.evaluated(study, *study.artefacts)
    assert runs("sample", "sample_base") == runs("score") == sorted(needed)
    assert runs("sample_base") == sorted(run for run in needed if run.method == BASE)
    assert [(b, s) for b, _, s in runs("warm_start")] == study.warm_starts()
    fetched = sorted(job.wildcards["backbone"] for job in jobs if job.rule == "fetch_model")
    assert fetched == sorted(name for name, backbone in study.backbones.items() if backbone.fetched)
    counted = [sum(job.rule == rule for job in jobs) for rule in ("train", "sample", "score", "benchmark")]
    assert counted == {"paper": [50, 40, 43, 5], "smoke": [4, 4, 5, 3]}[scale]
    made = {job.rule for job in jobs if job.rule.startswith(("draw_", "build_"))}
    assert made >= {"draw_fig1", "draw_fig2", "draw_fig3", "draw_fig4", "draw_prop1", "draw_prop2"}
    assert made >= {"draw_pressure", "draw_endpoints", "draw_coverage"}
    assert made >= {"build_table1", "build_table2", "build_claims", "draw_claims", "draw_power"}


@pytest.mark.parametrize(("scale", "gpus"), [("paper", 4), ("smoke", 0), ("tiny", 0)])
def test_a_run_asks_for_its_gpus(workflow, call, scale, gpus):
    result = call(workflow, "-n", "table1", "--config", f"scale={scale}")
    (train, *_) = re.findall(r"^rule train:\n(?:    .*\n)+", result.stdout + result.stderr, re.MULTILINE)
    of_one_node = ", nodes=1" if gpus > 1 else ""
    assert re.search(rf"^    resources: .*\bgpu={gpus}{of_one_node}$", train, re.MULTILINE), train


def test_one_artefact_of_the_paper_fetches_what_it_needs(workflow, call):
    jobs = planned(call(workflow, "-n", "fig3", "--config", "scale=paper"))
    assert {job.wildcards["backbone"] for job in jobs if job.rule == "fetch_model"} == {"qwen3-4b", "qwen2.5-math-1.5b"}
    assert {job.wildcards["method"] for job in jobs if job.rule == "train"} == {"grpo", "ent-decrease", "ent-increase"}
    assert not [job for job in jobs if job.rule in ("warm_start", "sample")]


def test_a_start_policy_that_is_fetched_is_not_trained(workflow, call):
    result = call(workflow, "-n", "results/paper/warm-start/qwen3-4b/seed-1/policy", "--config", "scale=paper")
    assert result.returncode != 0
    assert "MissingRuleException" in result.stdout + result.stderr


def replace(path: Path, pattern: str, new: str) -> None:
    text = path.read_text()
    changed, count = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} not in {path}"
    path.write_text(changed)


BAD = {
    "unknown key": ("config/config.yaml", r"\Z", "learnig_rate: 1\n", ["config/config.yaml", "learnig_rate"]),
    "wrong type": ("config/scales/tiny.yaml", r"steps: \{value: 4,", "steps: {value: four,", ["tiny.yaml", "steps"]),
    "unknown method": ("config/artefacts.yaml", r"ent-decrease", "ent-decraese", ["artefacts.yaml", "ent-decraese"]),
    "negative beta": (
        "config/methods.yaml",
        r"beta_pos: \{value: 0\.9",
        "beta_pos: {value: -0.9",
        ["methods.yaml", "beta_pos"],
    ),
    "broken yaml": ("config/methods.yaml", r"\Z", "\n  {broken", ["methods.yaml", "line"]),
    "unknown scale": ("config/config.yaml", r"^scale: local", "scale: lokal", ["scale", "lokal", "local"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configuration_is_one_message_before_anything_runs(workflow, call, case):
    file, pattern, new, expected = BAD[case]
    replace(workflow / file, pattern, new)
    arguments = () if case in ("unknown key", "unknown scale") else TINY
    result = call(workflow, *arguments)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    for fragment in expected:
        assert fragment in output
    assert "Traceback" not in output
    assert not (workflow / "results").exists()


def test_missing_file_is_named(workflow, call):
    (workflow / "config/benchmarks.yaml").unlink()
    result = call(workflow, *TINY)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert "config/benchmarks.yaml" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "target", ["fig9", "results/tiny/runs/qwen3-160k/gpro/seed-1/steps.parquet", "figures/paper/fig1.pdf"]
)
def test_no_such_target_is_named(workflow, call, target):
    result = call(workflow, target, *TINY)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert target in output
    assert "Traceback" not in output
    assert not (workflow / "results").exists()


def test_a_target_of_another_scale_says_how_to_have_it(workflow, call):
    """Above all on a cluster, where the profile names the scale."""
    result = call(workflow, "-n", "--profile", "slurm", "results/local/ablations/dr-grpo.md")
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert "dr-grpo.md is of scale local, this call makes paper: add --config scale=local" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(("value", "expected"), [("seeds=[0]", "seeds"), ("seeds=abc", "seeds"), ("steps=5", "steps")])
def test_bad_overrides_are_named(workflow, call, value, expected):
    result = call(workflow, "--config", "scale=tiny", value)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert expected in output
    assert "Traceback" not in output
