"""Verdicts on simulated runs whose effects are known: 2,000 simulations a case; benchmarks/calibration.py has more.

With a true rate of 5% the rate found in 2,000 simulations has a standard error of 0.49 points.
"""

import pytest
from simulated import MIXTURES, claim_of_accuracies, claim_of_curves, coverage

COUNT = 2000
ERROR = (0.05 * 0.95 / COUNT) ** 0.5
MOST = 0.05 + 3 * ERROR
SIZES, SAMPLES = (20, 30, 30, 40, 60), 4

CLAIMS = {
    "one contrast": [(0, 1)],
    "chain of four": [(1, 0), (2, 1), (3, 2)],
    "one against five": [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)],
}


def wrong(rates):
    return rates["reproduced"] + rates["contradicted"]


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize(("claim", "seeds"), [("one contrast", 3), ("one contrast", 10), ("chain of four", 5)])
def test_claims_about_final_accuracies_that_do_not_differ(claim, seeds, mixture):
    rates = claim_of_accuracies(1, COUNT, CLAIMS[claim], seeds, SIZES, SAMPLES, MIXTURES[mixture])
    assert wrong(rates) <= MOST


@pytest.mark.parametrize("seeds", [3, 5])
def test_many_statements_that_share_a_method(seeds):
    rates = claim_of_accuracies(2, COUNT, CLAIMS["one against five"], seeds, SIZES, SAMPLES, MIXTURES["seeds only"])
    assert wrong(rates) <= MOST


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("statements", "windows"), [(1, 1), (12, 1), (4, 3)])
def test_claims_about_curves_that_do_not_differ(statements, windows, seeds):
    assert wrong(claim_of_curves(3, COUNT, statements, windows, seeds, "above", 0.0, 0.0)) <= MOST


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_close_at_the_margin_itself_is_neither(seeds):
    """Where the truth lies exactly on the margin, either verdict would be wrong."""
    for statements in (1, 4):
        assert wrong(claim_of_curves(4, COUNT, statements, 1, seeds, "within", 1.0, 1.0)) <= MOST


def test_with_fewer_seeds_there_is_no_verdict_at_all():
    assert wrong(claim_of_curves(5, COUNT, 1, 1, 2, "above", 0.0, 100.0)) == 0


def test_a_large_effect_is_found_and_no_contradiction_is():
    rates = claim_of_curves(6, COUNT, 4, 3, 5, "above", 0.0, 6.0)
    assert rates["reproduced"] > 0.9
    assert rates["contradicted"] == 0
    assert claim_of_curves(6, COUNT, 4, 3, 5, "below", 0.0, 6.0)["contradicted"] > 0.9


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_a_known_effect(seeds, mixture):
    found = coverage(7, COUNT, seeds, SIZES, SAMPLES, MIXTURES[mixture], 0.02)
    assert 0.95 - 3 * ERROR <= found <= 0.985, found
