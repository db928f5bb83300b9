"""The cluster that a profile names: Slurm's commands, partitions, GPUs, and whether it would take the jobs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from asymgrpo import slurm
from asymgrpo.doctor import Check

if TYPE_CHECKING:
    from asymgrpo.config import Study
    from asymgrpo.doctor.profile import Profile
    from asymgrpo.slurm import Request

PLUGIN = "snakemake_executor_plugin_slurm"
REMEMBERED = 240
"""Seconds that Slurm must know ended jobs for squeue to tell how they ended: the executor plugin looks every 180, later
where Slurm answers slowly, and takes a job that was forgotten meanwhile for one that runs."""


def checks(study: Study, profile: Profile) -> Iterator[Check]:
    """Of a profile with another executor than slurm only that it is there."""
    yield Check("profile", f"{profile.file}: executor {profile.executor}, scale {study.scale}")
    if profile.executor != "slurm":
        return
    if importlib.util.find_spec(PLUGIN) is None:
        yield Check("executor", f"{PLUGIN} cannot be imported", "install it: envs/local.txt has its version")
        return
    status = str(profile.content.get("slurm-status-command", "sacct"))
    missing = [name for name in ("sbatch", "sinfo", "scancel", status) if shutil.which(name) is None]
    if missing:
        yield Check("Slurm", f"{', '.join(missing)} not found", "log in to a host from which jobs are submitted")
        return
    answer = _run("sinfo", "--noheader", "--format", "%R|%a|%G|%M")
    if answer.returncode != 0:
        yield Check("Slurm", _last_line(answer), "Slurm does not answer: ask those who run it (sinfo)")
        return
    partitions = _partitions(answer.stdout)
    yield Check("Slurm", f"answers; partitions {', '.join(partitions) or 'none'}")
    yield _status(status)
    asked = requests(study, profile)
    yield from _partition_checks(asked, partitions, profile)
    yield _gpu_check(asked, partitions, profile)
    settings = profile.executor_settings()
    arguments = [word for name in profile.names for word in ("--profile", name)]
    for request in asked:
        refused = slurm.refusals([request], settings, study.scale, arguments)
        words, mend = " ".join(" ".join(refused).split()), "change what is named there" if refused else ""
        yield Check(f"job {request.rule}", words or f"Slurm takes it: {_told(request)}", mend)


def requests(study: Study, profile: Profile) -> list[Request]:
    """What the jobs of each rule ask for that do not run on this host."""
    threads = study.settings["threads"]
    found = [profile.request("train", study.gpus, threads, study.nodes)]
    found += [profile.request(rule, study.sampling_gpus, study.sampling_threads) for rule in ("sample", "sample_base")]
    if any(benchmark.fetched for benchmark in study.benchmarks.values()):  # workflow/rules/evaluate.smk
        found.append(profile.request("score", 0, threads))
    if study.warm_starts():
        found.append(profile.request("warm_start", 0, study.settings["warm_start"].get("threads", threads)))
    return found


class Nodes(NamedTuple):
    """A group of a partition's nodes that are alike."""

    up: str
    gres: str
    """GPUs and the like."""
    preemption: str
    """What Slurm does to a job that it preempts there."""


def _partitions(text: str) -> dict[str, list[Nodes]]:
    """What sinfo says of each, by its name."""
    found: dict[str, list[Nodes]] = {}
    for line in text.splitlines():
        name, *nodes = (part.strip() for part in line.split("|", 3))
        found.setdefault(name, []).append(Nodes(*nodes))
    return found


def _partition_checks(asked: list[Request], partitions: dict[str, list[Nodes]], profile: Profile) -> Iterator[Check]:
    for name in dict.fromkeys(request.resources.get("slurm_partition") for request in asked):
        if not name:
            continue
        rules = ", ".join(request.rule for request in asked if request.resources.get("slurm_partition") == name)
        named = name.split(",")  # Slurm takes the one that can start the job first
        if unknown := [one for one in named if one not in partitions]:
            known = ", ".join(partitions) or "none"
            found = f"{','.join(unknown)} (of {rules}): there is none"
            yield Check("partition", found, f"{profile.file}: expected one of {known}")
        elif not any(nodes.up == "up" for one in named for nodes in partitions[one]):
            yield Check("partition", f"{name} (of {rules}) is down", "wait, or ask those who run Slurm (sinfo)")
        elif any("CANCEL" in nodes.preemption for one in named for nodes in partitions[one]):
            found = f"{name} (of {rules}) has PreemptMode=CANCEL: for a job preempted there Snakemake waits for ever"
            yield Check("partition", found, "another partition; or when it happens Ctrl-C, and the same command again")
        else:
            yield Check("partition", f"{name} (of {rules}) is up")


def _gpu_check(asked: list[Request], partitions: dict[str, list[Nodes]], profile: Profile) -> Check:
    """Some node of the partition has as many GPUs of that type as a job on one node asks for."""
    wanted = [request for request in asked if request.has_gpus]
    if not wanted:
        return Check("GPU", "no job asks for any")
    request = max(wanted, key=lambda request: _on_a_node(request)[1])
    kind, each = _on_a_node(request)
    partition = request.resources.get("slurm_partition")
    names = partition.split(",") if partition else partitions
    there = [of for name in names for of in partitions.get(name, [])]
    found = [gpu for nodes in there for gpu in _gpus(nodes.gres)]
    what = f"{each} {kind or 'GPUs'} on a node" + (f" of {partition}" if partition else "")
    if any(number >= each and kind in (None, name) for name, number in found):
        return Check("GPU", f"{what}: yes")
    known = ", ".join(dict.fromkeys(f"{number} {name or 'GPUs'}" for name, number in found)) or "none"
    return Check("GPU", f"{what}: no node has these; there are {known}", f"{profile.file}: gpu_type, gpu_partition")


def _on_a_node(request: Request) -> tuple[str | None, int]:
    """Type and number of the GPUs that a job asks for on each of its nodes."""
    r = request.resources
    if r.get("gres"):
        return next(((kind or None, number) for kind, number in _gpus(r["gres"])), (None, 0))
    return r.get("gpu_model"), -(-r["gpu"] // (r.get("nodes") or 1))


def _gpus(gres: str) -> list[tuple[str, int]]:
    """`gpu:h100:4(S:0-1),gpu:a100:2` -> type and number."""
    found = re.findall(r"(?:^|,)gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?", gres)
    return [(kind, int(number or 1)) for kind, number in found]


def _status(command: str) -> Check:
    """How Snakemake will learn of a job's end."""
    if command == "sacct":
        answer = _run("sacct", "--noheader", "--starttime", "now-1minutes")
        if answer.returncode != 0 or "disabled" in answer.stderr:
            mend = "without accounting: slurm-status-command: squeue in the profile"
            return Check("job states", _last_line(answer), mend)
        return Check("job states", "sacct answers")
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", _run("scontrol", "show", "config").stdout, re.MULTILINE)
    if age and int(age[1]) < REMEMBERED:
        mend = "slurm-status-command: sacct in the profile, which needs accounting"
        return Check("job states", f"Slurm forgets ended jobs after {age[1]} s (MinJobAge)", mend)
    return Check("job states", f"{command}; Slurm remembers ended jobs for {age[1]} s" if age else command)


def _told(request: Request) -> str:
    r = request.resources
    cores = f"{request.threads} core{'s' * (request.threads > 1)}"
    gpus = f"{r['gpu']} GPU{'s' * (r['gpu'] > 1)}" if r.get("gpu") else r.get("gres") or "no GPU"
    parts = [f"{r['nodes']} nodes with {gpus} each" if r.get("nodes", 1) > 1 else gpus, cores]
    if r.get("mem_mb_per_cpu") or r.get("mem_mb"):
        parts.append(f"{r['mem_mb_per_cpu']} MB a core" if r.get("mem_mb_per_cpu") else f"{r['mem_mb']} MB")
    return ", ".join([*parts, f"{r['runtime']} minutes"] if r.get("runtime") else parts)


def _run(*command: Any) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=slurm.SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]}: no answer in {slurm.SECONDS} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error.strerror}")


def _last_line(answer: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {answer.returncode}"
