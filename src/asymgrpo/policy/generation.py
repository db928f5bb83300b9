"""Sampling groups of rollouts from the small policy, with cached keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asymgrpo.policy.model import Policy, decode_bias


@dataclass(frozen=True)
class Rollouts:
    """P groups of G rollouts of at most T tokens.

    Log-probabilities and entropies are those of the sampling distribution (at its temperature), in nats, zero where
    the mask is False.
    """

    prompts: Tensor
    """(P, L) int64."""
    tokens: Tensor
    """(P, G, T) int64, padded after the end token."""
    mask: Tensor
    """(P, G, T) bool: the response mask; it includes the end token."""
    logprobs: Tensor
    """(P, G, T) float32: log-probability of each token under the policy that sampled it."""
    entropies: Tensor
    """(P, G, T) float32: entropy over the whole vocabulary where each token was sampled (Eq. 7)."""


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Tensor,
    size: int,
    max_tokens: int,
    temperature: float,
    pad: int,
    eos: int,
    uniforms: Tensor | None = None,
) -> Rollouts:
    """Sample `size` responses to each prompt; greedily at temperature 0.

    Token t of rollout (p, g) is the inverse of the cumulative distribution at uniforms[p, g, t]. So two policies that
    are given the same uniforms are compared on common random numbers, and a rollout does not depend on which others
    are in the batch.

    Args:
        policy: the policy; its device is used.
        prompts: (P, L) int64, all of the same length.
        size: G, rollouts per prompt.
        max_tokens: T, after which a rollout is cut off.
        temperature: divides the logits; 0 is greedy (log-probabilities are then those at temperature 1).
        pad: token that fills up after the end.
        eos: token that ends a response.
        uniforms: (P, G, T) float32 in [0, 1); needed unless greedy.
    """
    groups, device = len(prompts), prompts.device
    if temperature > 0 and (uniforms is None or uniforms.shape != (groups, size, max_tokens)):
        shape = None if uniforms is None else tuple(uniforms.shape)
        raise ValueError(f"uniforms: expected the shape {(groups, size, max_tokens)}, found {shape}")
    shape = (groups, size, max_tokens)
    tokens = torch.full(shape, pad, device=device)
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    logprobs, entropies = torch.zeros(shape, device=device), torch.zeros(shape, device=device)

    length = prompts.shape[1]
    bias = decode_bias(size, length, max_tokens, device)
    logits, caches = policy.prefill(prompts, size, max_tokens)
    logits = logits[:, None].expand(-1, size, -1)
    rows = torch.arange(groups, device=device)  # groups that still have a rollout to finish
    running = torch.ones(groups, size, dtype=torch.bool, device=device)
    for t in range(max_tokens):
        logp = torch.log_softmax(logits if temperature in (0, 1) else logits / temperature, -1)
        probabilities = logp.exp()
        if temperature > 0:
            assert uniforms is not None
            cumulative = probabilities.cumsum(-1)
            point = uniforms[rows, :, t, None] * cumulative[..., -1:]
            token = (cumulative <= point).sum(-1)
        else:
            token = logp.argmax(-1)
        tokens[rows, :, t] = torch.where(running, token, pad)
        mask[rows, :, t] = running
        logprobs[rows, :, t] = logp.gather(-1, token[..., None])[..., 0] * running
        entropies[rows, :, t] = -(probabilities * logp).sum(-1) * running
        running = running & (token != eos)
        if t + 1 == max_tokens:
            break
        alive = running.any(-1)
        if not bool(alive.all()):
            keep = alive.nonzero()[:, 0]
            if len(keep) == 0:
                break
            rows, running, token = rows[keep], running[keep], token[keep]
            for cache in caches:
                cache.keep(keep)
        logits = policy.decode(token, caches, length + t, bias)
    return Rollouts(prompts, tokens, mask, logprobs, entropies)
