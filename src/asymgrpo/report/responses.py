"""Some sampled responses of every method to every benchmark, chosen by a rule that looks at nothing but the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from asymgrpo import plan, records
from asymgrpo.config import BASE
from asymgrpo.report.untrusted import countdown_pieces, pieces

if TYPE_CHECKING:
    from asymgrpo.config import Run, Study

OF_EACH = 2
"""Correct and as many wrong responses of every backbone, method and benchmark."""

LONGEST_PROMPT = 1500
LONGEST_ANSWER = 200


def rule(study: Study) -> str:
    """How the responses are chosen, for people."""
    return (
        f"For each backbone, method and benchmark: the last checkpoint of the first seed, decoding {_decoding(study)}; "
        f"up to {OF_EACH} correct and {OF_EACH} wrong responses, the first ones in the order of the SHA-256 of problem "
        "and sample number. That order is the same for every method and knows nothing of what was written. Equal "
        "shares of right and wrong are shown, not the methods' own shares."
    )


def of_first_seed(study: Study) -> list[Run]:
    """The runs whose responses are shown: the first seed of what Table 2 evaluates, untrained policies first."""
    first = study.seeds[0]
    wanted = [
        run
        for run in plan.evaluated(study, "table2")
        if run.seed == (study.start_seed(run.backbone, first) if run.method == BASE else first)
    ]
    backbones = list(study.backbones)
    return sorted(wanted, key=lambda run: (backbones.index(run.backbone), run.method != BASE))


def chosen(study: Study, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The responses to show.

    Args:
        study: of one scale.
        runs: of one seed each; those without a final evaluation are left out.

    Returns:
        Rows with ``backbone``, ``method``, ``benchmark``, ``seed``, ``problem`` (its name), ``prompt``, ``truth``,
        ``response``, ``answer``, ``reason`` (lists of pieces, :mod:`asymgrpo.report.untrusted`), ``correct``,
        ``tokens``, ``cut`` (whether it was cut off at the longest response).

    Raises:
        ValueError: a file is there and cannot be read.
    """
    problems = {name: _problems(study.benchmark_file(name)) for name in study.benchmarks}
    found = []
    for run in runs:
        for benchmark in study.benchmarks:
            place = study.evaluation_dir(run)
            samples, scores = (place / f"{benchmark}.{kind}.parquet" for kind in ("samples", "scores"))
            if samples.is_file() and scores.is_file() and problems[benchmark]:
                found += [
                    run._asdict() | {"benchmark": benchmark} | row
                    for row in _of_file(samples, scores, problems[benchmark], _decoding(study))
                ]
    return found


def _decoding(study: Study) -> str:
    return study.artefact("table2").decodings[0]


def _problems(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    return {row["problem_id"]: row for row in records.read(path, records.BENCHMARK).to_pylist()}


def order(problem: str, sample: int) -> str:
    """What responses are sorted by before the first ones are taken."""
    return sha256(f"{problem}\n{sample}".encode()).hexdigest()


def _of_file(samples: Path, scores: Path, problems: dict[str, dict[str, Any]], decoding: str) -> list[dict[str, Any]]:
    verdicts = records.read(scores, records.SCORES)
    verdicts = verdicts.filter(
        pc.and_(pc.equal(verdicts["decoding"], decoding), pc.equal(verdicts["checkpoint"], "last"))
    )
    rows = sorted(verdicts.to_pylist(), key=lambda row: order(row["problem_id"], row["sample"]))
    rows = [row for row in rows if row["problem_id"] in problems]
    taken = [row for right in (True, False) for row in [r for r in rows if r["correct"] is right][:OF_EACH]]
    wanted = {(row["problem_id"], row["sample"]) for row in taken}
    names = sorted({problem for problem, _ in wanted})
    filters = [("decoding", "==", decoding), ("checkpoint", "==", "last"), ("problem_id", "in", names)]
    written = pq.read_table(samples, filters=filters).to_pylist() if wanted else []
    texts = {(row["problem_id"], row["sample"]): row["response"] for row in written}
    return [_row(row, problems[row["problem_id"]], texts.get((row["problem_id"], row["sample"]), "")) for row in taken]


def _row(row: dict[str, Any], problem: dict[str, Any], response: str) -> dict[str, Any]:
    convert = countdown_pieces if problem["answer_type"] == "countdown" else pieces
    prompt = "\n\n".join(message["content"] for message in problem["prompt"])
    return {
        "problem": pieces(row["problem_id"], LONGEST_ANSWER),
        "prompt": pieces(prompt, LONGEST_PROMPT),
        "truth": pieces(problem["ground_truth"], LONGEST_ANSWER),
        "response": convert(response),
        "answer": pieces(row["extracted"], LONGEST_ANSWER),
        "correct": row["correct"],
        "reason": pieces(row["reason"], LONGEST_ANSWER),
        "tokens": row["tokens"],
        "cut": row["finish_reason"] == "length",
    }
