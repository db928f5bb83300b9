"""Load what runs wrote into tidy frames: the only place where figures and tables touch run files.

Every loader returns columns ``backbone``, ``method``, ``seed`` and those of the file (units: :mod:`asymgrpo.records`).
A missing or incomplete file is one ValueError that names the file and the command that makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from asymgrpo import records

if TYPE_CHECKING:
    from asymgrpo.config import Run, Study


def remedy(study: Study, path: Path) -> str:
    """The command that makes a file of this study, for error messages."""
    try:
        target = path.resolve().relative_to(Path(study.root).resolve())
    except ValueError:
        target = path
    return f"make it with: snakemake --cores all --config scale={study.scale} -- {target}"


def _read(study: Study, path: Path, schema: pa.Schema) -> pa.Table:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {remedy(study, path)}")
    try:
        return records.read(path, schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error}); {remedy(study, path)}") from None


def _frame(table: pa.Table, run: Run) -> pd.DataFrame:
    frame = table.to_pandas()
    for position, (name, value) in enumerate(run._asdict().items()):
        frame.insert(position, name, value)
    return frame


def _load(study: Study, runs: Iterable[Run], name: str, schema: pa.Schema) -> pd.DataFrame:
    frames = []
    for run in runs:
        path = Path(study.runs_dir(run)) / name
        frame = _frame(_read(study, path, schema), run)
        wanted = int(study.spec(run)["steps"])
        last = int(frame["step"].max()) if len(frame) else 0
        if last != wanted:
            raise ValueError(f"{path}: ends at step {last}, expected {wanted}; {remedy(study, path)}")
        frames.append(frame)
    if not frames:
        raise ValueError(f"{name}: no run was asked for")
    return pd.concat(frames, ignore_index=True)


def steps(study: Study, runs: Iterable[Run]) -> pd.DataFrame:
    """Rows of ``steps.parquet`` (:data:`asymgrpo.records.STEPS`) of these runs.

    Raises:
        ValueError: a file is missing, lacks columns, or does not reach the run's last step.
    """
    return _load(study, runs, "steps.parquet", records.STEPS)


def groups(study: Study, runs: Iterable[Run]) -> pd.DataFrame:
    """Rows of ``groups.parquet`` (:data:`asymgrpo.records.GROUPS`); errors as :func:`steps`."""
    return _load(study, runs, "groups.parquet", records.GROUPS)


def evaluations(study: Study, runs: Iterable[Run]) -> pd.DataFrame:
    """Rows of ``evaluations.parquet`` (:data:`asymgrpo.records.EVALUATIONS`).

    Raises:
        ValueError: as :func:`steps`; or an evaluation lacks a benchmark, so that a mean over benchmarks would jump.
    """
    runs = list(runs)
    frame = _load(study, runs, "evaluations.parquet", records.EVALUATIONS)
    found = frame.groupby(["backbone", "method", "seed", "step", "decoding"])["benchmark"].agg(frozenset)
    for run in runs:
        wanted = frozenset(study.spec(run)["evaluation"]["benchmarks"])
        for (step, _), names in found.loc[run.backbone, run.method, run.seed].items():
            if names != wanted:
                path = Path(study.runs_dir(run)) / "evaluations.parquet"
                raise ValueError(
                    f"{path}: step {step} has the benchmarks {sorted(names)}, expected {sorted(wanted)}; "
                    f"{remedy(study, path)}"
                )
    return frame


def problem_counts(study: Study, run: Run, benchmarks: Sequence[str], decoding: str, checkpoint: str) -> pd.DataFrame:
    """Final evaluation of one run, per problem: how many of its k samples are correct.

    Args:
        study: the study.
        run: the run; method ``base`` is the untrained policy, whose seed is that of the start.
        benchmarks: names, in order.
        decoding: as in the scale's final evaluation, e.g. ``t0.4``.
        checkpoint: ``last`` or ``best``.

    Returns:
        ``backbone``, ``method``, ``seed``, ``benchmark``, ``problem_id``, ``correct`` (int), ``samples`` (int), one row
        per problem, sorted by benchmark and problem.

    Raises:
        ValueError: a file is missing, or has no row of that decoding and checkpoint, or problems differ in k.
    """
    parts = []
    for benchmark in benchmarks:
        path = Path(study.evaluation_dir(run)) / f"{benchmark}.scores.parquet"
        table = _read(study, path, records.SCORES)
        mask = pc.and_(pc.equal(table["decoding"], decoding), pc.equal(table["checkpoint"], checkpoint))
        chosen = table.filter(mask)
        if chosen.num_rows == 0:
            raise ValueError(
                f"{path}: expected rows with decoding {decoding!r} and checkpoint {checkpoint!r}; {remedy(study, path)}"
            )
        counted = chosen.group_by("problem_id").aggregate([("correct", "sum"), ("correct", "count")]).to_pandas()
        counted = counted.rename(columns={"correct_sum": "correct", "correct_count": "samples"})
        if counted["samples"].nunique() != 1:
            raise ValueError(f"{path}: expected as many samples for every problem; {remedy(study, path)}")
        counted.insert(0, "benchmark", benchmark)
        parts.append(counted.sort_values("problem_id", ignore_index=True))
    frame = pd.concat(parts, ignore_index=True)
    for position, (name, value) in enumerate(run._asdict().items()):
        frame.insert(position, name, value)
    return frame.astype({"correct": int, "samples": int})


def final_counts(
    study: Study, backbone: str, method: str, decoding: str, checkpoint: str, benchmarks: Sequence[str] | None = None
) -> pd.DataFrame:
    """:func:`problem_counts` of every seed of one method; of the untrained policy (``base``), of every start.

    Args:
        study: the study.
        backbone: name.
        method: name, or ``base``.
        decoding: as in the scale's final evaluation.
        checkpoint: ``last`` or ``best``.
        benchmarks: default all of the study's.
    """
    from asymgrpo.config import BASE, Run

    starts = sorted({study.start_seed(backbone, seed) for seed in study.seeds})
    seeds = starts if method == BASE else study.seeds
    names = list(benchmarks or study.benchmarks)
    return pd.concat(
        [problem_counts(study, Run(backbone, method, seed), names, decoding, checkpoint) for seed in seeds],
        ignore_index=True,
    )


def final_responses(study: Study, backbone: str, method: str) -> pd.DataFrame:
    """What the final evaluation says about the responses of one method, per problem; all decodings and checkpoints.

    Args:
        study: the study.
        backbone: name.
        method: name, or ``base`` for the untrained policies.

    Returns:
        One row per seed (of ``base``: start), benchmark, decoding, checkpoint and problem: ``seed``, ``benchmark``,
        ``decoding``, ``checkpoint``, ``problem_id``, ``samples`` (k), and among them how many are ``correct``,
        ``truncated`` (cut off at the longest response) and ``unextracted`` (no answer was found); ``tokens`` is their
        total length.

    Raises:
        ValueError: a file is missing or lacks columns, or problems differ in k.
    """
    from asymgrpo.config import BASE, Run

    starts = sorted({study.start_seed(backbone, seed) for seed in study.seeds})
    parts = []
    for seed in starts if method == BASE else study.seeds:
        for benchmark in study.benchmarks:
            path = Path(study.evaluation_dir(Run(backbone, method, seed))) / f"{benchmark}.scores.parquet"
            part = _per_problem(_read(study, path, records.SCORES))
            if (part.groupby(["decoding", "checkpoint"])["samples"].nunique() != 1).any():
                raise ValueError(f"{path}: expected as many samples for every problem; {remedy(study, path)}")
            part.insert(0, "seed", seed)
            part.insert(1, "benchmark", benchmark)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _per_problem(scores: pa.Table) -> pd.DataFrame:
    keys = ["decoding", "checkpoint", "problem_id"]
    table = pa.table(
        {name: scores[name] for name in (*keys, "correct", "tokens")}
        | {
            "truncated": pc.equal(scores["finish_reason"], "length"),
            "unextracted": pc.equal(scores["extracted"], ""),
        }
    )
    totals = ["correct", "truncated", "unextracted", "tokens"]
    counted = table.group_by(keys).aggregate([("correct", "count"), *((name, "sum") for name in totals)]).to_pandas()
    names = {"correct_count": "samples"} | {f"{name}_sum": name for name in totals}
    whole = dict.fromkeys(names.values(), int)
    return counted.rename(columns=names).astype(whole).sort_values(keys, ignore_index=True)[[*keys, *names.values()]]
