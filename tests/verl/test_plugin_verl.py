"""The plug-in inside verl: its estimators and its loss through verl's own registries and functions, and the rewards."""

import dataclasses
import itertools
import json
import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from asymgrpo.advantages import compute_advantages, estimator_from_spec
from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import as_messages
from asymgrpo.training.loss import LossSettings, policy_loss
from asymgrpo.training.runtime import write_yaml
from asymgrpo.training.spec import run_spec
from asymgrpo.training.verl.overrides import Files, command_line, overrides

pytest.importorskip("verl")

pytestmark = pytest.mark.verl

FAMILIES = [
    {"beta_pos": 0.5, "beta_neg": 0.5},
    {"beta_pos": 0.9, "beta_neg": 0.4},
    {"beta_pos": 0.0, "beta_neg": 0.0},
    {"beta_pos": 0.5, "beta_neg": 0.5, "flip": "positive"},
    {"beta_pos": 0.5, "beta_neg": 0.5, "flip": "negative"},
    {"beta_pos": 0, "beta_neg": 0, "all_solved_zero": True},
    {"beta_pos": 0, "beta_neg": 0, "none_solved_zero": True, "flip": None, "all_solved_zero": False},
]
ESTIMATORS = [("asymgrpo", {"name": "family"} | family) for family in FAMILIES]
ESTIMATORS += [("asymgrpo_mean_centred", {"name": "mean_centred"})]


@pytest.fixture(scope="module", autouse=True)
def plugin():
    """As verl imports it: by the name in `actor_rollout_ref.model.external_lib`."""
    from verl.utils.import_utils import import_external_libs

    import_external_libs("asymgrpo.training.verl.plugin")


# -- estimators --------------------------------------------------------------------------------------------------------


def batch_of(rewards, uids, lengths, padding=(), width=13):
    """verl's batch: the reward on a response's last token; `padding` has the rows that are none, without any token."""
    from verl import DataProto

    lengths = torch.as_tensor(lengths)
    mask = (torch.arange(width)[None, :] < lengths[:, None]).long()
    scores = torch.zeros(len(lengths), width)
    scores[torch.arange(len(lengths)), lengths - 1] = torch.as_tensor(rewards, dtype=torch.float32)
    for row in padding:
        mask[row], scores[row] = 0, 0
    return DataProto.from_dict(
        tensors={"token_level_rewards": scores, "response_mask": mask},
        non_tensors={"uid": np.array(uids, dtype=object)},
    )


def composed(values):
    """verl's configuration with these overrides."""
    import verl.trainer.main_ppo
    from hydra import compose, initialize_config_dir

    directory = str(Path(verl.trainer.main_ppo.__file__).parent / "config")
    with initialize_config_dir(config_dir=directory, version_base=None):
        return compose("ppo_trainer", overrides=command_line(values))


@cache
def algorithm(**exponents):
    """verl's `algorithm` section with what a run adds to it."""
    return composed({f"+algorithm.{key}": value for key, value in exponents.items()}).algorithm


def through_verl(name, estimator, batch):
    """As verl's trainer calls it."""
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    keys = [f"{uid}_{row}_0" for row, uid in enumerate(batch.non_tensor_batch["uid"])]
    config = algorithm(**{key: value for key, value in estimator.items() if key != "name"})
    return compute_advantage_for_multi_trajectories(batch, keys, name, num_repeat=4, config=config).batch


def a_batch(seed, size=4, prompts=9, padding=0):
    """Groups with every number of correct rollouts and random ones, interleaved, and rows of padding among them."""
    random = np.random.default_rng(seed)
    counts = [*range(size + 1), *random.integers(0, size + 1, prompts)]
    rollouts = [(f"uid-{g}", float(i < c)) for g, c in enumerate(counts) for i in range(size)]
    rows = [rollouts[i] for i in random.permutation(len(rollouts))]
    lengths = random.integers(1, 14, len(rows) + padding)
    where = sorted(random.choice(len(lengths), padding, replace=False).tolist())
    for row in where:  # a copy of a real row, as in verl, which also takes its uid
        rows.insert(row, rows[random.integers(len(rows))])
    return [reward for _, reward in rows], [uid for uid, _ in rows], lengths, where


@pytest.mark.parametrize("name", ["asymgrpo", "asymgrpo_mean_centred"])
def test_registered_under_its_name(name):
    from verl.trainer.ppo import core_algos

    from asymgrpo.training.verl import plugin

    functions = {"asymgrpo": plugin.family_advantages, "asymgrpo_mean_centred": plugin.mean_centred_advantages}
    assert core_algos.get_adv_estimator_fn(name) is functions[name]
    assert {plugin.FAMILY, plugin.MEAN_CENTRED} == set(functions)


def test_it_may_be_imported_again():
    """verl does, in a process that has it already."""
    import importlib

    from verl.utils.import_utils import import_external_libs

    import_external_libs(["asymgrpo.training.verl.plugin"])
    assert importlib.import_module("asymgrpo.training.verl.plugin").LOSS == "asymgrpo"


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(("name", "estimator"), ESTIMATORS, ids=[json.dumps(e) for _, e in ESTIMATORS])
def test_the_advantages_are_ours(name, estimator, padding):
    rewards, uids, lengths, where = a_batch(0, padding=padding)
    result = through_verl(name, estimator, batch_of(rewards, uids, lengths, where))
    real = [row for row in range(len(uids)) if row not in where]
    numbers = {uid: number for number, uid in enumerate(sorted(set(uids)))}
    expected = compute_advantages(
        torch.tensor([rewards[row] for row in real]),
        torch.tensor([numbers[uids[row]] for row in real]),
        estimator_from_spec(estimator),
    )
    assert expected.abs().max() > 0
    for row, value in zip(real, expected.tolist(), strict=True):
        tokens = [value] * lengths[row] + [0.0] * (13 - lengths[row])
        assert result["advantages"][row].tolist() == pytest.approx(tokens)
    assert not result["advantages"][where].any()
    assert torch.equal(result["returns"], result["advantages"])
    assert result["advantages"].dtype == torch.float32


@pytest.mark.parametrize("seed", range(3))
def test_padding_changes_nothing(seed):
    """Its uid is that of a real group: if its row counted, it would be a wrong rollout of that group."""
    rewards, uids, lengths, where = a_batch(seed, padding=7)
    with_padding = through_verl(*ESTIMATORS[1], batch_of(rewards, uids, lengths, where))["advantages"]
    real = [row for row in range(len(uids)) if row not in where]
    without = batch_of([rewards[row] for row in real], [uids[row] for row in real], lengths[real])
    assert torch.equal(with_padding[real], through_verl(*ESTIMATORS[1], without)["advantages"])


def test_groups_are_found_by_their_labels_not_by_their_place():
    rewards, uids, lengths, _ = a_batch(1)
    order = np.argsort(uids, kind="stable").tolist()
    mixed = through_verl(*ESTIMATORS[0], batch_of(rewards, uids, lengths))["advantages"]
    in_blocks = batch_of([rewards[i] for i in order], [uids[i] for i in order], lengths[order])
    assert torch.equal(mixed[order], through_verl(*ESTIMATORS[0], in_blocks)["advantages"])
    assert uids != sorted(uids)


@pytest.mark.parametrize("labels", [[7, 7, 3, 3], [(1, "a"), (1, "a"), (1, "b"), (1, "b")], ["x", "x", "", ""]])
def test_labels_may_be_of_any_kind(labels):
    from asymgrpo.training.verl.plugin import mean_centred_advantages

    index = np.empty(4, dtype=object)
    index[:] = labels
    advantages, _ = mean_centred_advantages(torch.tensor([[1.0], [0.0], [1.0], [1.0]]), torch.ones(4, 1), index=index)
    assert advantages[:, 0].tolist() == [0.5, -0.5, 0.0, 0.0]


def test_groups_may_differ_in_size():
    """verl drops rollouts that failed."""
    rewards, uids = [1, 0, 0, 1, 1, 0, 0], ["a", "a", "a", "b", "b", "b", "b"]
    result = through_verl(*ESTIMATORS[0], batch_of(rewards, uids, [1] * 7))["advantages"][:, 0]
    expected = [math.sqrt(2), *[-math.sqrt(1 / 2)] * 2, 1, 1, -1, -1]
    assert result.tolist() == pytest.approx(expected)


def test_a_reward_on_a_token_that_the_policy_did_not_write_counts():
    """Of an agent whose last word is its tool's: verl's own GRPO sums them, too."""
    batch = batch_of([1, 0, 1, 0], ["a"] * 4, [5] * 4)
    expected = through_verl(*ESTIMATORS[0], batch)["advantages"][:, 0].tolist()
    batch = batch_of([1, 0, 1, 0], ["a"] * 4, [5] * 4)
    batch.batch["response_mask"][:, 4] = 0
    result = through_verl(*ESTIMATORS[0], batch)["advantages"]
    assert result[:, 0].tolist() == expected == pytest.approx([1, -1, 1, -1])
    assert not result[:, 4].any()


def test_grpo_is_verls_up_to_the_sample_deviation():
    rewards, uids, lengths, _ = a_batch(2)
    ours = through_verl(*ESTIMATORS[0], batch_of(rewards, uids, lengths))["advantages"]
    theirs = through_verl("grpo", {"name": "family"}, batch_of(rewards, uids, lengths))["advantages"]
    torch.testing.assert_close(ours, theirs * math.sqrt(4 / 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", ["beta_pos", "beta_neg"])
def test_a_missing_exponent_is_named(missing):
    estimator = {"name": "family", "beta_pos": 0.5, "beta_neg": 0.5}
    del estimator[missing]
    with pytest.raises(ValueError, match=rf"algorithm\.{missing}: is missing.*\+algorithm\.{missing}=0\.5"):
        through_verl("asymgrpo", estimator, batch_of([1, 0], ["a", "a"], [1, 1]))


SCHEDULE = {"start": {"beta_pos": 0.9, "beta_neg": 0.4}, "quantiles": {"positive": 0.1, "negative": 0.4}}
SCHEDULE |= {"name": "adaptive", "memory": 0.5, "range": [0.05, 0.95]}


def test_a_schedules_exponents_reach_the_estimator():
    """As the trainer does it: the exponents of the step into verl's section, where the plug-in finds them."""
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    from asymgrpo.schedules import betas, schedule_from_spec
    from asymgrpo.training.verl.trainer import set_exponents

    config = composed({"+algorithm.flip": None, "+algorithm.schedule": SCHEDULE}).algorithm
    history = [[2, 3, 1, 0, 1], [1, 0, 4, 2, 1]]
    rewards, uids, lengths, _ = a_batch(2)
    numbers = torch.tensor([sorted(set(uids)).index(uid) for uid in uids])
    keys = [f"{uid}_{row}_0" for row, uid in enumerate(uids)]
    seen = set()
    for step in (1, 2, 3):
        exponents = set_exponents(config, step, 3, history[: step - 1])
        assert exponents == betas(schedule_from_spec(SCHEDULE), step, 3, history)
        seen.add(exponents)
        batch = batch_of(rewards, uids, lengths)
        found = compute_advantage_for_multi_trajectories(batch, keys, "asymgrpo", num_repeat=4, config=config).batch
        spec = {"name": "family"} | exponents._asdict()
        expected = compute_advantages(torch.tensor(rewards), numbers, estimator_from_spec(spec))
        assert torch.equal(found["advantages"][:, 0], expected)  # every response has a first token
    assert len(seen) == 3


def test_without_a_schedule_the_trainer_leaves_the_exponents_alone():
    from asymgrpo.training.verl.trainer import set_exponents

    config = composed({"+algorithm.beta_pos": 0.9, "+algorithm.beta_neg": 0.4}).algorithm
    assert set_exponents(config, 1, 3, []) is None
    assert (config.beta_pos, config.beta_neg) == (0.9, 0.4)


def test_a_schedule_without_our_trainer_is_an_error():
    from asymgrpo.training.verl.plugin import family_advantages

    rewards, mask, config = torch.eye(2), torch.ones(2, 2), composed({"+algorithm.schedule": SCHEDULE}).algorithm
    with pytest.raises(ValueError, match=r"algorithm\.beta_pos: is missing; a schedule's exponents are set"):
        family_advantages(rewards, mask, config=config, index=["a", "a"])


def test_no_configuration_at_all_is_the_same_error():
    from asymgrpo.training.verl.plugin import family_advantages

    with pytest.raises(ValueError, match=r"algorithm\.beta_pos"):
        family_advantages(torch.zeros(2, 1), torch.ones(2, 1), None, np.array(["a", "a"], dtype=object))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": [0.5, 0]}, "expected 0 or 1"),
        ({"rewards": [-1, 1]}, "expected 0 or 1"),
        ({"uids": ["a", "b"]}, "only one rollout"),
        ({"padding": [0, 1]}, "found none"),
        ({"padding": [1]}, "only one rollout"),
    ],
)
def test_what_has_no_advantage_is_an_error(change, message):
    batch = batch_of(**{"rewards": [1, 0], "uids": ["a", "a"], "lengths": [1, 1]} | change)
    with pytest.raises(ValueError, match=message):
        through_verl("asymgrpo", FAMILIES[0] | {"name": "family"}, batch)


@pytest.mark.parametrize("value", [{"beta_pos": -1.0}, {"beta_neg": float("inf")}, {"flip": "both"}])
def test_a_value_that_no_estimator_takes_is_named(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        through_verl("asymgrpo", FAMILIES[0] | {"name": "family"} | value, batch_of([1, 0], ["a", "a"], [1, 1]))


def test_no_labels_are_an_error():
    from asymgrpo.training.verl.plugin import mean_centred_advantages

    with pytest.raises(ValueError, match="no group labels"):
        mean_centred_advantages(torch.zeros(2, 1), torch.ones(2, 1))


# -- loss --------------------------------------------------------------------------------------------------------------


def actor_config(clip_low, clip_high, dual_clip, ratio=None):
    from verl.workers.config import ActorConfig

    return ActorConfig(
        strategy="fsdp",
        rollout_n=8,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio=clip_low if ratio is None else ratio,
        clip_ratio_low=clip_low,
        clip_ratio_high=clip_high,
        clip_ratio_c=dual_clip,
        loss_agg_mode="token-mean",
    )


def logprobs(seed, spread, rows=32):
    random = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, 13, generator=random)
    new = old + spread * torch.randn(rows, 13, generator=random)
    advantages = torch.randn(rows, 1, generator=random).expand(rows, 13)
    advantages = torch.where(torch.rand(rows, 1, generator=random) < 0.2, 0.0, advantages)
    mask = torch.arange(13)[None, :] < torch.randint(0, 14, (rows, 1), generator=random)  # also rows of padding
    return old, new, advantages, mask


@pytest.mark.parametrize("mask_type", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("spread", [0.05, 0.3, 25.0])
@pytest.mark.parametrize("clips", [(0.2, 0.2, 3.0), (0.2, 0.28, 3.0), (0.1, 0.3, 1.05)])
def test_the_loss_is_verls_vanilla_one_and_counts_what_ours_counts(clips, spread, mask_type):
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, get_policy_loss_fn

    from asymgrpo.training.verl.plugin import vanilla_with_clip_counts

    assert get_policy_loss_fn("asymgrpo") is vanilla_with_clip_counts
    old, new, advantages, mask = logprobs(0, spread)
    config, results = actor_config(*clips), []
    for function in (get_policy_loss_fn("asymgrpo"), compute_policy_loss_vanilla):
        leaf = new.clone().requires_grad_()
        loss, metrics = function(
            old_log_prob=old,
            log_prob=leaf,
            advantages=advantages,
            response_mask=mask.to(mask_type),
            loss_agg_mode="token-mean",
            config=config,
            rollout_is_weights=None,
        )
        loss.backward()
        results.append((loss.detach(), leaf.grad, metrics))
    (loss, gradient, metrics), (expected, expected_gradient, expected_metrics) = results
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)
    assert {key: metrics[key] for key in expected_metrics} == expected_metrics

    counted = policy_loss(new, old, advantages, mask, LossSettings(*clips, 0.0))
    assert metrics["actor/tokens_clipped_low"] == float(counted.clipped_low)
    assert metrics["actor/tokens_clipped_high"] == float(counted.clipped_high)
    assert metrics["actor/tokens_counted"] == float(mask.sum())
    if spread > 0.2:
        assert float(counted.clipped_low) * float(counted.clipped_high) > 0
    clipped = metrics["actor/tokens_clipped_low"] + metrics["actor/tokens_clipped_high"]
    assert clipped / metrics["actor/tokens_counted"] == pytest.approx(metrics["actor/pg_clipfrac"], abs=1e-6)


def test_without_clips_of_their_own_both_are_the_one():
    old, new, advantages, mask = logprobs(1, 0.3)
    from asymgrpo.training.verl.plugin import vanilla_with_clip_counts

    results = [
        vanilla_with_clip_counts(old, new, advantages, mask, "token-mean", config)
        for config in (actor_config(None, None, 3.0, ratio=0.15), actor_config(0.15, 0.15, 3.0))
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_importance_weights_are_verls():
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

    from asymgrpo.training.verl.plugin import vanilla_with_clip_counts

    old, new, advantages, mask = logprobs(2, 0.3)
    weights = torch.rand(old.shape, generator=torch.Generator().manual_seed(5)) + 0.5
    arguments = (old, new, advantages, mask, "token-mean", actor_config(0.2, 0.2, 3.0), weights)
    assert torch.equal(vanilla_with_clip_counts(*arguments)[0], compute_policy_loss_vanilla(*arguments)[0])


def test_quotients_of_averaged_counts_are_fractions_of_all_tokens():
    """verl averages the metrics of micro-batches; here four of them, with very different numbers of tokens."""
    from verl.utils.metric import reduce_metrics

    from asymgrpo.training.verl.plugin import vanilla_with_clip_counts

    old, new, advantages, mask = logprobs(3, 0.3)
    mask = mask & (torch.arange(32)[:, None] % 32 < 9) | (torch.arange(13)[None, :] < 2)
    config, metrics = actor_config(0.2, 0.2, 3.0), {}
    for rows in torch.arange(32).chunk(4):
        _, found = vanilla_with_clip_counts(old[rows], new[rows], advantages[rows], mask[rows], "token-mean", config)
        for key, value in found.items():
            metrics.setdefault(key, []).append(value)
    metrics = reduce_metrics(metrics)
    whole = policy_loss(new, old, advantages, mask, LossSettings(0.2, 0.2, 3.0, 0.0))
    tokens = metrics["actor/tokens_counted"]
    assert metrics["actor/tokens_clipped_low"] / tokens == pytest.approx(float(whole.clipped_low / mask.sum()))
    assert metrics["actor/tokens_clipped_high"] / tokens == pytest.approx(float(whole.clipped_high / mask.sum()))
    clipped = float(whole.clipped_low + whole.clipped_high) / float(mask.sum())
    assert metrics["actor/pg_clipfrac"] != pytest.approx(clipped, rel=0.02)  # which is why


# -- rewards -----------------------------------------------------------------------------------------------------------


class Local:
    """verl's reward worker without Ray around it: what its agent loop calls is the worker's own method."""

    def __init__(self, worker):
        self.compute_score = SimpleNamespace(remote=worker.compute_score)


def agent_with(policy, run_values, directory):
    """verl's agent loop worker, and its reward worker with the manager that the overrides name."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    places = {field.name: directory / field.name for field in dataclasses.fields(Files)} | {"policy": policy}
    write_yaml(
        places["agent"], [{"name": "asymgrpo_plain", "_target_": "asymgrpo.training.verl.agent.PlainSingleTurn"}]
    )
    config = composed(overrides(run_spec(run_values()), Files(**places), 6, True, 1))
    worker = RewardLoopWorker(config)
    return AgentLoopWorker(config, llm_client=None, reward_loop_worker_handles=[Local(worker)]), worker


@pytest.fixture(scope="module")
def countdown_agent(small, run_values, tmp_path_factory):
    return agent_with(small.policy, run_values, tmp_path_factory.mktemp("countdown"))


def output_of(prompt, response):
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    return AgentLoopOutput(
        prompt_ids=list(prompt), response_ids=list(response), response_mask=[1] * len(response), num_turns=2,
        metrics=AgentLoopMetrics(),
    )  # fmt: skip


def scored(agent_and_worker, prompt, response, problem):
    """(reward, extra info) as verl's agent loop has them after `_compute_score`."""
    agent, worker = agent_and_worker
    output = output_of(prompt, response)
    row = {"data_source": "easy", "reward_model": problem, "extra_info": {"index": 0}, "raw_prompt": [{"role": "user"}]}
    worker.reward_manager.loop.run_until_complete(agent._compute_score([output], kwargs=row))
    return output.reward_score, output.extra_fields["reward_extra_info"]


def countdown_problem(**more):
    return {"style": "rule", "index": 0, "answer_type": "countdown", "unit": "", "tolerance": None} | more


SOLUTIONS = 60


@pytest.fixture(scope="module")
def solutions():
    """Prompts and responses with their padding, as lists of tokens without it."""
    prompts, responses = countdown.random_solutions(np.random.default_rng(4), SOLUTIONS, {3: 0.5, 4: 0.5})
    return [
        (p.tolist(), r[: r.tolist().index(countdown.EOS) + 1].tolist()) for p, r in zip(prompts, responses, strict=True)
    ]


def test_verl_loads_the_manager_that_the_overrides_name(countdown_agent):
    from asymgrpo.training.verl.reward import VerifierReward

    _, worker = countdown_agent
    assert type(worker.reward_manager).__qualname__ == VerifierReward.__qualname__
    assert type(worker.reward_manager).__module__.endswith("asymgrpo.training.verl.reward")


def test_a_solution_is_rewarded(countdown_agent, solutions):
    for prompt, response in solutions:
        reward, extra = scored(countdown_agent, prompt, response, countdown_problem(ground_truth="1"))
        assert reward == 1.0
        assert extra == {"acc": 1.0, "length": float(len(response)), "finished": 1.0}


def spoilt(prompt, response):
    other_target = countdown.ZERO + (prompt[4] - countdown.ZERO) % 99 + 1
    return {
        "cut off before its end": (prompt, response[:-1], 0.0),
        "cut off early": (prompt, response[:3], 0.0),
        "nothing but the end": (prompt, [countdown.EOS], 1.0),
        "another target": ([*prompt[:4], other_target, prompt[5]], response, 1.0),
        "another operation": (prompt, [response[0], countdown.PLUS + (response[1] - 3) % 3, *response[2:]], 1.0),
        "a word too many": (prompt, [*response[:-1], countdown.ZERO, countdown.EOS], 1.0),
    }


def test_what_is_no_solution_is_not(countdown_agent, solutions):
    for prompt, response in solutions[:10]:
        for name, (asked, given, finished) in spoilt(prompt, response).items():
            reward, extra = scored(countdown_agent, asked, given, countdown_problem(ground_truth="1"))
            assert reward == 0.0, name
            assert extra == {"acc": 0.0, "length": float(len(given)), "finished": finished}, name


def test_an_empty_response_is_wrong_and_not_finished(countdown_agent, solutions):
    reward, extra = scored(countdown_agent, solutions[0][0], [], countdown_problem(ground_truth="1"))
    assert reward == 0.0
    assert extra == {"acc": 0.0, "length": 0.0, "finished": 0.0}


def padded_rows(agent, rows, prompt_length, response_length):
    """A batch in verl's padded layout: prompts padded on the left, responses on the right, by its own function."""
    from verl import DataProto

    def padded(tokens, length, side):
        return agent._pad_token_ids(tokens, max_length=length, padding_side=side, return_attention_mask=True)

    columns = {"prompts": [], "responses": [], "attention_mask": []}
    for prompt, response in rows:
        left, right = padded(prompt, prompt_length, "left"), padded(response, response_length, "right")
        columns["prompts"].append(left["input_ids"])
        columns["responses"].append(right["input_ids"])
        columns["attention_mask"].append(torch.cat([left["attention_mask"], right["attention_mask"]], 1))
    problems = np.array([countdown_problem(ground_truth="1") for _ in rows], dtype=object)
    return DataProto.from_dict(
        tensors={name: torch.cat(values) for name, values in columns.items()}, non_tensors={"reward_model": problems}
    )


def test_a_padded_batch_has_the_same_rewards(countdown_agent, solutions):
    """Right and wrong, shorter and longer ones, side by side; the last row of a batch is the one that is scored."""
    agent, worker = countdown_agent
    rows, expected = [], []
    for prompt, response in solutions[:12]:
        rows += [(prompt, response), (prompt, response[:-1]), (prompt, [])]
        expected += [1.0, 0.0, 0.0]
    batch = padded_rows(agent, rows, prompt_length=10, response_length=20)
    results = worker.reward_manager.loop.run_until_complete(worker.compute_score_batch(batch))
    assert [result["reward_score"] for result in results] == expected
    assert [result["reward_extra_info"]["length"] for result in results] == [float(len(r)) for _, r in rows]
    for last in (1, 2):
        result = worker.reward_manager.loop.run_until_complete(worker.reward_manager.run_single(batch[:last]))
        assert result["reward_score"] == expected[last - 1]


def test_many_at_once_do_not_mix(countdown_agent, solutions):
    """As in a Ray worker, whose rollouts are scored as they come, in threads."""
    import asyncio

    agent, worker = countdown_agent
    rows = [(p, r if i % 3 else [*r[:-1], countdown.ZERO]) for i, (p, r) in enumerate(solutions * 4)]
    outputs = [output_of(*row) for row in rows]
    kwargs = {"reward_model": countdown_problem(ground_truth="1"), "raw_prompt": []}

    async def everything():
        await asyncio.gather(*(agent._compute_score([output], kwargs=kwargs) for output in outputs))

    worker.reward_manager.loop.run_until_complete(everything())
    assert [output.reward_score for output in outputs] == [float(i % 3 > 0) for i in range(len(rows))]


@pytest.fixture(scope="module")
def math_agent(small, run_values, tmp_path_factory):
    """The same with a tokenizer that knows every byte, for answers in LaTeX."""
    import shutil

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    policy = tmp_path_factory.mktemp("math") / "policy"
    shutil.copytree(small.policy, policy)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<eos>"])
    tokenizer.save(str(policy / "tokenizer.json"))
    return agent_with(policy, run_values, policy.parent)


MATH = {
    "a fraction": (r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}", "expression", "", None, True),
    "as a decimal": (r"so \boxed{0.5}", r"\frac{1}{2}", "expression", "", None, True),
    "wrong": (r"so \boxed{0.4}", r"\frac{1}{2}", "expression", "", None, False),
    "no box": ("I do not know", "3", "numerical", "", None, False),
    "within the tolerance": (r"\boxed{3.141}", "3.14", "numerical", "cm", 0.01, True),
    "outside": (r"\boxed{3.2}", "3.14", "numerical", "cm", 0.01, False),
    "a list in another order": (r"\boxed{1, -2}", "-2,1", "multiple", "", None, True),
    "a tuple in another order": (r"\boxed{(2,1)}", "(1,2)", "tuple", "", None, False),
}


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(("response", "truth", "kind", "unit", "tolerance", "correct"), MATH.values(), ids=MATH)
def test_a_math_answer_is_verified_by_its_type(math_agent, response, truth, kind, unit, tolerance, correct, ended):
    agent, _ = math_agent
    tokens = agent.tokenizer.encode(response) + [agent.tokenizer.eos_token_id] * ended
    problem = {
        "style": "rule",
        "index": 0,
        "ground_truth": truth,
        "answer_type": kind,
        "unit": unit,
        "tolerance": tolerance,
    }
    reward, extra = scored(math_agent, agent.tokenizer.encode("1 + 1"), tokens, problem)
    assert reward == float(correct)
    assert extra == {"acc": float(correct), "length": float(len(tokens)), "finished": float(ended)}


# -- data --------------------------------------------------------------------------------------------------------------


def test_verls_data_set_has_the_rows_in_our_order(small, run_values, tmp_path, monkeypatch):
    """Through verl's own dataset, sampler and collation: a batch is a step."""
    import datasets
    from torchdata.stateful_dataloader import StatefulDataLoader
    from transformers import AutoTokenizer
    from verl.trainer.ppo.v1.trainer_base import collate_fn, create_rl_dataset, create_rl_sampler

    from asymgrpo import records
    from asymgrpo.training.batches import problems_of_step
    from asymgrpo.training.verl import data

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    spec = run_spec(run_values(steps=5, seed=3))
    data.write_problems(spec, small.problems, small.benchmarks, tmp_path)
    files = {field.name: tmp_path / f"{field.name}.parquet" for field in dataclasses.fields(Files)}
    config = composed(overrides(spec, Files(**files | {"policy": small.policy}), 6, True, 1)).data
    tokenizer = AutoTokenizer.from_pretrained(small.policy)
    trained = create_rl_dataset(config.train_files, config, tokenizer, None, is_train=True)
    loader = StatefulDataLoader(
        trained,
        batch_size=config.train_batch_size,
        drop_last=True,
        collate_fn=collate_fn,
        sampler=create_rl_sampler(config, trained),
    )
    problems = records.read(small.problems, records.BENCHMARK).to_pylist()
    batches = list(loader)
    assert len(batches) == spec.steps
    for step, batch in enumerate(batches, 1):
        expected = problems_of_step(3, step, 32, 12).tolist()
        assert [answer["index"] for answer in batch["reward_model"]] == expected
        assert [answer["ground_truth"] for answer in batch["reward_model"]] == [
            problems[i]["ground_truth"] for i in expected
        ]
        assert all(answer["tolerance"] is None for answer in batch["reward_model"])
        assert [list(prompt) for prompt in batch["raw_prompt"]] == [problems[i]["prompt"] for i in expected]
    validation = create_rl_dataset(config.val_files, config, tokenizer, None, is_train=False)
    assert [row["data_source"] for row in validation] == ["easy"] * 8 + ["hard"] * 10
    first = tokenizer.apply_chat_template(validation[0]["raw_prompt"], add_generation_prompt=True, return_dict=True)
    assert first["input_ids"] == small.prompts[0].tolist()
    assert as_messages(tokenizer.decode(first["input_ids"])) == validation[0]["raw_prompt"]
    assert list(itertools.chain.from_iterable(b["data_source"] for b in batches)) == ["train"] * 60


def test_a_lost_rollout_ends_the_run():
    """verl would go on with a smaller group."""
    from omegaconf import OmegaConf

    from asymgrpo.training.verl.trainer import Trainer

    trainer = Trainer.__new__(Trainer)  # without its workers
    trainer.config = OmegaConf.create({"data": {"train_batch_size": 4}, "actor_rollout_ref": {"rollout": {"n": 8}}})
    trainer.global_steps = 3
    trainer._check_complete(32)
    with pytest.raises(ValueError, match="step 3: 31 of 32 rollouts"):
        trainer._check_complete(31)
