"""Table 2: final accuracy of every method on every benchmark, with intervals, beside what the paper reports.

The last checkpoint is the headline. The best one, chosen on a test set as the paper does, has its average beside it and
a table of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo.analysis import runs
from asymgrpo.analysis.intervals import AVERAGE, RESAMPLES, accuracy_intervals, bootstrap_note
from asymgrpo.figures import assumptions, chosen_methods
from asymgrpo.tables import Result
from asymgrpo.tables.render import DAGGER, Cell, Estimate, Table

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "table2"
BASE = "base"
REPORTED = Path("config", "reported", "table2.csv")
REPORTED_COLUMNS = ["backbone", "method", "benchmark", "accuracy", "version", "place"]
OWN = "‡"


def build(study: Study) -> Result:
    """Table 2 from the score files of its runs; ValueError if one is missing or lacks a decoding or checkpoint."""
    reported = read_reported(Path(study.root) / REPORTED)
    shown = {backbone: study.methods_of(NAME, backbone) for backbone in study.backbones}
    shown = {backbone: names for backbone, names in shown.items() if names}
    decodings = study.artefact(NAME).decodings
    data = pd.concat([measure(study, shown, decoding) for decoding in decodings], ignore_index=True)
    data = with_reported(study, data, reported)
    tables = []
    for decoding in decodings:
        part = data[data["decoding"] == decoding]
        for backbone, names in shown.items():
            rows = part[part["backbone"] == backbone]
            tables.append(_headline(study, backbone, [BASE, *names], rows, reported, decoding))
            if "best" in _checkpoints(study, decoding):
                tables.append(_best(study, backbone, names, rows, decoding))
    tables += [_reported(model, part) for model, part in reported.groupby("backbone", sort=False)]
    return Result(pd.concat([data, _reported_rows(reported)], ignore_index=True), tables)


def measure(study: Study, shown: Mapping[str, list[str]], decoding: str) -> pd.DataFrame:
    """One row per (backbone, method, checkpoint, benchmark or average); the policy before RL first.

    Returns:
        ``source`` ("measured"), ``backbone``, ``method``, ``checkpoint``, ``decoding``, ``seeds`` (how many), and the
        columns of :func:`asymgrpo.analysis.intervals.accuracy_intervals`; accuracies in percent.
    """
    parts = []
    for backbone, names in shown.items():
        for checkpoint in _checkpoints(study, decoding):
            for method in [BASE, *names] if checkpoint == "last" else names:
                counts = runs.final_counts(study, backbone, method, decoding, checkpoint)
                part = accuracy_intervals(counts)
                identity = {
                    "source": "measured",
                    "backbone": backbone,
                    "method": method,
                    "checkpoint": checkpoint,
                    "decoding": decoding,
                    "seeds": counts["seed"].nunique(),
                }
                for position, (name, value) in enumerate(identity.items()):
                    part.insert(position, name, value)
                parts.append(part)
    data = pd.concat(parts, ignore_index=True)
    whole = {name: "Int64" for name in data if str(name).startswith("correct_seed_")}
    return data.astype(whole)


def read_reported(path: Path) -> pd.DataFrame:
    """The paper's own numbers: columns :data:`REPORTED_COLUMNS`, accuracy in percent.

    Raises:
        ValueError: no such file, or other columns.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected the paper's Table 2 as CSV, it is part of the repository")
    table = pd.read_csv(path)
    if list(table.columns) != REPORTED_COLUMNS:
        raise ValueError(f"{path}: expected the columns {REPORTED_COLUMNS}, found {list(table.columns)}")
    return table


def with_reported(study: Study, data: pd.DataFrame, reported: pd.DataFrame) -> pd.DataFrame:
    """``data`` with the paper's cell beside each: ``reported`` and the backbone, row and benchmark it was found at.

    A backbone and a benchmark are matched by what they stand for, a method by its row in the paper's table.
    """
    values = reported.set_index(["backbone", "method", "benchmark"])["accuracy"]
    matched = []
    for row in data.itertuples():
        benchmark = "Avg" if row.benchmark == AVERAGE else study.benchmarks[row.benchmark].stands_for
        key = (study.backbones[row.backbone].stands_for, _paper_row(study, row.method), benchmark)
        found = None not in key and key in values.index
        matched.append((*key, values[key]) if found else (None, None, None, float("nan")))
    columns = ["reported_backbone", "reported_row", "reported_benchmark", "reported"]
    return pd.concat([data, pd.DataFrame(matched, columns=columns, index=data.index)], axis=1)


def _checkpoints(study: Study, decoding: str) -> list[str]:
    return list(study.settings["evaluation"]["final"][decoding]["checkpoints"])


def _paper_row(study: Study, method: str) -> str | None:
    return BASE if method == BASE else study.methods[method].paper_row


def _label(study: Study, method: str) -> str:
    """With a dagger if the method itself has an assumed setting, a double one if it is not in the paper."""
    if method == BASE:
        return "Base policy (before RL)"
    entry = study.methods[method]
    assumed = any(setting.provenance == "assumed" for setting in entry.settings.values())
    bonus = entry.entropy_bonus and study.scale_settings["training", "entropy_coefficient"].provenance == "assumed"
    return entry.label + (DAGGER if assumed or bonus else "") + (OWN if entry.own else "")


def _names(study: Study, rows: pd.DataFrame) -> list[str]:
    """Column heads of the benchmarks with n and k."""
    sizes = rows.drop_duplicates("benchmark").set_index("benchmark")
    return [
        f"{benchmark.label}\nn = {sizes.loc[name, 'problems']}, k = {sizes.loc[name, 'samples']}"
        for name, benchmark in study.benchmarks.items()
    ]


def _cells(rows: pd.DataFrame, method: str, checkpoint: str) -> dict[str, Estimate]:
    part = rows[(rows["method"] == method) & (rows["checkpoint"] == checkpoint)]
    return {str(row.benchmark): Estimate(row.mean, row.low, row.high) for row in part.itertuples()}


def _headline(
    study: Study, backbone: str, names: list[str], rows: pd.DataFrame, reported: pd.DataFrame, decoding: str
) -> Table:
    entry = study.backbones[backbone]
    has_best = "best" in _checkpoints(study, decoding)
    averages = reported[(reported["backbone"] == entry.stands_for) & (reported["benchmark"] == "Avg")]
    paper = averages.set_index("method")["accuracy"].to_dict()
    body: list[list[Cell]] = []
    for method in names:
        cells = _cells(rows, method, "last")
        line: list[Cell] = [_label(study, method), *(cells[name] for name in study.benchmarks), cells[AVERAGE]]
        if has_best:
            line.append(_cells(rows, method, "best").get(AVERAGE, Estimate(float("nan"))))
        value = paper.get(_paper_row(study, method))
        line.append("–" if value is None else f"{value:.2f}")
        body.append(line)
    header = ["Method", *_names(study, rows), "Average"]
    if has_best:
        header.append("Average\nbest checkpoint")
    header.append(f"Paper's average\n{entry.stands_for}" if entry.stands_for else "Paper's average")
    return Table(
        f"Table 2, {entry.label}. Avg@k in percent, {_decoding(study, decoding)}, last checkpoint",
        header,
        body,
        _notes(study, backbone, names, has_best),
        f"tab:main-{backbone}-{decoding}",
    )


def _notes(study: Study, backbone: str, names: list[str], has_best: bool) -> list[str]:
    count = len(study.seeds)
    entry = study.backbones[backbone]
    starts = len({study.start_seed(backbone, seed) for seed in study.seeds})
    over = "seeds and problems" if count > 1 else "problems (one seed)"
    notes = [
        f"Mean over {count} seed{'s' if count > 1 else ''} and [95% bootstrap interval] over {over}, {RESAMPLES} "
        f"resamples, the same draws for every method; the base policy's is over {starts} "
        f"start{'s' if starts > 1 else ''}. Average: unweighted mean of the {len(study.benchmarks)} benchmarks. "
        "n problems, k samples each; the CSV has the correct ones of every seed.",
        *filter(None, [bootstrap_note(count)]),
        f"The paper's average is that of {entry.stands_for or 'its model'} on its five mathematics benchmarks: "
        + (
            "the same model and task, there without an interval."
            if entry.label == entry.stands_for
            else "another scale and another task, so levels cannot be compared, only the order and the signs of "
            "differences."
        ),
    ]
    if limited := chosen_methods(study):
        notes.append(limited)
    if has_best:
        chosen = study.benchmarks[study.settings["evaluation"]["select_on"]].label
        notes.append(
            f"Best checkpoint: chosen by accuracy on {chosen}, a test set, as in the paper; favours every run."
        )
    if any(DAGGER in _label(study, name) for name in names):
        notes.append(f"{DAGGER} has an assumed setting of its own.")
    if any(OWN in _label(study, name) for name in names):
        notes.append(f"{OWN} our own, not in the paper.")
    if assumed := assumptions(study, NAME):
        notes.append(assumed)
    return notes


def _decoding(study: Study, decoding: str) -> str:
    return f"temperature {study.settings['evaluation']['final'][decoding]['temperature']:g}"


def _best(study: Study, backbone: str, names: list[str], rows: pd.DataFrame, decoding: str) -> Table:
    body: list[list[Cell]] = []
    for method in names:
        cells = _cells(rows, method, "best")
        body.append([_label(study, method), *(cells[name] for name in study.benchmarks), cells[AVERAGE]])
    chosen = study.benchmarks[study.settings["evaluation"]["select_on"]].label
    title = f"{study.backbones[backbone].label}, best checkpoint. Avg@k in percent, {_decoding(study, decoding)}"
    note = f"Chosen by accuracy on {chosen}, a test set, as in the paper: an optimistic estimate. Intervals as above."
    header = ["Method", *_names(study, rows), "Average"]
    return Table(f"Table 2, {title}", header, body, [note], f"tab:best-{backbone}-{decoding}")


def _reported(model: Any, part: pd.DataFrame) -> Table:
    columns = list(dict.fromkeys(part["benchmark"]))
    wide = part.pivot(index="method", columns="benchmark", values="accuracy")
    versions = part.drop_duplicates("method").set_index("method")["version"]
    rows = [
        [
            method + (f" ({versions[method]})" if versions[method] != "v2" else ""),
            *("–" if pd.isna(wide.loc[method, name]) else f"{wide.loc[method, name]:.2f}" for name in columns),
        ]
        for method in dict.fromkeys(part["method"])
    ]
    note = "The paper's own numbers (config/reported/table2.csv), not measured here; v1 marks the first version's."
    return Table(f"Reported by the paper, {model}", ["Method", *columns], rows, [note], f"tab:reported-{model}")


def _reported_rows(reported: pd.DataFrame) -> pd.DataFrame:
    """The paper's table as rows of the CSV, ``source`` "reported"."""
    names = {"accuracy": "mean", "version": "reported_version", "place": "reported_place"}
    return reported.rename(columns=names).assign(source="reported")
