"""Final evaluation, second half: a verdict on every sampled response. Needs no torch, so it starts quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asymgrpo import records
from asymgrpo.tasks.problems import ANSWER_TYPES, text_of
from asymgrpo.verification import Item, countdown, verify_many

COUNTDOWN = "countdown"
UNREADABLE = frozenset({"no end token", "wrong number of steps", "malformed step"})
"""Reasons of the countdown verifier that mean: no answer can be read. The result of the last step is one."""


class Asked(NamedTuple):
    """A response with its problem, a row of :data:`asymgrpo.records.BENCHMARK`."""

    problem: Mapping[str, Any]
    response: str
    finished: bool


class Score(NamedTuple):
    """A verdict, as any verifier gives it."""

    correct: bool
    extracted: str
    reason: str


def score_samples(samples: Path, benchmark: Path, output: Path, threads: int = 1) -> None:
    """Verify the responses in `samples` and write :data:`asymgrpo.records.SCORES` to `output`.

    Args:
        samples: parquet (:data:`asymgrpo.records.SAMPLES`).
        benchmark: parquet of the problems.
        output: parquet.
        threads: processes that compare mathematical answers side by side.

    Raises:
        ValueError: a response to a problem that the benchmark lacks, an answer type without a verifier, or no process
            can compare anything; it names the file.
    """
    problems = {row["problem_id"]: row for row in records.read(benchmark, records.BENCHMARK).to_pylist()}
    unknown = {row["answer_type"] for row in problems.values()} - set(ANSWER_TYPES)
    if unknown:
        expected = ", ".join(ANSWER_TYPES)
        raise ValueError(f"{benchmark}: answer_type: expected one of {expected}, found {sorted(unknown)}")
    rows = records.read(samples, records.SAMPLES).to_pydict()
    missing = set(rows["problem_id"]) - set(problems)
    if missing:
        raise ValueError(f"{samples}: problems that are not in {benchmark}: {sorted(missing)[:3]}")
    asked = [
        Asked(problems[problem], response, reason == "stop")
        for problem, response, reason in zip(rows["problem_id"], rows["response"], rows["finish_reason"], strict=True)
    ]
    scores: list[Score | None] = [None] * len(asked)
    is_countdown = np.array([item.problem["answer_type"] == COUNTDOWN for item in asked], bool)
    for where, verify in ((is_countdown, _countdown), (~is_countdown, _mathematics)):
        chosen = np.flatnonzero(where)
        if len(chosen) == 0:
            continue
        try:
            found = verify([asked[i] for i in chosen], threads)
        except (ValueError, RuntimeError) as error:  # a RuntimeError: no process can be started
            raise ValueError(f"{samples}: cannot be scored: {error}") from error
        for i, score in zip(chosen, found, strict=True):
            scores[i] = score
    kept = ("checkpoint", "decoding", "problem_id", "sample", "tokens", "finish_reason")
    columns = {name: rows[name] for name in kept}
    for name in Score._fields:
        columns[name] = [getattr(score, name) for score in scores]
    records.write(output, columns, records.SCORES)


def _countdown(asked: Sequence[Asked], threads: int) -> list[Score]:
    prompts = [text_of(item.problem["prompt"]) for item in asked]
    codes = countdown.verify_texts(prompts, [item.response for item in asked], [item.finished for item in asked])
    reasons = [countdown.REASONS[code] for code in codes]
    return [
        Score(reason == "", "" if reason in UNREADABLE else item.response.split()[-1], reason)
        for item, reason in zip(asked, reasons, strict=True)
    ]


def _mathematics(asked: Sequence[Asked], threads: int) -> list[Score]:
    fields = ("ground_truth", "answer_type", "unit", "tolerance")
    items = [Item(item.response, *(item.problem[field] for field in fields)) for item in asked]
    return [Score(*verdict) for verdict in verify_many(items, workers=threads)]
