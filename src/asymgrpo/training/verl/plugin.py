"""The estimator family inside verl: a thin adapter over :mod:`asymgrpo.advantages`, for any verl recipe.

    actor_rollout_ref.model.external_lib=asymgrpo.training.verl.plugin
    algorithm.adv_estimator=asymgrpo +algorithm.beta_pos=0.9 +algorithm.beta_neg=0.4

verl imports the module in its trainer and in every worker; importing registers

- ``asymgrpo``: the family. ``beta_pos`` and ``beta_neg`` must be given; ``flip``, ``all_solved_zero`` and
  ``none_solved_zero`` may be. Exponents that change while training (`asymgrpo.schedules`) need the number of the step,
  which verl does not tell an estimator: only this project's trainer, which knows it, can have a ``schedule`` instead.
- ``asymgrpo_mean_centred``: A = r - p (Dr.GRPO's).
- the policy loss ``asymgrpo`` (``actor_rollout_ref.actor.policy_loss.loss_mode=asymgrpo``): verl's vanilla loss, which
  also counts clipped tokens by direction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, register_adv_est, register_policy_loss

from asymgrpo.advantages import Estimator, compute_advantages, estimator_from_spec

FAMILY = "asymgrpo"
MEAN_CENTRED = "asymgrpo_mean_centred"
LOSS = "asymgrpo"

OPTIONAL = ("flip", "all_solved_zero", "none_solved_zero")


@register_adv_est(FAMILY)
def family_advantages(
    token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **_: Any
) -> tuple[Tensor, Tensor]:
    """A+(p) and A-(p) of verl's batch (Sec. 2, 4), for its `register_adv_est`.

    Args:
        token_level_rewards: (rollouts, tokens); a rollout's reward is their sum, and must be 0 or 1.
        response_mask: (rollouts, tokens); a row without any token is padding and belongs to no group.
        config: verl's `algorithm` section, with `beta_pos` and `beta_neg`.
        index: (rollouts,) group labels of any kind (verl's uids).

    Returns:
        Advantages and returns, both (rollouts, tokens), the same tensor: the advantage on each response token, else 0.

    Raises:
        ValueError: an exponent is missing, or the rewards are not binary.
    """
    values = {key: _get(config, key) for key in ("beta_pos", "beta_neg", *OPTIONAL)}
    for key in ("beta_pos", "beta_neg"):
        if values[key] is None and _get(config, "schedule") is not None:
            raise ValueError(
                f"algorithm.{key}: is missing; a schedule's exponents are set step by step by the trainer of "
                "asymgrpo.training.verl.main, expected that one or a fixed exponent"
            )
        if values[key] is None:
            raise ValueError(f"algorithm.{key}: is missing; expected an exponent, e.g. +algorithm.{key}=0.5")
    given = {key: value for key, value in values.items() if value is not None}
    return _broadcast(estimator_from_spec({"name": "family", **given}), token_level_rewards, response_mask, index)


@register_adv_est(MEAN_CENTRED)
def mean_centred_advantages(
    token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **_: Any
) -> tuple[Tensor, Tensor]:
    """A = r - p (Dr.GRPO); arguments as :func:`family_advantages`."""
    return _broadcast(estimator_from_spec({"name": "mean_centred"}), token_level_rewards, response_mask, index)


@register_policy_loss(LOSS)
def vanilla_with_clip_counts(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """verl's `compute_policy_loss_vanilla`, plus counts of tokens: in all, clipped below (A < 0) and above (A > 0).

    verl averages metrics over micro-batches, whatever their size, so a fraction would weigh their tokens unequally; a
    quotient of two averaged counts does not, as long as minibatches are split into equally many micro-batches.
    """
    loss, metrics = compute_policy_loss_vanilla(
        old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights
    )
    ratio = (log_prob - old_log_prob).detach().clamp(-20.0, 20.0).exp()
    low = ratio < 1 - (config.clip_ratio if config.clip_ratio_low is None else config.clip_ratio_low)
    high = ratio > 1 + (config.clip_ratio if config.clip_ratio_high is None else config.clip_ratio_high)
    mask = response_mask.bool()
    return loss, metrics | {
        "actor/tokens_clipped_low": float((low & (advantages < 0) & mask).sum()),
        "actor/tokens_clipped_high": float((high & (advantages > 0) & mask).sum()),
        "actor/tokens_counted": float(mask.sum()),
    }


def _get(config: Any, key: str) -> Any:
    return None if config is None else config.get(key)


def _broadcast(
    estimator: Estimator, token_level_rewards: Tensor, response_mask: Tensor, index: Any
) -> tuple[Tensor, Tensor]:
    if index is None:
        raise ValueError("verl passed no group labels (index)")
    real = response_mask.bool().any(1)
    number = {label: i for i, label in enumerate(dict.fromkeys(index))}
    group_ids = torch.tensor([number[label] for label in index], device=real.device)
    rewards = token_level_rewards.sum(1)  # unmasked: a reward may lie on a token that the policy did not write
    advantages = torch.zeros_like(rewards)
    advantages[real] = compute_advantages(rewards[real], group_ids[real], estimator).to(rewards)
    per_token = advantages[:, None] * response_mask
    return per_token, per_token
