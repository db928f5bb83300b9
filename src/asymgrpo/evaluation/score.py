"""Final evaluation, second half: a verdict on every sampled response. Needs no torch, so it starts quickly."""

from __future__ import annotations

from pathlib import Path

from asymgrpo import records
from asymgrpo.verification import countdown


def score_samples(samples: Path, benchmark: Path, output: Path) -> None:
    """Verify the responses in `samples` and write :data:`asymgrpo.records.SCORES` to `output`.

    Raises:
        ValueError: a response to a problem that the benchmark lacks, or an answer type without a verifier.
    """
    problems = records.read(benchmark, records.BENCHMARK).to_pydict()
    unknown = set(problems["answer_type"]) - {"countdown"}
    if unknown:
        raise ValueError(f"{benchmark}: answer_type: expected countdown, found {sorted(unknown)}")
    prompts = dict(zip(problems["problem_id"], problems["prompt"], strict=True))
    rows = records.read(samples, records.SAMPLES).to_pydict()
    missing = set(rows["problem_id"]) - set(prompts)
    if missing:
        raise ValueError(f"{samples}: problems that are not in {benchmark}: {sorted(missing)[:3]}")
    reasons = countdown.verify_texts(
        [prompts[problem] for problem in rows["problem_id"]],
        rows["response"],
        [reason == "stop" for reason in rows["finish_reason"]],
    )
    kept = ("checkpoint", "decoding", "problem_id", "sample", "tokens", "finish_reason")
    columns = {name: rows[name] for name in kept}
    columns |= {"correct": reasons == 0, "reason": [countdown.REASONS[code] for code in reasons]}
    records.write(output, columns, records.SCORES)
