"""The PPO-style loss of one minibatch (App. F): clipped surrogate per token, mean over the minibatch's tokens.

The same function as verl's ``compute_policy_loss_vanilla`` with ``loss_agg_mode="token-mean"`` (tested against it),
including the bound that verl puts on tokens of negative advantage (dual clip).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asymgrpo.training.spec import LossSettings


@dataclass(frozen=True)
class TokenLoss:
    """Sums over the tokens given; the caller divides by the minibatch's token count."""

    surrogate: Tensor
    """Sum of the clipped surrogate loss (scalar, carries the gradient)."""
    clipped_low: Tensor
    """Number of tokens with A < 0 whose ratio is below 1 - clip_low."""
    clipped_high: Tensor
    """Number of tokens with A > 0 whose ratio is above 1 + clip_high."""


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, settings: LossSettings
) -> TokenLoss:
    """Clipped surrogate summed over response tokens.

    Args:
        logprobs: log-probabilities under the current policy, any shape, float32.
        old_logprobs: under the policy that sampled, same shape.
        advantages: one per token, same shape (Eq. 8 broadcasts a rollout's advantage to its tokens).
        mask: response mask, same shape, bool.
        settings: clipping.
    """
    ratio = torch.exp((logprobs - old_logprobs).clamp(-20.0, 20.0))
    clipped = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high)
    loss = torch.maximum(-advantages * ratio, -advantages * clipped)
    loss = torch.where(advantages < 0, torch.minimum(loss, -advantages * settings.dual_clip), loss)
    with torch.no_grad():
        low = ((ratio < 1.0 - settings.clip_low) & (advantages < 0) & mask).sum()
        high = ((ratio > 1.0 + settings.clip_high) & (advantages > 0) & mask).sum()
    return TokenLoss((loss * mask).sum(), low, high)
