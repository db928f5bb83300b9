"""Do two backends train alike? The stated level is kept if they do, a difference is seen, and input is checked."""

import numpy as np
import pandas as pd
import pytest

from asymgrpo.analysis.agreement import QUANTITIES, Window, compare, windows

STEPS = 8
WINDOWS = ["all steps", "last quarter"]


def runs(random, seeds, steps=STEPS, shift=0.0, first_seed=1):
    """Runs of one process: curves with a level of their own for each run, and noise from step to step.

    The shift is in standard deviations of a run's mean over all steps.
    """
    step = np.arange(1, steps + 1)
    sd = np.sqrt(0.5**2 + 1 / steps)
    shape = (seeds, len(QUANTITIES))
    levels = 0.5 * random.standard_normal((*shape, 1)) + shift * sd
    values = levels + random.standard_normal((*shape, steps)) + np.sqrt(step)
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(first_seed, first_seed + seeds), steps),
            "step": np.tile(step, seeds),
            **{quantity: values[:, i].ravel() for i, quantity in enumerate(QUANTITIES)},
        }
    )


# -- the level ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outside():
    """700 studies of 12 reference runs and one more run of the same process, at level 0.7.

    An array (studies, quantities, windows): whether the run was outside. There are 6 comparisons: each is outside with
    probability 0.05. Quantities are independent here, so each window has 2,100 independent ones.
    """
    random = np.random.default_rng(7)
    found = []
    for _ in range(700):
        table = compare(runs(random, 12), runs(random, 1, first_seed=100), STEPS, level=0.7)
        found.append(~table["within"].to_numpy())
    return np.array(found).reshape(-1, len(WINDOWS), len(QUANTITIES)).transpose(0, 2, 1)


def test_each_comparison_is_outside_as_often_as_it_may_be(outside):
    """The prediction interval is exact for normal runs; a share of 2,100 has a standard error of 0.005."""
    for window in range(len(WINDOWS)):
        share = outside[..., window].mean()
        assert abs(share - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / outside[..., window].size)


def test_a_run_that_trains_alike_passes_everything_at_least_so_often(outside):
    """Bonferroni: at most 1 - level, and less because comparisons of one run are correlated; but not much less."""
    failed = outside.any((1, 2)).mean()
    error = 4 * np.sqrt(0.3 * 0.7 / len(outside))
    assert failed < 0.3 + error
    independent_quantities = 1 - (1 - 0.05) ** 3  # if both windows always failed together
    assert failed > independent_quantities - error


def test_a_higher_level_makes_wider_intervals():
    random = np.random.default_rng(0)
    reference, tested = runs(random, 12), runs(random, 1)
    widths = [
        (table["high"] - table["low"]).to_numpy()
        for table in (compare(reference, tested, STEPS, level) for level in (0.5, 0.9, 0.99))
    ]
    assert (widths[0] < widths[1]).all()
    assert (widths[1] < widths[2]).all()


def test_more_tested_runs_make_wider_intervals():
    """Each of them is compared, so each comparison has to be stricter with itself."""
    random = np.random.default_rng(0)
    reference, tested = runs(random, 12), runs(random, 3)
    one = compare(reference, tested[tested["seed"] == 1], STEPS, 0.9)
    three = compare(reference, tested, STEPS, 0.9)
    assert len(three) == 3 * len(one) == 18
    three = three[three["seed"] == 1]
    assert three["value"].tolist() == one["value"].tolist()
    assert ((three["high"] - three["low"]).to_numpy() > (one["high"] - one["low"]).to_numpy()).all()


def test_numbers_worked_out_by_hand():
    """Three runs with means 1, 2, 3 over all steps: sd 1; t(0.975; 2) = 4.302653, times sqrt(4/3) = 4.968276."""
    seeds = pd.DataFrame({"seed": [1, 2, 3], **{quantity: [1.0, 2.0, 3.0] for quantity in QUANTITIES}})
    reference = seeds.merge(pd.DataFrame({"step": range(1, 5)}), how="cross")
    tested = reference[reference["seed"] == 1].assign(reward=6.96, entropy=6.98, alpha=-2.98)
    table = compare(reference, tested, 4, level=1 - 6 * 0.05)
    assert table["mean"].tolist() == pytest.approx([2.0] * 6)
    assert table["sd"].tolist() == pytest.approx([1.0] * 6)
    assert table["low"].tolist() == pytest.approx([2 - 4.968276] * 6, abs=1e-5)
    assert table["high"].tolist() == pytest.approx([2 + 4.968276] * 6, abs=1e-5)
    assert table["z"].tolist() == pytest.approx([4.96, 4.98, -4.98] * 2)
    assert table["within"].tolist() == [True, False, False] * 2
    assert table["quantity"].tolist() == [*QUANTITIES] * 2
    assert table["window"].tolist() == [name for name in WINDOWS for _ in QUANTITIES]


# -- differences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_shift_of_several_deviations_is_seen(sign):
    random = np.random.default_rng(1)
    found = []
    for _ in range(50):
        table = compare(runs(random, 12), runs(random, 1, shift=sign * 8), STEPS, level=0.99)
        whole = table[table["window"] == "all steps"]
        assert (np.sign(whole["z"]) == sign).all()
        found.append(not whole["within"].any())
    assert np.mean(found) > 0.8


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_shift_of_one_quantity_is_seen_in_that_one(quantity):
    random = np.random.default_rng(2)
    reference, tested = runs(random, 12), runs(random, 1)
    tested[quantity] = tested[quantity] + 10
    table = compare(reference, tested, STEPS, level=0.99)
    assert set(table["quantity"][~table["within"]]) == {quantity}


def test_a_difference_that_builds_up_late_is_seen_in_the_last_quarter():
    random = np.random.default_rng(3)
    reference, tested = runs(random, 12, steps=40), runs(random, 1, steps=40)
    tested.loc[tested["step"] > 30, "reward"] += 4
    table = compare(reference, tested, 40, level=0.99).set_index(["window", "quantity"])
    assert not table.loc[("last quarter", "reward"), "within"]
    assert table.loc[("last quarter", "entropy"), "within"]
    assert table.loc[("last quarter", "reward"), "z"] > table.loc[("all steps", "reward"), "z"] > 0


def test_one_of_several_runs_is_named():
    random = np.random.default_rng(4)
    reference, tested = runs(random, 12), runs(random, 4, first_seed=100)
    tested.loc[tested["seed"] == 102, "alpha"] += 20
    table = compare(reference, tested, STEPS, level=0.99)
    assert set(table["seed"][~table["within"]]) == {102}


# -- windows and missing values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "first"), [(1, 1), (2, 2), (3, 3), (4, 4), (7, 7), (8, 7), (20, 16), (100, 76)])
def test_the_last_quarter_ends_with_the_last_step_and_is_never_empty(steps, first):
    assert windows(steps) == [Window("all steps", 1, steps), Window("last quarter", first, steps)]


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_short_runs_have_all_comparisons(steps):
    random = np.random.default_rng(5)
    table = compare(runs(random, 5, steps=steps), runs(random, 1, steps=steps), steps, 0.99)
    assert len(table) == 6
    assert table.notna().all(axis=None)


def test_a_window_is_the_mean_over_its_steps():
    random = np.random.default_rng(6)
    reference, tested = runs(random, 12), runs(random, 1)
    values = compare(reference, tested, STEPS, 0.99).set_index(["window", "quantity"])["value"]
    assert values["all steps", "reward"] == pytest.approx(tested["reward"].mean())
    assert values["last quarter", "alpha"] == pytest.approx(tested["alpha"].tail(2).mean())


def test_a_step_without_mixed_groups_is_left_out_of_alpha():
    random = np.random.default_rng(6)
    reference, tested = runs(random, 12), runs(random, 1)
    tested.loc[tested["step"] == 2, "alpha"] = np.nan
    values = compare(reference, tested, STEPS, 0.99).set_index(["window", "quantity"])["value"]
    assert values["all steps", "alpha"] == pytest.approx(tested["alpha"].dropna().mean())


def test_a_run_that_never_had_alpha_does_not_pass():
    random = np.random.default_rng(6)
    table = compare(runs(random, 12), runs(random, 1).assign(alpha=np.nan), STEPS, 0.99)
    assert not table["within"][table["quantity"] == "alpha"].any()


def test_the_order_of_rows_does_not_matter():
    random = np.random.default_rng(8)
    reference, tested = runs(random, 12), runs(random, 2)
    shuffled = reference.sample(frac=1, random_state=0), tested.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(compare(*shuffled, STEPS, 0.99), compare(reference, tested, STEPS, 0.99))


# -- errors ------------------------------------------------------------------------------------------------------------


def test_too_few_reference_runs_are_an_error():
    random = np.random.default_rng(0)
    compare(runs(random, 3), runs(random, 1), STEPS, 0.99)
    for seeds in (0, 1, 2):
        with pytest.raises(ValueError, match=f"reference: expected at least 3 runs, found {seeds}"):
            compare(runs(random, seeds), runs(random, 1), STEPS, 0.99)


def test_nothing_to_test_is_an_error():
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="tested: expected at least one run"):
        compare(runs(random, 3), runs(random, 0), STEPS, 0.99)


@pytest.mark.parametrize("which", ["reference", "tested"])
@pytest.mark.parametrize("change", ["last step gone", "first step gone", "a step twice", "longer"])
def test_a_run_of_another_length_is_an_error(which, change):
    random = np.random.default_rng(0)
    frames = {"reference": runs(random, 12), "tested": runs(random, 2)}
    frame, of_one = frames[which], frames[which]["seed"] == 2
    if change == "longer":
        frame = pd.concat([frame, frame[of_one & (frame["step"] == 1)].assign(step=STEPS + 1)])
    elif change == "a step twice":
        frame = frame.assign(step=frame["step"].where(~(of_one & (frame["step"] == 3)), 4))
    else:
        frame = frame[~(of_one & (frame["step"] == (STEPS if change == "last step gone" else 1)))]
    with pytest.raises(ValueError, match=f"{which}: expected {STEPS} steps of every run"):
        compare(**frames | {which: frame}, steps=STEPS, level=0.99)
