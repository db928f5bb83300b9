"""What runs, how far, and the time left: one line now and then while Snakemake works.

Every training process writes progress.json in its work directory (:class:`asymgrpo.training.runtime.Progress`); the
watcher only reads, so it can neither slow down nor break a run.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

SHOWN = 4
"""Processes named in a line; of more only the number is told."""


@dataclass(frozen=True)
class Job:
    """One training job that this call of Snakemake is going to run."""

    record: Path
    """Exists once the job is done (run.yaml)."""
    work: Path
    """Where it tells its progress while it runs."""
    steps: int
    """Training steps."""
    warm_start: bool = False
    """Its steps cost another time than a run's, so the time left does not count them."""


class Watcher:
    """Tells the progress of training jobs, from their files."""

    def __init__(self, jobs: Sequence[Job], stream: TextIO | None = None, every: float = 10.0) -> None:
        self.jobs, self.stream, self.every = list(jobs), stream or sys.stderr, every
        self.started = time.monotonic()
        self._first: tuple[float, float] | None = None  # when training was first seen, and the steps done by then
        self._told = ""

    def start(self) -> Watcher:
        """Tell from now on, from a thread that ends with the process."""
        if self.jobs:
            threading.Thread(target=self._loop, daemon=True, name="progress").start()
        return self

    def line(self) -> str:
        """The line that would be told now."""
        running = {job: state for job in self.jobs if (state := _read(job.work)) is not None}
        finished = [job for job in self.jobs if job not in running and job.record.exists()]
        runs = [job for job in self.jobs if not job.warm_start]
        total = sum(job.steps for job in runs)
        done = sum(int(running[job]["step"]) if job in running else job.steps * (job in finished) for job in runs)
        parts = [f"{len(finished)} of {len(self.jobs)} trainings done"]
        if running:
            names = [f"{state['name']} {state['step']}/{state['steps']}" for state in running.values()]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append("now " + ", ".join(names[:SHOWN]) + more)
        parts.append(self._left(done, total))
        return f"[{_clock(time.monotonic() - self.started)}] " + "; ".join(part for part in parts if part)

    def _left(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self._first is None:
            if done == 0:
                return ""
            self._first = (now, done)
        since, before = self._first
        if now - since < 20 or done <= before:
            return ""
        return f"about {_clock((total - done) * (now - since) / (done - before))} of training left"

    def _loop(self) -> None:
        while True:
            time.sleep(self.every)
            line = self.line()
            if line.partition("]")[2] != self._told:  # nothing new is not worth a line
                self._told = line.partition("]")[2]
                print(line, file=self.stream, flush=True)


def _read(work: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((work / "progress.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return state if {"name", "step", "steps"} <= set(state) else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
