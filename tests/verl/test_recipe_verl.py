"""The plug-in alone, in a recipe of verl's own: verl's entry point, trainer and loss, and anybody's reward function.

A minute or two, most of it starting Ray and vLLM.
"""

import json
import os
import sys

import pytest
import torch

from asymgrpo.advantages import compute_advantages, estimator_from_spec
from asymgrpo.config import load
from asymgrpo.training.spec import run_spec
from asymgrpo.training.verl import data
from asymgrpo.training.verl.launch import DATA, prepare_files
from asymgrpo.training.verl.overrides import command_line, overrides
from asymgrpo.training.verl.process import run_to_end
from asymgrpo.training.verl.task import Task

pytest.importorskip("vllm")

pytestmark = [pytest.mark.verl, pytest.mark.dag]

STEPS, GROUP = 2, 4
FAMILY = {"name": "family", "beta_pos": 0.9, "beta_neg": 0.4}
REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    return float(sum(map(ord, solution_str)) % 2)
"""
NOT_IN_THE_README = ("+asymgrpo.", "reward.reward_manager.", "actor_rollout_ref.actor.policy_loss.loss_mode")
"""What only this project's own launcher sets."""


def test_verls_own_trainer_takes_the_estimator(run_values, servable, tmp_path, request):
    smoke = load(request.config.rootpath, {"scale": "smoke"})
    spec = run_spec(
        run_values(
            backend="verl",
            verl=smoke.spec(smoke.runs()[0])["verl"],
            estimator=FAMILY,
            steps=STEPS,
            checkpoint_every=STEPS,
            rollout={"prompts_per_step": 8, "group_size": GROUP, "prompts_per_minibatch": 4},
            evaluation={"every": STEPS},
        )
    )
    data.write_problems(spec, servable.problems, servable.benchmarks, tmp_path / DATA)
    files = prepare_files(Task(spec.name, str(tmp_path), "easy", {}), servable.policy)
    reward = tmp_path / "reward.py"
    reward.write_text(REWARD)
    values = overrides(spec, files, 6, validate_first=False, attempt=1)
    values = {key: value for key, value in values.items() if not key.startswith(NOT_IN_THE_README)}
    values |= {"reward.custom_reward_function.path": str(reward), "reward.custom_reward_function.name": "compute_score"}
    values |= {"trainer.save_freq": -1, "trainer.test_freq": -1, "hydra.run.dir": str(tmp_path / "hydra")}
    run_to_end(
        [sys.executable, "-m", "verl.trainer.main_ppo", *command_line(values)],
        tmp_path,
        os.environ | {"VERL_FILE_LOGGER_ROOT": str(tmp_path), "OMP_NUM_THREADS": "1"},
        watched=[],
    )

    rows = [json.loads(line)["data"] for line in (files.log / "attempt-1.jsonl").read_text().splitlines()]
    assert len(rows) == STEPS
    possible = {0.0, *(round(float(value), 5) for correct in range(GROUP + 1) for value in advantages(correct))}
    for row in rows:
        largest, smallest = row["critic/advantages/max"], row["critic/advantages/min"]
        assert smallest < 0 < largest  # groups that are neither all right nor all wrong
        assert {round(largest, 5), round(smallest, 5)} <= possible
        assert row["actor/grad_norm"] > 0


def advantages(correct: int) -> torch.Tensor:
    """Of a group with so many correct rollouts."""
    rewards = torch.tensor([1.0] * correct + [0.0] * (GROUP - correct))
    return compute_advantages(rewards, torch.zeros(GROUP, dtype=torch.long), estimator_from_spec(FAMILY))
