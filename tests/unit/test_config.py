import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml

from asymgrpo.config import ARTEFACTS, ConfigError, Run, load

ROOT = Path(__file__).parents[2]
LOCAL, METHODS = "config/scales/local.yaml", "config/methods.yaml"
PAPER, SMOKE = "config/scales/paper.yaml", "config/scales/smoke.yaml"
BENCHMARKS, ARTEFACT_FILE, CONFIG = "config/benchmarks.yaml", "config/artefacts.yaml", "config/config.yaml"
ABSENT = object()
OURS = {"provenance": "ours", "note": "a test"}


@pytest.fixture
def project(tmp_path):
    """A copy of the real configuration, to be spoilt."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "workflow" / "schemas", tmp_path / "workflow" / "schemas")
    return tmp_path


@pytest.fixture(scope="module")
def local():
    return load(ROOT, {"scale": "local"})


@pytest.fixture(scope="module")
def tiny():
    return load(ROOT, {"scale": "tiny"})


@pytest.fixture(scope="module")
def paper():
    return load(ROOT, {"scale": "paper"})


@pytest.fixture(scope="module")
def smoke():
    return load(ROOT, {"scale": "smoke"})


def change(root, file, keys, value):
    """Set (or with ABSENT remove) what lies at `keys` (a space between them) in a YAML file."""
    document = yaml.safe_load((root / file).read_text())
    # aliases become copies, so that a change has one place
    document = json.loads(json.dumps(document))
    *way, last = keys.split()
    place = document
    for key in way:
        place = place.setdefault(key, {})
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    (root / file).write_text(yaml.safe_dump(document, sort_keys=False))


def message(root, overrides=None):
    with pytest.raises(ConfigError) as caught:
        load(root, overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


# (file, keys, value) -> what the message must say
LINEAR, ADAPTIVE = (f"methods schedule-{name} estimator" for name in ("linear", "adaptive"))
MISTAKES = [
    # unknown keys
    (CONFIG, "sede", 1, ["config.yaml: sede: unknown key (did you mean 'seeds'?)", "only the keys scale, seeds"]),
    (LOCAL, "training stepz", 1, ["local.yaml: training.stepz: unknown key (did you mean 'steps'?)"]),
    (LOCAL, "training steps unit", "x", ["training.steps.unit: unknown key", "value, provenance, note"]),
    (METHODS, "methods grpo lable", "x", ["methods.yaml: methods.grpo.lable: unknown key (did you mean 'label'?)"]),
    (METHODS, "methods grpo estimator beta", 1, ["methods.grpo.estimator.beta: unknown key (did you mean 'beta_"]),
    (BENCHMARKS, "benchmarks countdown-3 generator value number", 3, ["generator.value.number: unknown key"]),
    (ARTEFACT_FILE, "artefacts fig5", {"title": "x"}, ["artefacts.yaml: artefacts.fig5: unknown key (did you mean"]),
    # missing ones
    (LOCAL, "training steps", ABSENT, ["local.yaml: training.steps: is missing; expected training steps"]),
    (LOCAL, "training steps provenance", ABSENT, ["training.steps.provenance: is missing", "stated"]),
    (LOCAL, "training steps note", ABSENT, ["training.steps.note: is missing", "the rule"]),
    (METHODS, "methods grpo estimator beta_neg", ABSENT, ["methods.grpo.estimator.beta_neg: is missing"]),
    (ARTEFACT_FILE, "artefacts table2", ABSENT, ["artefacts.table2: is missing"]),
    (BENCHMARKS, "benchmarks countdown-3 generator value", {}, ["countdown-3.generator.value.numbers: is missing"]),
    (LOCAL, "evaluation final t0.4", ABSENT, ["local.yaml: evaluation.final.t0.4: is missing", "fig4"]),
    # wrong types
    (METHODS, "methods grpo estimator beta_pos value", "0.5", ["beta_pos.value: found the text '0.5'", "a number"]),
    (METHODS, "methods grpo estimator beta_pos", 0.5, ["beta_pos: found the number 0.5", "{value: ..., provenance"]),
    (METHODS, "methods grpo estimator beta_pos value", True, ["found the boolean true", "a number"]),
    (METHODS, "methods grpo-entropy entropy_bonus", 1, ["entropy_bonus: found the number 1", "true or false"]),
    (METHODS, "methods", [], ["methods.yaml: methods: found an empty list", "a mapping"]),
    (LOCAL, "training steps value", 100.0, ["training.steps.value: found the number 100.0", "an integer"]),
    (LOCAL, "training steps value", None, ["training.steps.value: found nothing (null)", "an integer"]),
    (LOCAL, "training steps provenance", "guessed", ["provenance: found the text 'guessed'", "stated, derived, v1"]),
    (LOCAL, "backend value", "troch", ["backend.value: found the text 'troch' (did you mean 'torch'?)"]),
    (CONFIG, "seeds", 1, ["config.yaml: seeds: found the number 1", "[1, 2], or null"]),
    (CONFIG, "scale", 1, ["config.yaml: scale: found the number 1", "text"]),
    # out of range
    (METHODS, "methods grpo estimator beta_pos value", -0.5, ["beta_pos.value: found the number -0.5", "at least 0"]),
    (METHODS, "methods grpo estimator beta_pos value", float("nan"), ["beta_pos.value: found the number nan"]),
    (METHODS, "methods grpo estimator beta_pos value", float("inf"), ["beta_pos.value: found the number inf"]),
    (METHODS, "grid beta_pos value", [0.5, -1], ["methods.yaml: grid.beta_pos.value[1]: found the number -1"]),
    (LOCAL, "grid", {"beta_pos": {"value": [], **OURS}}, ["local.yaml: grid.beta_neg: is missing", "(and 1 more)"]),
    (LOCAL, "training rollout group_size value", 1, ["group_size.value: found the number 1", "at least 2"]),
    (LOCAL, "training rollout temperature value", 0, ["temperature.value: found the number 0", "above 0"]),
    (LOCAL, "training optimiser beta2 value", 1.0, ["beta2.value: found the number 1.0", "below 1"]),
    (LOCAL, "backbones qwen3-80k policy value head_dim", 33, ["policy.value.head_dim: found the number 33", "even"]),
    (LOCAL, "backbones qwen3-80k policy value head_dim", 16, ["head_dim: found the number 16", "at least 32"]),
    (LOCAL, "seeds value", [], ["local.yaml: seeds.value: found an empty list", "at least 1"]),
    (LOCAL, "seeds value", [0], ["local.yaml: seeds.value[0]: found the number 0", "at least 1"]),
    (CONFIG, "seeds", [1, 1], ["config.yaml: seeds: found 1 more than once"]),
    (CONFIG, "artefacts", [], ["config.yaml: artefacts: found an empty list"]),
    (LOCAL, "evaluation benchmarks value", ["countdown-3"] * 2, ["'countdown-3' more than once"]),
    (ARTEFACT_FILE, "artefacts fig3 methods value second", ["grpo", "grpo"], ["second: found 'grpo' more than once"]),
    (ARTEFACT_FILE, "artefacts fig3 methods value second", "every", ["found the text 'every'", "or `all`"]),
    (ARTEFACT_FILE, "artefacts fig2 settings ema_factor value", 1, ["ema_factor.value: found the number 1", "below 1"]),
    # names
    (
        CONFIG,
        "scale",
        "locl",
        ["config.yaml: scale: unknown scale 'locl' (did you mean 'local'?)", "local, paper, smoke, tiny"],
    ),
    (CONFIG, "artefacts", ["fig9"], ["config.yaml: artefacts: unknown artefact 'fig9'", "table2"]),
    (ARTEFACT_FILE, "artefacts fig3 methods value primary", ["grpoo"], ["fig3.methods.value.primary", "'grpo'"]),
    (LOCAL, "evaluation benchmarks value", ["cuontdown-4"], ["evaluation.benchmarks: unknown", "'countdown-4'"]),
    (LOCAL, "evaluation select_on value", "MATH-500", ["evaluation.select_on: unknown benchmark 'MATH-500'"]),
    (METHODS, "methods base", {}, ["methods.base: the name 'base' cannot be used", "taken"]),
    (METHODS, "methods grid-1-2", {}, ["the name 'grid-1-2' cannot be used"]),
    (METHODS, "methods a/b", {}, ["the name 'a/b' cannot be used", "lower-case"]),
    # settings that do not fit each other
    (
        LOCAL,
        "training rollout prompts_per_minibatch value",
        24,
        ["local.yaml: training.rollout.prompts_per_minibatch: prompts_per_minibatch is 24", "which is 64"],
    ),
    (
        LOCAL,
        "backbones qwen3-80k training rollout prompts_per_minibatch value",
        24,
        ["local.yaml: backbones.qwen3-80k.training.rollout.prompts_per_minibatch: prompts_per_minibatch is 24", "64"],
    ),
    (
        LOCAL,
        "backbones qwen3-80k training rollout",
        {"prompts_per_step": {"value": 24, **OURS}},
        ["backbones.qwen3-80k.training.rollout.prompts_per_step: prompts_per_minibatch is 16", "which is 24"],
    ),
    (
        LOCAL,
        "backbones qwen3-80k training rollout prompts_per_step",
        {"value": 6400, **OURS},
        ["backbones.qwen3-80k.training.rollout.prompts_per_step: found 6400", "which is 3000"],
    ),
    (LOCAL, "data train problems value", 63, ["training.rollout.prompts_per_step: found 64", "which is 63"]),
    (LOCAL, "backbones qwen3-80k training stepz", 1, ["backbones.qwen3-80k.training.stepz: unknown key", "'steps'"]),
    (LOCAL, "backbones qwen3-80k training optimiser lr", 1, ["qwen3-80k.training.optimiser.lr: unknown key"]),
    (LOCAL, "backbones qwen3-80k training steps", 5, ["qwen3-80k.training.steps: found the number 5", "{value: ..."]),
    (
        LOCAL,
        "backbones qwen3-80k training loss",
        {"dual_clip": {"value": 1, "provenance": "assumed"}},
        ["backbones.qwen3-80k.training.loss.dual_clip.value: found the number 1", "above 1"],
    ),
    (LOCAL, "training loss dual_clip value", 1.0, ["training.loss.dual_clip.value: found the number 1.0", "above 1"]),
    (LOCAL, "warm_start shares value", {"3": 0.5, "4": 0.6}, ["warm_start.shares.value: the shares add up to 1.1"]),
    (LOCAL, "warm_start shares value 5", 0.1, ["warm_start.shares.value.5: unknown key", "2, 3, 4"]),
    (LOCAL, "warm_start large_share value", 1.5, ["warm_start.large_share.value: found the number 1.5", "at most 1"]),
    (LOCAL, "data train seed", ABSENT, ["data.train.seed: is missing"]),
    (LOCAL, "backbones qwen3-160k policy value kv_heads", 3, ["qwen3-160k.policy.kv_heads: found 3", "which is 2"]),
    (LOCAL, "data train numbers value", [3], ["data.train.share_of_3: found 0.5", "1.0"]),
    (METHODS, "methods dr-grpo estimator beta_pos", {"value": 1, **OURS}, ["dr-grpo.estimator.beta_pos", "family"]),
    # schedules
    (
        METHODS,
        f"{LINEAR} beta_pos",
        {"value": 1, **OURS},
        ["beta_pos: is given beside a schedule"],
    ),
    (
        METHODS,
        f"{LINEAR} schedule",
        ABSENT,
        ["beta_pos: is missing", "or a `schedule` instead"],
    ),
    (
        METHODS,
        f"{LINEAR} schedule end",
        ABSENT,
        ["schedule.end: is missing", "schedule is linear"],
    ),
    (METHODS, f"{LINEAR} schedule end value", {"beta_pos": 1}, ["value.beta_neg: is missing"]),
    (
        METHODS,
        f"{LINEAR} schedule name value",
        "linaer",
        ["name.value: ", "did you mean 'linear'"],
    ),
    (
        METHODS,
        f"{LINEAR} schedule name",
        ABSENT,
        ["name: is missing", "linear, cosine or adaptive"],
    ),
    (
        METHODS,
        f"{LINEAR} schedule memory",
        {"value": 0.5, **OURS},
        ["schedule.memory: is given, but the schedule is linear; expected only name, start, end"],
    ),
    (METHODS, f"{ADAPTIVE} schedule memory value", 1, ["memory.value: found", "below 1"]),
    (
        METHODS,
        f"{ADAPTIVE} schedule range value",
        [0.9, 0.1],
        ["[0.9, 0.1]", "[smallest, largest]"],
    ),
    (
        METHODS,
        f"{ADAPTIVE} schedule range value",
        [0.9],
        ["range.value", "[smallest, largest]"],
    ),
    (
        METHODS,
        f"{ADAPTIVE} schedule quantiles value positive",
        0,
        ["quantiles.value.positive: found the number 0", "above 0 and below 1"],
    ),
    (
        BENCHMARKS,
        "benchmarks countdown-4-big generator value one_number_from",
        [20, 10],
        ["one_number_from: found [20, 10]", "[smallest, largest]"],
    ),
]


# The same at the scales of verl.
OVERRIDE = {"value": True, **OURS}
BSZ = "actor_rollout_ref.actor.use_dynamic_bsz"
VERL_MISTAKES = [
    (PAPER, "sampler value", "torch", ["paper.yaml: sampler: found torch", "vllm"]),
    (PAPER, "sampler value", "vlm", ["sampler.value: found the text 'vlm' (did you mean 'vllm'?)", "torch, vllm"]),
    (PAPER, "backend value", "torch", ["verl: is given, but the backend is torch"]),
    (PAPER, "verl", ABSENT, ["paper.yaml: verl: is missing", "because the backend is verl"]),
    (PAPER, f"verl {BSZ}", {"value": True, "provenance": "stated"}, [f"verl.{BSZ}.note: is missing; expected why"]),
    (PAPER, f"verl {BSZ}", True, [f"verl.{BSZ}: found the boolean true", "{value: ..."]),
    (PAPER, f"verl {BSZ} value", {"a": 1}, [f"verl.{BSZ}.value: found a mapping with the keys a"]),
    (PAPER, "verl actor", OVERRIDE, ["verl.actor: the name 'actor' cannot be used", "a dotted key of verl's"]),
    (PAPER, "verl trainer.save_freq", OVERRIDE, ["verl.trainer.save_freq: is derived from the scale's other settings"]),
    (PAPER, "verl +algorithm.beta_pos", OVERRIDE, ["verl.+algorithm.beta_pos: is derived"]),
    (
        PAPER,
        "backbones qwen3-4b verl actor_rollout_ref.rollout.n",
        OVERRIDE,
        ["paper.yaml: backbones.qwen3-4b.verl.actor_rollout_ref.rollout.n: is derived", "only keys about how"],
    ),
    (PAPER, f"backbones qwen3-4b verl +{BSZ}", OVERRIDE, [f"qwen3-4b.verl.+{BSZ}: is given as {BSZ} too"]),
    (PAPER, "verl trainer.n_gpus_per_node", ABSENT, ["verl.trainer.n_gpus_per_node: is missing or no integer"]),
    (PAPER, "verl trainer.n_gpus_per_node value", True, ["verl.trainer.n_gpus_per_node: is missing or no integer"]),
    (
        PAPER,
        "verl trainer.device",
        {"value": "cpu", **OURS},
        ["verl.trainer.device: does not fit `device`", "no entry"],
    ),
    (SMOKE, "verl trainer.device", ABSENT, ["smoke.yaml: verl.trainer.device: does not fit `device`", "cpu"]),
    (
        PAPER,
        "training checkpoint_every value",
        3,
        ["training.checkpoint_every: found 3", "evaluation.every, which is 10"],
    ),
    (
        PAPER,
        "backbones qwen3-4b training",
        {"checkpoint_every": {"value": 4, **OURS}},
        ["backbones.qwen3-4b.training.checkpoint_every: found 4", "a checkpoint"],
    ),
    # backbones
    (PAPER, "backbones qwen3-4b model", ABSENT, ["backbones.qwen3-4b.model: is missing", "either `policy`"]),
    (PAPER, "backbones qwen3-4b policy", "A POLICY", ["qwen3-4b.model: is given beside policy", "either `policy`"]),
    (PAPER, "backbones qwen3-4b model revision value", "main", ["model.revision.value: found the text 'main'", "40"]),
    (
        PAPER,
        "backbones qwen3-4b model repository value",
        "Qwen3-4B",
        ["repository.value: found the text", "Qwen/Qwen3-4B"],
    ),
    (PAPER, "backbones qwen3-4b model licence", ABSENT, ["qwen3-4b.model.licence: is missing", "may be used"]),
    (PAPER, "backbones qwen3-4b model template value", {}, ["template.value: found an empty mapping"]),
    (PAPER, "backbones qwen3-4b cost", ABSENT, ["backbones.qwen3-4b.cost: is missing", "cost.model"]),
    (
        LOCAL,
        "backbones qwen3-80k",
        "A MODEL",
        ["qwen3-80k.model: is given, but the backend is torch", "the backend verl"],
    ),
    (
        LOCAL,
        "backbones qwen3-80k verl",
        {BSZ: OVERRIDE},
        ["backbones.qwen3-80k.verl: is given, but the backend is torch"],
    ),
    (LOCAL, "verl", {BSZ: OVERRIDE}, ["local.yaml: verl: is given, but the backend is torch"]),
    (SMOKE, "warm_start", ABSENT, ["smoke.yaml: warm_start: is missing", "qwen3-160k has a `policy`"]),
    (SMOKE, "warm_start_seeds", ABSENT, ["smoke.yaml: warm_start_seeds: is missing", "qwen3-160k has a `policy`"]),
    # data and evaluation
    (
        PAPER,
        "data train dataset value",
        "math-trian",
        ["data.train.dataset: unknown dataset", "did you mean 'math-train'?"],
    ),
    (PAPER, "data train dataset value", "math-500", ["data.train.dataset: unknown dataset 'math-500'"]),
    (PAPER, "data train seed", {"value": 0, **OURS}, ["data.train.seed: unknown key", "only the keys dataset"]),
    (PAPER, "data train dataset", ABSENT, ["data.train.numbers: is missing; expected how many numbers"]),
    (
        PAPER,
        "training rollout prompts_per_step value",
        7552,
        ["training.rollout.prompts_per_step: found 7552", "training problems, which is 7500"],
    ),
    (LOCAL, "training rollout max_prompt_tokens", ABSENT, ["rollout.max_prompt_tokens: is missing", "prompt"]),
    (PAPER, "evaluation final t0.4 samples value aime24", ABSENT, ["final.t0.4.samples.aime24: is missing"]),
    (
        PAPER,
        "evaluation final t0.4 samples value aime26",
        5,
        ["final.t0.4.samples: unknown benchmark 'aime26' (did you"],
    ),
    (
        PAPER,
        "evaluation final t0.4 samples value aime24",
        0,
        ["samples.value.aime24: found the number 0", "at least 1"],
    ),
    (LOCAL, "evaluation final t1 samples value", 0, ["t1.samples.value: found the number 0", "an integer that is at"]),
    # methods of the scale
    (SMOKE, "methods value", ["grpo", "gpro"], ["smoke.yaml: methods: unknown method 'gpro' (did you mean 'grpo'?)"]),
    (
        SMOKE,
        "methods value",
        ["reinforce", "pos-only-0.5"],
        ["smoke.yaml: methods: leaves fig3 nothing to show", "ent-"],
    ),
    (SMOKE, "methods value", [], ["methods.value: found an empty list"]),
    # cost
    (LOCAL, "cost", ABSENT, ["local.yaml: cost: is missing"]),
    (LOCAL, "cost", {}, ["local.yaml: cost: is empty", "either `measured` or `model`"]),
    (PAPER, "cost measured", "MEASURED", ["paper.yaml: cost: holds both", "either `measured` or `model`"]),
    (PAPER, "cost model peak_flops", ABSENT, ["cost.model.peak_flops: is missing; expected floating-point operations"]),
    (
        PAPER,
        "cost model update_utilisation value",
        1.5,
        ["update_utilisation.value: found the number 1.5", "at most 1"],
    ),
]


@pytest.mark.parametrize(("file", "keys", "value", "said"), VERL_MISTAKES)
def test_a_mistake_at_the_scales_of_verl(project, file, keys, value, said):
    local = yaml.safe_load((project / LOCAL).read_text())
    model = {
        "repository": {"value": "a/b", **OURS},
        "revision": {"value": None, **OURS},
        "licence": {"value": "x", **OURS},
    }
    whole = {
        "A POLICY": local["backbones"]["qwen3-80k"]["policy"],
        "A MODEL": {"label": "x", "stands_for": "x", "model": model},
        "MEASURED": local["cost"]["measured"],
    }
    change(project, file, keys, whole.get(value, value) if isinstance(value, str) else value)
    text = message(project, {"scale": Path(file).stem})
    assert text.startswith(file)
    for fragment in said:
        assert fragment in text


@pytest.mark.parametrize(("file", "keys", "value", "said"), MISTAKES)
def test_a_mistake_is_one_line_that_names_file_key_and_expectation(project, file, keys, value, said):
    change(project, file, keys, value)
    text = message(project)
    assert text.startswith("config/")
    for fragment in said:
        assert fragment in text


@pytest.mark.parametrize("file", [CONFIG, LOCAL, METHODS, BENCHMARKS, ARTEFACT_FILE])
def test_a_missing_file(project, file):
    (project / file).unlink()
    text = message(project, {"scale": "local"})
    assert ("unknown scale 'local'" if file == LOCAL else f"{file}: there is no such file in") in text


def test_no_configuration_at_all(tmp_path):
    assert "there is no such file" in message(tmp_path)
    assert str(tmp_path) in message(tmp_path)


def test_a_missing_schema(project):
    (project / "workflow/schemas/setting.schema.yaml").unlink()
    assert "workflow/schemas/setting.schema.yaml: there is no such file" in message(project)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scale: local\nseeds: [1\nartefacts: [fig1]\n", ["config.yaml: line 3", "not valid YAML"]),
        ("scale: local\nscale: tiny\nartefacts: [fig1]\n", ["line 2, column 1", "'scale' is given twice"]),
        ("scale: local\nartefacts: [fig1]\non: 3\n", ["line 3", "'on' is not text"]),
        ("", ["config.yaml: found nothing (null); expected a mapping"]),
        ("- local\n", ["config.yaml: found the list ['local']; expected a mapping"]),
        ("scale: \x01\n", ["config.yaml: this is not valid YAML"]),
    ],
)
def test_broken_yaml_names_the_line(project, text, said):
    (project / CONFIG).write_text(text)
    for fragment in said:
        assert fragment in message(project)


def test_a_file_in_another_encoding(project):
    (project / CONFIG).write_bytes("scale: löcal\n".encode("latin-1"))
    assert "config.yaml: byte 8 is not UTF-8" in message(project)


def test_numbers_may_be_written_without_a_point(project):
    file = project / LOCAL
    file.write_text(file.read_text().replace("1.5e-4", "15e-5"))
    study = load(project)
    assert study.settings["training"]["optimiser"]["learning_rate"] == 1.5e-4


@pytest.mark.parametrize(
    ("given", "seeds"),
    [([1, 2, 5], (1, 2, 5)), ("[1]", (1,)), ("1", (1,)), (3, (3,)), ("1,2", (1, 2)), ((4,), (4,)), (None, (1, 2))],
)
def test_seeds_on_the_command_line(given, seeds):
    assert load(ROOT, {"scale": "local", "seeds": given}).seeds == seeds


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"scale": "tniy"},
            ["--config: scale: unknown scale 'tniy' (did you mean 'tiny'?)", "local, paper, smoke, tiny"],
        ),
        ({"scale": "../scales/tiny"}, ["--config: scale: unknown scale"]),
        ({"scale": 3}, ["--config: scale: found the number 3", "text"]),
        ({"seeds": "[]"}, ["--config: seeds: found an empty list"]),
        ({"seeds": [1, 1]}, ["--config: seeds: found 1 more than once"]),
        ({"seeds": "0"}, ["--config: seeds[0]: found the number 0", "at least 1"]),
        ({"seeds": "one"}, ["--config: seeds[0]: found the text 'one'", "an integer"]),
        ({"seeds": "[1"}, ["--config: seeds: found the text '[1'"]),
        ({"artefacts": "fig1,fgi2"}, ["--config: artefacts: unknown artefact 'fgi2'", "'fig2'"]),
        ({"steps": 5}, ["--config: steps: cannot be set on the command line", "config/scales/"]),
    ],
)
def test_mistakes_on_the_command_line(overrides, said):
    text = message(ROOT, overrides)
    for fragment in said:
        assert fragment in text


def test_artefacts_on_the_command_line():
    assert load(ROOT, {"artefacts": "fig1"}).artefacts == ("fig1",)
    assert load(ROOT, {"artefacts": "[fig1, table2]"}).artefacts == ("fig1", "table2")


def test_a_config_passed_on_whole_blames_the_file_for_what_the_file_says(project):
    change(project, CONFIG, "scale", "locl")
    assert message(project, {"scale": "locl", "seeds": None}).startswith("config/config.yaml: scale")


# The real configuration


def test_runs_of_the_local_scale(local):
    runs = local.runs()
    assert len(runs) == len(set(runs)) == (23 + 6 + 12) * 2
    assert Counter(run.backbone for run in runs) == {"qwen3-160k": 58, "qwen3-80k": 24}
    assert len(local.grid()) == 9
    assert local.grid()[0.5, 0.5] == "grpo"
    assert local.grid()[0.75, 0.75] == "symmetric"
    assert local.grid()[0.9, 0.4] == "asymgrpo"
    assert sum(method.grid_cell for method in local.methods.values()) == 6


def test_without_a_grid_of_its_own_a_scale_has_that_of_the_methods(project):
    change(project, LOCAL, "grid", ABSENT)
    study = load(project)
    assert len(study.grid()) == 16
    assert len(study.runs()) == (23 + 13 + 12) * 2
    assert study.grid()[0.9, 0.4] == "asymgrpo"


def test_runs_of_an_artefact(local):
    assert local.runs("fig1") == local.runs("prop2") == local.runs("fig1", "prop2") == []
    assert local.runs("table1") == [Run(b, "grpo", s) for b in local.backbones for s in (1, 2)]
    assert set(local.runs("fig2", "fig3")) == {*local.runs("fig2"), *local.runs("fig3")}
    assert {run.method for run in local.runs("fig4")} >= set(local.grid().values())
    assert local.runs() == load(ROOT, {"scale": "local"}).runs()
    with pytest.raises(ConfigError, match=r"unknown artefact 'fig0'.*did you mean 'fig"):
        local.runs("fig0")


def test_only_the_selected_artefacts_are_run():
    assert load(ROOT, {"scale": "local", "artefacts": ["fig1"]}).runs() == []
    study = load(ROOT, {"scale": "local", "artefacts": ["table1"]})
    assert {run.method for run in study.runs()} == {"grpo"}


def test_methods_of_a_further_backbone(project):
    entry = yaml.safe_load((project / LOCAL).read_text())["backbones"]["qwen3-80k"]
    change(project, LOCAL, "backbones third", entry)
    study = load(project)
    assert study.methods_of("table2", "third") == ["grpo", "asymgrpo"]
    assert study.methods_of("fig2", "third") == []
    assert study.methods_of("table2", study.primary) == [m for m, v in study.methods.items() if not v.grid_cell]
    with pytest.raises(ConfigError, match="unknown backbone 'fourth'"):
        study.methods_of("fig2", "fourth")


def test_a_spec_has_the_agreed_shape(local):
    spec = local.spec(Run("qwen3-160k", "asymgrpo-clip-higher", 2))
    assert spec == {
        "scale": "local",
        "backbone": "qwen3-160k",
        "method": "asymgrpo-clip-higher",
        "seed": 2,
        "backend": "torch",
        "estimator": {
            "name": "family",
            "beta_pos": 0.9,
            "beta_neg": 0.4,
            "flip": None,
            "all_solved_zero": False,
            "none_solved_zero": False,
        },
        "loss": {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0, "entropy_coefficient": 0.0},
        "optimiser": local.settings["training"]["optimiser"],
        "rollout": local.settings["training"]["rollout"] | {"prompts_per_minibatch": 32},
        "steps": local.settings["training"]["steps"],
        "evaluation": {
            "every": 10,
            "benchmarks": list(local.benchmarks),
            "select_on": "countdown-4",
        },
        "checkpoint_every": local.settings["training"]["checkpoint_every"],
        "device": "cpu",
        "threads": 1,
        "warm_start_seed": 2,
        "start": {},
        "verl": {},
    }


def test_specs_of_the_other_kinds_of_method(local):
    def spec(method):
        return local.spec(Run("qwen3-80k", method, 1))

    assert spec("dr-grpo")["estimator"] == {"name": "mean_centred"}
    assert spec("reinforce-entropy")["loss"]["entropy_coefficient"] == 0.03
    assert spec("reinforce")["loss"] == {
        **{"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0, "entropy_coefficient": 0.0}
    }
    assert spec("ent-decrease")["estimator"]["flip"] == "positive"
    assert spec("ent-increase")["estimator"]["flip"] == "negative"
    ends = {"start": {"beta_pos": 0.5, "beta_neg": 0.5}, "end": {"beta_pos": 0.9, "beta_neg": 0.4}}
    constant = {"name": "family", "flip": None, "all_solved_zero": False, "none_solved_zero": False}
    assert spec("schedule-cosine")["estimator"] == constant | {"schedule": {"name": "cosine", **ends}}
    assert spec("reinforce-all-solved-zero")["estimator"]["all_solved_zero"] is True
    assert spec("grid-0.5-0.4")["estimator"] | {"beta_pos": 0.9, "beta_neg": 0.4} == spec("asymgrpo")["estimator"]
    with pytest.raises(ConfigError, match="unknown method 'reinforced'"):
        spec("reinforced")
    with pytest.raises(ConfigError, match="seed 0"):
        local.spec(Run("qwen3-80k", "grpo", 0))


def test_every_setting_of_a_spec_has_its_provenance(local, paper, smoke, tiny):
    def leaves(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    for study in (local, paper, smoke, tiny):
        for run in study.runs():
            spec, provenance = study.spec(run), study.provenance(run)
            flat = dict(leaves(spec))
            assert {key: entry["value"] for key, entry in provenance.items()} == {
                key: value for key, value in flat.items() if key not in ("scale", "backbone", "method")
            }
            assert all(entry["note"] for entry in provenance.values() if entry["provenance"] == "ours")
            assert json.loads(json.dumps(spec)) == spec


def test_a_spec_knows_nothing_of_labels_notes_and_other_methods(project):
    run = Run("qwen3-160k", "grpo", 1)
    before = load(project).spec(run)
    change(project, METHODS, "methods grpo label", "another")
    change(project, METHODS, "methods grpo estimator beta_pos note", "another")
    change(project, METHODS, "methods asymgrpo estimator beta_pos value", 0.8)
    change(project, LOCAL, "training entropy_coefficient value", 0.1)
    change(project, LOCAL, "seeds value", [1, 2, 3])
    assert load(project).spec(run) == before
    change(project, METHODS, "methods grpo estimator beta_pos value", 0.6)
    assert load(project).spec(run) != before


def test_a_backbones_own_training_goes_before_the_scales_and_a_methods_loss_before_both(project):
    def of(backbone, method, study):
        run = Run(backbone, method, 1)
        return study.spec(run), study.provenance(run)

    own = {
        "steps": {"value": 7, "provenance": "stated"},
        "optimiser": {"learning_rate": {"value": 1e-6, "provenance": "v1", "note": "why"}},
        "loss": {
            "clip_high": {"value": 0.25, "provenance": "v1"},
        },
        "entropy_coefficient": {"value": 0.002, "provenance": "v1"},
        "rollout": {"prompts_per_step": {"value": 512, **OURS}, "prompts_per_minibatch": {"value": 128, **OURS}},
        "checkpoint_every": {"value": 3, **OURS},
    }
    before = load(project)
    change(project, LOCAL, "backbones qwen3-80k training", own)
    after = load(project)
    assert of("qwen3-160k", "grpo", after) == of("qwen3-160k", "grpo", before)
    spec, provenance = of("qwen3-80k", "grpo", after)
    old, _ = of("qwen3-80k", "grpo", before)
    assert spec == old | {
        "steps": 7,
        "optimiser": old["optimiser"] | {"learning_rate": 1e-6},
        "loss": old["loss"] | {"clip_high": 0.25},
        "rollout": old["rollout"] | {"prompts_per_step": 512, "prompts_per_minibatch": 128},
        "checkpoint_every": 3,
    }
    assert provenance["optimiser.learning_rate"] == {"value": 1e-6, "provenance": "v1", "note": "why"}
    assert provenance["optimiser.beta1"]["provenance"] == "assumed"
    assert of("qwen3-80k", "grpo-clip-higher", after)[0]["loss"]["clip_high"] == 0.28
    assert of("qwen3-80k", "grpo-entropy", after)[0]["loss"]["entropy_coefficient"] == 0.002
    assert after.backbones["qwen3-80k"].policy == before.backbones["qwen3-80k"].policy


def test_a_grid_cell_is_compared_as_the_primary_backbone_trains(project):
    change(project, METHODS, "methods symmetric loss", {"clip_low": {"value": 0.1, **OURS}})
    change(project, LOCAL, "backbones qwen3-160k training loss", {"clip_low": {"value": 0.1, **OURS}})
    assert load(project).grid()[0.75, 0.75] == "symmetric"


# The scales of verl


def test_runs_of_the_paper_scale(paper):
    """23 methods and 13 cells of the grid; the second backbone's of Figs. 2, 3 and Table 2; two of the third."""
    assert Counter(run.backbone for run in paper.runs()) == {
        "qwen3-4b": 23 + 13,
        "qwen2.5-math-1.5b": 8 + 3 + 1,
        "qwen2.5-7b-base": 2,
    }
    assert paper.seeds == (1,)
    assert len(load(ROOT, {"scale": "paper", "seeds": [1, 2, 3]}).runs()) == 3 * len(paper.runs())
    assert (paper.backend, paper.gpus) == ("verl", 4)


def test_the_papers_settings(paper):
    """Section 3 of the paper's table of settings, backbone by backbone."""
    expected = {
        "qwen3-4b": (128, 64, 1024, 4096),
        "qwen2.5-math-1.5b": (512, 128, 512, 2560),
        "qwen2.5-7b-base": (512, 128, 512, 2560),
    }
    keys = ("prompts_per_step", "prompts_per_minibatch", "max_prompt_tokens", "max_response_tokens")
    for backbone, values in expected.items():
        spec = paper.spec(Run(backbone, "grpo", 1))
        assert tuple(spec["rollout"][key] for key in keys) == values
        assert spec["rollout"] | dict.fromkeys(keys) == {
            **dict.fromkeys(keys),
            **{"group_size": 8, "epochs": 1, "temperature": 1.0},
        }
        assert spec["optimiser"] == {
            **{"learning_rate": 2e-6, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01, "max_gradient_norm": 1.0}
        }
        assert spec["loss"] == {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0, "entropy_coefficient": 0.0}
        assert (spec["steps"], spec["evaluation"]["every"], spec["evaluation"]["select_on"]) == (200, 10, "math-500")
        assert spec["evaluation"]["benchmarks"] == ["math-500", "aime24", "aime25", "amc23", "olympiadbench"]
    bonus = Run("qwen2.5-math-1.5b", "reinforce-entropy", 1)
    assert paper.spec(bonus)["loss"]["entropy_coefficient"] == 0.003
    assert paper.settings["data"]["train"] == {"dataset": "math-train"}
    assert paper.settings["evaluation"]["final"]["t0.4"]["samples"] == {
        **{"math-500": 5, "aime24": 10, "aime25": 10, "amc23": 10, "olympiadbench": 5}
    }


def test_what_the_paper_states_and_what_is_assumed(paper):
    words = {
        backbone: {key: entry["provenance"] for key, entry in paper.provenance(Run(backbone, "grpo", 1)).items()}
        for backbone in paper.backbones
    }
    for backbone, batches in (("qwen3-4b", "stated"), ("qwen2.5-math-1.5b", "stated"), ("qwen2.5-7b-base", "assumed")):
        found = words[backbone]
        for key in ("prompts_per_step", "prompts_per_minibatch", "max_response_tokens"):
            assert found[f"rollout.{key}"] == batches
        assert found["rollout.max_prompt_tokens"] == "inferred"
        assert found["rollout.group_size"] == found["optimiser.learning_rate"] == "v1"
        assert found["steps"] == found["seed"] == found["loss.clip_low"] == "assumed"
        assert found["evaluation.every"] == "stated"


def test_a_fetched_backbone_is_one_start_policy(paper):
    run = Run("qwen3-4b", "grpo", 3)
    spec = paper.spec(run)
    backbone = paper.backbones["qwen3-4b"]
    assert backbone.fetched
    assert backbone.policy == {}
    assert backbone.model == spec["start"] | {"licence": "Apache-2.0"}
    assert spec["start"]["repository"] == "Qwen/Qwen3-4B"
    assert spec["start"]["template"] == {"enable_thinking": False}
    assert paper.spec(Run("qwen2.5-7b-base", "grpo", 1))["start"]["template"] == {}
    assert spec["warm_start_seed"] == paper.start_seed("qwen3-4b", 3) == 1
    assert paper.warm_starts() == []
    assert load(ROOT, {"scale": "paper", "seeds": [1, 2]}).starts() == [(name, 1) for name in paper.backbones]
    assert paper.start_policy("qwen3-4b", 1) == ROOT / "results/paper/models/qwen3-4b"
    with pytest.raises(ConfigError, match="warm start of qwen3-4b: does not exist"):
        paper.warm_start("qwen3-4b", 1)


def test_a_scale_may_mix_fetched_and_warm_started_backbones(project):
    local = yaml.safe_load((project / LOCAL).read_text())
    change(project, PAPER, "backbones small", {**local["backbones"]["qwen3-80k"], "training": {}})
    cost = yaml.safe_load((project / PAPER).read_text())["backbones"]["qwen3-4b"]["cost"]
    change(project, PAPER, "backbones small cost", cost)
    for key in ("warm_start", "warm_start_seeds"):
        change(project, PAPER, key, local[key])
    study = load(project, {"scale": "paper"})
    assert study.warm_starts() == [("small", 1)]
    assert len(study.starts()) == 4
    assert study.spec(Run("small", "grpo", 1))["start"] == {}
    assert study.start_policy("small", 1) == project / "results/paper/warm-start/small/seed-1/policy"


def test_verl_overrides_of_a_backbone_go_before_the_scales(paper, project):
    key = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
    specs = {backbone: paper.spec(Run(backbone, "grpo", 1))["verl"] for backbone in paper.backbones}
    assert {backbone: verl[key] for backbone, verl in specs.items()} == {
        "qwen3-4b": 12288,
        "qwen2.5-math-1.5b": 16384,
        "qwen2.5-7b-base": 12288,
    }
    assert all(verl["trainer.n_gpus_per_node"] == 4 for verl in specs.values())
    change(project, PAPER, f"verl {key}", {"value": 1, **OURS})
    change(project, PAPER, f"backbones qwen3-4b verl {key}", ABSENT)
    study = load(project, {"scale": "paper"})
    assert study.spec(Run("qwen3-4b", "grpo", 1))["verl"][key] == 1
    assert study.spec(Run("qwen2.5-7b-base", "grpo", 1))["verl"][key] == 12288
    assert study.provenance(Run("qwen3-4b", "grpo", 1))[f"verl.{key}"] == {"value": 1, **OURS}


def test_every_override_says_why(paper, smoke):
    for study in (paper, smoke):
        settings = [*study.scale_settings.items()]
        settings += [item for backbone in study.backbones.values() for item in backbone.settings.items()]
        notes = [setting.note for path, setting in settings if path[0] == "verl"]
        assert len(notes) > 20
        assert all(len(note) > 5 for note in notes)


def test_a_scale_may_run_few_methods(smoke):
    chosen = ["reinforce", "grpo", "pos-only-0.5", "asymgrpo"]  # in the order of methods.yaml
    assert list(smoke.methods) == chosen
    assert smoke.runs() == [
        Run("qwen3-160k", method, 1) for method in ("reinforce", "pos-only-0.5", "grpo", "asymgrpo")
    ]
    assert smoke.methods_of("fig3", "qwen3-160k") == ["grpo"]
    assert smoke.methods_of("table2", "qwen3-160k") == chosen
    assert smoke.grid() == {(0.0, 0.0): "reinforce", (0.5, 0.0): "pos-only-0.5", (0.5, 0.5): "grpo"}
    # none of those it runs, but asked for by name
    assert smoke.spec(Run("qwen3-160k", "neg-only-0.5", 1))["estimator"]["beta_neg"] == 0.5
    with pytest.raises(ConfigError, match=r"methods\.yaml: methods: unknown method 'neg-only'"):
        smoke.spec(Run("qwen3-160k", "neg-only", 1))


def test_cells_of_the_grid_stay_whatever_methods_a_scale_names(project):
    change(project, SMOKE, "grid beta_pos value", [0.4, 0.5])
    study = load(project, {"scale": "smoke"})
    assert set(study.grid().values()) == {"grid-0.4-0", "pos-only-0.5", "grid-0.4-0.5", "grpo"}
    assert {run.method for run in study.runs("fig4")} >= {"grid-0.4-0", "grid-0.4-0.5"}


def test_the_smoke_scale_starts_as_the_local_scale_does_only_sooner(smoke, local):
    ours, theirs = smoke.warm_start("qwen3-160k", 1), local.warm_start("qwen3-160k", 1)
    assert ours["steps"] < theirs["steps"]
    own = {"scale": "", "threads": 0, "steps": 0}
    assert ours | own == theirs | own
    assert smoke.gpus == local.gpus == 0


def test_costs_are_no_settings_of_runs(project):
    run = Run("qwen3-4b", "grpo", 1)
    before = load(project, {"scale": "paper"})
    change(project, PAPER, "cost model peak_flops value", 1.0)
    change(project, PAPER, "backbones qwen3-4b cost response_tokens value", 5)
    after = load(project, {"scale": "paper"})
    assert after.spec(run) == before.spec(run)
    assert after.assumed("table2") == before.assumed("table2")


def test_captions_tell_what_backbones_and_benchmarks_share_once(paper):
    assumed = paper.assumed("table2")
    prompts = [fragment for fragment in assumed if fragment.startswith("prompt of")]
    assert len(prompts) == 1
    assert "MATH-500, AIME 2024, AIME 2025, AMC 2023 and OlympiadBench" in prompts[0]
    assert all("\n" not in fragment for fragment in assumed)
    assert "seeds = 1 (assumed)" in assumed
    assert "prompts per step of Qwen2.5-7B-Base = 512 (assumed)" in assumed
    assert not [fragment for fragment in paper.assumed("fig4") if "7B" in fragment]


def test_nothing_that_is_handed_out_changes_the_study(local):
    run = Run("qwen3-160k", "grpo", 1)
    before = json.dumps(local.spec(run))
    local.spec(run)["evaluation"]["benchmarks"].clear()
    local.settings["training"]["rollout"].clear()
    local.grid().clear()
    assert json.dumps(local.spec(run)) == before
    with pytest.raises(AttributeError):
        local.scale = "other"
    with pytest.raises(TypeError):
        local.methods["x"] = None


def test_warm_starts(project):
    study = load(project)
    assert study.start_seed("qwen3-80k", 2) == 2
    assert study.starts() == study.warm_starts() == [(name, n) for name in ("qwen3-160k", "qwen3-80k") for n in (1, 2)]
    spec = study.warm_start("qwen3-80k", 1)
    assert set(spec) == {
        *("scale", "backbone", "seed", "policy", "optimiser", "steps", "batch_size", "shares", "large_share"),
        *("device", "threads"),
    }
    assert spec["policy"]["kv_heads"] == 1
    change(project, LOCAL, "warm_start_seeds value", 2)
    study = load(project, {"seeds": [1, 2, 3]})
    assert [study.start_seed("qwen3-80k", seed) for seed in study.seeds] == [1, 2, 1]
    assert len(study.warm_starts()) == 4


@pytest.mark.parametrize("scale", ["local", "tiny", "paper", "smoke"])
def test_what_trains_understands_every_spec(scale):
    from asymgrpo.training.spec import run_spec, warm_start_spec

    study = load(ROOT, {"scale": scale})
    for run in study.runs():
        spec = run_spec(study.spec(run))
        assert (spec.backbone, spec.method, spec.seed) == run
        assert spec.loss.dual_clip == 3.0
        assert spec.rollout.prompts_per_step % spec.rollout.prompts_per_minibatch == 0
    for start in study.warm_starts():
        shares = warm_start_spec(study.warm_start(*start)).shares
        assert shares == {int(n): share for n, share in study.settings["warm_start"]["shares"].items()}
        assert sum(shares.values()) == pytest.approx(1)


def test_minibatches_have_the_ratios_of_the_paper(local):
    def minibatches(backbone):
        rollout = local.spec(Run(backbone, "grpo", 1))["rollout"]
        return rollout["prompts_per_step"] // rollout["prompts_per_minibatch"]

    assert {local.backbones[b].stands_for: minibatches(b) for b in local.backbones} == {
        "Qwen3-4B": 128 // 64,
        "Qwen2.5-Math-1.5B": 512 // 128,
    }


@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_there_are_as_many_problems_as_the_scale_asks_for(scale):
    from asymgrpo.tasks import countdown

    study = load(ROOT, {"scale": scale})
    train = study.settings["data"]["train"]
    problems = countdown.training_problems(train["problems"], train["share_of_3"], train["seed"])
    assert len(set(problems)) == train["problems"]
    for benchmark in study.benchmarks.values():
        settings = benchmark.settings
        assert settings.pop("task") == "countdown"
        made = countdown.benchmark_problems(count=settings.pop("problems"), **settings)
        assert len(set(made)) == benchmark.settings["problems"]
        assert not set(made) & set(problems)


def test_a_cell_is_a_named_method_only_if_it_trains_as_that_method_does(project):
    change(project, METHODS, "methods symmetric loss", {"clip_low": {"value": 0.1, **OURS}})
    assert load(project).grid()[0.75, 0.75] == "grid-0.75-0.75"


def test_a_method_whose_clip_is_the_scales_own_is_the_same_method(project):
    change(project, METHODS, "methods symmetric loss", {"clip_low": {"value": 0.2, **OURS}})
    assert load(project).grid()[0.75, 0.75] == "symmetric"


def test_an_integer_exponent_is_the_same_exponent(project):
    change(project, METHODS, "methods symmetric estimator beta_pos value", 1)
    change(project, LOCAL, "grid", ABSENT)
    change(project, METHODS, "grid beta_pos value", [1.0])
    change(project, METHODS, "grid beta_neg value", [0.75, 1])
    study = load(project)
    assert study.grid() == {(1.0, 0.75): "symmetric", (1.0, 1.0): "grid-1-1"}
    assert isinstance(study.methods["symmetric"].beta_pos, float)


def test_a_scale_may_have_its_own_grid_and_fewer_problems(tiny, local):
    assert tiny.grid() == {
        (0.5, 0.4): "grid-0.5-0.4",
        (0.5, 0.5): "grpo",
        (0.9, 0.4): "asymgrpo",
        (0.9, 0.5): "grid-0.9-0.5",
    }
    assert {benchmark.settings["problems"] for benchmark in tiny.benchmarks.values()} == {20}
    assert [benchmark.settings["problems"] for benchmark in local.benchmarks.values()] == [150, 200, 200, 200, 200]


def test_benchmarks_carry_every_setting_of_their_generator(local):
    assert local.benchmarks["countdown-4-big"].settings == {
        "task": "countdown",
        "numbers": 4,
        "problems": 200,
        "seed": 0,
        "needs_multiplication": False,
        "max_solutions": None,
        "one_number_from": [10, 20],
    }


def test_a_new_scale_is_a_file(project):
    shutil.copy(project / "config/scales/tiny.yaml", project / "config/scales/mine.yaml")
    study = load(project, {"scale": "mine"})
    assert study.runs_dir(Run("qwen3-160k", "grpo", 1)) == project / "results/mine/runs/qwen3-160k/grpo/seed-1"
    assert study.spec(Run("qwen3-160k", "grpo", 1))["scale"] == "mine"


def test_evaluating_more_rarely_than_the_run_is_long_is_allowed(project):
    change(project, LOCAL, "evaluation every value", 1000)
    assert load(project).settings["evaluation"]["every"] == 1000


def test_paths_are_relative_to_the_root_that_was_given(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load(overrides={"scale": "local"})
    run = Run("qwen3-160k", "grpo", 1)
    assert study.policy_dir(run, "best").as_posix() == "results/local/runs/qwen3-160k/grpo/seed-1/policy/best"
    assert study.work_dir(run).as_posix() == "results/local/work/qwen3-160k/grpo/seed-1"
    assert study.evaluation_dir(run).as_posix() == "results/local/evaluation/qwen3-160k/grpo/seed-1"
    assert study.base_evaluation_dir("qwen3-80k", 1).as_posix() == "results/local/evaluation/qwen3-80k/base/seed-1"
    assert study.warm_start_dir("qwen3-80k", 1).as_posix() == "results/local/warm-start/qwen3-80k/seed-1"
    assert study.start_policy("qwen3-80k", 1).as_posix() == "results/local/warm-start/qwen3-80k/seed-1/policy"
    assert study.benchmark_file("countdown-3").as_posix() == "results/local/data/benchmarks/countdown-3.parquet"
    assert study.train_file().as_posix() == "results/local/data/train.parquet"
    assert study.figure_stem("fig1").as_posix() == "figures/local/fig1"
    assert study.table_stem("table2").as_posix() == "results/local/tables/table2"


# What captions admit


def test_captions_admit_what_is_assumed(local):
    table2, fig4 = local.assumed("table2"), local.assumed("fig4")
    assert "beta+ and beta- of AsymGRPO (symmetric) = 0.75 (assumed)" in table2
    assert "upper clip of GRPO + Clip-higher and AsymGRPO + Clip-higher = 0.28 (assumed)" in table2
    assert "grid of beta+ in {0.5, 0.75, 0.9} and beta- in {0.4, 0.5, 0.75} (assumed)" in fig4
    assert "EMA factor = 0.9 (assumed)" in fig4
    assert "dual clip = 3 (assumed)" in table2
    assert "choice of methods: GRPO (assumed)" in local.assumed("table1")
    assert local.assumed("prop2") == []
    assert len(local.assumed("fig1")) == 1
    assert "entropy coefficient = 0.03 (assumed)" in local.assumed("fig2")
    assert not any("entropy" in fragment for fragment in local.assumed("fig3"))


def test_captions_follow_the_configuration(project):
    change(project, METHODS, "methods symmetric estimator beta_pos", {"value": 0.7, "provenance": "stated"})
    change(project, METHODS, "methods symmetric estimator beta_neg", {"value": 0.7, "provenance": "stated"})
    change(project, LOCAL, "evaluation final t1 samples", {"value": 8, "provenance": "assumed"})
    change(project, LOCAL, "evaluation final t0.4 samples", {"value": 5, "provenance": "assumed"})
    fragments = load(project).assumed("table2")
    assert not any("symmetric" in fragment for fragment in fragments)
    assert "samples of t0.4 = 5 (assumed)" in fragments
    assert not any("t1" in fragment for fragment in fragments)


def test_captions_tell_a_backbones_own_settings(project):
    own = {"clip_low": {"value": 0.1, "provenance": "assumed"}}
    change(project, LOCAL, "backbones qwen3-80k training loss", own)
    fragments = load(project).assumed("table2")
    assert "lower clip = 0.2 (assumed)" in fragments
    assert "lower clip of Qwen3-80k = 0.1 (assumed)" in fragments
    assert not any("lower clip of" in fragment for fragment in load(project).assumed("fig4"))
    change(project, LOCAL, "backbones qwen3-160k training loss", own)
    assert "lower clip = 0.2 (assumed)" not in load(project).assumed("table2")
    change(
        project,
        LOCAL,
        "backbones qwen3-160k training entropy_coefficient",
        {"value": 0.04, "provenance": "assumed"},
    )
    assert "entropy coefficient of Qwen3-160k = 0.04 (assumed)" in load(project).assumed("table2")
    assert not any("entropy" in fragment for fragment in load(project).assumed("fig3"))


# The files themselves


def test_every_paper_row_is_reported(local):
    with (ROOT / "config/reported/table2.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"backbone", "method", "benchmark", "accuracy", "version", "place"}
    reported = {row["method"] for row in rows}
    named = {method.paper_row for method in local.methods.values() if method.paper_row}
    assert named | {"base"} == reported
    assert {backbone.stands_for for backbone in local.backbones.values()} <= {row["backbone"] for row in rows}
    # 17 rows of five benchmarks and their unweighted mean, which is the paper's Average
    tables = {}
    for row in rows:
        tables.setdefault((row["backbone"], row["method"]), {})[row["benchmark"]] = float(row["accuracy"])
    assert len(tables) == 17
    for cells in tables.values():
        average = cells.pop("Avg")
        assert len(cells) == 5
        assert abs(sum(cells.values()) / 5 - average) < 0.0101


@pytest.mark.parametrize("file", sorted((ROOT / "workflow/schemas").glob("*.yaml")), ids=lambda file: file.stem)
def test_schemas_are_schemas_and_strict(file):
    schema = yaml.safe_load(file.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)

    def walk(node, within):
        if isinstance(node, list):
            for item in node:
                walk(item, within)
        if not isinstance(node, dict):
            return
        if node.get("type") == "object":
            assert "additionalProperties" in node, within
            assert node["additionalProperties"] is not True
        for key, child in node.items():
            walk(child, f"{within}.{key}")

    walk(schema, file.stem)


def test_every_selected_artefact_is_one(local):
    assert set(local.every_artefact) == set(ARTEFACTS) == set(local.artefacts)


def test_loading_imports_nothing_heavy():
    code = (
        "import sys, asymgrpo.config as c; c.load(sys.argv[1]); print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
