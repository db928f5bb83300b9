"""Which problems of a benchmark are trained on: the same text, whatever its spaces, dollars and case."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asymgrpo import records
from asymgrpo.tasks.problems import about, text_of

FIELDS = ("benchmark", "problems", "trained_on", "problem_ids")
_SAME = (
    (r"\\[dt]frac", r"\\frac"),
    (r"\\(?:left|right|displaystyle|quad|qquad)(?![a-z])|\\[,;:! ()\[\]]", ""),
    (r"[\s$~;:!?'\"`]", ""),
    (r"[.,](?!\d)", ""),  # before a digit they stay: 2.5 and (1,2) are not 25 and (12)
)


@dataclass(frozen=True)
class Overlap:
    """How much of a benchmark is in the training set."""

    benchmark: str
    problems: int
    """In the benchmark."""
    trained_on: int
    """Those of them that are in the training set too."""
    problem_ids: tuple[str, ...]
    """Of those."""


def normalised(text: str) -> str:
    """A text without what does not change a problem: case, spaces, punctuation, dollars, LaTeX's spacing."""
    text = unicodedata.normalize("NFKC", text).lower()
    for pattern, replacement in _SAME:
        text = re.sub(pattern, replacement, text)
    return text


def overlap(training: Path, benchmarks: Mapping[str, Path]) -> list[Overlap]:
    """For each benchmark, its problems whose normalised question is also one of the training set.

    Args:
        training: parquet of training problems.
        benchmarks: name -> parquet of problems.
    """
    trained = {key for _, key in _keys(training)}
    found = []
    for name, path in benchmarks.items():
        keys = list(_keys(path))
        shared = tuple(problem for problem, key in keys if key in trained)
        found.append(Overlap(name, len(keys), len(shared), shared))
    return found


def _keys(path: Path) -> Iterable[tuple[str, str]]:
    table = records.read(path, records.BENCHMARK)
    # sets may have prompts of their own around the question
    before, _, after = about(path).get("prompt", "{question}").partition("{question}")
    prompts = map(text_of, table["prompt"].to_pylist())
    texts = (normalised(prompt.removeprefix(before).removesuffix(after)) for prompt in prompts)
    return zip(table["problem_id"].to_pylist(), texts, strict=True)


def write_overlap(found: Iterable[Overlap], output: Path) -> None:
    """Write a row per benchmark: :data:`FIELDS`, the identifiers separated by spaces."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for row in found:
            writer.writerow([row.benchmark, row.problems, row.trained_on, " ".join(row.problem_ids)])


def read_overlap(path: Path) -> list[Overlap]:
    """What :func:`write_overlap` has written."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Overlap(row["benchmark"], int(row["problems"]), int(row["trained_on"]), tuple(row["problem_ids"].split()))
            for row in csv.DictReader(file)
        ]
