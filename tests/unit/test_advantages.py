import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymgrpo.advantages import (
    AdvantageFamily,
    MeanCentred,
    compute_advantages,
    estimator_from_spec,
    negative_magnitude,
    positive_magnitude,
    reflected_negative_magnitude,
    reflected_positive_magnitude,
)

REINFORCE = AdvantageFamily(0.0, 0.0)
GRPO = AdvantageFamily(0.5, 0.5)
ESTIMATORS = [
    REINFORCE,
    GRPO,
    AdvantageFamily(0.9, 0.4),
    AdvantageFamily(0.0, 0.75),
    AdvantageFamily(0.5, 0.3, flip="positive"),
    AdvantageFamily(0.3, 0.5, flip="negative"),
    AdvantageFamily(0.0, 0.0, all_solved_zero=True),
    AdvantageFamily(0.0, 0.0, none_solved_zero=True),
    AdvantageFamily(0.5, 0.5, flip="positive", all_solved_zero=True),
    AdvantageFamily(0.5, 0.5, flip="negative", none_solved_zero=True),
    MeanCentred(),
]
SIZES = range(2, 17)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def group(correct, size):
    """The rewards of one group, correct ones first."""
    return torch.tensor([1.0] * correct + [0.0] * (size - correct))


def advantages_of_group(correct, size, estimator):
    """(A of its correct rollouts or None, A of its wrong ones or None)."""
    values = compute_advantages(group(correct, size), torch.zeros(size, dtype=torch.long), estimator).tolist()
    assert len(set(values[:correct])) <= 1
    assert len(set(values[correct:])) <= 1
    return (values[0] if correct else None), (values[-1] if correct < size else None)


def expected(reward, correct, size, estimator):
    """The advantage of one rollout, in the paper's words and with Python's numbers only."""
    p = correct / size
    if isinstance(estimator, MeanCentred):
        return reward - p
    if reward == 1:
        beta, zero, flipped = estimator.beta_pos, estimator.all_solved_zero, estimator.flip == "positive"
        share, feasible = p, [(size - 1) / size, (size - 2) / size]
    else:
        beta, zero, flipped = estimator.beta_neg, estimator.none_solved_zero, estimator.flip == "negative"
        share, feasible = 1 - p, [1 - 1 / size, 1 - 2 / size]
    # With `share` the group's share of rollouts like this one, both curves and both reflections are the same.
    if share == 1 and zero:
        magnitude = 0.0
    elif flipped and share == 1:
        first, second = [(x / (1 - x)) ** beta for x in feasible]
        magnitude = first + (first - second)
    elif flipped:
        magnitude = (share / (1 - share)) ** beta
    else:
        magnitude = ((1 - share) / share) ** beta
    return magnitude if reward == 1 else -magnitude


def reference(rewards, group_ids, estimator):
    size, correct = {}, {}
    for reward, label in zip(rewards, group_ids, strict=True):
        size[label] = size.get(label, 0) + 1
        correct[label] = correct.get(label, 0) + reward
    return [
        expected(reward, correct[label], size[label], estimator)
        for reward, label in zip(rewards, group_ids, strict=True)
    ]


# Closed forms


@pytest.mark.parametrize("size", SIZES)
def test_closed_form_is_standardisation_by_the_population_deviation(size):
    for correct in range(1, size):
        rewards = group(correct, size).double()
        standardised = (rewards - rewards.mean()) / rewards.std(correction=0)
        p = rewards.mean()
        assert positive_magnitude(p, 0.5).dtype == torch.float64
        torch.testing.assert_close(positive_magnitude(p, 0.5), standardised[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(-negative_magnitude(p, 0.5), standardised[-1], rtol=1e-13, atol=0)
        computed = compute_advantages(rewards, torch.zeros(size, dtype=torch.long), GRPO)
        assert torch.equal(computed, standardised.float()) or torch.allclose(
            computed, standardised.float(), rtol=2e-7, atol=0
        )


@pytest.mark.parametrize("size", SIZES)
def test_grpo_is_zero_where_all_rewards_are_equal(size):
    assert advantages_of_group(0, size, GRPO) == (None, 0.0)
    assert advantages_of_group(size, size, GRPO) == (0.0, None)


@pytest.mark.parametrize("size", SIZES)
def test_reinforce_is_two_r_minus_one_in_every_group(size):
    for correct in range(size + 1):
        rewards = group(correct, size)
        assert torch.equal(
            compute_advantages(rewards, torch.zeros(size, dtype=torch.int32), REINFORCE), 2 * rewards - 1
        )


@pytest.mark.parametrize("size", SIZES)
def test_mean_centred_is_r_minus_p(size):
    for correct in range(size + 1):
        rewards = group(correct, size).double()
        computed = compute_advantages(rewards, torch.zeros(size, dtype=torch.long), MeanCentred())
        assert torch.equal(computed, (rewards - correct / size).float())


def test_asymmetric_betas_belong_to_their_channels():
    positive, negative = advantages_of_group(2, 8, AdvantageFamily(0.9, 0.4))
    assert positive == pytest.approx(3**0.9, rel=1e-6)
    assert negative == pytest.approx(-((1 / 3) ** 0.4), rel=1e-6)


def test_curves_work_on_arrays_and_their_endpoints():
    p = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert positive_magnitude(p, 0.5).tolist() == [math.inf, 1.0, 0.0]
    assert negative_magnitude(p, 0.5).tolist() == [0.0, 1.0, math.inf]
    assert positive_magnitude(p, 0.0).tolist() == negative_magnitude(p, 0.0).tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(positive_magnitude(np.array([0.2, 0.8]), 1.0), [4.0, 0.25])
    np.testing.assert_allclose(negative_magnitude(np.array([0.2, 0.8]), 1.0), [0.25, 4.0])


# Flips


def test_flip_positive_at_eight():
    values = [advantages_of_group(correct, 8, AdvantageFamily(0.5, 0.5, flip="positive")) for correct in range(9)]
    reflected = [math.sqrt(c / (8 - c)) for c in range(1, 8)] + [2 * math.sqrt(7) - math.sqrt(3)]
    assert [positive for positive, _ in values[1:]] == pytest.approx(reflected, rel=1e-6)
    assert values[8][0] == pytest.approx(3.5595, abs=5e-5)
    unflipped = [advantages_of_group(correct, 8, GRPO)[1] for correct in range(8)]
    assert [negative for _, negative in values[:8]] == unflipped


def test_flip_negative_at_eight():
    values = [advantages_of_group(correct, 8, AdvantageFamily(0.5, 0.5, flip="negative")) for correct in range(9)]
    reflected = [-(2 * math.sqrt(7) - math.sqrt(3))] + [-math.sqrt((8 - c) / c) for c in range(1, 8)]
    assert [negative for _, negative in values[:8]] == pytest.approx(reflected, rel=1e-6)
    assert values[0][1] == pytest.approx(-3.5595, abs=5e-5)
    unflipped = [advantages_of_group(correct, 8, GRPO)[0] for correct in range(1, 9)]
    assert [positive for positive, _ in values[1:]] == unflipped


@pytest.mark.parametrize(
    ("size", "beta", "endpoint"),
    [
        (2, 0.5, 2.0),  # 2 * 1 - 0: the second nearest accuracy is p = 0
        (2, 0.0, 1.0),  # 2 * 1 - 0^0
        (3, 0.5, 2 * math.sqrt(2) - math.sqrt(0.5)),
        (4, 0.5, 2 * math.sqrt(3) - 1),
        (5, 1.0, 2 * 4 - 1.5),
        (16, 0.5, 2 * math.sqrt(15) - math.sqrt(7)),
        (8, 0.0, 1.0),
    ],
)
def test_flip_endpoints_come_from_the_groups_own_size(size, beta, endpoint):
    positive, _ = advantages_of_group(size, size, AdvantageFamily(beta, 0.25, flip="positive"))
    _, negative = advantages_of_group(0, size, AdvantageFamily(0.25, beta, flip="negative"))
    assert positive == pytest.approx(endpoint, rel=1e-6)
    assert negative == pytest.approx(-endpoint, rel=1e-6)


def test_flip_endpoints_in_a_batch_of_several_sizes():
    rewards = torch.ones(14)
    group_ids = torch.tensor([0] * 2 + [1] * 4 + [2] * 8)
    computed = compute_advantages(rewards, group_ids, AdvantageFamily(0.5, 0.5, flip="positive"))
    by_group = [2.0, 2 * math.sqrt(3) - 1, 2 * math.sqrt(7) - math.sqrt(3)]
    assert computed.tolist() == pytest.approx([by_group[g] for g in group_ids.tolist()], rel=1e-6)


def test_reflected_curves_mirror_each_other_and_are_linear_at_the_end():
    p = torch.arange(9, dtype=torch.float64) / 8
    positive = reflected_positive_magnitude(p, 0.7, 8)
    torch.testing.assert_close(positive, reflected_negative_magnitude(1 - p, 0.7, 8), rtol=1e-12, atol=0)
    assert positive[8] - positive[7] == pytest.approx(float(positive[7] - positive[6]))
    # Reflected around p = 1/2: the value at p is the unreflected one at 1 - p.
    torch.testing.assert_close(positive[:8], positive_magnitude(1 - p[:8], 0.7), rtol=1e-12, atol=0)


# Ablations of the endpoints


def test_all_solved_zero_changes_all_solved_groups_only():
    ablation = AdvantageFamily(0.0, 0.0, all_solved_zero=True)
    assert advantages_of_group(8, 8, ablation) == (0.0, None)
    for correct in range(8):
        assert advantages_of_group(correct, 8, ablation) == advantages_of_group(correct, 8, REINFORCE)


def test_none_solved_zero_changes_none_solved_groups_only():
    ablation = AdvantageFamily(0.0, 0.0, none_solved_zero=True)
    assert advantages_of_group(0, 8, ablation) == (None, 0.0)
    for correct in range(1, 9):
        assert advantages_of_group(correct, 8, ablation) == advantages_of_group(correct, 8, REINFORCE)


def test_ablations_win_over_a_flips_endpoint():
    assert advantages_of_group(8, 8, AdvantageFamily(0.5, 0.5, flip="positive", all_solved_zero=True))[0] == 0.0
    assert advantages_of_group(0, 8, AdvantageFamily(0.5, 0.5, flip="negative", none_solved_zero=True))[1] == 0.0


# Properties


@st.composite
def batches(draw):
    """(rewards, labels): at least one group of two and more, in any order, with any labels."""
    sizes = draw(st.lists(st.integers(2, 9), min_size=1, max_size=6))
    labels = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(sizes), max_size=len(sizes), unique=True))
    ids = [label for label, size in zip(labels, sizes, strict=True) for _ in range(size)]
    ids = draw(st.permutations(ids))
    rewards = draw(st.lists(st.integers(0, 1), min_size=len(ids), max_size=len(ids)))
    return torch.tensor(rewards), torch.tensor(ids)


betas = st.floats(0, 3)
families = st.builds(
    AdvantageFamily, betas, betas, st.sampled_from([None, "positive", "negative"]), st.booleans(), st.booleans()
)
estimators = st.one_of(families, st.just(MeanCentred()))
many = settings(max_examples=200, deadline=None)


@many
@given(batches(), estimators, st.randoms(use_true_random=False))
def test_permuting_rollouts_permutes_advantages(batch, estimator, random):
    rewards, group_ids = batch
    order = list(range(len(rewards)))
    random.shuffle(order)
    permuted = compute_advantages(rewards[order], group_ids[order], estimator)
    assert torch.equal(permuted, compute_advantages(rewards, group_ids, estimator)[order])


@many
@given(batches(), estimators, st.data())
def test_other_groups_do_not_matter(batch, estimator, data):
    rewards, group_ids = batch
    label = data.draw(st.sampled_from(group_ids.tolist()))
    own = group_ids == label
    alone = compute_advantages(rewards[own], group_ids[own], estimator)
    assert torch.equal(compute_advantages(rewards, group_ids, estimator)[own], alone)
    changed = torch.where(own, rewards, 1 - rewards)
    assert torch.equal(compute_advantages(changed, group_ids, estimator)[own], alone)


@many
@given(batches(), estimators, st.randoms(use_true_random=False))
def test_labels_do_not_matter(batch, estimator, random):
    rewards, group_ids = batch
    old = sorted(set(group_ids.tolist()))
    new = random.sample(range(-1000, 1000), len(old))
    relabelled = torch.tensor([new[old.index(label)] for label in group_ids.tolist()])
    computed = compute_advantages(rewards, group_ids, estimator)
    assert torch.equal(compute_advantages(rewards, relabelled, estimator), computed)


@many
@given(batches(), estimators)
def test_agrees_with_the_reference(batch, estimator):
    rewards, group_ids = batch
    computed = compute_advantages(rewards, group_ids, estimator)
    assert computed.tolist() == pytest.approx(
        reference(rewards.tolist(), group_ids.tolist(), estimator), rel=1e-6, abs=1e-30
    )


@pytest.mark.parametrize("flip", [None, "positive", "negative"])
def test_sign_of_every_advantage(flip):
    for beta_pos in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 2.5):
        for beta_neg in (0.0, 0.1, 0.4, 0.5, 0.75, 1.0, 2.5):
            family = AdvantageFamily(beta_pos, beta_neg, flip=flip)
            for size in (2, 3, 5, 8, 16):
                for correct in range(size + 1):
                    positive, negative = advantages_of_group(correct, size, family)
                    mixed = 0 < correct < size
                    assert positive is None or (positive > 0 if mixed else positive >= 0)
                    assert negative is None or (negative < 0 if mixed else negative <= 0)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_many_rollouts_in_groups_of_odd_sizes(estimator):
    random = np.random.default_rng(3)
    sizes = []
    while sum(sizes) < 100_000:
        sizes.append(int(random.choice([2, 3, 5, 7, 8, 9, 11, 13, 31])))
    labels = random.choice(10**12, len(sizes), replace=False) - 5 * 10**11
    group_ids = np.repeat(labels, sizes)
    difficulty = np.repeat(random.choice([0.0, 0.1, 0.5, 0.9, 1.0], len(sizes)), sizes)
    rewards = (random.random(len(group_ids)) < difficulty).astype(np.int64)
    order = random.permutation(len(group_ids))
    rewards, group_ids = rewards[order], group_ids[order]

    computed = compute_advantages(torch.from_numpy(rewards), torch.from_numpy(group_ids), estimator)

    slow = reference(rewards.tolist(), group_ids.tolist(), estimator)
    torch.testing.assert_close(computed.double(), torch.tensor(slow, dtype=torch.float64), rtol=1e-6, atol=0)


def test_time_for_a_step_of_512_rollouts():
    rewards, group_ids = (torch.rand(512) < 0.4).float(), torch.arange(64).repeat_interleave(8)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        compute_advantages(rewards, group_ids, AdvantageFamily(0.9, 0.4, flip="positive"))
        seconds.append(time.perf_counter() - start)
    # About 0.2 ms; the reference's loops need 1 ms for the arithmetic alone and far more on tensors.
    assert min(seconds) < 1e-3


# Types


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("ids", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_any_dtype_in_float32_out(dtype, ids):
    rewards = torch.tensor([1, 0, 0, 1, 1, 1])
    group_ids = torch.tensor([3, 200 % 128, 3, 72, 3, 72])
    computed = compute_advantages(rewards.to(dtype), group_ids.to(ids), GRPO)
    assert computed.dtype == torch.float32
    assert computed.shape == (6,)
    assert torch.equal(computed, compute_advantages(rewards.float(), group_ids, GRPO))


@pytest.mark.parametrize("device", DEVICES)
def test_device_of_the_rewards(device):
    rewards, group_ids = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0, 0, 0])
    computed = compute_advantages(rewards.to(device), group_ids.to(device), GRPO)
    assert computed.device.type == device
    assert torch.equal(computed.cpu(), compute_advantages(rewards, group_ids, GRPO))


def test_arguments_are_left_alone():
    rewards, group_ids = torch.tensor([1.0, 0.0, 0.0], requires_grad=True), torch.tensor([5, 5, 5])
    computed = compute_advantages(rewards, group_ids, MeanCentred())
    assert not computed.requires_grad
    assert rewards.tolist() == [1.0, 0.0, 0.0]
    assert group_ids.tolist() == [5, 5, 5]


# Errors


@pytest.mark.parametrize("estimator", [GRPO, MeanCentred()], ids=str)
def test_a_group_of_one_is_named(estimator):
    with pytest.raises(ValueError, match=r"only one rollout.*group -41\b"):
        compute_advantages(torch.tensor([1, 0, 1]), torch.tensor([7, -41, 7]), estimator)


@pytest.mark.parametrize("value", [math.nan, 0.5, 2.0, -1.0, math.inf, 1 + 1e-6])
def test_a_reward_that_is_not_binary_is_named(value):
    with pytest.raises(ValueError, match=r"rewards\[2\] is .*expected 0 or 1") as error:
        compute_advantages(torch.tensor([1.0, 0.0, value, 1.0]), torch.tensor([0, 0, 0, 0]), GRPO)
    assert str(torch.tensor([value]).item()) in str(error.value)


@pytest.mark.parametrize("value", [-1, 2])
def test_an_integer_reward_that_is_not_binary_is_named(value):
    with pytest.raises(ValueError, match=rf"rewards\[1\] is {value}: expected 0 or 1"):
        compute_advantages(torch.tensor([1, value, 3]), torch.tensor([0, 0, 0]), GRPO)


@pytest.mark.parametrize("value", [-0.1, -1, math.nan, math.inf, -math.inf, "0.5", None, True])
def test_a_bad_beta_is_named(value):
    with pytest.raises(ValueError, match="beta_pos: expected a finite number >= 0"):
        AdvantageFamily(value, 0.5)
    with pytest.raises(ValueError, match="beta_neg: expected a finite number >= 0"):
        AdvantageFamily(0.5, value)
    with pytest.raises(ValueError, match="beta: expected a finite number >= 0"):
        positive_magnitude(torch.tensor([0.5]), value)
    with pytest.raises(ValueError, match="beta: expected a finite number >= 0"):
        negative_magnitude(torch.tensor([0.5]), value)


@pytest.mark.parametrize("flip", ["both", "", "Positive", False, 1])
def test_a_bad_flip_is_named(flip):
    with pytest.raises(ValueError, match="flip: expected None, 'positive' or 'negative'"):
        AdvantageFamily(0.5, 0.5, flip=flip)


@pytest.mark.parametrize("switch", ["all_solved_zero", "none_solved_zero"])
@pytest.mark.parametrize("value", ["false", 1, None])
def test_a_bad_switch_is_named(switch, value):
    with pytest.raises(ValueError, match=f"{switch}: expected true or false"):
        AdvantageFamily(0.5, 0.5, **{switch: value})


def test_mismatched_lengths():
    with pytest.raises(ValueError, match="rewards has 2 elements, group_ids 3"):
        compute_advantages(torch.tensor([1, 0]), torch.tensor([0, 0, 0]), GRPO)


def test_empty_input():
    with pytest.raises(ValueError, match="expected at least one group"):
        compute_advantages(torch.tensor([]), torch.tensor([], dtype=torch.long), GRPO)


def test_more_than_one_dimension():
    with pytest.raises(ValueError, match=r"rewards: expected one dimension, found shape \(1, 2\)"):
        compute_advantages(torch.tensor([[1, 0]]), torch.tensor([0, 0]), GRPO)
    with pytest.raises(ValueError, match=r"group_ids: expected one dimension, found shape \(2, 1\)"):
        compute_advantages(torch.tensor([1, 0]), torch.tensor([[0], [0]]), GRPO)
    with pytest.raises(ValueError, match=r"rewards: expected one dimension, found shape \(\)"):
        compute_advantages(torch.tensor(1), torch.tensor(0), GRPO)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_group_ids_that_are_no_integers(dtype):
    with pytest.raises(ValueError, match="group_ids: expected integers"):
        compute_advantages(torch.tensor([1, 0]), torch.tensor([0, 0]).to(dtype), GRPO)


def test_an_advantage_that_overflows():
    with pytest.raises(ValueError, match="beta is too large for groups of 8"):
        compute_advantages(group(1, 8), torch.zeros(8, dtype=torch.long), AdvantageFamily(60.0, 0.5))


def test_no_estimator():
    with pytest.raises(TypeError, match="expected AdvantageFamily or MeanCentred"):
        compute_advantages(torch.tensor([1, 0]), torch.tensor([0, 0]), "grpo")


# Specs


@pytest.mark.parametrize(
    ("spec", "estimator"),
    [
        ({"name": "mean_centred"}, MeanCentred()),
        ({"name": "family", "beta_pos": 0.9, "beta_neg": 0.4}, AdvantageFamily(0.9, 0.4)),
        (
            {
                "name": "family",
                "beta_pos": 0.5,
                "beta_neg": 0,
                "flip": "negative",
                "all_solved_zero": True,
                "none_solved_zero": False,
            },
            AdvantageFamily(0.5, 0.0, "negative", True, False),
        ),
        (
            {"name": "family", "beta_pos": 0, "beta_neg": 0.5, "flip": None, "none_solved_zero": True},
            AdvantageFamily(0.0, 0.5, none_solved_zero=True),
        ),
    ],
)
def test_estimator_from_spec(spec, estimator):
    before = dict(spec)
    assert estimator_from_spec(spec) == estimator
    assert spec == before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "grpo"}, "name: expected one of family, mean_centred, found 'grpo'"),
        ({}, "name: expected one of family, mean_centred, found None"),
        ({"name": ["family"]}, "name: expected one of"),
        ({"name": "family", "beta_pos": 0.5, "beta_neg": 0.5, "beta": 1}, "unknown key 'beta'"),
        ({"name": "mean_centred", "beta_pos": 0.5}, "unknown key 'beta_pos': mean_centred takes no other key"),
        ({"name": "family", "beta_neg": 0.5}, "family needs the key beta_pos"),
        ({"name": "family", "beta_pos": -1, "beta_neg": 0.5}, "estimator: beta_pos: expected a finite number >= 0"),
        ({"name": "family", "beta_pos": 1, "beta_neg": 0.5, "flip": "up"}, "estimator: flip: expected"),
    ],
)
def test_a_bad_spec_is_named(spec, message):
    with pytest.raises(ValueError, match=message):
        estimator_from_spec(spec)
