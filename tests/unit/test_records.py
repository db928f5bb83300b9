"""Reading and writing the files of a run."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asymgrpo import records

SCHEMA = records.EVALUATIONS
ROW = {
    "step": 3,
    "benchmark": "countdown-3",
    "decoding": "greedy",
    "problems": 10,
    "samples": 1,
    "correct": 4,
    "accuracy": 0.4,
    "response_length": 9.5,
}
ROWS = [ROW, ROW | {"step": 4, "accuracy": math.nan}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a" / "run" / "evaluations.parquet"


def test_what_is_written_is_read(path):
    records.write(path, ROWS, SCHEMA)
    table = records.read(path, SCHEMA)
    assert table.schema.equals(SCHEMA, check_metadata=True)
    found = table.to_pylist()
    assert found[0] == ROW
    assert math.isnan(found[1]["accuracy"])
    assert {key: value for key, value in found[1].items() if key != "accuracy"} == {
        key: value for key, value in ROWS[1].items() if key != "accuracy"
    }


def test_every_column_says_its_unit(path):
    for schema in (getattr(records, name) for name in dir(records) if isinstance(getattr(records, name), pa.Schema)):
        assert len(schema.names) == len(set(schema.names))
        assert all(len(field.metadata[b"unit"]) > 3 for field in schema)
    records.write(path, ROWS, SCHEMA)
    assert pq.read_schema(path).field("accuracy").metadata[b"unit"] == b"correct / (n * k)"


def test_rows_and_columns_are_the_same_file(path, tmp_path):
    rows = [ROW, ROW | {"step": 4}]
    records.write(path, rows, SCHEMA)
    records.write(tmp_path / "columns", {name: [row[name] for row in rows] for name in SCHEMA.names}, SCHEMA)
    records.write(tmp_path / "shuffled", [dict(reversed(row.items())) for row in rows], SCHEMA)
    records.write(tmp_path / "generator", (row for row in rows), SCHEMA)
    same = {file.read_bytes() for file in (path, *(tmp_path / n for n in ("columns", "shuffled", "generator")))}
    assert len(same) == 1


def test_no_rows(path):
    records.write(path, [], SCHEMA)
    assert records.read(path, SCHEMA).num_rows == 0


def test_writing_replaces_and_leaves_nothing_else(path):
    records.write(path, ROWS, SCHEMA)
    before = path.read_bytes()
    records.write(path, ROWS[:1], SCHEMA)
    assert path.read_bytes() != before
    records.write(path, ROWS, SCHEMA)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_bad_rows_leave_the_old_file(path):
    records.write(path, ROWS, SCHEMA)
    before = path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        records.write(path, [ROW | {"step": "three"}], SCHEMA)
    with pytest.raises(ValueError, match="columns"):
        records.write(path, [{}], SCHEMA)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def without(row, *names):
    return {key: value for key, value in row.items() if key not in names}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without(ROW, "accuracy", "samples"), r"row 3: columns missing: \['accuracy', 'samples'\], unknown: \[\]"),
        (ROW | {"colour": 1}, r"row 3: columns missing: \[\], unknown: \['colour'\]"),
        (without(ROW, "step") | {"stop": 1}, r"row \?: columns missing: \['step'\], unknown: \['stop'\]"),
    ],
)
def test_rows_of_another_schema_are_errors(path, row, message):
    with pytest.raises(ValueError, match=message):
        records.write(path, [ROW, row], SCHEMA)
    assert not path.exists()


def test_columns_of_another_schema_are_errors(path):
    columns = {name: [ROW[name]] for name in SCHEMA.names if name != "correct"} | {"wrong": [1]}
    with pytest.raises(ValueError, match=rf"{path}: columns missing: \['correct'\], unknown: \['wrong'\]"):
        records.write(path, columns, SCHEMA)


def test_a_file_with_other_columns_is_an_error(path):
    records.write(path, ROWS, SCHEMA)
    with pytest.raises(ValueError, match=rf"{path}: expected the columns \['step', 'problem'.* found \['step', 'benc"):
        records.read(path, records.GROUPS)


def test_a_file_that_is_not_there_or_not_parquet_is_an_error(path):
    with pytest.raises(ValueError, match=r"evaluations\.parquet"):
        records.read(path, SCHEMA)
    path.parent.mkdir(parents=True)
    path.write_text("not parquet")
    with pytest.raises(ValueError, match=r"evaluations\.parquet"):
        records.read(path, SCHEMA)


def test_numbers_that_do_not_fit_are_not_cut(path):
    with pytest.raises((ValueError, OverflowError)):
        records.write(path, [ROW | {"correct": 2**40}], SCHEMA)
