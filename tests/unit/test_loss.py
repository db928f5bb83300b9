"""The clipped surrogate, branch by branch, with numbers worked out by hand."""

import math

import pytest
import torch

from asymgrpo.training.loss import LossSettings, policy_loss

SETTINGS = LossSettings(clip_low=0.2, clip_high=0.3, dual_clip=3.0, entropy_coefficient=0.0)

# ratio, advantage -> loss, its gradient by the log-probability (the ratio's own derivative is the ratio), clipped where
CASES = {
    "A > 0, inside": (1.1, 1.0, -1.1, -1.1, None),
    "A > 0, on the upper edge side": (1.29, 2.0, -2.58, -2.58, None),
    "A > 0, above: no more gain": (1.5, 1.0, -1.3, 0.0, "high"),
    "A > 0, far above": (5.0, 2.0, -2.6, 0.0, "high"),
    "A > 0, below: not clipped": (0.5, 2.0, -1.0, -1.0, None),
    "A < 0, inside": (0.9, -1.0, 0.9, 0.9, None),
    "A < 0, below: no more gain": (0.5, -1.0, 0.8, 0.0, "low"),
    "A < 0, far below": (0.01, -2.0, 1.6, 0.0, "low"),
    "A < 0, above: not clipped": (2.0, -1.0, 2.0, 2.0, None),
    "A < 0, above the dual bound": (4.0, -1.0, 3.0, 0.0, None),
    "A < 0, above the dual bound, scaled": (4.0, -2.0, 6.0, 0.0, None),
    "A = 0": (4.0, 0.0, 0.0, 0.0, None),
    "A = 0, below": (0.1, 0.0, 0.0, 0.0, None),
    "first update: the ratio is 1": (1.0, 0.7, -0.7, -0.7, None),
}


def tensors(ratios, old=-1.3):
    old_logprobs = torch.full((len(ratios),), old, dtype=torch.float64)
    return (old_logprobs + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_(), old_logprobs


@pytest.mark.parametrize(("ratio", "advantage", "loss", "gradient", "clipped"), CASES.values(), ids=CASES)
def test_each_branch(ratio, advantage, loss, gradient, clipped):
    logprobs, old = tensors([ratio])
    result = policy_loss(logprobs, old, torch.tensor([advantage], dtype=torch.float64), torch.tensor([True]), SETTINGS)
    result.surrogate.backward()
    assert result.surrogate.item() == pytest.approx(loss, abs=1e-12)
    assert logprobs.grad.item() == pytest.approx(gradient, abs=1e-12)
    assert int(result.clipped_low) == (clipped == "low")
    assert int(result.clipped_high) == (clipped == "high")


def test_sums_over_the_mask_only():
    ratios, advantages, losses, gradients, clipped = zip(*CASES.values(), strict=True)
    mask = torch.tensor([i % 3 != 0 for i in range(len(ratios))])
    logprobs, old = tensors(ratios)
    result = policy_loss(logprobs, old, torch.tensor(advantages, dtype=torch.float64), mask, SETTINGS)
    result.surrogate.backward()
    kept = mask.tolist()
    assert result.surrogate.item() == pytest.approx(sum(x for x, k in zip(losses, kept, strict=True) if k))
    expected = [x if k else 0.0 for x, k in zip(gradients, kept, strict=True)]
    torch.testing.assert_close(logprobs.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)
    assert int(result.clipped_low) == sum(c == "low" for c, k in zip(clipped, kept, strict=True) if k)
    assert int(result.clipped_high) == sum(c == "high" for c, k in zip(clipped, kept, strict=True) if k)
    assert 0 < int(result.clipped_low) < sum(c == "low" for c in clipped) + 1


def test_the_two_clips_are_two_settings():
    """Clip-higher: raising the upper one leaves wrong rollouts as they are."""
    logprobs, old = tensors([1.25, 0.75])
    advantages, mask = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([True, True])
    values = {
        clips: policy_loss(logprobs, old, advantages, mask, LossSettings(*clips, 3.0, 0.0)).surrogate.item()
        for clips in [(0.2, 0.2), (0.2, 0.28), (0.3, 0.2)]
    }
    assert values[0.2, 0.2] == pytest.approx(-1.2 + 0.8)
    assert values[0.2, 0.28] == pytest.approx(-1.25 + 0.8)
    assert values[0.3, 0.2] == pytest.approx(-1.2 + 0.75)


@pytest.mark.parametrize("difference", [25.0, 400.0])
def test_a_huge_ratio_stays_finite(difference):
    logprobs = torch.tensor([-1.0, -1.0 - difference], requires_grad=True)
    old = torch.tensor([-1.0 - difference, -1.0])
    settings = LossSettings(0.2, 0.2, 1e12, 0.0)
    result = policy_loss(logprobs, old, torch.tensor([-1.0, 1.0]), torch.tensor([True, True]), settings)
    result.surrogate.backward()
    assert result.surrogate.item() == pytest.approx(math.exp(20), rel=1e-5)
    assert logprobs.grad.tolist() == [0.0, 0.0]


def test_without_clipping_the_gradient_is_the_policy_gradient():
    """At the sampling policy: minus the advantage, for any advantages."""
    logprobs = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    advantages = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    policy_loss(logprobs, logprobs.detach(), advantages, torch.ones(50).bool(), SETTINGS).surrogate.backward()
    torch.testing.assert_close(logprobs.grad, -advantages)
