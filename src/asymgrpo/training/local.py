"""The local backend: AsymGRPO and its relatives on one thread, from top to bottom.

One step (:func:`train_step`) is

1. sample G rollouts for each of the step's prompts from the current policy;
2. verify them: reward 1 or 0;
3. advantages from rewards and groups - the only lines in which the methods differ;
4. the PPO-style update (App. F) over minibatches;
5. measure what the update did to the rollouts' log-probabilities and entropy.

Deviations from the paper's training, all because of the scale: a policy of some 10^5 parameters on countdown instead of
an LLM on MATH; float32; the policy that is updated also samples, so old log-probabilities are the sampler's. Two things
are done differently without changing the result: groups whose advantages are all 0 are left out of the gradient (their
tokens still count in the token-mean), and minibatches are split by response length.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asymgrpo import records
from asymgrpo.advantages import compute_advantages, estimator_at
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.generation import Rollouts, sample
from asymgrpo.policy.model import Policy
from asymgrpo.progress import alive
from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import text_of
from asymgrpo.training.batches import problems_of_step
from asymgrpo.training.loss import policy_loss
from asymgrpo.training.measurement import Measured, describe_rollouts
from asymgrpo.training.runtime import (
    Checkpoint,
    Clock,
    Progress,
    environment,
    prepare,
    stop_after,
    stoppable,
    write_yaml,
)
from asymgrpo.training.spec import OptimiserSettings, RunSpec, fingerprint, stream_seed
from asymgrpo.verification import countdown as verifier

MEASURE_GROUPS = 16
"""Groups per forward pass when nothing needs a gradient: small enough to stay in a core's cache."""


@dataclass
class State:
    """All that a run carries from step to step."""

    policy: Policy
    optimiser: torch.optim.AdamW
    step: int = 0
    best_step: int = 0
    best_accuracy: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    _PLAIN = ("step", "best_step", "best_accuracy", "best_weights", "steps", "groups", "timings", "evaluations")

    def dump(self) -> dict[str, Any]:
        """For a checkpoint."""
        plain = {name: getattr(self, name) for name in self._PLAIN}
        return {"policy": self.policy.state_dict(), "optimiser": self.optimiser.state_dict(), **plain}

    def restore(self, dumped: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.policy.load_state_dict(dumped["policy"])
        self.optimiser.load_state_dict(dumped["optimiser"])
        for name in self._PLAIN:
            setattr(self, name, dumped[name])


def train(
    spec: RunSpec,
    start_policy: Path,
    problems: Path,
    benchmarks: Mapping[str, Path],
    output: Path,
    work: Path,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Train one run and write its directory (:mod:`asymgrpo.records`).

    A run that was killed continues from its last checkpoint in `work` and ends with the same steps.parquet.

    Args:
        spec: everything that determines the result.
        start_policy: Hugging Face directory of the warm start.
        problems: parquet of training problems (:data:`asymgrpo.records.BENCHMARK`).
        benchmarks: parquet per benchmark of `spec.evaluation`.
        output: the run directory.
        work: where checkpoints live; outside the declared outputs, which a restarted job finds deleted.
        settings: settings with provenance, copied into run.yaml.
    """
    device = prepare(spec.device, spec.threads)
    training_prompts = read_prompts(problems).to(device)
    benchmark_prompts = {name: read_prompts(path).to(device) for name, path in benchmarks.items()}
    if missing := [name for name in spec.evaluation.benchmarks if name not in benchmarks]:
        raise ValueError(f"evaluation.benchmarks: {missing[0]}: expected its file among {sorted(benchmarks)}")
    if len(training_prompts) < spec.rollout.prompts_per_step:
        raise ValueError(
            f"{problems}: {len(training_prompts)} problems, but rollout.prompts_per_step is "
            f"{spec.rollout.prompts_per_step}"
        )
    policy = huggingface.load(start_policy, device)
    state = State(policy, make_optimiser(policy, spec.optimiser))
    mark = fingerprint(spec, start_policy / "model.safetensors", problems, *benchmarks.values())
    checkpoint = Checkpoint(work, mark)
    resumed_at = None
    if (dumped := checkpoint.load()) is not None:
        state.restore(dumped)
        resumed_at = state.step
        print(f"{spec.name}: continuing after step {resumed_at}", flush=True)

    with alive(work, asdict(spec)), stoppable() as asked_to_stop:
        if not state.evaluations:
            _evaluate(spec, state, benchmark_prompts)
        progress = Progress(spec.name, spec.steps, work, done=state.step)
        while state.step < spec.steps:
            state.step += 1
            train_step(spec, state, training_prompts)
            if state.step % spec.evaluation.every == 0 or state.step == spec.steps:
                _evaluate(spec, state, benchmark_prompts)
            stop = asked_to_stop()
            saved = stop or state.step % spec.checkpoint_every == 0 or state.step == spec.steps
            if saved:
                checkpoint.save(state.dump())
            last = state.steps[-1]
            progress.step(state.step, saved, reward=last["reward"], entropy=last["entropy"])
            if stop and state.step < spec.steps:
                stop_after(spec.name, state.step)
        _write_run(spec, state, output, device, settings or {}, resumed_at, mark)
        shutil.rmtree(work, ignore_errors=True)


def train_step(spec: RunSpec, state: State, training_prompts: Tensor) -> None:
    """One step of the algorithm; appends a row to steps, groups and timings."""
    r, device = spec.rollout, training_prompts.device
    clock = Clock(device)
    chosen = problems_of_step(spec.seed, state.step, len(training_prompts), r.prompts_per_step)

    with clock.phase("sampling"):
        generator = torch.Generator().manual_seed(stream_seed("rollouts", spec.seed, state.step))
        shape = (r.prompts_per_step, r.group_size, r.max_response_tokens)
        rollouts = sample(
            state.policy,
            training_prompts[chosen.to(device)],
            r.group_size,
            r.max_response_tokens,
            r.temperature,
            countdown.PAD,
            countdown.EOS,
            torch.rand(shape, generator=generator).to(device),
        )
    with clock.phase("scoring"):
        rewards = score(rollouts)  # (P, G)

    with clock.phase("update"):
        group_ids = torch.arange(r.prompts_per_step, device=device).repeat_interleave(r.group_size)
        before = [row["group_accuracy_histogram"] for row in state.steps]
        estimator = estimator_at(spec.estimator, state.step, spec.steps, before)
        advantages = compute_advantages(rewards.flatten(), group_ids, estimator)
        update = update_policy(
            state.policy, state.optimiser, rollouts, advantages.view_as(rewards), spec, spec.rollout.temperature
        )
    with clock.phase("measure"):
        after_logprobs, after_entropies = measure(state.policy, rollouts, r.temperature)
        row, groups = describe_step(
            rollouts, rewards, advantages.view_as(rewards), group_ids, after_logprobs, after_entropies
        )
    state.steps.append({"step": state.step, **row, **update})
    state.groups += [{"step": state.step, "problem": int(p), **group} for p, group in zip(chosen, groups, strict=True)]
    state.timings.append({"step": state.step, **clock.seconds})


# -- the parts of a step ----------------------------------------------------------------------------------------------


def score(rollouts: Rollouts) -> Tensor:
    """Rewards (P, G) float32, 1 for a correct response and 0 for a wrong one."""
    groups, size, width = rollouts.tokens.shape
    prompts = np.repeat(rollouts.prompts.cpu().numpy(), size, 0)
    reasons = verifier.verify(prompts, rollouts.tokens.cpu().numpy().reshape(-1, width))
    return torch.from_numpy((reasons == 0).astype(np.float32)).view(groups, size).to(rollouts.tokens.device)


def make_optimiser(policy: Policy, settings: OptimiserSettings) -> torch.optim.AdamW:
    """AdamW over all parameters."""
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def update_policy(
    policy: Policy,
    optimiser: torch.optim.AdamW,
    rollouts: Rollouts,
    advantages: Tensor,
    spec: RunSpec,
    temperature: float,
) -> dict[str, float]:
    """The step's epochs over minibatches of prompts; advantages (P, G). Returns what a step's row tells of it."""
    size, tokens = spec.rollout.prompts_per_minibatch, 0
    losses, norms, low, high = [], [], 0, 0
    for _ in range(spec.rollout.epochs):
        for start in range(0, len(advantages), size):
            minibatch = torch.arange(start, min(start + size, len(advantages)), device=advantages.device)
            n_tokens = int(rollouts.mask[minibatch].sum())
            # a group without advantage has no gradient, unless there is an entropy bonus
            if spec.loss.entropy_coefficient == 0:
                minibatch = minibatch[(advantages[minibatch] != 0).any(1)]
            for parameter in policy.parameters():
                parameter.grad = torch.zeros_like(parameter)
            loss_value = 0.0
            for part in length_buckets(rollouts.mask, minibatch):
                width = _width(rollouts.mask[part])
                mask = rollouts.mask[part, :, :width]
                logp = _log_softmax(policy, rollouts, part, width, temperature)
                taken = logp.gather(-1, rollouts.tokens[part, :, :width, None])[..., 0]
                result = policy_loss(
                    taken,
                    rollouts.logprobs[part, :, :width],
                    advantages[part, :, None].expand_as(taken),
                    mask,
                    spec.loss,
                )
                loss = result.surrogate / n_tokens
                if spec.loss.entropy_coefficient > 0:
                    entropy = -(logp.exp() * logp).sum(-1)
                    loss = loss - spec.loss.entropy_coefficient * (entropy * mask).sum() / n_tokens
                loss.backward()
                loss_value += float(result.surrogate.detach()) / n_tokens
                low, high = low + int(result.clipped_low), high + int(result.clipped_high)
            norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), spec.optimiser.max_gradient_norm)
            optimiser.step()
            tokens += n_tokens
            losses.append(loss_value)
            norms.append(float(norm))
    return {
        "clip_fraction_low": low / tokens,
        "clip_fraction_high": high / tokens,
        "gradient_norm": float(np.mean(norms)),
        "policy_loss": float(np.mean(losses)),
    }


@torch.no_grad()
def measure(policy: Policy, rollouts: Rollouts, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy (P, G, T) of the rollouts' tokens under the policy as it is now, 0 off the mask."""
    logprobs, entropies = torch.zeros_like(rollouts.logprobs), torch.zeros_like(rollouts.entropies)
    order = rollouts.mask.sum(-1).amax(-1).argsort(stable=True)
    for part in order.split(MEASURE_GROUPS):
        width = _width(rollouts.mask[part])
        logp = _log_softmax(policy, rollouts, part, width, temperature)
        mask = rollouts.mask[part, :, :width]
        logprobs[part, :, :width] = logp.gather(-1, rollouts.tokens[part, :, :width, None])[..., 0] * mask
        entropies[part, :, :width] = -(logp.exp() * logp).sum(-1) * mask
    return logprobs, entropies


def describe_step(
    rollouts: Rollouts,
    rewards: Tensor,
    advantages: Tensor,
    group_ids: Tensor,
    after_logprobs: Tensor,
    after_entropies: Tensor,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The columns of a step's row that describe its rollouts, and one row per group."""
    measured = Measured(
        rewards.flatten(),
        group_ids,
        advantages.flatten(),
        rollouts.mask.sum(-1).flatten(),
        *(
            values.double().sum(-1).flatten()
            for values in (rollouts.logprobs, after_logprobs, rollouts.entropies, after_entropies)
        ),
    )
    return describe_rollouts(measured, rewards.shape[1])


def length_buckets(mask: Tensor, groups: Tensor) -> list[Tensor]:
    """Split groups (1-D index) in at most two by their longest response, if that saves a tenth of the padded tokens."""
    if len(groups) == 0:
        return []
    longest = mask[groups].sum(-1).amax(-1)
    lengths, order = longest.sort(stable=True)
    count, widest = len(groups), int(lengths[-1])
    # cutting after the i-th shortest costs lengths[i] * (i + 1) + widest * (rest)
    cost = lengths * torch.arange(1, count + 1, device=lengths.device) + widest * torch.arange(
        count - 1, -1, -1, device=lengths.device
    )
    cut = int(cost.argmin()) + 1
    if cut == count or float(cost.min()) > 0.9 * widest * count:
        return [groups]
    return [groups[order[:cut]], groups[order[cut:]]]


# -- evaluation, input and output -------------------------------------------------------------------------------------


def _evaluate(spec: RunSpec, state: State, benchmark_prompts: Mapping[str, Tensor]) -> None:
    for name in spec.evaluation.benchmarks:
        prompts = benchmark_prompts[name]
        rollouts = sample(state.policy, prompts, 1, spec.rollout.max_response_tokens, 0.0, countdown.PAD, countdown.EOS)
        correct = int(score(rollouts).sum())
        state.evaluations.append(
            {
                "step": state.step,
                "benchmark": name,
                "decoding": "greedy",
                "problems": len(prompts),
                "samples": 1,
                "correct": correct,
                "accuracy": correct / len(prompts),
                "response_length": float(rollouts.mask.sum() / len(prompts)),
            }
        )
        if name == spec.evaluation.select_on and state.step > 0 and correct / len(prompts) > state.best_accuracy:
            state.best_step, state.best_accuracy = state.step, correct / len(prompts)
            state.best_weights = {key: value.detach().clone() for key, value in state.policy.state_dict().items()}


def read_prompts(path: Path) -> Tensor:
    """Prompt tokens (N, 6) of a parquet of countdown problems."""
    prompts = records.read(path, records.BENCHMARK)["prompt"].to_pylist()
    return torch.tensor([countdown.to_tokens(text_of(prompt)) for prompt in prompts])


def save_policy(policy: Policy, directory: Path) -> None:
    """Write a countdown policy in Hugging Face layout."""
    huggingface.save(policy, directory, countdown.VOCABULARY, countdown.PAD, countdown.EOS)


def _write_run(
    spec: RunSpec,
    state: State,
    output: Path,
    device: torch.device,
    settings: Mapping[str, Any],
    resumed_at: int | None,
    mark: str,
) -> None:
    save_policy(state.policy, output / "policy" / "last")
    last = {key: value.clone() for key, value in state.policy.state_dict().items()}
    state.policy.load_state_dict(state.best_weights)
    save_policy(state.policy, output / "policy" / "best")
    state.policy.load_state_dict(last)
    records.write(output / "groups.parquet", state.groups, records.GROUPS)
    records.write(output / "timings.parquet", state.timings, records.TIMINGS)
    records.write(output / "evaluations.parquet", state.evaluations, records.EVALUATIONS)
    records.write(output / "steps.parquet", state.steps, records.STEPS)
    cpu = sum(sum(v for k, v in row.items() if k.startswith("cpu_")) for row in state.timings)
    write_yaml(
        output / "run.yaml",
        {
            "spec": asdict(spec),
            "fingerprint": mark,
            "settings": dict(settings),
            "environment": environment(device, spec.threads),
            "result": {
                "best_step": state.best_step,
                "best_accuracy": state.best_accuracy,
                "cpu_seconds": round(cpu, 3),
                "resumed_after_step": resumed_at,
            },
        },
    )


def _log_softmax(policy: Policy, rollouts: Rollouts, part: Tensor, width: int, temperature: float) -> Tensor:
    logits = policy.group_logits(rollouts.prompts[part], rollouts.tokens[part, :, :width])
    return torch.log_softmax(logits if temperature == 1 else logits / temperature, -1)


def _width(mask: Tensor) -> int:
    return int(mask.sum(-1).max())
