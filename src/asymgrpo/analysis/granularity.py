"""Which reported accuracies can be a share of n x k samples at all: the GRIM test, for Avg@k. Pure functions, exact.

An accuracy over n problems with k samples each is 100 c / (n k) percent for a whole number c, so most numbers with two
decimals cannot occur (Brown and Heathers, 2017, on means of whole numbers). A printed number x with d decimals passes
if some c in 0..n k gives it, when rounded to the nearest (a tie may go either way: half up, half to even) or cut off:

    nearest   |100 c / (n k) - x| <= 10^-d / 2          cut off   x <= 100 c / (n k) < x + 10^-d

Everything is in whole numbers, so no verdict hangs on floating point. The test has no power where n k >= 100 * 10^d, as
then every number can occur, and little where n k is near that: :func:`chance` says how much.

If a benchmark's cells do not fit the stated n x k, :func:`fits` looks for another pair that all cells of a block (the
rows of one model, evaluated alike) fit. Large n k fit everything, so each pair comes with the number of pairs at most
as fine that would fit as many random cells by chance; a pair found where that is not small says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, comb, floor, gcd, prod

import numpy as np

NEAREST = "nearest"
CUT = "cut off"
ROUNDINGS = (NEAREST, CUT)

TELLING = 0.01
"""A pair is taken for an explanation if fewer than so many were expected to fit by chance."""
MISSING = 0.05
"""Pairs are looked for with up to this share of the problems missing."""
MOST_SAMPLES = 10
"""Pairs are looked for with up to so many samples for each problem, or as many as are stated."""

MULTIPLE = "multiple"
CUT_OFF = "only if cut off"
NO_MULTIPLE = "no multiple"
NO_POWER = "too fine to tell"
CELL_VERDICTS = (MULTIPLE, CUT_OFF, NO_MULTIPLE, NO_POWER)
"""Of a cell against the stated pair: rounded; only cut off; neither; n k is so large that every number passes."""

SAME = "mean of its row"
WITHIN_ROUNDING = "within rounding"
NOT_THE_MEAN = "not the mean"
AVERAGE_VERDICTS = (SAME, WITHIN_ROUNDING, NOT_THE_MEAN)
"""Of an average: that of the printed cells; of cells before they were rounded, maybe; neither."""

AS_STATED = "as stated"
OTHER_PAIR = "another pair"
UNDECIDED = "undecided"
NO_PAIR = "no pair"
BLOCK_VERDICTS = (AS_STATED, OTHER_PAIR, UNDECIDED, NO_PAIR)
"""Of a block's cells of one benchmark: the stated pair fits; another does, tellingly; some do, as chance would have it;
none in the range does."""

_NUMBER = re.compile(r"\+?(\d+)(?:\.(\d*))?")


@dataclass(frozen=True)
class Printed:
    """A printed percentage: ``units`` of 10^-``decimals`` percent."""

    units: int
    decimals: int

    @property
    def step(self) -> Fraction:
        """One unit in the last place, in percent."""
        return Fraction(1, 10**self.decimals)

    @property
    def value(self) -> Fraction:
        """In percent."""
        return self.units * self.step

    def __str__(self) -> str:
        """As it was printed."""
        return f"{Decimal(self.units).scaleb(-self.decimals):.{self.decimals}f}"


@dataclass(frozen=True)
class Pair:
    """n problems with k samples each."""

    problems: int
    samples: int

    def __post_init__(self) -> None:
        """Both are whole numbers of at least 1."""
        for name, value in (("problems", self.problems), ("samples", self.samples)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: found {value!r}; expected a whole number of at least 1")

    @property
    def total(self) -> int:
        """Responses that are counted: n k."""
        return self.problems * self.samples

    def __str__(self) -> str:
        """As `500 x 5`."""
        return f"{self.problems} x {self.samples}"


def printed(text: str, decimals: int | None = None) -> Printed:
    """A number as it is printed, e.g. ``81.60`` or ``81.60%``: its decimals count, so it must be text.

    Args:
        text: digits, a point, digits.
        decimals: how many were printed, if trailing zeros have been lost on the way; default: those that are there.

    Raises:
        ValueError: not such a number, above 100, or with more decimals than it is said to have.
    """
    bare = text.strip().removesuffix("%").rstrip()
    match = _NUMBER.fullmatch(bare)
    if match is None:
        raise ValueError(f"found {text.strip()!r}; expected a percentage such as 81.60")
    found = len(match[2] or "")
    wanted = found if decimals is None else decimals
    if found > wanted:
        raise ValueError(f"found {text.strip()!r} with {found} decimals; expected at most {wanted}")
    number = Printed(int(match[1] + (match[2] or "")) * 10 ** (wanted - found), wanted)
    if number.value > 100:
        raise ValueError(f"found {text.strip()!r}; expected at most 100 percent")
    return number


# -- one cell ---------------------------------------------------------------------------------------------------------


def counts(cell: Printed, total: int, rounding: str) -> range:
    """The numbers of correct responses, out of ``total``, that are printed as this cell.

    Args:
        cell: what is printed.
        total: n k.
        rounding: ``nearest`` (ties either way) or ``cut off``.
    """
    scale = 100 * 10**cell.decimals  # 100 percent, in units of the last place
    if rounding == NEAREST:
        low, high = Fraction((2 * cell.units - 1) * total, 2 * scale), Fraction((2 * cell.units + 1) * total, 2 * scale)
        last = floor(high)
    else:
        low, high = Fraction(cell.units * total, scale), Fraction((cell.units + 1) * total, scale)
        last = ceil(high) - 1
    return range(max(0, ceil(low)), min(total, last) + 1)


def check(cell: Printed, pair: Pair) -> str:
    """Whether a cell can be an accuracy over n x k responses: one of :data:`CELL_VERDICTS`."""
    if pair.total >= 100 * 10**cell.decimals:
        return NO_POWER
    if counts(cell, pair.total, NEAREST):
        return MULTIPLE
    return CUT_OFF if counts(cell, pair.total, CUT) else NO_MULTIPLE


def nearest(cell: Printed, pair: Pair) -> tuple[int, float]:
    """The number of correct responses that comes nearest to a cell.

    Returns:
        It, and its accuracy minus the cell in units of the cell's last place: at most 0.5 in magnitude if the cell is
        that accuracy rounded, from 0 to below 1 if it is cut off. Rounding k results each before taking their mean can
        move a cell by up to one unit.
    """
    exact = cell.value * pair.total / 100
    count = min(pair.total, floor(exact + Fraction(1, 2)))
    return count, float((Fraction(100 * count, pair.total) - cell.value) / cell.step)


def alternatives(cell: Printed, stated: Pair, candidates: Sequence[Pair]) -> dict[str, list[int]]:
    """Which other n with the stated k, and which other k with the stated n, a single cell fits, rounded or cut off.

    Returns:
        ``problems`` (largest first) and ``samples`` (smallest first), of the candidates.
    """
    fitting = [pair for pair in candidates if pair != stated and _passes(cell, pair)]
    problems = {pair.problems for pair in fitting if pair.samples == stated.samples}
    samples = {pair.samples for pair in fitting if pair.problems == stated.problems}
    return {"problems": sorted(problems, reverse=True), "samples": sorted(samples)}


def _passes(cell: Printed, pair: Pair) -> bool:
    return any(counts(cell, pair.total, rounding) for rounding in ROUNDINGS)


@lru_cache(maxsize=65536)
def chance(total: int, decimals: int, rounding: str) -> float:
    """The share of all numbers from 0 to 100 with so many decimals that are an accuracy over ``total`` responses.

    The chance that a number without any relation to n k passes; 1 minus it is the power of the test.
    """
    scale = 100 * 10**decimals
    if total >= scale:
        return 1.0
    values = total + 1  # accuracies are more than one unit apart, so each is printed in its own way
    if rounding == NEAREST:  # and a tie in two: 2 scale c / total is odd for every second of `common` counts, or none
        common = gcd(2 * scale, total)
        values += (common + 1) // 2 if 2 * scale // common % 2 else 0
    return values / (scale + 1)


@lru_cache(maxsize=65536)
def chance_either(total: int, decimals: int) -> float:
    """:func:`chance`, for a number that may be rounded or cut off."""
    scale = 100 * 10**decimals
    if total >= scale:
        return 1.0
    exact = scale * np.arange(total + 1, dtype=np.int64)
    half_up, half_down = (2 * exact + total) // (2 * total), -((total - 2 * exact) // (2 * total))
    return len(np.unique(np.concatenate([exact // total, half_up, half_down]))) / (scale + 1)


# -- blocks of cells --------------------------------------------------------------------------------------------------


def candidates(stated: Pair, missing: float = MISSING, samples: Sequence[int] | None = None) -> list[Pair]:
    """The pairs that are looked at: n' from (1 - missing) n to n, k' from 1 to :data:`MOST_SAMPLES` or the stated k.

    Args:
        stated: n x k.
        missing: share of the problems that may be missing.
        samples: the k' to look at instead.
    """
    fewest = max(1, ceil(Fraction(str(1 - missing)).limit_denominator(10**6) * stated.problems))
    tried = sorted(set(samples or range(1, max(MOST_SAMPLES, stated.samples) + 1)))
    return [Pair(n, k) for k in tried for n in range(stated.problems, fewest - 1, -1)]


@dataclass(frozen=True)
class Fit:
    """A pair that all of a block's cells of a benchmark fit, with one way of rounding.

    Attributes:
        pair: n' x k'.
        rounding: ``nearest`` or ``cut off``.
        chance: that as many random cells would all fit this pair so rounded.
        expected: how many pairs at most as fine as this one were expected to fit by chance, of those looked at, both
            ways of rounding; the smaller of that for the block alone, and for it with the blocks in ``shared``
            (times the number of such sets of blocks, since none was named beforehand).
        shared: the other blocks that fit the same pair.
    """

    pair: Pair
    rounding: str
    chance: float
    expected: float
    shared: tuple[str, ...]

    @property
    def telling(self) -> bool:
        """Whether chance is no explanation."""
        return self.expected < TELLING


def fits(blocks: Mapping[str, Sequence[Printed]], pairs: Sequence[Pair]) -> dict[str, list[Fit]]:
    """The pairs that fit the cells of one benchmark, block by block, the least expected by chance first.

    Equal cells of a block count once. Pairs with the same n k cannot be told apart; the one with the most problems
    comes first.

    Args:
        blocks: name -> its cells, at least one each.
        pairs: those to look at.

    Returns:
        block -> its fits.
    """
    cells = {name: sorted(set(block), key=lambda cell: (cell.value, cell.decimals)) for name, block in blocks.items()}
    totals = sorted({pair.total for pair in pairs})
    rounded = {name: {total: _rounding(block, total) for total in totals} for name, block in cells.items()}
    either = {name: np.array([_either(block, total) for total in totals]) for name, block in cells.items()}
    expected: dict[tuple[str, ...], dict[int, float]] = {}

    def by_chance(names: tuple[str, ...]) -> dict[int, float]:
        """How many different n k up to each one would fit all of these blocks."""
        if names not in expected:
            together = np.cumsum(np.prod([either[name] for name in names], axis=0))
            expected[names] = dict(zip(totals, (comb(len(cells), len(names)) * together).tolist(), strict=True))
        return expected[names]

    found: dict[str, list[Fit]] = {name: [] for name in cells}
    for pair in sorted(pairs, key=lambda pair: (pair.total, -pair.problems)):
        fitting = tuple(name for name in cells if rounded[name][pair.total])
        for name in fitting:
            alone = by_chance((name,))[pair.total] / len(cells)
            rounding = rounded[name][pair.total]
            found[name].append(
                Fit(
                    pair,
                    rounding,
                    _together(cells[name], pair.total, rounding),
                    min(alone, by_chance(fitting)[pair.total]),
                    tuple(other for other in fitting if other != name),
                )
            )
    return {name: sorted(of, key=lambda fit: fit.expected) for name, of in found.items()}


def _rounding(cells: Sequence[Printed], total: int) -> str:
    """How all cells are rounded if they are accuracies over so many responses; empty if they are not."""
    for rounding in ROUNDINGS:
        if all(counts(cell, total, rounding) for cell in cells):
            return rounding
    return ""


def _together(cells: Sequence[Printed], total: int, rounding: str) -> float:
    return prod(chance(total, cell.decimals, rounding) for cell in cells)


def _either(cells: Sequence[Printed], total: int) -> float:
    return min(1.0, sum(_together(cells, total, rounding) for rounding in ROUNDINGS))


@dataclass(frozen=True)
class Block:
    """What is found of a block's cells of one benchmark.

    Attributes:
        verdict: one of :data:`BLOCK_VERDICTS`.
        rounding: with which the stated pair fits; empty if it does not.
        chance: that as many random cells would all fit the stated pair, one way of rounding or the other.
        best: the fit that chance explains least; None if nothing fits.
        fits: how many of the pairs looked at fit.
        cells: how many different cells there are.
    """

    verdict: str
    rounding: str
    chance: float
    best: Fit | None
    fits: int
    cells: int


def judge(blocks: Mapping[str, Sequence[Printed]], stated: Pair, pairs: Sequence[Pair]) -> dict[str, Block]:
    """Judge the cells of one benchmark, block by block: do they fit the stated pair, and if not, which one?

    Args:
        blocks: name -> its cells.
        stated: n x k.
        pairs: those to look at, from :func:`candidates`.
    """
    found = fits(blocks, pairs)
    result = {}
    for name, cells in blocks.items():
        rounding = _rounding(cells, stated.total)
        best = found[name][0] if found[name] else None
        if rounding:
            verdict = AS_STATED
        elif best is None:
            verdict = NO_PAIR
        else:
            verdict = OTHER_PAIR if best.telling else UNDECIDED
        result[name] = Block(
            verdict, rounding, _either(list(set(cells)), stated.total), best, len(found[name]), len(set(cells))
        )
    return result


# -- averages ---------------------------------------------------------------------------------------------------------


def check_average(average: Printed, cells: Sequence[Printed]) -> str:
    """Whether a printed average is the unweighted mean of its row: one of :data:`AVERAGE_VERDICTS`.

    ``mean of its row``: the mean of the printed cells, rounded half up, half to even, or cut off, is the average.
    ``within rounding``: it is not, but the mean of cells before they were rounded may be.
    """
    mean = sum((cell.value for cell in cells), Fraction(0)) / len(cells)
    scaled = mean / average.step
    half = Fraction(1, 2)
    if average.units in (floor(scaled), floor(scaled + half), ceil(scaled - half)):  # cut off, half up, half down
        return SAME
    # each cell may be up to one unit below what it was (cut off) or half a unit beside it, and so may the average
    slack = sum((cell.step for cell in cells), Fraction(0)) / len(cells) + average.step
    return WITHIN_ROUNDING if abs(mean - average.value) < slack else NOT_THE_MEAN
