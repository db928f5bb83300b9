"""The page of one method: curves and accuracy beside GRPO and REINFORCE, and every setting with its provenance.

It is asked for by the method's name, so it is no part of `all`, and can be had of any method of config/methods.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo.analysis import curves, paired, runs
from asymgrpo.analysis.intervals import AVERAGE, RESAMPLES, accuracy_intervals, band_name
from asymgrpo.config import Run
from asymgrpo.figures import CURVE_DECODING, csv_bytes, files_of, style, write_all
from asymgrpo.figures.ablation import draw
from asymgrpo.tables.render import Cell, Estimate, Table, markdown
from asymgrpo.terminal import words

if TYPE_CHECKING:
    from asymgrpo.config import Study

HEADLINE = "table2"
"""The table whose decodings and headline checkpoint are shown; the CSV has all."""
PER_SEED = ("seed", "warm_start_seed")
"""Settings that differ from seed to seed."""
DIGITS = {"reward": 3, "entropy": 3, "response_length": 1, "accuracy": 1}


def make(study: Study, method: str) -> list[Path]:
    """Write the page (.md), its figure (.pdf, .svg, .png), what is drawn (.csv), and its tables' numbers (.table.csv).

    All or none of them appear, under :meth:`asymgrpo.config.Study.ablation_stem`. Same runs, same bytes.

    Raises:
        ValueError: there is no such method, or a file of a run is missing or incomplete.
    """
    needed = study.ablation(method)
    names = list(dict.fromkeys(run.method for run in needed))
    accuracy, training = final_accuracy(study, names), end_of_training(study, needed)
    with style.context():
        artefact = draw(study, method)
        files = files_of(artefact)
    files[".table.csv"] = csv_bytes(pd.concat([accuracy, training], ignore_index=True))
    files[".md"] = _page(study, names, artefact.caption, accuracy, training).encode()
    return write_all(study.ablation_stem(method), files)


# -- numbers ----------------------------------------------------------------------------------------------------------


def final_accuracy(study: Study, names: list[str]) -> pd.DataFrame:
    """Accuracy of each method in the final evaluation, and the first one's minus each of the others'.

    Args:
        study: of one scale.
        names: the method of the page, then those it is compared with.

    Returns:
        One row per decoding, checkpoint, method (``minus`` empty) or difference (``minus`` the other method), and
        benchmark or average: ``quantity`` ("final accuracy (%)"), ``mean``, ``low``, ``high``, ``seeds``, and the mean
        of every seed as ``seed_<n>``. Differences are in percentage points, paired by seed and problem.
    """
    parts = []
    for decoding, how in study.settings["evaluation"]["final"].items():
        for checkpoint in how["checkpoints"]:
            counts = {name: runs.final_counts(study, study.primary, name, decoding, checkpoint) for name in names}
            for name in names:
                part = accuracy_intervals(counts[name])
                part = part.rename(columns=lambda column: str(column).replace("accuracy_seed_", "seed_"))
                parts.append(part.assign(decoding=decoding, checkpoint=checkpoint, method=name, minus=""))
            for other in names[1:]:
                part = paired.accuracy_differences(counts[names[0]], counts[other])
                by_seed = pd.DataFrame(part.pop("by_seed").tolist(), columns=[f"seed_{seed}" for seed in study.seeds])
                part = part.join(by_seed)
                parts.append(part.assign(decoding=decoding, checkpoint=checkpoint, method=names[0], minus=other))
    data = pd.concat(parts, ignore_index=True).assign(quantity="final accuracy (%)", seeds=len(study.seeds))
    first = ["quantity", "decoding", "checkpoint", "benchmark", "method", "minus", "mean", "low", "high", "seeds"]
    return data[first + [f"seed_{seed}" for seed in study.seeds]]


def end_of_training(study: Study, needed: list[Run]) -> pd.DataFrame:
    """What the runs have come to (:func:`asymgrpo.analysis.paired.at_end`), and the first method's minus each other's.

    Returns:
        One row per quantity and method or difference; columns as :func:`final_accuracy`, as far as they apply.
    """
    steps = runs.steps(study, needed).rename(columns={"method": "group"})
    accuracy = curves.mean_accuracy(runs.evaluations(study, needed), CURVE_DECODING).rename(columns={"method": "group"})
    values = paired.at_end(steps, accuracy, int(steps["step"].max()))
    names = list(dict.fromkeys(run.method for run in needed))
    rows: list[dict[str, Any]] = []
    for quantity, title in paired.QUANTITIES.items():
        of_each = paired.estimates(values, quantity)
        for name in names:
            by_seed = {f"seed_{seed}": value for seed, value in values.loc[name, quantity].items()}
            rows.append({"quantity": title, "method": name, "minus": ""} | of_each.loc[name].to_dict() | by_seed)
        for other in names[1:]:
            found = paired.difference(values, quantity, names[0], other)
            rows.append({"quantity": title, "method": names[0], "minus": other} | found)
    return pd.DataFrame(rows).astype({"seeds": int})


# -- the page ---------------------------------------------------------------------------------------------------------


def _page(study: Study, names: list[str], curve_notes: str, accuracy: pd.DataFrame, training: pd.DataFrame) -> str:
    method, backbone = study.every_method[names[0]], study.backbones[study.primary]
    others = " and ".join(study.every_method[name].label for name in names[1:])
    stands_for = f" ({backbone.stands_for} in the paper)" if backbone.stands_for not in ("", backbone.label) else ""
    about = f"Beside {others}. Scale `{study.scale}`, {backbone.label}{stands_for}, {_seeds(study)}."
    if method.name not in study.methods:
        about += " The scale does not run this method otherwise; it was asked for by its name."
    if method.own:
        about += " Our own, not in the paper."
    parts = [
        f"# {method.label}",
        about,
        _in_short(study, names, accuracy),
        "## Curves",
        f"![Curves]({names[0]}.png)",
        curve_notes,
    ]
    parts += ["## Final accuracy", *(markdown(table).strip() for table in _accuracy_tables(study, names, accuracy))]
    parts += ["## At the end of training", markdown(_training_table(study, names, training)).strip()]
    parts += ["## Settings", *(markdown(table).strip() for table in _settings(study, names))]
    return "\n\n".join([*parts, _where(study, names)]) + "\n"


def _in_short(study: Study, names: list[str], data: pd.DataFrame) -> str:
    """The averages of the first table, as a sentence."""
    decoding = study.artefact(HEADLINE).decodings[0]
    shown = data[(data["decoding"] == decoding) & (data["checkpoint"] == "last") & (data["benchmark"] == AVERAGE)]
    found = {(row.method, row.minus): Estimate(row.mean, row.low, row.high).text() for row in shown.itertuples()}
    apart = [f"{found[names[0], other]} against {study.every_method[other].label}" for other in names[1:]]
    return f"Final accuracy, average: **{found[names[0], '']}** percent; {', '.join(apart)} (percentage points)."


def _seeds(study: Study) -> str:
    return f"seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"


def _label(study: Study, method: str, minus: str) -> str:
    label = study.every_method[method].label
    return f"{label} − {study.every_method[minus].label}" if minus else label


def _order(names: list[str]) -> list[tuple[str, str]]:
    """Methods, then differences, as (method, minus)."""
    return [*((name, "") for name in names), *((names[0], other) for other in names[1:])]


def _accuracy_tables(study: Study, names: list[str], data: pd.DataFrame) -> list[Table]:
    tables = []
    count = len(study.seeds)
    over = "seeds and problems" if count > 1 else "problems (one seed)"
    for decoding in study.artefact(HEADLINE).decodings:
        how = study.settings["evaluation"]["final"][decoding]
        shown = data[data["decoding"] == decoding].set_index(["checkpoint", "method", "minus", "benchmark"])
        header = ["", *(benchmark.label for benchmark in study.benchmarks.values()), "Average"]
        best = "best" in how["checkpoints"]
        header += ["Average\nbest checkpoint"] if best else []
        rows: list[list[Cell]] = []
        for method, minus in _order(names):
            line: list[Cell] = [_label(study, method, minus)]
            columns = [("last", name) for name in [*study.benchmarks, AVERAGE]] + [("best", AVERAGE)] * best
            for checkpoint, benchmark in columns:
                found = shown.loc[(checkpoint, method, minus, benchmark)]
                line.append(Estimate(found["mean"], found["low"], found["high"]))
            rows.append(line)
        notes = [
            f"[95% bootstrap interval] over {over}, {RESAMPLES} resamples. Differences, in percentage points, are "
            "paired by seed and problem: whether methods differ is seen there, not from whether their own intervals "
            "overlap."
        ]
        title = f"Avg@k in percent, temperature {how['temperature']:g}, last checkpoint"
        tables.append(Table(title, header, rows, notes))
    return tables


def _training_table(study: Study, names: list[str], data: pd.DataFrame) -> Table:
    shown = data.set_index(["method", "minus", "quantity"])
    digits = {title: DIGITS[quantity] for quantity, title in paired.QUANTITIES.items()}
    rows: list[list[Cell]] = []
    for method, minus in _order(names):
        line: list[Cell] = [_label(study, method, minus)]
        for title in paired.QUANTITIES.values():
            found = shown.loc[(method, minus, title)]
            line.append(Estimate(found["mean"], found["low"], found["high"], digits[title]))
        rows.append(line)
    count = len(study.seeds)
    notes = [
        f"Test accuracy: {CURVE_DECODING}, last evaluation, unweighted mean of {len(study.benchmarks)} benchmarks. "
        + (f"Brackets: {band_name(count)}; of differences, of those of equal seeds." if count > 1 else "One seed.")
    ]
    return Table(f"Means over the last {paired.SHARE:.0%} of the steps", ["", *paired.QUANTITIES.values()], rows, notes)


def _settings(study: Study, names: list[str]) -> list[Table]:
    """What differs from the first method that it is compared with, then everything."""
    ours, theirs = (study.provenance(Run(study.primary, name, study.seeds[0])) for name in names[:2])
    label, other = (study.every_method[name].label for name in names[:2])
    absent = {"value": "–", "provenance": "", "note": ""}
    changed = []
    for key in {**ours, **theirs}:
        mine, its = ours.get(key, absent), theirs.get(key, absent)
        if mine["value"] != its["value"]:
            changed.append([key, words(mine["value"]), words(its["value"]), mine["provenance"], mine["note"]])
    tables = [Table(f"What differs from {other}", ["Setting", label, other, "Provenance", "Note"], changed, left=5)]
    values = {key: words(entry["value"]) for key, entry in ours.items()}
    for key in PER_SEED:
        found = [study.provenance(Run(study.primary, names[0], seed))[key]["value"] for seed in study.seeds]
        values[key] = ", ".join(map(str, dict.fromkeys(found)))
    rows = [[key, values[key], entry["provenance"], entry["note"]] for key, entry in ours.items()]
    note = "Words for provenance: config/README.md."
    return [*tables, Table("All settings", ["Setting", "Value", "Provenance", "Note"], rows, [note], left=4)]


def _where(study: Study, names: list[str]) -> str:
    lines = [
        f"- `{study.runs_dir(Run(study.primary, name, seed)).relative_to(study.root).as_posix()}`"
        for name in names
        for seed in study.seeds
    ]
    return "\n".join(["## Runs", "", *lines])
