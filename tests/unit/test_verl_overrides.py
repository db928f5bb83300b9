"""A run spec as verl's overrides: every value comes from the spec, and a scale cannot overrule it. Needs no verl."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymgrpo.training.spec import run_spec
from asymgrpo.training.verl.overrides import DERIVED, Files, bare, command_line, is_derived, overrides

PLACES = Files(**{field.name: Path("/run", field.name) for field in dataclasses.fields(Files)})
HUB = {"repository": "Qwen/Qwen3-4B", "revision": "0" * 40, "template": {"enable_thinking": False}}
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@pytest.fixture
def mapped(run_values):
    """mapped(steps=3, ...) -> the overrides of the spec with these values changed."""

    def make(prompt_tokens=6, validate_first=True, attempt=1, **changes):
        return overrides(run_spec(run_values(**changes)), PLACES, prompt_tokens, validate_first, attempt)

    return make


# -- the spec decides --------------------------------------------------------------------------------------------------

# what is changed in the spec -> the keys that change with it, and to what
FROM_THE_SPEC = {
    "learning rate": ({"optimiser": {"learning_rate": 3e-6}}, {f"{ACTOR}.optim.lr": 3e-6}),
    "betas of AdamW": ({"optimiser": {"beta1": 0.8, "beta2": 0.95}}, {f"{ACTOR}.optim.betas": [0.8, 0.95]}),
    "weight decay": ({"optimiser": {"weight_decay": 0.1}}, {f"{ACTOR}.optim.weight_decay": 0.1}),
    "gradient norm": (
        {"optimiser": {"max_gradient_norm": 0.3}},
        {f"{ACTOR}.optim.clip_grad": 0.3, f"{ACTOR}.grad_clip": 0.3},
    ),
    "prompts per step": ({"rollout": {"prompts_per_step": 10}}, {"data.train_batch_size": 10}),
    "prompts per minibatch": ({"rollout": {"prompts_per_minibatch": 4}}, {f"{ACTOR}.ppo_mini_batch_size": 4}),
    "group size": ({"rollout": {"group_size": 7}}, {f"{ROLLOUT}.n": 7}),
    "epochs": ({"rollout": {"epochs": 3}}, {f"{ACTOR}.ppo_epochs": 3}),
    "temperature": ({"rollout": {"temperature": 0.7}}, {f"{ROLLOUT}.temperature": 0.7}),
    "response tokens": (
        {"rollout": {"max_response_tokens": 20}},
        {"data.max_response_length": 20, f"{ROLLOUT}.max_model_len": 26},
    ),
    "prompt tokens": (
        {"rollout": {"max_prompt_tokens": 9}},
        {"data.max_prompt_length": 9, f"{ROLLOUT}.max_model_len": 22},
    ),
    "lower clip": (
        {"loss": {"clip_low": 0.1}},
        {f"{ACTOR}.clip_ratio": 0.1, f"{ACTOR}.clip_ratio_low": 0.1},
    ),
    "Clip-higher": ({"loss": {"clip_high": 0.28}}, {f"{ACTOR}.clip_ratio_high": 0.28}),
    "dual clip": ({"loss": {"dual_clip": 10.0}}, {f"{ACTOR}.clip_ratio_c": 10.0}),
    "entropy bonus": ({"loss": {"entropy_coefficient": 0.01}}, {f"{ACTOR}.entropy_coeff": 0.01}),
    "steps": ({"steps": 8}, {"trainer.total_training_steps": 8}),
    "evaluation": ({"evaluation": {"every": 4}}, {"trainer.test_freq": 4}),
    "checkpoints": ({"checkpoint_every": 1}, {"trainer.save_freq": 1}),
    "seed": ({"seed": 5}, {f"{ROLLOUT}.seed": 5}),
    "names": ({"method": "another", "scale": "other", "backbone": "large"}, {}),
    "where it runs": ({"device": "auto", "threads": 2, "warm_start_seed": 2}, {}),
    "how verl computes": ({"verl": {"trainer.nnodes": 2}}, {"trainer.nnodes": 2}),
}


@pytest.mark.parametrize(("changes", "expected"), FROM_THE_SPEC.values(), ids=FROM_THE_SPEC)
def test_a_change_of_the_spec_changes_its_keys_and_no_other(mapped, changes, expected):
    before, after = mapped(), mapped(**changes)
    different = {key: value for key, value in after.items() if key not in before or before[key] != value}
    assert different == expected
    assert set(before) <= set(after)


def test_every_setting_of_the_algorithm_is_among_those(run_values):
    """So that a new one is not forgotten: whatever the spec has is tried above, or elsewhere in this file."""
    tried = {"estimator", "start", "backend"}
    for changes, _ in FROM_THE_SPEC.values():
        for key, value in changes.items():
            tried |= {(key, inner) for inner in value} if isinstance(value, dict) and key != "verl" else {key}
    nested = ("loss", "optimiser", "rollout", "evaluation")
    there = {key for key in run_values() if key not in nested}
    there |= {(key, inner) for key in nested for inner in run_values()[key]}
    assert there - tried == {("evaluation", "benchmarks"), ("evaluation", "select_on")}  # in the files of the run


def test_batches_are_counted_in_prompts(mapped):
    """verl multiplies by G itself."""
    values = mapped(rollout={"prompts_per_step": 128, "group_size": 8, "prompts_per_minibatch": 64})
    assert values["data.train_batch_size"] == 128
    assert values[f"{ACTOR}.ppo_mini_batch_size"] == 64
    assert values[f"{ROLLOUT}.n"] == 8


@pytest.mark.parametrize("flip", [None, "positive", "negative"])
@pytest.mark.parametrize("switches", [(False, False), (True, False), (False, True)])
def test_the_family(mapped, flip, switches):
    family = {"name": "family", "beta_pos": 0.9, "beta_neg": 0.4, "flip": flip}
    values = mapped(estimator=family | dict(zip(("all_solved_zero", "none_solved_zero"), switches, strict=True)))
    assert values["algorithm.adv_estimator"] == "asymgrpo"
    assert {key: value for key, value in values.items() if key.startswith("+algorithm.")} == {
        "+algorithm.beta_pos": 0.9,
        "+algorithm.beta_neg": 0.4,
        "+algorithm.flip": flip,
        "+algorithm.all_solved_zero": switches[0],
        "+algorithm.none_solved_zero": switches[1],
    }


def test_mean_centred(mapped):
    values = mapped(estimator={"name": "mean_centred"})
    assert values["algorithm.adv_estimator"] == "asymgrpo_mean_centred"
    assert not [key for key in values if key.startswith("+algorithm.")]


def test_no_kl_term_and_no_critic(mapped):
    values = mapped()
    assert values["algorithm.use_kl_in_reward"] is False
    assert values[f"{ACTOR}.use_kl_loss"] is False
    assert values["critic.enable"] is False
    assert values[f"{ACTOR}.loss_agg_mode"] == "token-mean"


def test_a_warm_start_has_an_agent_loop_of_its_own(mapped):
    values = mapped(start={})
    assert values[f"{ROLLOUT}.agent.default_agent_loop"] == "asymgrpo_plain"
    assert values[f"{ROLLOUT}.agent.agent_loop_config_path"] == "/run/agent"
    assert values["+data.apply_chat_template_kwargs"] == {}


def test_a_model_from_the_hub_has_verls_and_its_template(mapped):
    values = mapped(start=HUB)
    assert values[f"{ROLLOUT}.agent.default_agent_loop"] == "single_turn_agent"
    assert values[f"{ROLLOUT}.agent.agent_loop_config_path"] is None
    assert values["+data.apply_chat_template_kwargs"] == {"enable_thinking": False}
    assert mapped(start={**HUB, "template": {}})["+data.apply_chat_template_kwargs"] == {}


def test_a_longer_prompt_makes_room_for_itself(mapped):
    values = mapped(prompt_tokens=40, rollout={"max_prompt_tokens": 6, "max_response_tokens": 13})
    assert values["data.max_prompt_length"] == 40
    assert values[f"{ROLLOUT}.max_model_len"] == 53
    assert values["data.filter_overlong_prompts"] is False
    assert values["data.truncation"] == "error"


def test_the_order_of_the_file_is_the_order_of_training(mapped):
    values = mapped()
    assert values["data.shuffle"] is False
    assert values["data.validation_shuffle"] is False
    assert values[f"{ACTOR}.shuffle"] is False


def test_evaluation_while_training_is_greedy_and_once(mapped):
    values = mapped()
    assert values[f"{ROLLOUT}.val_kwargs.do_sample"] is False
    assert values[f"{ROLLOUT}.val_kwargs.temperature"] == 0
    assert values[f"{ROLLOUT}.val_kwargs.n"] == 1
    assert values["trainer.val_before_train"] is True
    assert mapped(validate_first=False)["trainer.val_before_train"] is False


def test_files_checkpoints_and_logs(mapped):
    values = mapped()
    assert values["actor_rollout_ref.model.path"] == "/run/policy"
    assert values["data.train_files"] == "/run/train"
    assert values["data.val_files"] == "/run/validation"
    assert values["trainer.default_local_dir"] == "/run/checkpoints"
    assert values["+asymgrpo.task"] == "/run/task"
    assert values["trainer.resume_mode"] == "auto"
    assert values["trainer.max_actor_ckpt_to_keep"] == 2
    assert "hf_model" in values[f"{ACTOR}.checkpoint.save_contents"]
    names = [mapped(attempt=attempt)["trainer.experiment_name"] for attempt in (1, 2)]
    assert names[0] != names[1]  # verl truncates its log


def test_nothing_of_foreign_origin_is_run(mapped):
    values = mapped(start=HUB)
    assert [value for key, value in values.items() if key.endswith("trust_remote_code")] == [False, False]


@pytest.mark.parametrize(("checkpoint_every", "every"), [(3, 2), (4, 2), (2, 3), (10, 15)])
def test_an_evaluation_without_a_checkpoint_is_refused(mapped, checkpoint_every, every):
    with pytest.raises(
        ValueError, match=f"checkpoint_every: found {checkpoint_every}.*evaluation.every, which is {every}"
    ):
        mapped(checkpoint_every=checkpoint_every, evaluation={"every": every})


@pytest.mark.parametrize(("checkpoint_every", "every"), [(1, 1), (1, 3), (5, 10), (10, 10)])
def test_divisors_are_not(mapped, checkpoint_every, every):
    values = mapped(checkpoint_every=checkpoint_every, evaluation={"every": every})
    assert (values["trainer.save_freq"], values["trainer.test_freq"]) == (checkpoint_every, every)


# -- what a scale may not set ------------------------------------------------------------------------------------------


def test_derived_has_every_key_of_any_spec(mapped):
    family = {"name": "family", "beta_pos": 0.9, "beta_neg": 0.4, "flip": "positive"}
    switches = {"all_solved_zero": True, "none_solved_zero": True}
    found = set()
    for estimator in ({"name": "mean_centred"}, family | switches):
        for start in ({}, HUB):
            found |= set(map(bare, mapped(estimator=estimator, start=start)))
    assert found == DERIVED


def test_a_family_has_no_field_that_derived_lacks():
    from asymgrpo.advantages import AdvantageFamily

    assert {f"algorithm.{field.name}" for field in dataclasses.fields(AdvantageFamily)} <= DERIVED


@pytest.mark.parametrize("prefix", ["", "+", "++", "~"])
def test_no_derived_key_may_be_set(mapped, prefix):
    for key in DERIVED:
        with pytest.raises(ValueError, match="decided by the run's own settings") as error:
            mapped(verl={"trainer.nnodes": 1, prefix + key: 1})
        assert f"verl: {prefix}{key}:" in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        "+data.apply_chat_template_kwargs.enable_thinking",  # inside a derived one
        "actor_rollout_ref.actor.optim",  # holds derived ones
        "algorithm",
        "+asymgrpo",
        "actor_rollout_ref.rollout.val_kwargs",
    ],
)
def test_nor_a_part_or_the_whole_of_one(mapped, key):
    with pytest.raises(ValueError, match="decided by"):
        mapped(verl={key: None})


@pytest.mark.parametrize(
    "key",
    [
        "actor_rollout_ref.actor.use_dynamic_bsz",
        "actor_rollout_ref.actor.optim.lr_scheduler",  # only begins like a derived one
        "actor_rollout_ref.rollout.name_of_something",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.max_num_seqs",
        "trainer.n_gpus_per_node",
    ],
)
def test_other_keys_may_be_set(mapped, key):
    assert not is_derived(key)
    assert mapped(verl={key: 3})[key] == 3


# -- the command line --------------------------------------------------------------------------------------------------
# (tests/verl reads it back with Hydra's own parser)

QUOTED = {
    "a text": ("vllm", '"vllm"'),
    "what looks like another type": ("null", '"null"'),
    "quotes": ('a "b"', r'"a \"b\""'),
    "a backslash": ("a\\b", r'"a\b"'),
    "a backslash before a quote": ('a\\"b', r'"a\\\"b"'),
    "a backslash at the end": ("a\\", '"a\\\\"'),
    "a path": ("/a b/c=d,{e}", '"/a b/c=d,{e}"'),
    "true": (True, "true"),
    "none": (None, "null"),
    "a small number": (1e-6, "1e-06"),
    "no limit": (float("inf"), "inf"),
    "a list": ([0.9, 0.999], "[0.9,0.999]"),
    "a tuple": (("console", "file"), '["console","file"]'),
    "an empty mapping": ({}, "{}"),
    "a mapping": ({"enable_thinking": False, "style": "a b"}, '{enable_thinking:false,style:"a b"}'),
}


@pytest.mark.parametrize(("value", "text"), QUOTED.values(), ids=QUOTED)
def test_values_in_hydras_grammar(value, text):
    assert command_line({"+x.y": value}) == [f"+x.y={text}"]


@given(st.dictionaries(st.sampled_from(["a.b", "+c.d", "e"]), st.text()))
def test_one_argument_per_key_in_order(values):
    arguments = command_line(values)
    assert [argument.partition("=")[0] for argument in arguments] == list(values)
