"""What choosing the checkpoint on a test set gains over the last one, by method, as the paper chooses it so.

Per benchmark and on average, and how much of it is on the benchmark that chose: that part is the noise of the choice
as far as the benchmarks are alike. Where the best checkpoint is the last one nothing is gained, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo.analysis import runs
from asymgrpo.analysis.differences import Values, by_problem, estimate, interval_name, minus
from asymgrpo.analysis.intervals import AVERAGE
from asymgrpo.analysis.selection import EXCESS, OTHERS, best_steps, gains
from asymgrpo.config import Run
from asymgrpo.figures import CURVE_DECODING, closing_notes
from asymgrpo.tables import Result
from asymgrpo.tables.render import Cell, Estimate, Table

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "selection"
GRPO = "grpo"
LEAD = "lead over GRPO"
"""Stands for a benchmark's name: how much choosing changes a method's average minus that of GRPO."""


def build(study: Study) -> Result:
    """The table from its runs; ValueError if a file is missing, or the scale evaluates no best checkpoint."""
    shown = {backbone: study.methods_of(NAME, backbone) for backbone in study.backbones}
    shown = {backbone: names for backbone, names in shown.items() if names}
    final = study.settings["evaluation"]["final"]
    decodings = [name for name in study.artefact(NAME).decodings if {"last", "best"} <= set(final[name]["checkpoints"])]
    if not decodings:
        raise ValueError(
            f"config/scales/{study.scale}.yaml: evaluation.final: no decoding of {NAME} has the checkpoints last and "
            "best; expected both"
        )
    needed = [Run(backbone, name, seed) for backbone, names in shown.items() for name in names for seed in study.seeds]
    steps = best_steps(runs.evaluations(study, needed), study.settings["evaluation"]["select_on"], CURVE_DECODING)
    parts = {
        (decoding, backbone): measure(study, backbone, names, decoding, steps[steps["backbone"] == backbone])
        for decoding in decodings
        for backbone, names in shown.items()
    }
    data = pd.concat(parts.values(), ignore_index=True)
    tables: list[Table] = []
    for (decoding, backbone), part in parts.items():
        notes = [] if tables else _notes(study, data)
        tables.append(_table(study, backbone, shown[backbone], part, decoding, notes))
    return Result(data, tables)


def measure(study: Study, backbone: str, names: Sequence[str], decoding: str, steps: pd.DataFrame) -> pd.DataFrame:
    """The gain of choosing, of every method.

    Args:
        study: of one scale.
        backbone: name.
        names: methods.
        decoding: of the final evaluation.
        steps: from :func:`asymgrpo.analysis.selection.best_steps`, of this backbone.

    Returns:
        ``backbone``, ``method``, ``decoding``, ``chosen_on``, ``benchmark`` (also average, others, chosen on minus
        others, lead over GRPO), ``last`` and ``best`` (percent; empty for differences), ``gain`` (best minus last,
        points), ``low``, ``high``, ``of_average`` (points of the average's gain), ``seeds``, ``chosen_last`` (runs
        whose best checkpoint is the last one), ``best_steps`` (of every seed), and the gain of every seed as
        ``seed_<s>``.
    """
    chosen_on = study.settings["evaluation"]["select_on"]
    kept: dict[str, Values] = {}
    parts = []
    for name in names:
        last, best = (
            by_problem(runs.final_counts(study, backbone, name, decoding, checkpoint), study.seeds)
            for checkpoint in ("last", "best")
        )
        kept[name] = minus(best, last)
        part = gains(kept[name], chosen_on).rename(columns={"mean": "gain"})
        for column, values in (("last", last), ("best", best)):
            part[column] = part["benchmark"].map(_accuracies(values, chosen_on))
        of_method = steps[steps["method"] == name].set_index("seed").loc[list(study.seeds)]
        part["chosen_last"] = int((of_method["best_step"] == of_method["last_step"]).sum())
        part["best_steps"] = " ".join(map(str, of_method["best_step"]))
        parts.append(part.assign(method=name))
    data = pd.concat([*parts, *_leads(kept)], ignore_index=True)
    by_seed = pd.DataFrame(data.pop("by_seed").tolist(), columns=[f"seed_{seed}" for seed in study.seeds])
    data = data.join(by_seed).assign(backbone=backbone, decoding=decoding, chosen_on=chosen_on, seeds=len(study.seeds))
    first = ["backbone", "method", "decoding", "chosen_on", "benchmark", "last", "best", "gain", "low", "high"]
    first += ["of_average", "seeds", "chosen_last", "best_steps", *by_seed]
    return data[first].astype({"chosen_last": "Int64"})


def _accuracies(values: Values, chosen_on: str) -> dict[str, float]:
    """Mean accuracy of each benchmark, of all, and of those that did not choose."""
    means = {name: float(table.mean()) for name, table in values.items()}
    others = [mean for name, mean in means.items() if name != chosen_on]
    whole = {AVERAGE: sum(means.values()) / len(means)} | ({OTHERS: sum(others) / len(others)} if others else {})
    return means | whole


def _leads(kept: dict[str, Values]) -> list[pd.DataFrame]:
    """How much choosing changes each method's lead over GRPO on average; none without GRPO."""
    found = []
    for name, values in kept.items():
        if name == GRPO or GRPO not in kept:
            continue
        tables = list(minus(values, kept[GRPO]).values())
        mean, low, high = estimate(tables)
        by_seed = list(sum(table.mean(axis=1) for table in tables) / len(tables))
        row: dict[str, Any] = {"method": name, "benchmark": LEAD, "gain": mean, "low": low, "high": high}
        found.append(pd.DataFrame([row | {"by_seed": by_seed}]))
    return found


def _table(
    study: Study, backbone: str, names: Sequence[str], data: pd.DataFrame, decoding: str, notes: Sequence[str]
) -> Table:
    """A line per method: the average's gain, its two parts, and every benchmark's gain."""
    shown = data.set_index(["method", "benchmark"])
    chosen_on = str(data["chosen_on"].iloc[0])
    others = [name for name in study.benchmarks if name != chosen_on]
    columns = [AVERAGE, chosen_on, *([OTHERS, EXCESS] if others else []), *([LEAD] if GRPO in names else []), *others]
    body: list[list[Cell]] = []
    for name in names:
        line: list[Cell] = [study.methods[name].label, _last(shown.loc[(name, AVERAGE)])]
        for column in columns:
            found = shown.loc[(name, column)] if (name, column) in shown.index else None
            line.append("–" if found is None else Estimate(found["gain"], found["low"], found["high"], 2))
        body.append(line)
    labels = {name: benchmark.label for name, benchmark in study.benchmarks.items()}
    labels[chosen_on] += "\nwhich chose"
    labels |= {AVERAGE: "Average", OTHERS: "The others"}
    labels |= {EXCESS: "Chosen on\nminus others", LEAD: "Change of the\nlead over GRPO"}
    header = ["Method", "Best is last", *(labels[name] for name in columns)]
    temperature = study.settings["evaluation"]["final"][decoding]["temperature"]
    title = (
        f"Choosing the checkpoint on {study.benchmarks[chosen_on].label}, {study.backbones[backbone].label}. "
        f"Best minus last checkpoint, percentage points, temperature {temperature:g}"
    )
    return Table(title, header, body, notes, f"tab:selection-{backbone}-{decoding}")


def _last(row: pd.Series) -> str:
    return f"{row['chosen_last']} of {row['seeds']} runs"


def _notes(study: Study, data: pd.DataFrame) -> list[str]:
    count, chosen_on = len(study.seeds), str(data["chosen_on"].iloc[0])
    label, number = study.benchmarks[chosen_on].label, len(study.benchmarks)
    every = study.settings["evaluation"]["every"]
    notes = [
        f"Best: the earliest evaluation with the highest {CURVE_DECODING} accuracy on {label}, a test set, every "
        f"{every} steps, as the paper chooses; last: after the last step. Both are sampled anew for the final "
        "evaluation. A run whose best checkpoint is the last one gains 0 exactly.",
        f"Seed{'s' * (count > 1)} {', '.join(map(str, study.seeds))}; {interval_name(count)}."
        + " No interval: no seed differs from another." * bool(data["low"].isna().any()),
        f"The average's gain is 1/{number} of that on {label} and {number - 1}/{number} of that on the others. Chosen "
        "on minus others: what is gained on the benchmark that chose beyond the mean of the others; choosing by noise "
        "alone gains there and not elsewhere. Change of the lead: how much choosing changes the average of the method "
        "minus that of GRPO.",
    ]
    return notes + closing_notes(study, NAME)
