"""What jobs ask for, what is said of a refusal, and the last words of a call of Snakemake. And how sacct is read."""

import asyncio
import os
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin

from asymgrpo import slurm
from asymgrpo.slurm import Request, Resources

SITE = {"slurm_partition": "cpu", "gpu_partition": "gpu", "gpu_type": "h100"}


def test_several_gpus_are_asked_for_on_one_node():
    """Slurm would be free to take them from several, where a job's step could not have them all."""
    several, one = (slurm.asked_for(gpus, 1, SITE.get) for gpus in (4, 1))
    assert several == {"gpu": 4, "gpu_model": "h100", "slurm_partition": "gpu", "nodes": 1}
    assert one == {"gpu": 1, "gpu_model": "h100", "slurm_partition": "gpu"}
    call = slurm.submission(Request("train", 32, Resources(several)), plugin.ExecutorSettings())
    assert "--nodes=1 " in call
    assert call.endswith(" --gpus=h100:4")


def test_several_nodes_are_asked_for_gpus_on_each():
    assert slurm.asked_for(8, 2, SITE.get) == {"nodes": 2, "gres": "gpu:h100:4", "slurm_partition": "gpu"}
    assert slurm.asked_for(2, 2, {}.get) == {"nodes": 2, "gres": "gpu:1"}
    assert slurm.asked_for(0, 1, SITE.get) == {"gpu": 0, "slurm_partition": "cpu"}


def program(directory, name: str, *lines: str) -> None:
    """A command that is these lines of sh, in a directory that is on the path."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (directory / name).chmod(0o755)


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """refused(profile, request, sbatch="...") -> what is said of the request; by default sbatch takes everything."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def ask(profile, request, sbatch="echo 1", arguments=(), **settings):
        (tmp_path / "config.v9+.yaml").write_text(profile)
        for name, does in (("sbatch", sbatch), ("sinfo", ":"), ("scancel", ":")):
            program(tmp_path / "bin", name, does)
        settings = plugin.ExecutorSettings(**settings)
        return slurm.refusals([request], settings, "paper", ["--profile", str(tmp_path), *arguments])

    return ask


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_type_of_gpu_that_the_executor_plugin_does_not_take_is_named(refused, nodes):
    """Before Slurm is asked, which has such names: they come with a dash."""
    profile = "default-resources:\n  slurm_partition: cpu\n  gpu_type: {}\n"

    def say(kind):
        asked = slurm.asked_for(8, nodes, (SITE | {"gpu_type": kind}).get)
        return refused(profile.format(kind), Request("train", 32, Resources(asked)))

    assert say("a100_sxm4_80gb") == []
    (said,) = say("a100-sxm4-80gb")
    assert said.startswith("Slurm would not run the jobs of train: Invalid G")
    assert slurm.NO_DASH in said
    assert said.endswith("config.v9+.yaml, line 3: gpu_type: a100-sxm4-80gb")


def test_a_type_that_a_rule_asks_for_itself_is_looked_for_there(refused):
    profile = "default-resources: {gpu_type: h100}\nset-resources:\n  train:\n    gres: gpu:a-b:2\n"
    (said,) = refused(profile, Request("train", 1, Resources(gres="gpu:a-b:2")))
    assert said.endswith("line 4: gres: gpu:a-b:2")


@pytest.mark.parametrize("name", slurm.OF_ALL)
def test_an_option_for_all_jobs_is_named_if_slurm_refuses_it(refused, name):
    sbatch = f'case "$*" in *--{name}=typo*) echo "sbatch: error: Invalid {name} specification" >&2; exit 1;; esac'
    request = Request("score", 1, Resources(slurm_partition="cpu"))
    assert refused("jobs: 1\n", request, sbatch) == []
    (said,) = refused(f"jobs: 1\nslurm-{name}: typo\n", request, sbatch, **{name: "typo"})
    assert said.endswith(f"config.v9+.yaml, line 2: slurm-{name}: typo")
    (said,) = refused("jobs: 1\n", request, sbatch, [f"--slurm-{name}", "typo"], **{name: "typo"})
    assert said.endswith(f"change --slurm-{name} typo")


def failed(seed: int) -> SimpleNamespace:
    """As much of a job of Snakemake as the message is about."""
    log = f"results/x/logs/train/b/grpo/seed-{seed}.log"
    return SimpleNamespace(
        rule=SimpleNamespace(name="train"), wildcards=["b", "grpo", str(seed)], log=[log], is_local=False
    )


def write(path, text: str, time: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))


def test_a_jobs_last_log_of_slurm_is_named(tmp_path):
    of_rule = tmp_path / "rule_train"
    write(of_rule / "b_grpo_1/10.log", "", 1)
    write(of_rule / "b_grpo_1/12.log", "", 3)
    write(of_rule / "11_1.log", failed(1).log[0], 5)
    said = slurm.report([failed(1)], 2, SimpleNamespace(logdir=tmp_path))
    assert f"train b grpo 1: {failed(1).log[0]}\n        what Slurm has to say: {of_rule}/b_grpo_1/12.log\n" in said
    assert "2 more were not started" in said


def test_the_task_of_an_array_is_found_by_what_its_log_says(tmp_path):
    for task in (1, 2):
        write(tmp_path / f"rule_train/20_{task}.log", f"rule train:\n    log: {failed(task).log[0]}\n", task)
    said = slurm.report([failed(1), failed(2), failed(3)], 0, SimpleNamespace(logdir=tmp_path))
    assert [line.rpartition("/")[2] for line in said.splitlines() if "Slurm" in line] == ["20_1.log", "20_2.log"]


def test_nothing_failed(tmp_path):
    assert slurm.report([], 0).startswith("Stopped before everything was made.")


def test_a_task_is_not_judged_by_what_sacct_lists_under_its_arrays_number(monkeypatch):
    for name in ("query_job_status", "_status_lookup_ids"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))  # as they were, afterwards
    slurm.mend_plugin()
    listed = r"printf '%s\n' '6|COMPLETED' '6_2|CANCELLED by 0'"
    states, _ = asyncio.run(plugin.query_job_status(listed, None))
    assert states == {"6": "COMPLETED", "6_2": "CANCELLED"}
    told = {task: [states[job] for job in plugin._status_lookup_ids(task) if job in states] for task in ("6_1", "6_2")}
    assert told == {"6_1": [], "6_2": ["CANCELLED"]}
