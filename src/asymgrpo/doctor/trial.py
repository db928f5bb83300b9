"""One training step for real, with the very command that the DAG runs: here, or as a job of the cluster."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asymgrpo import slurm
from asymgrpo.config import Run
from asymgrpo.config.study import REFERENCES
from asymgrpo.doctor import Check
from asymgrpo.plan import duration
from asymgrpo.show import read_record

if TYPE_CHECKING:
    from asymgrpo.config import Study
    from asymgrpo.doctor.profile import Profile

MINUTES = 120
"""That a step may take on the cluster, with everything that starts around it."""


def checks(study: Study, profile: Profile | None) -> Iterator[Check]:
    """A step of every backbone; `profile`: that of a cluster."""
    for backbone in study.backbones:
        yield _step(study, backbone, profile)


def _step(study: Study, backbone: str, profile: Profile | None) -> Check:
    name = "one step"
    parent = study.root / "results" / study.scale / "work"  # not in /tmp, which other nodes do not see
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"doctor-{backbone}-", dir=parent)).absolute()
    log, script = directory / "log.txt", directory / "step.sh"
    try:
        script.write_text("\n".join(["set -e", *_commands(study, backbone, directory)]) + "\n")
    except _Missing as missing:
        shutil.rmtree(directory)
        return Check(name, f"{backbone}: {missing} is not there", f"asymgrpo fetch --scale {study.scale}")
    began = time.monotonic()
    failed = _run_here(script, log) if profile is None else _run_on_cluster(study, profile, script, log)
    taken = duration(time.monotonic() - began)
    if failed:
        return Check(name, f"{backbone}: {failed}", f"the reason is in {log}")
    device = (read_record(directory / "out" / "run.yaml").get("environment") or {}).get("device")
    shutil.rmtree(directory)
    return Check(name, f"{backbone}: trained and evaluated on {device} in {taken}, everything that starts included")


class _Missing(Exception):
    """What must be fetched first."""


def _commands(study: Study, backbone: str, directory: Path) -> Iterator[str]:
    """Problems are made here; the start policy is the study's, or if it is none yet, one that has seen one step."""
    run = Run(backbone, REFERENCES[0], study.seeds[0])
    spec = study.spec(run)
    chosen = spec["evaluation"]["select_on"]
    spec |= {"steps": 1, "checkpoint_every": 1}
    spec["evaluation"] |= {"every": 1, "benchmarks": [chosen]}
    start = study.start_policy(backbone, study.start_seed(backbone, run.seed)).absolute()
    if study.backbones[backbone].fetched and not (start / "config.json").is_file():
        raise _Missing(str(start))
    if not (start / "config.json").is_file():
        warm = study.warm_start(backbone, study.start_seed(backbone, run.seed)) | {"steps": 1}
        yield _asymgrpo("warm-start", spec=warm, out=directory / "start", work=directory / "work-start")
        start = directory / "start" / "policy"
    problems, benchmark = directory / "train.parquet", directory / f"{chosen}.parquet"
    dataset = study.train_dataset
    yield _problems(study, "train", study.train_problems, dataset.name if dataset else None, problems)
    entry = study.benchmarks[chosen]
    yield _problems(study, "benchmark", entry.settings, chosen if entry.fetched else None, benchmark)
    yield _asymgrpo(
        "train", spec=spec, start=start, problems=problems, benchmarks=benchmark, out=directory / "out",
        work=directory / "work", root=study.root.absolute(),
    )  # fmt: skip


def _problems(study: Study, kind: str, settings: Mapping[str, Any], fetched: str | None, out: Path) -> str:
    options: dict[str, Any] = {"kind": kind, "settings": settings, "out": out}
    if fetched:
        options["record"] = study.raw_dir(fetched).with_name(f"{fetched}.yaml").absolute()
        if not options["record"].is_file():
            raise _Missing(str(options["record"]))
    return _asymgrpo("problems", **options)


def _asymgrpo(command: str, **options: Any) -> str:
    words = [sys.executable, "-m", "asymgrpo", command]
    for name, value in options.items():
        words += [f"--{name}", json.dumps(value) if isinstance(value, Mapping) else str(value)]
    return shlex.join(words)


def _run_here(script: Path, log: Path) -> str:
    with log.open("w") as file:
        status = subprocess.run(["bash", script], stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    return "" if status == 0 else f"{_last_line(log)} (exit status {status})"


def _run_on_cluster(study: Study, profile: Profile, script: Path, log: Path) -> str:
    """Submit the step as a training is submitted, and wait for it; cancelled if this process is interrupted."""
    from snakemake_interface_common.exceptions import WorkflowError

    request = profile.request("train", study.gpus, study.settings["threads"], study.nodes)
    request.resources["runtime"] = min(request.resources.get("runtime", MINUTES), MINUTES)
    log.touch()
    try:
        call = f"{slurm.submission(request, profile.executor_settings(), str(log))} --wait {shlex.quote(str(script))}"
    except WorkflowError as error:
        log.write_text(f"{error}\n")
        return f"{error} (no job was submitted)"
    script.write_text(f"#!/bin/bash\n{script.read_text()}")
    process = subprocess.Popen(call, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    job = ""
    try:
        assert process.stdout is not None
        job = process.stdout.readline().strip()
        if job:
            print(f"{'':<8}{'one step':<16}job {job} of Slurm, waiting for it", file=sys.stderr, flush=True)
        _, words = process.communicate()
    except BaseException:
        if job:
            subprocess.run(["scancel", job.partition(";")[0]], check=False)
        process.kill()
        raise
    if process.returncode == 0:
        return ""
    said = _last_line(log)
    if not said:  # the job was not taken, or ended before it could say why
        log.write_text(words)
        said = " ".join(words.split())
    return f"{said} (job {job or 'was not taken'})"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
