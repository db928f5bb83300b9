"""Countdown: combine the given numbers with + - * so that the last result is the target.

A problem is 3 or 4 numbers and a target. A solution uses every number once, a step at a time::

    prompt    _ 3 5 8 49 ->        three numbers (blank-padded to four slots, ascending), the target, a separator
    response  8 * 5 40 40 ...      one step is `a op b c`, where c = a op b replaces a and b; an end token closes

Every intermediate result and the target lie in 1..99 (differences must be positive). All arrays here are numpy int64;
a token is an index into :data:`VOCABULARY`, in which every number 0..99 is one entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

PAD, EOS, ARROW, BLANK, PLUS, MINUS, TIMES, ZERO = range(8)
VOCABULARY = ["<pad>", "<eos>", "->", "_", "+", "-", "*", *(str(n) for n in range(100))]
SLOTS = 4
"""Numbers that fit into a prompt."""
PROMPT_TOKENS = SLOTS + 2
LARGEST = 99
"""Largest intermediate result and target."""
TRAINED_NUMBERS = range(1, 10)
"""Numbers in the problems of reinforcement learning."""
LARGE_NUMBERS = range(10, 21)
"""Numbers that only the warm start sees: problems with one of them are out of RL's distribution, but not unheard of."""
HELD_OUT_ONE_IN = 10
"""This share of all problems is never trained on."""
GENERATOR_VERSION = "countdown-1"


@dataclass(frozen=True)
class Problem:
    """Ascending numbers and a target."""

    numbers: tuple[int, ...]
    target: int


def response_tokens(numbers: int) -> int:
    """Length of a complete solution of that many numbers, the end token included."""
    return 4 * (numbers - 1) + 1


def prompt_tokens(problems: Sequence[Problem]) -> Tokens:
    """Prompts (N, 6): blanks, the numbers ascending, the target, the separator."""
    rows = [
        [BLANK] * (SLOTS - len(p.numbers)) + [ZERO + n for n in p.numbers] + [ZERO + p.target, ARROW] for p in problems
    ]
    return np.array(rows, np.int64).reshape(-1, PROMPT_TOKENS)


def to_text(tokens: Sequence[int]) -> str:
    """Words of one sequence up to its end token, which is left out. Padding before it is kept: it is a wrong word."""
    words = []
    for token in tokens:
        if token == EOS:
            break
        words.append(VOCABULARY[token])
    return " ".join(words)


def to_tokens(text: str) -> list[int]:
    """Tokens of a text; a word outside the vocabulary becomes -1, which no verifier accepts."""
    return [_INDEX.get(word, -1) for word in text.split()]


def held_out(numbers: Tokens, targets: Tokens) -> NDArray[np.bool_]:
    """Whether problems are kept from training: a fixed hash of the problem, so that no generator can leak them.

    Args:
        numbers: (N, 4), ascending, zeros for unused slots first.
        targets: (N,).
    """
    key = targets.astype(np.uint64)
    for column in numbers.astype(np.uint64).T:
        key = key * np.uint64(128) + column
    with np.errstate(over="ignore"):  # splitmix64's finaliser: arithmetic modulo 2^64 is meant
        key = key + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return key % np.uint64(HELD_OUT_ONE_IN) == 0


def random_solutions(
    rng: np.random.Generator, count: int, shares: Mapping[int, float], large_share: float = 0.0
) -> tuple[Tokens, Tokens]:
    """Problems that are not held out with one random valid solution each, for the supervised warm start.

    Args:
        rng: source of randomness.
        count: N, how many.
        shares: for each number of numbers (2..4), its share of the problems.
        large_share: share of attempts in which one number comes from :data:`LARGE_NUMBERS`.

    Returns:
        prompts (N, 6) and responses (N, 13), padded after the end token.
    """
    prompts, responses = [], []
    for numbers, share in shares.items():
        wanted = max(1, math.ceil(share * count))
        while wanted > 0:
            prompt, response = _attempt(rng, 4 * wanted + 64, numbers, large_share)
            prompts.append(prompt[:wanted])
            responses.append(response[:wanted])
            wanted -= len(prompts[-1])
    order = rng.permutation(sum(map(len, prompts)))[:count]
    return np.concatenate(prompts)[order], np.concatenate(responses)[order]


def _attempt(rng: np.random.Generator, rows: int, n: int, large_share: float) -> tuple[Tokens, Tokens]:
    """Random walks of n - 1 steps; those that stay in range and are not held out."""
    state = rng.integers(TRAINED_NUMBERS.start, TRAINED_NUMBERS.stop, (rows, n))
    large = rng.random(rows) < large_share
    state[large, 0] = rng.integers(LARGE_NUMBERS.start, LARGE_NUMBERS.stop, large.sum())
    numbers = np.zeros((rows, SLOTS), np.int64)
    numbers[:, SLOTS - n :] = np.sort(state, 1)
    response = np.full((rows, response_tokens(SLOTS)), PAD)
    valid, everyone = np.ones(rows, bool), np.arange(rows)
    for step in range(n - 1):
        state = rng.permuted(state, axis=1)
        a, b = state[:, 0], state[:, 1]
        operation = rng.integers(PLUS, TIMES + 1, rows)
        minus = operation == MINUS
        a, b = np.where(minus, np.maximum(a, b), a), np.where(minus, np.minimum(a, b), b)
        result = np.select([operation == PLUS, minus], [a + b, a - b], a * b)
        valid &= (result >= 1) & (result <= LARGEST)
        result = result.clip(1, LARGEST)  # rows that left the range go on harmlessly and are dropped
        response[everyone, 4 * step : 4 * step + 4] = np.stack([ZERO + a, operation, ZERO + b, ZERO + result], 1)
        state = np.concatenate([result[:, None], state[:, 2:]], 1)
    response[:, 4 * (n - 1)] = EOS
    valid &= ~held_out(numbers, state[:, 0])
    prompt = np.where(numbers == 0, BLANK, ZERO + numbers)
    prompt = np.concatenate([prompt, ZERO + state, np.full((rows, 1), ARROW)], 1)
    return prompt[valid], response[valid]


@cache
def solutions(numbers: tuple[int, ...]) -> dict[int, tuple[int, int]]:
    """For each target in reach of the ascending numbers: (solutions, those without a multiplication).

    Solutions that differ only in the order of a commutative step's operands count once.
    """
    if len(numbers) == 1:
        return {numbers[0]: (1, 1)}
    found: dict[int, tuple[int, int]] = {}
    for rest, results in _steps(numbers):
        for result, multiplied in results:
            for target, (all_, plain) in solutions(tuple(sorted((*rest, result)))).items():
                before = found.get(target, (0, 0))
                found[target] = (before[0] + all_, before[1] + (0 if multiplied else plain))
    return found


def _steps(numbers: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], list[tuple[int, bool]]]]:
    """The distinct pairs that can be combined: what is left, and the results in range (with: was it a product?)."""
    seen = set()
    for i, low in enumerate(numbers):
        for j in range(i + 1, len(numbers)):
            high = numbers[j]
            if (low, high) not in seen:
                seen.add((low, high))
                rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
                results = [(low + high, False), (high - low, False), (low * high, True)]
                yield rest, [(r, product) for r, product in results if 1 <= r <= LARGEST]


def training_problems(count: int, share_of_3: float, seed: int) -> list[Problem]:
    """Solvable problems of 3 and 4 numbers that are not held out, without repetition, in random order.

    Raises:
        ValueError: more problems are asked for than there are.
    """
    rng = np.random.default_rng(seed)
    wanted = {3: round(count * share_of_3)}
    wanted[4] = count - wanted[3]
    chosen: list[Problem] = []
    for numbers, many in wanted.items():
        everything = _all_problems(numbers)
        pool = [p for p, kept in zip(everything, _are_held_out(everything), strict=True) if not kept]
        if many > len(pool):
            raise ValueError(f"{many} training problems of {numbers} numbers were asked for, there are {len(pool)}")
        chosen += [pool[i] for i in rng.choice(len(pool), many, replace=False)]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def benchmark_problems(
    count: int,
    seed: int,
    numbers: int,
    needs_multiplication: bool = False,
    max_solutions: int | None = None,
    one_number_from: tuple[int, int] | None = None,
) -> list[Problem]:
    """Solvable problems for a benchmark, without repetition.

    All come from the held-out part. With `one_number_from` (inclusive range above 9) exactly one number is drawn from
    there: reinforcement learning never sees such problems.

    Raises:
        ValueError: more problems are asked for than there are.
    """
    rng = np.random.default_rng(seed)

    def suits(problem: Problem) -> bool:
        all_, plain = solutions(problem.numbers)[problem.target]
        return not (needs_multiplication and plain) and (max_solutions is None or all_ <= max_solutions)

    if one_number_from is None:
        everything = _all_problems(numbers)
        pool = [p for p, kept in zip(everything, _are_held_out(everything), strict=True) if kept and suits(p)]
    else:
        low, high = one_number_from
        found: set[Problem] = set()
        for _ in range(100 * count):
            if len(found) >= 2 * count:
                break
            small = rng.integers(TRAINED_NUMBERS.start, TRAINED_NUMBERS.stop, numbers - 1)
            chosen = tuple(sorted((*map(int, small), int(rng.integers(low, high + 1)))))
            problem = Problem(chosen, int(rng.choice(sorted(solutions(chosen)))))
            if _are_held_out([problem])[0] and suits(problem):
                found.add(problem)
        pool = sorted(found, key=lambda p: (p.numbers, p.target))
    if count > len(pool):
        raise ValueError(f"{count} problems were asked for, there are {len(pool)}")
    return [pool[i] for i in rng.choice(len(pool), count, replace=False)]


def _all_problems(numbers: int) -> list[Problem]:
    def ascending(left: int, lowest: int) -> Iterator[tuple[int, ...]]:
        if left == 0:
            yield ()
            return
        for first in range(lowest, TRAINED_NUMBERS.stop):
            for rest in ascending(left - 1, first):
                yield (first, *rest)

    return [Problem(n, t) for n in ascending(numbers, TRAINED_NUMBERS.start) for t in sorted(solutions(n))]


def _are_held_out(problems: Sequence[Problem]) -> NDArray[np.bool_]:
    padded = [[0] * (SLOTS - len(p.numbers)) + list(p.numbers) for p in problems]
    return held_out(np.array(padded), np.array([p.target for p in problems]))


_INDEX = {word: index for index, word in enumerate(VOCABULARY)}
