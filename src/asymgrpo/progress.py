"""What runs, how far, and the time left, from files in work directories.

Every process that trains or samples keeps two files there. ``progress.json`` says how far it is
(:class:`asymgrpo.training.runtime.Progress`): ``name``, ``step``, ``steps``, ``saved`` (the step of the last
checkpoint, as far as this process knows) and ``left`` (seconds). ``alive.json`` says who it is (:func:`alive`) and is
touched every :data:`BEAT` seconds, also while a step takes long or an engine starts: a process that was killed leaves
it behind, and it grows old. Who watches only reads, so it can neither slow down nor break a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

SHOWN = 4
"""Processes named in a line; of more only the number is told."""

BEAT = 20.0
"""Seconds between two signs of life."""
SILENCE = 150.0
"""Without a sign of life for so many seconds a process is taken for dead, if it is not on this machine, where it can be
looked up: file systems of clusters may show a change a minute late."""


# -- signs of life ----------------------------------------------------------------------------------------------------


@contextmanager
def alive(directory: Path, settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """While the block runs, ``directory/alive.json`` says that this process works there.

    It holds ``host``, ``pid``, ``space`` (where that number means this process: the boot and the namespace),
    ``started`` (of the process, in the system's ticks), ``job`` (of the cluster, if there is one), ``since`` (seconds
    of the epoch), ``settings`` (a digest of what is trained, :func:`digest`), and ``ended`` once the block has ended.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "alive.json"
    sign: dict[str, Any] = {
        "host": platform.node(),
        "pid": os.getpid(),
        "space": _space(),
        "started": _started(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "since": time.time(),
        "settings": digest(settings) if settings is not None else None,
    }
    _replace(path, sign)
    stopped = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, stopped), daemon=True, name="alive")
    beating.start()
    try:
        yield
    finally:
        stopped.set()
        beating.join()
        if path.exists():
            _replace(path, sign | {"ended": time.time()})


def digest(settings: Mapping[str, Any]) -> str:
    """A short hash of plain values, whatever the order of their keys."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Sign:
    """What a work directory's ``alive.json`` says, and whether its process still works there."""

    lives: bool
    host: str
    job: str | None
    since: float
    settings: str | None


def sign(directory: Path, now: float | None = None) -> Sign | None:
    """The sign of life in a work directory; None if there is none. `now`: seconds of the epoch."""
    path = directory / "alive.json"
    try:
        said = json.loads(path.read_text())
        age = (time.time() if now is None else now) - path.stat().st_mtime
        return Sign(_lives(said, age), said["host"], said["job"], said["since"], said["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def told(directory: Path) -> dict[str, Any] | None:
    """What a work directory's ``progress.json`` says, with ``at``, when it was written (seconds of the epoch)."""
    path = directory / "progress.json"
    try:
        state = json.loads(path.read_text())
        return state | {"at": path.stat().st_mtime} if {"name", "step", "steps"} <= set(state) else None
    except (OSError, ValueError, TypeError):
        return None


def _lives(said: Mapping[str, Any], age: float) -> bool:
    if "ended" in said:
        return False
    if said["host"] == platform.node() and said["space"] == _space():
        return _started(said["pid"]) == said["started"] if said["started"] else _is_there(said["pid"])
    return age < SILENCE


def _beat(path: Path, stopped: threading.Event) -> None:
    while not stopped.wait(BEAT):
        with suppress(OSError):  # the directory was removed, or its file system has hiccups
            os.utime(path)


def _space() -> str:
    """Where a process has one number: this boot of this machine, and the namespace of this process."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  (the link's text is meant, it is no path)
    return ""


def _started(pid: int) -> int | None:
    """When a process started, in ticks since the boot: tells it from a later one of that number; None if it is gone."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(rest[18]) if state not in "ZX" else None
    except (OSError, ValueError, IndexError):
        return None


def _is_there(pid: int) -> bool:
    """Where there is no /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is someone else's
    return True


def _modified(path: Path) -> int | None:
    """In nanoseconds; None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


# -- the console's line -----------------------------------------------------------------------------------------------


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
        # a run that is made again has its old record until it starts
        self._before = {job: _modified(job.record) for job in self.jobs}
        self._first: tuple[float, float] | None = None  # when training was first seen, and the steps done by then
        self._told = ""

    def start(self) -> Watcher:
        """Tell from now on, from a thread that ends with the process."""
        if self.jobs:
            threading.Thread(target=self._loop, daemon=True, name="progress").start()
        return self

    def line(self) -> str:
        """The line that would be told now."""
        running = {job: state for job in self.jobs if (state := told(job.work)) is not None}
        finished = [job for job in self.jobs if job not in running and self._is_made(job)]
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

    def _is_made(self, job: Job) -> bool:
        """Whether its record is there, and not only the one from before."""
        return _modified(job.record) not in (None, self._before[job])

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


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
