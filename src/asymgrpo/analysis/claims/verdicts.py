"""The rules for verdicts, and :func:`judge`, which applies them to a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asymgrpo.analysis.claims.definitions import Claim, Statement, claims
from asymgrpo.analysis.claims.power import MOST_SEEDS, chance, joint_chance, seeds_needed
from asymgrpo.analysis.claims.quantities import QUANTITIES, Differences, Reader, paper_difference
from asymgrpo.analysis.claims.statistics import DIRECTIONS, Estimate, Floats, crossed, evidence, holm, paired
from asymgrpo.analysis.intervals import FEWEST_SEEDS

if TYPE_CHECKING:
    from asymgrpo.config import Study

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
NOT_TESTED = "not tested at this scale"
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_TESTED)

FAMILY = "Holm's correction runs over the statements of one claim that are tested at this scale."
RULES = {
    REPRODUCED: "the effect lies beyond the threshold the way the claim says (within it, where it says close), p after "
    "Holm below {alpha:g}; of a claim: every statement (of one that asks for any: one)",
    CONTRADICTED: "it lies the other way, p after Holm below {alpha:g}; of a claim: one statement (of one that asks "
    "for any: all)",
    INCONCLUSIVE: "neither, or fewer than three seeds; of a claim also if what is tested holds, but a part is not "
    "tested",
    NOT_TESTED: "the scale does not run a method or backbone that is needed; of a claim: for all of its statements",
}


@dataclass(frozen=True)
class Judged:
    """A statement with what the runs say about it; numbers that do not exist are None.

    ``estimate`` is that of the weakest window, from which ``effect``, ``low`` and ``high`` are taken.
    """

    statement: Statement
    verdict: str
    test: str
    note: str
    seeds: tuple[int, ...] = ()
    estimate: Estimate | None = None
    level: float = 0.95
    p: float | None = None
    p_holm: float | None = None
    paper: float | None = None
    paper_note: str = ""
    seeds_needed: int | None = None

    @property
    def effect(self) -> float | None:
        """In the quantity's unit."""
        return None if self.estimate is None else _number(self.estimate.effect)

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Of this level; None with one seed."""
        if self.estimate is None:
            return None, None
        low, high = self.estimate.interval(self.level)
        return _number(low), _number(high)


@dataclass(frozen=True)
class Verdict:
    """A claim with its verdict and the sentence that explains it."""

    claim: Claim
    verdict: str
    why: str
    statements: tuple[Judged, ...]


# -- the rules --------------------------------------------------------------------------------------------------------


def statement_verdicts(for_it: Floats, against: Floats, seeds: int, alpha: float) -> tuple[np.ndarray, Floats]:
    """Verdicts on the statements of one claim, which are its family.

    Args:
        for_it: one-sided p for each statement, shape (..., statements).
        against: one-sided p against each.
        seeds: how many.
        alpha: level of significance.

    Returns:
        Of the same shape: 1 reproduced, -1 contradicted, 0 inconclusive; and p after Holm.
    """
    adjusted = holm(np.minimum(1.0, 2.0 * np.minimum(for_it, against)))
    decided = (adjusted < alpha) & (seeds >= FEWEST_SEEDS)
    return np.where(decided, np.where(for_it < against, 1, -1), 0), adjusted


def claim_verdict(verdicts: Sequence[str], combine: str = "all") -> str:
    """The verdict on a claim from those on its statements; ``combine``: whether it takes all of them or any one."""
    counts = Counter(verdicts)
    total = len(verdicts)
    if counts[NOT_TESTED] == total:
        return NOT_TESTED
    first, second = (CONTRADICTED, REPRODUCED) if combine == "all" else (REPRODUCED, CONTRADICTED)
    if counts[first]:
        return first
    return second if counts[second] == total else INCONCLUSIVE


# -- a study ----------------------------------------------------------------------------------------------------------


def judge(study: Study, reported: pd.DataFrame) -> list[Verdict]:
    """Every claim judged from the runs' files.

    Args:
        study: of one scale.
        reported: the paper's Table 2, from :func:`asymgrpo.tables.table2.read_reported`.

    Raises:
        ValueError: a file of a run is missing or incomplete.
    """
    reader = Reader(study)
    return [_claim(study, reader, claim, reported) for claim in claims(study)]


def _claim(study: Study, reader: Reader, claim: Claim, reported: pd.DataFrame) -> Verdict:
    alpha = study.claims["alpha"]
    found = {s.id: reader.differences(s) if not s.missing else s.missing for s in claim.statements}
    tested = [s for s in claim.statements if isinstance(found[s.id], Differences)]
    parts = [_estimates(found[s.id]) for s in tested]
    weighed = [evidence(part, s.direction, s.threshold) for part, s in zip(parts, tested, strict=True)]
    whole = [of_it for of_it, _ in weighed]
    for_it, against = (np.array([float(getattr(e, side)) for e in whole]) for side in ("for_it", "against"))
    codes, adjusted = statement_verdicts(for_it, against, len(study.seeds), alpha)
    judged = {}
    for index, s in enumerate(tested):
        weakest = parts[index][int(weighed[index][1])]
        decided = {1: REPRODUCED, -1: CONTRADICTED, 0: INCONCLUSIVE}[int(codes[index])]
        tail = alpha / 2 / len(tested)
        needed = _needed(study, s, found[s.id], parts[index], tail) if decided == INCONCLUSIVE else None
        paper, paper_note = _paper(study, s, reported)
        judged[s.id] = Judged(
            s, decided, _test(s), _note(weakest, len(study.seeds), decided, needed), study.seeds, weakest, 1 - alpha,
            float(whole[index].p), float(adjusted[index]), paper, paper_note, needed,
        )  # fmt: skip
    statements = tuple(
        judged[s.id] if s.id in judged else _untested(study, s, str(found[s.id]), reported) for s in claim.statements
    )
    verdict = claim_verdict([s.verdict for s in statements], claim.combine)
    return Verdict(claim, verdict, _why(study, claim, verdict, statements), statements)


def _estimates(differences: Differences | str) -> list[Estimate]:
    assert isinstance(differences, Differences)
    if differences.windows is None:
        return [crossed(differences.tables)]
    return [paired(row) for row in differences.windows]


def _needed(
    study: Study, statement: Statement, differences: Differences | str, parts: Sequence[Estimate], tail: float
) -> int | None:
    """Seeds that would decide a statement, its p taken as the smallest of its claim; None if no number is known."""
    assert isinstance(differences, Differences)
    if not any(np.isfinite(part.error) for part in parts):
        return None
    windows, now, how = differences.windows, len(study.seeds), (statement.direction, statement.threshold, tail)

    def chance_of(seeds: int) -> float:
        if windows is None or len(windows) == 1:
            return chance(parts[0], now, seeds, *how)
        return joint_chance(windows, seeds, *how)

    return seeds_needed(chance_of, study.claims["power"])


def _untested(study: Study, statement: Statement, why: str, reported: pd.DataFrame) -> Judged:
    paper, paper_note = _paper(study, statement, reported)
    return Judged(statement, NOT_TESTED, _test(statement), why, paper=paper, paper_note=paper_note)


def _paper(study: Study, statement: Statement, reported: pd.DataFrame) -> tuple[float | None, str]:
    if statement.quantity != "final_average" or not statement.backbone:
        return None, ""
    value = paper_difference(reported, study, statement.backbone, (statement.of, statement.minus))
    if value is None:
        return None, ""
    stands_for = study.backbones[statement.backbone].stands_for
    return value, f"{stands_for}, Table 2: one run, the checkpoint that is best on a test set"


def _test(statement: Statement) -> str:
    over = "seeds and problems, crossed" if statement.quantity == "final_average" else "seeds"
    kind = "two one-sided t" if statement.direction == "within" else "t"
    return f"{kind} over {over}{', paired' if statement.minus else ''}"


def _note(estimate: Estimate, seeds: int, verdict: str, needed: int | None) -> str:
    if seeds == 1:
        return "one seed: no interval"
    if not isfinite(float(estimate.error)):
        return "every seed has the same value, so the spread is not known"
    if seeds < FEWEST_SEEDS:
        return "two seeds decide nothing"
    if verdict == INCONCLUSIVE and needed is None:
        return f"{MOST_SEEDS:,} seeds would not decide it"
    return ""


def _number(value: Any) -> float | None:
    number = float(value)
    return number if isfinite(number) else None


# -- in words ---------------------------------------------------------------------------------------------------------


def effect_text(judged: Judged) -> str:
    """The effect with its interval and unit, as ``+0.031 nats [+0.012, +0.050]``; empty without one."""
    quantity = QUANTITIES[judged.statement.quantity]
    if judged.effect is None:
        return ""
    low, high = judged.interval
    digits = quantity.digits
    ends = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if low is not None and high is not None else ""
    unit = f" {quantity.unit}" if quantity.unit else ""
    return f"{judged.effect:+.{digits}f}{unit}{ends}"


def counted(statements: Sequence[Judged]) -> str:
    """How many statements have each verdict, in one phrase."""
    counts = Counter(s.verdict for s in statements)
    if len(statements) == 1:
        return f"its one statement is {statements[0].verdict}"
    found = [(counts[verdict], verdict) for verdict in VERDICTS if counts[verdict]]
    if len(found) == 1:
        return f"all {len(statements)} statements are {found[0][1]}"
    return f"of {len(statements)} statements " + ", ".join(f"{count} {verdict}" for count, verdict in found)


def main_statement(verdict: str, combine: str, statements: Sequence[Judged]) -> Judged | None:
    """The statement that the verdict on the claim hangs on; None if none was tested.

    Of several with the verdict: the one with the smallest p where one is enough, else the one with the largest.
    """
    tested = [s for s in statements if s.p_holm is not None]
    same = [s for s in tested if s.verdict == verdict] or tested
    if not same:
        return None
    one_is_enough = verdict == (CONTRADICTED if combine == "all" else REPRODUCED)
    return (min if one_is_enough else max)(same, key=lambda s: s.p_holm or 0.0)


def _why(study: Study, claim: Claim, verdict: str, statements: Sequence[Judged]) -> str:
    main = main_statement(verdict, claim.combine, statements)
    if main is None:
        return f"Not tested: {'; '.join(dict.fromkeys(s.note for s in statements))}."
    head = counted(statements)
    found = [f"{effect_text(main)}", f"{len(main.seeds)} seed{'s' * (len(main.seeds) > 1)}"]
    if main.interval[0] is not None and main.p_holm is not None:
        found.append(f"p {p_text(main.p_holm)}")
    backbone = study.backbones[main.statement.backbone].label
    lead = {REPRODUCED: "The weakest", CONTRADICTED: "Against it", INCONCLUSIVE: "The least certain"}[verdict]
    if verdict == REPRODUCED and claim.combine == "any":
        lead = "The strongest"
    shown = f"{lead}: {main.statement.text}" if len(statements) > 1 else main.statement.text
    return f"{head[0].upper()}{head[1:]}. {shown} ({backbone}): {', '.join(found)}."


def p_text(p: float | None) -> str:
    """``= 0.012``, ``< 0.001``, or a dash."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"= {p:.3f}"


def rules(alpha: float) -> str:
    """The rules for verdicts, one sentence each."""
    return " ".join(
        f"{verdict[0].upper()}{verdict[1:]}: {rule.format(alpha=alpha)}." for verdict, rule in RULES.items()
    )


# -- as plain data ----------------------------------------------------------------------------------------------------


def as_json(study: Study, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Plain values for claims.json; what does not exist is null, never NaN."""
    alpha = study.claims["alpha"]
    return {
        "scale": study.scale,
        "seeds": list(study.seeds),
        "level": 1 - alpha,
        "family": FAMILY,
        "rule": rules(alpha),
        "claims": [
            {
                "claim": v.claim.name,
                "title": v.claim.title,
                "own": v.claim.own,
                "verdict": v.verdict,
                "why": v.why,
                "figure": v.claim.figure,
                "statements": [_plain(v.claim, judged) for judged in v.statements],
            }
            for v in verdicts
        ],
    }


def _plain(claim: Claim, judged: Judged) -> dict[str, Any]:
    s = judged.statement
    low, high = judged.interval
    return {
        "id": s.id,
        "text": s.text,
        "backbone": s.backbone,
        "quantity": s.quantity,
        "unit": QUANTITIES[s.quantity].unit,
        "window": s.window,
        "of": s.of,
        "minus": s.minus,
        "contrast": f"{s.of} - {s.minus}" if s.minus else s.of,
        "direction": DIRECTIONS[s.direction],
        "threshold": s.threshold,
        "reason": s.reason,
        "test": judged.test,
        "verdict": judged.verdict,
        "effect": judged.effect,
        "low": low,
        "high": high,
        "seeds": list(judged.seeds),
        "p": judged.p,
        "p_holm": judged.p_holm,
        "paper": judged.paper,
        "paper_note": judged.paper_note,
        "figure": claim.figure,
        "seeds_needed": judged.seeds_needed,
        "note": judged.note,
    }
