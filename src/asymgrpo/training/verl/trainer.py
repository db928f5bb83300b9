"""verl's synchronous trainer, which also measures, from verl's own tensors, what every backend's run files hold.

verl's steps run as they are, with three additions. One forward pass after each update (`measure`) gives the
log-probability gain and the entropy after it. A step's rollouts are put back into the order of their prompts: verl
0.9.1 takes them as they finish, so that its first minibatch would hold the short responses and its last the long ones.
And a method with a schedule has the exponents of each step written into `algorithm`, where the plug-in reads them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.utils.padding import response_from_nested

from asymgrpo.schedules import Exponents, Histograms, betas, schedule_from_spec
from asymgrpo.training.measurement import Measured, describe_rollouts
from asymgrpo.training.runtime import Progress
from asymgrpo.training.verl.journal import Journal, best_step, read
from asymgrpo.training.verl.policies import remove_old
from asymgrpo.training.verl.task import Task, keep

PHASES = {"sampling": ("gen",), "update": ("adv", "update_actor"), "measure": ("old_log_prob",)}
"""Columns of timings.parquet from verl's timers. Scoring runs beside sampling in verl and has no time of its own."""

POLL_SECONDS = 0.5
"""How often to look whether all rollouts are there; verl's 2 s are most of a small step, and no gain in a large one."""


class Trainer(PPOTrainerSync):
    """PPOTrainerSync that keeps a journal, tells its progress and keeps the best policy."""

    def init(self) -> None:
        """As verl's; then the journal learns where this attempt goes on."""
        super().init()
        self._task = Task.read(Path(self.config.asymgrpo.task))
        self._journal = Journal(self._task.journal)
        self._journal.start(self.global_steps)
        self._progress = Progress(
            self._task.name, self.total_training_steps, Path(self._task.work), done=self.global_steps
        )
        self._before: dict[str, Tensor] = {}
        self._order: dict[str, int] = {}
        # of the steps so far: what a schedule goes by, the same after a restart
        self._histograms = [row["group_accuracy_histogram"] for row in read(self._task.journal).steps]

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = POLL_SECONDS
        return buffer

    # -- minibatches of prompts ----------------------------------------------------------------------------------------

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        self._order |= {uid: len(self._order) + i for i, uid in enumerate(list(batch["uid"]))}
        return super()._submit_batch_to_rollout(batch)

    def _balance_batch(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Prompt by prompt, as they were submitted, before verl deals them out to its ranks."""

        def place(row: int) -> tuple[int, int]:
            uid, rollout, _ = batch.keys[row].rsplit("_", 2)
            return self._order[uid], int(rollout)

        batch.reorder(sorted(range(len(batch.keys)), key=place))
        return super()._balance_batch(batch, *args, **kwargs)

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        exponents = set_exponents(self.config.algorithm, self.global_steps, self.total_training_steps, self._histograms)
        metrics.update({f"asymgrpo/{name}": beta for name, beta in exponents._asdict().items()} if exponents else {})
        batch = super()._compute_advantage(batch, metrics)
        fields = ["uid", "response_mask", "rm_scores", "old_log_probs", "entropy", "advantages", "reward_model"]
        data = _fetch(batch, fields)
        uids, problems = data.pop("uid").tolist(), data.pop("reward_model").tolist()
        padded = data.to_padded_tensor()
        mask = padded["response_mask"].bool()
        lengths = mask.sum(1)
        # every token of a response has the same advantage
        advantages = (padded["advantages"].double() * mask).sum(1) / lengths.clamp(min=1)
        real = torch.tensor([not tag.get("is_padding", False) for tag in batch.tags])
        self._check_complete(int(real.sum()))
        number = {uid: i for i, uid in enumerate(dict.fromkeys(uids))}
        self._before = {
            "real": real & (lengths > 0),
            "group_ids": torch.tensor([number[uid] for uid in uids]),
            "problem": torch.tensor([int(problem["index"]) for problem in problems]),
            "rewards": (padded["rm_scores"].double() * mask).sum(1),
            "advantages": advantages,
            "lengths": lengths,
            "logprob_before": (padded["old_log_probs"].double() * mask).sum(1),
            "entropy_before": (padded["entropy"].double() * mask).sum(1),
        }
        return batch

    def _check_complete(self, found: int) -> None:
        """verl goes on without rollouts that failed, in groups that are then smaller than G."""
        expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        if found != expected:
            raise ValueError(
                f"step {self.global_steps}: {found} of {expected} rollouts are there, and none may be lost; why the "
                "others failed is above"
            )

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._update_actor(batch, metrics)
        started = time.perf_counter()
        row, groups = self._measure(batch)
        self._measured = (row | _update_columns(metrics), groups, time.perf_counter() - started)
        return batch

    def _measure(self, batch: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The policy as it is now on the step's own rollouts; then the columns of the step's row and its groups."""
        batch.extra_info.update(
            {
                "calculate_entropy": True,
                "compute_loss": False,
                "temperature": self.config.actor_rollout_ref.rollout.temperature,
            }
        )
        self.actor_rollout_wg.compute_log_prob(batch)
        data = _fetch(batch, ["log_probs", "entropy", "response_mask"])
        for name in ("log_probs", "entropy"):
            data[name] = response_from_nested(data.pop(name), data["response_mask"])
        padded = data.to_padded_tensor()
        mask = padded["response_mask"].bool()
        before = dict(self._before)
        real, problem = before.pop("real"), before.pop("problem")
        after = {
            "logprob_after": (padded["log_probs"].double() * mask).sum(1),
            "entropy_after": (padded["entropy"].double() * mask).sum(1),
        }
        rollouts = Measured(**{name: values[real] for name, values in (before | after).items()})
        row, groups = describe_rollouts(rollouts, self.config.actor_rollout_ref.rollout.n)
        problem_of = dict(zip(rollouts.group_ids.tolist(), problem[real].tolist(), strict=True))
        for group, label in zip(groups, sorted(problem_of), strict=True):
            group["problem"] = problem_of[label]
        return row, groups

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:
        """One step; its row is on disk before verl writes the checkpoint that contains it."""
        batch = super().step(metrics, timing_raw)
        row, groups, seconds = self._measured
        wall = {f"wall_{phase}": sum(timing_raw.get(key, 0.0) for key in keys) for phase, keys in PHASES.items()}
        wall["wall_measure"] += seconds
        wall["wall_update"] -= seconds
        self._journal.step(self.global_steps, row, wall, groups)
        self._histograms.append(row["group_accuracy_histogram"])
        self._progress.step(self.global_steps, reward=row["reward"], entropy=row["entropy"])
        self._order.clear()
        return batch

    def _save_checkpoint(self) -> None:
        """verl never removes the checkpoint that an attempt has started from."""
        super()._save_checkpoint()
        remove_old(self._task.checkpoints, self.config.trainer.max_actor_ckpt_to_keep)

    # -- validation ----------------------------------------------------------------------------------------------------

    def _val_metrics_update(
        self,
        data_sources: list[str],
        sample_uids: Any,
        reward_extra_infos_dict: dict[str, list[Any]],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, float]:
        """verl hands over every validation response here: journal them, and keep the policy if it is the best."""
        rows = defaultdict(list)
        for benchmark, accuracy, length in zip(
            data_sources, reward_extra_infos_dict["acc"], reward_extra_infos_dict["length"], strict=True
        ):
            rows[benchmark].append((accuracy, length))
        found = {name: len(values) for name, values in rows.items()}
        if found != self._task.problems:
            raise ValueError(f"validation returned {found} responses, expected {self._task.problems}: none may be lost")
        evaluations = [
            {
                "benchmark": name,
                "decoding": "greedy",
                "problems": len(rows[name]),
                "samples": 1,
                "correct": round(sum(accuracy for accuracy, _ in rows[name])),
                "accuracy": float(np.mean([accuracy for accuracy, _ in rows[name]])),
                "response_length": float(np.mean([length for _, length in rows[name]])),
            }
            for name in self._task.problems
        ]
        self._journal.evaluation(self.global_steps, evaluations)
        # if a kill comes in between, the launcher keeps it
        if best_step(read(self._task.journal), self._task.select_on) == self.global_steps > 0:
            keep(self._task.exported(self.global_steps), self._task.best, self.global_steps)
        return super()._val_metrics_update(data_sources, sample_uids, reward_extra_infos_dict, *args, **kwargs)


def set_exponents(algorithm: DictConfig, step: int, steps: int, history: Histograms) -> Exponents | None:
    """Write a schedule's exponents of this step where the plug-in reads them; None if there is no schedule.

    Args:
        algorithm: verl's section, with `schedule` as in a run spec's estimator, or without.
        step: counted from 1.
        steps: of the whole run.
        history: `group_accuracy_histogram` of the steps before.
    """
    if algorithm.get("schedule") is None:
        return None
    schedule = schedule_from_spec(OmegaConf.to_container(algorithm.schedule, resolve=True))
    exponents = betas(schedule, step, steps, history)
    with open_dict(algorithm):
        algorithm.beta_pos, algorithm.beta_neg = exponents
    return exponents


def _fetch(batch: Any, fields: list[str]) -> Any:
    return tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)


def _update_columns(metrics: dict[str, Any]) -> dict[str, float]:
    """The columns of a step's row that describe the update, from verl's metrics."""
    tokens = metrics["actor/tokens_counted"]
    return {
        "clip_fraction_low": float(metrics["actor/tokens_clipped_low"] / tokens),
        "clip_fraction_high": float(metrics["actor/tokens_clipped_high"] / tokens),
        "gradient_norm": float(metrics["actor/grad_norm"]),
        "policy_loss": float(metrics["actor/pg_loss"]),
    }
