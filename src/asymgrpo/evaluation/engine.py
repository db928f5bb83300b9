"""What sampling needs and gives, whatever the engine: :mod:`.torch_engine` or :mod:`.vllm_engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from asymgrpo import records
from asymgrpo.tasks.problems import Message
from asymgrpo.training.spec import stream_seed

ENGINES = ("torch", "vllm")


@dataclass(frozen=True)
class Decoding:
    """How responses are drawn in the final evaluation."""

    temperature: float
    """0 is greedy."""
    samples: int | Mapping[str, int]
    """k, per problem: one number, or one for each benchmark."""
    checkpoints: tuple[str, ...]
    """Which of a run's policies: last, best."""

    def samples_of(self, benchmark: str) -> int:
        """k of a benchmark; ValueError if there is none for it."""
        if isinstance(self.samples, int):
            return self.samples
        if benchmark not in self.samples:
            raise ValueError(f"samples: {benchmark}: is missing; expected a number for it beside {dict(self.samples)}")
        return self.samples[benchmark]


def decodings_from(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Decoding]:
    """The decodings of a scale (`evaluation.final`), from plain values."""
    return {
        name: Decoding(float(d["temperature"]), _samples(d["samples"]), tuple(d["checkpoints"]))
        for name, d in values.items()
    }


def _samples(value: Any) -> int | dict[str, int]:
    return {name: int(k) for name, k in value.items()} if isinstance(value, Mapping) else int(value)


@dataclass(frozen=True)
class Settings:
    """What responses depend on beside policy, problems and decoding; and how they are computed."""

    sampler: str
    """One of :data:`ENGINES`."""
    max_tokens: int
    """Longest response."""
    seed: int
    """Of the random streams."""
    max_prompt_tokens: int
    """Longer prompts are used all the same, and listed in the record."""
    template: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the chat template, as in training."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the engine: arguments of vLLM's `LLM`."""
    device: str = "cpu"
    """cpu, or auto: a GPU if there is one."""
    threads: int = 1

    def __post_init__(self) -> None:
        """Reject an engine that there is not, and options of one that has none."""
        if self.sampler not in ENGINES:
            raise ValueError(f"sampler: expected one of {', '.join(ENGINES)}, found {self.sampler!r}")
        if self.sampler == "torch" and (self.options or self.template):
            raise ValueError("engine settings and template: expected none, because the sampler is torch")


@dataclass(frozen=True)
class Problems:
    """A benchmark, as it is sampled."""

    name: str
    file: Path
    ids: Sequence[str]
    prompts: Sequence[Sequence[Message]]
    answer_types: frozenset[str]

    @classmethod
    def read(cls, name: str, file: Path) -> Problems:
        """From parquet (:data:`asymgrpo.records.BENCHMARK`)."""
        table = records.read(file, records.BENCHMARK).to_pydict()
        return cls(name, file, table["problem_id"], table["prompt"], frozenset(table["answer_type"]))


class Draw(NamedTuple):
    """A decoding of one benchmark.

    Attributes:
        decoding: its name.
        temperature: 0 is greedy.
        samples: k, per problem.
        stream: seed of its random numbers: the same for every policy, so that policies are compared in pairs.
    """

    decoding: str
    temperature: float
    samples: int
    stream: int

    @classmethod
    def of(cls, benchmark: str, name: str, decoding: Decoding, seed: int) -> Draw:
        """Of an evaluation's seed."""
        stream = stream_seed("evaluation", seed, benchmark, name)
        return cls(name, decoding.temperature, decoding.samples_of(benchmark), stream)


class Response(NamedTuple):
    """What a policy answered.

    Attributes:
        text: without the end token.
        tokens: how many, the end token included.
        finish_reason: stop or length.
    """

    text: str
    tokens: int
    finish_reason: str


class Engine(Protocol):
    """Samples from one policy."""

    def prompt_tokens(self, problems: Problems) -> list[int]:
        """Length of every prompt in tokens, chat template included."""

    def sample(self, problems: Problems, draws: Sequence[Draw]) -> list[list[list[Response]]]:
        """Responses by draw, problem and sample."""
