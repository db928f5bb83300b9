r"""The answer in a response, as text, and what can be decided about it without any algebra.

Everything here is linear in the length of the text and never evaluates it, so it needs no limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

NEAR = 70
"""Boxes with fewer characters between them may be one answer in several boxes; that is math-verify's distance, too."""

CONTEXT = 400
"""Characters before and after several boxes, at most, that math-verify is given to judge if they are one answer."""

MOST_BOXES = 20
"""So many of the last boxes are looked at."""

_BOX = re.compile(r"\\boxed\s*\{\s*")
_STEP = re.compile(r"(?:^| )(\d+) ([-+*]) (\d+) \d+$")
_TIMES = r"\times"
_BRACES = re.compile(r"\\boxed\s*\{\s*|\\[{}\\]|[{}]")
_PERCENT_AFTER = re.compile(r"\s*(?:\$\$?|\\\]|\\\))\s*(?:\\?%|[Pp]ercent|[Pp]ct)")


class Box(NamedTuple):
    r"""Where a closed, non-empty ``\boxed{content}`` stands: its start, its content's start and end."""

    start: int
    inside: int
    end: int


class Found(NamedTuple):
    """Where the answer stands: `content` of the one last box, or else a `text` for math-verify to search."""

    text: str
    content: str | None


def find(response: str) -> Found:
    r"""The last box of a response; if another one is close by, the text around both; without any box, all of it.

    A box counts if it is closed and not empty: a repeated prompt ("within \boxed{}") and a cut off answer do not.
    """
    boxes = list(islice(_boxes_from_the_end(response), MOST_BOXES))
    if not boxes:
        return Found(response, None)
    last = first = boxes[0]
    for box in boxes[1:]:
        if first.start - box.end >= NEAR:
            break
        if box.end <= first.start:  # else it encloses the other: of nested boxes the inner is the answer
            first = box
    if first is not last:
        start = max(first.start - CONTEXT, response.rfind("\n\n", 0, first.start), 0)
        end = response.find("\n\n", last.end)
        return Found(response[start : min(end if end >= 0 else len(response), last.end + CONTEXT)], None)
    content = response[last.inside : last.end].strip()
    if _PERCENT_AFTER.match(response, last.end + 1):
        content += "\\%"
    return Found(boxed(content), content)


def last_operation(response: str) -> str:
    r"""The operation of a countdown response's last step as LaTeX in a box, without the result that is stated.

    `8 * 5 40 40 + 9 49` gives ``\boxed{40 + 9}``, whose value a verifier of mathematics computes. Text that does not
    end with a step has no answer: empty.
    """
    step = _STEP.search(response)
    if step is None:
        return ""
    left, operation, right = step.groups()
    return boxed(f"{left} {_TIMES if operation == '*' else operation} {right}")


def boxed(content: str) -> str:
    """A text in which this is the answer."""
    return f"\\boxed{{{content}}}"


def _boxes_from_the_end(text: str) -> Iterator[Box]:
    """The closed, non-empty boxes, the one that starts last first."""
    stop = len(text)
    while (start := text.rfind("\\boxed", 0, stop)) >= 0:
        opening = _BOX.match(text, start)
        end = _closing(text, opening.end()) if opening else None
        if opening is None or end is None or opening.end() == end:
            break
        yield Box(start, opening.end(), end)
        stop = start
    else:
        return
    yield from sorted(_closed_boxes(text, stop), reverse=True)  # one that does not count: read all the text, once


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for match in _BRACES.finditer(text, start):
        token = match[0]
        if token == "}":
            depth -= 1
            if depth == 0:
                return match.start()
        elif token == "{" or token.startswith("\\boxed"):
            depth += 1
    return None


def _closed_boxes(text: str, stop: int) -> list[Box]:
    found: list[Box] = []
    opened: list[re.Match[str]] = []
    for match in _BRACES.finditer(text):
        token = match[0]
        if token == "}":
            if opened:
                opening = opened.pop()
                if opening[0] != "{" and opening.start() < stop and opening.end() < match.start():
                    found.append(Box(opening.start(), opening.end(), match.start()))
        elif token == "{" or token.startswith("\\boxed"):
            opened.append(match)
    return found


# -- decided without algebra ------------------------------------------------------------------------------------------

APART = Fraction(1, 10**5)
"""Numbers that differ by more differ for math-verify, which rounds decimals to six places."""

_NUMBER = re.compile(
    r"(?P<integer>-?\d{1,15})|(?P<decimal>-?\d{1,12}\.\d{1,6})"
    r"|(?P<sign>-?)\\[dt]?frac\{(?P<top>\d{1,9})\}\{(?P<bottom>\d{1,9})\}|(?P<over>-?\d{1,9})/(?P<under>\d{1,9})"
)
_HARMLESS = re.compile(
    r"(?:[A-Za-z0-9 +\-*/=,.()\[\]{}<>|]|\^[A-Za-z0-9]|\^\{-?[A-Za-z0-9]{1,3}\}|\^\{?\\circ\}?|\\[{} ,!%$]"
    r"|\\(?:[dt]?frac|sqrt|pi|cdot|times|infty|cup|cap|left|right|text|theta|alpha|le|ge|leq|geq|in|pm)(?![A-Za-z]))*"
)
_POWERS = re.compile(r"\^(?:\{[^{}]*\}|.)\s*\^")
_NOTHING = re.compile(r"\\[A-Za-z]+|[^A-Za-z0-9]")


def exact(answer: str, truth: str, tolerance: float | None = None) -> bool | None:
    """Whether an answer is the ground truth, where that is plain; None where it takes algebra to say.

    Plain are two numbers (integers, short decimals, fractions of integers), and the same short text twice, of commands
    and characters that math-verify certainly handles. It gives the verdict that math-verify gives.
    """
    answer, truth = answer.strip(), truth.strip()
    if len(answer) > 200 or len(truth) > 200:
        return None
    a, b = _number(answer), _number(truth)
    if a is not None and b is not None:
        if a == b:
            return True
        return False if abs(a - b) > APART + 2 * Fraction(tolerance or 0) else None
    if answer == truth and _is_harmless(answer):
        return True
    return None


def _is_harmless(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    something = _NOTHING.sub("", text)
    return bool(depth == 0 and something and _HARMLESS.fullmatch(text) and not _POWERS.search(text))


def _number(text: str) -> Fraction | None:
    match = _NUMBER.fullmatch(text)
    if not match:
        return None
    groups = match.groupdict()
    if groups["integer"] or groups["decimal"]:
        return Fraction(text)
    top, bottom = int(groups["top"] or groups["over"]), int(groups["bottom"] or groups["under"])
    if bottom == 0:
        return None
    return Fraction(-top if groups["sign"] else top, bottom)


# -- units and lists --------------------------------------------------------------------------------------------------

_STYLE = re.compile(
    r"\\(?:mathrm|text|textrm|operatorname|mathbf|rm|displaystyle|left|right)(?![A-Za-z])|\\[ ,;:!]|[{}$~\s\\]"
)
_SEPARATOR = re.compile(
    r"\\(?:text|mathrm|textrm)\s*\{[\s,]*(?:and|or)\s*\}|\\(?:q?quad)(?![A-Za-z])|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
    r"|,\\!|\{,\}|[,;()\[\]]|\\?[{}]"
)


def without_unit(text: str, unit: str) -> str:
    """The text without the unit at its end, however the two are set (braces, fonts, spaces); or as it is."""
    wanted = _STYLE.sub("", unit)
    if not wanted:
        return text
    for start in range(len(text) - 1, max(0, len(text) - 120) - 1, -1):
        if _STYLE.sub("", text[start:]) == wanted:
            rest = text[:start].rstrip()
            # the style of the unit's first word stands before it
            rest = re.sub(r"(?:\\(?:mathrm|text|textrm|operatorname|rm)\s*\{?|\^?\{|[~\s^\\]|\\[,;:! ])+$", "", rest)
            joined = wanted[0].isalnum() and rest[-1:].isalnum() and text[start - 1 : start].isalpha()
            return text if joined or not rest else rest
    return text


def parts(text: str) -> list[str]:
    r"""The answers in a list: split at commas, semicolons, "and", "or" that stand outside brackets; \pm gives two.

    Braces around the whole list are dropped. ``10,\!080`` and ``10{,}080`` are one number.
    """
    text = text.strip().strip("$").strip()
    text = re.sub(r"^\\left(?=\\\{)|\\right(?=\\\}$)", "", text)
    if text.startswith("\\{") and text.endswith("\\}"):
        text = text[2:-2]
    found, start, depth = [], 0, 0
    for match in _SEPARATOR.finditer(text):
        token = match[0].removeprefix("\\") if len(match[0]) == 2 else match[0]
        if token in ("(", "[", "{"):
            depth += 1
        elif token in (")", "]", "}"):
            depth = max(0, depth - 1)
        elif depth == 0 and token not in (",\\!", "{,}"):
            found.append(text[start : match.start()])
            start = match.end()
    found.append(text[start:])
    answers = [answer.strip() for answer in found if answer.strip()]
    return [version for answer in answers for version in _both_signs(answer)]


def _both_signs(text: str) -> list[str]:
    if text.count("\\pm") != 1:
        return [text]
    return [text.replace("\\pm", sign).strip().removeprefix("+").strip() for sign in ("+", "-")]
