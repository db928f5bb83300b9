"""What determines a run's result, as nested dataclasses; parsed from the plain dict that the DAG hands over."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class LossSettings:
    """Settings of the surrogate and the entropy bonus (:mod:`asymgrpo.training.loss`)."""

    clip_low: float
    """The ratio's gain is cut below 1 - clip_low."""
    clip_high: float
    """... and above 1 + clip_high; Clip-higher raises only this one."""
    dual_clip: float
    """For negative advantages the loss per token is at most dual_clip * |A|; above 1."""
    entropy_coefficient: float
    """Weight of the entropy bonus; 0 is none."""


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW with a constant learning rate (a cosine to zero in the warm start)."""

    learning_rate: float
    beta1: float
    beta2: float
    weight_decay: float
    max_gradient_norm: float


@dataclass(frozen=True)
class RolloutSettings:
    """One step's batch, counted in prompts as in the paper, not in rollouts."""

    prompts_per_step: int
    group_size: int
    """G, rollouts per prompt."""
    prompts_per_minibatch: int
    epochs: int
    """Passes over the step's rollouts."""
    temperature: float
    max_prompt_tokens: int
    """Longer prompts are used all the same, and listed in run.yaml."""
    max_response_tokens: int


@dataclass(frozen=True)
class EvaluationSettings:
    """Greedy evaluation while training."""

    every: int
    """Steps between evaluations; the start policy and the last step are always evaluated."""
    benchmarks: tuple[str, ...]
    select_on: str
    """The best policy is the earliest with the highest accuracy on this benchmark (the paper: MATH-500, a test set)."""

    def __post_init__(self) -> None:
        """Reject a choice that no evaluation could make."""
        if self.select_on not in self.benchmarks:
            raise ValueError(
                f"evaluation.select_on: expected one of {', '.join(self.benchmarks)}, found {self.select_on!r}"
            )


@dataclass(frozen=True)
class RunSpec:
    """A run: (scale, backbone, method, seed) and all its settings."""

    scale: str
    backbone: str
    method: str
    seed: int
    backend: str
    estimator: dict[str, Any]
    loss: LossSettings
    optimiser: OptimiserSettings
    rollout: RolloutSettings
    steps: int
    evaluation: EvaluationSettings
    checkpoint_every: int
    device: str
    """cpu, or auto: a GPU if torch sees one."""
    threads: int
    warm_start_seed: int
    start: dict[str, Any]
    """Of a model from the hub: repository, revision, template (arguments of its chat template). Empty for a warm
    start."""
    verl: dict[str, Any]
    """How verl computes: Hydra key -> value, nothing that changes the algorithm. Empty for the torch backend."""

    @property
    def name(self) -> str:
        """backbone/method/seed-n, for messages."""
        return f"{self.backbone}/{self.method}/seed-{self.seed}"


@dataclass(frozen=True)
class WarmStartSpec:
    """The supervised start policy of one backbone and warm-start seed."""

    scale: str
    backbone: str
    seed: int
    policy: dict[str, Any]
    optimiser: OptimiserSettings
    steps: int
    batch_size: int
    shares: dict[int, float]
    """Number of numbers in a problem -> share of the batch."""
    large_share: float
    """Share of problems with one number above 9, which reinforcement learning never sees."""
    device: str
    threads: int


def run_spec(values: Mapping[str, Any]) -> RunSpec:
    """Parse a run spec; ValueError names the key that is missing or unknown."""
    return _parse(RunSpec, values, "run spec")


def warm_start_spec(values: Mapping[str, Any]) -> WarmStartSpec:
    """Parse a warm-start spec; ValueError names the key that is missing or unknown."""
    spec = _parse(WarmStartSpec, values, "warm start spec")
    return dataclasses.replace(spec, shares={int(n): float(share) for n, share in spec.shares.items()})


def what_counts(spec: RunSpec) -> RunSpec:
    """The spec without how verl computes: after an out-of-memory error with other budgets, the run goes on.

    The number of workers stays, because a checkpoint has one file for each. With the torch backend all of it counts.
    """
    if spec.backend != "verl":
        return spec
    kept = {key: spec.verl.get(key) for key in ("trainer.nnodes", "trainer.n_gpus_per_node")}
    return dataclasses.replace(spec, verl=kept)


def fingerprint(spec: RunSpec | WarmStartSpec, *inputs: Path) -> str:
    """A short hash of all values and of the input files' contents: what a checkpoint must agree with to be resumed."""
    hashed = hashlib.blake2b(json.dumps(dataclasses.asdict(spec), sort_keys=True).encode(), digest_size=8)
    for path in inputs:
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def stream_seed(*key: str | int) -> int:
    """A seed for one random stream, e.g. ("rollouts", run seed, step): the same for every method of that seed."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


_NESTED = {
    "loss": LossSettings,
    "optimiser": OptimiserSettings,
    "rollout": RolloutSettings,
    "evaluation": EvaluationSettings,
}


def _parse(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(values) != names:
        missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
        raise ValueError(f"{where}: keys missing: {missing}, keys unknown: {unknown}")
    parsed = {
        key: _parse(_NESTED[key], value, f"{where}: {key}") if key in _NESTED else value
        for key, value in values.items()
    }
    if "benchmarks" in parsed:
        parsed["benchmarks"] = tuple(parsed["benchmarks"])
    return kind(**parsed)
