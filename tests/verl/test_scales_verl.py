"""The `verl:` blocks of the scales, against verl's own configuration: every key exists, and its checks accept them."""

import dataclasses
import re
from pathlib import Path

import pytest

from asymgrpo.config import load
from asymgrpo.training.spec import run_spec
from asymgrpo.training.verl.overrides import Files, bare, command_line, overrides

pytest.importorskip("verl")

pytestmark = pytest.mark.verl

ROOT = Path(__file__).parents[2]
SCALES = [
    path.stem for path in (ROOT / "config/scales").glob("*.yaml") if load(ROOT, {"scale": path.stem}).backend == "verl"
]
PLACES = {field.name: Path("/somewhere", field.name) for field in dataclasses.fields(Files)}


def composed(spec):
    """verl's configuration with the overrides of a run, as its entry point sees it; and the overrides."""
    import verl.trainer.main_ppo
    from hydra import compose, initialize_config_dir

    values = overrides(spec, Files(**PLACES), spec.rollout.max_prompt_tokens, validate_first=True, attempt=1)
    directory = str(Path(verl.trainer.main_ppo.__file__).parent / "config")
    with initialize_config_dir(config_dir=directory, version_base=None):
        return compose("ppo_trainer", overrides=command_line(values)), values


def a_run_of_each(study):
    """One run of every backbone and kind of estimator."""
    seen = {}
    for run in study.runs():
        spec = run_spec(study.spec(run))
        seen.setdefault((run.backbone, spec.estimator["name"], bool(spec.loss.entropy_coefficient)), spec)
    return list(seen.values())


SPECS = [spec for scale in SCALES for spec in a_run_of_each(load(ROOT, {"scale": scale}))]


def test_there_are_such_scales():
    assert set(SCALES) >= {"paper", "smoke"}
    assert {spec.backbone for spec in SPECS if spec.scale == "paper"} == {
        "qwen3-4b", "qwen2.5-math-1.5b", "qwen2.5-7b-base",
    }  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.scale}-{spec.name}")
def test_every_override_arrives_at_its_place(spec):
    from omegaconf import OmegaConf

    config, values = composed(spec)
    for key, value in values.items():
        found = OmegaConf.select(config, bare(key))
        assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value, key
    assert set(spec.verl) <= set(values)


def test_verl_reads_every_key():
    """Its configuration has keys that nothing reads: each of ours is named by some code of verl's, by its last part."""
    import verl

    code = "\n".join(path.read_text() for path in Path(verl.__file__).parent.rglob("*.py"))
    keys = {bare(key) for spec in SPECS for key in spec.verl}
    # these are handed on whole: to ray.init, and to verl's own store
    keys = {key for key in keys if not key.startswith(("ray_kwargs.ray_init.", "transfer_queue."))}
    assert len(keys) > 20
    names = {key: key.rpartition(".")[2] for key in keys}
    assert [key for key, name in names.items() if not re.search(rf"\.{name}\b|[\"']{name}[\"']", code)] == []


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.scale}-{spec.name}")
def test_verls_own_checks_accept_it(spec):
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config
    from verl.workers.config import HFModelConfig

    config, _ = composed(spec)
    # the parts that verl makes classes of know their keys; what Hydra was told with + is found out here
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    assert not need_reference_policy(config)
    assert not need_critic(config)
    omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    # verl would load the model to make this one
    known = {field.name for field in dataclasses.fields(HFModelConfig)}
    assert set(config.actor_rollout_ref.model) - {"_target_"} <= known
    assert set(OmegaConf.to_container(config.trainer.v1)) >= {"trainer_mode", "sync"}


def test_batches_divide_among_the_workers():
    for spec in SPECS:
        workers = spec.verl["trainer.nnodes"] * spec.verl["trainer.n_gpus_per_node"]
        assert spec.rollout.prompts_per_minibatch * spec.rollout.group_size % workers == 0
        longest = spec.rollout.max_prompt_tokens + spec.rollout.max_response_tokens
        if spec.verl.get("actor_rollout_ref.actor.use_dynamic_bsz"):
            # a sequence that is longer than a micro-batch would be an error in verl
            assert spec.verl["actor_rollout_ref.actor.ppo_max_token_len_per_gpu"] >= longest
            assert spec.verl["actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu"] >= longest


@pytest.mark.parametrize(
    "key", ["actor_rollout_ref.actor.use_dynamic_bszz", "+actor_rollout_ref.actor.use_dynamic_bsz"]
)
def test_a_key_that_verl_does_not_know_is_refused(key):
    from hydra.errors import HydraException

    spec = dataclasses.replace(SPECS[0], verl={key: True})
    with pytest.raises(HydraException):
        composed(spec)


def test_a_new_key_that_verl_does_not_know_is_refused():
    from verl.utils.config import omega_conf_to_dataclass

    spec = dataclasses.replace(SPECS[0], verl=SPECS[0].verl | {"+actor_rollout_ref.rollout.enable_sleep_mood": True})
    config, _ = composed(spec)
    with pytest.raises(Exception, match="enable_sleep_mood"):
        omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
