"""This machine and what lies on it: versions, data and models, GPUs, disk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from asymgrpo import plan
from asymgrpo.config.settings import values
from asymgrpo.doctor import Check
from asymgrpo.hub.files import cut_off, lacking, unsafe

if TYPE_CHECKING:
    from asymgrpo.config import Study

ACTOR_BYTES = 12
"""Bytes a parameter that verl's actor keeps while vLLM works: weights and two moments of Adam, in float32."""
SPARE = 1.1
"""Free disk is compared with so many times the estimate."""
NAMED = 4
"""Packages or files named in a line."""


# -- versions ---------------------------------------------------------------------------------------------------------


def environment(study: Study) -> Iterator[Check]:
    """Python, and every version against the lock."""
    here = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    yield Check("Python", f"{here}, {sys.prefix}", "install Python 3.11 or later (envs/README.md)" if old else "")
    name = f"{study.environment}.txt"
    file = study.root / "envs" / name
    pins = _pins(file)
    wrong = {package: found for package, wanted in pins.items() if (found := _installed(package)) != wanted}
    said = [f"{package} {found or 'is missing'} ({pins[package]})" for package, found in wrong.items()]
    found = f"{len(pins) - len(wrong)} of {len(pins)} packages as in envs/{name}"
    if said:
        found += f"; {', '.join(said[:NAMED])}" + (f" and {len(said) - NAMED} more" if len(said) > NAMED else "")
    yield Check("environment", found, f"install envs/{name} in this environment, see envs/README.md" if wrong else "")
    if study.gpus and values(study.scale_settings).get("verl", {}).get("actor_rollout_ref.model.use_remove_padding"):
        yield _flash_attention()


def _pins(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}; expected the lock of this scale") from None
    found = (re.fullmatch(r"([\w.-]+)==([\w.!+]+)", line.strip()) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _installed(package: str) -> str | None:
    """Without what tells a build of the same version, `+cpu`."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return None


def _flash_attention() -> Check:
    """verl's packed sequences need it; a build for another torch is installed but cannot be imported."""
    code = "import torch, flash_attn; print(flash_attn.__version__)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return Check("flash-attn", result.stdout.strip())
    last = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
    return Check("flash-attn", last, "build it against this torch: envs/README.md, the paper scale")


# -- data and models --------------------------------------------------------------------------------------------------


def inputs(study: Study) -> Iterator[Check]:
    """What is fetched from the hub."""
    problems = study.fetched_problems()
    models = [name for name, backbone in study.backbones.items() if backbone.fetched]
    if not problems and not models:
        yield Check("data", "nothing is fetched: problems are generated, policies warm-started")
        return
    fetch = f"where there is internet: asymgrpo fetch --scale {study.scale} "
    wrong = {}
    for name, entry in problems.items():
        directory = study.raw_dir(name)
        missing = [file for file in entry.settings["content"]["files"] if not (directory / file).is_file()]
        if missing or not directory.with_name(f"{name}.yaml").is_file():
            wrong[name] = f"{directory}/ lacks {missing[0]}" if missing else f"{directory}.yaml is missing"
    found = [f"{len(problems) - len(wrong)} of {len(problems)} sets of problems are in place", *wrong.values()]
    said = "; ".join(found[:2]) + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
    yield Check("data", said, fetch + " ".join(wrong) if wrong else "")
    for name in models:
        yield _model(study.model_dir(name), fetch + name)


def _model(directory: Path, fetch: str) -> Check:
    name = "model"
    if not directory.is_dir() or (missing := lacking(directory)):
        lacks = f" lacks {', '.join(missing[:NAMED])}" if directory.is_dir() else " is not there"
        return Check(name, f"{directory}/{lacks}", fetch)
    if broken := cut_off(directory):
        return Check(name, f"{directory / broken[0]}: is cut off", f"remove it; {fetch}")
    if found := unsafe(directory):
        return Check(name, f"{directory}/: could run code: {', '.join(found)}", "remove it: safetensors and JSON only")
    if not directory.with_name(f"{directory.name}.yaml").is_file():
        return Check(name, f"{directory}/ is there, but not its record", fetch)
    size = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
    return Check(name, f"{directory}/, {plan.size(size)}")


# -- hardware ---------------------------------------------------------------------------------------------------------


def hardware(study: Study) -> Iterator[Check]:
    """Cores and GPUs of this machine, on which a run is going to be trained."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = study.settings["threads"]
    mend = f"set `threads` in config/scales/{study.scale}.yaml, or use a machine with more cores"
    yield Check("cores", f"{cores}; a run takes {wanted}", mend if cores < wanted else "")
    if study.settings["device"] == "cpu":
        yield Check("GPU", "none is needed")
        return
    found = gpus()
    if not found and not study.gpus:
        yield Check("GPU", "none; this scale trains on the CPU, too")
        return
    needed, least = study.gpus or 1, least_memory(study)
    kinds = dict.fromkeys(f"{name}, {size / 1e9:.0f} GB" for name, size in found)
    said = f"{len(found)} ({'; '.join(kinds)})" if found else "none"
    said += f"; a run takes {needed}" + (f" with at least {least / 1e9:.0f} GB" if least else "")
    few = sum(size >= least for _, size in found) < needed
    yield Check("GPU", said, "use a machine that has them, or a cluster: --profile slurm" if few else "")


def gpus() -> list[tuple[str, float]]:
    """Name and bytes of each GPU that nvidia-smi sees."""
    try:
        result = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in result.stdout.splitlines() if line.strip())
    return [(name.strip(), float(size) * 2**20) for name, _, size in rows if size.strip().isdecimal()]


def least_memory(study: Study) -> float:
    """Bytes that a GPU must have at least, by what is kept there; activations come on top. 0: not known.

    verl's actor keeps :data:`ACTOR_BYTES` a parameter, spread over the run's GPUs, beside vLLM, which takes the share
    `gpu_memory_utilization` of each for itself.
    """
    if not study.gpus:
        return 0.0
    least = 0.0
    for backbone in study.backbones.values():
        parameters = values(backbone.cost).get("parameters", 0.0)
        verl = values(study.scale_settings).get("verl", {}) | values(backbone.settings).get("verl", {})
        share = verl.get("actor_rollout_ref.rollout.gpu_memory_utilization", 0.5)
        least = max(least, ACTOR_BYTES * parameters / study.gpus / (1 - share))
    return least


def disk(study: Study, at_once: int) -> Iterator[Check]:
    """Free space where results are written against what is still to be written."""
    place = study.root / "results" / study.scale
    while not place.exists():
        place = place.parent
    free, (kept, working) = shutil.disk_usage(place).free, plan.bytes_left(study, at_once)
    found = f"{plan.size(free)} are free in {place}/; about {plan.size(kept)} are still to be written"
    mend = "make room, or let results/ be a link to a larger file system"
    if working:
        found += f", and up to {plan.size(working)} more while runs go on" + (", all at once" if at_once > 1 else "")
        mend += "; with fewer runs at once (--jobs) less is needed" if at_once > 1 else ""
    yield Check("disk", found, "" if free >= SPARE * (kept + working) else mend)
