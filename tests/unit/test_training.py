"""The trainer: its update against a naive one, what it writes, and that neither a kill nor a restart shows in it."""

import copy
import dataclasses
import json
import math
import os
import random
import re
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from asymgrpo import records
from asymgrpo.advantages import compute_advantages, estimator_from_spec
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.generation import sample
from asymgrpo.tasks.countdown import EOS, PAD
from asymgrpo.training import local, runtime
from asymgrpo.training.local import train
from asymgrpo.training.spec import fingerprint, run_spec, stream_seed
from asymgrpo.verification.countdown import verify

FAMILY = {"name": "family", "beta_pos": 0.5, "beta_neg": 0.5, "flip": None}
FAMILY |= {"all_solved_zero": False, "none_solved_zero": False}
METHODS = {
    "grpo": {"estimator": FAMILY},
    "reinforce": {"estimator": FAMILY | {"beta_pos": 0.0, "beta_neg": 0.0}},
    "dr-grpo": {"estimator": {"name": "mean_centred"}},
    "asymgrpo": {"estimator": FAMILY | {"beta_pos": 0.9, "beta_neg": 0.4}},
    "grpo-entropy": {"estimator": FAMILY, "loss": {"entropy_coefficient": 0.05}},
}
DETERMINISTIC = ("steps.parquet", "groups.parquet", "evaluations.parquet")


def run(small, values, directory, problems=None):
    """Train in this process; the run directory."""
    output = directory / "run"
    train(run_spec(values), small.policy, problems or small.problems, small.benchmarks, output, directory / "work")
    return output


def rows(output, name):
    schema = getattr(records, name.upper())
    return records.read(output / f"{name}.parquet", schema).to_pandas()


def result(output):
    return yaml.safe_load((output / "run.yaml").read_text())["result"]


@pytest.fixture(scope="module")
def runs(small, run_values, tmp_path_factory):
    """Run directories: one per method on seed 1, and GRPO on seed 2."""
    root = tmp_path_factory.mktemp("runs")
    made = {name: run(small, run_values(method=name, **values), root / name) for name, values in METHODS.items()}
    made["grpo, seed 2"] = run(small, run_values(seed=2), root / "seed 2")
    return made


@pytest.fixture(params=[*METHODS, "grpo, seed 2"])
def output(request, runs):
    return runs[request.param]


# -- what a run writes ------------------------------------------------------------------------------------------------


def test_a_run_directory_is_complete(small, output, run_values):
    assert {path.name for path in output.iterdir()} == {
        "run.yaml",
        "steps.parquet",
        "groups.parquet",
        "timings.parquet",
        "evaluations.parquet",
        "policy",
    }
    assert {path.name for path in (output / "policy").iterdir()} == {"last", "best"}
    for name in ("steps", "timings"):
        assert rows(output, name).step.tolist() == [1, 2, 3, 4, 5]
    assert records.read(output / "steps.parquet", records.STEPS).schema.names == records.STEPS.names
    assert not (output.parent / "work").exists()
    written = yaml.safe_load((output / "run.yaml").read_text())
    assert written["result"]["resumed_after_step"] is None
    assert written["environment"]["threads"] == 1
    values = json.loads(json.dumps(written["spec"]))
    inputs = (small.policy / "model.safetensors", small.problems, *small.benchmarks.values())
    assert fingerprint(run_spec(values), *inputs) == written["fingerprint"]
    assert values["rollout"] == run_values()["rollout"]


def test_groups_add_up(output):
    steps, groups = rows(output, "steps"), rows(output, "groups")
    assert (steps.n_groups == 12).all()
    for row in steps.itertuples():
        g = groups[groups.step == row.step]
        assert len(g) == 12
        assert (g.rollouts == 4).all()
        accuracy = g.correct / g.rollouts
        assert row.group_accuracy_histogram.tolist() == np.bincount(g.correct, minlength=5).tolist()
        assert row.group_accuracy == pytest.approx(accuracy.mean())
        assert row.reward == pytest.approx(accuracy.mean())
        assert row.none_solved == pytest.approx((accuracy == 0).mean())
        assert row.all_solved == pytest.approx((accuracy == 1).mean())
        assert row.none_solved + row.all_solved + row.mixed == pytest.approx(1)
        assert row.n_mixed == ((g.correct > 0) & (g.correct < 4)).sum() == round(row.mixed * 12)
        assert (g.confidence_correct.isna() == (g.correct == 0)).all()
        assert (g.confidence_wrong.isna() == (g.correct == 4)).all()
        assert (g.confidence_correct.dropna() < 0).all()
        assert (g.confidence_wrong.dropna() < 0).all()
    assert steps.n_mixed.sum() > 10  # enough of the interesting kind


def test_alpha_follows_from_the_groups(output):
    steps, groups = rows(output, "steps"), rows(output, "groups")
    for row in steps.itertuples():
        g = groups[(groups.step == row.step) & (groups.correct > 0) & (groups.correct < 4)]
        p, gap = g.correct / 4, g.confidence_correct - g.confidence_wrong
        assert row.alpha == pytest.approx((p * (1 - p) * gap * np.log(p / (1 - p))).mean(), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("method", "weight"),
    [
        ("reinforce", lambda p: 2 * p * (1 - p)),  # A = +1 and -1
        ("grpo", lambda p: (p * (1 - p)) ** 0.5),  # A = (r - p) / sqrt(p (1 - p))
        ("dr-grpo", lambda p: p * (1 - p)),  # A = r - p
        ("asymgrpo", lambda p: p * (1 - p) * (((1 - p) / p) ** 0.9 + (p / (1 - p)) ** 0.4)),
    ],
)
def test_the_advantages_are_those_of_the_method(runs, method, weight):
    """Cov(S, A) of a group is p (1 - p) (A+ - A-) D, which is what the weights above are worked out from."""
    steps, groups = rows(runs[method], "steps"), rows(runs[method], "groups")
    for row in steps.itertuples():
        g = groups[groups.step == row.step]
        p, gap = g.correct / 4, g.confidence_correct - g.confidence_wrong
        mixed = (p > 0) & (p < 1)
        expected = (weight(p[mixed]) * gap[mixed]).sum() / 12
        assert row.advantage_covariance == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_lengths_and_entropies_fit(output):
    steps = rows(output, "steps")
    np.testing.assert_allclose(steps.tokens, steps.response_length * 12 * 4)
    assert ((steps.response_length >= 1) & (steps.response_length <= 13)).all()
    low, high = (
        steps[["entropy_correct", "entropy_wrong"]].min(axis=1),
        steps[["entropy_correct", "entropy_wrong"]].max(axis=1),
    )
    assert ((low <= steps.entropy + 1e-12) & (steps.entropy <= high + 1e-12)).all()
    assert (steps.entropy > 0).all()
    assert (steps.entropy < math.log(107)).all()
    assert (steps.gradient_norm > 0).all()
    assert ((steps.clip_fraction_low >= 0) & (steps.clip_fraction_high < 0.5)).all()


def test_the_update_moves_rollouts_apart(runs):
    """Correct rollouts become likelier than they were, wrong ones less so."""
    steps = rows(runs["grpo"], "steps")
    assert steps.logprob_gain_correct.mean() > 0
    assert (steps.logprob_gain_correct > steps.logprob_gain_wrong).all()
    assert (steps.entropy_after != steps.entropy).all()


def test_evaluations_are_those_of_the_saved_policies(small, output):
    evaluations = rows(output, "evaluations")
    assert [(r.step, r.benchmark) for r in evaluations.itertuples()] == [
        (step, name) for step in (0, 2, 4, 5) for name in ("easy", "hard")
    ]
    assert (evaluations.decoding == "greedy").all()
    np.testing.assert_allclose(evaluations.accuracy, evaluations.correct / evaluations.problems)
    best = result(output)["best_step"]
    for step, directory in [(0, small.policy), (5, output / "policy" / "last"), (best, output / "policy" / "best")]:
        policy = huggingface.load(directory)
        for name, path in small.benchmarks.items():
            prompts = local.read_prompts(path)
            rollouts = sample(policy, prompts, 1, 13, 0.0, PAD, EOS)
            row = evaluations[(evaluations.step == step) & (evaluations.benchmark == name)].iloc[0]
            assert row.correct == (verify(prompts.numpy(), rollouts.tokens[:, 0].numpy()) == 0).sum()
            assert row.problems == len(prompts)
            assert row.response_length == pytest.approx(float(rollouts.mask.sum()) / len(prompts))


def test_timings_are_seconds(output):
    timings = rows(output, "timings")
    assert (timings.drop(columns="step") >= 0).all(axis=None)
    assert timings.cpu_update.sum() > 0
    assert result(output)["cpu_seconds"] == pytest.approx(timings.filter(like="cpu_").sum().sum(), abs=1e-3)


# -- pairing and determinism ------------------------------------------------------------------------------------------

ROLLOUT_COLUMNS = [
    "reward",
    "group_accuracy",
    "entropy",
    "entropy_correct",
    "entropy_wrong",
    "alpha",
    "response_length",
    "tokens",
]


def test_methods_of_one_seed_are_paired(runs):
    """Same start policy, prompts and sampling streams: they differ from the first update on, and not before."""
    reference = runs["grpo"]
    for method in METHODS:
        first = rows(runs[method], "steps").iloc[0]
        assert first[ROLLOUT_COLUMNS].equals(rows(reference, "steps").iloc[0][ROLLOUT_COLUMNS])
        ours, theirs = rows(runs[method], "groups"), rows(reference, "groups")
        assert ours[ours.step == 1].equals(theirs[theirs.step == 1])
        assert ours.problem.tolist() == theirs.problem.tolist()
        if method != "grpo":
            last = [rows(runs[name], "steps").iloc[-1] for name in (method, "grpo")]
            assert last[0].entropy != last[1].entropy


def test_another_seed_differs(runs):
    one, two = (rows(runs[name], "groups") for name in ("grpo", "grpo, seed 2"))
    assert one.problem.tolist() != two.problem.tolist()
    assert rows(runs["grpo"], "steps").entropy[0] != rows(runs["grpo, seed 2"], "steps").entropy[0]
    # not only the order of the prompts: the same problem is answered with other random numbers
    merged = one.merge(two, on="problem", suffixes=("", "_2"))
    assert not merged.correct.equals(merged.correct_2)


def test_a_step_has_random_numbers_of_its_own(small, run_values, tmp_path, monkeypatch):
    """The same prompts for the same policy, in another step or with another seed, get other rollouts."""
    monkeypatch.setattr(local, "problems_of_step", lambda *_: torch.arange(12))
    values = {"steps": 2, "optimiser": {"learning_rate": 0.0}}
    drawn = [
        rows(run(small, run_values(seed=seed, **values), tmp_path / str(seed)), "steps").entropy for seed in (1, 2)
    ]
    assert len({*drawn[0], *drawn[1]}) == 4


def test_stream_seeds():
    keys = [("rollouts", 1, 1), ("rollouts", 1, 2), ("rollouts", 2, 1), ("prompts", 1, 1), ("rollouts", 11)]
    seeds = [stream_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == 4560988432984180303  # earlier results rest on it


def test_a_shorter_run_is_the_beginning_of_a_longer_one(small, run_values, runs, tmp_path):
    short = run(small, run_values(steps=3), tmp_path)
    assert rows(short, "steps").equals(rows(runs["grpo"], "steps")[:3])


# -- which problems a step sees ---------------------------------------------------------------------------------------


def test_an_epoch_repeats_no_problem():
    per_epoch = 100 // 12
    epochs = [
        [local.problems_of_step(3, epoch * per_epoch + i, 100, 12) for i in range(1, per_epoch + 1)]
        for epoch in range(3)
    ]
    for epoch in epochs:
        assert all(len(step) == 12 for step in epoch)
        seen = torch.cat(epoch)
        assert len(seen.unique()) == 8 * 12  # the last, partial batch of 4 is dropped
        assert seen.min() >= 0
        assert seen.max() < 100
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    # another four are left out in another epoch
    assert set(torch.cat(epochs[0]).tolist()) != set(torch.cat(epochs[1]).tolist())


def test_the_problems_of_a_step_depend_on_the_seed_only():
    first = local.problems_of_step(3, 20, 100, 12)
    local.problems_of_step(4, 1, 100, 12)
    assert torch.equal(first, local.problems_of_step(3, 20, 100, 12))
    assert not torch.equal(first, local.problems_of_step(4, 20, 100, 12))


def test_all_problems_in_one_step():
    assert sorted(local.problems_of_step(1, 1, 8, 8).tolist()) == list(range(8))
    assert sorted(local.problems_of_step(1, 2, 8, 8).tolist()) == list(range(8))


# -- the update -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(small):
    """(policy, rollouts of 16 problems x 4, rewards): as if sampled by another policy: ratios are not 1."""
    policy = huggingface.load(small.policy)
    uniforms = torch.rand((16, 4, 13), generator=torch.Generator().manual_seed(3))
    rollouts = sample(policy, small.prompts[:16], 4, 13, 1.0, PAD, EOS, uniforms)
    noise = 0.3 * torch.randn(rollouts.logprobs.shape, generator=torch.Generator().manual_seed(4))
    rollouts = dataclasses.replace(rollouts, logprobs=(rollouts.logprobs + noise) * rollouts.mask)
    return policy, rollouts, local.score(rollouts)


def advantages_of(rewards, estimator):
    ids = torch.arange(len(rewards)).repeat_interleave(rewards.shape[1])
    return compute_advantages(rewards.flatten(), ids, estimator_from_spec(estimator)).view_as(rewards)


def _value(tensor):
    return float(tensor.detach()) if isinstance(tensor, torch.Tensor) else tensor


def naive_loss(policy, rollouts, advantages, settings, temperature):
    """App. F one response at a time, no group left out, every token of the minibatch in the denominator."""
    total, entropies, low, high = 0.0, 0.0, 0, 0
    for prompt, group, masks, olds, values in zip(
        rollouts.prompts, rollouts.tokens, rollouts.mask, rollouts.logprobs, advantages, strict=True
    ):
        for response, mask, old, advantage in zip(group, masks, olds, values.tolist(), strict=True):
            length = int(mask.sum())
            logits = policy(torch.cat([prompt, response[:length]])[None])[0, len(prompt) - 1 : -1]
            logp = torch.log_softmax(logits / temperature, -1)
            entropies = entropies - (logp.exp() * logp).sum()
            for new, before in zip(logp[torch.arange(length), response[:length]], old[:length], strict=True):
                ratio = (new - before).exp()
                if advantage >= 0:
                    gain = min(ratio * advantage, (1 + settings.clip_high) * advantage, key=_value)
                else:
                    gain = min(ratio * advantage, (1 - settings.clip_low) * advantage, key=_value)
                    gain = max(gain, torch.tensor(settings.dual_clip * advantage), key=_value)
                total = total - gain
                low += advantage < 0 and _value(ratio) < 1 - settings.clip_low
                high += advantage > 0 and _value(ratio) > 1 + settings.clip_high
    tokens = int(rollouts.mask.sum())
    return SimpleNamespace(
        total=(total - settings.entropy_coefficient * entropies) / tokens,
        surrogate=_value(total) / tokens,
        low=low / tokens,
        high=high / tokens,
    )


def part_of(rollouts, groups):
    fields = ("prompts", "tokens", "mask", "logprobs", "entropies")
    return dataclasses.replace(rollouts, **{name: getattr(rollouts, name)[groups] for name in fields})


def updated(batch, values, advantages, learning_rate=0.0):
    """(policy after update_policy with plain SGD, its columns); gradients are left in the parameters."""
    policy = copy.deepcopy(batch[0])
    optimiser = torch.optim.SGD(policy.parameters(), lr=learning_rate)
    spec = run_spec(values)
    return policy, local.update_policy(policy, optimiser, batch[1], advantages, spec, spec.rollout.temperature)


UPDATES = {
    "grpo": {"estimator": FAMILY},
    "grpo at another temperature": {"estimator": FAMILY, "rollout": {"temperature": 0.7}},
    "reinforce": METHODS["reinforce"],
    "clip-higher": {"estimator": FAMILY, "loss": {"clip_high": 0.4, "clip_low": 0.1}},
    "dual clip": {"estimator": FAMILY, "loss": {"dual_clip": 1.2}},
    "entropy": METHODS["grpo-entropy"],
}


@pytest.mark.parametrize("changes", UPDATES.values(), ids=UPDATES)
def test_a_minibatch_has_the_gradient_of_the_naive_loss(batch, run_values, changes):
    """Leaving out groups without advantage, and splitting by length, change nothing."""
    changes = copy.deepcopy(changes)
    changes["rollout"] = changes.get("rollout", {}) | {"prompts_per_minibatch": 16}
    values = run_values(**changes, optimiser={"max_gradient_norm": 1e9})
    advantages = advantages_of(batch[2], values["estimator"])
    if changes["estimator"]["beta_pos"] > 0:
        assert 0 < int((advantages == 0).all(1).sum()) < 16
    policy, columns = updated(batch, values, advantages)
    naive = copy.deepcopy(batch[0])
    spec = run_spec(values)
    loss = naive_loss(naive, batch[1], advantages, spec.loss, spec.rollout.temperature)
    loss.total.backward()
    for (name, ours), theirs in zip(policy.named_parameters(), naive.parameters(), strict=True):
        assert theirs.grad.abs().max() > 1e-5, name
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in naive.parameters()))
    assert columns["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert columns["policy_loss"] == pytest.approx(loss.surrogate, abs=1e-6)
    assert columns["clip_fraction_low"] == pytest.approx(loss.low, abs=1e-9)
    assert columns["clip_fraction_high"] == pytest.approx(loss.high, abs=1e-9)
    assert loss.low > 0
    assert loss.high > 0


def test_epochs_and_minibatches_are_steps_of_the_optimiser(batch, run_values):
    """The last minibatch is smaller; each has its own token count."""
    values = run_values(
        estimator=FAMILY, rollout={"prompts_per_minibatch": 6, "epochs": 2}, optimiser={"max_gradient_norm": 0.3}
    )
    advantages = advantages_of(batch[2], FAMILY)
    policy, columns = updated(batch, values, advantages, learning_rate=0.05)
    naive, losses, norms = copy.deepcopy(batch[0]), [], []
    for _ in range(2):
        for start in (0, 6, 12):
            part = slice(start, min(start + 6, 16))
            loss = naive_loss(naive, part_of(batch[1], part), advantages[part], run_spec(values).loss, 1.0)
            gradients = torch.autograd.grad(loss.total, list(naive.parameters()))
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            with torch.no_grad():
                for parameter, gradient in zip(naive.parameters(), gradients, strict=True):
                    parameter.sub_(0.05 * gradient * min(1.0, 0.3 / (norm + 1e-6)))
            losses.append(loss.surrogate)
            norms.append(norm)
    assert max(norms) > 0.3  # clipping was at work
    for ours, theirs in zip(policy.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)
    assert columns["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-3)  # before clipping
    assert columns["policy_loss"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_gradients_are_clipped_by_their_norm(batch, run_values):
    advantages = advantages_of(batch[2], FAMILY)
    rollout = {"prompts_per_minibatch": 16}
    free, columns = updated(batch, run_values(rollout=rollout, optimiser={"max_gradient_norm": 1e9}), advantages)
    clipped, same = updated(batch, run_values(rollout=rollout, optimiser={"max_gradient_norm": 0.01}), advantages)
    assert columns["gradient_norm"] == pytest.approx(same["gradient_norm"])
    factor = 0.01 / columns["gradient_norm"]
    assert factor < 0.5
    for a, b in zip(free.parameters(), clipped.parameters(), strict=True):
        torch.testing.assert_close(a.grad * factor, b.grad, rtol=1e-3, atol=1e-9)


def test_without_advantages_only_the_entropy_bonus_moves_the_policy(batch, run_values):
    nothing = torch.zeros(16, 4)
    still, columns = updated(batch, run_values(), nothing, learning_rate=1.0)
    assert columns == {"clip_fraction_low": 0, "clip_fraction_high": 0, "gradient_norm": 0, "policy_loss": 0}
    assert all(torch.equal(a, b) for a, b in zip(still.parameters(), batch[0].parameters(), strict=True))
    values = run_values(loss={"entropy_coefficient": 0.1}, rollout={"prompts_per_minibatch": 16})
    moved, columns = updated(batch, values, nothing, learning_rate=0.05)
    assert columns["gradient_norm"] > 0
    before, after = (local.measure(policy, batch[1], 1.0)[1].sum() for policy in (batch[0], moved))
    assert after > before


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_measuring_is_the_plain_pass(batch, temperature):
    policy, rollouts, _ = batch
    logprobs, entropies = local.measure(policy, rollouts, temperature)
    full = torch.cat([rollouts.prompts[:, None].expand(-1, 4, -1), rollouts.tokens], 2).flatten(0, 1)
    with torch.no_grad():
        logp = torch.log_softmax(policy(full)[:, 5:-1] / temperature, -1).view(16, 4, 13, -1)
    taken = logp.gather(-1, rollouts.tokens[..., None])[..., 0]
    torch.testing.assert_close(logprobs, taken * rollouts.mask, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(entropies, -(logp.exp() * logp).sum(-1) * rollouts.mask, atol=2e-5, rtol=1e-5)


def test_length_buckets_are_a_partition():
    lengths = torch.tensor([5, 13, 5, 9, 5, 13, 4, 5])
    mask = torch.arange(13)[None, None] < torch.stack([lengths, torch.ones(8, dtype=torch.long)], 1)[..., None]
    groups = torch.tensor([0, 1, 2, 4, 5, 7])
    parts = local.length_buckets(mask, groups)
    assert sorted(torch.cat(parts).tolist()) == groups.tolist()
    assert [sorted(part.tolist()) for part in parts] == [[0, 2, 4, 7], [1, 5]]
    same = local.length_buckets(mask, torch.tensor([1, 5]))
    assert [part.tolist() for part in same] == [[1, 5]]
    assert local.length_buckets(mask, torch.tensor([], dtype=torch.long)) == []


def test_what_a_step_says_of_its_rollouts():
    """Two groups of two, by hand."""
    mask = torch.tensor([[[1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 0]]]).bool()
    logprobs = torch.tensor([[[-1.0, -2, 0], [-1, -1, -4]], [[-0.5, 0, 0], [-2, -1, 0]]])
    entropies = torch.tensor([[[0.5, 0.3, 0], [1, 1, 1]], [[0.2, 0, 0], [0.4, 0.6, 0]]])
    rollouts = local.Rollouts(torch.zeros(2, 6).long(), torch.zeros(2, 2, 3).long(), mask, logprobs, entropies)
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    advantages = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    after = logprobs + 0.25 * mask
    row, groups = local.describe_step(rollouts, rewards, advantages, torch.tensor([0, 0, 1, 1]), after, entropies * 0.5)
    expected = {
        "reward": 0.75,
        "group_accuracy": 0.75,
        "group_accuracy_histogram": [0, 1, 1],
        "none_solved": 0.0,
        "all_solved": 0.5,
        "mixed": 0.5,
        "n_groups": 2,
        "n_mixed": 1,
        "entropy": 5.0 / 8,
        "entropy_correct": 2.0 / 5,
        "entropy_wrong": 3.0 / 3,
        "entropy_after": 2.5 / 8,
        "alpha": 0.0,  # log(p / (1 - p)) is 0 at p = 1/2
        "advantage_covariance": 0.125,  # group 0: S = -1.5 and -2, A = 1 and -1: covariance 0.25; group 1: 0
        "logprob_gain_correct": 0.25 * (2 + 1 + 2) / 3,
        "logprob_gain_wrong": 0.75,
        "response_length": 2.0,
        "tokens": 8,
    }
    assert set(row) == set(expected)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-6), name
    assert groups[0] == {"rollouts": 2, "correct": 1, "confidence_correct": -1.5, "confidence_wrong": -2.0}
    assert groups[1]["confidence_correct"] == pytest.approx(-1.0)
    assert math.isnan(groups[1]["confidence_wrong"])
    nothing, _ = local.describe_step(
        rollouts, torch.zeros(2, 2), advantages * 0, torch.tensor([0, 0, 1, 1]), after, entropies
    )
    for name in ("entropy_correct", "logprob_gain_correct", "alpha"):
        assert math.isnan(nothing[name]), name


# -- the best policy --------------------------------------------------------------------------------------------------


def test_the_best_policy_is_the_earliest_with_the_highest_accuracy(small, run_values, tmp_path):
    """With a learning rate that overshoots, so that accuracy goes up and down; the start policy is no candidate."""
    values = run_values(steps=14, evaluation={"every": 1}, optimiser={"learning_rate": 8e-3})
    output = run(small, values, tmp_path / "long")
    evaluations = rows(output, "evaluations")
    accuracy = evaluations[(evaluations.benchmark == "easy") & (evaluations.step > 0)].set_index("step").accuracy
    best = int(accuracy[accuracy == accuracy.max()].index[0])
    assert result(output)["best_step"] == best
    assert result(output)["best_accuracy"] == accuracy.max()
    assert best < 14
    assert (accuracy == accuracy.max()).sum() > 1 or accuracy[best:].is_monotonic_decreasing
    # its weights are those that the run had then
    then = run(small, values | {"steps": best}, tmp_path / "short")
    weights = "model.safetensors"
    assert (output / "policy/best" / weights).read_bytes() == (then / "policy/last" / weights).read_bytes()
    assert (output / "policy/best" / weights).read_bytes() != (output / "policy/last" / weights).read_bytes()


def test_the_start_policy_is_never_the_best(small, run_values, tmp_path):
    values = run_values(steps=2, optimiser={"learning_rate": 0.05})  # ruins the policy at once
    output = run(small, values, tmp_path)
    assert result(output)["best_step"] == 2
    assert result(output)["best_accuracy"] < rows(output, "evaluations").accuracy[0]


# -- killed and started again -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_values(run_values):
    return run_values(steps=56, checkpoint_every=5, evaluation={"every": 20})


def arguments(small, values, directory):
    given = ["train", "--spec", json.dumps(values), "--start", small.policy, "--problems", small.problems]
    given += ["--benchmarks", *small.benchmarks.values()]
    return [*given, "--out", directory / "run", "--work", directory / "work"]


def same_files(one, other, names=DETERMINISTIC):
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_killed_at_random_moments(small, long_values, asymgrpo_process, tmp_path):
    """kill -9 in processes of their own: soon after the first step, and twice soon after another checkpoint."""
    reference, directory = run(small, long_values, tmp_path / "whole"), tmp_path / "killed"
    progress, checkpoint = (directory / "work" / name for name in ("progress.json", "checkpoint.pt"))
    moments, kills, r = [progress, checkpoint, checkpoint], 0, random.Random(os.getpid())
    for _ in range(8):
        before = time.time_ns()
        started = asymgrpo_process(arguments(small, long_values, directory))
        while kills < len(moments) and started.poll() is None:
            if written(moments[kills]) > before:
                time.sleep(r.uniform(0.0, 0.1))
                started.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        out, err = started.communicate(timeout=120)
        if started.returncode == 0:
            break
        assert started.returncode == -signal.SIGKILL, err
        kills += 1
    assert kills >= 2
    assert "continuing after step" in out
    same_files(reference, directory / "run")
    resumed = result(directory / "run")["resumed_after_step"]
    assert resumed > 0
    assert resumed % 5 == 0 or resumed == 56
    assert result(reference)["resumed_after_step"] is None
    for which in ("last", "best"):
        same_files(reference / "policy" / which, directory / "run" / "policy" / which, ["model.safetensors"])
    assert not (directory / "work").exists()


def test_asked_to_end_it_saves_its_step(small, run_values, asymgrpo_process, tmp_path):
    """SIGTERM, as Slurm sends it before SIGKILL: no step is lost, none is computed twice, far from any checkpoint."""
    values, directory = run_values(steps=56, checkpoint_every=56, evaluation={"every": 20}), tmp_path / "ended"
    started = asymgrpo_process(arguments(small, values, directory))
    while started.poll() is None and not written(directory / "work" / "progress.json"):
        time.sleep(0.005)
    started.terminate()
    out, err = started.communicate(timeout=120)
    assert started.returncode == 128 + signal.SIGTERM, err
    (saved,) = re.findall(r"is saved after step (\d+)", out)
    assert 0 < int(saved) < 56
    assert not (directory / "run").exists()
    run(small, values, directory)
    assert result(directory / "run")["resumed_after_step"] == int(saved)
    same_files(run(small, values, tmp_path / "whole"), directory / "run")


def written(path):
    """When the file was written, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the trainer may catch it."""


def half_written(state, file):
    file.write(b"half of a checkpoint")
    raise Killed


MOMENTS = {
    "while a checkpoint is written": ("torch.save", half_written, 2),
    "after the last checkpoint": ("save_policy", None, 1),
    "between the output files": ("records.write", None, 3),
    "before the record": ("write_yaml", None, 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_the_worst_moments(small, run_values, runs, tmp_path, monkeypatch, moment):
    name, instead, call = MOMENTS[moment]
    module = runtime.torch if name == "torch.save" else local.records if name == "records.write" else local
    original, calls = getattr(module, name.rpartition(".")[2]), []

    def killer(*given, **named):
        calls.append(given)
        if len(calls) < call:
            return original(*given, **named)
        if instead is not None:
            return instead(*given)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, name.rpartition(".")[2], killer)
        with pytest.raises(Killed):
            run(small, run_values(), tmp_path)
    if name == "torch.save":
        assert (tmp_path / "work" / "checkpoint.writing").read_bytes() == b"half of a checkpoint"
    assert not (tmp_path / "run" / "run.yaml").exists()
    output = run(small, run_values(), tmp_path)
    same_files(runs["grpo"], output)
    assert result(output)["resumed_after_step"] == {"torch.save": 2}.get(name, 5)
    assert not (tmp_path / "work").exists()


def stopped(small, values, directory, monkeypatch, after, **changes):
    """A run that ends, as if killed, after so many steps."""
    original = local.train_step

    def step(spec, state, *rest):
        if state.step > after:
            raise Killed
        original(spec, state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(local, "train_step", step)
        with pytest.raises(Killed):
            run(small, values, directory, **changes)
    assert (directory / "work" / "checkpoint.pt").exists()


def test_rubbish_beside_the_checkpoint_is_ignored(small, run_values, runs, tmp_path, monkeypatch):
    stopped(small, run_values(), tmp_path, monkeypatch, after=3)
    (tmp_path / "work" / "checkpoint.writing").write_bytes(b"\x00" * 1000)
    (tmp_path / "work" / "progress.writing").write_text("{")
    output = run(small, run_values(), tmp_path)
    same_files(runs["grpo"], output)
    assert result(output)["resumed_after_step"] == 2


def test_the_checkpoint_of_other_settings_is_not_resumed(small, run_values, runs, tmp_path, monkeypatch, capsys):
    stopped(small, run_values(optimiser={"learning_rate": 2e-3}), tmp_path, monkeypatch, after=4)
    capsys.readouterr()
    output = run(small, run_values(), tmp_path)
    assert "made with other settings or inputs, starting anew" in capsys.readouterr().out
    assert result(output)["resumed_after_step"] is None
    same_files(runs["grpo"], output)


@pytest.mark.parametrize("changed", ["problems", "policy", "benchmark"])
def test_the_checkpoint_of_other_inputs_is_not_resumed(small, run_values, tmp_path, monkeypatch, changed):
    """The spec names neither: when the warm start or the problems change, Snakemake runs the job again."""
    inputs = small
    if changed == "policy":
        other = huggingface.load(small.policy)
        with torch.no_grad():
            other.embedding.mul_(1.01)
        local.save_policy(other, tmp_path / "other")
        inputs = small._replace(policy=tmp_path / "other")
    elif changed == "problems":
        problems = records.read(small.problems, records.BENCHMARK).to_pylist()
        records.write(tmp_path / "other.parquet", problems[:20], records.BENCHMARK)
        inputs = small._replace(problems=tmp_path / "other.parquet")
    else:
        problems = records.read(small.benchmarks["hard"], records.BENCHMARK).to_pylist()
        records.write(tmp_path / "hard.parquet", problems[:5], records.BENCHMARK)
        inputs = small._replace(benchmarks=small.benchmarks | {"hard": tmp_path / "hard.parquet"})
    stopped(inputs, run_values(), tmp_path / "one", monkeypatch, after=3)
    resumed = run(small, run_values(), tmp_path / "one")
    same_files(run(small, run_values(), tmp_path / "anew"), resumed)


# -- bad input and the machine ----------------------------------------------------------------------------------------


def test_too_few_problems(small, run_values, tmp_path):
    values = run_values(rollout={"prompts_per_step": 33})
    with pytest.raises(ValueError, match=r"train.parquet: 32 problems, but rollout.prompts_per_step is 33"):
        run(small, values, tmp_path)


def test_a_start_policy_that_is_not_there(small, run_values, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no policy there"):
        run(small._replace(policy=tmp_path / "nowhere"), run_values(), tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", [[], ["rollout"], ["loss"], ["evaluation"], ["optimiser"]])
def test_a_spec_with_other_keys(run_values, where):
    for change, message in [(lambda d: d.update(colour=1), "unknown: \\['colour'\\]"), (dict.popitem, "missing: \\['")]:
        values = run_values()
        part = values
        for key in where:
            part = part[key]
        change(part)
        with pytest.raises(ValueError, match=f"run spec: .*{''.join(where)}.*{message}"):
            run_spec(values)


def test_every_setting_is_in_the_fingerprint(run_values):
    changed = [
        {"seed": 2},
        {"steps": 6},
        {"loss": {"clip_low": 0.1}},
        {"optimiser": {"beta2": 0.95}},
        {"rollout": {"temperature": 0.9}},
        {"evaluation": {"benchmarks": ["easy"]}},
        {"estimator": FAMILY | {"beta_pos": 0.25}},
        {"estimator": FAMILY | {"flip": "positive"}},
        {"warm_start_seed": 2},
    ]
    prints = [fingerprint(run_spec(run_values(**change))) for change in [{}, *changed]]
    assert len(set(prints)) == len(prints)
    assert fingerprint(run_spec(run_values())) == prints[0]


def test_the_device(monkeypatch, small, run_values, runs, tmp_path):
    assert runtime.prepare("cpu", 1).type == "cpu"
    assert runtime.prepare("auto", 1).type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.prepare("auto", 1).type == "cpu"
    with pytest.raises(ValueError, match="device: expected cpu or auto, found 'gpu'"):
        runtime.prepare("gpu", 1)
    same_files(runs["grpo"], run(small, run_values(device="auto"), tmp_path))


def test_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        runtime.prepare("cpu", 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_is_told(tmp_path, capsys):
    progress = runtime.Progress("small/grpo/seed-1", 3, tmp_path / "work")
    for step in (1, 2, 3):
        progress.step(step, reward=0.25)
    state = json.loads((tmp_path / "work" / "progress.json").read_text())
    assert (state["name"], state["step"], state["steps"], state["left"]) == ("small/grpo/seed-1", 3, 3, 0)
    assert "small/grpo/seed-1  step 3/3  reward 0.250  0 s left" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["progress.json"]


# -- learning ---------------------------------------------------------------------------------------------------------


def test_it_learns_and_with_rewards_upside_down_it_does_not(small, run_values, tmp_path, monkeypatch):
    settings = {
        "rollout": {"prompts_per_step": 32, "prompts_per_minibatch": 8, "group_size": 16},
        "optimiser": {"learning_rate": 6e-4},
    }
    learned = rows(run(small, run_values(steps=20, **settings), tmp_path / "learned"), "steps")
    score = local.score
    monkeypatch.setattr(local, "score", lambda rollouts: 1 - score(rollouts))
    upside_down = rows(run(small, run_values(steps=6, **settings), tmp_path / "upside down"), "steps")
    start = learned.reward[0]
    assert upside_down.reward[0] == pytest.approx(1 - start)
    assert 0.05 < start < 0.6
    assert learned.reward[-3:].mean() > start + 0.1  # about 0.23 more; the standard error is 0.01
    assert 1 - upside_down.reward[5] < start / 2
