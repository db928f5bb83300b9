"""Prop. 1 on policies small enough to be exact: a softmax over a few actions per prompt, every expectation a sum.

Nothing is sampled: p is the policy's own probability of a correct action, the advantage of an action is that of its
reward at this p, and the entropy before and after a step is computed from all probabilities. So what is left between
measured and predicted entropy changes is the theory's own error. numpy, float64.

Which step the theory describes. For logits z the entropy's gradient is dH/dz_a = -pi_a (log pi_a + H), so

- the *natural* gradient step, dz = eta * A, changes the entropy by -eta * Cov_pi(log pi, A) + O(eta^2). The paper's
  first-order change, Prop. 1 and the finite-beta prediction are exact to first order in eta for this step.
- the *softmax* policy-gradient step, dz = eta * pi * (A - E_pi[A]), changes it by
  -eta * sum_a pi_a^2 (log pi_a + H) (A_a - E_pi[A]) + O(eta^2): log pi is weighted by pi once more, and the entropy
  itself enters. The predictions are not exact for it, however small eta is; only the sign can be hoped for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from asymgrpo.advantages import negative_magnitude, positive_magnitude
from asymgrpo.theory import Channel, alpha_from_gaps, finite_beta_channel_change, first_order_channel_change

Update = Literal["natural", "softmax"]


@dataclass(frozen=True)
class TabularPolicies:
    """One softmax policy per prompt.

    Raises ValueError if the shapes differ, a logit is not finite, or a prompt has no correct or no wrong action (its
    groups would never be mixed).
    """

    logits: np.ndarray
    """(prompts, actions) float64."""
    correct: np.ndarray
    """(prompts, actions) bool: the reward of each action."""

    def __post_init__(self) -> None:
        """Check what the expectations rely on."""
        if self.logits.ndim != 2 or self.logits.shape != self.correct.shape:
            shapes = f"{self.logits.shape} and {self.correct.shape}"
            raise ValueError(f"logits, correct: expected one shape (prompts, actions), found {shapes}")
        if not np.isfinite(self.logits).all():
            raise ValueError("logits: expected finite numbers")
        if self.correct.dtype != np.bool_ or not (self.correct.any(axis=1) & ~self.correct.all(axis=1)).all():
            raise ValueError("correct: expected booleans, with a correct and a wrong action for every prompt")

    @property
    def log_probabilities(self) -> np.ndarray:
        """(prompts, actions) float64, nats: an action is a one-token response, so this is its confidence S."""
        return _log_softmax(self.logits)

    @property
    def accuracy(self) -> np.ndarray:
        """(prompts,) p: the probability of a correct action."""
        return np.where(self.correct, np.exp(self.log_probabilities), 0.0).sum(axis=1)

    @property
    def gap(self) -> np.ndarray:
        """(prompts,) nats: D, the expected confidence given a correct action minus that given a wrong one."""
        log_pi, p = self.log_probabilities, self.accuracy
        weighted = np.exp(log_pi) * log_pi
        correct = np.where(self.correct, weighted, 0.0).sum(axis=1)
        return correct / p - (weighted.sum(axis=1) - correct) / (1 - p)

    @property
    def alpha(self) -> float:
        """alpha (App. B), the mean over prompts."""
        return alpha_from_gaps(self.accuracy, self.gap).value


def random_policies(prompts: int, actions: int, seed: int, scale: float = 1.5) -> TabularPolicies:
    """Random policies: logits normal with standard deviation `scale`, 1 to actions - 1 correct actions, anywhere."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, scale, (prompts, actions))
    n_correct = rng.integers(1, actions, prompts)
    correct = rng.random((prompts, actions)).argsort(axis=1).argsort(axis=1) < n_correct[:, None]
    return TabularPolicies(logits, correct)


def entropy(logits: np.ndarray) -> np.ndarray:
    """(prompts,) nats: the entropy of the softmax of (prompts, actions) logits."""
    log_pi = _log_softmax(logits)
    return -(np.exp(log_pi) * log_pi).sum(axis=1)


def action_advantages(policies: TabularPolicies, beta_pos: float, beta_neg: float) -> np.ndarray:
    """(prompts, actions): A+(p) for the correct actions, A-(p) for the wrong ones, at the policy's exact p."""
    p = policies.accuracy[:, None]
    return np.where(policies.correct, positive_magnitude(p, beta_pos), -negative_magnitude(p, beta_neg))


def step(policies: TabularPolicies, advantages: np.ndarray, eta: float, update: Update = "natural") -> np.ndarray:
    """The logits (prompts, actions) after one exact step of size `eta` along `update` (see the module's docstring)."""
    if update not in get_args(Update):
        raise ValueError(f"update: expected 'natural' or 'softmax', found {update!r}")
    if update == "natural":
        return policies.logits + eta * advantages
    pi = np.exp(policies.log_probabilities)
    baseline = (pi * advantages).sum(axis=1, keepdims=True)
    return policies.logits + eta * pi * (advantages - baseline)


def entropy_change(
    policies: TabularPolicies, beta_pos: float, beta_neg: float, eta: float, update: Update = "natural"
) -> np.ndarray:
    """(prompts,) nats: the exact entropy after one step minus before it."""
    after = step(policies, action_advantages(policies, beta_pos, beta_neg), eta, update)
    return entropy(after) - entropy(policies.logits)


def entropy_changes(
    policies: TabularPolicies, betas: Sequence[float], eta: float, update: Update = "natural"
) -> pd.DataFrame:
    """Measured and predicted entropy changes over REINFORCE's when one channel's beta leaves zero (Prop. 1).

    Returns:
        One row per (beta, channel), in nats, means over prompts:

        ========== ========================================================================================
        beta       the channel's exponent; the other channel's is 0
        channel    "positive" or "negative"
        measured   exact entropy change of the step minus that of the REINFORCE step
        first_order  +-eta * beta * alpha (Prop. 1)
        finite_beta  the prediction that is not expanded in beta
        ========== ========================================================================================

        and `eta`, `update` as given. Both predictions are those for the natural update, whatever `update` is.
    """
    reinforce = entropy_change(policies, 0.0, 0.0, eta, update)
    p, gap, alpha = policies.accuracy, policies.gap, policies.alpha
    rows = []
    for beta in betas:
        for channel in get_args(Channel):
            exponents = (beta, 0.0) if channel == "positive" else (0.0, beta)
            measured = entropy_change(policies, *exponents, eta, update) - reinforce
            rows.append(
                {
                    "update": update,
                    "eta": eta,
                    "beta": beta,
                    "channel": channel,
                    "measured": float(measured.mean()),
                    "first_order": first_order_channel_change(eta, beta, alpha, channel),
                    "finite_beta": finite_beta_channel_change(eta, beta, p, gap, channel),
                }
            )
    return pd.DataFrame(rows)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
