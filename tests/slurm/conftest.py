"""A real Slurm on this machine (cluster.sh), and calls of snakemake that are disturbed while they run on it."""

from __future__ import annotations

import pytest

from .lab import Clone, Cluster, make


def pytest_collection_modifyitems(items):
    """Everything here needs a Slurm."""
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    """Up for the tests of a file; with accounting if the file says `ACCOUNTING = True`."""
    accounting = getattr(request.module, "ACCOUNTING", False)
    with Cluster(tmp_path_factory.mktemp("slurm"), accounting) as up:
        yield up


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> Clone:
    """A clone in which everything was made without Slurm."""
    clone = make(tmp_path_factory.mktemp("alone") / "clone")
    clone.call("--cores", "2", profile=None).succeeds()
    return clone


@pytest.fixture(scope="session")
def prepared(alone, tmp_path_factory) -> Clone:
    """The same up to the start policy: problems, benchmarks and the warm start are there, no run is."""
    return alone.copy(tmp_path_factory.mktemp("prepared") / "clone", without=["runs", "evaluation", "tables"])


@pytest.fixture
def clone(prepared, tmp_path) -> Clone:
    """A copy of that to train in."""
    return prepared.copy(tmp_path / "clone")
