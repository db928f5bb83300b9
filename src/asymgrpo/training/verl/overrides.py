"""A run spec as verl's Hydra overrides. Pure: needs no verl.

What decides a run's result comes from the spec and is written here, by the names that verl 0.9.1 gives it. How it is
computed (tokens per GPU, memory, parallelism) is the scale's `verl:` block, which may hold any other key of verl's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asymgrpo.training.spec import RunSpec

PACKAGE = "asymgrpo.training.verl"
ALGORITHM = ("algorithm.", "actor_rollout_ref.rollout.val_kwargs.")
"""Sections of verl's configuration that are about the method alone."""

CHECKPOINTS_KEPT = 2
"""verl removes the oldest checkpoint before it has noted the new one: with 1 a kill in between would lose
everything."""


@dataclass(frozen=True)
class Files:
    """Where a run's own files are, absolute."""

    policy: Path
    """Start policy in Hugging Face layout."""
    train: Path
    """Parquet in verl's columns, a row per prompt in the order of training."""
    validation: Path
    checkpoints: Path
    task: Path
    log: Path
    """Directory of verl's own JSONL log."""
    agent: Path
    """verl's list of agent loops, with :mod:`asymgrpo.training.verl.agent`."""


def overrides(spec: RunSpec, files: Files, prompt_tokens: int, validate_first: bool, attempt: int) -> dict[str, Any]:
    """Hydra key -> value: what the spec decides, then the scale's `verl:` block.

    Args:
        spec: of the run; `spec.verl` must not set a key that is derived here (:data:`DERIVED`).
        files: of the run.
        prompt_tokens: the longest prompt that occurs, at least `spec.rollout.max_prompt_tokens`: verl stops at a longer
            one, and dropping it silently is not an option.
        validate_first: whether the policy that training (re)starts from is still to be evaluated.
        attempt: number of this start, for the name of verl's own log, which it truncates.

    Raises:
        ValueError: naming the key, if `spec.verl` sets what is derived, or the spec asks for what verl cannot do.
    """
    if taken := sorted(key for key in spec.verl if is_derived(key)):
        raise ValueError(
            f"verl: {taken[0]}: is decided by the run's own settings; expected only keys about performance"
        )
    derived = _derived(spec, files, prompt_tokens, validate_first, attempt)
    return derived | dict(spec.verl)


def command_line(values: Mapping[str, Any]) -> list[str]:
    """`key=value` in Hydra's grammar."""
    return [f"{key}={_quoted(value)}" for key, value in values.items()]


def bare(key: str) -> str:
    """A key without Hydra's prefix for new ones."""
    return key.lstrip("+")


def is_derived(key: str) -> bool:
    """Whether `key` decides what is computed.

    It is a key of :data:`DERIVED`, holds one or is inside one, or is in a section of :data:`ALGORITHM`.
    """
    name = key.lstrip("+~")
    if name.startswith(ALGORITHM):
        return True
    return any(f"{name}.".startswith(f"{known}.") or f"{known}.".startswith(f"{name}.") for known in DERIVED)


def _derived(spec: RunSpec, files: Files, prompt_tokens: int, validate_first: bool, attempt: int) -> dict[str, Any]:
    if spec.evaluation.every % spec.checkpoint_every:
        raise ValueError(
            f"training.checkpoint_every: found {spec.checkpoint_every}, expected a divisor of evaluation.every, which "
            f"is {spec.evaluation.every}: the best policy is taken from a checkpoint"
        )
    return {
        **_algorithm(spec),
        **_data(spec, files, prompt_tokens),
        **_actor(spec, files),
        **_rollout(spec, files, prompt_tokens),
        **_trainer(spec, files, validate_first, attempt),
    }


def _algorithm(spec: RunSpec) -> dict[str, Any]:
    """Sec. 2 and 4: only the estimator differs between methods; no KL term, no critic."""
    estimator = dict(spec.estimator)
    name = {"family": "asymgrpo", "mean_centred": "asymgrpo_mean_centred"}[estimator.pop("name")]
    return {
        "algorithm.adv_estimator": name,
        **{f"+algorithm.{key}": value for key, value in estimator.items()},
        "algorithm.use_kl_in_reward": False,
        "critic.enable": False,
    }


def _data(spec: RunSpec, files: Files, prompt_tokens: int) -> dict[str, Any]:
    return {
        "data.train_files": str(files.train),
        "data.val_files": str(files.validation),
        "data.train_batch_size": spec.rollout.prompts_per_step,
        "data.max_prompt_length": max(prompt_tokens, spec.rollout.max_prompt_tokens),
        "data.max_response_length": spec.rollout.max_response_tokens,
        # the file has the order of training, the same for every method and backend
        "data.shuffle": False,
        "data.validation_shuffle": False,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.trust_remote_code": False,
        "+data.apply_chat_template_kwargs": dict(spec.start.get("template", {})),
    }


def _actor(spec: RunSpec, files: Files) -> dict[str, Any]:
    """App. F: PPO-style clipped loss, token-mean over a minibatch of prompts (verl multiplies by G), AdamW."""
    actor, loss, optimiser = "actor_rollout_ref.actor", spec.loss, spec.optimiser
    return {
        "actor_rollout_ref.model.path": str(files.policy),
        "actor_rollout_ref.model.external_lib": f"{PACKAGE}.plugin",
        "actor_rollout_ref.model.trust_remote_code": False,
        f"{actor}.policy_loss.loss_mode": "asymgrpo",
        f"{actor}.loss_agg_mode": "token-mean",
        f"{actor}.clip_ratio": loss.clip_low,
        f"{actor}.clip_ratio_low": loss.clip_low,
        f"{actor}.clip_ratio_high": loss.clip_high,
        f"{actor}.clip_ratio_c": loss.dual_clip,
        f"{actor}.entropy_coeff": loss.entropy_coefficient,
        f"{actor}.use_kl_loss": False,
        f"{actor}.ppo_mini_batch_size": spec.rollout.prompts_per_minibatch,
        f"{actor}.ppo_epochs": spec.rollout.epochs,
        f"{actor}.shuffle": False,
        f"{actor}.optim.lr": optimiser.learning_rate,
        f"{actor}.optim.betas": [optimiser.beta1, optimiser.beta2],
        f"{actor}.optim.weight_decay": optimiser.weight_decay,
        f"{actor}.optim.clip_grad": optimiser.max_gradient_norm,
        f"{actor}.grad_clip": optimiser.max_gradient_norm,
        f"{actor}.optim.lr_scheduler_type": "constant",
        f"{actor}.optim.lr_warmup_steps": 0,
        f"{actor}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        f"{actor}.checkpoint.load_contents": ["model", "optimizer", "extra"],
    }


def _rollout(spec: RunSpec, files: Files, prompt_tokens: int) -> dict[str, Any]:
    rollout = "actor_rollout_ref.rollout"
    longest = max(prompt_tokens, spec.rollout.max_prompt_tokens) + spec.rollout.max_response_tokens
    return {
        f"{rollout}.name": "vllm",
        f"{rollout}.n": spec.rollout.group_size,
        f"{rollout}.temperature": spec.rollout.temperature,
        f"{rollout}.top_p": 1.0,
        f"{rollout}.top_k": -1,
        f"{rollout}.max_model_len": longest,
        f"{rollout}.seed": spec.seed,
        # a warm-started policy has no chat format
        f"{rollout}.agent.default_agent_loop": "single_turn_agent" if spec.start else "asymgrpo_plain",
        f"{rollout}.agent.agent_loop_config_path": None if spec.start else str(files.agent),
        # greedy, once, as the paper's curves
        f"{rollout}.val_kwargs.do_sample": False,
        f"{rollout}.val_kwargs.temperature": 0,
        f"{rollout}.val_kwargs.n": 1,
        "reward.reward_manager.source": "importlib",
        "reward.reward_manager.name": "VerifierReward",
        "reward.reward_manager.module.path": f"pkg://{PACKAGE}.reward",
    }


def _trainer(spec: RunSpec, files: Files, validate_first: bool, attempt: int) -> dict[str, Any]:
    return {
        "trainer.use_v1": True,
        "trainer.v1.trainer_mode": "sync",
        "trainer.critic_warmup": 0,
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": spec.steps,
        "trainer.val_before_train": validate_first,
        "trainer.test_freq": spec.evaluation.every,
        "trainer.save_freq": spec.checkpoint_every,
        "trainer.max_actor_ckpt_to_keep": CHECKPOINTS_KEPT,
        "trainer.resume_mode": "auto",
        "trainer.default_local_dir": str(files.checkpoints),
        "trainer.logger": ["console", "file"],
        "trainer.project_name": files.log.name,
        "trainer.experiment_name": f"attempt-{attempt}",
        "+asymgrpo.task": str(files.task),
    }


def _quoted(value: Any) -> str:
    """A value in Hydra's grammar, which takes JSON's lists, and mappings with unquoted keys."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_quoted(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        # in Hydra a backslash is an ordinary character, except before a quote
        return '"' + re.sub(r'(\\*)("|\Z)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), value) + '"'
    if isinstance(value, Iterable):
        return "[" + ",".join(map(_quoted, value)) + "]"
    # JSON's infinity would be a string
    return str(value) if isinstance(value, float) else json.dumps(value)


def _every_derived_key() -> frozenset[str]:
    """Every key that any spec's overrides contain."""
    from asymgrpo.training.spec import EvaluationSettings, LossSettings, OptimiserSettings, RolloutSettings

    nowhere = Path("/")
    family = {"name": "family", "beta_pos": 0.5, "beta_neg": 0.5, "flip": None}
    spec = RunSpec(
        **dict.fromkeys(("scale", "backbone", "method", "device"), ""),
        backend="verl",
        estimator=family | {"all_solved_zero": False, "none_solved_zero": False},
        loss=LossSettings(0.2, 0.2, 3.0, 0.0),
        optimiser=OptimiserSettings(1e-6, 0.9, 0.999, 0.0, 1.0),
        rollout=RolloutSettings(
            prompts_per_step=1, group_size=2, prompts_per_minibatch=1, epochs=1, temperature=1.0,
            max_prompt_tokens=1, max_response_tokens=1,
        ),
        steps=1,
        evaluation=EvaluationSettings(1, ("x",), "x"),
        checkpoint_every=1,
        seed=1, threads=1, warm_start_seed=1, start={}, verl={},
    )  # fmt: skip
    files = Files(nowhere, nowhere, nowhere, nowhere, nowhere, nowhere, nowhere)
    return frozenset(map(bare, _derived(spec, files, 1, True, 1)))


DERIVED = _every_derived_key()
"""Keys that a scale's `verl:` block may not set, because the spec decides them."""
