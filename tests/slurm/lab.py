"""What the tests on Slurm work with: the cluster, clones of the workflow, calls of snakemake, running trainings."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from ..workflow.conftest import ROOT, copy_workflow

SCALE, BACKBONE = "cluster", "qwen3-160k"
METHODS = ("reinforce", "pos-only-0.5", "grpo")
ARTEFACTS = "artefacts=[fig2,table2]"
STEPS, CHECKPOINT_EVERY = 80, 10
PATIENCE = 900
"""Seconds to wait for what takes seconds, or a minute or two, where nothing else runs; busy machines took nine."""
RUN_FILES = ("steps.parquet", "groups.parquet", "evaluations.parquet")
"""Of a run, those that are the same bytes however often it was interrupted."""


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE, what: str = "") -> Any:
    """The first true value of the condition; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what or condition}"
        time.sleep(0.1)
    return value


# -- Slurm ------------------------------------------------------------------------------------------------------------


class Cluster:
    """The one-node Slurm of cluster.sh, up while the block runs."""

    def __init__(self, directory: Path, accounting: bool = False) -> None:
        self.directory, self.accounting = directory, accounting

    def __enter__(self) -> Cluster:
        self._script("up", {"ACCOUNTING": "1" if self.accounting else "0"})
        return self

    def __exit__(self, *_: object) -> None:
        self._script("down")

    def _script(self, what: str, more: dict[str, str] | None = None) -> None:
        command = [Path(__file__).with_name("cluster.sh"), what, self.directory]
        # its daemons keep what they inherit: a pipe would never be closed
        with (self.directory / f"{what}.txt").open("w+") as said:
            result = subprocess.run(command, env=os.environ | (more or {}), stdout=said, stderr=said, check=False)
            said.seek(0)
            assert result.returncode == 0, said.read()

    def tell(self, *command: str) -> str:
        """What a command of Slurm says; fails if the command does."""
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
        return result.stdout.strip()

    def jobs(self, clone: Clone, rule: str = "") -> dict[str, str]:
        """Job id -> state, of a clone's jobs that wait or run and whose comment (rule, wildcards) has the text."""
        lines = self.tell("squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%i|%T|%Z|%k").splitlines()
        rows = [line.split("|", 3) for line in lines]
        return {job: state for job, state, place, comment in rows if place == str(clone.root) and rule in comment}

    def job(self, clone: Clone, rule: str) -> str:
        """The id of the one such job."""
        return wait_until(lambda: list(self.jobs(clone, rule)), what=f"a job of {rule}")[0]

    def show(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.tell("scontrol", "show", "job", job)))

    def update(self, *settings: str) -> None:
        """As an administrator."""
        self.tell("scontrol", "update", *settings)

    @contextmanager
    def node(self, state: str) -> Iterator[None]:
        """Its only node is drained or down while the block runs."""
        node = f"NodeName={self.tell('sinfo', '--noheader', '--Node', '--format', '%N').split()[0]}"
        self.update(node, f"State={state}", "Reason=test")
        try:
            yield
        finally:
            # one that is down comes back by itself when its daemon tells of it (ReturnToService)
            if self.tell("sinfo", "--noheader", "--Node", "--format", "%T").startswith(("down", "drain")):
                self.update(node, "State=RESUME")

    @contextmanager
    def partition(self, name: str, state: str) -> Iterator[None]:
        """A partition starts no jobs while the block runs."""
        self.update(f"PartitionName={name}", f"State={state}")
        try:
            yield
        finally:
            self.update(f"PartitionName={name}", "State=UP")

    def leaves(self, job: str, state: str = "RUNNING", seconds: float = PATIENCE) -> str:
        """Waits until a job is in that state no more; the state that it is in then."""
        return wait_until(lambda: (now := self.show(job)["JobState"]) != state and now, seconds, f"job {job} to leave")

    def start_now(self, job: str) -> None:
        """Slurm lets a job that was put back into the queue wait two minutes; an administrator need not."""
        wait_until(lambda: self.show(job)["JobState"] == "PENDING", what=f"job {job} to be back in the queue")
        self.update(f"JobId={job}", "StartTime=now")


# -- clones -----------------------------------------------------------------------------------------------------------


def scale() -> dict[str, Any]:
    """Of tiny.yaml one backbone, two benchmarks and three methods, with enough steps to be caught half-way."""
    tiny = yaml.safe_load((ROOT / "config/scales/tiny.yaml").read_text())

    def ours(value: Any) -> dict[str, Any]:
        return {"value": value, "provenance": "ours", "note": "for the tests on Slurm"}

    tiny["backbones"] = {BACKBONE: tiny["backbones"][BACKBONE]}
    tiny["methods"] = ours(list(METHODS))
    tiny["warm_start"]["steps"] = ours(300)
    tiny["training"] |= {"steps": ours(STEPS), "checkpoint_every": ours(CHECKPOINT_EVERY)}
    tiny["evaluation"] |= {"every": ours(40), "benchmarks": ours(["countdown-3", "countdown-4"])}
    tiny["grid"] = {beta: ours([0.5]) for beta in ("beta_pos", "beta_neg")}
    return tiny


def make(directory: Path) -> Clone:
    """A fresh copy of the workflow that knows the scale."""
    copy_workflow(directory)
    (directory / f"config/scales/{SCALE}.yaml").write_text(yaml.safe_dump(scale(), sort_keys=False))
    return Clone(directory)


class Clone:
    """A copy of the workflow, and what was made in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results, self.figures = root / "results" / SCALE, root / "figures" / SCALE

    def copy(self, target: Path, without: Sequence[str] = ()) -> Clone:
        """Another one with what was made so far; times are kept, since snakemake compares them."""
        shutil.copytree(self.root, target, symlinks=True, copy_function=shutil.copy2)
        copied = Clone(target)
        for name in without:
            shutil.rmtree(copied.results / name, ignore_errors=True)
        if without:
            shutil.rmtree(copied.figures)
        return copied

    def call(self, *arguments: str, profile: str | None = "slurm", config: Sequence[str] = (), **more: str) -> Call:
        """`snakemake --profile slurm --config scale=cluster ...`, started; asks Slurm sooner than usual."""
        chosen = ["--config", f"scale={SCALE}", *(config or [ARTEFACTS])]
        # before the arguments: of two profiles the later one goes before the earlier one
        first = [] if profile is None else ["--profile", profile, "--slurm-init-seconds-before-status-checks", "1"]
        return Call(self.root, [*first, *arguments, *chosen], more)

    def run(self, method: str) -> Path:
        """The directory of a run."""
        return self.results / "runs" / BACKBONE / method / "seed-1"

    def log(self, method: str) -> Path:
        """The log of its training."""
        return self.results / "logs/train" / BACKBONE / method / "seed-1.log"

    def record(self, method: str) -> str:
        """The target of its training."""
        return str((self.run(method) / "run.yaml").relative_to(self.root))

    def resumed_after(self, method: str) -> int | None:
        """After which step its last attempt went on."""
        return yaml.safe_load((self.run(method) / "run.yaml").read_text())["result"]["resumed_after_step"]

    def stopped(self, *methods: str, after: int = 0, seconds: float = PATIENCE) -> list[Training]:
        """Their trainings, each halted (SIGSTOP) as soon as it is past a step: whatever happens next happens there."""
        found: dict[str, Training] = {}

        def all_found() -> bool:
            for method in methods:
                training = None if method in found else Training.find(self, method)
                if training and training.step() > after:
                    training.send(signal.SIGSTOP)
                    found[method] = training
            return len(found) == len(methods)

        wait_until(all_found, seconds, f"{' and '.join(methods)} to be past step {after}")
        return [found[method] for method in methods]

    def equals(self, other: Clone, *methods: str) -> None:
        """Asserts that runs are the same, byte by byte."""
        for method in methods or METHODS:
            for name in RUN_FILES:
                one, two = (clone.run(method) / name for clone in (self, other))
                assert one.read_bytes() == two.read_bytes(), f"{method} {name}"


class Training:
    """A process that trains a run, on whatever node: here there is only one.

    Of one that was halted and is asked to end (SIGTERM), :meth:`saved_after` is told when it goes on. Slurm may have
    let it go on before that, and it may have ended.
    """

    def __init__(self, clone: Clone, method: str, pid: int) -> None:
        self.clone, self.method, self.pid = clone, method, pid

    @classmethod
    def find(cls, clone: Clone, method: str) -> Training | None:
        """The one that runs now, if any."""
        marks = ["train", "--out", f"results/{SCALE}/runs/{BACKBONE}/{method}/seed-1"]
        for process in Path("/proc").glob("[0-9]*"):  # those of this machine: also the cluster's only node
            try:
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                is_it = "asymgrpo" in " ".join(words[:2]) and all(mark in words for mark in marks)
                if is_it and (process / "cwd").resolve() == clone.root:
                    return cls(clone, method, int(process.name))
            except OSError:
                continue
        return None

    def step(self) -> int:
        """The last one that it told of, or that an earlier attempt did; told once a second, and at checkpoints."""
        file = self.clone.results / "work" / BACKBONE / self.method / "seed-1" / "progress.json"
        try:
            return json.loads(file.read_text())["step"]
        except (OSError, ValueError):
            return 0

    def environment(self) -> dict[str, str]:
        """What it was started with."""
        entries = Path(f"/proc/{self.pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        os.kill(self.pid, number)

    def saved_after(self, seconds: float = PATIENCE) -> int:
        """Lets it go on; the step that it then says it has saved, because it was asked to end meanwhile."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
        log, pattern = self.clone.log(self.method), re.compile(r"is saved after step (\d+)")
        said = wait_until(
            lambda: log.exists() and pattern.search(log.read_text()), seconds, f"{self.method} to save its step"
        )
        return int(said[1])


# -- snakemake --------------------------------------------------------------------------------------------------------


class Call:
    """A call of snakemake that goes on by itself; ended with the block, if it was not before."""

    def __init__(self, directory: Path, arguments: Sequence[str], more: dict[str, str]) -> None:
        self.file = directory / f"console-{time.monotonic_ns()}.txt"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with self.file.open("w") as console:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *arguments],
                cwd=directory,
                env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | more,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                # where the tests run in the background, Ctrl-C may be ignored, and so by all that they start
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.interrupt()
            try:
                self.process.wait(300)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self.file.read_text()

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to all processes in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ends(self, seconds: float = PATIENCE) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.__exit__()
            raise AssertionError(f"still runs after {seconds} s:\n{self.said[-5000:]}") from None

    def succeeds(self, seconds: float = PATIENCE) -> str:
        """What it said; fails if it failed."""
        assert self.ends(seconds) == 0, self.said[-10000:]
        return self.said

    def fails(self, seconds: float = PATIENCE) -> str:
        """What it said; fails if it did not fail."""
        assert self.ends(seconds) not in (0, None), self.said[-10000:]
        return self.said


# -- what is tried with several settings -----------------------------------------------------------------------------


def as_one_array(cluster: Cluster, alone: Clone, clone: Clone, *arguments: str) -> tuple[str, str]:
    """All trainings that are ready are tasks of one job of Slurm; one that is cancelled goes on as a job of its own.

    The ids of the cancelled task and of the other one.
    """
    methods = ("reinforce", "grpo")
    with clone.call(*arguments, "--slurm-array-jobs", "train", *map(clone.record, methods)) as call:
        trainings = clone.stopped(*methods, after=15)
        tasks = [training.environment() for training in trainings]
        assert len({task["SLURM_ARRAY_JOB_ID"] for task in tasks}) == 1
        assert {task["SLURM_ARRAY_TASK_ID"] for task in tasks} == {"1", "2"}
        cancelled, other = map("{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map, tasks)
        cluster.tell("scancel", cancelled)
        cluster.leaves(cancelled)
        saved = trainings[0].saved_after()
        trainings[1].send(signal.SIGCONT)
        call.succeeds()
    clone.equals(alone, *methods)
    assert [clone.resumed_after(method) for method in methods] == [saved, None]
    return cancelled, other
