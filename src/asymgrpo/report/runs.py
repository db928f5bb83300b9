"""What is known of every run that is there: results, cost, settings with provenance, and what it was made with."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo import records
from asymgrpo.analysis import runs as files
from asymgrpo.show import read_record
from asymgrpo.terminal import words

if TYPE_CHECKING:
    from asymgrpo.config import Run, Study

PHASES = ("sampling", "scoring", "update", "measure")
AT_END = ("reward", "entropy", "none_solved", "all_solved", "alpha", "gradient_norm", "response_length")
"""Columns of steps.parquet of which the last step's value is shown."""


@dataclass(frozen=True)
class Loaded:
    """The runs of a study that are there, and why the others are not."""

    runs: Sequence[Run]
    steps: pd.DataFrame
    evaluations: pd.DataFrame
    about: Sequence[Mapping[str, Any]]  # one per run, see :func:`_about`
    missing: Sequence[str]


def load(study: Study, wanted: Iterable[Run]) -> Loaded:
    """Read every run that is finished; a broken file of a finished run is an error.

    Raises:
        ValueError: naming the file.
    """
    runs, steps, evaluations, about, missing = [], [], [], [], []
    for run in wanted:
        record = read_record(study.runs_dir(run) / "run.yaml")
        if not record:
            missing.append(f"{run.backbone}/{run.method}/seed-{run.seed}")
            continue
        of_run = files.steps(study, [run])
        evaluated = files.evaluations(study, [run])
        runs.append(run)
        steps.append(of_run)
        evaluations.append(evaluated)
        about.append(_about(study, run, record, of_run, evaluated))
    return Loaded(runs, _all(steps), _all(evaluations), about, missing)


def _all(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _about(
    study: Study, run: Run, record: Mapping[str, Any], steps: pd.DataFrame, evaluations: pd.DataFrame
) -> dict[str, Any]:
    """One run as plain data: JSON without NaN."""
    place = study.runs_dir(run)
    last = steps.iloc[-1]
    environment = record.get("environment") or {}
    result = record.get("result") or {}
    accuracy = evaluations.groupby("step")["accuracy"].mean() * 100  # unweighted mean over benchmarks, App. G
    return {
        **run._asdict(),
        "path": place.relative_to(study.root).as_posix(),
        "steps": int(last["step"]),
        "end": {name: _number(last[name]) for name in AT_END},
        "accuracy": {str(step): _number(value) for step, value in accuracy.items()},
        "best_step": result.get("best_step"),
        "resumed": result.get("resumed_after_step"),
        "cost": _cost(place / "timings.parquet", study.gpus),
        "settings": [
            [key, words(one.get("value")), str(one.get("provenance")), " ".join(str(one.get("note") or "").split())]
            for key, one in (record.get("settings") or {}).items()
        ],
        "fingerprint": str(record.get("fingerprint") or ""),
        "made": [[name, str(value)] for name, value in _flat(environment).items() if value is not None],
        "commit": environment.get("git_commit"),
        "changes": bool(environment.get("git_changes")),
        "date": str(environment["date"]) if environment.get("date") else None,
        "processor": environment.get("processor"),
        "device": environment.get("device"),
        "cores": environment.get("cores"),
    }


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    versions = environment.get("versions") or {}
    shown = {name.replace("_", " "): value for name, value in environment.items() if name != "versions"}
    return shown | {f"version of {name}": number for name, number in versions.items()}


def _cost(path: Path, gpus: int) -> dict[str, float]:
    """Hours of a run by its timings: CPU, wall-clock, and of GPUs (wall-clock times their number)."""
    table = records.read(path, records.TIMINGS).to_pandas()
    seconds = {clock: float(sum(table[f"{clock}_{phase}"].sum() for phase in PHASES)) for clock in ("cpu", "wall")}
    return {
        "cpu_seconds": round(seconds["cpu"], 3),
        "wall_seconds": round(seconds["wall"], 3),
        "gpu_seconds": round(seconds["wall"] * gpus, 3),
    }


def _number(value: float) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.5g}")


def commit_date(root: Path, commit: str | None) -> str | None:
    """The date of a commit (YYYY-MM-DD), asked of git; None where git does not know it."""
    if not commit:
        return None
    command = ["git", "-C", str(root), "show", "--no-patch", "--format=%cs", commit]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
