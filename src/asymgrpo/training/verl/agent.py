"""verl's single-turn agent loop for policies that do not speak ChatML, such as the small countdown policy.

verl picks the handling of turn boundaries by the architecture alone, and for Qwen3 insists on ChatML's tokens, which a
vocabulary of 107 words has not. One prompt and one response need no boundaries.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop


class PlainSingleTurn(SingleTurnAgentLoop):
    """As verl's, with its default boundaries."""

    def __init__(self, *args: Any, hf_model_type: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, hf_model_type=None, **kwargs)
