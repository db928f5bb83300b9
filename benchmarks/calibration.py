"""How often verdicts are wrong, and how often intervals hold the truth, on simulated runs whose effects are known.

    python benchmarks/calibration.py                     # 2,000 simulations a case; about ten minutes on one core
    python benchmarks/calibration.py --simulations 200

Five benchmarks of 200 problems with four samples each, as at local scale. Prints a table of what the nominal 95%
interval of a final accuracy's difference covers, beside two alternatives that are not used: one t distribution with
Satterthwaite's degrees of freedom, and the bootstrap of asymgrpo.analysis.intervals, which tables use for a method by
itself; a line of what that bootstrap covers of a method by itself; and a table of how often a claim about methods that
do not differ comes out as reproduced or contradicted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from simulated import MIXTURES, Mixture, accuracies, chunks, claim_of_accuracies, claim_of_curves, contrasts

from asymgrpo.analysis.claims.statistics import Estimate, crossed
from asymgrpo.analysis.intervals import bootstrap_crossed, percentile_interval

SIZES, SAMPLES, SHIFT = (200,) * 5, 4, 0.01
SEEDS = (3, 5, 10)
RESAMPLES = 500
MEASURED = Mixture(seeds=0.0135, benchmarks=0.012, problems=0.37, rest=0.15)
"""What the reference results of the local scale have, on average over their methods on the primary backbone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--bootstraps", type=int, default=2000, help="simulations of those that are bootstrapped too")
    chosen = parser.parse_args()

    print(f"Coverage of the nominal 95% interval, in percent; {chosen.simulations:,} simulations a case\n")
    print(f"{'variance of':22} {'S':>3}  {'crossed':>8} {'Satterthwaite':>14} {'bootstrap':>10}")
    for name, mixture in MIXTURES.items():
        for seeds in SEEDS:
            found = coverages(mixture, seeds, chosen.simulations, chosen.bootstraps)
            print(f"{name:22} {seeds:3}  {found[0]:8.1f} {found[1]:14.1f} {found[2]:10.1f}", flush=True)

    print("\nA method's average by itself, spread as in the reference results: coverage of the bootstrap, in percent\n")
    several = min(chosen.simulations, chosen.bootstraps)
    for seeds in (2, *SEEDS):
        print(f"{'':22} {seeds:3}  {coverage_of_average(seeds, several):8.1f}", flush=True)

    print("\nA claim whose methods do not differ: how often reproduced / contradicted, in percent\n")
    cases: dict[str, Sequence[tuple[int, int]]] = {
        "one contrast (claim 9)": [(0, 1)],
        "chain of four (claim 10)": [(1, 0), (2, 1), (3, 2)],
        "one against five (claim 8)": [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)],
    }
    for name, pairs in cases.items():
        for seeds in SEEDS:
            for kind, mixture in MIXTURES.items():
                rates = claim_of_accuracies(seeds, chosen.simulations, pairs, seeds, SIZES, SAMPLES, mixture)
                print(f"{name:28} {seeds:3} {kind:20} {in_percent(rates)}", flush=True)
    for name, statements, windows in (("twelve statements (claim 7)", 12, 1), ("four, three windows (claim 2)", 4, 3)):
        for seeds in SEEDS:
            rates = claim_of_curves(seeds, chosen.simulations, statements, windows, seeds, "above", 0.0, 0.0)
            print(f"{name:28} {seeds:3} {'seeds':20} {in_percent(rates)}", flush=True)
    for seeds in SEEDS:
        rates = claim_of_curves(seeds, chosen.simulations, 4, 1, seeds, "within", 1.0, 1.0)
        print(f"{'four at the margin (claim 6)':28} {seeds:3} {'seeds':20} {in_percent(rates)}", flush=True)


def in_percent(rates: dict[str, float]) -> str:
    return f"{100 * rates['reproduced']:5.2f} / {100 * rates['contradicted']:5.2f}"


def coverages(mixture: Mixture, seeds: int, count: int, bootstraps: int) -> list[float]:
    """Of the crossed interval, of Satterthwaite's, and of the bootstrap's percentiles; percent."""
    rng = np.random.default_rng(seeds)
    hits, done, resampled = np.zeros(3), 0, 0
    for size in chunks(count):
        (differences,) = contrasts(accuracies(rng, size, 2, seeds, SIZES, SAMPLES, mixture, SHIFT), [(0, 1)])
        estimate = crossed(differences)
        hits[0] += _inside(*estimate.interval(0.95))
        hits[1] += _inside(*satterthwaite(estimate, 0.95))
        done += size
        for index in range(min(size, bootstraps - resampled)):
            drawn = [bootstrap_crossed(d[index], resamples=RESAMPLES, stream=b) for b, d in enumerate(differences)]
            hits[2] += _inside(*percentile_interval(np.mean(drawn, axis=0)))
        resampled = min(bootstraps, done)
    return list(100 * hits / [done, done, max(1, resampled)])


def coverage_of_average(seeds: int, count: int) -> float:
    """Of the bootstrap's interval of one method's mean over benchmarks; percent."""
    rng, hits = np.random.default_rng(seeds), 0
    for size in chunks(count):
        tables = [table[:, 0] for table in accuracies(rng, size, 1, seeds, SIZES, SAMPLES, MEASURED)]
        for study in zip(*tables, strict=True):
            drawn = [bootstrap_crossed(table, resamples=RESAMPLES, stream=b) for b, table in enumerate(study)]
            low, high = percentile_interval(np.mean(drawn, axis=0))
            hits += low <= 0.5 <= high
    return 100 * hits / count


def satterthwaite(estimate: Estimate, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The interval with one t distribution for the sum of the two variances."""
    parts = estimate.seeds**2 / estimate.seeds_freedom + estimate.problems**2 / estimate.problems_freedom
    half = stats.t.ppf(0.5 + level / 2, estimate.error**4 / parts) * estimate.error
    return estimate.effect - half, estimate.effect + half


def _inside(low: np.ndarray | float, high: np.ndarray | float) -> int:
    return int(np.sum((np.asarray(low) <= SHIFT) & (np.asarray(high) >= SHIFT)))


if __name__ == "__main__":
    main()
