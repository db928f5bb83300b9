"""The command line of a run, read back by Hydra and by verl's own configuration."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymgrpo.training.spec import run_spec
from asymgrpo.training.verl.overrides import Files, bare, command_line, overrides

pytest.importorskip("verl")

pytestmark = pytest.mark.verl

FAMILY = {"name": "family", "beta_pos": 0.9, "beta_neg": 0.4, "flip": None}
FAMILY |= {"all_solved_zero": False, "none_solved_zero": False}
HUB = {"repository": "Qwen/Qwen3-4B", "revision": "0" * 40, "template": {"enable_thinking": False}}
SCHEDULE = {"name": "linear", "start": {"beta_pos": 0.5, "beta_neg": 0.5}, "end": {"beta_pos": 0.9, "beta_neg": 0.4}}
SPECS = {
    "family": {"estimator": FAMILY},
    "flipped": {"estimator": FAMILY | {"flip": "positive", "all_solved_zero": True}},
    "scheduled": {"estimator": {"name": "family", "flip": None, "schedule": SCHEDULE}},
    "mean centred": {"estimator": {"name": "mean_centred"}},
    "from the hub": {"start": HUB},
    "tiny numbers": {"optimiser": {"learning_rate": 1e-6, "weight_decay": 0.0}},
    "no limit on gradients": {"optimiser": {"max_gradient_norm": float("inf")}},
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("\\\"'${}[](),=:~@?# \t\n", max_size=8)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
names = st.from_regex(r"[a-z_][a-z_0-9]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("null", "true", "false", "inf", "nan", "on", "off", "yes", "no")
)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@given(values)
def test_any_value_is_read_back_by_hydras_parser(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides(command_line({"+some.key": value}))
    assert not override.is_sweep_override()
    assert override.key_or_group == "some.key"
    assert same(override.value(), value)


def same(found, expected):
    """Equal, and of equal types: 1 is neither 1.0 nor true."""
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and found == expected


@pytest.mark.parametrize(
    "name", ["plain", "with a space", "a,b", "a=b", "a(1)", "{x}", "it's", 'a"b', "a\\b", "#1", "ü"]
)
def test_a_run_may_be_in_any_directory(run_values, name):
    config = composed(run_values(), Path("/somewhere", name))
    assert config.data.train_files == f"/somewhere/{name}/train"
    assert config.trainer.default_local_dir == f"/somewhere/{name}/checkpoints"


@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_everything_arrives_in_verls_configuration(run_values, changes):
    from omegaconf import OmegaConf

    spec = run_spec(run_values(**changes))
    wanted = overrides(spec, places(Path("/run")), 9, True, 3)
    config = composed(run_values(**changes), Path("/run"), prompt_tokens=9, attempt=3)
    for key, value in wanted.items():
        found = OmegaConf.select(config, bare(key), throw_on_missing=True)
        assert same(OmegaConf.to_container(found) if OmegaConf.is_config(found) else found, value), key


def test_what_the_overrides_change_is_what_they_name(run_values):
    """And nothing else: no key of verl's is moved by another one that shares its name or its default."""
    from omegaconf import OmegaConf

    before, after = composed(None), composed(run_values(), Path("/run"))
    named = {bare(key) for key in overrides(run_spec(run_values()), places(Path("/run")), 6, True, 1)}
    flat = [dict(flattened(OmegaConf.to_container(config, resolve=False))) for config in (before, after)]
    changed = {key for key in flat[1] if key not in flat[0] or flat[0][key] != flat[1][key]}
    assert changed
    assert {key for key in changed if not any(f"{key}.".startswith(f"{name}.") for name in named)} == set()


def test_the_batch_in_rollouts_is_verls_own_product(run_values):
    """verl multiplies prompts by G; its checks refuse a minibatch that is larger than the batch."""
    from verl.utils.config import omega_conf_to_dataclass

    values = run_values(rollout={"prompts_per_step": 12, "prompts_per_minibatch": 4, "group_size": 8})
    values["verl"] = {"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 1}
    config = composed(values)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    actor.validate(n_gpus=1, train_batch_size=config.data.train_batch_size, model_config=config.actor_rollout_ref.model)
    assert (actor.ppo_mini_batch_size, actor.rollout_n) == (4, 8)
    actor.ppo_mini_batch_size = 13
    with pytest.raises(ValueError, match="ppo_mini_batch_size"):
        actor.validate(
            n_gpus=1, train_batch_size=config.data.train_batch_size, model_config=config.actor_rollout_ref.model
        )


def places(root):
    return Files(**{field.name: root / field.name for field in dataclasses.fields(Files)})


def composed(run, root=Path("/run"), prompt_tokens=6, attempt=1):
    """verl's configuration with a run's overrides; without any if there is no run."""
    import verl.trainer.main_ppo
    from hydra import compose, initialize_config_dir

    given = {}
    if run is not None:
        given = overrides(run_spec(run), places(root), prompt_tokens, True, attempt)
    directory = str(Path(verl.trainer.main_ppo.__file__).parent / "config")
    with initialize_config_dir(config_dir=directory, version_base=None):
        return compose("ppo_trainer", overrides=command_line(given))


def flattened(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
