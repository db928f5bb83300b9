"""A run's problems in verl's columns: prompts in the order of training, benchmarks for validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asymgrpo import records
from asymgrpo.tasks import lengths
from asymgrpo.training.batches import problems_of_step
from asymgrpo.training.spec import RunSpec


@dataclass(frozen=True)
class PromptLengths:
    """Prompts in tokens, chat template included."""

    longest: int
    tokens: dict[str, dict[str, int]]
    """File's name -> problem id -> tokens."""

    def record(self, limit: int) -> dict[str, Any]:
        """For run.yaml: which prompts are longer than the stated limit. All of them are used."""
        long = {
            name: {problem: count for problem, count in tokens.items() if count > limit}
            for name, tokens in self.tokens.items()
        }
        return {
            "limit": limit,
            "longest": self.longest,
            "problems": {name: len(tokens) for name, tokens in self.tokens.items()},
            "longer_than_limit": {name: found for name, found in long.items() if found},
            "dropped": 0,
        }


def write_problems(spec: RunSpec, problems: Path, benchmarks: Mapping[str, Path], directory: Path) -> dict[str, int]:
    """Write train.parquet, a row per prompt of each step in order, and validation.parquet; returns problems per
    benchmark.

    Raises:
        ValueError: a benchmark's file is missing, or there are fewer problems than a step takes.
    """
    if missing := [name for name in spec.evaluation.benchmarks if name not in benchmarks]:
        raise ValueError(f"evaluation.benchmarks: {missing[0]}: expected its file among {sorted(benchmarks)}")
    rows = records.read(problems, records.BENCHMARK).to_pylist()
    wanted = spec.rollout.prompts_per_step
    if len(rows) < wanted:
        raise ValueError(f"{problems}: {len(rows)} problems, but rollout.prompts_per_step is {wanted}")
    order = [
        int(index)
        for step in range(1, spec.steps + 1)
        for index in problems_of_step(spec.seed, step, len(rows), wanted)
    ]
    _write(directory / "train.parquet", [_verl_row("train", index, rows[index]) for index in order])
    validation, counts = [], {}
    for name in spec.evaluation.benchmarks:
        found = records.read(benchmarks[name], records.BENCHMARK).to_pylist()
        counts[name] = len(found)
        validation += [_verl_row(name, index, row) for index, row in enumerate(found)]
    _write(directory / "validation.parquet", validation)
    return counts


def prompt_lengths(spec: RunSpec, policy: Path, problems: Path, benchmarks: Mapping[str, Path]) -> PromptLengths:
    """Tokens of every prompt of the training set and of the benchmarks that are used, as verl will count them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(policy, trust_remote_code=False, local_files_only=True)
    template = spec.start.get("template", {})
    files = {"train": problems} | {name: benchmarks[name] for name in spec.evaluation.benchmarks}
    tokens = {}
    for name, path in files.items():
        table = records.read(path, records.BENCHMARK).to_pydict()
        counts = lengths.prompt_lengths(table["prompt"], tokenizer, **template)
        tokens[name] = dict(zip(table["problem_id"], counts, strict=True))
    return PromptLengths(max(max(counts.values()) for counts in tokens.values()), tokens)


def _verl_row(source: str, index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    answer = {key: row[key] for key in ("ground_truth", "answer_type", "unit", "tolerance")}
    return {
        "data_source": source,
        "prompt": row["prompt"],
        "reward_model": {"style": "rule", "index": index, **answer},
        "extra_info": {"index": index},
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
