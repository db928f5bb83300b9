"""Final evaluation, first half: sample responses to every benchmark from saved policies, and keep every one.

Scoring is separate (:mod:`asymgrpo.evaluation.score`), so a better verifier rescores without sampling again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asymgrpo import records
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.generation import sample
from asymgrpo.policy.model import Policy
from asymgrpo.tasks import countdown
from asymgrpo.training.runtime import prepare
from asymgrpo.training.spec import stream_seed

CHUNK = 8
"""Samples per problem that are decoded as one group."""


@dataclass(frozen=True)
class Decoding:
    """How responses are drawn in the final evaluation."""

    temperature: float
    """0 is greedy."""
    samples: int
    """k, per problem."""
    checkpoints: tuple[str, ...]
    """Which of a run's policies: last, best."""


def decodings_from(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Decoding]:
    """The decodings of a scale (`evaluation.final`), from plain values."""
    return {
        name: Decoding(float(d["temperature"]), int(d["samples"]), tuple(d["checkpoints"]))
        for name, d in values.items()
    }


def sample_benchmarks(
    policies: Mapping[str, Path],
    benchmarks: Mapping[str, Path],
    decodings: Mapping[str, Decoding],
    max_tokens: int,
    seed: int,
    output: Path,
    device: str,
    threads: int,
) -> None:
    """Write `output/<benchmark>.samples.parquet` for each benchmark; one that is there already is kept.

    Policies, methods and checkpoints of one seed are given the same random numbers, so they are compared in pairs.

    Args:
        policies: checkpoint name (last, best) -> Hugging Face directory.
        benchmarks: name -> parquet of problems (:data:`asymgrpo.records.BENCHMARK`).
        decodings: name -> decoding; one whose checkpoints are not among the policies is left out.
        max_tokens: longest response.
        seed: of the random streams.
        output: directory.
        device: cpu, or auto.
        threads: for torch.
    """
    where = prepare(device, threads)
    loaded = {name: huggingface.load(path, where) for name, path in policies.items()}
    for benchmark, path in benchmarks.items():
        target = output / f"{benchmark}.samples.parquet"
        if target.exists():
            print(f"{target}: there already", flush=True)
            continue
        problems = records.read(path, records.BENCHMARK)
        prompts, ids = problems["prompt"].to_pylist(), problems["problem_id"].to_pylist()
        rows: list[dict[str, Any]] = []
        for name, decoding in decodings.items():
            for checkpoint in decoding.checkpoints:
                if checkpoint in loaded:
                    stream = stream_seed("evaluation", seed, benchmark, name)
                    found = _responses(loaded[checkpoint], prompts, decoding, max_tokens, stream)
                    rows += [
                        {"checkpoint": checkpoint, "decoding": name, "problem_id": ids[problem], **row}
                        for problem, row in found
                    ]
        records.write(target, rows, records.SAMPLES)
        print(f"{target}: {len(rows)} responses", flush=True)


def _responses(
    policy: Policy, prompts: list[str], decoding: Decoding, max_tokens: int, stream: int
) -> list[tuple[int, dict[str, Any]]]:
    """(problem index, columns) of every response, ordered by problem and sample."""
    device = policy.embedding.device
    tokens = torch.tensor([countdown.to_tokens(prompt) for prompt in prompts], device=device)
    generator = torch.Generator().manual_seed(stream)
    uniforms = torch.rand((len(prompts), decoding.samples, max_tokens), generator=generator).to(device)
    parts = [
        sample(
            policy,
            tokens,
            chunk.shape[1],
            max_tokens,
            decoding.temperature,
            countdown.PAD,
            countdown.EOS,
            chunk if decoding.temperature > 0 else None,
        )
        for chunk in uniforms.split(CHUNK, 1)
    ]
    responses = torch.cat([part.tokens for part in parts], 1).cpu().numpy()
    lengths = torch.cat([part.mask.sum(-1) for part in parts], 1).cpu().numpy()
    ended = (responses == countdown.EOS).any(-1)
    return [
        (
            problem,
            {
                "sample": number,
                "response": countdown.to_text(responses[problem, number].tolist()),
                "tokens": int(lengths[problem, number]),
                "finish_reason": "stop" if ended[problem, number] else "length",
            },
        )
        for problem in range(len(prompts))
        for number in range(decoding.samples)
    ]
