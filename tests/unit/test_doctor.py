"""What is checked before a training is started; one step is trained for real."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from packaging.utils import canonicalize_name
from safetensors.numpy import save
from test_figures import study_at
from test_slurm import program

from asymgrpo import doctor
from asymgrpo.cli import main
from asymgrpo.config import Setting, load
from asymgrpo.doctor import Check, cluster, machine, trial
from asymgrpo.doctor.profile import Profile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path):
    return study_at(tmp_path)


@pytest.fixture
def profile(tmp_path):
    """profile(text) -> the profile of a file with that text."""

    def make(text):
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "config.v9+.yaml").write_text(text)
        return Profile.find(str(tmp_path / "site"))

    return make


def test_every_line_says_whether_it_is_ok_and_how_to_mend_it(capsys):
    assert doctor.report([Check("disk", "full", "make room"), Check("GPU", "one")]) is True
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["not", "ok", "disk", "full"]
    assert lines[1].split() == ["->", "make", "room"]
    assert lines[2].split() == ["ok", "GPU", "one"]
    assert lines[3] == "1 not ok"
    assert doctor.report([Check("GPU", "one")]) is False
    assert capsys.readouterr().out.splitlines()[-1] == "all ok"


# -- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_compared_with_the_lock(study):
    from importlib.metadata import distributions

    here = {canonicalize_name(d.metadata["Name"]): d.version.partition("+")[0] for d in distributions()}
    (study.root / "envs").mkdir()
    lock = study.root / "envs" / "local.txt"
    lock.write_text(f"# a comment\nnumpy=={here['numpy']}\ntorch=={here['torch']}\n")
    python, environment = machine.environment(study)
    assert (python.mend, environment.mend) == ("", "")
    assert environment.found == "2 of 2 packages as in envs/local.txt"
    lock.write_text(f"numpy==1.0\ntorch=={here['torch']}\nno-such-package==2.0\n")
    _, environment = machine.environment(study)
    assert environment.found.startswith("1 of 3 packages")
    assert f"numpy {here['numpy']} (1.0), no-such-package is missing (2.0)" in environment.found
    assert "envs/local.txt" in environment.mend
    lock.unlink()
    with pytest.raises(ValueError, match=r"envs/local\.txt: cannot be read"):
        list(machine.environment(study))


def test_flash_attention_is_asked_for_where_it_is_used():
    paper = load(ROOT, {"scale": "paper"})
    names = [check.name for check in machine.environment(paper)]
    assert names == ["Python", "environment", "flash-attn"]
    off = {("verl", "actor_rollout_ref.model.use_remove_padding"): Setting(False, "ours", "x")}
    without = dataclasses.replace(paper, scale_settings=MappingProxyType({**paper.scale_settings, **off}))
    assert [check.name for check in machine.environment(without)] == names[:2]
    assert [check.name for check in machine.environment(load(ROOT, {"scale": "smoke"}))] == names[:2]


# -- data and models --------------------------------------------------------------------------------------------------


def test_generated_data_need_nothing(study):
    (check,) = machine.inputs(study)
    assert check.mend == ""


def test_fetched_data_and_models(tmp_path):
    study = study_at(tmp_path, "paper")
    data, *models = machine.inputs(study)
    assert data.found.startswith("0 of 6 sets of problems are in place; ")
    assert data.mend.startswith("where there is internet: asymgrpo fetch --scale paper math-train math-500")
    assert [check.mend.split()[-1] for check in models] == list(study.backbones)
    for name, problems in study.fetched_problems().items():
        for file in problems.settings["content"]["files"]:
            (study.raw_dir(name) / file).parent.mkdir(parents=True, exist_ok=True)
            (study.raw_dir(name) / file).touch()
        study.raw_dir(name).with_name(f"{name}.yaml").touch()
    place = study.model_dir("qwen3-4b")
    place.mkdir(parents=True)
    for file in ("config.json", "tokenizer_config.json"):
        (place / file).write_text("{}")
    weights = save({"a": np.ones(4)})

    def model():
        return list(machine.inputs(study))[1]

    assert next(machine.inputs(study)) == Check("data", "6 of 6 sets of problems are in place")
    assert "lacks model.safetensors" in model().found
    (place / "model.safetensors").write_bytes(weights[:-1])
    assert "is cut off" in model().found
    (place / "model.safetensors").write_bytes(weights)
    assert "not its record" in model().found
    place.with_name("qwen3-4b.yaml").touch()
    assert model().mend == ""
    (place / "modeling.py").touch()
    assert "could run code: modeling.py" in model().found


# -- hardware ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch):
    """command(name, lines of sh) -> there is such a command; no GPU and no Slurm need be where tests run."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return lambda name, *lines: program(tmp_path / "bin", name, *lines)


@pytest.fixture
def nvidia(command):
    """nvidia(lines) -> what nvidia-smi says."""
    return lambda *lines: command("nvidia-smi", *(f"echo '{line}'" for line in lines))


def test_gpus_and_their_memory(tmp_path, nvidia):
    study = study_at(tmp_path, "paper")
    assert machine.least_memory(study) == pytest.approx(12 * 7.62e9 / 4 / 0.4)  # the largest model

    def gpu():
        return next(check for check in machine.hardware(study) if check.name == "GPU")

    nvidia(*["NVIDIA H100 80GB HBM3, 81559"] * 4)
    assert (gpu().mend, gpu().found) == ("", "4 (NVIDIA H100 80GB HBM3, 86 GB); a run takes 4 with at least 57 GB")
    nvidia(*["NVIDIA H100 80GB HBM3, 81559"] * 3)
    assert gpu().mend
    nvidia(*["NVIDIA A100-SXM4-40GB, 40960"] * 8)
    assert gpu().mend
    nvidia()
    assert gpu().found.startswith("none; a run takes 4")


def test_a_scale_for_cpus_needs_no_gpu(study):
    cores, gpu = machine.hardware(study)
    assert (cores.mend, gpu) == ("", Check("GPU", "none is needed"))
    many = {("threads",): Setting(100_000, "ours", "x")}
    wide = dataclasses.replace(study, scale_settings=MappingProxyType({**study.scale_settings, **many}))
    assert "threads" in next(machine.hardware(wide)).mend


def test_disk_against_what_is_still_to_be_written(tmp_path):
    (few,) = machine.disk(study_at(tmp_path), 1)
    assert few.mend == ""
    cost = {("measured", "run_bytes"): Setting(1e18, "ours", "x")}
    study = study_at(tmp_path)
    (much,) = machine.disk(dataclasses.replace(study, cost=MappingProxyType({**study.cost, **cost})), 1)
    assert "make room" in much.mend
    paper = study_at(tmp_path, "paper")
    found = [next(machine.disk(paper, at_once)).found for at_once in (1, 200)]
    assert "all at once" in found[1]
    assert found[0] != found[1]


# -- profiles ---------------------------------------------------------------------------------------------------------

SITE = """
executor: slurm
jobs: 12
configfile: ours.yaml
config:
  - artefacts=['fig1']
default-resources:
  slurm_partition: cpu
  gpu_partition: accelerated
  gpu_type: h100
  mem_mb_per_cpu: 4000
  runtime: 90
set-resources:
  train:
    runtime: 1d
    constraint: fast
set-threads:
  train: 24
"""


def test_a_profile_says_what_jobs_ask_for(profile):
    site = profile(SITE)
    (site.files[0].parent / "ours.yaml").write_text("scale: smoke\n")
    assert (site.executor, site.jobs) == ("slurm", 12)
    assert site.config == {"scale": "smoke", "artefacts": ["fig1"]}
    train, sample, score = site.request("train", 4, 32), site.request("sample", 1, 8), site.request("score", 0, 8)
    assert train.threads == 24
    assert train.resources == {
        "slurm_partition": "accelerated", "gpu": 4, "gpu_model": "h100", "nodes": 1, "mem_mb_per_cpu": 4000,
        "runtime": 1440, "constraint": "fast",
    }  # fmt: skip
    assert (sample.threads, sample.resources["runtime"], sample.resources["gpu"]) == (8, 90, 1)
    assert score.resources == {"slurm_partition": "cpu", "mem_mb_per_cpu": 4000, "runtime": 90}


def test_lists_as_on_a_command_line(profile):
    site = profile(
        "default-resources: [slurm_partition=a, runtime=10]\nset-resources: ['train:runtime=20', 'sample:runtime=30']\n"
    )
    assert site.request("train", 0, 1).resources == {"slurm_partition": "a", "runtime": 20}
    assert (site.executor, site.jobs, site.config) == ("local", 1, {})


def test_profiles_that_are_none(profile, tmp_path):
    with pytest.raises(ValueError, match="nowhere: is not there"):
        Profile.find(str(tmp_path / "nowhere"))
    for text, message in (
        ("a: [", "is not valid YAML"),
        ("- a\n", "expected a mapping"),
        ("configfile: no.yaml\n", "no"),
    ):
        with pytest.raises(ValueError, match=message):
            assert profile(text).config


def test_the_projects_own_profile_asks_for_what_the_scale_says():
    site = Profile.find(str(ROOT / "profiles" / "slurm"))
    study = load(ROOT, site.config)
    assert (study.scale, site.executor) == ("paper", "slurm")
    asked = {request.rule: request for request in cluster.requests(study, site)}
    told = {rule: (r.resources.get("gpu"), r.threads, r.resources["slurm_partition"]) for rule, r in asked.items()}
    sampling = (1, 8, "gpu")
    assert told == {"train": (4, 32, "gpu"), "sample": sampling, "sample_base": sampling, "score": (None, 32, "cpu")}
    small = [request.rule for request in cluster.requests(load(ROOT, {"scale": "tiny"}), site)]
    assert small == ["train", "sample", "sample_base", "warm_start"]  # its scores are made on this host


def test_an_engine_on_several_gpus_asks_for_them():
    site, study = Profile.find(str(ROOT / "profiles" / "slurm")), load(ROOT, {"scale": "paper"})
    own = {("sampler_settings", "tensor_parallel_size"): Setting(2, "ours", "")}
    study = dataclasses.replace(study, scale_settings=dict(study.scale_settings) | own)
    asked = [request.resources for request in cluster.requests(study, site) if request.rule != "score"]
    assert [(resources["gpu"], resources["nodes"]) for resources in asked] == [(4, 1), (2, 1), (2, 1)]


def test_a_file_of_a_site_lies_over_the_profile(tmp_path):
    own = tmp_path / "mysite.yaml"
    own.write_text("default-resources: {slurm_partition: main, gpu_partition: 'preempt,idle', runtime: 30}\n")
    site = Profile.find(str(ROOT / "profiles" / "slurm"), str(own))
    assert (site.executor, site.config) == ("slurm", {"scale": "paper"})
    train, sample, *_ = cluster.requests(load(ROOT, site.config), site)
    assert (train.resources["slurm_partition"], train.resources["runtime"]) == ("preempt,idle", 1440)
    assert "gpu_model" not in train.resources
    known = cluster._partitions("preempt|up|gpu:2|REQUEUE\nidle|down|gpu:a100-80:4|GANG,SUSPEND\n")
    assert [check.mend for check in cluster._partition_checks([train, sample], known, site)] == [""]
    assert cluster._gpu_check([train, sample], known, site).mend == ""
    (missing,) = cluster._partition_checks([train, sample], {"idle": known["idle"]}, site)
    assert missing.found == "preempt (of train, sample): there is none"
    assert str(own) in missing.mend
    known["preempt"] = [cluster.Nodes("up", "gpu:2", "GANG,CANCEL")]
    (cancelled,) = cluster._partition_checks([train, sample], known, site)
    assert cancelled.found.startswith("preempt,idle (of train, sample) has PreemptMode=CANCEL")
    assert "Ctrl-C" in cancelled.mend


def test_without_slurm_it_says_so(profile, tmp_path, monkeypatch):
    site = profile(SITE)
    monkeypatch.setenv("PATH", str(tmp_path))
    *_, last = cluster.checks(load(ROOT, {"scale": "tiny"}), site)
    assert "sbatch, sinfo, scancel, sacct not found" in last.found
    assert last.mend


@pytest.mark.parametrize(("seconds", "enough"), [(120, False), (239, False), (240, True), (300, True)])
def test_slurm_must_remember_a_job_from_one_look_to_the_next(command, seconds, enough):
    command("scontrol", f"echo 'MinJobAge               = {seconds} sec'")
    check = cluster._status("squeue")
    assert str(seconds) in check.found
    assert (check.mend == "") is enough


def test_slurm_is_asked_with_what_the_profile_says_for_all_jobs(profile, command):
    for name in ("scancel", "squeue", "scontrol"):
        command(name, ":")
    partitions = "echo 'cpu|up|(null)|OFF'; echo 'accelerated|up|gpu:h100:4|OFF'"
    command("sinfo", f'case "$*" in *%R*) {partitions};; *) echo "1-00:00:00 64";; esac')
    command("sbatch", 'case "$*" in *--requeue*--qos=low*) ;; *) echo "asked with $*" >&2; exit 1;; esac')
    options = "slurm-status-command: squeue\nslurm-requeue: true\n"
    found = cluster.checks(load(ROOT, {"scale": "paper"}), profile(f"{SITE}{options}slurm-qos: low\n"))
    jobs = [check for check in found if check.name.startswith("job ") and check.name != "job states"]
    assert [check.name for check in jobs] == ["job train", "job sample", "job sample_base", "job score"]
    assert [check.mend for check in jobs] == [""] * 4, jobs
    *_, refused = cluster.checks(load(ROOT, {"scale": "paper"}), profile(f"{SITE}{options}"))
    assert refused.mend


def test_options_that_the_executor_plugin_does_not_take(profile):
    site = profile("slurm-requeue: true\nslurm-no-requeue: true\n")
    with pytest.raises(ValueError, match=r"config\.v9\+\.yaml: .*requeue.* mutually exclusive"):
        site.executor_settings()


def test_a_run_time_that_is_none(profile):
    with pytest.raises(ValueError, match=r"config\.v9\+\.yaml: runtime of train: expected minutes.*, found 'soon'"):
        profile("set-resources: {train: {runtime: soon}}\n").request("train", 4, 32)


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("gpu:h100:4", [("h100", 4)]),
        ("gpu:h100:4(S:0-1),gpu:a100:2", [("h100", 4), ("a100", 2)]),
        ("gpu:8", [("", 8)]),
        ("gpu:a100-sxm4-80gb:8(S:0)", [("a100-sxm4-80gb", 8)]),
        ("shard:4,gpu:nvidia_a100_1g.5gb:7", [("nvidia_a100_1g.5gb", 7)]),
        ("(null)", []),
    ],
)
def test_what_sinfo_says_of_gpus(gres, found):
    assert cluster._gpus(gres) == found


# -- one step ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(tmp_path):
    """The tiny scale with one backbone."""
    study = study_at(tmp_path)
    return dataclasses.replace(study, backbones=MappingProxyType({study.primary: study.backbones[study.primary]}))


def test_a_step_is_trained_for_real_and_leaves_nothing(one):
    (check,) = trial.checks(one, None)
    assert check.mend == ""
    assert check.found.startswith("qwen3-160k: trained and evaluated on cpu in ")
    assert [path for path in one.root.rglob("*") if path.is_file()] == []


def test_a_step_that_fails_leaves_its_log(one, small):
    start = one.warm_start_dir(one.primary, 1) / "policy"
    start.mkdir(parents=True)
    config = json.loads((small.policy / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    (check,) = trial.checks(one, None)
    assert "model_type: expected 'qwen3', found 'llama' (exit status 1)" in check.found
    log = Path(check.mend.removeprefix("the reason is in "))
    assert "llama" in log.read_text()


@pytest.mark.parametrize(
    ("asked", "words"),
    [("slurm_partition: nowhere", "invalid partition specified: nowhere"), ("gpu_model: a-b", "Invalid GPU model")],
)
def test_a_step_that_is_refused_leaves_the_words_in_its_log(one, profile, command, asked, words):
    """Whether Slurm refuses it or the executor plugin does."""
    command("sbatch", "echo 'sbatch: error: invalid partition specified: nowhere' >&2", "exit 1")
    (check,) = trial.checks(one, profile(f"default-resources: {{{asked}}}\n"))
    assert words in check.found
    assert words in Path(check.mend.removeprefix("the reason is in ")).read_text()


def test_without_the_model_no_step_is_tried(tmp_path):
    study = study_at(tmp_path, "paper")
    found = list(trial.checks(study, None))
    assert len(found) == 3
    assert all("is not there" in check.found and "asymgrpo fetch" in check.mend for check in found)


def test_the_command_ends_with_1_if_something_is_not_ok(tmp_path, capsys):
    arguments = ["doctor", "--root", str(ROOT), "--scale"]
    assert main([*arguments, "paper"]) == 1
    assert "not ok" in capsys.readouterr().out
    assert main(["doctor", "--root", str(ROOT), "--profile", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("asymgrpo doctor: --profile: ")


def test_the_command_ends_with_0_if_all_is_ok(tmp_path, capsys):
    """In a repository whose lock names what is installed here."""
    import shutil

    for part in ("config", "workflow/schemas", "envs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "envs" / "local.txt").write_text("")
    code = main(["doctor", "--root", str(tmp_path), "--scale", "tiny"])
    output = capsys.readouterr().out
    assert (code, output.splitlines()[-1]) == (0, "all ok; no training step was tried: --train"), output
    assert sys.prefix in output
