"""What a step's rollouts tell, computed once for every backend: columns of steps.parquet and rows of groups.parquet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from asymgrpo.theory import advantage_covariance, alpha_from_gaps, group_statistics


@dataclass(frozen=True)
class Measured:
    """A step's N rollouts, in sums over their response tokens; every field is (N,). No padding rows.

    `before` is the old policy, that is before any update of the step; `after` the policy after all of them.
    """

    rewards: Tensor
    """1 for a correct rollout, 0 for a wrong one."""
    group_ids: Tensor
    """Integers; rollouts of one prompt share theirs. Groups are reported in ascending order."""
    advantages: Tensor
    lengths: Tensor
    """Response tokens, at least 1."""
    logprob_before: Tensor
    """nats"""
    logprob_after: Tensor
    """nats"""
    entropy_before: Tensor
    """nats, full vocabulary"""
    entropy_after: Tensor
    """nats, on the same tokens"""

    def __post_init__(self) -> None:
        """Reject shapes that do not fit."""
        shapes = {field.name: tuple(getattr(self, field.name).shape) for field in fields(self)}
        if len(set(shapes.values())) != 1 or len(shapes["rewards"]) != 1:
            raise ValueError(f"expected one value per rollout in every field, found the shapes {shapes}")


def describe_rollouts(rollouts: Measured, group_size: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The columns of a step's row that describe its rollouts, and one row per group (units: :mod:`asymgrpo.records`).

    Args:
        rollouts: of one step.
        group_size: G; the histogram has G + 1 bins.

    Raises:
        ValueError: a group has more than G rollouts.
    """
    rewards, group_ids = rollouts.rewards.double(), rollouts.group_ids
    lengths, correct = rollouts.lengths.double(), rollouts.rewards > 0
    confidence = rollouts.logprob_before.double() / lengths  # S: length-normalised old log-probability
    by_group = group_statistics(confidence, rewards, group_ids)
    if (largest := int(by_group.size.max())) > group_size:
        raise ValueError(f"a group has {largest} rollouts, expected at most {group_size}")
    accuracy = by_group.accuracy
    alpha = alpha_from_gaps(accuracy, by_group.gap)
    gain = rollouts.logprob_after.double() - rollouts.logprob_before.double()

    def per_token(where: Tensor, values: Tensor) -> float:
        return float(values.double()[where].sum() / lengths[where].sum()) if bool(where.any()) else float("nan")

    def mean(where: Tensor, values: Tensor) -> float:
        return float(values[where].mean()) if bool(where.any()) else float("nan")

    everything = torch.ones_like(correct)
    row = {
        "reward": float(rewards.mean()),
        "group_accuracy": float(accuracy.mean()),
        "group_accuracy_histogram": torch.bincount(by_group.correct.long(), minlength=group_size + 1).tolist(),
        "none_solved": float((accuracy == 0).double().mean()),
        "all_solved": float((accuracy == 1).double().mean()),
        "mixed": alpha.n_mixed / len(accuracy),
        "n_groups": len(accuracy),
        "n_mixed": alpha.n_mixed,
        "entropy": per_token(everything, rollouts.entropy_before),
        "entropy_correct": per_token(correct, rollouts.entropy_before),
        "entropy_wrong": per_token(~correct, rollouts.entropy_before),
        "entropy_after": per_token(everything, rollouts.entropy_after),
        "alpha": alpha.value,
        "advantage_covariance": float(advantage_covariance(confidence, rollouts.advantages, group_ids).mean()),
        "logprob_gain_correct": mean(correct, gain),
        "logprob_gain_wrong": mean(~correct, gain),
        "response_length": float(lengths.mean()),
        "tokens": int(lengths.sum()),
    }
    rows = [
        {"rollouts": size, "correct": int(c), "confidence_correct": float(right), "confidence_wrong": float(wrong)}
        for size, c, right, wrong in zip(
            by_group.size.tolist(),
            by_group.correct.tolist(),
            by_group.confidence_correct.tolist(),
            by_group.confidence_wrong.tolist(),
            strict=True,
        )
    ]
    return row, rows
