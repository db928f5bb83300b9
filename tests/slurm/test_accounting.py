"""The same profile where Slurm keeps accounts: `sacct` tells of a job's end, and every job must name who pays."""

from __future__ import annotations

import shutil

import pytest

from .lab import as_one_array

ACCOUNTING = True

pytestmark = pytest.mark.skipif(
    not (shutil.which("slurmdbd") and shutil.which("mariadbd")), reason="apt-get install slurmdbd mariadb-server"
)


def test_with_sacct_and_an_account(cluster, alone, clone):
    """Who pays is told at its line; and what sacct says of cancelled jobs and of an array's tasks is understood."""
    site = clone.root / "mysite.yaml"
    site.write_text(
        "slurm-status-command: sacct\n"
        "default-resources: {slurm_partition: cpu, slurm_account: papers, mem_mb_per_cpu: 8000, runtime: 60}\n"
    )
    said = clone.call("--profile", "mysite.yaml", clone.record("grpo")).fails()
    assert "Invalid account" in said
    assert "mysite.yaml, line 2: default-resources" in said or "mysite.yaml, line 2: slurm_account" in said
    site.write_text(site.read_text().replace("papers", "paper"))
    as_one_array(cluster, alone, clone, "--profile", "mysite.yaml")
    told = cluster.tell("sacct", "--allocations", "--noheader", "--parsable2", "--format", "Account,State")
    assert [line.split()[0] for line in told.splitlines()] == ["paper|CANCELLED", "paper|COMPLETED", "paper|COMPLETED"]
