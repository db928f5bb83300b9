"""The last words of a call of Snakemake: where the logs of what failed are. And how sacct is read."""

import asyncio
import os
from types import SimpleNamespace

import snakemake_executor_plugin_slurm as plugin

from asymgrpo import slurm


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
    slurm.understand_sacct()
    listed = r"printf '%s\n' '6|COMPLETED' '6_2|CANCELLED by 0'"
    states, _ = asyncio.run(plugin.query_job_status(listed, None))
    assert states == {"6": "COMPLETED", "6_2": "CANCELLED"}
    told = {task: [states[job] for job in plugin._status_lookup_ids(task) if job in states] for task in ("6_1", "6_2")}
    assert told == {"6_1": [], "6_2": ["CANCELLED"]}
