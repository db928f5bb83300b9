"""Markdown that this project writes (captions, tables) as HTML and plain data. No links, images or HTML from within."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from asymgrpo.report.untrusted import mathematics

_FORMULA = re.compile(r"\$([^$\n]+)\$")
_PLACE = "\ue000"  # of a formula, while markdown is read


@dataclass(frozen=True)
class Table:
    """A table of a markdown file: cells are HTML; `left` columns are aligned to the left, the others are numbers."""

    title: Markup
    header: Sequence[Sequence[Markup]]  # the lines of each column's head
    rows: Sequence[Sequence[Markup]]
    left: int
    notes: Sequence[Markup]
    tints: Sequence[Sequence[str]] = field(default_factory=tuple)  # of each cell, a name of a colour or nothing


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"])


def block(text: str) -> Markup:
    """Paragraphs, lists and tables of markdown; what stands between two dollars is mathematics."""
    formulas = _FORMULA.findall(text)
    rendered = _markdown().render(_FORMULA.sub(_PLACE, text))
    parts = rendered.split(_PLACE)
    if len(parts) != len(formulas) + 1:  # the mark itself is in the text, or a formula in a place that is not shown
        return Markup(_markdown().render(text))
    return Markup("").join(
        Markup(part) + shown for part, shown in zip(parts, [*map(formula, formulas), ""], strict=True)
    )


def inline(text: str) -> Markup:
    """One line of markdown; what stands between two dollars is mathematics."""
    parts = _FORMULA.split(text)
    return Markup("").join(
        formula(part) if index % 2 else Markup(_markdown().renderInline(part)) for index, part in enumerate(parts)
    )


def formula(source: str) -> Markup:
    """LaTeX as MathML, or as it is if it cannot be converted."""
    tree = mathematics(source)
    return mathml(tree) if tree else Markup("<code>{}</code>").format(source)


def mathml(tree: list) -> Markup:
    """A tree of :func:`asymgrpo.report.untrusted.mathematics` as markup."""
    tag, attributes, text, children = tree
    shown = Markup("").join(Markup(' {}="{}"').format(name, value) for name, value in attributes.items())
    inside = escape(text) + Markup("").join(mathml(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), shown, inside)


def caption(text: str) -> tuple[str, Markup, Markup]:
    """A caption's title, which it begins with in bold, its first paragraph (what is shown), and the rest (how made)."""
    match = re.match(r"\*\*(.+?)\*\*\s*", text)
    title = match.group(1).rstrip(".") if match else ""
    first, _, rest = text[match.end() if match else 0 :].strip().partition("\n\n")
    return title, block(first), block(rest)


def tables(text: str) -> list[Table]:
    """The tables of a file that :func:`asymgrpo.tables.render.markdown` has written, each with its title and notes."""
    found: list[tuple[str, list[str], list[str]]] = []
    title = ""
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = part.splitlines()
        if lines and lines[0].startswith("|"):
            found.append((title, lines, []))
        elif part.startswith("**"):
            title = part.strip("*")
        elif found and part.strip():
            found[-1][2].append(" ".join(lines))
    return [_table(*one) for one in found]


def _table(title: str, lines: Sequence[str], notes: Sequence[str]) -> Table:
    head, rule, *body = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]
    return Table(
        title=inline(title),
        header=[[inline(line) for line in cell.split("<br>")] for cell in head],
        rows=[[inline(cell) for cell in row] for row in body],
        left=sum(not cell.endswith(":") for cell in rule),
        notes=[inline(note) for note in notes],
    )
