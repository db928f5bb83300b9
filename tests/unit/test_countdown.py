"""The countdown task: problems, solutions and the held-out split, each against a slow and obvious counterpart."""

from collections import Counter, defaultdict
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymgrpo import records
from asymgrpo.tasks import countdown
from asymgrpo.tasks.countdown import EOS, PAD, VOCABULARY, Problem
from asymgrpo.tasks.prepare import write_benchmark, write_training_problems
from asymgrpo.tasks.problems import text_of


def every_solution(numbers):
    """Every response that solves a problem of these numbers, as tuples of (a, op, b, c), by target."""
    found = defaultdict(set)

    def walk(state, steps):
        if len(state) == 1:
            found[state[0]].add(steps)
        for i, j in permutations(range(len(state)), 2):
            a, b = state[i], state[j]
            rest = [n for k, n in enumerate(state) if k not in (i, j)]
            for operation, c in (("+", a + b), ("-", a - b), ("*", a * b)):
                if 1 <= c <= 99:
                    walk([*rest, c], (*steps, (a, operation, b, c)))

    walk(list(numbers), ())
    return found


def counted(numbers):
    """target -> (solutions up to the operands' order in + and *, those without *), the slow way."""
    result = {}
    for target, responses in every_solution(numbers).items():
        distinct = {tuple((max(a, b), op, min(a, b), c) for a, op, b, c in steps) for steps in responses}
        plain = [steps for steps in distinct if all(op != "*" for _, op, _, _ in steps)]
        result[target] = (len(distinct), len(plain))
    return result


def kept_out(numbers, target):
    """The held-out rule in Python's own integers: splitmix64 of the digits of (target, four numbers), base 128."""
    key = target
    for n in [0] * (4 - len(numbers)) + sorted(numbers):
        key = key * 128 + n
    mask = 2**64 - 1
    key = (key + 0x9E3779B97F4A7C15) & mask
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & mask
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & mask
    return (key ^ (key >> 31)) % 10 == 0


def parsed(prompt):
    """(numbers, target) of a prompt's tokens."""
    *slots, target, arrow = [VOCABULARY[token] for token in prompt]
    assert arrow == "->"
    assert len(slots) == 4
    return tuple(int(word) for word in slots if word != "_"), int(target)


# -- words and tokens -------------------------------------------------------------------------------------------------


def test_every_number_is_one_word():
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 107
    assert [VOCABULARY[countdown.ZERO + n] for n in range(100)] == [str(n) for n in range(100)]
    named = {"<pad>": PAD, "<eos>": EOS, "->": countdown.ARROW, "_": countdown.BLANK}
    named |= {"+": countdown.PLUS, "-": countdown.MINUS, "*": countdown.TIMES}
    assert all(VOCABULARY[token] == word for word, token in named.items())


def test_a_prompt_has_six_tokens():
    prompts = countdown.prompt_tokens([Problem((3, 5, 8), 49), Problem((1, 1, 2, 20), 99), Problem((4, 9), 5)])
    assert prompts.shape == (3, countdown.PROMPT_TOKENS)
    assert prompts.dtype == np.int64
    texts = [countdown.to_text(row) for row in prompts.tolist()]
    assert texts == ["_ 3 5 8 49 ->", "1 1 2 20 99 ->", "_ _ 4 9 5 ->"]
    assert countdown.prompt_tokens([]).shape == (0, countdown.PROMPT_TOKENS)


@given(st.lists(st.integers(2, len(VOCABULARY) - 1), max_size=20))
def test_text_and_tokens_are_the_same_sequence(tokens):
    assert countdown.to_tokens(countdown.to_text(tokens)) == tokens
    assert countdown.to_text([*tokens, EOS, PAD, PAD]) == countdown.to_text(tokens)
    assert countdown.to_text([*tokens, EOS, *tokens]) == countdown.to_text(tokens)


def test_a_padding_token_inside_a_response_stays_visible():
    """Or a response with a stray <pad> would be wrong in training and right once it is read from its text."""
    tokens = countdown.to_tokens("3 + <pad> 5 8")
    assert countdown.to_tokens(countdown.to_text([*tokens, EOS, PAD])) == tokens


@pytest.mark.parametrize("word", ["08", "100", "-1", "+5", "5.0", "x", "³", "٣", "１", "1_0", "PLUS", "**", "1e1"])
def test_a_word_outside_the_vocabulary_is_no_token(word):
    assert countdown.to_tokens(f"8 {word} 5") == [countdown.ZERO + 8, -1, countdown.ZERO + 5]


def test_a_solution_of_n_numbers_has_n_minus_one_steps_and_an_end():
    assert [countdown.response_tokens(n) for n in (2, 3, 4)] == [5, 9, 13]


# -- the held-out split -----------------------------------------------------------------------------------------------

# Literal, because benchmarks and training sets of earlier results rest on them.
HELD_OUT_OF_123 = [1, 13, 16, 41, 59, 98]
HELD_OUT_OF_3588 = [6, 10, 16, 25, 36, 52, 65, 66, 78, 83, 84, 85, 93]


@pytest.mark.parametrize(
    ("numbers", "targets"), [((1, 2, 3), HELD_OUT_OF_123), ((3, 5, 8, 8), HELD_OUT_OF_3588)], ids=["three", "four"]
)
def test_the_held_out_problems_never_change(numbers, targets):
    padded = [[0] * (4 - len(numbers)) + list(numbers)] * 99
    flags = countdown.held_out(np.array(padded), np.arange(1, 100))
    assert (np.flatnonzero(flags) + 1).tolist() == targets


def test_held_out_is_the_same_in_plain_integers():
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.integers(0, 21, (3000, 4)), 1)
    targets = rng.integers(1, 100, 3000)
    expected = [
        kept_out([n for n in row if n], target) for row, target in zip(numbers.tolist(), targets.tolist(), strict=True)
    ]
    for kind in (np.int64, np.int32, np.uint8):  # whatever the integers are stored in
        assert countdown.held_out(numbers.astype(kind), targets.astype(kind)).tolist() == expected


@pytest.mark.parametrize("n", [3, 4])
def test_a_tenth_of_all_problems_is_held_out(n):
    problems = [p for p in countdown._all_problems(n) if kept_out(p.numbers, p.target)]
    total = len(countdown._all_problems(n))
    assert abs(len(problems) / total - 0.1) < 4 * (0.09 / total) ** 0.5
    if n == 4:  # and it is spread over the targets
        share = Counter(p.target for p in problems)
        every = Counter(p.target for p in countdown._all_problems(n))
        assert all(share[t] < 0.3 * every[t] for t in every if every[t] > 50)


# -- solutions --------------------------------------------------------------------------------------------------------


def test_solutions_of_two_numbers():
    assert countdown.solutions((3, 4)) == {7: (1, 1), 1: (1, 1), 12: (1, 0)}
    assert countdown.solutions((2, 2)) == {4: (2, 1)}  # 2 + 2 and 2 * 2; 2 - 2 = 0 is out of range


@pytest.mark.parametrize("seed", range(3))
def test_solutions_are_counted_as_by_enumeration(seed):
    rng = np.random.default_rng(seed)
    sets = [tuple(sorted(rng.integers(1, high, n).tolist())) for n, high in [(2, 21), (3, 10), (3, 21), (4, 10)]]
    sets += [[(7, 7, 7), (2, 2, 3, 3), (1, 2, 2, 20)][seed], [(1, 1), (9, 9), (1, 99)][seed]]
    for numbers in sets:
        assert countdown.solutions(numbers) == counted(numbers), numbers


def test_all_problems_of_three_numbers_are_there_once():
    problems = countdown._all_problems(3)
    assert len(problems) == len(set(problems))
    sets = {(a, b, c) for a in range(1, 10) for b in range(a, 10) for c in range(b, 10)}
    assert {p.numbers for p in problems} == sets
    for numbers in list(sets)[::8]:
        assert {p.target for p in problems if p.numbers == numbers} == set(every_solution(numbers))


# -- random solutions for the warm start ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_solutions():
    return countdown.random_solutions(np.random.default_rng(5), 2000, {2: 0.2, 3: 0.3, 4: 0.5}, 0.3)


def test_every_random_solution_solves_its_problem(random_solutions):
    prompts, responses = random_solutions
    assert prompts.shape == (2000, 6)
    assert responses.shape == (2000, 13)
    assert prompts.dtype == responses.dtype == np.int64
    known = {}
    for prompt, response in zip(prompts.tolist(), responses.tolist(), strict=True):
        numbers, target = parsed(prompt)
        assert list(numbers) == sorted(numbers)
        end = response.index(EOS)
        assert set(response[end + 1 :]) <= {PAD}
        words = [VOCABULARY[token] for token in response[:end]]
        steps = tuple((int(a), op, int(b), int(c)) for a, op, b, c in zip(*[iter(words)] * 4, strict=True))
        if numbers not in known:
            known[numbers] = every_solution(numbers) if len(numbers) < 4 else None
        if len(numbers) < 4:
            assert steps in known[numbers][target]
        else:
            left = Counter(numbers)
            for a, op, b, c in steps:
                assert c == {"+": a + b, "-": a - b, "*": a * b}[op]
                assert 1 <= c <= 99
                left.subtract([a, b])
                assert min(left.values()) >= 0
                left[c] += 1
            assert +left == Counter([target])


def test_no_random_solution_is_held_out(random_solutions):
    assert not any(kept_out(*parsed(prompt)) for prompt in random_solutions[0].tolist())


def test_shares_of_random_solutions(random_solutions):
    prompts, _ = random_solutions
    sizes = Counter(len(parsed(prompt)[0]) for prompt in prompts.tolist())
    assert sizes == {2: 400, 3: 600, 4: 1000}
    # in random order, not one size after the other
    assert len({len(parsed(prompt)[0]) for prompt in prompts[:40].tolist()}) == 3


@pytest.mark.parametrize("count", [10, 64, 100, 256])
@pytest.mark.parametrize("shares", [{2: 0.1, 3: 0.3, 4: 0.6}, {2: 1 / 3, 3: 1 / 3, 4: 1 / 3}, {4: 1.0}])
def test_as_many_random_solutions_as_asked_for(count, shares):
    prompts, responses = countdown.random_solutions(np.random.default_rng(0), count, shares)
    assert len(prompts) == len(responses) == count


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_large_numbers_of_random_solutions(share):
    prompts, _ = countdown.random_solutions(np.random.default_rng(1), 1000, {3: 0.5, 4: 0.5}, share)
    large = Counter(sum(n > 9 for n in parsed(prompt)[0]) for prompt in prompts.tolist())
    assert set(large) <= {0, 1}  # never two
    # a large number leaves the range more often, so fewer of those attempts survive
    assert {0.0: large[1] == 0, 1.0: large[1] == 1000, 0.3: 100 < large[1] < 400}[share]
    assert max(max(parsed(prompt)[0]) for prompt in prompts.tolist()) <= 20


def test_random_solutions_depend_on_the_generator_only():
    first, again, other = (
        countdown.random_solutions(np.random.default_rng(seed), 50, {3: 0.5, 4: 0.5}) for seed in (1, 1, 2)
    )
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == other[0]).all()


def test_random_solutions_use_every_operation_and_many_problems(random_solutions):
    prompts, responses = random_solutions
    operations = Counter(VOCABULARY[token] for token in responses.flatten().tolist() if VOCABULARY[token] in "+-*")
    assert min(operations[op] for op in "+-*") > 500
    assert len(np.unique(prompts[prompts[:, 0] != countdown.BLANK], axis=0)) > 900


# -- problems of training and of benchmarks ---------------------------------------------------------------------------


def test_training_problems():
    problems = countdown.training_problems(400, 0.3, seed=7)
    assert Counter(len(p.numbers) for p in problems) == {3: 120, 4: 280}
    assert len(set(problems)) == 400
    assert not any(kept_out(p.numbers, p.target) for p in problems)
    assert all(1 <= n <= 9 for p in problems for n in p.numbers)
    assert all(list(p.numbers) == sorted(p.numbers) for p in problems)
    for problem in problems[:20]:
        assert problem.target in every_solution(problem.numbers)
    assert len({len(p.numbers) for p in problems[:20]}) == 2  # mixed


def test_training_problems_depend_on_the_seed_only():
    problems = countdown.training_problems(100, 1.0, seed=7)
    assert problems == countdown.training_problems(100, 1.0, seed=7)
    assert problems != countdown.training_problems(100, 1.0, seed=8)


def test_all_training_problems_that_there_are():
    total = sum(not kept_out(p.numbers, p.target) for p in countdown._all_problems(3))
    problems = countdown.training_problems(total, 1.0, seed=0)
    assert len(set(problems)) == total
    with pytest.raises(ValueError, match=f"{total + 1} training problems of 3 numbers .* there are {total}"):
        countdown.training_problems(total + 1, 1.0, seed=0)


FILTERS = {
    "three": {"numbers": 3},
    "four": {"numbers": 4, "needs_multiplication": True, "max_solutions": 4},
    "needs multiplication": {"numbers": 3, "needs_multiplication": True},
    "few solutions": {"numbers": 3, "max_solutions": 2},
    "both": {"numbers": 3, "needs_multiplication": True, "max_solutions": 1},
    "large": {"numbers": 4, "one_number_from": (10, 20)},
    "large, few": {"numbers": 3, "one_number_from": (12, 14), "max_solutions": 1, "needs_multiplication": True},
}


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_benchmark_problems_are_what_their_filters_say(filters):
    problems = countdown.benchmark_problems(15, 3, **filters)
    assert len(set(problems)) == 15
    low, high = filters.get("one_number_from", (None, None))
    for problem in problems:
        assert kept_out(problem.numbers, problem.target)
        assert len(problem.numbers) == filters["numbers"]
        assert list(problem.numbers) == sorted(problem.numbers)
        large = [n for n in problem.numbers if n > 9]
        assert min(problem.numbers) >= 1
        assert large == [] if low is None else len(large) == 1 and low <= large[0] <= high
        solutions, plain = counted(problem.numbers)[problem.target]  # KeyError: not solvable
        assert solutions <= filters.get("max_solutions", solutions)
        assert plain == 0 or not filters.get("needs_multiplication")
    if filters["numbers"] == 3:
        assert problems == countdown.benchmark_problems(15, 3, **filters)
        assert problems != countdown.benchmark_problems(15, 4, **filters)


def test_filters_leave_nothing_out():
    """Every held-out problem of three numbers that suits is in reach, and no other."""
    suited = [
        p
        for p in countdown._all_problems(3)
        if kept_out(p.numbers, p.target) and counted(p.numbers)[p.target] == (1, 0)
    ]
    filters = {"numbers": 3, "needs_multiplication": True, "max_solutions": 1}
    assert set(countdown.benchmark_problems(len(suited), 0, **filters)) == set(suited)
    with pytest.raises(ValueError, match=f"{len(suited) + 1} problems were asked for, there are {len(suited)}"):
        countdown.benchmark_problems(len(suited) + 1, 0, **filters)


def test_too_few_problems_with_a_large_number():
    with pytest.raises(ValueError, match="problems were asked for, there are"):
        countdown.benchmark_problems(60, 0, 2, one_number_from=(10, 10))


def test_the_files_of_problems(tmp_path):
    train, benchmark = tmp_path / "train.parquet", tmp_path / "deep" / "countdown-4-big.parquet"
    write_training_problems({"problems": 30, "share_of_3": 1.0, "seed": 2, "numbers": [3]}, train)
    settings = {"problems": 12, "seed": 1, "numbers": 4, "needs_multiplication": True, "max_solutions": None}
    write_benchmark(settings | {"one_number_from": [10, 12]}, benchmark)
    for path, count, held in [(train, 30, False), (benchmark, 12, True)]:
        rows = records.read(path, records.BENCHMARK).to_pylist()
        assert len(rows) == len({row["problem_id"] for row in rows}) == count
        for row in rows:
            numbers, target = parsed(countdown.to_tokens(text_of(row["prompt"])))
            assert row["problem_id"] == "-".join(map(str, numbers)) + f"={target}"
            assert row["ground_truth"] == str(target)
            assert row["answer_type"] == "countdown"
            assert (row["unit"], row["tolerance"], row["checksum"]) == ("", None, "")
            assert row["revision"] == countdown.GENERATOR_VERSION
            assert kept_out(numbers, target) is held
            if held:
                assert sum(n > 9 for n in numbers) == 1
                assert counted(numbers)[target][1] == 0
    before = train.read_bytes()
    write_training_problems({"problems": 30, "share_of_3": 1.0, "seed": 2, "numbers": [3]}, train)
    assert train.read_bytes() == before
