"""The verifier against a slow, obvious checker, on thousands of solutions that were tampered with.

The checker reads words, keeps the numbers that are left in a Counter and does one step at a time. It shares nothing
with the verifier but the vocabulary.
"""

import random
from collections import Counter

import numpy as np
import pytest

from asymgrpo.tasks import countdown
from asymgrpo.tasks.countdown import EOS, PAD, VOCABULARY
from asymgrpo.verification.countdown import REASONS, verify, verify_texts

NUMBERS = {str(n): n for n in range(100)}
WIDTH = 20
"""Mutated responses are padded, or cut, to this; the longest solution has 13 tokens."""


def is_solution(prompt, words):
    """Whether the words (str) of a response solve a prompt (str); only what comes before <eos> counts."""
    *slots, target, _ = prompt.split()
    left = Counter(NUMBERS[word] for word in slots if word != "_")
    if "<eos>" not in words:
        return False
    words = words[: words.index("<eos>")]
    if len(words) == 0 or len(words) % 4:
        return False
    for start in range(0, len(words), 4):
        first, operation, second, stated = words[start : start + 4]
        if not {first, second, stated} <= set(NUMBERS):
            return False
        a, b, c = NUMBERS[first], NUMBERS[second], NUMBERS[stated]
        if operation == "+":
            result = a + b
        elif operation == "-":
            result = a - b
        elif operation == "*":
            result = a * b
        else:
            return False
        for used in (a, b):
            if left[used] == 0:
                return False
            left[used] -= 1
        if result != c or not 1 <= result <= 99:
            return False
        left[c] += 1
    return left.total() == 1 and left[NUMBERS[target]] == 1


def words_of(tokens):
    return [VOCABULARY[token] if 0 <= token < len(VOCABULARY) else "?" for token in tokens]


# -- ways to tamper with a response: (random, prompt, tokens without padding) -> None, in place -----------------------


def replace(r, prompt, response):
    response[r.randrange(len(response))] = r.randrange(len(VOCABULARY))


def replace_by_odd(r, prompt, response):
    odd = [-1, -7, 107, 108, 200, 10**6, 2**31, 2**40 + 5, 2**62, -(2**62), countdown.ZERO - 1, PAD]
    response[r.randrange(len(response))] = r.choice(odd)


def replace_by_near(r, prompt, response):
    response[r.randrange(len(response))] += r.choice([-1, 1])


def swap(r, prompt, response):
    i, j = r.randrange(len(response)), r.randrange(len(response))
    response[i], response[j] = response[j], response[i]


def swap_operands(r, prompt, response):
    i = 4 * r.randrange(max(1, len(response) // 4))
    if i + 2 < len(response):
        response[i], response[i + 2] = response[i + 2], response[i]


def delete(r, prompt, response):
    del response[r.randrange(len(response))]


def insert(r, prompt, response):
    response.insert(r.randrange(len(response) + 1), r.randrange(len(VOCABULARY)))


def insert_padding(r, prompt, response):
    response.insert(r.randrange(len(response)), PAD)


def duplicate(r, prompt, response):
    i = r.randrange(len(response))
    response.insert(i, response[i])


def move_end(r, prompt, response):
    if EOS in response:
        response.remove(EOS)
        response.insert(r.randrange(len(response) + 1), EOS)


def drop_end(r, prompt, response):
    if EOS in response:
        response.remove(EOS)


def reorder_steps(r, prompt, response):
    steps = [response[i : i + 4] for i in range(0, len(response) // 4 * 4, 4)]
    tail = response[4 * len(steps) :]
    r.shuffle(steps)
    response[:] = [token for step in steps for token in step] + tail


def repeat_step(r, prompt, response):
    i = 4 * r.randrange(max(1, len(response) // 4))
    response[i:i] = response[i : i + 4]


def drop_step(r, prompt, response):
    i = 4 * r.randrange(max(1, len(response) // 4))
    del response[i : i + 4]


def extra_step(r, prompt, response):
    """A correct step more: the last result and a number, used once too often, or one that never was there."""
    if response and EOS in response and response.index(EOS) >= 4:
        end = response.index(EOS)
        last, other = response[end - 1], r.choice([*prompt[:4], countdown.ZERO + 1])
        response[end:end] = step(r, last, other)


def change_operation(r, prompt, response):
    """Another operation with its own right result, which may be out of range or lead elsewhere."""
    i = 4 * r.randrange(max(1, len(response) // 4))
    if i + 3 < len(response):
        response[i : i + 4] = step(r, response[i], response[i + 2])


def reuse_a_number(r, prompt, response):
    """An operand becomes another number of the prompt, and the result is right for it."""
    i = 4 * r.randrange(max(1, len(response) // 4))
    if i + 3 < len(response):
        response[i + r.choice([0, 2])] = r.choice(prompt[:4])
        response[i : i + 4] = step(r, response[i], response[i + 2], response[i + 1])


def invent_a_number(r, prompt, response):
    """An operand that is nowhere, and the result is right for it."""
    i = 4 * r.randrange(max(1, len(response) // 4))
    if i + 3 < len(response):
        response[i + r.choice([0, 2])] = countdown.ZERO + r.randrange(30)
        response[i : i + 4] = step(r, response[i], response[i + 2], response[i + 1])


def other_target(r, prompt, response):
    prompt[4] = countdown.ZERO + r.randint(1, 99)


def other_number(r, prompt, response):
    i = r.randrange(4)
    prompt[i] = r.choice([countdown.BLANK, countdown.ZERO + r.randint(1, 20)])


def shuffle_prompt(r, prompt, response):
    numbers = prompt[:4]
    r.shuffle(numbers)
    prompt[:4] = numbers


def write_after_the_end(r, prompt, response):
    response.extend(r.choices([EOS, PAD, *range(len(VOCABULARY)), -1], k=r.randint(1, 5)))


def step(r, first, second, operation=None):
    """Tokens of a step with its arithmetic result, whatever that is: negative, zero, or above 99."""
    operation = r.choice([countdown.PLUS, countdown.MINUS, countdown.TIMES]) if operation is None else operation
    a, b = first - countdown.ZERO, second - countdown.ZERO
    result = {countdown.PLUS: a + b, countdown.MINUS: a - b, countdown.TIMES: a * b}.get(operation, 0)
    return [first, operation, second, countdown.ZERO + result]


MUTATIONS = [
    replace,
    insert_padding,
    replace_by_odd,
    replace_by_near,
    swap,
    swap_operands,
    swap_operands,
    delete,
    insert,
    duplicate,
    move_end,
    drop_end,
    reorder_steps,
    repeat_step,
    drop_step,
    extra_step,
    change_operation,
    reuse_a_number,
    invent_a_number,
    other_target,
    other_number,
    shuffle_prompt,
    write_after_the_end,
]


def unchecked_walk(r):
    """A prompt and steps whose arithmetic is right and whose end is the target, but which may leave 1..99 on the way,
    and may use a zero: what is wrong with them is nothing else.
    """
    while True:
        numbers = sorted(
            r.choice([r.randint(1, 9), r.randint(1, 9), r.randint(1, 20)]) for _ in range(r.choice([3, 4]))
        )
        state, tokens = [*numbers, 0] if r.random() < 0.1 else list(numbers), []
        for _ in range(len(numbers) - 1):
            a, b = (state.pop(r.randrange(len(state))) for _ in range(2))
            if r.random() < 0.3 and a in state:
                b = a
            tokens += step(r, countdown.ZERO + a, countdown.ZERO + b)
            state.append(tokens[-1] - countdown.ZERO)
        if 1 <= state[-1] <= 99:
            blanks = [countdown.BLANK] * (4 - len(numbers))
            words = [countdown.ZERO + n for n in (*numbers, state[-1])]
            return [*blanks, *words, countdown.ARROW], [*tokens, EOS]


@pytest.fixture(scope="module")
def tampered():
    """(prompts, responses, were they changed): 12 000 rows with up to two mutations, 4 000 unchecked walks."""
    arrays = countdown.random_solutions(np.random.default_rng(0), 4000, {2: 0.1, 3: 0.4, 4: 0.5}, 0.2)
    r = random.Random(0)
    prompts, responses, changed = [], [], []
    for number in range(12_000):
        prompt, response = (array[number % 4000].tolist() for array in arrays)
        original = response[: response.index(EOS) + 1]
        mutated = list(original)
        before = list(prompt)
        for mutation in r.choices(MUTATIONS, k=r.choice([0, 1, 1, 1, 2])):
            if mutated:
                mutation(r, prompt, mutated)
        if all(slot == countdown.BLANK for slot in prompt[:4]):
            prompt = before
        prompts.append(prompt)
        responses.append((mutated + [PAD] * WIDTH)[:WIDTH])
        changed.append(mutated != original or prompt != before)
    for _ in range(4000):
        prompt, response = unchecked_walk(r)
        prompts.append(prompt)
        responses.append((response + [PAD] * WIDTH)[:WIDTH])
        changed.append(True)
    return np.array(prompts), np.array(responses), np.array(changed)


@pytest.fixture(scope="module")
def reasons(tampered):
    return verify(tampered[0], tampered[1])


def test_agrees_with_the_slow_checker(tampered, reasons):
    prompts, responses, changed = tampered
    expected = np.array(
        [
            is_solution(countdown.to_text(prompt), words_of(response))
            for prompt, response in zip(prompts.tolist(), responses.tolist(), strict=True)
        ]
    )
    disagree = np.flatnonzero(expected != (reasons == 0))
    example = disagree[:1].tolist() and (words_of(prompts[disagree[0]]), words_of(responses[disagree[0]]))
    assert len(disagree) == 0, example
    # the comparison means something: both verdicts are frequent, also among the rows that were changed
    assert changed.sum() > 8000
    assert (expected & changed).sum() > 1000
    assert (~expected & changed).sum() > 5000
    assert expected[~changed].all()


def test_every_reason_occurs(reasons):
    assert reasons.dtype == np.int8
    assert set(reasons.tolist()) == set(range(len(REASONS)))


def test_a_verdict_does_not_depend_on_the_batch(tampered, reasons):
    prompts, responses, _ = tampered
    alone = [int(verify(prompts[i : i + 1], responses[i : i + 1])[0]) for i in range(0, len(prompts), 40)]
    assert alone == reasons[::40].tolist()
    order = np.random.default_rng(1).permutation(len(prompts))
    assert (verify(prompts[order], responses[order]) == reasons[order]).all()
    # more room behind the responses changes nothing either
    wider = np.concatenate([responses, np.full((len(prompts), 7), PAD)], 1)
    assert (verify(prompts, wider) == reasons).all()


def test_neither_argument_is_changed(tampered):
    prompts, responses, _ = (array.copy() for array in tampered)
    verify(prompts, responses)
    assert (prompts == tampered[0]).all()
    assert (responses == tampered[1]).all()


CASES = [
    ("_ 3 5 8 49 ->", "8 * 5 40 40 + 3 43", 7),  # right, but not 49
    ("_ 3 5 8 43 ->", "8 * 5 40 40 + 3 43", 0),
    ("_ 3 5 8 43 ->", "5 * 8 40 3 + 40 43", 0),
    ("_ 3 5 8 43 ->", "8 * 5 40", 2),
    ("_ 3 5 8 40 ->", "8 * 5 40", 2),  # the target, but not with every number
    ("_ 3 5 8 43 ->", "", 2),
    ("_ 3 5 8 43 ->", "8 * 5 40 40 + 3 43 43", 2),
    ("_ 3 5 8 43 ->", "8 * 5 41 41 + 3 44", 5),
    ("_ 3 5 8 43 ->", "8 * 5 40 40 3 + 43", 3),
    ("_ 3 5 8 43 ->", "8 * 5 40 40 -> 3 43", 3),
    ("_ 3 5 8 43 ->", "8 * _ 40 40 + 3 43", 3),
    ("_ 3 5 8 43 ->", "8 * 08 40 40 + 3 43", 3),
    ("_ 3 5 8 43 ->", "8 * five 40 40 + 3 43", 3),
    ("_ 3 5 8 43 ->", "8 * 5 40 <pad> + 3 43", 3),
    ("_ 3 5 8 43 ->", "8 * 5 40 41 + 2 43", 4),
    ("_ 3 5 8 16 ->", "8 + 8 16 16 + 0 16", 4),  # one eight, used twice
    ("_ 3 5 8 10 ->", "8 - 3 5 5 + 5 10", 0),  # the result serves like any number
    ("_ 3 5 8 8 ->", "8 * 0 0 0 + 8 8", 4),  # zero is the mark of an empty slot, and never available
    ("_ 3 3 8 8 ->", "3 - 3 0 0 + 8 8", 6),
    ("_ 3 5 8 6 ->", "3 - 5 -2 -2 + 8 6", 3),
    ("9 9 9 9 99 ->", "9 * 9 81 81 + 9 90 90 + 9 99", 0),
    ("9 9 9 9 99 ->", "9 * 9 81 81 + 9 90 9 + 90 99", 0),
    ("_ 9 9 9 9 ->", "9 + 9 18 18 - 9 9", 0),
    ("_ _ _ 7 7 ->", "7 + 7 14", 2),
    ("_ 3 12 13 99 ->", "12 * 13 156 156 + 3 159", 3),  # 156 is no word
]


@pytest.mark.parametrize(("prompt", "response", "code"), CASES)
def test_reasons(prompt, response, code):
    found = int(verify_texts([prompt], [response], [True])[0])
    assert REASONS[found] == REASONS[code]
    assert (found == 0) == is_solution(prompt, [*response.split(), "<eos>"])
    assert REASONS[int(verify_texts([prompt], [response], [False])[0])] == "no end token"


def test_out_of_range_before_it_can_come_back():
    """12 * 13 = 156 as a token id: the arithmetic is right and the end would be too, but 156 is above 99."""
    z = countdown.ZERO
    prompt = countdown.prompt_tokens([countdown.Problem((12, 13, 60), 96)])
    response = [z + 12, countdown.TIMES, z + 13, z + 156, z + 156, countdown.MINUS, z + 60, z + 96, EOS]
    assert REASONS[int(verify(prompt, np.array([response]))[0])] == "result out of range"


def test_texts_with_foreign_words():
    """Words that Python, or a lenient parser, would take for numbers or operators."""
    prompts, responses = countdown.random_solutions(np.random.default_rng(3), 300, {2: 0.2, 3: 0.4, 4: 0.4})
    r = random.Random(3)
    number = ["0{}", "00{}", "+{}", "{}.0", "{}e0", "{}_", "({})", "{}L", "0x{}", "{},", "{}\u200b", "--{}"]
    operation = ["{}{}", "×", "−", "–", "∗", "/", "^", "plus", "{}=", "."]  # look-alikes of * and -
    wrong, right = [], []
    for tokens in responses.tolist():
        text = countdown.to_text(tokens)
        right.append(text)
        words = text.split()
        i = r.randrange(len(words))
        pattern = r.choice(operation if i % 4 == 1 else number)
        words[i] = pattern.replace("{}", words[i])
        wrong.append(" ".join(words))
    texts = [countdown.to_text(tokens) for tokens in prompts.tolist()]
    assert not verify_texts(texts, right, [True] * 300).any()
    assert verify_texts(texts, wrong, [True] * 300).all()
    assert not any(is_solution(p, [*w.split(), "<eos>"]) for p, w in zip(texts, wrong, strict=True))
    # superscripts and digits of other scripts are digits to str.isdigit and to int()
    assert verify_texts(["_ _ 2 3 5 ->"] * 3, ["² + 3 5", "٢ + 3 5", "2 + 3 5"], [True] * 3).tolist() == [3, 3, 0]


def test_texts_and_tokens_get_the_same_verdict(tampered, reasons):
    """A response is judged from tokens in training and from its text in the final evaluation."""
    prompts, responses, _ = tampered
    known = ((responses >= 0) & (responses < len(VOCABULARY))).all(1)
    rows = np.flatnonzero(known)
    assert len(rows) > 8000
    ended = (responses[rows] == EOS).any(1)
    # without an end token the tail is no padding but what the policy wrote
    texts = [countdown.to_text(row) for row in responses[rows].tolist()]
    found = verify_texts([countdown.to_text(row) for row in prompts[rows].tolist()], texts, ended.tolist())
    assert ((found == 0) == (reasons[rows] == 0)).all()


@pytest.mark.parametrize("responses", [[], [""], ["", ""]])
def test_texts_of_nothing(responses):
    found = verify_texts(["_ 3 5 8 43 ->"] * len(responses), responses, [False] * len(responses))
    assert found.tolist() == [1] * len(responses)


GOOD = [countdown.BLANK, *(countdown.ZERO + n for n in (3, 5, 8, 43)), countdown.ARROW]
BAD = {
    "too short": [GOOD[:5]],
    "too long": [[*GOOD, countdown.ARROW]],
    "no separator": [[*GOOD[:5], PAD]],
    "an operator for a number": [[GOOD[0], countdown.PLUS, *GOOD[2:]]],
    "zero": [[GOOD[0], countdown.ZERO, *GOOD[2:]]],
    "padding": [[PAD, *GOOD[1:]]],
    "unknown": [[-1, *GOOD[1:]]],
    "no target": [[*GOOD[:4], countdown.BLANK, countdown.ARROW]],
    "target zero": [[*GOOD[:4], countdown.ZERO, countdown.ARROW]],
    "above the vocabulary": [[len(VOCABULARY), *GOOD[1:]]],
    "one of two": [GOOD, [*GOOD[:5], EOS]],
    "one dimension": GOOD,
}


@pytest.mark.parametrize("prompts", BAD.values(), ids=BAD)
def test_what_is_no_prompt_is_an_error(prompts):
    with pytest.raises(ValueError, match="a countdown prompt has 4 numbers or blanks, a target"):
        verify(np.array(prompts), np.full((2 if len(prompts) == 2 else 1, 13), EOS))


def test_a_text_that_is_no_prompt_is_an_error():
    with pytest.raises(ValueError, match="a countdown prompt has"):
        verify_texts(["_ 3 5 x 43 ->"], ["3"], [True])
