"""Shared by all tests: one torch thread, and a very small policy that already solves some problems.

The policy learns 32 fixed solutions by heart, for about a second, and stops half-way: so it samples right and wrong
responses to the same problem, which is what every test of training and evaluation needs.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from asymgrpo import records
from asymgrpo.policy.model import Policy, PolicyConfig
from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import as_messages
from asymgrpo.training.local import save_policy
from asymgrpo.training.warm_start import supervised_loss

POLICY = PolicyConfig(
    vocab_size=len(countdown.VOCABULARY),
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    intermediate_size=64,
)

RUN = {
    "scale": "test",
    "backbone": "small",
    "method": "grpo",
    "seed": 1,
    "backend": "torch",
    "estimator": {
        "name": "family",
        "beta_pos": 0.5,
        "beta_neg": 0.5,
        "flip": None,
        "all_solved_zero": False,
        "none_solved_zero": False,
    },
    "loss": {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0, "entropy_coefficient": 0.0},
    "optimiser": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01, "max_gradient_norm": 1.0},
    "rollout": {
        "prompts_per_step": 12,
        "group_size": 4,
        "prompts_per_minibatch": 5,
        "epochs": 1,
        "temperature": 1.0,
        "max_prompt_tokens": 6,
        "max_response_tokens": 13,
    },
    "steps": 5,
    "evaluation": {"every": 2, "benchmarks": ["easy", "hard"], "select_on": "easy"},
    "checkpoint_every": 2,
    "device": "cpu",
    "threads": 1,
    "warm_start_seed": 1,
    "start": {},
    "verl": {},
}

WARM_START = {
    "scale": "test",
    "backbone": "small",
    "seed": 1,
    "policy": {
        "hidden_size": 32,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 16,
        "intermediate_size": 48,
        "rope_theta": 10000.0,
    },
    "optimiser": {"learning_rate": 5e-3, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.01, "max_gradient_norm": 1.0},
    "steps": 30,
    "batch_size": 32,
    "shares": {"2": 0.5, "3": 0.25, "4": 0.25},
    "large_share": 0.2,
    "device": "cpu",
    "threads": 1,
}


class Small(NamedTuple):
    """The small policy, and files of the problems that it half knows."""

    policy: Path
    """Hugging Face directory."""
    prompts: torch.Tensor
    """(32, 6): the problems."""
    problems: Path
    """Parquet of the 32 problems, for training."""
    benchmarks: dict[str, Path]
    """easy: 8 of them; hard: 10 of the held-out part."""


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """What the results of floating-point sums depend on."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    return train_small(tmp_path_factory.mktemp("small"), POLICY)


def train_small(root, config) -> Small:
    arrays = countdown.random_solutions(np.random.default_rng(0), 40, {3: 0.75, 4: 0.25})
    _, first = np.unique(arrays[0], axis=0, return_index=True)
    first = np.random.default_rng(1).permutation(first)[:32]
    prompts, responses = (torch.from_numpy(array[first]) for array in arrays)
    policy = Policy(config)
    policy.initialise(torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss = supervised_loss(policy, prompts, responses)
        if float(loss.detach()) < 0.2:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
    else:
        pytest.fail("the small policy learned nothing in 200 steps")
    save_policy(policy, root / "policy")
    rows = [benchmark_row(tokens) for tokens in prompts.tolist()]
    records.write(root / "train.parquet", rows, records.BENCHMARK)
    records.write(root / "easy.parquet", rows[:8], records.BENCHMARK)
    hard = countdown.prompt_tokens(countdown.benchmark_problems(10, 0, 3)).tolist()
    records.write(root / "hard.parquet", [benchmark_row(tokens) for tokens in hard], records.BENCHMARK)
    benchmarks = {name: root / f"{name}.parquet" for name in ("easy", "hard")}
    return Small(root / "policy", prompts, root / "train.parquet", benchmarks)


def benchmark_row(prompt: list[int]) -> dict[str, Any]:
    """A problem of a file, from its prompt's tokens."""
    words = countdown.to_text(prompt).split()
    return {
        "problem_id": f"{'-'.join(word for word in words[:-2] if word != '_')}={words[-2]}",
        "prompt": as_messages(" ".join(words)),
        "ground_truth": words[-2],
        "answer_type": "countdown",
        "unit": "",
        "tolerance": None,
        "source": "a test",
        "revision": "1",
        "checksum": "",
    }


@pytest.fixture(scope="session")
def run_values():
    """run_values(steps=3, loss={"clip_low": 0.1}) -> a run spec's plain values, nested ones changed key by key."""
    return lambda **changes: _changed(RUN, changes)


@pytest.fixture(scope="session")
def warm_start_values():
    """The same for a warm-start spec."""
    return lambda **changes: _changed(WARM_START, changes)


def _changed(values, changes):
    values = copy.deepcopy(values)
    for key, value in changes.items():
        replaced = not isinstance(value, dict) or key in ("estimator", "shares")
        values[key] = value if replaced else values[key] | value
    return values


@pytest.fixture(scope="session")
def asymgrpo_process():
    """asymgrpo_process(["train", ...]) -> a started `python -m asymgrpo train ...` of its own, output piped as text."""

    def start(arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "asymgrpo", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    return start
