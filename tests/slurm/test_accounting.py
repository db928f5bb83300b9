"""The same profile where Slurm keeps accounts: `sacct` tells of a job's end, and every job must name who pays."""

from __future__ import annotations

import shutil

import pytest

from .lab import as_one_array, wait_until

ACCOUNTING = True

pytestmark = pytest.mark.skipif(
    not (shutil.which("slurmdbd") and shutil.which("mariadbd")), reason="apt-get install slurmdbd mariadb-server"
)


def accounted(cluster):
    """What sacct tells: job id -> (account, state)."""
    since = "--starttime=now-1days"  # sacct's own is midnight
    told = cluster.tell("sacct", "--allocations", "--noheader", "--parsable2", since, "--format=JobID,Account,State")
    return {job: (account, state.split()[0]) for job, account, state in (line.split("|") for line in told.splitlines())}


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
    cancelled, other = as_one_array(cluster, alone, clone, "--profile", "mysite.yaml")
    expected = {cancelled: "CANCELLED", other: "COMPLETED"}
    # slurmdbd hears of the tasks one after the other, and lists one that keeps the array's number under that at first
    wait_until(lambda: accounted(cluster).keys() >= expected.keys(), 60, f"sacct to list {list(expected)}")
    jobs = accounted(cluster)
    assert {account for account, _ in jobs.values()} == {"paper"}
    assert {job: jobs.pop(job)[1] for job in expected} == expected
    assert [state for _, state in jobs.values()] == ["COMPLETED"], "the second job of the one that was cancelled"
