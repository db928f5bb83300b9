"""What an estimator gives to a group with k of G rollouts right: its advantages as a table over k."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asymgrpo.advantages import Estimator, compute_advantages


class ByCount(NamedTuple):
    """Advantages over k = 0..G; each of shape (G + 1,), float64, and 0 where a group has no such rollout."""

    positive: NDArray[np.float64]
    """Of a correct rollout."""
    negative: NDArray[np.float64]
    """Of a wrong rollout."""


def by_count(estimator: Estimator, size: int) -> ByCount:
    """The advantages of :func:`asymgrpo.advantages.compute_advantages` in groups of `size` rollouts.

    Raises:
        ValueError: a group has fewer than two rollouts.
    """
    right = torch.arange(size)[None, :] < torch.arange(size + 1)[:, None]  # (G + 1, G): row k has k correct rollouts
    ids = torch.arange(size + 1).repeat_interleave(size)
    advantages = compute_advantages(right.flatten(), ids, estimator).double().reshape(size + 1, size).numpy()
    positive, negative = np.zeros(size + 1), np.zeros(size + 1)
    positive[1:], negative[:-1] = advantages[1:, 0], advantages[:-1, -1]
    return ByCount(positive, negative)
