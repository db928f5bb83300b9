"""Simulated runs with known effects, for the calibration of verdicts; benchmarks/calibration.py has more of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from asymgrpo.analysis.claims.statistics import Estimate, crossed, evidence, paired
from asymgrpo.analysis.claims.verdicts import CONTRADICTED, INCONCLUSIVE, REPRODUCED, claim_verdict, statement_verdicts

CHUNK = 250
CODES = {1: REPRODUCED, -1: CONTRADICTED, 0: INCONCLUSIVE}


class Mixture(NamedTuple):
    """Standard deviations of a method's probability of solving a problem, between ...

    ``seeds``: runs; ``benchmarks``: a run's benchmarks; ``problems``: problems, the same in every run of the method
    (half the width of a uniform distribution, as the next); ``rest``: problems of one run.
    """

    seeds: float
    benchmarks: float
    problems: float
    rest: float


MIXTURES = {
    "seeds and problems": Mixture(0.02, 0.02, 0.14, 0.1),
    "mostly problems": Mixture(0.01, 0.01, 0.2, 0.1),
    "problems only": Mixture(0.0, 0.0, 0.25, 0.1),
    "seeds only": Mixture(0.05, 0.05, 0.0, 0.1),
}


def accuracies(
    rng: np.random.Generator,
    count: int,
    methods: int,
    seeds: int,
    sizes: Sequence[int],
    samples: int,
    mixture: Mixture,
    shift: float = 0.0,
) -> list[np.ndarray]:
    """Measured accuracies of simulated studies, per benchmark of shape (count, methods, seeds, problems).

    All methods are drawn alike, so that no two differ but by chance; the first is better by ``shift``. Probabilities
    stay inside (0, 1) but for rare tails of the normal terms.
    """
    run = rng.normal(0, mixture.seeds, (count, methods, seeds, 1))
    tables = []
    for size in sizes:
        chance = rng.uniform(0.4, 0.6, (count, 1, 1, size))
        chance = chance + run + rng.normal(0, mixture.benchmarks, (count, methods, seeds, 1))
        chance += rng.uniform(-mixture.problems, mixture.problems, (count, methods, 1, size))
        chance += rng.uniform(-mixture.rest, mixture.rest, (count, methods, seeds, size))
        chance[:, 0] += shift
        tables.append(rng.binomial(samples, np.clip(chance, 0, 1)) / samples)
    return tables


def contrasts(tables: list[np.ndarray], pairs: Sequence[tuple[int, int]]) -> list[list[np.ndarray]]:
    """Differences of these pairs of methods: for each pair per benchmark."""
    return [[table[:, a] - table[:, b] for table in tables] for a, b in pairs]


def chunks(count: int) -> Iterator[int]:
    """So many simulations at once."""
    yield from [CHUNK] * (count // CHUNK) + ([count % CHUNK] if count % CHUNK else [])


def verdict_rates(
    estimates: Sequence[Sequence[Estimate]], direction: str, threshold: float, seeds: int
) -> dict[str, float]:
    """How often a claim comes out as what, over the leading axis of the estimates.

    Args:
        estimates: for each of the claim's statements, one per window.
        direction: of all statements.
        threshold: of all statements.
        seeds: how many.
    """
    found = [evidence(parts, direction, threshold)[0] for parts in estimates]
    sides = (np.stack([getattr(e, side) for e in found], axis=-1) for side in ("for_it", "against"))
    codes, _ = statement_verdicts(*sides, seeds, 0.05)
    verdicts = [claim_verdict([CODES[int(code)] for code in row]) for row in codes]
    return {verdict: verdicts.count(verdict) / len(verdicts) for verdict in CODES.values()}


def claim_of_accuracies(
    seed: int,
    count: int,
    pairs: Sequence[tuple[int, int]],
    seeds: int,
    sizes: Sequence[int],
    samples: int,
    mixture: Mixture,
) -> dict[str, float]:
    """Verdicts on a claim about final accuracies whose methods do not differ."""
    rng = np.random.default_rng(seed)
    methods = 1 + max(max(pair) for pair in pairs)
    rates = dict.fromkeys(CODES.values(), 0.0)
    for size in chunks(count):
        tables = accuracies(rng, size, methods, seeds, sizes, samples, mixture)
        parts = [[crossed(differences)] for differences in contrasts(tables, pairs)]
        for verdict, rate in verdict_rates(parts, "above", 0.0, seeds).items():
            rates[verdict] += rate * size / count
    return rates


def claim_of_curves(
    seed: int, count: int, statements: int, windows: int, seeds: int, direction: str, threshold: float, effect: float
) -> dict[str, float]:
    """Verdicts on a claim about curves; every statement in every window has this effect (in standard deviations).

    A seed's windows share half of their variance, its statements (which share a reference) a quarter.
    """
    rng = np.random.default_rng(seed)
    d = (
        effect
        + 0.5 * rng.normal(size=(count, 1, 1, seeds))
        + 0.5 * rng.normal(size=(count, statements, 1, seeds))
        + np.sqrt(0.5) * rng.normal(size=(count, statements, windows, seeds))
    )
    parts = [[paired(d[:, s, w]) for w in range(windows)] for s in range(statements)]
    return verdict_rates(parts, direction, threshold, seeds)


def coverage(
    seed: int, count: int, seeds: int, sizes: Sequence[int], samples: int, mixture: Mixture, shift: float
) -> float:
    """How often the 95% interval of a final accuracy's difference has the true one in it."""
    rng, hits = np.random.default_rng(seed), 0
    for size in chunks(count):
        (differences,) = contrasts(accuracies(rng, size, 2, seeds, sizes, samples, mixture, shift), [(0, 1)])
        low, high = crossed(differences).interval(0.95)
        hits += int(((low <= shift) & (shift <= high)).sum())
    return hits / count
