"""`snakemake --profile slurm` on a real Slurm: the whole DAG, and everything that goes wrong on a cluster.

Whatever happens, steps.parquet ends as the same bytes as without Slurm, and no step that was computed before a polite
end (SIGTERM) is computed again; after kill -9 only those since the last checkpoint are.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from .lab import BACKBONE, CHECKPOINT_EVERY, METHODS, STEPS, as_one_array, make, wait_until

TRAIN = "rule_train_wildcards_qwen3-160k_{}_1"
"""What Slurm shows of the job that trains a method (its comment)."""

# -- a job for each training ------------------------------------------------------------------------------------------


def test_the_whole_dag(cluster, alone, tmp_path):
    """From a fresh clone to figures and tables, the same as without Slurm; what is small does not become a job."""
    clone = make(tmp_path / "clone")
    with clone.call() as call:
        (training,) = clone.stopped("grpo")
        assert training.environment()["HF_HUB_OFFLINE"] == "1"
        shown = cluster.show(cluster.job(clone, TRAIN.format("grpo")))
        training.send(signal.SIGCONT)
        said = call.succeeds()
    assert shown["Partition"] == "cpu"  # this scale asks for no GPU
    assert "gpu" not in shown["TRES"]
    assert shown["TimeLimit"] == "1-00:00:00"
    assert shown["MinMemoryCPU"] == "8000M"
    assert shown["Requeue"] == "1"
    clone.equals(alone)
    for name in ("fig2.csv", "fig2.png", "fig2.md"):
        assert (clone.figures / name).read_bytes() == (alone.figures / name).read_bytes(), name
    table = "tables/table2.csv"
    assert (clone.results / table).read_bytes() == (alone.results / table).read_bytes()
    submitted = re.findall(r"has been submitted with SLURM jobid \d+ \(log: \S+/rule_(\w+)/", said)
    assert {rule: submitted.count(rule) for rule in submitted} == {
        "warm_start": 1, "train": 3, "sample": 3, "sample_base": 1,
    }  # fmt: skip
    assert "Nothing to be done" in clone.call().succeeds()


# -- faults, all in one call ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disturbed(cluster, prepared, tmp_path_factory):
    """One call of snakemake: of its three trainings one meets its time limit, one kill -9, and one scancel.

    Returns the clone, what snakemake said, and for each method the step at which its training was disturbed.
    """
    clone = prepared.copy(tmp_path_factory.mktemp("disturbed") / "clone")
    with clone.call("fig2", clone.record("grpo")) as call:
        too_long, killed, cancelled = clone.stopped("reinforce", "pos-only-0.5", "grpo", after=15)
        late = cluster.job(clone, TRAIN.format("reinforce"))
        cluster.update(f"JobId={late}", "TimeLimit=1")  # minute, Slurm's shortest
        steps = {"pos-only-0.5": killed.step()}
        killed.send(signal.SIGKILL)
        job = cluster.job(clone, TRAIN.format("grpo"))
        cluster.tell("scancel", job)
        cluster.leaves(job)
        steps["grpo"] = cancelled.saved_after()
        assert cluster.leaves(late) in ("TIMEOUT", "COMPLETING")
        steps["reinforce"] = too_long.saved_after()
        said = call.succeeds()
    return clone, said, steps


@pytest.mark.parametrize("method", METHODS)
def test_a_disturbed_run_ends_as_if_nothing_had_happened(disturbed, alone, method):
    disturbed[0].equals(alone, method)


@pytest.mark.parametrize("method", ["reinforce", "grpo"])
def test_time_limit_and_scancel_lose_no_step(disturbed, method):
    """The next submission goes on after the very step that the one before has saved, between two checkpoints."""
    clone, _, stopped = disturbed
    assert 0 < stopped[method] < STEPS
    assert clone.resumed_after(method) == stopped[method]


def test_kill_9_loses_at_most_what_came_after_the_last_checkpoint(disturbed):
    clone, _, stopped = disturbed
    resumed = clone.resumed_after("pos-only-0.5")
    assert resumed % CHECKPOINT_EVERY == 0
    assert stopped["pos-only-0.5"] - CHECKPOINT_EVERY < resumed


def test_each_disturbed_job_was_submitted_once_more(disturbed):
    submitted = re.findall(r"has been submitted with SLURM jobid \d+ \(log: \S+/rule_(\w+)/(\S+)/", disturbed[1])
    counts = {job: submitted.count(job) for job in submitted}
    assert counts == {("train", f"qwen3-160k_{method}_1"): 2 for method in METHODS}


def test_its_figures_are_the_same(disturbed, alone):
    for name in ("fig2.csv", "fig2.png", "fig2.md"):
        assert (disturbed[0].figures / name).read_bytes() == (alone.figures / name).read_bytes()


# -- what happens to nodes and to snakemake ---------------------------------------------------------------------------


def test_preemption_and_ctrl_c_in_turn(cluster, alone, disturbed, tmp_path):
    """Two runs with GPUs are preempted, then comes Ctrl-C; in the end the figure is the same."""
    methods, gpus = ("reinforce", "pos-only-0.5"), ["--set-resources", "train:gpu=2", "train:slurm_partition=gpu"]
    clone = disturbed[0].copy(tmp_path / "clone", without=[f"runs/{BACKBONE}/{method}" for method in methods])
    with clone.call("fig2", *gpus) as call:
        trainings = clone.stopped(*methods, after=10)
        jobs = [cluster.job(clone, TRAIN.format(method)) for method in methods]
        assert sorted(t.environment()["CUDA_VISIBLE_DEVICES"] for t in trainings) == ["0,1", "2,3"]
        cluster.tell("sbatch", "--partition=urgent", "--gpus=4", "--output=/dev/null", "--wrap=sleep 1")
        for job in jobs:
            cluster.leaves(job)
        preempted = [training.saved_after() for training in trainings]
        for job in jobs:
            cluster.start_now(job)

        trainings = clone.stopped(*methods, after=max(preempted) + 10)
        assert [cluster.job(clone, TRAIN.format(method)) for method in methods] == jobs  # the same jobs, requeued
        for method, step in zip(methods, preempted, strict=True):
            assert f"continuing after step {step}\n" in clone.log(method).read_text()
        call.interrupt()
        for job in jobs:
            cluster.leaves(job)
        interrupted = [training.saved_after() for training in trainings]
        said = call.fails()
    assert "Stopped before everything was made" in said
    wait_until(lambda: not cluster.jobs(clone), what="Slurm's queue to be empty")

    said = clone.call("fig2", *gpus).succeeds()
    assert [clone.resumed_after(method) for method in methods] == interrupted
    assert "Trying to restart" not in said
    clone.equals(alone)
    for file in ("fig2.csv", "fig2.png", "fig2.md"):
        assert (clone.figures / file).read_bytes() == (alone.figures / file).read_bytes()


def test_a_drained_node_is_waited_for_and_a_failing_run_stops_no_other(cluster, alone, clone):
    """The last message names what failed and its logs; what is independent of it is there."""
    work = clone.results / "work/qwen3-160k/grpo/seed-1"
    work.parent.mkdir(parents=True, exist_ok=True)
    work.write_text("a file where the training wants a directory")
    with clone.call("--retries", "0", clone.record("grpo"), clone.record("reinforce")) as call:
        with cluster.node("DRAIN"):
            jobs = wait_until(lambda: len(found := cluster.jobs(clone, "rule_train")) == 2 and found)
            assert set(jobs.values()) == {"PENDING"}
        said = call.fails()
    clone.equals(alone, "reinforce")
    assert not (clone.run("grpo") / "run.yaml").exists()
    message = said[said.index("1 failed, with these logs:") :]
    assert "train qwen3-160k grpo 1: results/cluster/logs/train/qwen3-160k/grpo/seed-1.log" in message
    assert "reinforce" not in message
    assert clone.log("grpo").read_text().strip()
    (of_slurm,) = re.findall(r"what Slurm has to say: (results/slurm-logs/\S+)", message)
    assert "Error in rule train" in (clone.root / of_slurm).read_text()
    work.unlink()
    clone.call(clone.record("grpo")).succeeds()
    clone.equals(alone, "grpo")


def test_ctrl_c_while_slurm_is_asked_after_it_did_not_answer(cluster, clone, tmp_path):
    """Neither makes Snakemake forget its jobs: they are asked for again, and cancelled."""
    commands, asked = tmp_path / "commands", tmp_path / "asked"
    commands.mkdir()
    squeue = commands / "squeue"
    squeue.write_text(
        f"#!/bin/sh\nif mkdir {tmp_path}/first 2> /dev/null; then exit 1; fi\n"  # Slurm does not answer
        f'touch {asked}; sleep 60; exec {shutil.which("squeue")} "$@"\n'
    )
    squeue.chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    with clone.call("--slurm-status-attempts", "1", clone.record("grpo"), PATH=path) as call:
        (training,) = clone.stopped("grpo")
        job = cluster.job(clone, TRAIN.format("grpo"))
        wait_until(asked.exists, what="the second look at the jobs")
        call.interrupt()
        cluster.leaves(job)
        training.saved_after()
        assert "Stopped before everything was made" in call.fails()


def test_seeds_and_methods_as_one_array(cluster, alone, clone):
    as_one_array(cluster, alone, clone)


# -- what Slurm is asked for ------------------------------------------------------------------------------------------


def refused(clone, *arguments):
    """The message of a call that ends before it submits anything."""
    call = clone.call(*arguments)
    said = call.fails()
    assert "has been submitted" not in said
    assert "Traceback" not in said
    return said[said.index("Nothing was submitted.") :]


def change(clone, old, new):
    """A line of the profile; its number."""
    file = clone.root / "profiles/slurm/config.v9+.yaml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return 1 + text[: text.index(old)].count("\n")


def test_an_unknown_partition_ends_at_once(cluster, clone):
    line = change(clone, "slurm_partition: cpu", "slurm_partition: cpus")
    message = refused(clone)
    assert "invalid partition specified: cpus" in message  # Slurm's own words
    assert f"change profiles/slurm/config.v9+.yaml, line {line}: slurm_partition: cpus" in message


def test_more_gpus_than_a_node_has_end_at_once(cluster, clone):
    line = change(clone, "  train:\n    runtime: 24h", "  train:\n    gpu: 5\n    runtime: 24h")
    message = refused(clone)
    assert "Slurm would not run the jobs of train: " in message
    assert "Requested node configuration is not available" in message
    assert f"change profiles/slurm/config.v9+.yaml, line {line + 1}: gpu: 5" in message
    assert "change --set-resources train:gpu=5" in refused(clone, "--set-resources", "train:gpu=5")


def test_more_time_or_memory_than_there_is_ends_at_once(cluster, clone):
    """Slurm takes a job of too long a run time, and never starts it."""
    line = change(clone, "runtime: 24h", "runtime: 25h")
    message = refused(clone)
    assert "1500 minutes are asked for, and partition cpu gives 1-00:00:00: PartitionTimeLimit" in message
    assert f"line {line + 1}: runtime: 25h" in message or f"line {line}: runtime: 25h" in message
    message = refused(clone, "--default-resources", "slurm_partition=cpu", "mem_mb_per_cpu=2000000")
    assert "change --default-resources mem_mb_per_cpu=2000000" in message


def test_the_file_of_a_site_goes_before_the_profile(cluster, clone):
    """Layered over it; its mistakes are shown at its lines."""
    site = clone.root / "mysite.yaml"
    site.write_text("# ours\ndefault-resources:\n  slurm_partition: batch\n  mem_mb_per_cpu: 4000\n  runtime: 30\n")
    assert "change mysite.yaml, line 3: slurm_partition: batch" in refused(clone, "--profile", "mysite.yaml")
    site.write_text(site.read_text().replace("batch", "urgent"))
    with clone.call("--profile", "mysite.yaml", clone.record("grpo")):
        shown = cluster.show(cluster.job(clone, "rule_train"))
    assert (shown["Partition"], shown["MinMemoryCPU"], shown["TimeLimit"]) == ("urgent", "4000M", "1-00:00:00")


def test_the_paper_scale_asks_for_its_gpus(cluster, clone):
    """The very jobs of `snakemake --profile slurm`, as Slurm shows them; what they need is there, empty."""
    benchmarks = ("math-500", "aime24", "aime25", "amc23", "olympiadbench")
    made = ["models/qwen3-4b.yaml", "models/qwen2.5-math-1.5b.yaml", "data/train.parquet"]
    made += [f"data/benchmarks/{name}.parquet" for name in benchmarks]
    made += [f"evaluation/qwen3-4b/base/seed-1/{name}.samples.parquet" for name in benchmarks]
    for name in [*made, "evaluation/qwen3-4b/base/seed-1/sampling.yaml"]:
        file = clone.root / "results/paper" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    place = "results/paper/evaluation/{}/seed-1/{}"
    targets = [
        place.format("qwen3-4b/grpo", "sampling.yaml"),
        place.format("qwen2.5-math-1.5b/base", "sampling.yaml"),
        place.format("qwen3-4b/base", "math-500.scores.parquet"),
    ]
    with (
        cluster.partition("gpu", "DOWN"),  # what is submitted waits
        cluster.partition("cpu", "DOWN"),
        clone.call(*targets, "--rerun-triggers", "mtime", config=["scale=paper"]) as call,
    ):
        train = cluster.show(cluster.job(clone, "rule_train_wildcards_qwen3-4b_grpo_1"))
        sample = cluster.show(cluster.job(clone, "rule_sample_base_wildcards_qwen2.5-math-1.5b_1"))
        score = cluster.show(cluster.job(clone, "rule_score_wildcards_qwen3-4b_base_1"))
        call.interrupt()
        call.fails()
    assert (train["Partition"], sample["Partition"], score["Partition"]) == ("gpu", "gpu", "cpu")
    assert "TresPerJob" not in score
    assert (train["TresPerJob"], sample["TresPerJob"]) == ("gres:gpu:h100:4", "gres:gpu:h100:1")
    assert train["NumNodes"] == "1-1"  # at least and at most; without the latter Slurm may take the GPUs from several
    jobs = (train, sample, score)
    assert [job["NumCPUs"] for job in jobs] == ["32", "8", "32"]
    assert [job["MinMemoryCPU"] for job in jobs] == ["8000M"] * 3
    assert [job["TimeLimit"] for job in jobs] == ["1-00:00:00", "04:00:00", "01:00:00"]
