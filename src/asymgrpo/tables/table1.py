"""Table 1: alpha, the reward-confidence alignment (App. E), per backbone over the first training steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asymgrpo.analysis import runs
from asymgrpo.analysis.intervals import FEWEST_SEEDS, RESAMPLES, bootstrap_nested, percentile_interval
from asymgrpo.figures import assumptions
from asymgrpo.tables import Result
from asymgrpo.tables.render import Estimate, Table

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "table1"


def build(study: Study) -> Result:
    """Table 1 from ``steps.parquet`` of its runs; ValueError if one is missing or incomplete."""
    first = int(study.artefact(NAME).settings["alpha_steps"])
    steps = runs.steps(study, study.runs(NAME))
    steps = steps[steps["step"] <= first]
    data = pd.DataFrame(
        [
            {"backbone": backbone, "method": method} | alpha(part)
            for (backbone, method), part in steps.groupby(["backbone", "method"], sort=False)
        ]
    )
    rows = []
    for row in data.to_dict("records"):
        backbone = study.backbones[row["backbone"]]
        per_seed = [Estimate(row[f"alpha_seed_{seed}"], digits=4).text() for seed in study.seeds]
        rows.append(
            [
                backbone.label,
                backbone.stands_for,
                study.methods[row["method"]].label,
                row["sign"],
                Estimate(row["mean"], row["low"], row["high"], digits=4),
                ", ".join(per_seed),
                str(row["n_mixed"]),
                f"{row['steps_positive']} of {row['steps']}",
            ]
        )
    used = int(steps["step"].max())
    notes = [
        f"Mean over seeds of the mean over the first {first} steps"
        + (f" (here {used}, the whole run)" if used < first else "")
        + f", nats per token; 95% bootstrap interval over seeds and steps ({RESAMPLES} resamples"
        + (")." if len(study.seeds) > 1 else "; one seed, so over steps only)."),
        f"Sign: that of the whole interval, undecided with fewer than {FEWEST_SEEDS} seeds. The table of claims has "
        "another interval, by t statistics over the seeds' means, which is wider with few seeds; its verdict counts.",
        "The paper's values are not in our copy; it says that alpha is positive for every model.",
    ]
    if assumed := assumptions(study, NAME):
        notes.append(assumed)
    header = ["Backbone", "Stands for", "Runs of", "Sign of α", "α", "α per seed", "Mixed groups", "Steps with α > 0"]
    table = Table("Table 1. Reward-confidence alignment α early in training", header, rows, notes, "tab:alpha", left=4)
    return Result(data, [table])


def alpha(part: pd.DataFrame) -> dict[str, object]:
    """Alpha of one backbone and method.

    Args:
        part: ``seed``, ``step``, ``alpha`` (NaN in a step without mixed groups), ``n_mixed``; the steps to average.

    Returns:
        ``mean`` (of the seeds' means), ``low``, ``high``, ``sign`` ("positive" or "negative" if the interval excludes
        zero and is of :data:`asymgrpo.analysis.intervals.FEWEST_SEEDS` seeds at least, else "undecided"; "unknown"
        without any mixed group), ``n_mixed``, ``steps`` (with mixed groups, all seeds), ``steps_positive``, and per
        seed ``alpha_seed_<s>``, ``n_mixed_seed_<s>``.
    """
    seeds = {int(str(seed)): rows["alpha"].dropna().to_numpy() for seed, rows in part.groupby("seed")}
    present = [values for values in seeds.values() if len(values)]
    low, high = percentile_interval(bootstrap_nested(present)) if present else (np.nan, np.nan)
    mean = float(np.mean([values.mean() for values in present])) if present else np.nan
    result: dict[str, object] = {
        "mean": mean,
        "low": low,
        "high": high,
        "sign": _sign(low, high, len(present)),
        "n_mixed": int(part["n_mixed"].sum()),
        "steps": sum(len(values) for values in present),
        "steps_positive": int(sum((values > 0).sum() for values in present)),
    }
    for seed, values in seeds.items():
        result[f"alpha_seed_{seed}"] = float(values.mean()) if len(values) else np.nan
        result[f"n_mixed_seed_{seed}"] = int(part.loc[part["seed"] == seed, "n_mixed"].sum())
    return result


def _sign(low: float, high: float, seeds: int) -> str:
    if seeds == 0:
        return "unknown"
    if seeds < FEWEST_SEEDS or low <= 0 <= high:
        return "undecided"
    return "positive" if low > 0 else "negative"
