"""A copy of the workflow to run and to change, and a way to call snakemake in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "slurm", "envs", "src")


def copy_workflow(target: Path) -> Path:
    """What a clone holds of the workflow; the package itself is the installed one."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_symlink():
            (target / part).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy(source, target / part)
    return target


def snakemake(directory: Path, *arguments: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
    """Run snakemake in a copy, with the commands of this environment on the path."""
    # not the parent of the resolved interpreter: in a virtual environment that is a link to another place
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """A fresh copy of the workflow, nothing run."""
    return copy_workflow(tmp_path / "clone")


@pytest.fixture
def call() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The function that runs snakemake."""
    return snakemake
