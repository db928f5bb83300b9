"""Our loss against verl's own: `compute_policy_loss_vanilla` with token-mean, and its entropy bonus."""

import copy
import dataclasses

import pytest
import torch

from asymgrpo.advantages import AdvantageFamily, compute_advantages
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.generation import sample
from asymgrpo.tasks.countdown import EOS, PAD
from asymgrpo.training import local
from asymgrpo.training.loss import LossSettings, policy_loss
from asymgrpo.training.spec import run_spec

pytest.importorskip("verl")

pytestmark = pytest.mark.verl

SETTINGS = {
    "symmetric": (0.2, 0.2, 3.0),
    "clip-higher": (0.2, 0.28, 3.0),
    "clip-lower": (0.1, 0.2, 10.0),
    "tight dual clip": (0.2, 0.3, 1.05),
}


def actor_config(clip_low, clip_high, dual_clip, entropy_coefficient=0.0):
    from verl.workers.config import ActorConfig

    return ActorConfig(
        strategy="fsdp",
        rollout_n=8,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio=clip_low,
        clip_ratio_low=clip_low,
        clip_ratio_high=clip_high,
        clip_ratio_c=dual_clip,
        loss_agg_mode="token-mean",
        entropy_coeff=entropy_coefficient,
    )


def batch(seed, spread):
    """(old, new log-probabilities, advantages, mask, logits): responses of different lengths, ratios around 1."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(32, 13, 20, generator=random)
    logp = logits.log_softmax(-1)[..., 0]
    old = logp + spread * torch.randn(32, 13, generator=random)
    advantages = torch.randn(32, 1, generator=random).expand(32, 13)
    advantages = torch.where(torch.rand(32, 1, generator=random) < 0.2, 0.0, advantages)
    mask = torch.arange(13)[None, :] < torch.randint(1, 14, (32, 1), generator=random)
    return old, advantages, mask, logits


def verl_loss(config, old, new, advantages, mask):
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

    return compute_policy_loss_vanilla(
        old_log_prob=old,
        log_prob=new,
        advantages=advantages,
        response_mask=mask,
        loss_agg_mode="token-mean",
        config=config,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [0.05, 0.3, 2.0, 15.0])
@pytest.mark.parametrize("clips", SETTINGS.values(), ids=SETTINGS)
def test_value_and_gradient(clips, spread, seed):
    old, advantages, mask, logits = batch(seed, spread)
    ours, theirs = (logits.log_softmax(-1)[..., 0].detach().requires_grad_() for _ in range(2))
    result = policy_loss(ours, old, advantages, mask, LossSettings(*clips, 0.0))
    loss = result.surrogate / mask.sum()
    loss.backward()
    expected, metrics = verl_loss(actor_config(*clips), old, theirs, advantages, mask)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)
    clipped = int(result.clipped_low) + int(result.clipped_high)
    assert clipped / int(mask.sum()) == pytest.approx(metrics["actor/pg_clipfrac"], abs=1e-6)
    if spread > 0.2:
        assert clipped > 0
        assert (theirs.grad == 0)[mask & (advantages != 0)].any()
    if spread > 1 and clips[2] < 5:
        assert metrics["actor/pg_clipfrac_lower"] > 0  # the dual clip was at work


@pytest.mark.parametrize("coefficient", [0.0, 0.05])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_update_of_a_minibatch(small, run_values, temperature, coefficient):
    """Our trainer's gradient against verl's loss functions on the plain pass: token-mean over the whole minibatch,
    entropy bonus included (verl.workers.utils.losses.ppo_loss subtracts entropy_coeff times the token-mean entropy).
    """
    from verl.trainer.ppo.core_algos import agg_loss
    from verl.utils.torch_functional import entropy_from_logits

    random = torch.Generator().manual_seed(0)
    policy = huggingface.load(small.policy)
    uniforms = torch.rand((16, 4, 13), generator=random)
    rollouts = sample(policy, small.prompts[:16], 4, 13, temperature, PAD, EOS, uniforms)
    noise = 0.3 * torch.randn(rollouts.logprobs.shape, generator=random)
    rollouts = dataclasses.replace(rollouts, logprobs=(rollouts.logprobs + noise) * rollouts.mask)
    rewards = local.score(rollouts)
    ids = torch.arange(16).repeat_interleave(4)
    advantages = compute_advantages(rewards.flatten(), ids, AdvantageFamily(0.5, 0.5)).view(16, 4)
    assert 0 < int((advantages == 0).all(1).sum()) < 16

    loss = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 1.5, "entropy_coefficient": coefficient}
    rollout = {"temperature": temperature, "prompts_per_minibatch": 16}
    spec = run_spec(run_values(loss=loss, rollout=rollout, optimiser={"max_gradient_norm": 1e9}))
    ours = copy.deepcopy(policy)
    columns = local.update_policy(
        ours, torch.optim.SGD(ours.parameters(), lr=0.0), rollouts, advantages, spec, temperature
    )

    config = actor_config(0.2, 0.28, 1.5, coefficient)
    tokens, mask = rollouts.tokens.flatten(0, 1), rollouts.mask.flatten(0, 1)
    sequences = torch.cat([small.prompts[:16].repeat_interleave(4, 0), tokens], 1)
    logits = policy(sequences)[:, 5:-1] / temperature
    new = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    per_token = advantages.reshape(-1, 1).expand_as(new)
    expected, metrics = verl_loss(config, rollouts.logprobs.flatten(0, 1), new, per_token, mask)
    assert columns["policy_loss"] == pytest.approx(expected.item(), abs=1e-6)
    clipped = columns["clip_fraction_low"] + columns["clip_fraction_high"]
    assert clipped == pytest.approx(metrics["actor/pg_clipfrac"], abs=1e-6)
    assert metrics["actor/pg_clipfrac_lower"] > 0
    total = expected - config.entropy_coeff * agg_loss(entropy_from_logits(logits), mask, config.loss_agg_mode)
    total.backward()
    for (name, mine), theirs in zip(ours.named_parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
