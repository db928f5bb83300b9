"""Verification of math responses against the scorer that verl ships, on the same responses and the same cores.

verl's `verl.utils.reward_score.math_verify.compute_score` is called from as many threads as it has processes, ours as
one batch, in alternating rounds, so that a busy machine slows both alike. Prints milliseconds per response of each, the
ratio, and where the verdicts differ; exits with status 1 if the ratio is below 5 or a difference is not one of those
that are intended (see asymgrpo/verification/symbolic.py).

    python benchmarks/verify.py                       # 20,000 responses; needs verl (make test-verl installs it)
    python benchmarks/verify.py --responses 2000
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from math_responses import Response, responses

from asymgrpo.verification import Item, Verdict, verify_many

VERL_PROCESSES = 4
VERL_SECONDS = 5.0
"""Its parser and grader give up after so long, silently: a response that took it longer may not have been judged."""

TARGET = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=4, help="alternations between the two")
    parser.add_argument("--cores", type=int, default=2, help="that both may use")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.cores])
    found = responses(chosen.responses, seed=chosen.seed)
    size = -(-len(found) // chosen.rounds // 8) * 8  # whole groups of rollouts
    parts = [found[start : start + size] for start in range(0, len(found), size)]
    characters = sum(len(response.text) for response in found) / len(found)
    print(f"{len(found)} responses of {characters:.0f} characters on average, {chosen.cores} cores")

    ours_on(responses(64, seed=-1), chosen.cores)  # both start their processes before the clock does
    start_theirs()
    theirs_on(responses(64, seed=-1))
    times: list[tuple[float, ...]] = []
    verdicts: list[Verdict] = []
    scores: list[tuple[float, float]] = []
    for number, part in enumerate(parts, 1):
        marks = [clocks()]
        verdicts += ours_on(part, chosen.cores)
        marks.append(clocks())
        scores += theirs_on(part)
        marks.append(clocks())
        times.append(tuple(after - before for a, b in pairwise(marks) for before, after in zip(a, b, strict=True)))
        show(f"round {number}", times[-1], len(part))
    total = tuple(map(sum, zip(*times, strict=True)))
    show("all", total, len(found))
    unintended = compare(found, verdicts, scores)
    return 1 if unintended or total[2] / total[0] < TARGET else 0


def show(name: str, times: tuple[float, ...], count: int) -> None:
    ours, our_cpu, theirs, their_cpu = (seconds / count * 1000 for seconds in times)
    print(
        f"{name}: ours {ours:.3f} ms a response ({our_cpu:.3f} ms of CPU), verl's {theirs:.3f} ({their_cpu:.3f}); "
        f"ratio {theirs / ours:.1f} ({their_cpu / our_cpu:.1f}), target {TARGET:.0f}",
        flush=True,
    )


def clocks() -> tuple[float, float]:
    """Wall-clock and CPU seconds so far; the latter of this process and all of its descendants, ended ones included."""
    ticks = dict[int, list[int]]()
    parents = dict[int, int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended just now
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
            ticks[int(path.parent.name)] = [int(field) for field in fields[11:15]]  # own, and of children waited for
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    cpu = sum(sum(ticks[pid]) for pid in family if pid in ticks) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), cpu


def start_theirs() -> None:
    """Have all of verl's processes running; it starts them one by one, and each imports torch first."""
    from verl.utils.reward_score import math_verify

    pool, seen = math_verify._get_pool(), set()
    until = time.monotonic() + 300
    while len(seen) < VERL_PROCESSES and time.monotonic() < until:
        seen |= {future.result() for future in [pool.submit(os.getpid) for _ in range(64)]}
        time.sleep(0.2)
    if len(seen) < VERL_PROCESSES:
        sys.exit(f"only {len(seen)} of verl's {VERL_PROCESSES} processes have started")


def ours_on(part: Sequence[Response], workers: int) -> list[Verdict]:
    return verify_many([Item(*response) for response in part], workers=workers)


def theirs_on(part: Sequence[Response]) -> list[tuple[float, float]]:
    """(score, seconds) of each response."""
    from verl.utils.reward_score.math_verify import compute_score

    def one(response: Response) -> tuple[float, float]:
        start = time.perf_counter()
        return compute_score(response.text, response.ground_truth), time.perf_counter() - start

    with ThreadPoolExecutor(VERL_PROCESSES) as threads:
        return list(threads.map(one, part))


def compare(found: Sequence[Response], verdicts: Sequence[Verdict], scores: Sequence[tuple[float, float]]) -> int:
    """Print where the two differ; returns how many of the differences are not intended."""
    correct = Counter(verdict.correct for verdict in verdicts)
    print(f"correct: ours {correct[True] / len(found):.2%}, verl's {sum(s > 0 for s, _ in scores) / len(found):.2%}")
    print(f"reasons: {dict(Counter(verdict.reason for verdict in verdicts if verdict.reason))}")
    differing = [
        (response, verdict, seconds)
        for response, verdict, (score, seconds) in zip(found, verdicts, scores, strict=True)
        if verdict.correct != (score > 0)
    ]
    late = [entry for entry in differing if entry[2] >= VERL_SECONDS]
    judged = [entry for entry in differing if entry[2] < VERL_SECONDS]
    print(f"verdicts differ: {len(differing)}, of these {len(late)} where verl's timed out")
    reasons = Counter(intended(response, verdict) for response, verdict, _ in judged)
    for reason, count in reasons.items():
        print(f"  {count}: {reason or 'NOT INTENDED'}")
    for response, verdict, _ in judged:
        if not intended(response, verdict):
            print(f"    ours {verdict.correct}, {response.ground_truth!r} in ...{response.text[-80:]!r}")
    return reasons[""]


def intended(response: Response, verdict: Verdict) -> str:
    """The reason for a difference, or an empty text."""
    if verdict.correct and "%" in verdict.extracted + response.ground_truth:
        return "percentages, which verl's installation cannot parse; ours accepts them"
    return ""


if __name__ == "__main__":
    sys.exit(main())
