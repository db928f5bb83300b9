"""What is measured of a step's rollouts, against a slow reference that goes through them one by one."""

import dataclasses
import math
import random
import statistics

import pytest
import torch

from asymgrpo import records
from asymgrpo.training.measurement import Measured, describe_rollouts

OF_THE_UPDATE = {"clip_fraction_low", "clip_fraction_high", "gradient_norm", "policy_loss"}
"""Columns of steps.parquet that do not describe rollouts."""
KINDS = {
    "all kinds of groups": (12, lambda draw: draw.choice([0.0, 0.1, 0.5, 0.9, 1.0])),
    "mixed groups": (6, lambda draw: 0.5),
    "nothing solved": (4, lambda draw: 0.0),
    "everything solved": (4, lambda draw: 1.0),
    "none mixed": (6, lambda draw: draw.choice([0.0, 1.0])),
    "one group": (1, lambda draw: 0.5),
}


def some_rollouts(seed, kind="all kinds of groups", sizes=range(2, 9)):
    """A list of rollouts as dicts, shuffled; groups of different sizes with labels in no order."""
    draw = random.Random(f"{seed}/{kind}")
    groups, share = KINDS[kind]
    rollouts = []
    for label in draw.sample(range(-50, 1000), groups):
        probability, size = share(draw), draw.choice(sizes)
        for _ in range(size):
            length = draw.choice([1, 2, 13, 400])
            rollouts.append(
                {
                    "rewards": float(draw.random() < probability),
                    "group_ids": label,
                    "advantages": draw.gauss(0, 1),
                    "lengths": length,
                    "logprob_before": -length * draw.expovariate(2),
                    "logprob_after": -length * draw.expovariate(2),
                    "entropy_before": length * draw.expovariate(2),
                    "entropy_after": length * draw.expovariate(2),
                }
            )
    draw.shuffle(rollouts)
    return rollouts


def as_tensors(rollouts, dtype=torch.float64):
    values = {name: [rollout[name] for rollout in rollouts] for name in rollouts[0]}
    integers = ("group_ids", "lengths")
    return Measured(**{name: torch.tensor(v, dtype=None if name in integers else dtype) for name, v in values.items()})


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def reference(rollouts, group_size):
    """Straight from the definitions, in plain Python."""
    groups = {}
    for rollout in rollouts:
        groups.setdefault(rollout["group_ids"], []).append(rollout)
    groups = [groups[label] for label in sorted(groups)]
    confidence = lambda r: r["logprob_before"] / r["lengths"]  # noqa: E731
    correct = [r for r in rollouts if r["rewards"] == 1]
    wrong = [r for r in rollouts if r["rewards"] == 0]

    def per_token(chosen, name):
        return sum(r[name] for r in chosen) / sum(r["lengths"] for r in chosen) if chosen else math.nan

    def gain(chosen):
        return mean(r["logprob_after"] - r["logprob_before"] for r in chosen)

    histogram, alphas, covariances, rows = [0] * (group_size + 1), [], [], []
    for group in groups:
        right = [r for r in group if r["rewards"] == 1]
        left = [r for r in group if r["rewards"] == 0]
        p = len(right) / len(group)
        histogram[len(right)] += 1
        of_right, of_wrong = mean(map(confidence, right)), mean(map(confidence, left))
        if right and left:
            alphas.append(p * (1 - p) * (of_right - of_wrong) * math.log(p / (1 - p)))
        s, a = [confidence(r) for r in group], [r["advantages"] for r in group]
        covariances.append(mean((x - mean(s)) * (y - mean(a)) for x, y in zip(s, a, strict=True)))
        rows.append(
            {
                "rollouts": len(group),
                "correct": len(right),
                "confidence_correct": of_right,
                "confidence_wrong": of_wrong,
            }
        )
    n = len(groups)
    row = {
        "reward": len(correct) / len(rollouts),
        "group_accuracy": mean(r["correct"] / r["rollouts"] for r in rows),
        "group_accuracy_histogram": histogram,
        "none_solved": sum(r["correct"] == 0 for r in rows) / n,
        "all_solved": sum(r["correct"] == r["rollouts"] for r in rows) / n,
        "mixed": len(alphas) / n,
        "n_groups": n,
        "n_mixed": len(alphas),
        "entropy": per_token(rollouts, "entropy_before"),
        "entropy_correct": per_token(correct, "entropy_before"),
        "entropy_wrong": per_token(wrong, "entropy_before"),
        "entropy_after": per_token(rollouts, "entropy_after"),
        "alpha": mean(alphas),
        "advantage_covariance": mean(covariances),
        "logprob_gain_correct": gain(correct),
        "logprob_gain_wrong": gain(wrong),
        "response_length": statistics.fmean(r["lengths"] for r in rollouts),
        "tokens": sum(r["lengths"] for r in rollouts),
    }
    return row, rows


def same(found, expected):
    return found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_against_the_reference(kind, seed):
    rollouts = some_rollouts(seed, kind)
    row, groups = describe_rollouts(as_tensors(rollouts), 8)
    expected, expected_groups = reference(rollouts, 8)
    assert set(row) == set(expected)
    for name, value in expected.items():
        assert same(row[name], value), name
    assert len(groups) == len(expected_groups)
    for group, expected_group in zip(groups, expected_groups, strict=True):
        assert same(group, expected_group)


def test_the_cases_are_there():
    """So that the comparison above means something."""
    rows = {kind: describe_rollouts(as_tensors(some_rollouts(0, kind)), 8) for kind in KINDS}
    row, groups = rows["all kinds of groups"]
    assert row["none_solved"] * row["all_solved"] * row["mixed"] > 0
    assert len({group["rollouts"] for group in groups}) > 3
    assert row["reward"] != pytest.approx(row["group_accuracy"])  # because sizes differ
    nothing, everything = rows["nothing solved"][0], rows["everything solved"][0]
    for name in ("entropy_correct", "logprob_gain_correct", "alpha"):
        assert math.isnan(nothing[name])
    for name in ("entropy_wrong", "logprob_gain_wrong", "alpha"):
        assert math.isnan(everything[name])
    assert math.isnan(rows["none mixed"][0]["alpha"])
    assert not math.isnan(rows["none mixed"][0]["entropy_correct"])
    assert rows["one group"][0]["n_groups"] == 1


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_rollouts_does_not_matter(seed):
    rollouts = some_rollouts(seed)
    before, groups_before = describe_rollouts(as_tensors(rollouts), 8)
    random.Random(seed).shuffle(rollouts)
    after, groups_after = describe_rollouts(as_tensors(rollouts), 8)
    assert same(after.pop("group_accuracy_histogram"), before.pop("group_accuracy_histogram"))
    assert same(after, before)
    for one, other in zip(groups_before, groups_after, strict=True):
        assert same(one, other)


def test_the_labels_of_groups_do_not_matter_but_for_their_order():
    rollouts = some_rollouts(1)
    row, groups = describe_rollouts(as_tensors(rollouts), 8)
    mirrored = [rollout | {"group_ids": -3 * rollout["group_ids"]} for rollout in rollouts]
    other, others = describe_rollouts(as_tensors(mirrored), 8)
    assert same(other.pop("group_accuracy_histogram"), row.pop("group_accuracy_histogram"))
    assert same(other, row)
    assert same(others[0], groups[-1])
    for one, mirror in zip(groups, reversed(others), strict=True):
        assert same(one, mirror)


def test_rollouts_of_float32_lose_nothing_in_the_sums():
    """Long sums are taken in float64, whatever comes in."""
    rollouts = some_rollouts(2)
    single = [
        {k: float(torch.tensor(v, dtype=torch.float32)) if isinstance(v, float) else v for k, v in rollout.items()}
        for rollout in rollouts
    ]
    row, _ = describe_rollouts(as_tensors(rollouts, torch.float32), 8)
    expected, _ = reference(single, 8)
    for name, value in expected.items():
        assert same(row[name], value), name


def test_rewards_may_be_booleans():
    rollouts = some_rollouts(3)
    measured = as_tensors(rollouts)
    as_booleans = dataclasses.replace(measured, rewards=measured.rewards.bool())
    row, _ = describe_rollouts(as_booleans, 8)
    assert same(row["alpha"], describe_rollouts(measured, 8)[0]["alpha"])
    assert same(row["reward"], reference(rollouts, 8)[0]["reward"])


@pytest.mark.parametrize("group_size", [8, 20])
def test_the_histogram_has_a_bin_for_each_number_of_correct_rollouts(group_size):
    rollouts = some_rollouts(4, sizes=[8])
    row, groups = describe_rollouts(as_tensors(rollouts), group_size)
    histogram = row["group_accuracy_histogram"]
    assert len(histogram) == group_size + 1
    assert sum(histogram) == len(groups)
    assert sum(k * n for k, n in enumerate(histogram)) == sum(group["correct"] for group in groups)


def test_the_rows_fit_the_files_of_a_run(tmp_path):
    row, groups = describe_rollouts(as_tensors(some_rollouts(5, "none mixed")), 8)
    assert set(row) == set(records.STEPS.names) - OF_THE_UPDATE - {"step"}
    records.write(tmp_path / "s.parquet", [row | dict.fromkeys(OF_THE_UPDATE, 0.0) | {"step": 1}], records.STEPS)
    rows = [group | {"step": 1, "problem": index} for index, group in enumerate(groups)]
    records.write(tmp_path / "g.parquet", rows, records.GROUPS)
    assert records.read(tmp_path / "g.parquet", records.GROUPS).num_rows == len(groups)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_group_that_is_too_large_is_an_error():
    rollouts = some_rollouts(0, sizes=[2, 6])
    describe_rollouts(as_tensors(rollouts), 6)
    with pytest.raises(ValueError, match="a group has 6 rollouts, expected at most 5"):
        describe_rollouts(as_tensors(rollouts), 5)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Measured)])
def test_every_field_has_a_value_per_rollout(field):
    measured = as_tensors(some_rollouts(0))
    values = getattr(measured, field)
    for wrong in (values[:-1], values[:, None], values[0]):
        with pytest.raises(ValueError, match=f"one value per rollout in every field, found the shapes.*'{field}'"):
            dataclasses.replace(measured, **{field: wrong})


def test_two_dimensions_of_all_are_an_error_too():
    measured = as_tensors(some_rollouts(0))
    fields = {field.name: getattr(measured, field.name)[None] for field in dataclasses.fields(Measured)}
    with pytest.raises(ValueError, match="one value per rollout"):
        Measured(**fields)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rewards", 0.5, "expected 0 or 1"),
        ("rewards", math.nan, "expected 0 or 1"),
        ("logprob_before", -math.inf, "confidence"),
        ("logprob_before", math.nan, "confidence"),
        ("advantages", math.nan, "advantages"),
        ("lengths", 0, "confidence"),
    ],
)
def test_a_value_that_cannot_be_is_an_error(field, value, message):
    measured = as_tensors(some_rollouts(0))
    values = getattr(measured, field).clone()
    values[3] = value
    with pytest.raises(ValueError, match=message):
        describe_rollouts(dataclasses.replace(measured, **{field: values}), 8)
