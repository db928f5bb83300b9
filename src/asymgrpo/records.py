"""The files of a run, defined once: every backend writes these columns, everything after training reads only them.

A *run* is (scale, backbone, method, seed). Its directory ``results/<scale>/runs/<backbone>/<method>/seed-<n>/`` holds

=====================  ==========================================================================
``run.yaml``           the resolved spec, provenance, versions, git commit, hardware
``steps.parquet``      :data:`STEPS`, one row per training step
``groups.parquet``     :data:`GROUPS`, one row per (step, group of rollouts)
``timings.parquet``    :data:`TIMINGS`, one row per step; apart, because it is not deterministic
``evaluations.parquet``  :data:`EVALUATIONS`, one row per (step, benchmark, decoding)
``policy/last``, ``policy/best``  Hugging Face directories
=====================  ==========================================================================

and its final evaluation, ``results/<scale>/evaluation/<backbone>/<method>/seed-<n>/<benchmark>.samples.parquet``
(:data:`SAMPLES`), ``<benchmark>.scores.parquet`` (:data:`SCORES`), and ``sampling.yaml``, how the samples were made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def _schema(*fields: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"unit": unit}) for name, kind, unit in fields])


_F, _I, _S = pa.float64(), pa.int32(), pa.string()

STEPS = _schema(
    ("step", _I, "training step, counted from 1"),
    ("reward", _F, "mean reward over the step's rollouts"),
    ("group_accuracy", _F, "mean over groups of the group accuracy p"),
    ("group_accuracy_histogram", pa.list_(_I), "number of groups with k correct rollouts, k = 0..G"),
    ("none_solved", _F, "fraction of groups with p = 0"),
    ("all_solved", _F, "fraction of groups with p = 1"),
    ("mixed", _F, "fraction of groups with 0 < p < 1"),
    ("n_groups", _I, "groups in the step"),
    ("n_mixed", _I, "groups with 0 < p < 1"),
    ("entropy", _F, "nats; Eq. 7, full vocabulary, old policy, mean over response tokens"),
    ("entropy_correct", _F, "nats; the same over correct rollouts (NaN if there is none)"),
    ("entropy_wrong", _F, "nats; the same over wrong rollouts (NaN if there is none)"),
    ("entropy_after", _F, "nats; the same tokens as `entropy`, policy after the step's update"),
    ("alpha", _F, "nats per token; App. E, reward-confidence alignment over the mixed groups (NaN if there is none)"),
    ("advantage_covariance", _F, "mean over groups of Cov_g(S, A): first-order entropy change is -eta times this"),
    ("logprob_gain_correct", _F, "nats per rollout; mean over correct rollouts of log-prob after minus before"),
    ("logprob_gain_wrong", _F, "nats per rollout; the same over wrong rollouts"),
    ("clip_fraction_low", _F, "fraction of response tokens whose ratio fell below 1 - clip_low with A < 0"),
    ("clip_fraction_high", _F, "fraction of response tokens whose ratio rose above 1 + clip_high with A > 0"),
    ("gradient_norm", _F, "mean over the step's minibatches, before clipping"),
    ("policy_loss", _F, "mean over the step's minibatches"),
    ("response_length", _F, "mean tokens per rollout"),
    ("tokens", _I, "response tokens in the step"),
)

GROUPS = _schema(
    ("step", _I, "training step, counted from 1"),
    ("problem", _I, "index into the training set"),
    ("rollouts", _I, "group size G"),
    ("correct", _I, "correct rollouts in the group"),
    ("confidence_correct", _F, "nats per token; mean S (length-normalised old log-prob) of the correct rollouts"),
    ("confidence_wrong", _F, "nats per token; mean S of the wrong rollouts"),
)

TIMINGS = _schema(
    ("step", _I, "training step, counted from 1"),
    *(
        (f"{clock}_{phase}", _F, f"seconds; {clock} time of {phase}")
        for phase in ("sampling", "scoring", "update", "measure")
        for clock in ("wall", "cpu")
    ),
)

EVALUATIONS = _schema(
    ("step", _I, "training step after which the policy was evaluated; 0 is the start policy"),
    ("benchmark", _S, "name in config/benchmarks.yaml"),
    ("decoding", _S, "name of the decoding, e.g. greedy"),
    ("problems", _I, "n, problems in the benchmark"),
    ("samples", _I, "k, samples per problem"),
    ("correct", _I, "correct responses among n * k"),
    ("accuracy", _F, "correct / (n * k)"),
    ("response_length", _F, "mean tokens per response"),
)

BENCHMARK = _schema(
    ("problem_id", _S, "unique in the benchmark"),
    ("prompt", pa.list_(pa.struct([("role", _S), ("content", _S)])), "the chat messages that the policy is given"),
    ("ground_truth", _S, "what the verifier checks against: LaTeX or a number, as in the source, without $ around"),
    ("answer_type", _S, "how it is compared: one of asymgrpo.tasks.problems.ANSWER_TYPES"),
    ("unit", _S, "of the answer; empty if none"),
    ("tolerance", _F, "absolute, as in the source; null: exact"),
    ("source", _S, "where the problem comes from"),
    ("revision", _S, "pinned revision of the source, or the generator's version"),
    ("checksum", _S, "sha256 (hex) of the source's file that the problem is in; empty for generated ones"),
)

SAMPLES = _schema(
    ("checkpoint", _S, "last or best"),
    ("decoding", _S, "name of the decoding in the scale"),
    ("problem_id", _S, "as in the benchmark"),
    ("sample", _I, "0..k-1"),
    ("response", _S, "decoded text without the end token"),
    ("tokens", _I, "response tokens, the end token included"),
    ("finish_reason", _S, "stop or length"),
)

SCORES = _schema(
    ("checkpoint", _S, "last or best"),
    ("decoding", _S, "name of the decoding in the scale"),
    ("problem_id", _S, "as in the benchmark"),
    ("sample", _I, "0..k-1"),
    ("correct", pa.bool_(), "the verifier's verdict"),
    ("extracted", _S, "the answer that was found in the response; empty if none was"),
    ("reason", _S, "why not correct; empty when it is"),
    ("tokens", _I, "response tokens, the end token included"),
    ("finish_reason", _S, "stop or length"),
)


def write(path: str | Path, rows: Iterable[Mapping[str, Any]] | Mapping[str, Any], schema: pa.Schema) -> None:
    """Write rows (dicts, or a dict of columns) as parquet: atomically, and the same bytes for the same rows.

    Raises ValueError naming the columns if a row lacks one or has one that the schema does not know.
    """
    columns = rows if isinstance(rows, Mapping) else _columns(list(rows), schema)
    if set(columns) != set(schema.names):
        missing, unknown = set(schema.names) - set(columns), set(columns) - set(schema.names)
        raise ValueError(f"{path}: columns missing: {sorted(missing)}, unknown: {sorted(unknown)}")
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def read(path: str | Path, schema: pa.Schema) -> pa.Table:
    """Read a parquet file and check its columns against the schema.

    Raises:
        ValueError: naming the file: it is missing, no parquet, or has other columns.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error})") from None
    if table.schema.names != schema.names:
        raise ValueError(f"{path}: expected the columns {schema.names}, found {table.schema.names}")
    return table


def _columns(rows: list[Mapping[str, Any]], schema: pa.Schema) -> dict[str, list[Any]]:
    names = set(schema.names)
    for row in rows:
        if set(row) != names:
            raise ValueError(
                f"row {row.get('step', '?')}: columns missing: {sorted(names - set(row))}, "
                f"unknown: {sorted(set(row) - names)}"
            )
    return {name: [row[name] for row in rows] for name in schema.names}
