"""verl's reward manager over the project's verifiers; runs in verl's reward workers (Ray)."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from asymgrpo.verification import countdown


class VerifierReward(RewardManagerBase):
    """Reward 1 or 0 by the problem's answer type; with it go `acc`, `length` (tokens) and `finished` for validation."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **_: Any) -> None:
        # the rest is for rewards by a model
        super().__init__(config, tokenizer, compute_score)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """The reward of one rollout (one prompt, one response), as verl's reward loop expects it."""
        item = data[-1]
        prompt, response = _real_tokens(item.batch)
        problem = item.non_tensor_batch["reward_model"]
        finished = len(response) > 0 and int(response[-1]) == self.tokenizer.eos_token_id
        correct = await self.loop.run_in_executor(None, self._verify, problem, prompt, response)
        return {
            "reward_score": float(correct),
            "reward_extra_info": {
                "acc": float(correct),
                "length": float(len(response)),
                "finished": float(finished),
            },
        }

    def _verify(self, problem: dict[str, Any], prompt: list[int], response: list[int]) -> bool:
        if not response:
            return False
        if problem["answer_type"] == "countdown":
            reasons = countdown.verify(np.array([prompt]), np.array([response]))
            return bool(reasons[0] == 0)
        from asymgrpo.verification import verify

        text = self.tokenizer.decode(response, skip_special_tokens=True)
        return verify(
            text,
            problem["ground_truth"],
            problem["answer_type"],
            unit=problem["unit"],
            tolerance=problem["tolerance"],
        ).correct


def _real_tokens(batch: Any) -> tuple[list[int], list[int]]:
    """Prompt (padded on the left) and response (padded on the right) without padding."""
    prompts, responses, mask = batch["prompts"], batch["responses"], batch["attention_mask"].bool()
    width = prompts.shape[-1]

    def kept(tokens: Tensor, where: Tensor) -> list[int]:
        return tokens[where].tolist()

    return kept(prompts, mask[:width]), kept(responses, mask[width:])
