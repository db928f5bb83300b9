"""verl's own engine and loss, fed with the same rollouts as the local backend: one step must move the policy to the
same place.

The worker is configured by the launcher's overrides, so that what they claim about minibatches, token-mean, clipping
and AdamW is what verl does.
"""

import dataclasses
import socket
from functools import partial
from pathlib import Path

import pytest
import torch

from asymgrpo.advantages import compute_advantages, estimator_from_spec
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.generation import sample
from asymgrpo.tasks import countdown
from asymgrpo.training import local
from asymgrpo.training.spec import run_spec

pytest.importorskip("verl")

pytestmark = pytest.mark.verl

ON_CPU = {
    "actor_rollout_ref.model.use_remove_padding": False,
    "actor_rollout_ref.model.enable_gradient_checkpointing": False,
    "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    "actor_rollout_ref.actor.strategy": "fsdp2",
    "actor_rollout_ref.actor.use_torch_compile": False,
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision": {
        "param_dtype": "fp32",
        "reduce_dtype": "fp32",
        "buffer_dtype": "fp32",
    },
    "trainer.n_gpus_per_node": 1,
}
PROMPTS, GROUP = 16, 4


@pytest.fixture(scope="module", autouse=True)
def one_process_group():
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        for key, value in {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}.items():
            patch.setenv(key, str(value))
        patch.setenv("MASTER_PORT", str(free.getsockname()[1]))
        free.close()
        yield
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@pytest.fixture
def spec(run_values):
    def build(**changes):
        changes.setdefault("optimiser", {"learning_rate": 1e-4, "max_gradient_norm": 0.5})
        rollout = {"prompts_per_step": PROMPTS, "group_size": GROUP, "prompts_per_minibatch": PROMPTS // 2}
        evaluation = {"every": 2}
        return run_spec(
            run_values(backend="verl", rollout=rollout | changes.pop("rollout", {}), evaluation=evaluation, **changes)
        )

    return build


@pytest.fixture(scope="module")
def rollouts(small):
    policy = huggingface.load(small.policy)
    random = torch.rand((PROMPTS, GROUP, 13), generator=torch.Generator().manual_seed(3))
    return sample(policy, small.prompts[:PROMPTS], GROUP, 13, 1.0, countdown.PAD, countdown.EOS, random)


def advantages_of(spec, rollouts):
    rewards = local.score(rollouts)
    group_ids = torch.arange(PROMPTS).repeat_interleave(GROUP)
    return compute_advantages(rewards.flatten(), group_ids, estimator_from_spec(spec.estimator)).view_as(rewards)


def update_with_verl(spec, small, rollouts, micro_batch, tmp_path, max_tokens=None):
    """One step; returns the policy's weights by their names and verl's metrics."""
    import verl
    from hydra import compose, initialize_config_dir
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.metric import reduce_metrics
    from verl.workers.config import TrainingWorkerConfig
    from verl.workers.engine_workers import TrainingWorker
    from verl.workers.utils.losses import ppo_loss
    from verl.workers.utils.padding import response_to_nested

    from asymgrpo.training.verl.overrides import Files, command_line, overrides

    nowhere = tmp_path / "none"
    files = Files(small.policy, nowhere, nowhere, nowhere, nowhere, nowhere, nowhere)
    values = overrides(dataclasses.replace(spec, verl=ON_CPU), files, 6, True, 1)
    values["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"] = micro_batch
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = compose("ppo_trainer", overrides=command_line(values))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    actor.engine.micro_batch_size_per_gpu = micro_batch
    actor.engine.use_dynamic_bsz = max_tokens is not None
    actor.engine.max_token_len_per_gpu = max_tokens
    actor.optim.total_training_steps = spec.steps
    worker = TrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=model,
            engine_config=actor.engine,
            optimizer_config=actor.optim,
            checkpoint_config=actor.checkpoint,
        )
    )
    worker.reset()
    worker.set_loss_fn(partial(ppo_loss, config=actor))

    def nested(rows):
        return torch.nested.as_nested_tensor(rows, layout=torch.jagged)

    lengths = rollouts.mask.sum(-1).flatten().tolist()
    prompts = list(rollouts.prompts.repeat_interleave(GROUP, 0))
    width = rollouts.tokens.shape[-1]
    responses = [row[:n] for row, n in zip(rollouts.tokens.reshape(-1, width), lengths, strict=True)]
    mask = nested([torch.ones(n, dtype=torch.long) for n in lengths])
    data = TensorDict(
        {
            "prompts": nested(prompts),
            "responses": nested(responses),
            "input_ids": nested([torch.cat(pair) for pair in zip(prompts, responses, strict=True)]),
            "position_ids": nested([torch.arange(len(prompts[0]) + n) for n in lengths]),
            "response_mask": mask,
            "loss_mask": nested([torch.cat([torch.zeros(len(prompts[0])), torch.ones(n)]).long() for n in lengths]),
            "old_log_probs": response_to_nested(rollouts.logprobs.reshape(-1, width), mask),
            "advantages": response_to_nested(
                (advantages_of(spec, rollouts)[..., None] * rollouts.mask).reshape(-1, width), mask
            ),
        },
        batch_size=[len(lengths)],
    )
    minibatch = actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n  # as verl's trainer does it
    tu.assign_non_tensor(
        data,
        calculate_entropy=actor.entropy_coeff != 0,
        temperature=spec.rollout.temperature,
        global_batch_size=minibatch,
        mini_batch_size=minibatch,
        epochs=actor.ppo_epochs,
        seed=0,
        dataloader_kwargs={"shuffle": actor.shuffle},
    )
    metrics = reduce_metrics(dict(worker.train_mini_batch(data)["metrics"]))
    weights = {
        name: getattr(tensor, "full_tensor", lambda t=tensor: t)().detach().clone()
        for name, tensor in worker.engine.module.state_dict().items()
    }
    return weights, metrics


def update_here(spec, small, rollouts):
    policy = huggingface.load(small.policy)
    metrics = local.update_policy(
        policy,
        local.make_optimiser(policy, spec.optimiser),
        rollouts,
        advantages_of(spec, rollouts),
        spec,
        spec.rollout.temperature,
    )
    return huggingface.to_hugging_face(policy), metrics


def assert_same_place(found, expected, start, learning_rate):
    """AdamW's first steps have the size of the learning rate whatever the gradient: nearly all weights agree to 1% of
    it."""
    for name, before in start.items():
        weights = expected[name]
        moved = (weights - before).abs()
        assert (moved > 0.1 * learning_rate).any(), name
        far = (found[name] - weights).abs() > 0.01 * learning_rate
        assert far.float().mean() < 2e-3, (name, far.float().mean())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"estimator": {"name": "family", "beta_pos": 0.9, "beta_neg": 0.4}, "loss": {"clip_high": 0.28}},
        {"estimator": {"name": "family", "beta_pos": 0.0, "beta_neg": 0.0}, "loss": {"entropy_coefficient": 0.03}},
        {"rollout": {"epochs": 2, "temperature": 0.8}, "optimiser": {"learning_rate": 3e-3}},
    ],
    ids=["GRPO", "AsymGRPO with Clip-higher", "REINFORCE with entropy bonus", "two epochs, T = 0.8, large steps"],
)
def test_one_step_ends_at_the_same_policy(spec, small, rollouts, changes, tmp_path):
    run = spec(**changes)
    start = huggingface.to_hugging_face(huggingface.load(small.policy))
    expected, ours = update_here(run, small, rollouts)
    found, theirs = update_with_verl(run, small, rollouts, PROMPTS * GROUP // 2, tmp_path)
    assert_same_place(found, expected, start, run.optimiser.learning_rate)
    assert float(theirs["grad_norm"]) == pytest.approx(ours["gradient_norm"], rel=1e-3)
    assert float(theirs["actor/pg_loss"]) == pytest.approx(ours["policy_loss"], rel=1e-3, abs=1e-6)
    counted = float(theirs["actor/tokens_counted"])
    for direction in ("low", "high"):
        fraction = float(theirs[f"actor/tokens_clipped_{direction}"]) / counted
        assert fraction == pytest.approx(ours[f"clip_fraction_{direction}"], abs=2e-3)
    if "two epochs" in str(changes) or changes.get("optimiser", {}).get("learning_rate") == 3e-3:
        assert ours["clip_fraction_low"] + ours["clip_fraction_high"] > 0.01


def test_token_mean_is_over_the_minibatch_however_it_is_split(spec, small, rollouts, tmp_path):
    run = spec()
    per_minibatch = run.rollout.prompts_per_minibatch * GROUP
    whole, one = update_with_verl(run, small, rollouts, per_minibatch, tmp_path)
    quarters, four = update_with_verl(run, small, rollouts, per_minibatch // 4, tmp_path)
    by_tokens, dynamic = update_with_verl(run, small, rollouts, per_minibatch, tmp_path, max_tokens=150)
    lengths = rollouts.mask.sum(-1).view(2, 4, -1).sum(-1)
    assert lengths.unique().numel() > 1  # or a mean of means would be the mean
    start = huggingface.to_hugging_face(huggingface.load(small.policy))
    for weights, metrics in ((quarters, four), (by_tokens, dynamic)):
        assert_same_place(weights, whole, start, run.optimiser.learning_rate)
        assert float(metrics["actor/pg_loss"]) == pytest.approx(float(one["actor/pg_loss"]), rel=1e-4)
        assert float(metrics["grad_norm"]) == pytest.approx(float(one["grad_norm"]), rel=1e-4)


def test_a_minibatch_is_counted_in_prompts(spec, small, rollouts, tmp_path):
    _, metrics = update_with_verl(spec(), small, rollouts, PROMPTS * GROUP // 2, tmp_path)
    tokens = int(rollouts.mask.sum())
    assert float(metrics["actor/tokens_counted"]) == pytest.approx(
        tokens / 2
    )  # two minibatches of 8 prompts x 4 rollouts
