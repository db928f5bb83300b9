"""Text that a model has written, as pieces that a page can show safely: plain text, invisible characters, mathematics.

A piece is one of

* a string, to be set as text and never as markup;
* ``["c", "U+202E", "RIGHT-TO-LEFT OVERRIDE"]``, a character that is invisible or changes the direction of others;
* ``["m", tree, source]``, mathematics: MathML as ``[tag, attributes, text, [child, ...]]``, and the LaTeX it is from.

The MathML is built anew from the converter's output, with the elements and attributes of :data:`TAGS` and
:data:`ATTRIBUTES` only: no links, no styles, nothing that hides text.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

Piece = Any

TAGS = frozenset(
    [
        "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "msup", "msub", "msubsup", "mfrac", "msqrt", "mroot",
        "mover", "munder", "munderover", "mtable", "mtr", "mtd", "mstyle", "menclose",
    ]
)  # fmt: skip
"""Presentation MathML that is shown; anything else is shown as a row of its children."""

ATTRIBUTES = {
    "mathvariant": re.compile(r"normal|bold|italic|bold-italic|double-struck|script|fraktur|sans-serif|monospace"),
    "displaystyle": re.compile(r"true|false"),
    "display": re.compile(r"block|inline"),
    "scriptlevel": re.compile(r"[0-2]"),
    "stretchy": re.compile(r"true|false"),
    "fence": re.compile(r"true|false"),
    "separator": re.compile(r"true|false"),
    "accent": re.compile(r"true|false"),
    "form": re.compile(r"prefix|infix|postfix"),
    "linethickness": re.compile(r"0(em|px|pt)?"),
    "columnalign": re.compile(r"(left|right|center)( (left|right|center))*"),
    "notation": re.compile(r"box|updiagonalstrike|downdiagonalstrike|top|bottom|left|right|roundedbox|circle"),
}
"""Attributes that are kept, with the values that they may have."""

LONGEST = 4000
"""Characters of a text that are shown; the rest is only counted."""
LONGEST_FORMULA = 400
DEEPEST = 40

_FORMULA = re.compile(
    r"\$\$(?P<a>[^$]{1,400}?)\$\$"
    r"|\\\[(?P<b>(?:[^\\]|\\[^\]]){1,400}?)\\\]"
    r"|\\\((?P<c>(?:[^\\]|\\[^)]){1,400}?)\\\)"
    r"|\$(?P<d>[^$\s](?:[^$\n]{0,398}[^$\s\\])?)\$(?!\d)"
)
_COUNTDOWN = re.compile(r"(\d+) ([-+*]) (\d+) (-?\d+)(?: |$)")
_SIGNS = {"*": "\\times", "-": "-", "+": "+"}


def pieces(text: str, limit: int = LONGEST) -> list[Piece]:
    """The pieces of a text, in order; what is beyond `limit` characters is replaced by a note of how much it is."""
    shown = text[:limit]
    found: list[Piece] = []
    position = 0
    for match in _FORMULA.finditer(shown):
        source = next(group for group in match.groups() if group is not None)
        tree = mathematics(source, display=match.lastgroup in ("a", "b"))
        if tree is None:
            continue
        found += _plain(shown[position : match.start()])
        found.append(["m", tree, match.group()])
        position = match.end()
    found += _plain(shown[position:])
    if len(text) > limit:
        found.append(["c", f"… {len(text) - limit:,} more characters", "left out of the report"])
    return found


def countdown_pieces(response: str) -> list[Piece]:
    """A solution of countdown as equations, ``8 * 9 72`` as 8 × 9 = 72 (right or not); other text as :func:`pieces`."""
    if not response or len(response) > LONGEST or _COUNTDOWN.sub("", response):
        return pieces(response)
    found: list[Piece] = []
    for match in _COUNTDOWN.finditer(response):
        left, sign, right, result = match.groups()
        if found:
            found.append(",  ")
        tree = mathematics(f"{left} {_SIGNS[sign]} {right} = {result}")
        found.append(["m", tree, match.group().strip()] if tree else match.group())
    return found


def visible(text: str) -> str:
    """A text with its invisible characters written out, for places that can only hold text."""
    return "".join(piece if isinstance(piece, str) else f"[{piece[1]}]" for piece in _plain(text))


def _plain(text: str) -> Iterator[Piece]:
    """Strings, and the characters that cannot be seen or that change how others are shown."""
    start = 0
    for position, character in enumerate(text):
        if _is_hidden(character):
            if start < position:
                yield text[start:position]
            yield ["c", f"U+{ord(character):04X}", unicodedata.name(character, "control character")]
            start = position + 1
    if start < len(text):
        yield text[start:]


def _is_hidden(character: str) -> bool:
    if character in "\n\t" or " " <= character <= "~":
        return False
    # format (bidi, zero width, tags), control, private, unassigned, surrogates, line and paragraph separators
    if unicodedata.category(character) in ("Cf", "Cc", "Co", "Cn", "Cs", "Zl", "Zp"):
        return True
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"  # variation selectors


@lru_cache(maxsize=4096)
def mathematics(source: str, display: bool = False) -> Any:
    """LaTeX as a tree of MathML ``[tag, attributes, text, children]``; None for what cannot be shown as mathematics."""
    from latex2mathml.converter import convert_to_element

    if len(source) > LONGEST_FORMULA or any(_is_hidden(character) for character in source):
        return None
    try:
        return _clean(convert_to_element(source, display="block" if display else "inline"), 0)
    except Exception:  # whatever the converter makes of such text: then it is shown as it was written
        return None


def _clean(element: Element, depth: int) -> list[Any]:
    if depth > DEEPEST:
        raise ValueError("too deep")
    tag = element.tag if element.tag in TAGS else "mrow"
    kept = {
        name: value
        for name, value in sorted(element.attrib.items())
        if name in ATTRIBUTES and ATTRIBUTES[name].fullmatch(value)
    }
    text = html.unescape(element.text or "").strip()  # the converter writes "×" as "&#x000D7;"
    if any(_is_hidden(character) and not "\u2061" <= character <= "\u2064" for character in text):
        raise ValueError("hidden characters")  # but for MathML's own invisible operators
    return [tag, kept, text, [_clean(child, depth + 1) for child in element]]
