"""Is a response a solution of its countdown problem? All rollouts of a batch at once, with numpy.

The verifier simulates the response: each step must be well-formed, use two numbers that are there, and state the right
result; the last result must be the target. It never evaluates text, so nothing in a response can talk it into a reward.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asymgrpo.tasks.countdown import (
    ARROW,
    BLANK,
    EOS,
    LARGEST,
    MINUS,
    PAD,
    PLUS,
    PROMPT_TOKENS,
    SLOTS,
    TIMES,
    VOCABULARY,
    ZERO,
    Tokens,
    to_tokens,
)

REASONS = (
    "",
    "no end token",
    "wrong number of steps",
    "malformed step",
    "number not available",
    "wrong result",
    "result out of range",
    "misses the target",
)
"""What a reason code of :func:`verify` means; 0 is a correct response."""


def verify(prompts: Tokens, responses: Tokens) -> NDArray[np.int8]:
    """Reason codes (N,) int8, 0 for a correct response: the first thing that is wrong with it, see :data:`REASONS`.

    Args:
        prompts: (N, 6) tokens as :func:`asymgrpo.tasks.countdown.prompt_tokens` makes them.
        responses: (N, T) tokens; what follows the first end token is not looked at.

    Raises:
        ValueError: a prompt is no countdown prompt.
    """
    prompts, responses = np.asarray(prompts), np.asarray(responses)
    _check_prompts(prompts)
    rows, width = responses.shape
    values = prompts[:, :SLOTS] - ZERO
    state = np.where(prompts[:, :SLOTS] == BLANK, 0, values)  # 0: an empty slot; no number in play is 0
    target = prompts[:, SLOTS] - ZERO
    numbers = (state > 0).sum(1)
    reason = np.zeros(rows, np.int8)

    def fail(where: NDArray[np.bool_], code: int) -> None:
        reason[(reason == 0) & where] = code

    ended = responses == EOS
    end = np.where(ended.any(1), ended.argmax(1), -1)
    fail(end < 0, 1)
    fail(end != 4 * (numbers - 1), 2)

    everyone, last = np.arange(rows), np.zeros(rows, np.int64)
    for step in range(min(SLOTS - 1, width // 4)):
        active = (reason == 0) & (step < numbers - 1)
        a, operation, b, c = responses[:, 4 * step : 4 * step + 4].T
        well_formed = (a >= ZERO) & (b >= ZERO) & (c >= ZERO) & (operation >= PLUS) & (operation <= TIMES)
        fail(active & ~well_formed, 3)
        a, b, c = a - ZERO, b - ZERO, c - ZERO
        for operand in (a, b):  # one after the other: two equal operands need two slots
            available = (state == operand[:, None]) & (operand[:, None] > 0)
            fail(active & ~available.any(1), 4)
            taken = active & available.any(1)
            state[everyone[taken], available.argmax(1)[taken]] = 0
        result = np.select([operation == PLUS, operation == MINUS], [a + b, a - b], a * b)
        fail(active & (c != result), 5)
        fail(active & ((result < 1) | (result > LARGEST)), 6)
        slot = (state == 0).argmax(1)
        placed = active & (reason == 0)
        state[everyone[placed], slot[placed]] = c[placed]
        last = np.where(active, c, last)
    fail(last != target, 7)
    return reason


def verify_texts(prompts: Sequence[str], responses: Sequence[str], finished: Sequence[bool]) -> NDArray[np.int8]:
    """:func:`verify` for decoded texts; `finished` says whether the response ended by itself (an end token follows)."""
    rows = [to_tokens(text) + ([EOS] if end else []) for text, end in zip(responses, finished, strict=True)]
    if not rows:
        return np.zeros(0, np.int8)
    padded = np.full((len(rows), max(1, *map(len, rows))), PAD, np.int64)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return verify(np.array([to_tokens(text) for text in prompts], np.int64).reshape(len(rows), -1), padded)


def _check_prompts(prompts: Tokens) -> None:
    good = prompts.ndim == 2 and prompts.shape[1] == PROMPT_TOKENS and bool((prompts[:, -1] == ARROW).all())
    if good:
        slots = prompts[:, : SLOTS + 1]
        good = bool((((slots > ZERO) & (slots < len(VOCABULARY))) | (slots == BLANK)).all())
        good = good and bool((prompts[:, SLOTS] != BLANK).all())
    if not good:
        raise ValueError(f"a countdown prompt has {SLOTS} numbers or blanks, a target and '->': found {prompts[:1]}")
