"""Accuracies from counts: Avg@k and the unbiased pass@k."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def average_at_k(correct: ArrayLike, samples: int) -> float:
    """Avg@k: correct / (n * k), for the number of correct samples (n,) of each of n problems, k samples each."""
    counts = _counts(correct, samples)
    return float(counts.sum() / (len(counts) * samples))


def pass_at_k(correct: ArrayLike, samples: int, k: int) -> NDArray[np.float64]:
    """Unbiased pass@k = 1 - C(n - c, k) / C(n, k) per problem, as a product that does not overflow.

    Args:
        correct: (problems,) integers, c: correct samples of each problem.
        samples: n, samples per problem.
        k: 1..n.

    Returns:
        (problems,) float64: the probability that k of the n samples, drawn without replacement, hold a correct one.

    Raises:
        ValueError: k outside 1..n, or counts outside 0..n.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k: expected 1..{samples} (the samples per problem), found {k}")
    counts = _counts(correct, samples)
    # C(n-c, k) / C(n, k) = product over i < k of (n - c - i) / (n - i); a factor is 0 once c > n - k
    i = np.arange(k)
    factors = np.clip(samples - counts[:, None] - i, 0, None) / (samples - i)
    return 1.0 - factors.prod(1)


def _counts(correct: ArrayLike, samples: int) -> NDArray[np.int64]:
    counts = np.asarray(correct)
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"correct: expected one count per problem, found the shape {counts.shape}")
    if (counts < 0).any() or (counts > samples).any():
        raise ValueError(f"correct: expected counts of 0..{samples}, found {counts.min()}..{counts.max()}")
    return counts.astype(np.int64)
