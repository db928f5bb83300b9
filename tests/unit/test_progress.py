"""The console's line on what runs, how far, and the time left."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest

from asymgrpo.progress import Job, Watcher
from asymgrpo.training.runtime import Progress


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    return [Job(tmp_path / f"run-{n}/run.yaml", tmp_path / f"work-{n}", 80) for n in range(3)]


def finish(job: Job) -> None:
    job.record.parent.mkdir()
    job.record.touch()


def test_counts_finished_and_names_running_jobs(jobs):
    watcher = Watcher(jobs)
    assert "0 of 3 trainings done" in watcher.line()
    finish(jobs[0])
    Progress("tiny/grpo/seed-1", 80, jobs[1].work).step(20)
    line = watcher.line()
    assert "1 of 3 trainings done" in line
    assert "tiny/grpo/seed-1 20/80" in line


def test_a_run_that_is_made_again_is_not_done(jobs):
    """Its old record may still lie there while it trains."""
    finish(jobs[0])
    Progress("tiny/grpo/seed-1", 80, jobs[0].work).step(1)
    assert "0 of 3 trainings done" in Watcher(jobs).line()


def test_a_run_that_waits_to_be_made_again_is_not_done(jobs):
    finish(jobs[0])
    os.utime(jobs[0].record, (1, 1))
    watcher = Watcher(jobs)
    assert "0 of 3 trainings done" in watcher.line()
    jobs[0].record.touch()
    assert "1 of 3 trainings done" in watcher.line()


def test_time_left_follows_the_measured_rate(jobs, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    watcher = Watcher(jobs)
    progress = Progress("tiny/grpo/seed-1", 80, jobs[0].work)
    progress.step(10)
    assert "left" not in watcher.line()  # nothing measured yet
    clock[0] += 60
    progress.step(40)
    # 30 steps in 60 s; 200 of 240 are left
    assert "about 6:40 of training left" in watcher.line()


def test_warm_starts_are_named_but_do_not_count_for_the_time_left(jobs, monkeypatch, tmp_path):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    start = Job(tmp_path / "start/run.yaml", tmp_path / "work-start", 1500, warm_start=True)
    watcher = Watcher([start, *jobs])
    warm, run = Progress("warm start", 1500, start.work), Progress("run", 80, jobs[0].work)
    warm.step(10)
    run.step(10)
    assert "0 of 4 trainings done; now warm start 10/1500, run 10/80" in watcher.line()
    clock[0] += 60
    warm.step(900)
    run.step(40)
    assert "about 6:40 of training left" in watcher.line()


def test_many_running_jobs_are_summed_up(tmp_path):
    jobs = [Job(tmp_path / f"{n}.yaml", tmp_path / f"work-{n}", 10) for n in range(9)]
    for n, job in enumerate(jobs):
        Progress(f"run-{n}", 10, job.work).step(1)
    assert "and 5 more" in Watcher(jobs).line()


def test_a_half_written_file_is_no_progress(jobs):
    jobs[0].work.mkdir()
    (jobs[0].work / "progress.json").write_text('{"name": "x", "st')
    assert "0 of 3 trainings done" in Watcher(jobs).line()


def test_watching_prints_news_once(jobs):
    stream = io.StringIO()
    watcher = Watcher(jobs, stream, every=0.01).start()
    deadline = time.monotonic() + 5
    while "trainings done" not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    assert stream.getvalue().count("0 of 3 trainings done") == 1
    assert watcher.jobs == jobs


def test_progress_file_is_whole_and_tells_the_steps(tmp_path):
    Progress("x", 5, tmp_path).step(5, reward=0.5)
    state = {"name": "x", "step": 5, "steps": 5, "saved": 0, "left": 0.0}
    assert json.loads((tmp_path / "progress.json").read_text()) == state
