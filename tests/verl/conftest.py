"""verl reads its platform from the environment when it is first imported: here, as in the smoke scale, a CPU."""

import dataclasses
import os

import pytest
from tests.conftest import POLICY, Small, train_small

from asymgrpo.training.verl.launch import EVERYWHERE, ON_CPU

os.environ.update(EVERYWHERE | ON_CPU)


@pytest.fixture(scope="session")
def servable(tmp_path_factory) -> Small:
    """As `small`, with heads of 32: vLLM serves no smaller ones on a CPU."""
    return train_small(tmp_path_factory.mktemp("servable"), dataclasses.replace(POLICY, head_dim=32))
