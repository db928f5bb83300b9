"""Problems as files: training sets and benchmarks in the one schema that every backend reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asymgrpo import records
from asymgrpo.tasks import countdown


def write_training_problems(settings: Mapping[str, Any], output: Path) -> None:
    """Write the scale's training problems (`data.train`: problems, share_of_3, seed).

    Raises:
        ValueError: more problems are asked for than there are.
    """
    problems = countdown.training_problems(settings["problems"], settings["share_of_3"], settings["seed"])
    _write(problems, "countdown, trained part", output)


def write_benchmark(settings: Mapping[str, Any], output: Path) -> None:
    """Write a benchmark's problems from its settings in config/benchmarks.yaml.

    Raises:
        ValueError: more problems are asked for than there are.
    """
    large = settings["one_number_from"]
    problems = countdown.benchmark_problems(
        settings["problems"],
        settings["seed"],
        settings["numbers"],
        settings["needs_multiplication"],
        settings["max_solutions"],
        tuple(large) if large else None,
    )
    _write(problems, "countdown, held-out part", output)


def _write(problems: Sequence[countdown.Problem], source: str, output: Path) -> None:
    rows = [
        {
            "problem_id": f"{'-'.join(map(str, problem.numbers))}={problem.target}",
            "prompt": countdown.to_text(tokens.tolist()),
            "ground_truth": str(problem.target),
            "answer_type": "countdown",
            "source": source,
            "revision": countdown.GENERATOR_VERSION,
        }
        for problem, tokens in zip(problems, countdown.prompt_tokens(problems), strict=True)
    ]
    records.write(output, rows, records.BENCHMARK)
