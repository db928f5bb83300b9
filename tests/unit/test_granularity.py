"""Whether a printed accuracy can be a share of n x k: real counts are never flagged, known truths are found."""

from collections import Counter
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymgrpo.analysis import granularity as g
from asymgrpo.analysis.granularity import CUT, NEAREST, Pair, Printed, printed

WAYS = {"half up": ROUND_HALF_UP, "half to even": ROUND_HALF_EVEN, "cut off": ROUND_DOWN}


def as_printed(count, total, decimals, way=ROUND_HALF_UP):
    """100 count / total with so many decimals, as exact decimal arithmetic rounds it."""
    # with 2 as the only prime of the denominator beside 5 a tie is exact; otherwise there is none
    exact = Decimal(100 * count) / Decimal(total)
    return str(exact.quantize(Decimal(1).scaleb(-decimals), rounding=way))


pairs = st.builds(Pair, st.integers(1, 700), st.integers(1, 16))


@given(pairs, st.floats(0, 1), st.integers(0, 4), st.sampled_from(sorted(WAYS)))
@settings(max_examples=500, deadline=None)
def test_an_accuracy_made_from_a_count_is_never_flagged(pair, share, decimals, way):
    count = round(share * pair.total)
    cell = printed(as_printed(count, pair.total, decimals, WAYS[way]))
    assert g.check(cell, pair) != g.NO_MULTIPLE
    if way != "cut off":
        assert g.check(cell, pair) in (g.MULTIPLE, g.NO_POWER)
        assert count in g.counts(cell, pair.total, NEAREST)
    else:
        assert count in g.counts(cell, pair.total, CUT)
    near, off = g.nearest(cell, pair)
    assert abs(off) <= 1
    assert abs(Fraction(100 * near, pair.total) - cell.value) <= abs(Fraction(100 * count, pair.total) - cell.value)


@given(pairs, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_what_python_and_numpy_print_is_never_flagged(pair, share):
    """Their binary fractions are next to a tie on either side of it."""
    count = round(share * pair.total)
    for text in (
        f"{100 * count / pair.total:.2f}",
        f"{np.round(100 * np.float32(count) / np.float32(pair.total), 2):.2f}",
    ):
        assert g.check(printed(text), pair) != g.NO_MULTIPLE


@pytest.mark.parametrize(("total", "decimals"), [(1, 0), (7, 1), (16, 1), (300, 2), (32, 2), (999, 1), (400, 2)])
def test_verdicts_are_those_of_trying_every_count(total, decimals):
    printable = {way: {as_printed(c, total, decimals, WAYS[way]) for c in range(total + 1)} for way in WAYS}
    # a tie may also go down, as binary fractions do
    rounded = {units for c in range(total + 1) for units in _halves(100 * 10**decimals * c, total)}
    for units in range(100 * 10**decimals + 1):
        cell = Printed(units, decimals)
        cut = str(cell) in printable["cut off"]
        expected = g.MULTIPLE if units in rounded else g.CUT_OFF if cut else g.NO_MULTIPLE
        assert g.check(cell, Pair(total, 1)) == (expected if total < 100 * 10**decimals else g.NO_POWER)
    assert {str(Printed(units, decimals)) for units in rounded} >= printable["half up"] | printable["half to even"]
    scale = 100 * 10**decimals + 1
    if total < scale - 1:
        assert g.chance(total, decimals, NEAREST) == len(rounded) / scale
        assert g.chance(total, decimals, CUT) == len(printable["cut off"]) / scale
        either = rounded | {printed(text).units for text in printable["cut off"]}
        assert g.chance_either(total, decimals) == len(either) / scale
    else:
        assert g.chance(total, decimals, CUT) == g.chance_either(total, decimals) == 1


def _halves(numerator, denominator):
    whole, rest = divmod(numerator, denominator)
    return {whole} if 2 * rest < denominator else {whole + 1} if 2 * rest > denominator else {whole, whole + 1}


def test_cells_by_hand():
    """One third of 3 responses; 0.68 of 29 x 10 is 2 of 290 cut off, and nothing of 30 x 10."""
    assert g.check(printed("33.33"), Pair(3, 1)) == g.MULTIPLE
    assert g.check(printed("33.34"), Pair(3, 1)) == g.NO_MULTIPLE
    assert g.check(printed("66.66"), Pair(3, 1)) == g.CUT_OFF
    assert g.check(printed("0.69"), Pair(29, 10)) == g.MULTIPLE
    assert g.check(printed("0.68"), Pair(29, 10)) == g.CUT_OFF
    assert g.check(printed("0.68"), Pair(30, 10)) == g.NO_MULTIPLE
    assert g.nearest(printed("0.68"), Pair(30, 10)) == (2, pytest.approx(-4 / 3))
    assert g.check(printed("12.34"), Pair(1000, 10)) == g.NO_POWER
    assert g.check(printed("12.345"), Pair(1000, 10)) == g.NO_MULTIPLE
    assert g.check(printed("12.5"), Pair(800, 1)) == g.MULTIPLE
    # a tie goes both ways: 1 of 800 is 0.125
    assert [g.check(printed(text), Pair(800, 1)) for text in ("0.12", "0.13", "0.14")] == [
        g.MULTIPLE,
        g.MULTIPLE,
        g.NO_MULTIPLE,
    ]
    assert g.check(printed("100.00"), Pair(7, 1)) == g.check(printed("0.00"), Pair(7, 1)) == g.MULTIPLE


def test_alternatives_of_a_cell():
    stated = Pair(500, 5)
    tried = g.candidates(stated)
    found = g.alternatives(printed("90.07"), stated, tried)
    assert 3 in found["samples"]
    for pair in tried:
        if (pair.problems == 500) == (pair.samples == 5) or pair.problems < 490:
            continue
        ways = [{as_printed(count, pair.total, 2, way) for count in range(pair.total + 1)} for way in WAYS.values()]
        fits = any("90.07" in way for way in ways)
        assert fits == (
            pair.samples in found["samples"] if pair.problems == 500 else pair.problems in found["problems"]
        )


def test_the_pairs_that_are_looked_at():
    assert {(p.problems, p.samples) for p in g.candidates(Pair(40, 2))} == {
        (n, k) for n in (38, 39, 40) for k in range(1, 11)
    }
    assert {p.samples for p in g.candidates(Pair(30, 16))} == set(range(1, 17))
    assert {p.problems for p in g.candidates(Pair(30, 10), missing=0)} == {30}
    assert {p.samples for p in g.candidates(Pair(30, 10), samples=[4])} == {4}
    assert min(p.problems for p in g.candidates(Pair(3, 1), missing=0.99)) == 1


def block(rng, pair, size, decimals=2, way=ROUND_HALF_UP):
    counts = rng.integers(pair.total // 10, pair.total, size)
    return [printed(as_printed(int(count), pair.total, decimals, way)) for count in counts]


def test_another_pair_is_found_where_there_is_one():
    """Each block evaluated in its own way, one of them cut off; the pair comes out, and who shares it."""
    rng, stated = np.random.default_rng(0), Pair(500, 5)
    blocks = {
        "as stated": block(rng, stated, 8),
        "fewer samples": block(rng, Pair(500, 3), 8),
        "problems missing": block(rng, Pair(497, 3), 8),
        "cut off": block(rng, Pair(497, 3), 8, way=ROUND_DOWN),
    }
    found = g.judge(blocks, stated, g.candidates(stated))
    assert [judged.verdict for judged in found.values()] == [g.AS_STATED, *[g.OTHER_PAIR] * 3]
    assert found["as stated"].rounding == NEAREST
    best = {name: judged.best for name, judged in found.items()}
    assert best["fewer samples"].pair == Pair(500, 3)
    assert best["problems missing"].pair == best["cut off"].pair == Pair(497, 3)
    assert best["cut off"].rounding == CUT
    assert best["cut off"].shared == ("problems missing",)
    assert best["cut off"].expected < 1e-6
    assert all(judged.fits >= 1 for judged in found.values())


def test_blocks_that_are_evaluated_alike_explain_together_what_each_alone_does_not():
    """Three cells of 1,491 responses fit some coarser pair by chance; the same pair twice does not."""
    rng, stated = np.random.default_rng(2), Pair(500, 5)
    two = {"a": block(rng, Pair(497, 3), 3), "b": block(rng, Pair(497, 3), 3)}
    tried = g.candidates(stated)
    alone = [
        next(fit for fit in g.fits({name: cells}, tried)[name] if fit.pair == Pair(497, 3))
        for name, cells in two.items()
    ]
    assert not any(fit.telling for fit in alone)
    together = next(fit for fit in g.fits(two, tried)["a"] if fit.pair == Pair(497, 3))
    assert together.telling
    assert together.shared == ("b",)


def test_random_cells_fit_as_many_pairs_as_is_expected_and_are_rarely_explained():
    """Of random cells as many pairs fit as `expected` says, and few blocks are explained by another pair."""
    rng, stated = np.random.default_rng(1), Pair(300, 2)
    tried = g.candidates(stated)
    trials, fitting, explained = 100, 0, 0
    expected = 0.0
    totals = {pair.total for pair in tried if pair.total < 1000}
    for _ in range(trials):
        cells = [Printed(int(units), 2) for units in rng.integers(0, 10001, 2)]
        found = g.fits({"x": cells}, tried)["x"]
        fitting += len({fit.pair.total for fit in found if fit.pair.total < 1000})
        explained += bool(found) and found[0].telling
        expected += sum(min(1.0, sum(g.chance(total, 2, way) ** 2 for way in g.ROUNDINGS)) for total in totals)
    # both ways of rounding may fit the same pair, which `expected` counts twice
    assert 0.5 * expected < fitting < 1.1 * expected
    assert explained <= 4 * g.TELLING * trials


def test_judging_nothing_that_fits_and_what_chance_explains():
    stated = Pair(30, 10)
    tried = g.candidates(stated)
    assert g.judge({"x": [printed("12.34"), printed("56.78")]}, stated, tried)["x"].verdict == g.NO_PAIR
    stated = Pair(674, 5)
    found = g.judge({"x": [printed("12.35"), printed("12.40")]}, stated, g.candidates(stated))["x"]
    assert found.verdict in (g.UNDECIDED, g.AS_STATED)
    assert found.fits > 50


def test_equal_cells_count_once():
    stated = Pair(30, 10)
    one = g.judge({"x": [printed("33.33")]}, stated, g.candidates(stated))["x"]
    same = g.judge({"x": [printed("33.33")] * 9}, stated, g.candidates(stated))["x"]
    assert one == same
    assert same.cells == 1


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=8), st.sampled_from(sorted(WAYS)), st.sampled_from(sorted(WAYS))
)
@settings(max_examples=300, deadline=None)
def test_a_mean_of_its_row_is_never_called_another(counts, way, way_of_mean):
    cells = [printed(as_printed(count, 2000, 2, WAYS[way])) for count in counts]
    mean = sum(cell.value for cell in cells) / len(cells)
    units = {"half up": (2 * mean * 100 + 1) // 2, "cut off": mean * 100 // 1, "half to even": round(mean * 100)}
    assert g.check_average(Printed(int(units[way_of_mean]), 2), cells) == g.SAME
    exact = Fraction(100 * sum(counts), 2000 * len(counts))
    before = Printed(int((2 * exact * 100 + 1) // 2), 2)
    assert g.check_average(before, cells) != g.NOT_THE_MEAN
    far = Printed(before.units + 4, 2)
    assert g.check_average(far, cells) == g.NOT_THE_MEAN


def test_averages_by_hand():
    row = [printed(text) for text in ("81.60", "21.67", "20.00", "63.75", "47.52")]
    assert g.check_average(printed("46.91"), row) == g.SAME
    assert g.check_average(printed("46.90"), row) == g.SAME  # 46.908, cut off
    assert g.check_average(printed("46.92"), row) == g.WITHIN_ROUNDING
    assert g.check_average(printed("46.94"), row) == g.NOT_THE_MEAN
    assert g.check_average(printed("46.9"), row) == g.SAME


def test_numbers_as_they_are_printed():
    assert printed("81.60") == Printed(8160, 2)
    assert printed(" 81.60 % ") == Printed(8160, 2)
    assert printed("7") == Printed(7, 0)
    assert printed("+7.") == Printed(7, 0)
    assert printed("81.6", decimals=2) == Printed(8160, 2)
    assert str(printed("5.00")) == "5.00"
    assert str(printed("100")) == "100"
    for text, decimals in (
        ("abc", None),
        ("", None),
        ("-1", None),
        ("100.01", None),
        ("1e2", None),
        ("81.605", 2),
        ("1,5", None),
    ):
        with pytest.raises(ValueError, match="found"):
            printed(text, decimals)
    for problems, samples in ((0, 5), (5, 0), (5.0, 5), (True, 5)):
        with pytest.raises(ValueError, match="expected a whole number of at least 1"):
            Pair(problems, samples)


def test_power_falls_as_the_pair_gets_finer():
    powers = [1 - g.chance_either(total, 2) for total in (300, 1500, 2500, 3370, 9999)]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] > 0.95
    assert g.chance_either(10000, 2) == 1
    assert Counter(g.check(Printed(units, 2), Pair(10000, 1)) for units in range(0, 10001, 97)) == {g.NO_POWER: 104}
