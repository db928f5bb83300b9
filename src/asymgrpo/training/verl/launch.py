"""A run spec -> a run directory, trained by verl in a process of its own that may be killed and started again.

Everything that is not a declared output lies in the work directory: data in verl's columns, checkpoints, the journal,
the best policy so far. A start finds there where to go on; when the last step is evaluated, the run directory is
written.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asymgrpo import records
from asymgrpo.progress import alive
from asymgrpo.training.runtime import environment, stoppable, write_yaml
from asymgrpo.training.spec import RunSpec, fingerprint, what_counts
from asymgrpo.training.verl import data, journal, nodes, policies
from asymgrpo.training.verl.overrides import Files, command_line, overrides
from asymgrpo.training.verl.process import run_to_end
from asymgrpo.training.verl.task import Task, keep, kept_step

ON_CPU = {
    "VERL_USE_EXTERNAL_MODULES": "asymgrpo.training.verl.cpu",
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",  # under which verl registers the engine that is used on any device
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; the default is most of the memory
}
EVERYWHERE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HYDRA_FULL_ERROR": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
}
DATA = "data"
"""In a run's work directory: its problems in verl's columns."""
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
"""Taken out of the environment of verl, whose log prints much of it."""


def train(
    spec: RunSpec,
    start_policy: Path,
    problems: Path,
    benchmarks: Mapping[str, Path],
    output: Path,
    work: Path,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Train one run with verl and write its directory (:mod:`asymgrpo.records`).

    Killed at any moment, it goes on from verl's last checkpoint in `work`, at most `checkpoint_every` steps back; rows
    of steps that were not lost are neither lost nor doubled. Arguments as :func:`asymgrpo.training.local.train`.

    Raises:
        ValueError: bad input, or verl ended with an error; the message says where its log is.
    """
    work, output = work.absolute(), output.absolute()
    inputs = (*sorted(start_policy.glob("*.safetensors")), problems, *benchmarks.values())
    mark = fingerprint(what_counts(spec), *inputs)
    _same_run(work, mark)
    counts = data.write_problems(spec, problems, benchmarks, work / DATA)
    task = Task(spec.name, str(work), spec.evaluation.select_on, counts)
    task.write()
    lengths = data.prompt_lengths(spec, start_policy, problems, benchmarks)
    done = policies.resume_point(task.checkpoints)
    history = journal.read(task.journal).until(done)
    if len(history.steps) != done:
        raise ValueError(
            f"{task.journal}: has {len(history.steps)} of the {done} steps of the last checkpoint; remove {work} to "
            "train from the start"
        )
    _keep_missed(task, history, done)
    to_evaluate = done == 0 or done % spec.evaluation.every == 0 or done == spec.steps
    validate_first = to_evaluate and done not in history.evaluated
    files = prepare_files(task, start_policy)
    values = overrides(spec, files, lengths.longest, validate_first, len(history.attempts) + 1)
    with alive(work, asdict(what_counts(spec))):
        if done < spec.steps or validate_first:
            if done:
                print(f"{spec.name}: continuing after step {done}", flush=True)
            count = values.get("trainer.nnodes", 1)
            for_verl, for_ray = nodes.split(values, count)
            arguments = command_line({"hydra.run.dir": str(work / "hydra"), **for_verl})
            command = [sys.executable, "-m", "asymgrpo.training.verl.main", *arguments]
            run_to_end(
                nodes.on_all(command, count, spec.threads, for_ray, os.environ.get("SLURM_JOB_ID")),
                work,
                _environment(spec, work),
                watched=[task.journal, work / "progress.json"],
            )
        # asked to end now, it would leave neither what to go on from nor, with Snakemake, what was made
        with stoppable():
            _write_run(spec, task, output, values, lengths, settings or {}, mark)
            shutil.rmtree(work, ignore_errors=True)


def prepare_files(task: Task, start_policy: Path) -> Files:
    """Where the files of a run are; the list of agent loops is written, its problems are those in `work`/data."""
    work = Path(task.work)
    files = Files(
        policy=start_policy.absolute(),
        train=work / DATA / "train.parquet",
        validation=work / DATA / "validation.parquet",
        checkpoints=task.checkpoints,
        task=task.file,
        log=work / "log",
        agent=work / "agent.yaml",
    )
    write_yaml(files.agent, [{"name": "asymgrpo_plain", "_target_": "asymgrpo.training.verl.agent.PlainSingleTurn"}])
    return files


def _keep_missed(task: Task, history: journal.History, done: int) -> None:
    """Keep the checkpoint's policy as the best one if a kill came between its evaluation and its keeping."""
    best = journal.best_step(history, task.select_on)
    if best == done > 0 and kept_step(task.best) != done:
        keep(task.exported(done), task.best, done)


def _same_run(work: Path, mark: str) -> None:
    """Start anew if what lies in `work` was made with other settings or inputs."""
    place = work / "fingerprint"
    if work.exists() and (not place.exists() or place.read_text().strip() != mark):
        if any(work.iterdir()):
            print(f"{work}: made with other settings or inputs, starting anew", flush=True)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{mark}\n")


def on_cpu(spec: RunSpec) -> bool:
    """Whether the run's scale lets verl train on a CPU."""
    return spec.verl.get("trainer.device") == "cpu"


def _environment(spec: RunSpec, work: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in SECRETS}
    ours = EVERYWHERE | (ON_CPU if on_cpu(spec) else {})
    places = {"VERL_FILE_LOGGER_ROOT": str(work), "HF_DATASETS_CACHE": str(work / "datasets")}
    return kept | ours | places | {"OMP_NUM_THREADS": str(spec.threads)}


def _write_run(
    spec: RunSpec,
    task: Task,
    output: Path,
    values: Mapping[str, Any],
    lengths: data.PromptLengths,
    settings: Mapping[str, Any],
    mark: str,
) -> None:
    history = journal.read(task.journal)
    if len(history.steps) != spec.steps or spec.steps not in history.evaluated:
        raise ValueError(f"{task.journal}: has {len(history.steps)} steps, expected {spec.steps} and their evaluation")
    best = journal.best_step(history, task.select_on)
    if kept_step(task.best) != best:
        raise ValueError(
            f"{task.best}: is the policy of step {kept_step(task.best)}, expected that of step {best}; remove "
            f"{task.work} to train from the start"
        )
    half = values.get("actor_rollout_ref.rollout.dtype", "bfloat16") == "bfloat16"
    policies.export(task.exported(spec.steps), output / "policy" / "last", half)
    policies.export(task.best, output / "policy" / "best", half)
    records.write(output / "groups.parquet", history.groups, records.GROUPS)
    records.write(output / "timings.parquet", history.timings, records.TIMINGS)
    records.write(output / "evaluations.parquet", history.evaluations, records.EVALUATIONS)
    records.write(output / "steps.parquet", history.steps, records.STEPS)
    seconds = sum(row[f"wall_{phase}"] for row in history.timings for phase in ("sampling", "update", "measure"))
    gpus = 0 if on_cpu(spec) else values.get("trainer.n_gpus_per_node", 8) * values.get("trainer.nnodes", 1)
    write_yaml(
        output / "run.yaml",
        {
            "spec": asdict(spec),
            "fingerprint": mark,
            "settings": dict(settings),
            "verl_overrides": {key: value for key, value in values.items() if not key.endswith(".task")},
            "long_prompts": lengths.record(spec.rollout.max_prompt_tokens),
            "environment": environment(policies.device(gpus), spec.threads),
            "result": {
                "best_step": best,
                "best_accuracy": next(
                    row["accuracy"]
                    for row in history.evaluations
                    if (row["step"], row["benchmark"]) == (best, task.select_on)
                ),
                "wall_seconds": round(seconds, 3),
                "gpu_seconds": round(seconds * gpus, 3),
                "attempts": history.attempts,
            },
        },
    )
