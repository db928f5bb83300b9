"""The final evaluation in full: pass@k, truncation, length, answers that were not found, of every method of Table 2.

For people one table per backbone with averages over benchmarks, and one with what explains them per benchmark; the CSV
has every metric of every benchmark, decoding and checkpoint, with intervals and the values of every seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from asymgrpo.analysis import runs
from asymgrpo.analysis.intervals import AVERAGE, RESAMPLES, bootstrap_note
from asymgrpo.analysis.responses import AVG, PASS, TOKENS, TRUNCATED, UNEXTRACTED, metrics, powers_of_two
from asymgrpo.figures import closing_notes
from asymgrpo.tables import Result
from asymgrpo.tables.render import Cell, Estimate, Table
from asymgrpo.tasks.overlap import Overlap, read_overlap

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "evaluation"
BASE = "base"
START = "start"
"""How the only checkpoint of the untrained policy is labelled."""


def build(study: Study) -> Result:
    """The table from the score files of its runs; ValueError if one is missing or lacks a decoding or checkpoint."""
    overlap = _overlap(study)
    shown = {backbone: study.methods_of(NAME, backbone) for backbone in study.backbones}
    shown = {backbone: [BASE, *names] for backbone, names in shown.items() if names}
    data = pd.concat(
        [measure(study, backbone, method) for backbone, names in shown.items() for method in names], ignore_index=True
    )
    trained_on = {row.benchmark: row.trained_on for row in overlap} | {AVERAGE: sum(row.trained_on for row in overlap)}
    data.insert(data.columns.get_loc("problems") + 1, "trained_on", data["benchmark"].map(trained_on).astype(int))
    tables = []
    for backbone, names in shown.items():
        rows = data[data["backbone"] == backbone]
        for decoding in study.artefact(NAME).decodings:
            tables.append(_averages(study, backbone, names, rows, decoding))
            tables.append(_causes(study, backbone, names, rows, decoding))
    notes = [*tables[0].notes, *_notes(study, overlap)]
    first = Table(tables[0].title, tables[0].header, tables[0].rows, notes, tables[0].label)
    return Result(data, [first, *tables[1:]])


def measure(study: Study, backbone: str, method: str) -> pd.DataFrame:
    """Every metric of one method: of all decodings and checkpoints, per benchmark and on average.

    Returns:
        ``backbone``, ``method``, ``checkpoint``, ``decoding``, ``temperature``, ``metric``, ``k``, ``benchmark``,
        ``problems``, ``mean``, ``low``, ``high``, ``seeds`` (how many), and the mean of every seed as ``seed_<s>``.
    """
    responses = runs.final_responses(study, backbone, method)
    parts = []
    for decoding, how in study.settings["evaluation"]["final"].items():
        for checkpoint in how["checkpoints"]:
            if method == BASE and checkpoint != "last":
                continue
            chosen = responses[(responses["decoding"] == decoding) & (responses["checkpoint"] == checkpoint)]
            _check_whole(study, chosen, f"{backbone}/{method}", decoding, checkpoint)
            part = metrics(chosen)
            by_seed = zip(*part.pop("by_seed"), strict=True)
            for seed, values in zip(sorted(chosen["seed"].unique()), by_seed, strict=True):
                part[f"seed_{seed}"] = values
            identity = {
                "backbone": backbone,
                "method": method,
                "checkpoint": START if method == BASE else checkpoint,
                "decoding": decoding,
                "temperature": float(how["temperature"]),
            }
            for position, (name, value) in enumerate(identity.items()):
                part.insert(position, name, value)
            part.insert(part.columns.get_loc("high") + 1, "seeds", chosen["seed"].nunique())
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _check_whole(study: Study, chosen: pd.DataFrame, name: str, decoding: str, checkpoint: str) -> None:
    there = set(chosen["benchmark"].unique())
    missing = [benchmark for benchmark in study.benchmarks if benchmark not in there]
    if missing:
        raise ValueError(
            f"{name}: {missing[0]}.scores.parquet: expected rows with decoding {decoding!r} and checkpoint "
            f"{checkpoint!r}"
        )


def _overlap(study: Study) -> list[Overlap]:
    path = Path(study.overlap_file())
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {runs.remedy(study, path)}")
    return [row for row in read_overlap(path) if row.benchmark in study.benchmarks]


def _averages(study: Study, backbone: str, names: list[str], rows: pd.DataFrame, decoding: str) -> Table:
    """A line per method and checkpoint: averages over benchmarks."""
    k = _common_power(study, decoding)
    others = [name for name in study.settings["evaluation"]["final"] if name not in study.artefact(NAME).decodings]
    shown = rows[rows["benchmark"] == AVERAGE].set_index(["method", "checkpoint", "decoding", "metric", "k"])

    def cell(method: str, checkpoint: str, decoding: str, metric: str, k: int, digits: int | None = None) -> Estimate:
        key = (method, checkpoint, decoding, metric, k)
        if key not in shown.index:
            return Estimate(float("nan"))
        mean, low, high = shown.loc[key, ["mean", "low", "high"]]
        return Estimate(mean, low, high) if digits is None else Estimate(mean, digits=digits)

    most = _most_samples(study, decoding)
    header = ["Method", "Checkpoint", "Avg@k", f"pass@{k}", "Truncated", "No answer", "Tokens"]
    for name in others:
        header += [f"Avg@k\n{_how(study, name)}"]
        header += [f"pass@{_common_power(study, name)}\n{_how(study, name)}"] if _common_power(study, name) > 1 else []
    body: list[list[Cell]] = []
    for method in names:
        for checkpoint in [START] if method == BASE else study.settings["evaluation"]["final"][decoding]["checkpoints"]:
            where = (method, checkpoint)
            line: list[Cell] = [
                _label(study, method),
                checkpoint,
                cell(*where, decoding, AVG, most),
                cell(*where, decoding, PASS, k),
                cell(*where, decoding, TRUNCATED, most, 1),
                cell(*where, decoding, UNEXTRACTED, most, 1),
                cell(*where, decoding, TOKENS, most, 0 if rows["mean"].max() >= 1000 else 1),
            ]
            for name in others:
                line.append(cell(*where, name, AVG, _most_samples(study, name)))
                if _common_power(study, name) > 1:
                    line.append(cell(*where, name, PASS, _common_power(study, name)))
            body.append(line)
    return Table(
        f"Evaluation, {study.backbones[backbone].label}. Averages over {len(study.benchmarks)} benchmarks, "
        f"{_how(study, decoding)}",
        header,
        body,
        [],
        f"tab:evaluation-{backbone}-{decoding}",
    )


def _causes(study: Study, backbone: str, names: list[str], rows: pd.DataFrame, decoding: str) -> Table:
    """A line per method, a column per benchmark: truncated / no answer / tokens of the last checkpoint."""
    shown = rows[(rows["decoding"] == decoding) & rows["checkpoint"].isin(["last", START])]
    wide = shown.pivot_table(index="method", columns=["benchmark", "metric"], values="mean", sort=False)
    header = ["Method", *(benchmark.label for benchmark in study.benchmarks.values())]
    digits = 0 if shown.loc[shown["metric"] == TOKENS, "mean"].max() >= 1000 else 1
    body: list[list[Cell]] = [
        [
            _label(study, method),
            *(
                f"{wide.loc[method, (name, TRUNCATED)]:.1f} / {wide.loc[method, (name, UNEXTRACTED)]:.1f} / "
                f"{wide.loc[method, (name, TOKENS)]:.{digits}f}"
                for name in study.benchmarks
            ),
        ]
        for method in names
    ]
    title = f"Evaluation, {study.backbones[backbone].label}. Truncated / no answer / tokens, {_how(study, decoding)}"
    note = "Last checkpoint; percent of responses, percent of responses, and mean length."
    return Table(title, header, body, [note], f"tab:causes-{backbone}-{decoding}")


def _notes(study: Study, overlap: list[Overlap]) -> list[str]:
    count = len(study.seeds)
    over = "seeds and problems" if count > 1 else "problems (one seed)"
    notes = [
        f"Mean over {count} seed{'s' if count > 1 else ''} and [95% bootstrap interval] over {over}, {RESAMPLES} "
        f"resamples. Avg@k and pass@k (unbiased) in percent; k of Avg@k: {_samples_in_words(study)}. Truncated: "
        "percent of responses cut off at the longest one allowed; no answer: percent in which the verifier found none; "
        "tokens: mean length of a response. The CSV has every benchmark, decoding and checkpoint, and pass@k for "
        "k = 1, 2, 4, ..., all with intervals.",
        *filter(None, [bootstrap_note(count)]),
        f"Checkpoints: last is the headline; best is chosen by accuracy on {_chosen_on(study)}, a test set, as in the "
        "paper, and favours every run; start is the policy before RL.",
    ]
    labels = {name: benchmark.label for name, benchmark in study.benchmarks.items()}
    shared = [f"{labels[row.benchmark]} {row.trained_on} of {row.problems}" for row in overlap if row.trained_on]
    notes.append(f"Problems that are in the training set too, by their normalised text: {', '.join(shared) or 'none'}.")
    return notes + closing_notes(study, NAME)


def _chosen_on(study: Study) -> str:
    return study.benchmarks[study.settings["evaluation"]["select_on"]].label


def _samples(study: Study, decoding: str) -> dict[str, int]:
    samples = study.settings["evaluation"]["final"][decoding]["samples"]
    return {name: samples[name] if isinstance(samples, dict) else samples for name in study.benchmarks}


def _most_samples(study: Study, decoding: str) -> int:
    return max(_samples(study, decoding).values())


def _common_power(study: Study, decoding: str) -> int:
    """The largest k of pass@k that every benchmark has."""
    return powers_of_two(min(_samples(study, decoding).values()))[-1]


def _samples_in_words(study: Study) -> str:
    words = []
    for decoding in study.settings["evaluation"]["final"]:
        by_k: dict[int, list[str]] = {}
        for name, k in _samples(study, decoding).items():
            by_k.setdefault(k, []).append(study.benchmarks[name].label)
        listed = [f"{k} ({', '.join(labels)})" if len(by_k) > 1 else str(k) for k, labels in by_k.items()]
        words.append(f"{' and '.join(listed)} at {_how(study, decoding)}")
    return "; ".join(words)


def _how(study: Study, decoding: str) -> str:
    temperature = study.settings["evaluation"]["final"][decoding]["temperature"]
    return f"T = {temperature:g}" if temperature else "greedy"


def _label(study: Study, method: str) -> str:
    return "Base policy (before RL)" if method == BASE else study.methods[method].label
