"""Problems as files: training sets and benchmarks in the one schema that every backend reads.

Beside each file, under the same name as YAML, lie the settings that it was made with: `asymgrpo status` compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import as_messages, write
from asymgrpo.tasks.sources import fetched_problems


def write_training_problems(settings: Mapping[str, Any], output: Path) -> None:
    """Write the scale's training problems (`data.train`: problems, share_of_3, seed).

    Raises:
        ValueError: more problems are asked for than there are.
    """
    problems = countdown.training_problems(settings["problems"], settings["share_of_3"], settings["seed"])
    _write(problems, "countdown, trained part", output)
    _write_settings(settings, output)


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
    _write(problems, "countdown, held-out part", output, settings.get("answer_type", "countdown"))
    _write_settings(settings, output)


def write_fetched(settings: Mapping[str, Any], record: Path, output: Path) -> None:
    """Write the problems of a repository, which the record of their fetch lies beside.

    Raises:
        ValueError: naming the file or the problem that is not as config/benchmarks.yaml says.
    """
    rows, about = fetched_problems(settings, record)
    write(output, rows, about)
    _write_settings(settings, output)
    used = "" if about["used"] == about["problems"] else f", {about['used']} of them used"
    print(f"{output}: {about['problems']} problems of {about['repository']}{used}; licence: {about['licence']}")
    for problem, answer in about["corrected"].items():
        print(f"problem {problem}: has no answer in the source, and is given {answer}")
    for problem, remark in about["remarks"].items():
        print(f"problem {problem}: {remark}")


def _write(problems: Sequence[countdown.Problem], source: str, output: Path, answer_type: str = "countdown") -> None:
    rows = [
        {
            "problem_id": f"{'-'.join(map(str, problem.numbers))}={problem.target}",
            "prompt": as_messages(countdown.to_text(tokens.tolist())),
            "ground_truth": str(problem.target),
            "answer_type": answer_type,
            "unit": "",
            "tolerance": None,
            "source": source,
            "revision": countdown.GENERATOR_VERSION,
            "checksum": "",
        }
        for problem, tokens in zip(problems, countdown.prompt_tokens(problems), strict=True)
    ]
    write(output, rows)


def _write_settings(settings: Mapping[str, Any], output: Path) -> None:
    output.with_suffix(".yaml").write_text(yaml.safe_dump({"settings": dict(settings)}), encoding="utf-8")
