"""What the paper proves about entropy and learning pressure (Sec. 2, App. A, B and E), as functions of a batch.

Torch. Arguments that describe a batch are 1-D tensors, one element per rollout, on any device; results are float64 on
the CPU, groups in ascending order of their ids. Group-level functions also take numpy arrays.

S, the *confidence* of a rollout, is its length-normalised log-probability under the old policy, in nats per token.
D, the *gap* of a group, is the mean confidence of its correct rollouts minus that of its wrong ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from asymgrpo.advantages import Array, check_beta, group_rollouts, negative_magnitude, positive_magnitude

Channel = Literal["positive", "negative"]


class GroupStatistics(NamedTuple):
    """Per group, in ascending order of the group's id: (groups,) CPU tensors."""

    group_ids: Tensor
    """int64."""
    size: Tensor
    """int64: rollouts G."""
    correct: Tensor
    """int64: correct rollouts."""
    confidence_correct: Tensor
    """float64: mean confidence of the correct rollouts, NaN if there is none."""
    confidence_wrong: Tensor
    """float64: mean confidence of the wrong rollouts, NaN if there is none."""

    @property
    def accuracy(self) -> Tensor:
        """(groups,) float64: p."""
        return self.correct.double() / self.size

    @property
    def gap(self) -> Tensor:
        """(groups,) float64: D, NaN unless the group is mixed."""
        return self.confidence_correct - self.confidence_wrong


class AlphaResult(NamedTuple):
    """alpha (App. E) of a batch."""

    value: float
    """Mean over the mixed groups; NaN if there is none."""
    n_mixed: int
    """Groups with 0 < p < 1."""
    per_group: Tensor
    """(groups,) float64: each group's term, NaN unless the group is mixed."""


def group_statistics(confidence: Tensor, rewards: Tensor, group_ids: Tensor) -> GroupStatistics:
    """Size, correct rollouts and mean confidence of the correct and the wrong ones, per group.

    Args:
        confidence: (rollouts,) floating point, finite.
        rewards: (rollouts,), each 0 or 1.
        group_ids: (rollouts,), any integers; groups of two and more.

    Raises:
        ValueError: see :func:`asymgrpo.advantages.group_rollouts`; or if a confidence is not finite, or there is not
            one per rollout.
    """
    groups = group_rollouts(rewards, group_ids)
    values = _per_rollout("confidence", confidence, len(groups.solved))
    solved, wrong = groups.solved.double(), (~groups.solved).double()
    n = len(groups.labels)
    # 0 / 0 is the NaN of a group that has no such rollout.
    return GroupStatistics(
        groups.labels,
        groups.size,
        groups.correct,
        torch.bincount(groups.group_of, weights=values * solved, minlength=n) / groups.correct,
        torch.bincount(groups.group_of, weights=values * wrong, minlength=n) / (groups.size - groups.correct),
    )


def advantage_covariance(confidence: Tensor, advantages: Tensor, group_ids: Tensor) -> Tensor:
    """Cov_g(S, A) of every group: the empirical covariance over its rollouts, divided by G and not by G - 1.

    Args:
        confidence: (rollouts,) floating point, finite.
        advantages: (rollouts,) floating point, finite.
        group_ids: (rollouts,) integers.

    Returns:
        (groups,) float64, groups in ascending order of their ids.

    Raises:
        ValueError: naming the argument, if lengths differ or a value is not finite.
    """
    labels, index, size = torch.unique(group_ids.detach().cpu().long(), return_inverse=True, return_counts=True)
    n = len(labels)
    s = _per_rollout("confidence", confidence, len(index))
    a = _per_rollout("advantages", advantages, len(index))
    # E[SA] - E[S]E[A] would lose the digits of confidences far from zero; one centred factor is enough.
    s = s - (torch.bincount(index, weights=s, minlength=n) / size)[index]
    return torch.bincount(index, weights=s * a, minlength=n) / size


def first_order_entropy_change(eta: float, confidence: Tensor, advantages: Tensor, group_ids: Tensor) -> Tensor:
    """The first-order entropy change of every group, -eta * Cov_g(S, A), in nats: (groups,) float64.

    `eta` is the step size of a natural-gradient step (dz = eta * A in a softmax policy); of another optimiser's step
    only the sign carries over. Other arguments and errors as in :func:`advantage_covariance`.
    """
    return -eta * advantage_covariance(confidence, advantages, group_ids)


def alpha(confidence: Tensor, rewards: Tensor, group_ids: Tensor) -> AlphaResult:
    """The reward-confidence alignment of a batch: mean over mixed groups of p(1-p) * D * log(p/(1-p)) (App. B, E).

    To be taken before the update, from the old policy's log-probabilities, once per batch. Arguments and errors as in
    :func:`group_statistics`.
    """
    statistics = group_statistics(confidence, rewards, group_ids)
    return alpha_from_gaps(statistics.accuracy, statistics.gap)


def alpha_from_gaps(p: Tensor | np.ndarray, gap: Tensor | np.ndarray) -> AlphaResult:
    """alpha from what is known of each group: its accuracy p in [0, 1] and its gap D (NaN where p is 0 or 1).

    Raises:
        ValueError: if shapes differ, a p is outside [0, 1], or a mixed group's gap is not finite (the index is named).
    """
    p, gap, mixed = _mixed(p, gap)
    per_group = torch.where(mixed, p * (1 - p) * gap * torch.log(p / (1 - p)), torch.nan)
    return AlphaResult(float(per_group[mixed].mean()), int(mixed.sum()), per_group)


def first_order_channel_change(eta: float, beta: float, alpha: float, channel: Channel) -> float:
    """Prop. 1: the entropy change over REINFORCE's for small beta, in nats.

    +eta * beta * alpha if only beta_pos is `beta` (channel "positive"), -eta * beta * alpha if only beta_neg is.
    """
    check_beta("beta", beta)
    return _sign(channel) * eta * beta * alpha


def finite_beta_channel_change(
    eta: float, beta: float, p: Tensor | np.ndarray, gap: Tensor | np.ndarray, channel: Channel
) -> float:
    """The same as :func:`first_order_channel_change` without the expansion in beta: exact to first order in eta.

    +eta * E[p(1-p) D (1 - ((1-p)/p)^beta)] for the positive channel, -eta * E[p(1-p) D ((p/(1-p))^beta - 1)] for the
    negative one, E the mean over mixed groups (NaN if there is none). Divided by beta, its limit is +-eta * alpha.

    Args:
        eta: step size.
        beta: exponent of the channel, >= 0; the other channel's is 0.
        p: (groups,) accuracies.
        gap: (groups,) gaps D.
        channel: "positive" or "negative".

    Raises:
        ValueError: as :func:`alpha_from_gaps`, or for a bad beta or channel.
    """
    sign = _sign(channel)
    p, gap, mixed = _mixed(p, gap)
    p, gap = p[mixed], gap[mixed]
    excess = 1 - positive_magnitude(p, beta) if channel == "positive" else negative_magnitude(p, beta) - 1
    return sign * eta * float((p * (1 - p) * gap * excess).mean())


def positive_pressure(p: Array, beta_pos: float) -> Array:
    """The learning pressure of correct rollouts, p * A+(p) (Prop. 2), elementwise; p in [0, 1].

    Written p^(1-beta) (1-p)^beta, so that p = 0 gives the limit and not 0 * infinity.
    """
    check_beta("beta_pos", beta_pos)
    return p ** (1 - beta_pos) * (1 - p) ** beta_pos


def negative_pressure(p: Array, beta_neg: float) -> Array:
    """The learning pressure of wrong rollouts, (1-p) * |A-(p)| = p^beta (1-p)^(1-beta) (Prop. 2); p in [0, 1]."""
    check_beta("beta_neg", beta_neg)
    return p**beta_neg * (1 - p) ** (1 - beta_neg)


def positive_peak(beta_pos: float) -> float:
    """The accuracy with the highest p * A+(p): 1 - beta_pos (Prop. 2). ValueError unless 0 < beta_pos < 1."""
    _check_peak("beta_pos", beta_pos)
    return 1 - beta_pos


def negative_peak(beta_neg: float) -> float:
    """The accuracy with the highest (1-p) * |A-(p)|: beta_neg (Prop. 2). ValueError unless 0 < beta_neg < 1."""
    _check_peak("beta_neg", beta_neg)
    return beta_neg


def _check_peak(name: str, beta: float) -> None:
    check_beta(name, beta)
    if not 0 < beta < 1:
        raise ValueError(f"{name}: the pressure has an interior peak only for 0 < beta < 1, found {beta!r}")


def _sign(channel: str) -> int:
    if channel not in get_args(Channel):
        raise ValueError(f"channel: expected 'positive' or 'negative', found {channel!r}")
    return 1 if channel == "positive" else -1


def _mixed(p: Tensor | np.ndarray, gap: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """p and gap as float64, and which groups are mixed; checked."""
    p, gap = (torch.as_tensor(x).detach().to("cpu", torch.float64) for x in (p, gap))
    if p.dim() != 1 or p.shape != gap.shape:
        raise ValueError(f"p, gap: expected one each per group, found shapes {tuple(p.shape)} and {tuple(gap.shape)}")
    outside = ~((p >= 0) & (p <= 1))
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        raise ValueError(f"p[{first}] is {p[first].item()}: expected an accuracy in [0, 1]")
    mixed = (p > 0) & (p < 1)
    undefined = mixed & ~gap.isfinite()
    if bool(undefined.any()):
        first = int(undefined.nonzero()[0])
        raise ValueError(f"gap[{first}] is {gap[first].item()}: expected a finite gap for a mixed group")
    return p, gap, mixed


def _per_rollout(name: str, values: Tensor, length: int) -> Tensor:
    """`values` as (rollouts,) float64 on the CPU; checked."""
    if values.shape != (length,):
        raise ValueError(f"{name}: expected one value for each of {length} rollouts, found shape {tuple(values.shape)}")
    values = values.detach().to("cpu", torch.float64)
    if not bool(values.isfinite().all()):
        first = int((~values.isfinite()).nonzero()[0])
        raise ValueError(f"{name}[{first}] is {values[first].item()}: expected a finite number")
    return values
