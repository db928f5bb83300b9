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
        "train": ["gpu=4", "threads=32", "runtime=1440"],
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
