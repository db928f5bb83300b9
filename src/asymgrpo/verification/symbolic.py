"""math-verify, as a pure function of text. It has no limits of its own: only worker processes call it.

The configuration is that of the scorer that verl ships (`verl.utils.reward_score.math_verify`), so what is accepted is
the same, but without math-verify's time-outs, which need signals and so a main thread.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any, NamedTuple

import sympy
from math_verify.grader import verify as grade
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig, parse

from asymgrpo.verification import faster
from asymgrpo.verification.answers import boxed, parts, without_unit
from asymgrpo.verification.reasons import DIFFERS, NO_ANSWER

GOLD = (LatexExtractionConfig(),)
PREDICTION = (ExprExtractionConfig(), LatexExtractionConfig())
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that time-outs are off
faster.install()


class Judgement(NamedTuple):
    """Of one answer: `extracted` is the text that was compared, reason is empty if it is correct."""

    correct: bool
    extracted: str
    reason: str


def judge(
    text: str, content: str | None, truth: str, answer_type: str, unit: str = "", tolerance: float | None = None
) -> Judgement:
    r"""Compare the answer that math-verify finds in a text with a ground truth.

    It is correct if verl's scorer would accept it; or without the unit; or within the tolerance; or, if there are
    several answers, when each has its own match, in any order. So the verdict is that of verl's scorer, but for

    - the last box, which decides, be it readable or not. verl's scorer prefers "the final answer is ..." where that
      comes later, and takes any number of the response if it cannot read the box;
    - percentages, which verl's installation cannot parse (see :mod:`.faster`): ``50\%``, 50 and 0.5 are the same here;
    - units, tolerances and several answers, which it does not know: they only make more answers correct, but for
      ``1,234`` as two answers, which are not the number 1234.

    A wrong unit is not noticed, as math-verify drops units.

    Args:
        text: where to look for the answer.
        content: the answer, if the text is nothing but that in a box.
        truth: the ground truth.
        answer_type, unit, tolerance: as in :class:`asymgrpo.verification.Item`.
    """
    prediction = _parse(text, PREDICTION)
    if not prediction:
        return Judgement(False, "", NO_ANSWER)
    extracted = content or next((part for part in prediction if isinstance(part, str)), "") or str(prediction[0])
    correct = (
        _whole_is_right(prediction, truth, answer_type)
        or (bool(unit) and _agree(without_unit(extracted, unit), without_unit(truth, unit), tolerance))
        or (tolerance is not None and _near(_parse_truth(truth), prediction, tolerance))
        or (answer_type == "multiple" and _match(parts(extracted), parts(truth), unit, tolerance))
    )
    return Judgement(correct, extracted, "" if correct else DIFFERS)


def check() -> None:
    """Whether math-verify works at all here.

    Raises:
        RuntimeError: it does not find that a half is 0.5, or finds that it is 0.6.
    """
    for answer, expected in (("0.5", True), ("0.6", False)):
        if judge(boxed(answer), answer, "\\frac{2}{4}", "numerical").correct != expected:
            raise RuntimeError(f"math-verify does not work: {answer} = 2/4 should be {expected}")


def _whole_is_right(prediction: list[Any], truth: str, answer_type: str) -> bool:
    if answer_type == "multiple" and _THOUSANDS.fullmatch(truth):
        return False  # "1,234" is two answers here, and one number for math-verify
    return _equal(_parse_truth(truth), prediction)


def _agree(answer: str, truth: str, tolerance: float | None) -> bool:
    prediction, gold = _parse(boxed(answer), PREDICTION), _parse_truth(truth)
    return _equal(gold, prediction) or (tolerance is not None and _near(gold, prediction, tolerance))


def _match(answers: list[str], truths: list[str], unit: str, tolerance: float | None) -> bool:
    """Whether answers and truths can be paired; a pairing is found if there is one."""
    if len(answers) != len(truths):
        return False
    fits = [[_agree(without_unit(a, unit), without_unit(t, unit), tolerance) for t in truths] for a in answers]
    owner: dict[int, int] = {}

    def place(answer: int, tried: set[int]) -> bool:
        for truth, fit in enumerate(fits[answer]):
            if fit and truth not in tried:
                tried.add(truth)
                if truth not in owner or place(owner[truth], tried):
                    owner[truth] = answer
                    return True
        return False

    return all(place(answer, set()) for answer in range(len(answers)))


def _parse(text: str, targets: tuple[Any, ...]) -> list[Any]:
    return parse(text, targets, parsing_timeout=None)


@lru_cache(maxsize=4096)
def _parse_truth(truth: str) -> list[Any]:
    return _parse(boxed(truth), GOLD)


def _equal(gold: list[Any], prediction: list[Any]) -> bool:
    return any(grade(g, p, timeout_seconds=None) for g in gold for p in prediction)


def _near(gold: list[Any], prediction: list[Any], tolerance: float) -> bool:
    return any(_values_near(g, p, tolerance) for g in gold for p in prediction)


def _values_near(gold: Any, answer: Any, tolerance: float) -> bool:
    if isinstance(gold, str) or isinstance(answer, str):
        return False
    gold, answer = _right_side(gold), _right_side(answer)
    ends = [_ends(value) for value in (gold, answer)]
    if ends[0] and ends[1]:
        if _is_open(gold) and _is_open(answer) and _is_open(gold) != _is_open(answer):
            return False
        return len(ends[0]) == len(ends[1]) and all(map(_values_near, *ends, [tolerance] * len(ends[0])))
    try:
        difference = sympy.Abs((gold - answer).doit()).evalf(30)
        # half of the last digit of a double, so that 1.6 is within 0.1 of 1.5
        return bool(difference.is_number and difference <= tolerance * (1 + 1e-9))
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return False  # no numbers


def _is_open(value: Any) -> tuple[bool, ...]:
    """At which ends an interval is open; empty for what is none."""
    return (bool(value.left_open), bool(value.right_open)) if isinstance(value, sympy.Interval) else ()


def _right_side(value: Any) -> Any:
    return value.rhs if isinstance(value, sympy.Eq) else value


def _ends(value: Any) -> tuple[Any, ...]:
    if isinstance(value, sympy.Interval):
        return (value.start, value.end)
    return tuple(value.args) if isinstance(value, sympy.Tuple) else ()
