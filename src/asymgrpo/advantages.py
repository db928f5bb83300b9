"""The paper's family of advantage estimators (Sec. 2 and 4): pure functions of binary rewards and their groups.

A group is the rollouts of one prompt and p its accuracy, the mean of its rewards. A correct rollout has the advantage
``A+(p) = ((1 - p) / p) ** beta_pos``, a wrong one ``A-(p) = -(p / (1 - p)) ** beta_neg``, with 0 ** 0 = 1. REINFORCE is
(0, 0) and GRPO, standardisation by the group's *population* standard deviation, is (0.5, 0.5) (Eq. 4).

Everything is computed in float64 on the CPU, whatever the device of the arguments: a batch has a few thousand rewards,
for which one copy costs less than the kernel launches and the synchronisations that the checks would need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from asymgrpo.schedules import Exponents, betas, schedule_from_spec

FLIPS = (None, "positive", "negative")

Array = TypeVar("Array", Tensor, np.ndarray)


@dataclass(frozen=True)
class AdvantageFamily:
    """A+(p) = ((1-p)/p)^beta_pos for correct rollouts, A-(p) = -(p/(1-p))^beta_neg for wrong ones.

    ``flip`` reflects one of the two curves around p = 1/2 (App. C; EntDecrease is "positive", EntIncrease "negative").
    ``all_solved_zero`` sets the advantage of groups with p = 1 to zero, ``none_solved_zero`` that of groups with p = 0:
    ablations of our own, because those groups have +1 and -1 at beta = 0 and zero at any other beta.

    Raises ValueError, naming the field, for a negative, non-finite or non-numeric beta, an unknown flip, or a switch
    that is no boolean.
    """

    beta_pos: float
    beta_neg: float
    flip: str | None = None
    all_solved_zero: bool = False
    none_solved_zero: bool = False

    def __post_init__(self) -> None:
        """Reject what would only show up later, as NaN advantages."""
        check_beta("beta_pos", self.beta_pos)
        check_beta("beta_neg", self.beta_neg)
        if self.flip not in FLIPS:
            raise ValueError(f"flip: expected None, 'positive' or 'negative', found {self.flip!r}")
        for name in ("all_solved_zero", "none_solved_zero"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected true or false, found {getattr(self, name)!r}")


@dataclass(frozen=True)
class MeanCentred:
    """Dr.GRPO: A = r - p, not divided by a standard deviation (Liu et al. 2025)."""


Estimator = AdvantageFamily | MeanCentred


class Groups(NamedTuple):
    """The groups of a batch, in ascending order of their labels. CPU tensors."""

    labels: Tensor
    """(groups,) int64: the values of group_ids."""
    group_of: Tensor
    """(rollouts,) int64: which group, 0..groups-1, each rollout belongs to."""
    size: Tensor
    """(groups,) int64: rollouts in the group, at least 2."""
    correct: Tensor
    """(groups,) int64: correct rollouts in the group."""
    solved: Tensor
    """(rollouts,) bool: the rewards."""

    @property
    def accuracy(self) -> Tensor:
        """(groups,) float64: p, exactly 0 and 1 for groups with none and all solved."""
        return self.correct.double() / self.size


def compute_advantages(rewards: Tensor, group_ids: Tensor, estimator: Estimator) -> Tensor:
    """The advantage of every rollout: the same for all tokens of its response (Sec. 2, 4).

    Args:
        rewards: (rollouts,) of any real or boolean dtype, on any device; each 0 or 1.
        group_ids: (rollouts,) of any integer dtype; rollouts with the same id are one group. Groups may have any size
            from 2 and any order.
        estimator: which advantages.

    Returns:
        (rollouts,) float32 on the device of `rewards`, without gradient.

    Raises:
        ValueError: see :func:`group_rollouts`; or if a beta is so large that an advantage is no float32.
        TypeError: if `estimator` is no estimator.
    """
    groups = group_rollouts(rewards, group_ids)
    p = groups.accuracy
    if isinstance(estimator, MeanCentred):
        positive, negative = 1 - p, -p
    elif isinstance(estimator, AdvantageFamily):
        positive, negative = _family(p, groups.size, estimator)
    else:
        raise TypeError(f"estimator: expected AdvantageFamily or MeanCentred, found {estimator!r}")
    # A+ is infinite for a group without correct rollouts, A- for one without wrong ones: `where` never takes those.
    advantages = torch.where(groups.solved, positive[groups.group_of], negative[groups.group_of]).float()
    if not bool(advantages.isfinite().all()):
        raise ValueError(f"{estimator}: a beta is too large for groups of {int(groups.size.max())}: A is infinite")
    return advantages.to(rewards.device)


def _family(p: Tensor, size: Tensor, family: AdvantageFamily) -> tuple[Tensor, Tensor]:
    """(A+, A-) per group, float64."""
    if family.flip == "positive":
        positive = reflected_positive_magnitude(p, family.beta_pos, size)
    else:
        positive = positive_magnitude(p, family.beta_pos)
    if family.flip == "negative":
        negative = -reflected_negative_magnitude(p, family.beta_neg, size)
    else:
        negative = -negative_magnitude(p, family.beta_neg)
    if family.all_solved_zero:
        positive = positive.masked_fill(p == 1, 0.0)
    if family.none_solved_zero:
        negative = negative.masked_fill(p == 0, 0.0)
    return positive, negative


def positive_magnitude(p: Array, beta: float) -> Array:
    """A+(p) = ((1-p)/p)^beta, elementwise, in the dtype of p (Fig. 1a); p in [0, 1], 0^0 = 1, infinite at p = 0."""
    check_beta("beta", beta)
    return ((1 - p) / p) ** beta


def negative_magnitude(p: Array, beta: float) -> Array:
    """|A-(p)| = (p/(1-p))^beta, elementwise, in the dtype of p (Fig. 1b); p in [0, 1], 0^0 = 1, infinite at p = 1."""
    check_beta("beta", beta)
    return (p / (1 - p)) ** beta


def reflected_positive_magnitude(p: Tensor, beta: float, group_size: Tensor | int) -> Tensor:
    """The positive curve reflected around p = 1/2 (App. C): (p/(1-p))^beta, and at p = 1 a linear extension.

    The extension goes through the two feasible accuracies next to p = 1, which are (G-1)/G and (G-2)/G for a group of
    `group_size` G >= 2. (At G = 2 the second is p = 0, where the curve is 0^beta: no group of two with a correct
    rollout has it, but it is the curve's value.) At G = 8, beta = 0.5 it is 2 * sqrt(7) - sqrt(3).

    Args:
        p: accuracies in [0, 1], float64 for the accuracy of the closed form.
        beta: exponent, >= 0.
        group_size: one for all, or one per element of p.
    """
    size = torch.as_tensor(group_size, dtype=p.dtype)
    nearest, second = negative_magnitude((size - 1) / size, beta), negative_magnitude((size - 2) / size, beta)
    return torch.where(p == 1, 2 * nearest - second, negative_magnitude(p, beta))


def reflected_negative_magnitude(p: Tensor, beta: float, group_size: Tensor | int) -> Tensor:
    """The magnitude of the negative curve reflected around p = 1/2: ((1-p)/p)^beta, and at p = 0 a linear extension.

    The mirror image of :func:`reflected_positive_magnitude`: extended from p = 1/G and 2/G.
    """
    size = torch.as_tensor(group_size, dtype=p.dtype)
    nearest, second = positive_magnitude(1 / size, beta), positive_magnitude(2 / size, beta)
    return torch.where(p == 0, 2 * nearest - second, positive_magnitude(p, beta))


def group_rollouts(rewards: Tensor, group_ids: Tensor) -> Groups:
    """Sort rollouts into groups and count the correct ones.

    Args:
        rewards: (rollouts,), each 0 or 1.
        group_ids: (rollouts,), any integers.

    Raises:
        ValueError: naming what is wrong and where, if an argument is not one-dimensional or is empty, their lengths
            differ, a reward is neither 0 nor 1 (NaN included), group_ids are no integers, or a group has one rollout.
    """
    for name, values in (("rewards", rewards), ("group_ids", group_ids)):
        if values.dim() != 1:
            raise ValueError(f"{name}: expected one dimension, found shape {tuple(values.shape)}")
    if len(rewards) != len(group_ids):
        raise ValueError(f"rewards has {len(rewards)} elements, group_ids {len(group_ids)}: expected the same number")
    if len(rewards) == 0:
        raise ValueError("rewards: expected at least one group of rollouts, found none")
    if group_ids.is_floating_point() or group_ids.is_complex() or group_ids.dtype == torch.bool:
        raise ValueError(f"group_ids: expected integers, found {group_ids.dtype}")

    values = rewards.detach().cpu()
    solved = values == 1
    invalid = ~(solved | (values == 0))  # so that NaN, equal to nothing, is invalid
    if bool(invalid.any()):
        first = int(invalid.nonzero()[0])
        raise ValueError(f"rewards[{first}] is {values[first].item()}: expected 0 or 1")

    labels, group_of, size = torch.unique(group_ids.detach().cpu().long(), return_inverse=True, return_counts=True)
    single = labels[size == 1]
    if len(single) > 0:
        raise ValueError(
            f"group_ids: {len(single)} group(s) have only one rollout, the first is group {int(single[0])}: "
            "an advantage relative to a group needs at least two"
        )
    correct = torch.bincount(group_of[solved], minlength=len(labels))
    return Groups(labels, group_of, size, correct, solved)


def estimator_from_spec(spec: Mapping[str, Any]) -> Estimator:
    """The estimator that a run spec's `estimator` entry describes.

    Args:
        spec: ``{"name": "mean_centred"}``, or ``{"name": "family", "beta_pos": ..., "beta_neg": ...}`` and any other
            field of :class:`AdvantageFamily`.

    Raises:
        ValueError: naming the key, for an unknown name, an unknown or missing key, or a value that the estimator
            refuses.
    """
    kinds: dict[str, type[AdvantageFamily] | type[MeanCentred]] = {
        "family": AdvantageFamily,
        "mean_centred": MeanCentred,
    }
    name = spec.get("name")
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"estimator: name: expected one of {', '.join(kinds)}, found {name!r}")
    kind = kinds[name]
    values = {key: value for key, value in spec.items() if key != "name"}
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        takes = ", ".join(sorted(known)) or "no other key"
        raise ValueError(f"estimator: unknown key {', '.join(map(repr, unknown))}: {name} takes {takes}")
    missing = sorted(field.name for field in fields(kind) if field.default is MISSING and field.name not in values)
    if missing:
        raise ValueError(f"estimator: {name} needs the key {', '.join(missing)}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"estimator: {error}") from None


def estimator_at(spec: Mapping[str, Any], step: int, steps: int, history: Sequence[Sequence[int]]) -> Estimator:
    """The estimator of one step of a run: that of :func:`estimator_from_spec`, or one with its schedule's exponents.

    Args:
        spec: the run spec's `estimator`; with a `schedule` it has no exponents of its own.
        step: counted from 1.
        steps: of the whole run.
        history: of the steps before: a schedule's exponents follow from it, see :func:`asymgrpo.schedules.betas`.

    Raises:
        ValueError: naming the key, as :func:`estimator_from_spec` and :func:`asymgrpo.schedules.schedule_from_spec`.
    """
    if "schedule" not in spec:
        return estimator_from_spec(spec)
    constant = {key: value for key, value in spec.items() if key != "schedule"}
    if taken := [key for key in Exponents._fields if key in constant]:
        raise ValueError(f"estimator: {taken[0]}: is given beside a schedule, which decides it")
    return estimator_from_spec(constant | betas(schedule_from_spec(spec["schedule"]), step, steps, history)._asdict())


def check_beta(name: str, beta: float) -> None:
    """ValueError naming it unless `beta` is a finite number >= 0."""
    if isinstance(beta, bool) or not isinstance(beta, int | float) or not math.isfinite(beta) or beta < 0:
        raise ValueError(f"{name}: expected a finite number >= 0, found {beta!r}")
