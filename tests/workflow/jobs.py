"""Read the jobs of a dry run from what snakemake prints."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlannedJob:
    """A job that a dry run lists."""

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def planned(result: subprocess.CompletedProcess[str]) -> list[PlannedJob]:
    """All jobs of a dry run, in its order; fails with snakemake's words if it failed."""
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = []
    for block in re.split(r"\n(?=(?:local)?rule \w+:\n)", result.stdout + result.stderr):
        head = re.match(r"(?:local)?rule (\w+):\n", block)
        if head:
            line = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            pairs = [pair.split("=", 1) for pair in line.group(1).split(", ")] if line else []
            reason = re.search(r"^    reason: (.*)$", block, re.MULTILINE)
            jobs.append(PlannedJob(head.group(1), dict(pairs), reason.group(1) if reason else ""))
    return jobs
