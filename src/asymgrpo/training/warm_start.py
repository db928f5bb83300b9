"""The start policy of the local scale: supervised learning on random solutions, in place of pre-training."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from asymgrpo.policy.model import Policy, PolicyConfig
from asymgrpo.progress import alive
from asymgrpo.tasks import countdown
from asymgrpo.training.local import make_optimiser, save_policy
from asymgrpo.training.runtime import (
    Checkpoint,
    Progress,
    environment,
    prepare,
    stop_after,
    stoppable,
    write_yaml,
)
from asymgrpo.training.spec import WarmStartSpec, fingerprint, stream_seed

CHECKPOINT_EVERY = 200
WARM_UP = 50
"""Steps over which the learning rate rises."""


def warm_start(spec: WarmStartSpec, output: Path, work: Path) -> None:
    """Train a start policy and write `output/policy` (Hugging Face layout) and `output/run.yaml`; resumes if killed."""
    device = prepare(spec.device, spec.threads)
    policy = Policy(PolicyConfig(vocab_size=len(countdown.VOCABULARY), **spec.policy))
    policy.initialise(torch.Generator().manual_seed(stream_seed("initial weights", spec.seed)))
    policy.to(device)
    optimiser = make_optimiser(policy, spec.optimiser)
    name = f"warm start {spec.backbone}/seed-{spec.seed}"
    checkpoint, done = Checkpoint(work, fingerprint(spec)), 0
    if (dumped := checkpoint.load()) is not None:
        policy.load_state_dict(dumped["policy"])
        optimiser.load_state_dict(dumped["optimiser"])
        done = dumped["step"]
        print(f"{name}: continuing after step {done}", flush=True)

    progress = Progress(name, spec.steps, work, done)
    with alive(work, asdict(spec)), stoppable() as asked_to_stop:
        for step in range(done + 1, spec.steps + 1):
            rng = np.random.default_rng(stream_seed("solutions", spec.seed, step))
            prompts, responses = (
                torch.from_numpy(a).to(device)
                for a in countdown.random_solutions(rng, spec.batch_size, spec.shares, spec.large_share)
            )
            for group in optimiser.param_groups:
                group["lr"] = spec.optimiser.learning_rate * schedule(step, spec.steps)
            optimiser.zero_grad()
            loss = supervised_loss(policy, prompts, responses)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), spec.optimiser.max_gradient_norm)
            optimiser.step()
            stop = asked_to_stop()
            saved = stop or step % CHECKPOINT_EVERY == 0 or step == spec.steps
            if saved:
                checkpoint.save({"policy": policy.state_dict(), "optimiser": optimiser.state_dict(), "step": step})
            progress.step(step, saved, loss=float(loss.detach()))
            if stop and step < spec.steps:
                stop_after(name, step)
        save_policy(policy, output / "policy")
        write_yaml(
            output / "run.yaml",
            {
                "spec": asdict(spec),
                "fingerprint": fingerprint(spec),
                "parameters": sum(p.numel() for p in policy.parameters()),
                "environment": environment(device, spec.threads),
            },
        )
        shutil.rmtree(work, ignore_errors=True)


def supervised_loss(policy: Policy, prompts: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over response tokens; prompts (B, L), responses (B, T), both int64, padded after the end."""
    total, count = torch.zeros((), device=prompts.device), int((responses != countdown.PAD).sum())
    lengths = (responses != countdown.PAD).sum(1)
    for length in lengths.unique().tolist():  # few: 5, 9 and 13
        rows = lengths == length
        target = responses[rows, :length]
        logits = policy(torch.cat([prompts[rows], target[:, :-1]], 1))[:, prompts.shape[1] - 1 :]
        total = total + F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")
    return total / count


def schedule(step: int, steps: int) -> float:
    """Factor on the learning rate: a linear rise over :data:`WARM_UP` steps, then a cosine to 0."""
    if step < WARM_UP:
        return step / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))
