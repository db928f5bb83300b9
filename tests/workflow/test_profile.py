"""The profile for Slurm, as far as a dry run shows it: on a fresh clone, without Slurm, GPU and network."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT
from .jobs import planned

pytestmark = pytest.mark.slurm

SLURM = ("-n", "--profile", "slurm")


@pytest.fixture(autouse=True)
def nothing_there(monkeypatch, tmp_path):
    """No command of Slurm on the path, and no way out of this machine."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "git", "which", "env", "uname"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    monkeypatch.setitem(os.environ, "PATH", str(tools))
    assert shutil.which("sbatch") is None
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:9")


def resources(result, rule):
    """What all jobs of a rule ask for, each kind once, threads among it."""
    text = result.stdout + result.stderr
    found = set()
    for block in re.findall(rf"^(?:local)?rule {rule}:\n(?:    .*\n)+", text, re.MULTILINE):
        threads = re.search(r"^    threads: (\d+)$", block, re.MULTILINE)
        (line,) = re.findall(r"^    resources: (.*)$", block, re.MULTILINE)
        found.add(f"threads={threads[1] if threads else 1}, {line}, ")
    return found


def test_the_profile_makes_everything_at_paper_scale(workflow, call):
    jobs, everything = (
        sorted((job.rule, *job.wildcards.items()) for job in planned(call(workflow, *arguments)))
        for arguments in (SLURM, ("-n", "--config", "scale=paper"))
    )
    assert jobs == everything
    assert any(("backbone", "qwen3-4b") in job for job in jobs)


@pytest.mark.parametrize(
    ("config", "scale", "seeds"), [(["scale=tiny"], "tiny", {"1"}), (["seeds=[1,2]"], "paper", {"1", "2"})]
)
def test_the_command_line_goes_before_the_profile_key_by_key(workflow, call, config, scale, seeds):
    """More seeds of the paper's scale are still the paper's scale."""
    result = call(workflow, *SLURM, "fig3", "--config", *config)
    assert {job.wildcards["seed"] for job in planned(result) if job.rule == "train"} == seeds
    assert f"figures/{scale}/fig3.pdf" in result.stdout + result.stderr


def test_paper_scale_asks_for_gpus_by_name_and_number(workflow, call):
    result = call(workflow, *SLURM)
    for rule, wanted in {
        "train": ["gpu=4", "nodes=1", "threads=32", "runtime=1440"],
        "sample": ["gpu=1", "threads=8", "runtime=240"],
        "sample_base": ["gpu=1", "threads=8", "runtime=240"],
    }.items():
        (asked,) = resources(result, rule)
        for part in [*wanted, "slurm_partition=gpu", "gpu_model=h100", "mem_mb_per_cpu=8000"]:
            assert f"{part}, " in asked, rule
    (asked,) = resources(result, "score")
    assert "slurm_partition=cpu, " in asked
    assert "gpu=" not in asked
    assert "gpu_model=" not in asked


@pytest.mark.parametrize("scale", ["local", "smoke"])
def test_a_scale_for_cpus_asks_for_no_gpu(workflow, call, scale):
    result = call(workflow, *SLURM, "--config", f"scale={scale}")
    for rule in ("warm_start", "train", "sample"):
        (asked,) = resources(result, rule)
        assert "slurm_partition=cpu, " in asked
        assert "gpu_model=" not in asked
        assert re.findall(r"\bgpu=(\d+)", asked) in (["0"], [])


def test_several_nodes_ask_for_gpus_on_each(workflow, call):
    scale = workflow / "config/scales/paper.yaml"
    text = scale.read_text()
    assert text.count("trainer.nnodes: {value: 1,") == 1
    scale.write_text(text.replace("trainer.nnodes: {value: 1,", "trainer.nnodes: {value: 2,"))
    result = call(workflow, *SLURM, "table2")
    (asked,) = resources(result, "train")
    for part in ("nodes=2", "gres=gpu:h100:4", "threads=32", "slurm_partition=gpu"):
        assert f"{part}, " in asked
    assert " gpu=" not in asked
    (asked,) = resources(result, "sample")  # one engine on one GPU, whatever a training has
    assert "gpu=1, " in asked
    assert "nodes=" not in asked


def readme_yaml(file):
    """The example of config/README.md that begins with a file's name."""
    (text,) = re.findall(rf"```yaml\n# {file}\n(.*?)```", (ROOT / "config/README.md").read_text(), re.DOTALL)
    return text


def test_the_readmes_first_site_edits_the_block(workflow, call):
    profile = workflow / "profiles/slurm/config.v9+.yaml"
    text = profile.read_text()
    block = re.search(r"^default-resources:\n(?:  .*\n)+", text, re.MULTILINE)
    profile.write_text(text.replace(block[0], readme_yaml("profiles/slurm/config.v9\\+.yaml")))
    result = call(workflow, *SLURM, "table2")
    (asked,) = resources(result, "train")
    for part in ("slurm_partition=gpu_a100", "gpu_model=a100", "slurm_account=my-lab", "mem_mb_per_cpu=4000", "gpu=4"):
        assert f"{part}, " in asked
    (asked,) = resources(result, "score")
    assert "slurm_partition=standard, " in asked


def test_the_readmes_second_site_lies_over_the_profile(workflow, call):
    (workflow / "mysite.yaml").write_text(readme_yaml("mysite.yaml"))
    result = call(workflow, *SLURM, "--profile", "mysite.yaml", "table2")
    (asked,) = resources(result, "train")
    for part in ("slurm_partition=preempt", "qos=low", "runtime=240", "gpu=4", "threads=32"):
        assert f"{part}, " in asked
    assert "gpu_model" not in asked
    (asked,) = resources(result, "score")
    assert "slurm_partition=main, " in asked


def test_the_profile_names_rules_that_there_are(workflow, call):
    profile = yaml.safe_load((workflow / "slurm/config.v9+.yaml").read_text())
    rules = set()
    for file in [*(workflow / "workflow/rules").glob("*.smk")]:
        rules |= set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)(?: with)?:", file.read_text(), re.MULTILINE))
    assert set(profile["set-resources"]) <= rules
    default = yaml.safe_load((workflow / "profiles/default/config.yaml").read_text())
    assert set(default) & set(profile) == {"cores", "keep-going"}  # in the default one cores are for local runs only


def test_the_link_is_what_makes_the_name_short():
    assert (ROOT / "slurm").readlink() == Path("profiles/slurm")
