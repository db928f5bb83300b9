"""Sampling with caches against the plain pass, token by token."""

import pytest
import torch

from asymgrpo.policy import checkpoint
from asymgrpo.policy.generation import sample
from asymgrpo.tasks.countdown import EOS, PAD, VOCABULARY

T = 13
TEMPERATURES = [1.0, 0.7]


@pytest.fixture(scope="module")
def policy(small):
    return checkpoint.load(small.policy)


def uniforms(groups, size, steps=T, seed=0):
    return torch.rand((groups, size, steps), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=TEMPERATURES)
def sampled(request, policy, small):
    """(temperature, uniforms, rollouts of 20 problems x 5)"""
    u = uniforms(20, 5)
    return request.param, u, sample(policy, small.prompts[:20], 5, T, request.param, PAD, EOS, u)


@torch.no_grad()
def plain_log_probabilities(policy, rollouts, temperature):
    """(P, G, T, vocab) by the plain pass over prompt and response of each rollout, in float64."""
    groups, size, steps = rollouts.tokens.shape
    full = torch.cat([rollouts.prompts[:, None].expand(-1, size, -1), rollouts.tokens], 2).flatten(0, 1)
    logits = policy(full)[:, rollouts.prompts.shape[1] - 1 : -1].double()
    return torch.log_softmax(logits / temperature, -1).view(groups, size, steps, -1)


@torch.no_grad()
def test_greedy_takes_the_likeliest_token_step_by_step(policy, small):
    rollouts = sample(policy, small.prompts, 2, T, 0.0, PAD, EOS)
    for prompt, group in zip(small.prompts, rollouts.tokens, strict=True):
        sequence = prompt.tolist()
        for _ in range(T):
            sequence.append(int(policy(torch.tensor([sequence]))[0, -1].argmax()))
            if sequence[-1] == EOS:
                break
        expected = (sequence[len(prompt) :] + [PAD] * T)[:T]
        assert group.tolist() == [expected, expected]
    # its log-probabilities are those at temperature 1
    logp = plain_log_probabilities(policy, rollouts, 1.0).amax(-1)
    torch.testing.assert_close(rollouts.logprobs.double(), logp * rollouts.mask, atol=1e-5, rtol=0)


def test_a_token_is_the_inverse_of_the_cumulative_distribution(policy, sampled):
    temperature, u, rollouts = sampled
    cumulative = plain_log_probabilities(policy, rollouts, temperature).exp().cumsum(-1)
    upper = cumulative.gather(-1, rollouts.tokens[..., None])[..., 0]
    below = (rollouts.tokens - 1).clamp(min=0)
    lower = torch.where(rollouts.tokens > 0, cumulative.gather(-1, below[..., None])[..., 0], 0.0)
    inside = (u >= lower - 1e-5) & (u < upper + 1e-5)
    assert inside[rollouts.mask].all()
    # the intervals are narrow enough for that to be a test: on average much less than all of [0, 1)
    assert (upper - lower)[rollouts.mask].mean() < 0.9
    assert len(rollouts.tokens[rollouts.mask].unique()) > 25


def test_log_probabilities_and_entropies_are_those_of_the_sampling_distribution(policy, sampled):
    temperature, _, rollouts = sampled
    logp = plain_log_probabilities(policy, rollouts, temperature)
    taken = logp.gather(-1, rollouts.tokens[..., None])[..., 0]
    entropy = -(logp.exp() * logp).sum(-1)
    torch.testing.assert_close(rollouts.logprobs.double(), taken * rollouts.mask, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(rollouts.entropies.double(), entropy * rollouts.mask, atol=2e-5, rtol=1e-5)
    assert rollouts.logprobs.dtype == rollouts.entropies.dtype == torch.float32
    assert entropy[rollouts.mask].max() > 0.5


def test_the_mask_includes_the_end_and_padding_follows(sampled):
    _, _, rollouts = sampled
    ended = 0
    for tokens, mask in zip(rollouts.tokens.flatten(0, 1).tolist(), rollouts.mask.flatten(0, 1).tolist(), strict=True):
        length = tokens.index(EOS) + 1 if EOS in tokens else T
        assert mask == [True] * length + [False] * (T - length)
        assert set(tokens[length:]) <= {PAD}
        ended += EOS in tokens
    assert ended > 0
    assert len(rollouts.mask.sum(-1).unique()) > 1


def test_a_rollout_that_does_not_end_is_cut_off(policy, small):
    rollouts = sample(policy, small.prompts[:4], 3, 4, 1.0, PAD, EOS, uniforms(4, 3, 4))
    assert rollouts.tokens.shape == (4, 3, 4)
    assert rollouts.mask.all()
    long = sample(policy, small.prompts[:4], 3, T, 1.0, PAD, EOS, uniforms(4, 3, 4).repeat(1, 1, 4)[..., :T])
    assert torch.equal(rollouts.tokens, long.tokens[..., :4])


def test_a_group_does_not_depend_on_the_others(policy, small, sampled):
    """Not even through those that end early and leave the batch."""
    temperature, u, together = sampled
    for p in (0, 7, 19):
        alone = sample(policy, small.prompts[p : p + 1], 5, T, temperature, PAD, EOS, u[p : p + 1])
        assert torch.equal(alone.tokens[0], together.tokens[p])
        torch.testing.assert_close(alone.logprobs[0], together.logprobs[p], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.entropies[0], together.entropies[p], atol=1e-5, rtol=0)


def test_a_rollout_does_not_depend_on_its_group(policy, small, sampled):
    temperature, u, together = sampled
    for g in range(5):
        alone = sample(policy, small.prompts[:20], 1, T, temperature, PAD, EOS, u[:, g : g + 1])
        assert torch.equal(alone.tokens[:, 0], together.tokens[:, g])


def test_the_same_uniforms_give_the_same_rollouts(policy, small, sampled):
    temperature, u, first = sampled
    again = sample(policy, small.prompts[:20], 5, T, temperature, PAD, EOS, u)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.logprobs, again.logprobs)
    other = sample(policy, small.prompts[:20], 5, T, temperature, PAD, EOS, uniforms(20, 5, seed=1))
    assert not torch.equal(first.tokens, other.tokens)


def test_first_tokens_are_as_frequent_as_they_are_likely(policy, small):
    n = 16_000
    with torch.no_grad():
        probabilities = policy(small.prompts[:3])[:, -1].softmax(-1).double()
    prompts = small.prompts[:3].repeat_interleave(n // 8, 0)
    rollouts = sample(policy, prompts, 8, 1, 1.0, PAD, EOS, uniforms(len(prompts), 8, 1))
    for tokens, p in zip(rollouts.tokens.view(3, n), probabilities, strict=True):
        frequency = torch.bincount(tokens, minlength=len(VOCABULARY)).double() / n
        assert ((frequency - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()
    assert probabilities.amax(-1).min() < 0.95


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-24])
def test_extreme_uniforms_stay_inside_the_vocabulary(policy, small, extreme):
    """The largest float32 below 1 must not fall off the end of a cumulative sum that rounding left below 1."""
    u = torch.full((32, 2, T), extreme)
    rollouts = sample(policy, small.prompts, 2, T, 1.0, PAD, EOS, u)
    assert rollouts.tokens.min() >= 0
    assert rollouts.tokens.max() < len(VOCABULARY)
    assert rollouts.logprobs.isfinite().all()


@pytest.mark.parametrize("wrong", [None, (20, 5, T - 1), (20, 1, T), (5, 20, T)])
def test_uniforms_of_another_shape_are_an_error(policy, small, wrong):
    u = None if wrong is None else torch.rand(wrong)
    with pytest.raises(ValueError, match=r"uniforms: expected the shape \(20, 5, 13\), found"):
        sample(policy, small.prompts[:20], 5, T, 1.0, PAD, EOS, u)


def test_sampling_leaves_no_gradient(policy, sampled):
    assert not sampled[2].logprobs.requires_grad
    assert all(parameter.grad is None for parameter in policy.parameters())
