"""Cost of one GRPO step of 64 x 8 rollouts in the local backend, in CPU-seconds on one thread.

Prints sampling, scoring, update and measurement; the ratio to what the same multiply-adds cost as one large matrix
product on this machine; and the ratio to TRL's GRPOTrainer, if it is installed, on the same policy, prompts and batch.
Everything runs in this one process, alternating, so that a busy machine slows all of it alike.

    python benchmarks/local_step.py                        # without TRL
    pip install trl==1.16.0 && python benchmarks/local_step.py
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from asymgrpo.config import Run, load
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.model import Policy, PolicyConfig
from asymgrpo.tasks import countdown
from asymgrpo.training import local
from asymgrpo.training.spec import RunSpec, run_spec, warm_start_spec
from asymgrpo.training.warm_start import warm_start
from asymgrpo.verification import countdown as verifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policy",
        type=Path,
        help="start policy; default: the local scale's, if it was trained, or a short warm start made now",
    )
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--rounds", type=int, default=3, help="alternations between the two trainers")
    chosen = parser.parse_args()

    torch.set_num_threads(1)
    study = load(Path(__file__).parents[1], {"scale": "local"})
    spec = run_spec(study.spec(Run(study.primary, "grpo", 1)))
    with tempfile.TemporaryDirectory() as scratch:
        directory = chosen.policy or study.warm_start_dir(study.primary, 1) / "policy"
        if not (directory / "config.json").exists():
            directory = _short_warm_start(study, Path(scratch))
        problems = countdown.training_problems(2000, 0.5, seed=1)
        ours = Local(spec, directory, problems)
        theirs = _trl(spec, directory, problems, Path(scratch))
        ours.run(3)
        if theirs:
            theirs.run(2)
        gemm = []
        for _ in range(chosen.rounds):
            gemm.append(gemm_rate())
            ours.run(chosen.steps // chosen.rounds or 1)
            if theirs:
                theirs.run(max(2, chosen.steps // chosen.rounds // 2))
        report(ours, theirs, max(gemm))


class Local:
    """The local backend, one step at a time."""

    def __init__(self, spec: RunSpec, directory: Path, problems: list[countdown.Problem]) -> None:
        self.spec = spec
        policy = huggingface.load(directory)
        self.state = local.State(policy, local.make_optimiser(policy, spec.optimiser))
        self.prompts = torch.from_numpy(countdown.prompt_tokens(problems))
        self.seconds: list[dict[str, float]] = []
        self.warm = True

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.state.step += 1
            local.train_step(self.spec, self.state, self.prompts)
        if not self.warm:
            self.seconds += self.state.timings[-steps:]
        self.warm = False


class Trl:
    """TRL's GRPOTrainer: same policy, prompts, rewards and batch, its loss set to the same token-mean and clipping."""

    def __init__(self, spec: RunSpec, directory: Path, problems: list[countdown.Problem], scratch: Path) -> None:
        from datasets import Dataset
        from transformers import AutoTokenizer, Qwen3ForCausalLM, TrainerCallback
        from trl import GRPOConfig, GRPOTrainer

        r, o = spec.rollout, spec.optimiser
        texts = [countdown.to_text(row.tolist()) for row in countdown.prompt_tokens(problems)]

        def reward(
            prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: object
        ) -> list[float]:
            width = max(map(len, completion_ids))
            tokens = np.full((len(completion_ids), width), countdown.PAD)
            for row, ids in zip(tokens, completion_ids, strict=True):
                row[: len(ids)] = ids
            known = np.array([countdown.to_tokens(prompt) for prompt in prompts])
            return (verifier.verify(known, tokens) == 0).astype(float).tolist()

        self.marks: list[float] = []
        marks = self.marks

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: object, **__: object) -> None:
                marks.append(time.process_time())

        self.minibatches = r.prompts_per_step // r.prompts_per_minibatch
        settings = GRPOConfig(
            output_dir=str(scratch / "trl"),
            use_cpu=True,
            per_device_train_batch_size=r.prompts_per_minibatch * r.group_size,
            steps_per_generation=self.minibatches,
            num_generations=r.group_size,
            max_completion_length=r.max_response_tokens,
            temperature=r.temperature,
            learning_rate=o.learning_rate,
            adam_beta1=o.beta1,
            adam_beta2=o.beta2,
            weight_decay=o.weight_decay,
            max_grad_norm=o.max_gradient_norm,
            lr_scheduler_type="constant",
            epsilon=spec.loss.clip_low,
            epsilon_high=spec.loss.clip_high,
            beta=0.0,
            loss_type="dapo",
            scale_rewards="group",
            num_iterations=r.epochs,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            max_steps=10**6,
        )
        self.steps_wanted = 0
        self.trainer = GRPOTrainer(
            model=Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32),
            reward_funcs=reward,
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=AutoTokenizer.from_pretrained(directory),
            callbacks=[Clock()],
        )
        self.seconds: list[float] = []
        self.warm = True

    def run(self, steps: int) -> None:
        """So many batches of rollouts; each is `minibatches` optimiser steps in TRL's count."""
        self.marks.clear()
        self.trainer.args.max_steps = steps * self.minibatches + self.minibatches
        self.trainer.train()
        marks = self.marks[self.minibatches - 1 :: self.minibatches]  # the first batch bears the start-up
        if not self.warm:
            self.seconds += np.diff(marks).tolist()
        self.warm = False


def gemm_rate() -> float:
    """Multiply-add rate of one large float32 matrix product on one thread, in FLOP per CPU-second."""
    a, n = torch.randn(1536, 1536), 1536
    a @ a
    best = min(_cpu(lambda: a @ a) for _ in range(5))
    return 2 * n**3 / best


def step_flops(config: PolicyConfig, local_state: local.State, spec: RunSpec) -> float:
    """Multiply-adds (as FLOP) that a step's weight matrices need: 2 a token to sample and measure, 6 to update.

    Counted for the tokens that really pass through the network: response tokens but the last of each, each prompt once
    per group, in the update only groups with an advantage. Attention, norms and the like are not counted.
    """
    weights = sum(p.numel() for p in Policy(config).parameters() if p.dim() == 2)
    per_step = []
    for row in local_state.steps[3:]:
        rollouts = row["n_groups"] * spec.rollout.group_size
        once = row["tokens"] - rollouts + row["n_groups"] * countdown.PROMPT_TOKENS
        per_step.append(once * 2 + once * row["mixed"] * 6 + once * 2)
    return weights * float(np.mean(per_step))


def report(ours: Local, theirs: Trl | None, rate: float) -> None:
    phases = ("sampling", "scoring", "update", "measure")
    means = {phase: float(np.mean([row[f"cpu_{phase}"] for row in ours.seconds])) for phase in phases}
    total = sum(means.values())
    print(f"local step, {ours.spec.rollout.prompts_per_step} x {ours.spec.rollout.group_size} rollouts, CPU-seconds")
    for phase, seconds in means.items():
        print(f"  {phase:9s} {seconds:.4f}")
    print(f"  {'total':9s} {total:.4f}")
    limit = step_flops(ours.state.policy.config, ours.state, ours.spec) / rate
    print(f"GEMM limit: {limit:.4f} CPU-seconds at {rate / 1e9:.0f} GFLOP/s; the step takes {total / limit:.2f} x that")
    if theirs:
        peer = float(np.median(theirs.seconds))
        print(f"TRL GRPOTrainer: {peer:.4f} CPU-seconds a batch; {peer / total:.2f} x ours")
        without = total - means["measure"]
        print(f"  ... {peer / without:.2f} x ours without the measurement after the update, which TRL does not make")
    else:
        print("TRL is not installed: no comparison (pip install trl==1.16.0)")


def _cpu(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _short_warm_start(study, scratch: Path) -> Path:
    print("no trained start policy: making one in 300 steps", file=sys.stderr)
    values = study.warm_start(study.primary, 1)
    warm_start(warm_start_spec(values | {"steps": 300}), scratch / "start", scratch / "work")
    return scratch / "start" / "policy"


def _trl(spec: RunSpec, directory: Path, problems: list[countdown.Problem], scratch: Path) -> Trl | None:
    try:
        import trl  # noqa: F401
    except ImportError:
        return None
    return Trl(spec, directory, problems, scratch)


if __name__ == "__main__":
    main()
