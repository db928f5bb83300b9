"""How verl is started on several nodes; on one nothing changes."""

from __future__ import annotations

import pytest

from asymgrpo.training.verl import nodes

VALUES = {
    "trainer.nnodes": 2,
    "ray_kwargs.ray_init.num_cpus": 64,
    "+ray_kwargs.ray_init.include_dashboard": False,
    "+ray_kwargs.other": 1,
}


def test_on_one_node_all_is_as_it_was():
    assert nodes.split(VALUES, 1) == (VALUES, [])
    assert nodes.on_all(["python", "-m", "main"], 1, 32, [], None) == ["python", "-m", "main"]


def test_what_starts_ray_is_not_told_to_verl():
    for_verl, for_ray = nodes.split(VALUES, 2)
    assert for_verl == {"trainer.nnodes": 2, "+ray_kwargs.other": 1}
    assert for_ray == ["--num-cpus=64", "--include-dashboard=false"]


def test_on_two_nodes_ray_is_started_once_on_each_before_the_command():
    command = nodes.on_all(["python", "-m", "main"], 2, 32, ["--num-cpus=64"], "7")
    assert command[0] == "srun"
    assert {"--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=32"} <= set(command)
    ray = command[command.index("ray") :]
    assert ray[:2] == ["ray", "symmetric-run"]
    assert ray[ray.index("--min-nodes") + 1] == "2"
    assert ray[-5:] == ["--num-cpus=64", "--", "python", "-m", "main"]
    host, port = ray[ray.index("--address") + 1].split(":")
    assert host
    assert 1024 <= int(port) <= 65535


def test_two_nodes_take_a_job():
    with pytest.raises(ValueError, match=r"trainer\.nnodes: 2 nodes take a job of Slurm"):
        nodes.on_all(["python"], 2, 32, [], None)
