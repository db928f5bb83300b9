"""Reference results: what a finished study came to, small enough to be committed, to compare other runs with.

``save(study, out)`` copies the study's figures and tables, without samples and policies, and writes beside them

``runs.csv``
    one row per run: what it came to (:data:`COLUMNS`), and digests of its settings and of its steps
``manifest.yaml``
    what made it: seeds, commits, versions, hardware, cost, and the sha256 of every file
"""

from __future__ import annotations

import gzip
import hashlib
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from asymgrpo import records
from asymgrpo.analysis import curves, paired
from asymgrpo.analysis import runs as run_files
from asymgrpo.config import Run, Study
from asymgrpo.figures import CURVE_DECODING, csv_bytes
from asymgrpo.progress import digest
from asymgrpo.show import read_record
from asymgrpo.training.spec import run_spec, what_counts

KEPT = {"figures": (".csv", ".md", ".png"), "tables": (".csv", ".json", ".md", ".tex")}
"""Endings of the files that are kept; a PDF or SVG shows what its PNG does. A figure's CSV is compressed (.csv.gz)."""

COLUMNS = {
    "backbone": "name",
    "method": "name",
    "seed": "run seed",
    "reward": "mean over the last tenth of the steps",
    "entropy": "nats, over the same steps",
    "response_length": "tokens, over the same steps",
    "accuracy": "percent; last evaluation during training, greedy, mean over the benchmarks",
    "first_entropy": "nats; of step 1, before any update: what the start policy and its first prompts give",
    "cpu_seconds": "of the training process; NaN where the backend has processes that it does not measure",
    "settings": "a digest of what config/ says of the run, its start policy, its problems and benchmarks",
    "steps_sha256": "of steps.parquet",
    "commit": "of this repository, when the run was trained",
}
"""Of runs.csv."""


def save(study: Study, out: Path, command: str) -> None:
    """Write the reference results of a finished study to a directory, in place of what was there.

    Args:
        study: its runs, figures and tables are all there.
        out: directory.
        command: how the study was made, for the manifest.

    Raises:
        ValueError: a run, a figure or a table is missing; it names the file. Nothing is changed then.
    """
    files = _files(study)
    table, made = _runs(study)
    shutil.rmtree(out, ignore_errors=True)
    for name, source in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        (out / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    (out / "runs.csv").write_bytes(csv_bytes(table))
    hours = float(table["cpu_seconds"].sum(min_count=1)) / 3600
    manifest = {
        "scale": study.scale,
        "command": command,
        "seeds": list(study.seeds),
        "runs": len(table),
        "start_policies": len(study.warm_starts()),
        "cpu_hours": round(hours, 3) if math.isfinite(hours) else None,
        **made,
        "files": {path.relative_to(out).as_posix(): _digest(path) for path in sorted(out.rglob("*")) if path.is_file()},
    }
    (out / "manifest.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120))


def _files(study: Study) -> dict[str, Path]:
    """Name in the reference -> file, of every artefact that the study makes."""
    found = {}
    for stem, folder in ((study.figure_stem(""), "figures"), (study.table_stem(""), "tables")):
        for path in sorted(Path(stem).glob("*")):
            if path.suffix in KEPT[folder]:
                compressed = ".gz" if (folder, path.suffix) == ("figures", ".csv") else ""
                found[f"{folder}/{path.name}{compressed}"] = path
        if not any(name.startswith(folder) for name in found):
            raise ValueError(f"{stem}: has no {folder}; expected those that `snakemake` makes")
    return found


def _runs(study: Study) -> tuple[pd.DataFrame, dict[str, Any]]:
    """runs.csv, and of the manifest: commits, versions, hardware."""
    records_of = {run: _record(study, run) for run in study.runs()}
    of_backbones = [[run for run in records_of if run.backbone == backbone] for backbone in study.backbones]
    table = pd.concat([came_to(study, runs) for runs in of_backbones if runs], ignore_index=True)
    table["cpu_seconds"] = [_cpu_seconds(study, run) for run in records_of]
    table["settings"] = [settings_digest(study, run) for run in records_of]
    table["steps_sha256"] = [_digest(Path(study.runs_dir(run)) / "steps.parquet") for run in records_of]
    table["commit"] = [_commit(record["environment"]) for record in records_of.values()]
    environments = [record["environment"] for record in records_of.values()]
    return table[list(COLUMNS)], {
        "commits": dict(Counter(table["commit"])),
        "python": _each(environments, "python"),
        "versions": _each(environments, "versions"),
        "hardware": _each(environments, "processor", "cores", "threads", "device"),
    }


def came_to(study: Study, runs: Iterable[Run]) -> pd.DataFrame:
    """What runs of one backbone came to: the first columns of :data:`COLUMNS`, to `first_entropy`.

    Raises:
        ValueError: a file of a run is missing or incomplete.
    """
    runs = list(runs)
    steps = run_files.steps(study, runs).rename(columns={"method": "group"})
    accuracy = curves.mean_accuracy(run_files.evaluations(study, runs), CURVE_DECODING)
    ends = paired.at_end(steps, accuracy.rename(columns={"method": "group"}), int(steps["step"].max()))
    first = steps[steps["step"] == 1].set_index(["group", "seed"])["entropy"]
    found = ends.assign(first_entropy=first)
    index = pd.MultiIndex.from_tuples([(run.method, run.seed) for run in runs], names=["method", "seed"])
    rows = found.rename_axis(["method", "seed"]).loc[index].reset_index()
    rows.insert(0, "backbone", runs[0].backbone)
    return rows[list(COLUMNS)[:8]]


def settings_digest(study: Study, run: Run) -> str:
    """Of everything that config/ says of a run. The same on every machine, as a start policy's bytes are not."""
    seed = study.start_seed(run.backbone, run.seed)
    start = {} if study.backbones[run.backbone].fetched else study.warm_start(run.backbone, seed)
    benchmarks = {name: benchmark.settings for name, benchmark in study.benchmarks.items()}
    spec = asdict(what_counts(run_spec(study.spec(run))))
    return digest({"run": spec, "start": start, "problems": study.train_problems, "benchmarks": benchmarks})


def _record(study: Study, run: Run) -> dict[str, Any]:
    path = Path(study.runs_dir(run)) / "run.yaml"
    if not (record := read_record(path)):
        raise ValueError(f"{path}: no such run; `snakemake` makes it")
    return record


def _cpu_seconds(study: Study, run: Run) -> float:
    timings = records.read(Path(study.runs_dir(run)) / "timings.parquet", records.TIMINGS).to_pandas()
    return float(timings.filter(like="cpu_").sum(min_count=1).sum(min_count=1))


def _commit(environment: Mapping[str, Any]) -> str:
    return str(environment.get("git_commit")) + (" with changes" if environment.get("git_changes") else "")


def _each(environments: Iterable[Mapping[str, Any]], *keys: str) -> list[Any]:
    """The different values, in the order in which they are met."""
    found: list[Any] = []
    for environment in environments:
        value = {key: environment.get(key) for key in keys} if len(keys) > 1 else environment.get(keys[0])
        if value not in found:
            found.append(value)
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
