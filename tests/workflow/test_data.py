"""Published problems through the DAG: fetched by local jobs, converted, counted, and never deleted."""

from __future__ import annotations

import os

import pytest

from asymgrpo import records
from asymgrpo.tasks.overlap import read_overlap

from ..published import SETS, Project
from .jobs import planned

SCALE = ("--config", "scale=sets")


@pytest.fixture
def project(workflow):
    return Project(workflow).build()


def test_one_target_prefetches_everything_and_nothing_is_deleted(project, call, monkeypatch):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    before = {path: path.read_bytes() for path in project.raw.rglob("*") if path.is_file()}
    assert len(before) == 5 + 7
    jobs = planned(call(project.root, "-n", "fetch", *SCALE))
    assert {job.wildcards["problems"] for job in jobs if job.rule == "fetch_problems"} == {*SETS, "math-train"}

    result = call(project.root, "--cores", "1", "fetch", *SCALE)
    assert result.returncode == 0, result.stderr
    assert {path: path.read_bytes() for path in before} == before
    data = project.root / "results/sets/data"
    for name in ("train", *(f"benchmarks/{name}" for name in SETS)):
        assert records.read(data / f"{name}.parquet", records.BENCHMARK).num_rows > 0
    assert {row.benchmark: row.trained_on for row in read_overlap(data / "overlap.csv")} == dict.fromkeys(SETS, 0)
    assert len((project.root / "config/pins.yaml").read_text().splitlines()) > 10
    assert "Nothing to be done" in call(project.root, "--cores", "1", "fetch", *SCALE).stderr

    # another answer in the source is another file: an error, and what is there stays
    file = project.raw / "aime25/test.jsonl"
    file.write_text(file.read_text().replace("588", "589"))
    (project.raw / "aime25.yaml").unlink()
    (data / "benchmarks/aime25.parquet").unlink()
    failed = call(project.root, "--cores", "1", "fetch", *SCALE)
    assert failed.returncode != 0
    log = (project.root / "results/sets/logs/fetch/aime25.log").read_text()
    assert "aime25/test.jsonl: its sha256 is" in log
    assert log.count("\n") == 1
    assert file.exists()


def test_training_waits_for_the_overlap_and_the_theory_for_nothing(project, call):
    rules = {job.rule for job in planned(call(project.root, "-n", *SCALE))}
    assert {"overlap", "fetch_problems", "training_problems", "train"} <= rules
    assert not {job.rule for job in planned(call(project.root, "-n", "fig1", "prop2", *SCALE))} & {
        "overlap",
        "fetch_problems",
        "training_problems",
    }
