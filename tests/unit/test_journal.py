"""The journal of a verl run: nothing is lost or doubled, whatever is killed and however often."""

import json
import math
import random

import pytest

from asymgrpo import records
from asymgrpo.training.verl.journal import History, Journal, read

NOT_MEASURED = {"cpu_sampling", "cpu_scoring", "cpu_update", "cpu_measure", "wall_scoring"}


def step_row(tag):
    """All columns of steps.parquet but `step`; the reward says who wrote it."""
    values = {field.name: 0.25 for field in records.STEPS if field.name != "step"}
    integers = {"n_groups": 3, "n_mixed": 0, "tokens": 70, "group_accuracy_histogram": [2, 0, 1]}
    return values | integers | {"reward": tag, "alpha": math.nan, "entropy_correct": math.nan}


def timing_row(tag):
    names = set(records.TIMINGS.names) - {"step"} - NOT_MEASURED
    return dict.fromkeys(sorted(names), tag)


def group_rows(tag):
    """Three groups, of which two have no correct and one no wrong rollout."""
    nothing = {"confidence_correct": math.nan, "confidence_wrong": -0.5}
    everything = {"confidence_correct": -tag, "confidence_wrong": math.nan}
    rows = [(7, 0, nothing), (3, 0, nothing), (5, 2, everything)]
    return [{"problem": problem, "rollouts": 2, "correct": correct, **rest} for problem, correct, rest in rows]


def evaluation_rows(tag):
    common = {"decoding": "greedy", "problems": 4, "samples": 1, "correct": 1, "accuracy": 0.25}
    return [{"benchmark": name, "response_length": tag, **common} for name in ("easy", "hard")]


def write_step(journal, step, tag=0.0):
    journal.step(step, step_row(tag), timing_row(tag), group_rows(tag))


def attempt(journal, after, steps, tag, every=2):
    """An attempt as the trainer makes it: evaluated at the start if it is the first, and then every so often."""
    journal.start(after)
    if after == 0:
        journal.evaluation(0, evaluation_rows(tag))
    for step in steps:
        write_step(journal, step, tag)
        if step % every == 0:
            journal.evaluation(step, evaluation_rows(tag))


def tags(history):
    """Who wrote what: step -> tag, per kind of row; None if there are rows of several attempts, or too many."""

    def one_each(rows, key, expected):
        found = {}
        for row in rows:
            found.setdefault(row["step"], []).append(row[key])
        return {
            step: values[0] if len(values) == expected and len(set(values)) == 1 else None
            for step, values in found.items()
        }

    solved = [
        group | {"confidence_correct": -group["confidence_correct"]} for group in history.groups if group["correct"]
    ]
    assert len(history.groups) == 3 * len(history.steps)
    return (
        one_each(history.steps, "reward", 1),
        one_each(history.timings, "wall_update", 1),
        one_each(solved, "confidence_correct", 1),
        one_each(history.evaluations, "response_length", 2),
    )


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.jsonl")


# -- one attempt -------------------------------------------------------------------------------------------------------


def test_no_journal_is_no_history(tmp_path):
    history = read(tmp_path / "journal.jsonl")
    assert history == History()
    assert history.evaluated == set()


def test_what_is_written_is_read_in_order(journal):
    attempt(journal, 0, range(1, 5), 1.0)
    history = read(journal.path)
    assert [row["step"] for row in history.steps] == [1, 2, 3, 4]
    assert [(row["step"], row["problem"]) for row in history.groups] == [(s, p) for s in range(1, 5) for p in (7, 3, 5)]
    assert [(row["step"], row["benchmark"]) for row in history.evaluations] == [
        (step, name) for step in (0, 2, 4) for name in ("easy", "hard")
    ]
    assert history.evaluated == {0, 2, 4}
    assert history.attempts == [0]


def test_each_event_is_on_disk_when_the_call_returns(journal):
    for step in range(1, 4):
        write_step(journal, step)
        assert len(read(journal.path).steps) == step


def test_nan_comes_back_as_nan(journal):
    attempt(journal, 0, [1], 1.0)
    history = read(journal.path)
    assert math.isnan(history.steps[0]["alpha"])
    assert history.steps[0]["n_mixed"] == 0
    first, _, last = history.groups
    assert math.isnan(first["confidence_correct"])
    assert first["confidence_wrong"] == -0.5
    assert math.isnan(last["confidence_wrong"])


def test_floats_come_back_exactly(journal):
    values = [0.1, 1 / 3, -1e-300, 5e-324, 1.7976931348623157e308, math.pi]
    for step, value in enumerate(values, 1):
        write_step(journal, step, value)
    assert [row["reward"] for row in read(journal.path).steps] == values


def test_what_was_not_measured_is_nan(journal):
    attempt(journal, 0, [1], 1.0)
    timings = read(journal.path).timings[0]
    assert {name for name, value in timings.items() if math.isnan(value)} == NOT_MEASURED
    journal.step(2, step_row(1.0) | {"gradient_norm": None}, {}, group_rows(1.0))
    history = read(journal.path)
    assert math.isnan(history.steps[1]["gradient_norm"])
    assert all(math.isnan(history.timings[1][name]) for name in records.TIMINGS.names if name != "step")


def test_the_rows_fit_the_files_of_a_run(journal, tmp_path):
    attempt(journal, 0, range(1, 4), 1.0)
    attempt(journal, 2, range(3, 6), 2.0)
    history = read(journal.path)
    for name in ("steps", "groups", "timings", "evaluations"):
        schema = getattr(records, name.upper())
        records.write(tmp_path / f"{name}.parquet", getattr(history, name), schema)
        back = records.read(tmp_path / f"{name}.parquet", schema).to_pylist()
        # NaN equals nothing; its text does
        assert json.dumps(back) == json.dumps(
            [{key: row[key] for key in schema.names} for row in getattr(history, name)]
        )
        assert len(back) == {"steps": 5, "groups": 15, "timings": 5, "evaluations": 6}[name]


# -- restarts ----------------------------------------------------------------------------------------------------------


def test_a_restart_voids_what_came_after_its_checkpoint(journal):
    attempt(journal, 0, range(1, 8), 1.0)
    attempt(journal, 4, range(5, 7), 2.0)
    history = read(journal.path)
    assert history.attempts == [0, 4]
    steps = {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 2.0, 6: 2.0}
    assert tags(history) == (steps, steps, steps, {0: 1.0, 2: 1.0, 4: 1.0, 6: 2.0})


def test_a_restart_from_the_start_policy_keeps_only_its_evaluation(journal):
    attempt(journal, 0, range(1, 4), 1.0)
    journal.start(0)
    history = read(journal.path)
    assert history.steps == []
    assert history.groups == []
    assert tags(history)[3] == {0: 1.0}


def test_a_restart_that_got_nowhere_changes_nothing_but_the_attempts(journal):
    attempt(journal, 0, range(1, 5), 1.0)
    before = read(journal.path)
    journal.start(4)
    journal.start(4)
    after = read(journal.path)
    assert after.attempts == [0, 4, 4]
    assert tags(after) == tags(before)


def test_an_evaluation_that_is_made_again_replaces_the_first(journal):
    attempt(journal, 0, range(1, 5), 1.0)
    journal.start(4)
    journal.evaluation(4, evaluation_rows(2.0))
    history = read(journal.path)
    assert tags(history)[3] == {0: 1.0, 2: 1.0, 4: 2.0}
    assert len(history.evaluations) == 6


@pytest.mark.parametrize("seed", range(20))
def test_any_number_of_restarts_gives_each_step_once_by_whom_it_stands(journal, seed):
    """Against the plain rule: a step belongs to the last attempt that did it, if no later one began before it."""
    draw = random.Random(seed)
    after, owner, evaluated = 0, {}, {}
    for number in range(8):
        tag, last = float(number + 1), after + draw.randrange(6)
        attempt(journal, after, range(after + 1, last + 1), tag)
        owner = {s: t for s, t in owner.items() if s <= after} | dict.fromkeys(range(after + 1, last + 1), tag)
        evaluated = {s: t for s, t in evaluated.items() if s <= after}
        evaluated |= {s: tag for s in range(after + 1, last + 1) if s % 2 == 0} | ({0: tag} if after == 0 else {})
        history = read(journal.path)
        assert tags(history) == (owner, owner, owner, evaluated)
        assert [row["step"] for row in history.steps] == list(range(1, last + 1))
        after = draw.choice([step for step in range(last + 1) if step % 2 == 0])


# -- kills -------------------------------------------------------------------------------------------------------------


def test_a_kill_at_any_byte_loses_only_the_line_being_written(journal):
    """The journal cut off after each of its bytes: first as it is, and then with the attempt that follows."""
    attempt(journal, 0, [1], 1.0, every=1)
    whole = journal.path.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    events = [json.loads(line) for line in whole.decode().splitlines()]
    cut = Journal(journal.path.with_name("cut.jsonl"))
    for length in range(len(whole) + 1):
        # a line needs all its bytes, but not the newline after it
        complete = events[: sum(end <= length for end in ends)]
        done = sum(event["event"] == "step" for event in complete)
        evaluated = {event["step"] for event in complete if event["event"] == "evaluation"}
        cut.path.write_bytes(whole[:length])
        history = read(cut.path)
        assert len(history.steps) == done
        assert history.evaluated == evaluated
        if length % 200 and not any(abs(length - end) < 2 for end in ends):
            continue  # to go on takes longer than to read

        after = max((step for step in evaluated if step <= done), default=0)
        attempt(cut, after, range(after + 1, 4), 2.0, every=1)
        history = read(cut.path)
        owner = dict.fromkeys(range(1, after + 1), 1.0) | dict.fromkeys(range(after + 1, 4), 2.0)
        assert tags(history)[0] == owner
        assert history.evaluated == {0, 1, 2, 3}
        assert history.attempts[-1] == after


def test_a_line_that_was_cut_short_does_not_swallow_the_next(journal):
    journal.start(0)
    write_step(journal, 1, 1.0)
    journal.path.write_bytes(journal.path.read_bytes()[:-20])
    write_step(journal, 1, 2.0)
    assert tags(read(journal.path))[0] == {1: 2.0}


def test_a_line_that_lacks_only_its_newline_counts(journal):
    journal.start(0)
    write_step(journal, 1, 1.0)
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    assert len(read(journal.path).steps) == 1
    write_step(journal, 2, 1.0)
    assert tags(read(journal.path))[0] == {1: 1.0, 2: 1.0}


# -- errors and selection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "missing"), [([2], 1), ([1, 3], 2), ([1, 2, 3, 5, 7], 4)])
def test_a_missing_step_is_named(journal, steps, missing):
    journal.start(0)
    for step in steps:
        write_step(journal, step)
    with pytest.raises(ValueError, match=f"step {missing} is missing") as error:
        read(journal.path)
    assert str(journal.path) in str(error.value)
    assert f"remove {journal.path.parent}" in str(error.value)


def test_until_cuts_off_everything_later(journal):
    attempt(journal, 0, range(1, 8), 1.0)
    history = read(journal.path)
    early = history.until(3)
    steps = {1: 1.0, 2: 1.0, 3: 1.0}
    assert tags(early) == (steps, steps, steps, {0: 1.0, 2: 1.0})
    assert early.evaluated == {0, 2}
    assert early.attempts == [0]
    assert len(history.steps) == 7  # itself unchanged
    assert history.until(0).evaluated == {0}
    assert history.until(0).steps == []
    assert json.dumps(history.until(100).steps) == json.dumps(history.steps)
