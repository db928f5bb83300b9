"""`asymgrpo doctor --profile slurm`: what it says of a real Slurm, and one training step as a job of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..workflow.conftest import copy_workflow

PROFILE = Path("profiles", "slurm", "config.v9+.yaml")


@pytest.fixture(scope="module")
def here(cluster, tmp_path_factory):
    """A copy of the workflow, with locks that nothing is compared with: what is installed is no matter of Slurm."""
    clone = copy_workflow(tmp_path_factory.mktemp("doctor") / "clone")
    for lock in (clone / "envs").glob("*.txt"):
        lock.write_text("")
    return clone


@pytest.fixture
def doctor(here):
    """doctor("--scale", "tiny") -> (exit status, lines by what was checked)"""

    def call(*arguments, profile="slurm"):
        command = [sys.executable, "-m", "asymgrpo", "doctor", "--profile", profile, *arguments]
        result = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300, check=False)
        assert "Traceback" not in result.stderr, result.stderr
        lines = {}
        for line in result.stdout.splitlines():
            if line.startswith(("ok ", "not ok")):
                lines.setdefault(line[8:24].strip(), []).append(line)
            elif "->" in line:
                lines[next(reversed(lines))].append(line)
        return result.returncode, lines

    return call


@pytest.fixture
def changed(here):
    """changed("gpu_type: h100", "gpu_type: a100"): another profile, for this test only."""
    before = (here / PROFILE).read_text()

    def change(text, to):
        assert before.count(text) == 1, text
        (here / PROFILE).write_text(before.replace(text, to))

    yield change
    (here / PROFILE).write_text(before)


def test_a_step_of_a_small_scale_is_trained_as_a_job(here, doctor):
    status, lines = doctor("--scale", "tiny", "--train")
    assert status == 0, lines
    assert lines["Slurm"][0].endswith("answers; partitions cpu, gpu, urgent")
    assert lines["partition"] == [
        next(line for line in lines["partition"] if "cpu (of train, sample, sample_base, warm_start)" in line)
    ]
    assert "1 core, 8000 MB a core, 1440 minutes" in lines["job train"][0]
    assert [line.split("step")[1].split(":")[0].strip() for line in lines["one step"]] == ["qwen3-160k", "qwen3-80k"]
    assert not list(here.glob("results/tiny/work/doctor-*"))


def test_the_papers_scale_finds_its_gpus(doctor):
    status, lines = doctor()  # the scale is what the profile says
    assert status == 1  # neither data nor models are there
    assert "scale paper" in lines["profile"][0]
    assert lines["GPU"][0].endswith("4 h100 on a node of gpu: yes")
    assert "4 GPUs, 32 cores" in lines["job train"][0]
    assert "1 GPU, 8 cores" in lines["job sample"][0]
    assert "no GPU, 32 cores" in lines["job score"][0]
    jobs = [f"job {rule}" for rule in ("train", "sample", "sample_base", "score")]
    assert all(line.startswith("ok") for name in ("GPU", "partition", "job states", *jobs) for line in lines[name])


@pytest.mark.parametrize(
    ("text", "to", "check", "expected"),
    [
        ("gpu_type: h100", "gpu_type: a100", "GPU", "4 a100 on a node of gpu: no node has these; there are 4 h100"),
        ("gpu_partition: gpu", "gpu_partition: gpus", "partition", "train, sample, sample_base): there is none"),
        ("slurm_partition: cpu", "slurm_partition: cpus", "job score", "slurm_partition: cpus"),
        ("gpu_type: h100", "gpu_type: a100-sxm4-80gb", "job train", "gpu_type: a100-sxm4-80gb"),
        ("slurm-requeue: true", "slurm-requeue: true\nslurm-reservation: typo", "job score", "slurm-reservation: typo"),
        ("mem_mb_per_cpu: 8000", "mem_mb_per_cpu: 80000", "job train", "mem_mb_per_cpu: 80000"),
        ("  train:\n    runtime: 24h", "  train:\n    runtime: 9d", "job train", "PartitionTimeLimit"),
    ],
)
def test_what_slurm_would_not_run(doctor, changed, text, to, check, expected):
    changed(text, to)
    status, lines = doctor()
    assert status == 1
    assert any(line.startswith("not ok") and expected in line for line in lines[check]), lines[check]
    if not check.startswith("job "):
        assert any("config.v9+.yaml" in line for line in lines[check] if "->" in line)


def test_a_step_that_fails_says_where_its_log_is(here, doctor, changed):
    changed("slurm_partition: cpu", "slurm_partition: nowhere")
    status, lines = doctor("--scale", "tiny", "--train")
    assert status == 1
    assert "invalid partition" in lines["one step"][0].lower()
    log = Path(lines["one step"][1].split("the reason is in ")[1])
    assert log.name == "log.txt"
    assert "invalid partition" in log.read_text().lower()
