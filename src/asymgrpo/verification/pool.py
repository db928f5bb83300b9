"""Processes that compare answers, within limits: whatever one answer does to its process, the others do not notice.

Workers are plain subprocesses (nothing is forked, nothing of this process is imported again), so a pool may be used
from any thread of any process. Each worker belongs to one thread at a time. It gets chunks of tasks over its standard
input and answers one by one, so the task that it hangs or dies at is known: that one fails with the reason, the rest of
its chunk goes to another worker.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asymgrpo.verification.reasons import DIED, MEMORY_LIMIT, TIME_LIMIT

START_SECONDS = 120.0
"""A worker needs less than a second to start; this is for machines that are very busy."""

CHUNK = 16
"""Tasks that a worker is given at once, at most; fewer at the end of a batch, so that all workers end together."""

CHUNK_CHARACTERS = 100_000
"""A chunk ends when its tasks have so many characters."""

TRIES = 2
"""Workers that may die at a task before it fails: one may have been killed from outside, not by the task."""

Task = tuple[Any, ...]
"""Arguments of :func:`asymgrpo.verification.symbolic.judge`; the first is the text."""


class PoolError(RuntimeError):
    """No worker can be started, so nothing can be said about any answer."""


class Outcome(NamedTuple):
    """What a worker said about a task, or what became of the worker."""

    correct: bool
    extracted: str
    reason: str


class Pool:
    """Up to `size` workers, started when they are needed and kept; safe to use from several threads at once."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a pool has at least one worker, not {size}")
        self.size = size
        self._process = os.getpid()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._changed = threading.Condition()
        self._closed = False
        self._close = weakref.finalize(self, _end_all, self._workers, self._process)
        _POOLS.add(self)

    def run(self, tasks: Sequence[Task], seconds: float, memory_mb: int, workers: int | None = None) -> list[Outcome]:
        """Outcomes in the order of the tasks; each ends within `seconds` of its start, and within the memory limit.

        Args:
            tasks: what to compare.
            seconds: for each task.
            memory_mb: MiB of address space that a worker may use beside its libraries.
            workers: use at most so many; default: all.

        Raises:
            PoolError: workers cannot be started (the reason is in the message), or the pool was closed.
        """
        if self._process != os.getpid():
            raise PoolError("this pool of verification workers belongs to the process that this one was forked from")
        batch = _Batch(tasks, seconds, memory_mb)
        most = min(workers or self.size, self.size)
        held: list[_Worker] = []
        try:
            with selectors.DefaultSelector() as selector:
                while batch.open:
                    self._take_workers(batch, held, most, selector)
                    self._wait(batch, held, selector)
        except BaseException:
            for worker in held:
                worker.usable &= worker.ready  # nobody knows whether it will be
            raise
        finally:
            for worker in held:
                self._give_back(worker)
        return [outcome for outcome in batch.outcomes if outcome is not None]

    def close(self) -> None:
        """End all workers. A batch that is running in another thread fails with a PoolError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._close()

    def __enter__(self) -> Pool:
        """The pool itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        self.close()

    def _take_workers(self, batch: _Batch, held: list[_Worker], most: int, selector: selectors.BaseSelector) -> None:
        """Give chunks to the workers that are held and free; hold more as long as there is work for them."""
        for worker in held:
            if worker.ready and not worker.assigned and batch.waiting:
                worker.send(batch, most, selector)
        starting = sum(not worker.ready for worker in held)
        while len(held) < most and len(batch.waiting) > starting * batch.chunk_size(most):
            more = self._take(wait=not held)
            if more is None:
                return
            held.append(more)
            more.watch(selector)
            if more.ready:
                more.send(batch, most, selector)
            else:
                starting += 1

    def _wait(self, batch: _Batch, held: list[_Worker], selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        soonest = min((worker.deadline for worker in held if worker.deadline), default=now)
        for key, events in selector.select(max(0.0, soonest - now)):
            key.data[1](events)
        for worker in list(held):
            lost = worker.work(batch) or worker.is_late(batch)
            if lost or not (worker.assigned or batch.waiting):
                held.remove(worker)
                worker.unwatch(selector)
                self._give_back(worker)
            if lost and not worker.ready:
                batch.failed_starts += 1
                if worker.failure or batch.failed_starts == 3:
                    raise PoolError(f"a verification worker cannot be started: {worker.failure or worker.ending()}")

    def _take(self, wait: bool) -> _Worker | None:
        """An idle worker, or a new one; None if all are in use elsewhere (or wait for one)."""
        with self._changed:
            while True:
                if self._closed:
                    raise PoolError("the pool of verification workers was closed")
                while self._idle:
                    worker = self._idle.pop()
                    if worker.process.poll() is None:
                        return worker
                    self._drop(worker)
                if len(self._workers) < self.size:
                    try:
                        worker = _Worker()
                    except OSError as error:
                        raise PoolError(f"a verification worker cannot be started: {error}") from error
                    self._workers.add(worker)
                    return worker
                if not wait:
                    return None
                self._changed.wait()

    def _give_back(self, worker: _Worker) -> None:
        with self._changed:
            if worker.usable and not worker.assigned and not self._closed:
                self._idle.append(worker)
            else:
                self._drop(worker)
            self._changed.notify()

    def _drop(self, worker: _Worker) -> None:
        worker.end()
        self._workers.discard(worker)


class _Batch:
    """Tasks of one call: which wait, and what became of the others."""

    def __init__(self, tasks: Sequence[Task], seconds: float, memory_mb: int) -> None:
        self.tasks, self.seconds, self.memory_mb = tasks, seconds, memory_mb
        self.outcomes: list[Outcome | None] = [None] * len(tasks)
        self.open = len(tasks)
        self.waiting = deque(range(len(tasks)))
        self.used: dict[int, float] = {}  # seconds that a task had in workers which died
        self.tries: dict[int, int] = {}
        self.failed_starts = 0

    def chunk_size(self, workers: int) -> int:
        return max(1, min(CHUNK, len(self.waiting) // (4 * workers)))

    def chunk(self, workers: int) -> list[int]:
        """Take tasks to be done next, one after the other; one that had a worker die is alone."""
        taken = [self.waiting.popleft()]
        size, characters = self.chunk_size(workers), len(self.tasks[taken[0]][0])
        while self.waiting and len(taken) < size and taken[0] not in self.tries:
            following = self.waiting[0]
            characters += len(self.tasks[following][0])
            if following in self.tries or characters > CHUNK_CHARACTERS:
                break
            taken.append(self.waiting.popleft())
        return taken

    def finish(self, task: int, outcome: Outcome) -> None:
        self.outcomes[task] = outcome
        self.open -= 1


class _Worker:
    """One process, and what is known of it. Only the thread that holds it calls anything here."""

    def __init__(self) -> None:
        here = str(Path(__file__).parents[2])
        paths = [here, *(path for path in sys.path if path and path != here)]
        self.process = subprocess.Popen(
            # -P: no module of the current directory
            [sys.executable, "-P", "-m", "asymgrpo.verification.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # a fixed hash seed: what sympy tries first depends on it
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin
        assert self.process.stdout
        self.input, self.output = self.process.stdin, self.process.stdout
        os.set_blocking(self.input.fileno(), False)
        os.set_blocking(self.output.fileno(), False)
        self.ready = False
        self.usable = True
        self.failure = ""
        self.assigned: deque[int] = deque()
        self.deadline = time.monotonic() + START_SECONDS
        self._began = 0.0
        self._unsent = memoryview(b"")
        self._unread = bytearray()
        self._messages: deque[dict[str, Any]] = deque()
        self._ended = False

    # -- called from the loop over events -----------------------------------------------------------------------------

    def watch(self, selector: selectors.BaseSelector) -> None:
        selector.register(self.output, selectors.EVENT_READ, (self, self._receive))

    def unwatch(self, selector: selectors.BaseSelector) -> None:
        for stream in (self.output, self.input):
            if stream in selector.get_map():
                selector.unregister(stream)

    def send(self, batch: _Batch, workers: int, selector: selectors.BaseSelector) -> None:
        """Give it the next chunk of a batch."""
        self.assigned.extend(batch.chunk(workers))
        tasks = [batch.tasks[task] for task in self.assigned]
        chunk = {"seconds": batch.seconds, "memory_mb": batch.memory_mb, "tasks": tasks}
        self._unsent = memoryview(json.dumps(chunk).encode() + b"\n")
        self._start_clock(batch)
        self._push()
        if self._unsent:

            def go_on(_: int) -> None:
                self._push()
                if not self._unsent:
                    selector.unregister(self.input)

            selector.register(self.input, selectors.EVENT_WRITE, (self, go_on))

    def work(self, batch: _Batch) -> bool:
        """Take in what it said; True if the worker is of no more use."""
        retired = False
        while self._messages:
            message = self._messages.popleft()
            if "failed" in message:
                self.failure = message["failed"]
            elif "ready" in message:
                self.ready, self.deadline = True, 0.0
            else:
                retired = message.pop("retired")
                self._take_in(batch, Outcome(**message), retired)
        if not (retired or self._ended):
            return False
        if self._ended and self.assigned:
            self._blame(batch, self.ending())
        batch.waiting.extendleft(reversed(self.assigned))
        self.assigned.clear()
        self.usable = False
        return True

    def is_late(self, batch: _Batch) -> bool:
        """Whether it needs too long; then its task has failed, and the worker is of no more use."""
        if not self.deadline or time.monotonic() < self.deadline:
            return False
        if self.assigned:
            batch.finish(self.assigned.popleft(), Outcome(False, "", TIME_LIMIT))
            batch.waiting.extendleft(reversed(self.assigned))
            self.assigned.clear()
        else:
            self.failure = f"it was not ready after {START_SECONDS:.0f} seconds"
        self.usable = False
        return True

    def ending(self) -> str:
        """How the process ended."""
        code = self._reap()
        names = {known.value: known.name for known in signal.Signals}
        return f"signal {names.get(-code, -code)}" if code < 0 else f"exit status {code}"

    def end(self) -> None:
        """End the process, if it still runs, and leave nothing of it."""
        self.process.kill()
        self.input.close()
        self.output.close()
        self.process.wait()

    def let_go(self) -> None:
        """Close the pipes; the process belongs to somebody else."""
        self.input.close()
        self.output.close()
        self.process.returncode = 0  # no wait for it, no warning that it runs

    # -- inside -------------------------------------------------------------------------------------------------------

    def _start_clock(self, batch: _Batch) -> None:
        self._began = time.monotonic()
        self.deadline = self._began + batch.seconds - batch.used.get(self.assigned[0], 0.0) if self.assigned else 0.0

    def _take_in(self, batch: _Batch, outcome: Outcome, retired: bool) -> None:
        task = self.assigned.popleft()
        if outcome.reason == MEMORY_LIMIT and self._may_try_again(batch, task):
            batch.waiting.appendleft(task)  # others may have left it too little
        else:
            batch.finish(task, outcome)
        self._start_clock(batch)

    def _blame(self, batch: _Batch, ending: str) -> None:
        """The process is gone: the task that it was at may try once more, alone; then it has failed."""
        task = self.assigned.popleft()
        if ending == "signal SIGXCPU":
            batch.finish(task, Outcome(False, "", TIME_LIMIT))
        elif self._may_try_again(batch, task):
            self.assigned.appendleft(task)
        else:
            batch.finish(task, Outcome(False, "", f"{DIED}: {ending}"))

    def _may_try_again(self, batch: _Batch, task: int) -> bool:
        batch.tries[task] = batch.tries.get(task, 0) + 1
        batch.used[task] = batch.used.get(task, 0.0) + time.monotonic() - self._began
        return batch.tries[task] < TRIES

    def _push(self) -> None:
        try:
            while self._unsent:
                written = self.input.write(self._unsent)
                if written is None:  # the pipe is full
                    return
                self._unsent = self._unsent[written:]
        except BrokenPipeError:
            self._unsent = memoryview(b"")  # it is dead; reading its output will say so

    def _receive(self, _: int) -> None:
        while (data := self.output.read(1 << 16)) is not None:
            if not data:
                self._ended = True
                break
            self._unread += data
        *lines, rest = self._unread.split(b"\n")
        self._unread = rest
        self._messages.extend(json.loads(line) for line in lines)

    def _reap(self) -> int:
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self.process.kill()
            return self.process.wait()


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked process has copies of the pipes, which would keep workers waiting for input when its parent is gone."""
    for pool in list(_POOLS):
        for worker in pool._workers:
            worker.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)


def _end_all(workers: set[_Worker], owner: int) -> None:
    """End all workers at once, at the end of the program or of the pool; not in a process that was forked from it."""
    if os.getpid() == owner:
        for worker in list(workers):
            worker.process.kill()
        for worker in list(workers):
            worker.process.wait()
