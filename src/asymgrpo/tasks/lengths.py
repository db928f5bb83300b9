"""How long prompts are. None is ever dropped for its length: a run's record lists those that are over the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asymgrpo.tasks.problems import Message


def prompt_lengths(prompts: Sequence[Sequence[Message]], tokenizer: Any, **template: Any) -> list[int]:
    """Tokens of each prompt as the policy is given it: by the chat template, up to where the response begins.

    Args:
        prompts: messages of each prompt.
        tokenizer: a tokenizer of Hugging Face's transformers with a chat template.
        template: further arguments of the template, e.g. ``enable_thinking=False``.
    """
    texts = [
        tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True, **template)
        for prompt in prompts
    ]
    return [len(tokens) for tokens in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def overlong(
    prompts: Sequence[Sequence[Message]], tokenizer: Any, limit: int, **template: Any
) -> list[tuple[int, int]]:
    """(index, tokens) of every prompt of more than `limit` tokens."""
    lengths = prompt_lengths(prompts, tokenizer, **template)
    return [(index, length) for index, length in enumerate(lengths) if length > limit]
