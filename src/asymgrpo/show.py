"""Tables, and what is known of one run, as text for a terminal.

Tables are read from the markdown files that the DAG has made, so that showing one takes no time and needs no run.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from asymgrpo import plan
from asymgrpo.config import ConfigError, Run
from asymgrpo.config.errors import unknown
from asymgrpo.status import state_of
from asymgrpo.tables import TABLES
from asymgrpo.terminal import paragraph, table, words

if TYPE_CHECKING:
    from asymgrpo.config import Study

SEED = re.compile(r"seed-([1-9]\d*)")
SHOWN = ("reward", "entropy", "none_solved", "all_solved", "mixed", "alpha", "gradient_norm", "response_length")
"""Columns of steps.parquet that are shown of the last step."""


def show(study: Study, what: str, path: str | None = None, width: int | None = None) -> str:
    """A table of the study by its name, or `run` and a path.

    Args:
        study: of one scale; not asked for if the path of a run names another one.
        what: a name in :data:`asymgrpo.tables.TABLES`, or ``run``.
        path: of a run: its directory, a file in it, or ``backbone/method/seed-n``.
        width: characters in a line; None for no limit.

    Raises:
        ValueError: no such table; it has not been made; the path is no run's.
    """
    if what == "run":
        if path is None:
            raise ValueError("run: expected its path, e.g. " + str(study.runs_dir(Run(study.primary, "grpo", 1))))
        return _run(*_find(study, path), width)
    if what not in TABLES:
        raise ValueError(f"{what}: there is no such table; expected one of {', '.join(TABLES)}, or run and a path")
    if path is not None:
        raise ValueError(f"{path}: expected nothing after {what}")
    from asymgrpo.analysis.runs import remedy

    file = study.table_stem(what).with_suffix(".md")
    if not file.is_file():
        raise ValueError(f"{file}: has not been made; {remedy(study, file)}")
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    return f"{markdown_as_text(file.read_text(encoding='utf-8'), width)}\n\n{file}, made {made}"


# -- tables -----------------------------------------------------------------------------------------------------------


def markdown_as_text(text: str, width: int | None = None) -> str:
    """Markdown as :mod:`asymgrpo.tables.render` writes it, with its tables as aligned columns and its notes broken."""
    return "\n\n".join(
        _table(block, width) if block[0].startswith("|") else paragraph(" ".join(block).strip("*"), width)
        for block in _blocks(text)
    )


def _blocks(text: str) -> Iterator[list[str]]:
    for block in re.split(r"\n\s*\n", text.strip()):
        yield block.splitlines()


def _table(lines: Sequence[str], width: int | None) -> str:
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    head, rule, *body = rows
    left = sum(not cell.endswith(":") for cell in rule)
    heads = [cell.split("<br>") for cell in head]
    depth = max(map(len, heads))
    top = [[cell[line] if line < len(cell) else "" for cell in heads] for line in range(depth)]
    # further columns on the left hold sentences
    return table([*top, *body], width, left, wrap=range(1, left))


# -- a run ------------------------------------------------------------------------------------------------------------


def _find(study: Study, path: str) -> tuple[Study, Run]:
    """The run that a path names, and the study that it is in."""
    place = Path(path)
    parts = place.parts
    at = next((index for index in range(len(parts) - 1, -1, -1) if SEED.fullmatch(parts[index])), None)
    if at is None or at < 2:
        raise ValueError(f"{path}: expected the directory of a run, or backbone/method/seed-n")
    run = Run(parts[at - 2], parts[at - 1], int(parts[at].removeprefix("seed-")))
    above = parts[: at - 2]
    if len(above) >= 3 and above[-1] == "runs" and above[-3] == "results" and above[-2] != study.scale:
        from asymgrpo.config import load

        try:
            study = load(study.root, {"scale": above[-2]})
        except ConfigError as error:
            raise ValueError(f"{path}: {error}") from None
    if run.backbone not in study.backbones:
        raise unknown(path, "", "backbone", run.backbone, study.backbones)
    if run.method not in study.every_method:
        raise unknown(path, "", "method", run.method, study.every_method)
    return study, run


def _run(study: Study, run: Run, width: int | None) -> str:
    directory = study.runs_dir(run)
    state = state_of(study, run)
    method, backbone = study.every_method[run.method], study.backbones[run.backbone]
    parts = [
        f"{method.label}, {backbone.label}, seed {run.seed}, scale {study.scale}",
        f"{state.state}" + (f": {state.about}" if state.about else ""),
    ]
    record = read_record(directory / "run.yaml")
    parts += [text for text in (_results(directory, record, width), _settings(study, run, record, width)) if text]
    if record.get("environment"):
        parts.append(paragraph(_made_with(record["environment"]), width))
    return "\n\n".join([*parts, _files(study, run, width)])


def read_record(path: Path) -> dict[str, Any]:
    """A run's record, whole; empty if there is none. ValueError if it is not YAML."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{path}: is not YAML; expected the record of a run") from None
    return found if isinstance(found, dict) else {}


def _results(directory: Path, record: Mapping[str, Any], width: int | None) -> str:
    """The last step, and the evaluations at the start, at the best and at the last step."""
    if not (directory / "steps.parquet").is_file() or not (directory / "evaluations.parquet").is_file():
        return ""
    from asymgrpo import records

    steps = records.read(directory / "steps.parquet", records.STEPS)
    last = steps.slice(max(0, steps.num_rows - 1)).to_pylist()
    parts = []
    if last:
        rows = [[f"step {last[0]['step']}", ""], *([name, _number(last[0][name])] for name in SHOWN)]
        parts.append(table(rows, width))
    found = records.read(directory / "evaluations.parquet", records.EVALUATIONS).to_pylist()
    if found:
        marked = {0: "start", (record.get("result") or {}).get("best_step"): "best"}
        final = max(row["step"] for row in found)
        columns = {
            step: ", ".join(filter(None, [marked.get(step), "last" if step == final else None, f"step {step}"]))
            for step in sorted({row["step"] for row in found} & {*marked, final})
        }
        accuracy = {(row["benchmark"], row["step"]): row["accuracy"] for row in found}
        names = dict.fromkeys(row["benchmark"] for row in found)
        rows = [
            [name, *(f"{100 * accuracy[name, step]:.1f}" if (name, step) in accuracy else "–" for step in columns)]
            for name in names
        ]
        parts.append(table([["accuracy while training (%)", *columns.values()], *rows], width))
    return "\n\n".join(parts)


def _settings(study: Study, run: Run, record: Mapping[str, Any], width: int | None) -> str:
    """As they were when the run was made; as config/ has them now if it has not been."""
    settings = record.get("settings") or study.provenance(run)
    title = "settings" if record.get("settings") else "settings, as config/ has them now"
    rows = [
        [key, words(entry["value"]), entry["provenance"], " ".join(str(entry.get("note") or "").split())]
        for key, entry in settings.items()
    ]
    return table([[title, "value", "provenance", "note"], *rows], width, left=4, wrap=[1, 3])


def _made_with(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in (environment.get("versions") or {}).items() if number)
    commit = environment.get("git_commit") or "unknown"
    changed = " with changes" if environment.get("git_changes") else ""
    return (
        f"Made on {environment.get('device')}, {environment.get('processor')}, {environment.get('cores')} cores; "
        f"commit {commit}{changed}; Python {environment.get('python')}, {versions}."
    )


def _files(study: Study, run: Run, width: int | None) -> str:
    places = {
        "run": study.runs_dir(run),
        "final evaluation": study.evaluation_dir(run),
        "to resume from": study.work_dir(run),
        "log": study.log_file(run),
        "start policy": study.start_policy(run.backbone, study.start_seed(run.backbone, run.seed)),
    }
    rows = [["files", "", ""]]
    for name, place in places.items():
        if place.exists():
            files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
            rows.append([name, plan.size(sum(path.stat().st_size for path in files)), str(place)])
    if len(rows) == 1:
        rows.append(["nothing is there yet", "", ""])
    return table(rows, width, left=3, wrap=[2])


def _number(value: Any) -> str:
    return "–" if value is None or (isinstance(value, float) and math.isnan(value)) else f"{value:.4g}"
