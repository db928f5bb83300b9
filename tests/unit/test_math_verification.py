r"""Verdicts on math responses: extraction, every kind of answer, and agreement with the scorer that verl ships.

That scorer is :data:`SCORER` here: its few lines, run in a process of its own, on math-verify as it is installed,
without our shortcuts and its time-outs. tests/verl holds us to the very function.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymgrpo.tasks.problems import ANSWER_TYPES
from asymgrpo.verification import MATH_TYPES, NO_ANSWER, Item, Limits, Pool, verify, verify_many
from asymgrpo.verification.answers import boxed, exact, find, parts, without_unit
from asymgrpo.verification.reasons import DIFFERS

ROOT = Path(__file__).parents[2]

SCORER = """
import json, logging, sys
from math_verify.grader import verify
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig, parse
logging.disable(logging.CRITICAL)

def score(truth, response):
    gold = parse("\\\\boxed{" + truth + "}", (LatexExtractionConfig(),), parsing_timeout=None)
    answer = parse(response, (ExprExtractionConfig(), LatexExtractionConfig()), parsing_timeout=None)
    return bool(gold and answer) and any(verify(g, a, timeout_seconds=None) for a in answer for g in gold)

json.dump([score(*pair) for pair in json.load(sys.stdin)], sys.stdout)
"""


def scores(pairs):
    """Of (ground truth, response) by verl's scorer."""
    done = subprocess.run(
        [sys.executable, "-c", SCORER],
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def symbolic():
    """The comparison itself, in this process: without limits."""
    from asymgrpo.verification import symbolic

    return symbolic


@pytest.fixture(scope="module")
def mix():
    """A few hundred responses of the benchmark's mix."""
    spec = importlib.util.spec_from_file_location("math_responses", ROOT / "benchmarks" / "math_responses.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.responses(200, group=2, seed=3)


# -- where the answer is ----------------------------------------------------------------------------------------------

LAST_BOX = {
    "one": (r"So $x = \boxed{7}$.", "7"),
    "last of several": (r"First \boxed{3}, and so on. " + "We go on. " * 20 + r"Thus \[\boxed{4}\]", "4"),
    "nested braces": (r"\boxed{\frac{\sqrt{2}}{1+\frac{1}{x^{2}}}}", r"\frac{\sqrt{2}}{1+\frac{1}{x^{2}}}"),
    "escaped braces": (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
    "a new line before a brace": (r"\boxed{\begin{pmatrix}1\\{2}\end{pmatrix}}", r"\begin{pmatrix}1\\{2}\end{pmatrix}"),
    "spaces": (r"\boxed  { 5 }", "5"),
    "box in a box": (r"\boxed{x = \boxed{5}}", "5"),
    "empty box after it": (r"\boxed{5}. I put the answer within \boxed{}, as asked. \boxed{ }", "5"),
    "cut off box after it": (r"\boxed{5} and " + "so on " * 20 + r"\boxed{\frac{1}{2", "5"),
    "no braces after it": (r"\boxed{5} " + "and " * 30 + r"\boxed 6", "5"),
    "stray braces before it": (r"}} { \{ x \boxed{5} }", "5"),
    "percent sign after the formula": (r"$\boxed{50}$ %", r"50\%"),
    "percent sign of something else": (r"$\boxed{50}$ and 30 %", "50"),
    "unicode": ("答案是 \\boxed{５}。", "５"),
}


@pytest.mark.parametrize(("response", "content"), LAST_BOX.values(), ids=LAST_BOX)
def test_the_last_box(response, content):
    found = find(response)
    assert found.content == content
    assert found.text == boxed(content)


@pytest.mark.parametrize("response", ["", "no box", r"\boxed{}", r"\boxed{ }", r"\boxed{5", r"\boxed 5", r"\fbox{5}"])
def test_without_a_box_the_whole_response_is_searched(response):
    assert find(response) == (response, None)


def test_boxes_that_are_close_are_judged_together():
    text = "Long before: \\boxed{9}.\n\n" + "We go on. " * 50 + "\n\nThe answers are $\\boxed{3}$, $\\boxed{4}$ and "
    found = find(text + "$\\boxed{5}$. That is all.\n\nThe end.")
    assert found.content is None
    assert found.text.strip() == "The answers are $\\boxed{3}$, $\\boxed{4}$ and $\\boxed{5}$. That is all."
    assert verify(text + "$\\boxed{5}$.", "5,4,3", "multiple").correct
    assert not verify(text + "$\\boxed{6}$.", "5,4,3", "multiple").correct
    assert verify(r"$\boxed{3}$. Checking once more, it is $\boxed{5}$.", "5", "numerical").correct
    assert not verify(r"$\boxed{5}$. No, it is a bit less: $\boxed{3}$.", "5", "numerical").correct


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 50_000,
        r"\boxed{" * 50_000 + "}" * 50_000,
        r"\boxed{1}\boxed{}" * 50_000,
        "{" * 100_000 + r"\boxed{5}",
        r"\boxed{" + "{" * 100_000,
        r"\boxed{" + "5" * 1_000_000 + "}",
        "\\" * 1_000_000 + "boxed{5}",
        r"\boxed{5}" + "\\boxed{\n" * 30_000,
    ],
    ids=["opened", "nested", "empty", "braces before", "braces inside", "digits", "backslashes", "last ones open"],
)
def test_finding_a_box_is_linear(text):
    before = os.times().user
    find(text)
    assert os.times().user - before < 2  # seconds of CPU; quadratic would be minutes


# -- what is correct --------------------------------------------------------------------------------------------------

CORRECT = [
    # numbers: AMC's floats, AIME's leading zeros, thousands, signs
    ("27", "27.0", "numerical"),
    ("27.0", "27", "numerical"),
    ("073", "73", "numerical"),
    ("73", "073", "numerical"),
    ("10,080", "10080", "numerical"),
    ("10{,}080", "10080", "numerical"),
    (r"10,\!080", "10080", "numerical"),
    ("11111100", r"11,\! 111,\! 100", "numerical"),
    ("- 5", "-5", "numerical"),
    ("x = 5", "5", "numerical"),
    (r"\$32.50", "32.50", "numerical"),
    # fractions and decimals
    (r"\dfrac{1}{2}", "0.5", "numerical"),
    (r"\frac12", ".5", "numerical"),
    ("3/4", r"\frac{6}{8}", "numerical"),
    (r"\frac{-3}{4}", r"-\frac{3}{4}", "numerical"),
    (r"2\frac{1}{2}", "2.5", "numerical"),
    ("0.333333", r"\frac{1}{3}", "numerical"),
    (r"1.5 \times 10^3", "1500", "numerical"),
    # degrees, percentages, text
    (r"90^\circ", "90", "numerical"),
    ("90", r"90^{\circ}", "numerical"),
    (r"90 \text{ degrees}", r"90^\circ", "numerical"),
    (r"50\%", "50", "numerical"),
    ("50", r"50\%", "numerical"),
    ("0.5", r"50\%", "numerical"),
    (r"50\%", r"\frac{1}{2}", "numerical"),
    ("Evelyn", r"\text{Evelyn}", "expression"),
    (r"\text{(C)}", "C", "expression"),
    # expressions and equations
    (r"5\sqrt 2", r"\sqrt{50}", "expression"),
    ("(x-1)(x+2)", "x^2+x-2", "expression"),
    ("-2i+3", "3 - 2i", "expression"),
    (r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", "expression"),
    ("2x - y + 3 = 0", "y=2x+3", "equation"),
    ("2x + 3", "y=2x+3", "equation"),
    # tuples and intervals
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", "tuple"),
    ("(x, y) = (1, 2)", "(1,2)", "tuple"),
    (r"x \in [2, 5)", "[2,5)", "interval"),
    (r"(-\infty, 3) \cup (4, \infty)", r"(-\infty,3)\cup(4,\infty)", "interval"),
    # several answers, in any order
    ("3, 2, 1", "1,2,3", "multiple"),
    (r"2 \text{ or } -2", "-2,2", "multiple"),
    (r"x = 2 \text{ or } x = -2", "-2,2", "multiple"),
    (r"x_1 = 2, \quad x_2 = -2", "-2,2", "multiple"),
    (r"\pm 2", "2,-2", "multiple"),
    (r"1 + \sqrt{19}, 1 - \sqrt{19}", r"1\pm\sqrt{19}", "multiple"),
    (r"\left\{ 1, 2 \right\}", "2,1", "multiple"),
    ("(3,4), (1,2)", "(1,2),(3,4)", "multiple"),
    (r"0.25, \frac{1}{2}", r"\frac12,\frac14", "multiple"),
    ("234, 1", "1,234", "multiple"),
]

WRONG = [
    ("28", "27.0", "numerical"),
    ("-73", "73", "numerical"),
    ("0.3333", r"\frac{1}{3}", "numerical"),
    (r"49\%", "0.5", "numerical"),
    (r"\sqrt{51}", r"5\sqrt{2}", "expression"),
    ("x^2+x+2", "(x-1)(x+2)", "expression"),
    ("Maria", r"\text{Evelyn}", "expression"),
    ("y = 2x - 3", "y=2x+3", "equation"),
    ("(2, 1)", "(1,2)", "tuple"),
    ("(1, 2, 3)", "(1,2)", "tuple"),
    ("[2,5]", "[2,5)", "interval"),
    ("1", "1,2", "multiple"),
    ("1, 2, 3", "1,2", "multiple"),
    ("1, 1", "1,2", "multiple"),
    ("(4,3), (1,2)", "(1,2),(3,4)", "multiple"),
    ("1234", "1,234", "multiple"),
]


def test_correct_answers():
    verdicts = verify_many(Item(f"Thus $\\boxed{{{answer}}}$.", *rest) for answer, *rest in CORRECT)
    wrong = [case for case, verdict in zip(CORRECT, verdicts, strict=True) if not verdict.correct]
    assert not wrong
    assert [verdict.extracted for verdict in verdicts] == [answer for answer, *_ in CORRECT]
    assert {verdict.reason for verdict in verdicts} == {""}


def test_wrong_answers():
    verdicts = verify_many(Item(f"Thus $\\boxed{{{answer}}}$.", *rest) for answer, *rest in WRONG)
    correct = [case for case, verdict in zip(WRONG, verdicts, strict=True) if verdict.correct]
    assert not correct
    assert {verdict.reason for verdict in verdicts} == {DIFFERS}


TOLERANCE = [  # answer, ground truth, answer type, tolerance, correct
    ("1.6", "1.5", "numerical", 0.1, True),  # although 1.6 - 1.5 > 0.1 in floating point
    ("1.61", "1.5", "numerical", 0.1, False),
    (r"\frac{8}{5}", "1.5", "numerical", 0.1, True),
    (r"\pi", "3.14", "numerical", 0.01, True),
    (r"\pi", "3.14", "numerical", 0.001, False),
    ("x = 1.55", "1.5", "numerical", 0.1, True),
    ("27", "27.0", "numerical", 0.0, True),
    ("28", "27.0", "numerical", 0.0, False),
    ("(1.05, 2)", "(1,2)", "tuple", 0.1, True),
    ("(1.05, 2.2)", "(1,2)", "tuple", 0.1, False),
    ("[1.05, 2)", "[1,2)", "interval", 0.1, True),
    ("[1.05, 2]", "[1,2)", "interval", 0.1, False),
    ("1.05, 2.01", "2,1", "multiple", 0.1, True),
    ("1.05, 2.2", "2,1", "multiple", 0.1, False),
    ("1.05, 1.15", "1.1,1.2", "multiple", 0.1, True),
    ("27", "27.0", "numerical", math.nan, True),  # how pandas reads a null
    ("1.5001", "1.5", "numerical", None, False),
    ("1.5001", "1.5", "numerical", math.nan, False),
]


@pytest.mark.parametrize(("answer", "truth", "answer_type", "tolerance", "correct"), TOLERANCE)
def test_tolerance(answer, truth, answer_type, tolerance, correct):
    assert verify(boxed(answer), truth, answer_type, tolerance=tolerance).correct is correct


UNITS = [
    (r"3 \mathrm{~m} / \mathrm{s}", "3", r"\mathrm{~m}/\mathrm{s}"),
    (r"3 \text{ m/s}", "3", "m/s"),
    ("3", r"3 \mathrm{~cm}^2", r"\mathrm{~cm}^2"),
    ("3 m", "3", "m"),
    (r"2\pi \text{ m}", r"2\pi", "m"),
    (r"50\%", "50", r"\%"),
    (r"90^{\circ}", "90", r"^\circ"),
    ("3", "3", "miles"),
]


@pytest.mark.parametrize(("answer", "truth", "unit"), UNITS)
def test_the_unit_may_be_there_or_not(answer, truth, unit):
    assert verify(boxed(answer), truth, "numerical", unit=unit).correct
    assert not verify(boxed(answer), "4" + truth, "numerical", unit=unit).correct


def test_units_of_several_answers():
    answer = r"1.6 \text{ cm}, 2.41 \text{ cm}"
    assert verify(boxed(answer), "2.4,1.6", "multiple", unit="cm", tolerance=0.05).correct
    assert not verify(boxed(answer), "2.4,1.6", "multiple", unit="cm").correct


@pytest.mark.parametrize(
    ("text", "unit", "rest"),
    [
        ("5 cm", "m", "5 cm"),
        (r"5 \text{cm}", "m", r"5 \text{cm}"),
        ("5m", "m", "5"),
        ("m", "m", "m"),
        ("5", "", "5"),
        ("5 h", "km/h", "5 h"),
    ],
)
def test_a_unit_is_a_whole_word(text, unit, rest):
    assert without_unit(text, unit) == rest


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("1, 2", ["1", "2"]),
        (r"10{,}080; 10,\!080", ["10{,}080", r"10,\!080"]),
        (r"(1,2), [3,4), \{5,6\}", ["(1,2)", "[3,4)", r"\{5,6\}"]),
        (r"1 \text{ and } 2, \text{ or } 3", ["1", "2", "3"]),
        (r"\text{sand and oranges}, fork", [r"\text{sand and oranges}", "fork"]),
        (r"\frac{1}{2} \pm \sqrt{3}", [r"\frac{1}{2} + \sqrt{3}", r"\frac{1}{2} - \sqrt{3}"]),
        ("", []),
    ],
)
def test_lists(text, answers):
    assert parts(text) == answers


# -- without a box ----------------------------------------------------------------------------------------------------


def test_without_a_box_what_math_verify_finds_counts():
    assert verify("So the final answer is $\\frac{1}{2}$.", "0.5", "numerical") == (True, "\\frac{1}{2}", "")
    assert verify("The answer is 42.", "42", "numerical").correct
    assert verify("The answer is 42.", "43", "numerical") == (False, "42", DIFFERS)


@pytest.mark.parametrize("response", ["", "I do not know.", "\0", "\\boxed{}", "\ud800", "{" * 1000])
def test_an_extraction_failure(response):
    assert verify(response, "1", "numerical") == (False, "", NO_ANSWER)


def test_a_box_that_cannot_be_read_is_no_extraction_failure():
    assert verify(r"It is 5. \boxed{\frac{}}", "5", "numerical") == (False, r"\frac{}", DIFFERS)


def test_what_is_extracted_can_be_written():
    verdict = verify("\\boxed{\ud800\0" + "1" * 5000 + "}", "5", "numerical")
    assert verdict.extracted.encode() == b"?\0" + b"1" * 998


# -- countdown, by the value of its last step -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("3 * 2 6 6 + 1 7 7 + 9 16", (True, "7 + 9", "")),
        ("3 * 2 6 6 + 1 7 7 + 7 16", (False, "7 + 7", DIFFERS)),  # the stated result is not looked at
        ("8 * 2 15", (True, r"8 \times 2", "")),
        ("20 - 4 16 <pad>", (False, "", NO_ANSWER)),
        ("16", (False, "", NO_ANSWER)),
        ("20 - 4", (False, "", NO_ANSWER)),
        ("", (False, "", NO_ANSWER)),
    ],
)
def test_the_value_of_the_last_step_of_countdown(response, verdict):
    assert verify(response, "16", "countdown-value") == verdict


# -- arguments --------------------------------------------------------------------------------------------------------


def test_math_types_are_all_but_countdown():
    assert {*MATH_TYPES, "countdown"} == set(ANSWER_TYPES)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"answer_type": "countdown"}, "answer_type: expected one of countdown-value, .*, found 'countdown'"),
        ({"ground_truth": "  "}, "ground_truth: expected an answer"),
        ({"tolerance": -0.1}, "tolerance: expected None or a number that is not negative, found -0.1"),
        ({"tolerance": math.inf}, "tolerance: "),
        ({"limits": Limits(seconds=0)}, "limits: expected seconds > 0"),
        ({"limits": Limits(seconds=math.inf)}, "limits: expected seconds > 0"),
        ({"limits": Limits(memory_mb=1)}, "limits: .* memory_mb >= "),
    ],
)
def test_what_makes_no_sense_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        verify(**{"response": "\\boxed{1}", "ground_truth": "1", "answer_type": "numerical"} | values)


def test_nothing_to_verify():
    assert verify_many([]) == []


# -- the cheap path and the shortcuts never disagree ------------------------------------------------------------------

SOME = st.one_of(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**9 - 1))
SIGN = st.sampled_from(["", "", "-"])
ZEROS = st.sampled_from(["", "", "0", "00"])
DECIMALS = st.one_of(st.text("0123456789", min_size=1, max_size=6), st.sampled_from(["0", "5", "50", "333333"]))
NUMBERS = st.one_of(
    st.builds("{}{}{}".format, SIGN, ZEROS, SOME),
    st.builds("{}{}".format, SIGN, st.integers(0, 10**15 - 1)),
    st.builds("{}{}{}.{}".format, SIGN, ZEROS, SOME, DECIMALS),
    st.builds("{}\\{}frac{{{}}}{{{}}}".format, SIGN, st.sampled_from(["", "d", "t"]), SOME, SOME),
    st.builds("{}{}/{}".format, SIGN, SOME, SOME),
)
TOKENS = r"""
    \frac{ \dfrac{ }{ } { \sqrt{ \sqrt \pi x y 1 2 10 + - = , ( ) [ ] ^2 ^{10} ^\circ \cdot \infty \cup \left( \right)
    \text{east} \text{ / 0 a e i . < | \{ \} \pm \le \in _2 ! \% % cm or and inf \\ percent 5
"""
PIECES = st.sampled_from([*TOKENS.split(), " ", "final answer is 5 ", "answer: 7", r"\text{ and }"])


@settings(max_examples=250, deadline=None)
@given(NUMBERS, NUMBERS, st.sampled_from([None, None, 0.0, 0.5, 1e-3]), st.sampled_from(MATH_TYPES))
def test_numbers_decided_cheaply(symbolic, answer, truth, tolerance, answer_type):
    cheap = exact(answer, truth, tolerance)
    if cheap is not None:
        assert symbolic.judge(boxed(answer), answer, truth, answer_type, "", tolerance).correct == cheap
    assert exact(truth, truth) in (True, None)


@settings(max_examples=250, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=8).map("".join), st.sampled_from(MATH_TYPES))
def test_the_same_text_decided_cheaply(symbolic, text, answer_type):
    text = text.strip()
    if exact(text, text) is not None:
        assert exact(text, text)
        assert symbolic.judge(boxed(text), text, text, answer_type).correct


def test_most_answers_are_decided_cheaply(mix):
    found = [(find(response.text).content, response.ground_truth) for response in mix]
    cheap = [exact(content, truth) for content, truth in found if content is not None]
    assert {True, False, None} <= set(cheap)
    assert sum(verdict is None for verdict in cheap) < len(cheap) / 2


def test_agreement_with_verls_scorer(mix, symbolic):
    """On the benchmark's mix; only percentages differ, which verl's installation cannot parse."""
    verdicts = verify_many(Item(*response) for response in mix)
    theirs = scores([(response.ground_truth, response.text) for response in mix])
    assert 0.2 < sum(theirs) / len(theirs) < 0.9
    without_box = [find(response.text).content is None for response in mix]
    assert 5 < sum(without_box) < 100
    differing = [
        (response.ground_truth, response.text[-80:], verdict)
        for response, verdict, score in zip(mix, verdicts, theirs, strict=True)
        if verdict.correct != score and not (verdict.correct and "%" in verdict.extracted + response.ground_truth)
    ]
    assert not differing
    # and where the cheap path decided, the full one with its shortcuts would have said the same
    for response, verdict in zip(mix, verdicts, strict=True):
        found = find(response.text)
        if found.content is not None:
            full = symbolic.judge(found.text, found.content, response.ground_truth, response.answer_type)
            assert full == verdict


def test_agreement_with_verls_scorer_on_unusual_answers():
    """What differs is exactly what is meant to: percentages, and `multiple`, which it does not know."""
    cases = [(truth, answer, kind) for answer, truth, kind in CORRECT + WRONG]
    theirs = scores([(truth, f"Thus $\\boxed{{{answer}}}$.") for truth, answer, _ in cases])
    expected = [True] * len(CORRECT) + [False] * len(WRONG)
    differing = {
        (truth, answer)
        for (truth, answer, _), ours, score in zip(cases, expected, theirs, strict=True)
        if ours != score
    }
    assert differing == {
        ("50", r"50\%"),
        (r"50\%", "50"),
        (r"50\%", "0.5"),
        (r"\frac{1}{2}", r"50\%"),
        ("1,234", "234, 1"),
        ("1,234", "1234"),
    }


def test_the_last_box_decides_where_verls_scorer_looks_on():
    responses = [r"\boxed{5}. Hence the final answer is $6$", r"It is 6, as $x = 6$. \boxed{\frac{}}"]
    assert scores([("6", response) for response in responses]) == [True, True]
    assert [verify(response, "6", "numerical").correct for response in responses] == [False, False]


# -- batches ----------------------------------------------------------------------------------------------------------


class Counting(Pool):
    """A pool that counts what it is asked."""

    asked = 0

    def run(self, tasks, *rest):
        self.asked += len(tasks)
        return super().run(tasks, *rest)


def test_duplicates_are_compared_once_and_remembered():
    truth = r"\frac{17\sqrt{3}}{5}"
    items = [
        Item(f"{words} $\\boxed{{{answer}}}$", truth, "expression")
        for words in ("So", "Therefore", "Hence we find")
        for answer in (r"\frac{17 \sqrt{3}}{5}", r"\frac{34 \sqrt{3}}{10}", r"\frac{18 \sqrt{3}}{5}")
    ]
    with Counting(1) as pool:
        verdicts = verify_many(items, pool=pool)
        assert [verdict.correct for verdict in verdicts] == [True, True, False] * 3
        assert pool.asked == 3
        assert verify_many(items[:2], pool=pool) == verdicts[:2]
        assert pool.asked == 3
        assert not verify_many([items[0]._replace(ground_truth="7")], pool=pool)[0].correct
        assert pool.asked == 4
        words = [Item("I say it is 7.", truth, "expression")] * 5
        assert len(set(verify_many(words, pool=pool))) == 1
        assert pool.asked == 5


def test_the_order_is_that_of_the_items(mix):
    items = [Item(*response) for response in mix[:100]]
    assert verify_many(items[::-1]) == verify_many(items)[::-1]
