"""Sampling with the small policy's own code: countdown only, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from asymgrpo.evaluation.engine import Draw, Problems, Response, Settings
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.policy.generation import sample
from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import text_of
from asymgrpo.training.runtime import prepare

CHUNK = 8
"""Samples per problem that are decoded as one group."""


class TorchEngine:
    """The small policy of a Hugging Face directory, loaded."""

    def __init__(self, policy: Path, settings: Settings) -> None:
        self._policy = huggingface.load(policy, prepare(settings.device, settings.threads))
        self._max_tokens = settings.max_tokens

    def prompt_tokens(self, problems: Problems) -> list[int]:
        """Length of every prompt in tokens."""
        return [len(countdown.to_tokens(text_of(prompt))) for prompt in problems.prompts]

    def sample(self, problems: Problems, draws: Sequence[Draw]) -> list[list[list[Response]]]:
        """Responses by draw, problem and sample."""
        prompts = [countdown.to_tokens(text_of(prompt)) for prompt in problems.prompts]
        tokens = torch.tensor(prompts, device=self._policy.embedding.device)
        return [self._draw(tokens, draw) for draw in draws]

    def _draw(self, prompts: torch.Tensor, draw: Draw) -> list[list[Response]]:
        generator = torch.Generator().manual_seed(draw.stream)
        uniforms = torch.rand((len(prompts), draw.samples, self._max_tokens), generator=generator).to(prompts.device)
        parts = [
            sample(
                self._policy,
                prompts,
                chunk.shape[1],
                self._max_tokens,
                draw.temperature,
                countdown.PAD,
                countdown.EOS,
                chunk if draw.temperature > 0 else None,
            )
            for chunk in uniforms.split(CHUNK, 1)
        ]
        responses = torch.cat([part.tokens for part in parts], 1).cpu().numpy()
        lengths = torch.cat([part.mask.sum(-1) for part in parts], 1).cpu().numpy()
        ended = (responses == countdown.EOS).any(-1)
        return [
            [
                Response(
                    countdown.to_text(responses[problem, number].tolist()),
                    int(lengths[problem, number]),
                    "stop" if ended[problem, number] else "length",
                )
                for number in range(draw.samples)
            ]
            for problem in range(len(prompts))
        ]
