"""Our closed forms against the advantages that verl itself computes."""

import math

import numpy as np
import pytest
import torch

from asymgrpo.advantages import AdvantageFamily, MeanCentred, compute_advantages

pytest.importorskip("verl")

pytestmark = pytest.mark.verl


def verl_advantages(rewards, group_ids, **options):
    """verl's estimator on responses of different lengths: (one value per rollout, per token, the mask)."""
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    lengths = torch.randint(1, 12, (len(rewards),), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(11)[None, :] < lengths[:, None]).float()
    token_level_rewards = torch.zeros_like(mask)
    token_level_rewards[torch.arange(len(rewards)), lengths - 1] = rewards
    uids = np.array([f"prompt-{label}" for label in group_ids.tolist()], dtype=object)
    per_token, _ = compute_grpo_outcome_advantage(token_level_rewards, mask, uids, **options)
    return per_token[:, 0], per_token, mask


@pytest.fixture(params=range(3))
def rewards_of(request):
    """size -> (rewards, group_ids): every number of correct rollouts, and random ones, shuffled."""

    def build(size):
        random = torch.Generator().manual_seed(request.param)
        every = torch.tensor([[1.0] * c + [0.0] * (size - c) for c in range(size + 1)])
        some = (torch.rand(20, size, generator=random) < torch.rand(20, 1, generator=random)).float()
        rewards = torch.cat([every, some]).flatten()
        order = torch.randperm(len(rewards), generator=random)
        return rewards[order], torch.arange(len(rewards)).div(size, rounding_mode="floor")[order]

    return build


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16])
def test_grpo_up_to_the_sample_deviation(rewards_of, size):
    rewards, group_ids = rewards_of(size)
    theirs, per_token, mask = verl_advantages(rewards, group_ids)
    ours = compute_advantages(rewards, group_ids, AdvantageFamily(0.5, 0.5))

    # verl divides by the sample deviation plus 1e-6: smaller by sqrt((G-1)/G), and by 4e-6 or less at G = 16.
    factor = math.sqrt(size / (size - 1))
    torch.testing.assert_close(ours, theirs * factor, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[:, None] * mask, per_token * factor, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours, theirs, rtol=1e-2)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_mean_centred_is_grpo_without_the_deviation(rewards_of, size):
    rewards, group_ids = rewards_of(size)
    theirs, _, _ = verl_advantages(rewards, group_ids, norm_adv_by_std_in_grpo=False)
    torch.testing.assert_close(compute_advantages(rewards, group_ids, MeanCentred()), theirs, rtol=1e-6, atol=1e-7)
