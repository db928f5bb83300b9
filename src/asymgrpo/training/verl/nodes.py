"""verl on several nodes of one job of Slurm: Ray is started on each of them, then the command on the first.

Ray's own ``ray symmetric-run`` does it, once on every node: where the address is, it starts Ray's head, waits for the
others, runs the command, and ends Ray when the command ends; elsewhere it joins.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from asymgrpo.training.verl.overrides import bare

RAY_INIT = "ray_kwargs.ray_init."
"""verl's keys that start Ray. A running one cannot be told them any more: they go to those who start it."""


def split(values: Mapping[str, Any], nodes: int) -> tuple[dict[str, Any], list[str]]:
    """Overrides for verl, and the options of `ray start` that take the place of the others; on one node none does."""
    if nodes == 1:
        return dict(values), []
    ray = {bare(key): value for key, value in values.items() if bare(key).startswith(RAY_INIT)}
    options = [f"--{key.removeprefix(RAY_INIT).replace('_', '-')}={_option(ray[key])}" for key in ray]
    return {key: value for key, value in values.items() if bare(key) not in ray}, options


def on_all(command: Sequence[str], nodes: int, threads: int, options: Sequence[str], job: str | None) -> list[str]:
    """The command as it is on one node; on several what starts Ray on all nodes of a job, and then the command.

    Args:
        command: of verl.
        nodes: of the run.
        threads: CPU cores of each node.
        options: of `ray start`, the same on each node.
        job: of Slurm, in which this process runs on the first node; its number.

    Raises:
        ValueError: several nodes without a job of Slurm.
    """
    if nodes == 1:
        return list(command)
    if not job:
        raise ValueError(
            f"trainer.nnodes: {nodes} nodes take a job of Slurm, which this process is not in; "
            "expected snakemake --profile slurm"
        )
    srun = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    srun += [f"--cpus-per-task={threads}", "--kill-on-bad-exit=1"]
    ray = ["ray", "symmetric-run", "--address", f"{socket.gethostname()}:{_free_port()}", "--min-nodes", str(nodes)]
    return [*srun, *ray, *options, "--", *command]


def _option(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("", 0))
        return taken.getsockname()[1]
