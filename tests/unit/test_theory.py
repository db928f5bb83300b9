import math

import numpy as np
import pytest
import torch

from asymgrpo import theory
from asymgrpo.advantages import AdvantageFamily, compute_advantages
from asymgrpo.analysis import tabular
from asymgrpo.analysis.tabular import TabularPolicies, random_policies

SEEDS = [0, 1, 2]


@pytest.fixture
def batch():
    """(confidence, rewards, group_ids): groups of several sizes in no order, some all and some none solved."""
    random = np.random.default_rng(5)
    sizes = random.choice([2, 3, 5, 8, 11], 60)
    group_ids = np.repeat(random.choice(10**6, 60, replace=False) - 5 * 10**5, sizes)
    rewards = (random.random(len(group_ids)) < np.repeat(random.choice([0.0, 0.3, 0.7, 1.0], 60), sizes)).astype(float)
    confidence = -random.gamma(2.0, 0.5, len(group_ids))
    order = random.permutation(len(group_ids))
    return tuple(torch.from_numpy(values[order]) for values in (confidence, rewards, group_ids))


def by_group(confidence, rewards, group_ids):
    """label -> list of (confidence, reward), labels ascending."""
    groups = {}
    for s, r, label in zip(confidence.tolist(), rewards.tolist(), group_ids.tolist(), strict=True):
        groups.setdefault(label, []).append((s, r))
    return dict(sorted(groups.items()))


def mean(values):
    return sum(values) / len(values) if values else math.nan


def slow_alpha(confidence, rewards, group_ids):
    terms = []
    for rollouts in by_group(confidence, rewards, group_ids).values():
        correct = [s for s, r in rollouts if r == 1]
        wrong = [s for s, r in rollouts if r == 0]
        p = len(correct) / len(rollouts)
        if 0 < p < 1:
            terms.append(p * (1 - p) * (mean(correct) - mean(wrong)) * math.log(p / (1 - p)))
        else:
            terms.append(math.nan)
    return terms


# Batches


def test_alpha_against_a_slow_loop(batch):
    terms = slow_alpha(*batch)
    mixed = [term for term in terms if not math.isnan(term)]
    assert 0 < len(mixed) < len(terms)
    result = theory.alpha(*batch)
    assert result.n_mixed == len(mixed)
    assert result.value == pytest.approx(mean(mixed), rel=1e-12)
    assert result.per_group.dtype == torch.float64
    assert result.per_group.tolist() == pytest.approx(terms, rel=1e-12, nan_ok=True)


def test_alpha_of_one_group_by_hand():
    confidence, rewards = torch.tensor([-0.2, -0.4, -0.6, -1.0]), torch.tensor([1, 1, 1, 0])
    result = theory.alpha(confidence, rewards, torch.tensor([9, 9, 9, 9]))
    assert result.value == pytest.approx(3 / 16 * (-0.4 + 1.0) * math.log(3), rel=1e-6)
    assert result.n_mixed == 1


@pytest.mark.parametrize(
    ("correct", "aligned", "sign"), [(6, True, 1), (6, False, -1), (2, True, -1), (2, False, 1), (4, True, 0)]
)
def test_sign_of_alpha(correct, aligned, sign):
    # Confidence in what is right: positive alpha where most are right, negative where most are wrong, none at a half.
    rewards = torch.tensor([1.0] * correct + [0.0] * (8 - correct))
    confidence = -1.0 + (rewards if aligned else 1 - rewards) * 0.5
    value = theory.alpha(confidence, rewards, torch.zeros(8, dtype=torch.long)).value
    assert np.sign(value) == sign


def test_alpha_without_mixed_groups():
    result = theory.alpha(
        torch.tensor([-1.0, -2.0, -3.0, -1.0]), torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 1, 1])
    )
    assert math.isnan(result.value)
    assert result.n_mixed == 0
    assert result.per_group.isnan().all()


def test_group_statistics_against_a_slow_loop(batch):
    statistics = theory.group_statistics(*batch)
    groups = by_group(*batch)
    assert statistics.group_ids.tolist() == list(groups)
    assert statistics.size.tolist() == [len(rollouts) for rollouts in groups.values()]
    assert statistics.correct.tolist() == [sum(r for _, r in rollouts) for rollouts in groups.values()]
    for values, reward in ((statistics.confidence_correct, 1), (statistics.confidence_wrong, 0)):
        slow = [mean([s for s, r in rollouts if r == reward]) for rollouts in groups.values()]
        assert any(math.isnan(value) for value in slow)
        assert values.tolist() == pytest.approx(slow, rel=1e-12, nan_ok=True)
    result = theory.alpha_from_gaps(statistics.accuracy.numpy(), statistics.gap.numpy())
    assert result.value == theory.alpha(*batch).value


def test_covariance_against_numpy(batch):
    confidence, rewards, group_ids = batch
    advantages = compute_advantages(rewards, group_ids, AdvantageFamily(0.9, 0.4))
    labels = sorted(set(group_ids.tolist()))
    slow = []
    for label in labels:
        own = group_ids == label
        slow.append(np.cov(confidence[own].numpy(), advantages[own].double().numpy(), bias=True)[0, 1])
    computed = theory.advantage_covariance(confidence, advantages, group_ids)
    assert computed.tolist() == pytest.approx(slow, rel=1e-9, abs=1e-15)
    change = theory.first_order_entropy_change(0.01, confidence, advantages, group_ids)
    assert change.tolist() == pytest.approx([-0.01 * value for value in slow], rel=1e-9, abs=1e-17)


def test_covariance_of_confidences_far_from_zero():
    confidence = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64) + 1e8
    advantages = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64) * 1e-3
    computed = theory.advantage_covariance(
        confidence, advantages + torch.tensor([0, 0, 1e-3, 0]), torch.zeros(4).long()
    )
    assert float(computed) == pytest.approx(0.25 * 1e-3 * (1 + 3 + 4) - 2.5 * 0.75e-3, rel=1e-6)


@pytest.mark.parametrize("flip", ["positive", "negative"])
def test_channel_changes_are_differences_of_covariances(batch, flip):
    # The finite-beta prediction, which never sees an advantage, from the covariances with the advantages themselves.
    confidence, rewards, group_ids = batch
    beta, eta = 0.7, 0.02
    family = AdvantageFamily(beta, 0.0) if flip == "positive" else AdvantageFamily(0.0, beta)
    changes = [
        theory.first_order_entropy_change(eta, confidence, compute_advantages(rewards, group_ids, estimator), group_ids)
        for estimator in (family, AdvantageFamily(0.0, 0.0))
    ]
    statistics = theory.group_statistics(*batch)
    mixed = (statistics.correct > 0) & (statistics.correct < statistics.size)
    predicted = theory.finite_beta_channel_change(eta, beta, statistics.accuracy, statistics.gap, flip)
    assert predicted == pytest.approx(float((changes[0] - changes[1])[mixed].mean()), rel=1e-5)
    # Groups that are not mixed contribute nothing.
    assert float((changes[0] - changes[1])[~mixed].abs().max()) < 1e-12


def test_float32_and_bool_arguments(batch):
    confidence, rewards, group_ids = batch
    result = theory.alpha(confidence.float(), rewards.bool(), group_ids.int())
    assert result.value == pytest.approx(theory.alpha(*batch).value, rel=1e-6)


# Prop. 1 on tabular policies


@pytest.mark.parametrize("seed", SEEDS)
def test_tabular_quantities_against_loops(seed):
    policies = random_policies(7, 5, seed)
    for row in range(7):
        weights = [math.exp(z) for z in policies.logits[row]]
        pi = [w / sum(weights) for w in weights]
        right = policies.correct[row].tolist()
        p = sum(q for q, r in zip(pi, right, strict=True) if r)
        confident = [
            sum(q * math.log(q) for q, r in zip(pi, right, strict=True) if r is side) for side in (True, False)
        ]
        assert policies.accuracy[row] == pytest.approx(p)
        assert policies.gap[row] == pytest.approx(confident[0] / p - confident[1] / (1 - p))
        assert tabular.entropy(policies.logits)[row] == pytest.approx(-sum(q * math.log(q) for q in pi))
        advantages = tabular.action_advantages(policies, 0.9, 0.4)[row]
        for a, r in zip(advantages, right, strict=True):
            assert a == pytest.approx(((1 - p) / p) ** 0.9 if r else -((p / (1 - p)) ** 0.4))


def test_random_policies():
    policies = random_policies(400, 6, 0)
    assert set(policies.correct.sum(axis=1)) == {1, 2, 3, 4, 5}
    # Which actions are correct is independent of their index.
    assert np.abs(policies.correct.mean(axis=0) - 0.5).max() < 0.1
    assert np.array_equal(policies.logits, random_policies(400, 6, 0).logits)
    assert not np.array_equal(policies.logits, random_policies(400, 6, 1).logits)


def test_tabular_advantages_are_those_of_a_group():
    # A uniform policy over 8 actions and a group with each action once have the same p.
    correct = np.arange(8)[None, :] < np.arange(1, 8)[:, None]
    policies = TabularPolicies(np.zeros((7, 8)), correct)
    family = AdvantageFamily(0.9, 0.4)
    sampled = compute_advantages(
        torch.from_numpy(correct).flatten(), torch.arange(7).repeat_interleave(8), AdvantageFamily(0.9, 0.4)
    )
    exact = tabular.action_advantages(policies, family.beta_pos, family.beta_neg)
    np.testing.assert_allclose(sampled.numpy().reshape(7, 8), exact, rtol=1e-6)


def test_alpha_of_sampled_groups_approaches_the_tabular_one():
    policies = random_policies(20, 6, 1)
    random = np.random.default_rng(0)
    pi = np.exp(policies.log_probabilities)
    actions = np.stack([random.choice(6, 20_000, p=row) for row in pi])
    rows = np.arange(20)[:, None]
    result = theory.alpha(
        torch.from_numpy(policies.log_probabilities[rows, actions].ravel()),
        torch.from_numpy(policies.correct[rows, actions].ravel()),
        torch.arange(20).repeat_interleave(20_000),
    )
    assert result.value == pytest.approx(policies.alpha, rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("channel", ["positive", "negative"])
def test_first_order_converges_with_the_first_power_of_eta_and_beta(seed, channel):
    policies = random_policies(200, 8, seed)
    terms = theory.alpha_from_gaps(policies.accuracy, policies.gap).per_group.numpy()
    errors = []
    for h in (2e-3, 1e-3, 5e-4):
        exponents, sign = ((h, 0.0), 1) if channel == "positive" else ((0.0, h), -1)
        measured = tabular.entropy_change(policies, *exponents, h) - tabular.entropy_change(policies, 0.0, 0.0, h)
        # Prompt by prompt: in the mean, the errors in eta and in beta can cancel.
        errors.append(np.abs(measured - sign * h * h * terms).sum() / np.abs(h * h * terms).sum())
        table = tabular.entropy_changes(policies, [h], eta=h).set_index("channel").loc[channel]
        assert table.measured == pytest.approx(measured.mean(), rel=1e-9)
        assert table.measured / table.first_order == pytest.approx(1, abs=4 * h)
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("channel", ["positive", "negative"])
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_finite_beta_converges_with_the_first_power_of_eta_at_any_beta(seed, channel, beta):
    policies = random_policies(200, 8, seed)
    finite, first = [], []
    for eta in (2e-4, 1e-4, 5e-5):
        table = tabular.entropy_changes(policies, [beta], eta).set_index("channel").loc[channel]
        finite.append(table.measured / table.finite_beta - 1)
        first.append(table.measured / table.first_order - 1)
    assert abs(finite[-1]) < 5e-3
    assert finite[0] / finite[1] == pytest.approx(2, rel=0.05)
    assert finite[1] / finite[2] == pytest.approx(2, rel=0.05)
    # The expansion in beta leaves an error that no step size removes.
    assert abs(first[-1]) > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_finite_beta_is_better_at_a_half(seed):
    table = tabular.entropy_changes(random_policies(200, 8, seed), [0.5], eta=1e-2)
    finite = (table.measured - table.finite_beta).abs()
    assert (finite < 0.25 * (table.measured - table.first_order).abs()).all()


@pytest.mark.parametrize("correct_logit", [1.5, 4.0])
def test_sign_of_alpha_on_tabular_policies(correct_logit):
    # One confident correct action among ten: below p = 1/2 confidence is misaligned and the channels change roles.
    policies = TabularPolicies(np.array([[correct_logit] + [0.0] * 9]), np.array([[True] + [False] * 9]))
    aligned = policies.accuracy[0] > 0.5
    assert aligned == (correct_logit > 2.2)  # log 9
    assert policies.gap[0] > 0
    assert (policies.alpha > 0) == aligned
    table = tabular.entropy_changes(policies, [0.05], eta=1e-4).set_index("channel")
    assert (table.measured["positive"] > 0) == aligned
    assert (table.measured["negative"] < 0) == aligned


@pytest.mark.parametrize("seed", SEEDS)
def test_natural_step_changes_entropy_by_the_covariance(seed):
    policies = random_policies(50, 6, seed)
    log_pi, pi = policies.log_probabilities, np.exp(policies.log_probabilities)
    advantages = tabular.action_advantages(policies, 0.9, 0.4)
    centred = advantages - (pi * advantages).sum(axis=1, keepdims=True)
    covariance = (pi * log_pi * centred).sum(axis=1)
    eta = 1e-6
    np.testing.assert_allclose(
        tabular.entropy_change(policies, 0.9, 0.4, eta).mean() / eta, -covariance.mean(), rtol=1e-3
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_softmax_step_follows_its_own_formula_and_not_the_papers(seed):
    policies = random_policies(50, 6, seed)
    log_pi, pi = policies.log_probabilities, np.exp(policies.log_probabilities)
    advantages = tabular.action_advantages(policies, 0.9, 0.4)
    centred = advantages - (pi * advantages).sum(axis=1, keepdims=True)
    entropy = tabular.entropy(policies.logits)[:, None]
    eta = 1e-5
    measured = tabular.entropy_change(policies, 0.9, 0.4, eta, "softmax").mean() / eta
    own = -(pi**2 * (log_pi + entropy) * centred).sum(axis=1).mean()
    papers = -(pi * log_pi * centred).sum(axis=1).mean()
    assert measured == pytest.approx(own, rel=1e-3)
    assert measured != pytest.approx(papers, rel=0.2)


def test_softmax_step_is_the_gradient_of_the_expected_advantage():
    policies = random_policies(3, 5, 4)
    advantages = tabular.action_advantages(policies, 0.5, 0.5)
    logits = torch.tensor(policies.logits, requires_grad=True)
    (torch.softmax(logits, dim=1) * torch.from_numpy(advantages)).sum().backward()
    moved = tabular.step(policies, advantages, 0.1, "softmax") - policies.logits
    np.testing.assert_allclose(moved, 0.1 * logits.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_table_is_tidy():
    policies = random_policies(10, 4, 0)
    table = tabular.entropy_changes(policies, [0.1, 0.5], eta=1e-3, update="softmax")
    assert list(table.columns) == ["update", "eta", "beta", "channel", "measured", "first_order", "finite_beta"]
    assert list(zip(table.beta, table.channel, strict=True)) == [
        (beta, channel) for beta in (0.1, 0.5) for channel in ("positive", "negative")
    ]
    np.testing.assert_allclose(table.first_order, [s * 1e-3 * b * policies.alpha for b in (0.1, 0.5) for s in (1, -1)])
    assert set(table["update"]) == {"softmax"}
    assert set(table.eta) == {1e-3}


def test_no_change_at_beta_zero():
    table = tabular.entropy_changes(random_policies(10, 4, 0), [0.0], eta=1e-2)
    assert (table[["measured", "first_order", "finite_beta"]] == 0).all(axis=None)


# Prop. 2


@pytest.mark.parametrize("beta", [0.1, 0.25, 0.4, 0.5, 0.75, 0.9])
def test_peaks_by_grid_search(beta):
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    assert float(p[theory.positive_pressure(p, beta).argmax()]) == pytest.approx(theory.positive_peak(beta), abs=2e-5)
    assert float(p[theory.negative_pressure(p, beta).argmax()]) == pytest.approx(theory.negative_peak(beta), abs=2e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0, 1.5])
def test_pressure_is_share_times_advantage(beta):
    for correct in range(1, 8):
        rewards = torch.tensor([1.0] * correct + [0.0] * (8 - correct))
        values = compute_advantages(rewards, torch.zeros(8).long(), AdvantageFamily(beta, beta)).double()
        p = rewards.double().mean()
        assert float(theory.positive_pressure(p, beta)) == pytest.approx(float(p * values[0]), rel=1e-6)
        assert float(theory.negative_pressure(p, beta)) == pytest.approx(float((1 - p) * -values[-1]), rel=1e-6)


def test_pressure_at_the_ends():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert theory.positive_pressure(ends, 0.5).tolist() == [0.0, 0.0]
    assert theory.negative_pressure(ends, 0.5).tolist() == [0.0, 0.0]
    assert theory.positive_pressure(ends, 0.0).tolist() == [0.0, 1.0]
    assert theory.negative_pressure(ends, 0.0).tolist() == [1.0, 0.0]


# Errors


@pytest.mark.parametrize("peak", [theory.positive_peak, theory.negative_peak])
@pytest.mark.parametrize("beta", [0.0, 1.0, 1.5, -0.1, math.nan])
def test_no_peak_outside_zero_and_one(peak, beta):
    name = "beta_pos" if peak is theory.positive_peak else "beta_neg"
    with pytest.raises(ValueError, match=f"{name}: "):
        peak(beta)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("function", [theory.alpha, theory.group_statistics, theory.advantage_covariance])
def test_a_confidence_that_is_not_finite_is_named(function, value):
    with pytest.raises(ValueError, match=r"confidence\[1\] is .*finite"):
        function(torch.tensor([-1.0, value]), torch.tensor([1, 0]), torch.tensor([0, 0]))


@pytest.mark.parametrize("function", [theory.alpha, theory.group_statistics, theory.advantage_covariance])
def test_one_confidence_per_rollout(function):
    with pytest.raises(ValueError, match=r"confidence: expected one value for each of 2 rollouts, found shape \(3,\)"):
        function(torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([1, 0]), torch.tensor([0, 0]))


def test_one_finite_advantage_per_rollout():
    s, ids = torch.tensor([-1.0, -2.0]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match="advantages: expected one value for each of 2 rollouts"):
        theory.advantage_covariance(s, torch.tensor([1.0]), ids)
    with pytest.raises(ValueError, match=r"advantages\[0\] is nan"):
        theory.advantage_covariance(s, torch.tensor([math.nan, 1.0]), ids)


def test_bad_gaps_are_named():
    with pytest.raises(ValueError, match=r"p\[1\] is 1.5"):
        theory.alpha_from_gaps(np.array([0.5, 1.5]), np.array([0.1, 0.1]))
    with pytest.raises(ValueError, match=r"p\[0\] is nan"):
        theory.alpha_from_gaps(np.array([math.nan]), np.array([0.1]))
    with pytest.raises(ValueError, match=r"gap\[1\] is nan"):
        theory.alpha_from_gaps(np.array([0.0, 0.5]), np.array([math.nan, math.nan]))
    with pytest.raises(ValueError, match="p, gap: expected one each per group"):
        theory.alpha_from_gaps(np.array([0.2, 0.5]), np.array([0.1]))


def test_bad_channel_beta_and_update_are_named():
    p, gap, policies = np.array([0.5]), np.array([0.1]), random_policies(2, 3, 0)
    with pytest.raises(ValueError, match="channel: expected 'positive' or 'negative', found 'both'"):
        theory.finite_beta_channel_change(0.1, 0.5, p, gap, "both")
    with pytest.raises(ValueError, match="channel: expected"):
        theory.first_order_channel_change(0.1, 0.5, 0.2, "both")
    with pytest.raises(ValueError, match="beta: expected a finite number"):
        theory.first_order_channel_change(0.1, -0.5, 0.2, "positive")
    with pytest.raises(ValueError, match="beta: expected a finite number"):
        theory.finite_beta_channel_change(0.1, -0.5, p, gap, "positive")
    with pytest.raises(ValueError, match="update: expected 'natural' or 'softmax', found 'adam'"):
        tabular.entropy_changes(policies, [0.1], 0.1, update="adam")


def test_bad_policies_are_named():
    with pytest.raises(ValueError, match="expected one shape"):
        TabularPolicies(np.zeros((2, 3)), np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="logits: expected finite"):
        TabularPolicies(np.array([[0.0, math.nan]]), np.array([[True, False]]))
    with pytest.raises(ValueError, match="correct: expected booleans, with a correct and a wrong action"):
        TabularPolicies(np.zeros((2, 2)), np.array([[True, False], [True, True]]))
