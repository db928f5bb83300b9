"""The verdicts of results/<scale>/tables/claims.json, as far as a page shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERDICTS = {
    "reproduced": "reproduced",
    "contradicted": "contradicted",
    "inconclusive": "inconclusive",
    "not tested at this scale": "untested",
}
"""Verdict -> the short name of its colour."""


@dataclass(frozen=True)
class Bar:
    """A statement's effect and interval as percent of the width of a drawing whose statements have one unit."""

    zero: float
    thresholds: tuple[float, ...]
    effect: float
    low: float
    high: float


def read(path: Path) -> dict[str, Any] | None:
    """The verdicts; None if there is no such file.

    Raises:
        ValueError: it is not JSON, or lacks what a page shows.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: is not JSON; expected the verdicts that `asymgrpo table claims` writes") from None
    for claim in found.get("claims", ()):
        for one in (claim, *claim.get("statements", ())):
            if one.get("verdict") not in VERDICTS:
                name = one.get("id") or one.get("claim")
                raise ValueError(
                    f"{path}: {name}: verdict {one.get('verdict')!r}; expected one of {', '.join(VERDICTS)}"
                )
    if "claims" not in found:
        raise ValueError(f"{path}: claims: is missing; expected the list of claims")
    return found


def bars(statements: Sequence[Mapping[str, Any]]) -> list[Bar | None]:
    """Where to draw each statement's interval; those of one unit share an axis, which always shows zero."""
    ends: dict[str, list[float]] = {}
    for one in statements:
        shown = [one[key] for key in ("effect", "low", "high") if one.get(key) is not None]
        ends.setdefault(str(one.get("unit")), [0.0]).extend([*shown, *_thresholds(one)])
    found: list[Bar | None] = []
    for one in statements:
        effect = one.get("effect")
        if effect is None:
            found.append(None)
            continue
        axis = ends[str(one.get("unit"))]
        first, last = min(axis), max(axis)
        width = (last - first) or 1.0

        def place(value: float, first: float = first, width: float = width) -> float:
            return round(4 + 92 * (value - first) / width, 2)

        low, high = one.get("low"), one.get("high")
        found.append(
            Bar(
                zero=place(0.0),
                thresholds=tuple(map(place, _thresholds(one))),
                effect=place(effect),
                low=place(effect if low is None else low),
                high=place(effect if high is None else high),
            )
        )
    return found


def _thresholds(statement: Mapping[str, Any]) -> list[float]:
    """Those to be drawn beside zero: one, or of a statement that says "close" one on either side."""
    threshold = statement.get("threshold")
    if not threshold:
        return []
    return [-threshold, threshold] if statement.get("direction") == "=" else [threshold]


def tally(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """(verdict, its colour, how many claims have it) of every verdict that there is."""
    counted = [(verdict, colour, sum(c["verdict"] == verdict for c in claims)) for verdict, colour in VERDICTS.items()]
    return [one for one in counted if one[2]]
