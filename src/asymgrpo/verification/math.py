"""Is a response to a math problem correct? Bounded in time and memory, from any thread or process."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asymgrpo.verification import answers
from asymgrpo.verification.pool import Outcome, Pool, PoolError, Task
from asymgrpo.verification.reasons import DIED, DIFFERS, ERROR, MEMORY_LIMIT, NO_ANSWER, TIME_LIMIT

MATH_TYPES = ("countdown-value", "numerical", "expression", "equation", "tuple", "interval", "multiple")
"""Answer types of math problems; all of :data:`asymgrpo.tasks.problems.ANSWER_TYPES` but countdown."""

LEAST_MEMORY = 64
"""MiB; with less, common answers cannot be compared."""

EXTRACTED_CHARACTERS = 1000
"""What was extracted is cut to this length in a verdict."""

REMEMBERED = 2**16
"""Verdicts that are kept for the next calls: later rollouts and epochs meet the same answers again."""


class Limits(NamedTuple):
    """What comparing one answer may cost: seconds, and MiB of address space beside the libraries."""

    seconds: float = 5.0
    memory_mb: int = 1024


DEFAULT_LIMITS = Limits()


class Verdict(NamedTuple):
    """Of one response.

    Attributes:
        correct: whether it has the right answer.
        extracted: the answer as text; empty if nothing could be extracted.
        reason: why it is not correct, see :mod:`asymgrpo.verification.reasons`; empty if and only if it is.
    """

    correct: bool
    extracted: str
    reason: str


class Item(NamedTuple):
    """A response, and what it is compared with; the fields of a problem, see :data:`asymgrpo.records.BENCHMARK`.

    Attributes:
        response: what the model wrote.
        ground_truth: LaTeX or a number.
        answer_type: one of :data:`MATH_TYPES`.
        unit: of the answer; a response may state it or leave it out.
        tolerance: largest absolute difference of numbers that is still correct; None (or NaN) for exact.
    """

    response: str
    ground_truth: str
    answer_type: str
    unit: str = ""
    tolerance: float | None = None


def verify(
    response: str,
    ground_truth: str,
    answer_type: str,
    *,
    unit: str = "",
    tolerance: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Verdict:
    """:func:`verify_many` for one response."""
    return verify_many([Item(response, ground_truth, answer_type, unit, tolerance)], limits=limits)[0]


def verify_many(
    items: Iterable[Item], *, limits: Limits = DEFAULT_LIMITS, workers: int | None = None, pool: Pool | None = None
) -> list[Verdict]:
    r"""Verdicts in the order of the items. The same answer to the same problem is compared once.

    The answer is the last closed ``\boxed{}``. Without one, it is what math-verify finds in the whole response, as
    for the scorer that verl ships. See :func:`asymgrpo.verification.symbolic.judge` for when it is correct.

    Args:
        items: responses and ground truths.
        limits: for each comparison; an item that exceeds them is not correct, with the reason, and touches no other.
        workers: processes to use at most; default: one per core that this process may use.
        pool: whose processes; default: the one of this program, which is started when it is first needed and stays.

    Raises:
        ValueError: an unknown answer type, an empty ground truth, a negative tolerance, limits that nothing can meet.
        PoolError: no process can be started, or none can compare anything (math-verify is missing, say).
    """
    _check_limits(limits)
    items = list(items)
    verdicts: list[Verdict | None] = [None] * len(items)
    asked: dict[Task, list[int]] = {}
    shown: dict[Task, str] = {}
    for index, item in enumerate(items):
        truth, tolerance = _checked(item)
        readable = answers.last_operation(item.response) if item.answer_type == "countdown-value" else item.response
        found = answers.find(readable)
        if found.content is not None:
            extracted = _writable(found.content)
            plain = answers.exact(found.content, truth, tolerance)
            if plain is not None:
                verdicts[index] = Verdict(plain, extracted, "" if plain else DIFFERS)
                continue
        task = (found.text, found.content, truth, item.answer_type, item.unit, tolerance)
        if found.content is not None:
            shown[task] = extracted
            verdicts[index] = _MEMORY.get(task)
        if verdicts[index] is None:
            asked.setdefault(task, []).append(index)
    if asked:
        tasks = list(asked)
        for task, outcome in zip(tasks, _outcomes(tasks, limits, workers, pool), strict=True):
            verdict = Verdict(outcome.correct, _writable(outcome.extracted), outcome.reason)
            if task in shown:
                # a box that math-verify cannot read is an answer all the same
                reason = DIFFERS if verdict.reason == NO_ANSWER else verdict.reason
                verdict = Verdict(verdict.correct, shown[task], reason)
                if reason in ("", DIFFERS):
                    _MEMORY.put(task, verdict)
            for index in asked[task]:
                verdicts[index] = verdict
    return [verdict for verdict in verdicts if verdict is not None]


def _writable(extracted: str) -> str:
    """Cut, and without what no file in UTF-8 can have."""
    return extracted[:EXTRACTED_CHARACTERS].encode("utf-8", "replace").decode()


def _outcomes(tasks: Sequence[Task], limits: Limits, workers: int | None, pool: Pool | None) -> list[Outcome]:
    pool = pool or _default_pool(workers)
    outcomes = pool.run(tasks, limits.seconds, limits.memory_mb, workers)
    if all(outcome.reason.startswith((TIME_LIMIT, MEMORY_LIMIT, DIED, ERROR)) for outcome in outcomes):
        # All of them may be hostile; that nothing works must not look the same.
        [canary] = pool.run([(answers.boxed("0.5"), "0.5", "\\frac{1}{2}", "numerical")], *limits)
        if not canary.correct:
            raise PoolError(f"no answer can be compared within {limits}: {canary.reason}")
    return outcomes


def _check_limits(limits: Limits) -> None:
    if not (math.isfinite(limits.seconds) and limits.seconds > 0 and limits.memory_mb >= LEAST_MEMORY):
        raise ValueError(f"limits: expected seconds > 0 and memory_mb >= {LEAST_MEMORY}, found {limits}")


def _checked(item: Item) -> tuple[str, float | None]:
    """Ground truth and tolerance of an item that makes sense."""
    if item.answer_type not in MATH_TYPES:
        raise ValueError(f"answer_type: expected one of {', '.join(MATH_TYPES)}, found {item.answer_type!r}")
    truth = item.ground_truth.strip()
    if not truth:
        raise ValueError("ground_truth: expected an answer, found an empty text: every response would be wrong")
    tolerance = item.tolerance
    if tolerance is not None and math.isnan(tolerance):
        tolerance = None  # how pandas reads a null
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: expected None or a number that is not negative, found {tolerance}")
    return truth, tolerance


class _Memory:
    """The last verdicts, for whatever thread asks."""

    def __init__(self, size: int) -> None:
        self._size, self._lock, self._known = size, threading.Lock(), OrderedDict[Task, Verdict]()

    def get(self, task: Task) -> Verdict | None:
        with self._lock:
            if task in self._known:
                self._known.move_to_end(task)
            return self._known.get(task)

    def put(self, task: Task, verdict: Verdict) -> None:
        if sum(len(part) for part in task if isinstance(part, str)) > 1000:
            return
        with self._lock:
            self._known[task] = verdict
            while len(self._known) > self._size:
                self._known.popitem(last=False)


_MEMORY = _Memory(REMEMBERED)
_default: Pool | None = None
_lock = threading.Lock()


def _default_pool(workers: int | None) -> Pool:
    global _default
    with _lock:
        if _default is None:
            _default = Pool(_cores())
        _default.size = max(_default.size, workers or 1)
        return _default


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_afresh() -> None:
    """In a forked process: the pool is not ours, and another thread may have held a lock."""
    global _default, _lock, _MEMORY
    _default, _lock, _MEMORY = None, threading.Lock(), _Memory(REMEMBERED)


os.register_at_fork(after_in_child=_start_afresh)
