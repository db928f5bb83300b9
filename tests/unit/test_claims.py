"""Claims: expanded into statements, tested, judged, and written without surprises."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from simulated import MIXTURES, accuracies, contrasts
from test_figures import ROOT, study_at, write_run, write_scores

from asymgrpo import plan, records
from asymgrpo.analysis.claims import power, verdicts
from asymgrpo.analysis.claims.definitions import claims
from asymgrpo.analysis.claims.quantities import QUANTITIES, Reader, paper_difference
from asymgrpo.analysis.claims.statistics import crossed, evidence, holm, paired
from asymgrpo.analysis.claims.verdicts import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, REPRODUCED, claim_verdict
from asymgrpo.config import ConfigError, Run, load
from asymgrpo.figures import make as make_figure
from asymgrpo.tables import make
from asymgrpo.tables.table2 import REPORTED, read_reported

FILE = "config/claims.yaml"


@pytest.fixture(scope="module")
def local():
    return load(ROOT, {"scale": "local"})


@pytest.fixture(scope="module")
def reported():
    return read_reported(ROOT / REPORTED)


def of(study, claim):
    return next(c for c in claims(study) if c.name == claim).statements


# -- definitions ------------------------------------------------------------------------------------------------------


def test_every_claim_of_the_paper_is_there_and_every_statement_is_one(local):
    found = claims(local)
    assert [c.name for c in found if not c.own] == [str(number) for number in range(1, 12)]
    assert [c.name for c in found if c.own] == ["S1", "S2"]
    ids = [s.id for c in found for s in c.statements]
    assert len(set(ids)) == len(ids)
    assert not [s.id for c in found for s in c.statements if s.missing]


def test_a_chain_is_its_neighbours_and_lists_are_every_pair(local):
    assert [(s.of, s.minus) for s in of(local, "10")] == [
        ("neg-only-0.5", "reinforce"),
        ("pos-only-0.5", "neg-only-0.5"),
        ("grpo", "pos-only-0.5"),
    ]
    third = [(s.of, s.minus, s.backbone) for s in of(local, "3")]
    assert third[:3] == [
        ("pos-only-0.25", "reinforce", "qwen3-160k"),
        ("pos-only-0.5", "pos-only-0.25", "qwen3-160k"),
        ("pos-only-0.75", "pos-only-0.5", "qwen3-160k"),
    ]
    assert [backbone for *_, backbone in third[3:]] == ["qwen3-80k"] * 3
    eighth = of(local, "8")
    assert {s.of for s in eighth} == {"asymgrpo"}
    assert [(s.minus, s.backbone) for s in eighth][-1] == ("grpo", "qwen3-80k")


def test_roles_are_the_backbones_of_the_scale():
    paper = load(ROOT, {"scale": "paper"})
    assert [s.backbone for s in of(paper, "1")] == list(paper.backbones)
    assert [s.backbone for s in of(paper, "8") if s.minus == "grpo"] == list(paper.backbones)
    assert {s.backbone for s in of(paper, "7")} == set(list(paper.backbones)[:2])


def test_windows_are_shares_of_the_scales_steps(local):
    first = of(local, "2")[0]
    assert first.windows == ((7, 24), (25, 42), (43, 60))
    assert first.window == "steps 7–24, 25–42, 43–60"
    assert of(local, "1")[0].windows == ((1, 20),)
    assert of(local, "8")[0].windows == ()
    tiny = load(ROOT, {"scale": "tiny"})
    assert of(tiny, "2")[0].windows == ((1, 1), (2, 2), (3, 4))
    assert of(tiny, "1")[0].windows == ((1, 4),)


def test_what_a_scale_does_not_run_is_not_tested():
    smoke = load(ROOT, {"scale": "smoke"})
    assert "no second backbone" in of(smoke, "1")[1].missing
    ninth = of(smoke, "9")[0]
    assert ninth.missing == "AsymGRPO (symmetric) not run on Qwen3-160k at this scale"
    assert [s.minus for s in of(smoke, "8") if not s.missing] == ["reinforce", "grpo"]


def test_the_artefact_needs_the_runs_of_what_it_judges_and_no_more(local):
    needed = set(local.runs("claims"))
    assert needed == {run for name in ("table1", "fig2", "fig3", "table2") for run in local.runs(name)}
    assert set(plan.evaluated(local, "claims")) == set(plan.evaluated(local, "table2"))
    asked = {(s.backbone, name) for c in claims(local) for s in c.statements for name in (s.of, s.minus) if name}
    assert asked <= {(run.backbone, run.method) for run in needed}


def test_quantities_and_schema_are_the_same():
    schema = yaml.safe_load((ROOT / "workflow/schemas/claims.schema.yaml").read_text())
    assert schema["$defs"]["statement"]["properties"]["quantity"]["enum"] == list(QUANTITIES)


def test_the_protocol_is_that_of_the_papers_scale(local):
    paper = load(ROOT, {"scale": "paper"})
    samples = paper.settings["evaluation"]["final"]["t0.4"]["samples"]
    expected = {
        b.stands_for: {"problems": b.settings["problems"], "samples": samples[name]}
        for name, b in paper.benchmarks.items()
    }
    assert local.claims["protocol"]["benchmarks"] == expected


@pytest.fixture
def project(tmp_path):
    for part in ("config", "workflow/schemas"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


FIRST = "claims 2 statements 0"


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (f"{FIRST} of", ["pos-onyl-0.5"], ["claims.2.statements[0].of: unknown method", "pos-only-0.5"]),
        (f"{FIRST} window", "throughuot", ["statements[0].window: unknown window", "did you mean 'throughout'"]),
        (f"{FIRST} quantity", "entrpy", ["statements[0].quantity", "did you mean 'entropy'"]),
        (f"{FIRST} treshold", 1, ["statements[0].treshold: unknown key", "threshold"]),
        (f"{FIRST} direction", "within", ["statements[0].threshold: found 0", "a margin above 0"]),
        (f"{FIRST} chain", ["grpo", "asymgrpo"], ["statements[0].of: is given beside chain"]),
        (f"{FIRST} quantity", "final_average", ["statements[0].window: found 'throughout' for final_average", "final"]),
        ("claims 2 figure", "fig22", ["claims.2.figure: unknown artefact 'fig22'", "fig2"]),
        ("claims x", {}, ["claims.x: the name 'x' cannot be used", "a number in quotes"]),
        ("windows second-half shares", [[0.5, 0.5]], ["windows.second-half.shares[0]: found [0.5, 0.5]", "from < to"]),
        ("alpha", 0.7, ["alpha: found the number 0.7", "below 0.5"]),
        ("protocol benchmarks AIME24 samples", 0, ["AIME24.samples: found the number 0", "at least 1"]),
    ],
)
def test_mistakes_are_one_line_with_file_and_key(project, keys, value, expected):
    document = yaml.safe_load((project / FILE).read_text())
    *path, last = [int(key) if key == "0" else key for key in keys.split()]
    place = document
    for key in path:
        place = place[key]
    place[last] = value
    (project / FILE).write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as caught:
        load(project)
    message = str(caught.value)
    assert message.startswith(FILE)
    assert "\n" not in message
    assert all(part in message for part in expected), message


def test_a_question_is_asked_once(project):
    document = yaml.safe_load((project / FILE).read_text())
    document["claims"]["9"]["statements"] *= 2
    (project / FILE).write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=r"claims\.9\.statements\[1\]: asks again what claims\.9\.statements\[0\]"):
        load(project)


def test_what_judges_others_names_artefacts(project):
    file = project / "config/artefacts.yaml"
    file.write_text(file.read_text().replace("judges: [table1, fig2,", "judges: [table1, fgi2,"))
    with pytest.raises(ConfigError, match=r"artefacts\.claims\.judges: unknown artefact 'fgi2' .*'fig2'"):
        load(project)


# -- statistics -------------------------------------------------------------------------------------------------------


def test_a_paired_mean_is_scipys_t_test():
    d = np.array([0.3, 0.1, 0.25, -0.05])
    found, expected = paired(d), stats.ttest_1samp(d, 0.0)
    weighed, _ = evidence([found], "above")
    assert float(weighed.p) == pytest.approx(expected.pvalue)
    assert np.allclose(found.interval(0.95), expected.confidence_interval(0.95))
    assert float(evidence([found], "below")[0].p) == pytest.approx(expected.pvalue)
    assert float(found.above(0.1)) == pytest.approx(stats.ttest_1samp(d, 0.1, alternative="greater").pvalue)


def test_crossed_variance_is_the_anova_of_the_two_way_table():
    d = np.random.default_rng(1).normal(size=(4, 30)) + np.random.default_rng(2).normal(size=(1, 30))
    seeds, problems = d.shape
    squares = {
        "seed": problems * ((d.mean(1) - d.mean()) ** 2).sum() / (seeds - 1),
        "problem": seeds * ((d.mean(0) - d.mean()) ** 2).sum() / (problems - 1),
    }
    rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    squares["interaction"] = (rest**2).sum() / ((seeds - 1) * (problems - 1))
    expected = (squares["seed"] + squares["problem"] - squares["interaction"]) / d.size
    found = crossed([d])
    assert float(found.effect) == pytest.approx(d.mean())
    assert float(found.error) ** 2 == pytest.approx(expected)
    # benchmarks weigh the same however many problems they have
    other = np.random.default_rng(3).normal(size=(4, 7))
    both = crossed([d, other])
    assert float(both.effect) == pytest.approx((d.mean() + other.mean()) / 2)
    assert float(both.problems) == pytest.approx((float(found.problems) + float(crossed([other]).problems)) / 4)


def test_without_variance_of_problems_it_is_the_t_test_over_seeds():
    d = np.array([0.1, 0.3, 0.2])[:, None] + np.zeros((3, 8))
    found, expected = crossed([d]), paired([0.1, 0.3, 0.2])
    assert np.allclose(found.interval(0.95), expected.interval(0.95))
    assert float(found.above(0.0)) == pytest.approx(float(expected.above(0.0)))


def test_p_and_interval_say_the_same():
    """One-sided p is 2.5% exactly at the end of the 95% interval, also where two t distributions are mixed."""
    tables = accuracies(np.random.default_rng(0), 20, 2, 3, (40, 60), 4, MIXTURES["seeds and problems"])
    found = crossed(contrasts(tables, [(0, 1)])[0])
    low, high = found.interval(0.95)
    for index in range(20):
        one = type(found)(*(np.asarray(f)[index] if np.ndim(f) else f for f in found))
        assert float(one.above(low[index])) == pytest.approx(0.025, rel=1e-3)
        assert float(one.below(high[index])) == pytest.approx(0.025, rel=1e-3)
        assert float(one.above(high[index])) == pytest.approx(0.975, rel=1e-3)


@pytest.mark.parametrize("values", [[0.2], [0.2, 0.2, 0.2], [0.0, 0.0, 0.0]])
def test_where_seeds_say_nothing_about_the_spread_nothing_follows(values):
    found = paired(values)
    for direction, threshold in (("above", 0.0), ("below", 0.0), ("within", 1.0)):
        weighed, _ = evidence([found], direction, threshold)
        assert (float(weighed.for_it), float(weighed.against)) == (1.0, 1.0)
    assert np.isnan(found.interval(0.95)).all()


def test_close_is_inside_the_margin_with_the_whole_interval():
    inside, outside = np.array([0.1, -0.1, 0.05, 0.0]), np.array([2.1, 1.9, 2.05, 2.0])
    assert float(evidence([paired(inside)], "within", 0.5)[0].for_it) < 0.025
    assert float(evidence([paired(outside)], "within", 0.5)[0].against) < 0.001
    assert float(evidence([paired(-outside)], "within", 0.5)[0].against) < 0.001
    low, high = paired(inside).interval(0.95)
    edge = float(max(-low, high))
    assert float(evidence([paired(inside)], "within", edge)[0].for_it) == pytest.approx(0.025)


def test_throughout_is_decided_by_the_weakest_window():
    strong, weak = paired([1.0, 1.1, 0.9, 1.05]), paired([0.1, -0.1, 0.2, 0.0])
    both, weakest = evidence([strong, weak, strong], "above")
    assert float(both.for_it) == float(weak.above(0.0))
    assert int(weakest) == 1
    against, _ = evidence([strong._replace(effect=-strong.effect), weak, strong], "above")
    assert float(against.against) == pytest.approx(3 * float(strong.above(0.0)))


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    rows = holm([[0.04, 0.01, 0.03], [0.01, 0.02, 0.9]])
    assert rows[1].tolist() == pytest.approx([0.03, 0.04, 0.9])
    assert holm([]).tolist() == []


# -- verdicts ---------------------------------------------------------------------------------------------------------

R, C, U, N = REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_TESTED


@pytest.mark.parametrize(
    ("statements", "of_all", "of_any"),
    [
        ([R], R, R),
        ([R, R], R, R),
        ([R, U], U, R),
        ([R, N], U, R),
        ([R, C], C, R),
        ([C, U], C, U),
        ([C, C], C, C),
        ([C, N], C, U),
        ([U, N], U, U),
        ([N, N], N, N),
    ],
)
def test_a_claim_is_judged_from_its_statements(statements, of_all, of_any):
    assert claim_verdict(statements) == of_all
    assert claim_verdict(statements, "any") == of_any


@pytest.mark.parametrize(("seeds", "decided"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_seeds_decide_nothing(seeds, decided):
    codes, adjusted = verdicts.statement_verdicts(np.array([1e-6, 0.9, 0.3]), np.array([1.0, 1e-4, 0.7]), seeds, 0.05)
    assert codes.tolist() == ([1, -1, 0] if decided else [0, 0, 0])
    assert adjusted.tolist() == pytest.approx([6e-6, 4e-4, 0.6])


# -- the paper's values, power ----------------------------------------------------------------------------------------


def test_the_papers_differences_are_those_of_its_table(local, reported):
    assert paper_difference(reported, local, "qwen3-160k", ("asymgrpo", "grpo")) == 2.86
    assert paper_difference(reported, local, "qwen3-160k", ("asymgrpo", "grpo-clip-higher")) == 0.61
    assert paper_difference(reported, local, "qwen3-160k", ("asymgrpo", "symmetric")) == 2.22
    assert paper_difference(reported, local, "qwen3-80k", ("asymgrpo", "grpo")) == 2.27
    assert paper_difference(reported, local, "qwen3-80k", ("asymgrpo", "dr-grpo")) is None
    assert paper_difference(reported, local, "qwen3-160k", ("schedule-linear", "asymgrpo")) is None


def test_the_chance_of_a_decision_is_that_of_simulated_seeds():
    measured = paired([0.9, 1.1, 2.0, -0.2, 1.2])
    sd = float(measured.error) * np.sqrt(5)
    d = np.random.default_rng(0).normal(float(measured.effect), sd, (20_000, 6))
    decided = paired(d).above(0.0) < 0.025
    assert power.chance(measured, 5, 6, "above", 0.0, 0.025) == pytest.approx(decided.mean(), abs=0.01)
    inside = evidence([paired(d)], "within", 3.0)[0].for_it < 0.025
    assert power.chance(measured, 5, 6, "within", 3.0, 0.025) == pytest.approx(inside.mean(), abs=0.02)


def test_the_seeds_that_are_needed_are_the_fewest_that_do():
    measured = paired([0.9, 1.1, 2.0, -0.2, 1.2])

    def needed(estimate, now, tail):
        return power.seeds_needed(lambda seeds: power.chance(estimate, now, seeds, "above", 0.0, tail), 0.8)

    fewest = needed(measured, 5, 0.025)
    at = [power.chance(measured, 5, seeds, "above", 0.0, 0.025) for seeds in (fewest - 1, fewest)]
    assert at[0] < 0.8 <= at[1]
    assert needed(measured, 5, 0.0025) > fewest
    assert needed(paired([1.0, -1.0, 0.001]), 3, 0.025) is None
    # more seeds do not help against few problems
    fixed = measured._replace(problems=np.float64(4.0), problems_freedom=np.float64(50.0))
    assert needed(fixed, 5, 0.025) is None


WINDOWS = {
    "all for it": [[0.9, 1.1, 2.0, -0.2, 1.2], [1.5, 0.1, 0.6, 0.2, 1.9], [0.7, 1.9, 1.6, -0.6, 1.2]],
    "one against it": [[-0.9, -1.1, -2.0, 0.2, -1.2], [1.5, 0.1, 0.6, 0.2, 1.9], [0.7, 1.9, 1.6, -0.6, 1.2]],
    "two of it alike": [[1.0, 1.4, 0.2], [1.0, 1.4, 0.2], [0.8, 2.4, 1.0]],
}


def directly(windows, seeds, direction, threshold, tail, count=20_000):
    """How often this many seeds decide, each of them drawn, and what their first window alone would say."""
    values = np.asarray(windows)
    rng = np.random.default_rng(1)
    drawn = rng.multivariate_normal(values.mean(1), np.cov(values), (count, seeds), method="svd")
    parts = [paired(drawn[..., window]) for window in range(len(values))]
    rates = [(evidence(kept, direction, threshold)[0].p < 2 * tail).mean() for kept in (parts, parts[:1])]
    return tuple(rates)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(("direction", "threshold"), [("above", 0.0), ("below", 0.0), ("within", 3.0), ("within", 0.5)])
@pytest.mark.parametrize("seeds", [3, 6, 15])
def test_the_chance_to_decide_several_windows_is_that_of_simulated_seeds(name, direction, threshold, seeds):
    found = power.joint_chance(WINDOWS[name], seeds, direction, threshold, 0.00625)
    assert found == pytest.approx(directly(WINDOWS[name], seeds, direction, threshold, 0.00625)[0], abs=0.015)


@pytest.mark.parametrize("name", ["all for it", "one against it"])
def test_several_windows_need_more_seeds_than_the_one_that_is_shown(name):
    windows, tail = np.array(WINDOWS[name]), 0.00625
    first = paired(windows[0])
    alone = power.seeds_needed(lambda seeds: power.chance(first, 5, seeds, "above", 0.0, tail), 0.8)
    joint = power.seeds_needed(lambda seeds: power.joint_chance(windows, seeds, "above", 0.0, tail), 0.8)
    whole, of_first = directly(windows, alone, "above", 0.0, tail)
    assert joint > alone
    assert whole < 0.75 < 0.785 < of_first
    assert directly(windows, joint, "above", 0.0, tail)[0] > 0.785
    assert directly(windows, joint - 1, "above", 0.0, tail)[0] < 0.815


def test_one_window_is_what_several_are_without_the_others():
    values = np.array(WINDOWS["all for it"][0])
    for seeds in (3, 8, 30):
        alone = power.chance(paired(values), 5, seeds, "above", 0.0, 0.025)
        assert power.joint_chance([values], seeds, "above", 0.0, 0.025) == pytest.approx(alone, abs=0.01)


def test_a_window_of_unknown_spread_can_be_outvoted_but_never_holds():
    alike, other = np.ones(5), np.array([1.0, 1.1, 0.9, 1.2, 0.8])
    assert power.joint_chance([alike, other], 50, "above", 0.0, 0.025) == 0.0
    assert power.joint_chance([alike, -other], 50, "above", 0.0, 0.025) == 1.0


def test_what_the_papers_protocol_resolves_by_hand(local, reported):
    from asymgrpo.tables.claims import paper_resolution

    found = paper_resolution(local, reported).set_index(["backbone", "benchmark"])
    row = found.loc["Qwen3-4B", "AIME24"]
    width = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert row["independent"] == pytest.approx(100 * width * np.sqrt(2 * 0.31 * 0.69 / 300))
    assert row["agreeing"] == pytest.approx(row["independent"] * np.sqrt(10))
    average = found.loc["Qwen3-4B", "Avg"]
    cells = found.loc["Qwen3-4B"].drop("Avg")
    assert average["independent"] == pytest.approx(np.sqrt((cells["independent"] ** 2).sum()) / 5)
    assert found.xs("Avg", level="benchmark")["gap"].tolist() == [2.86, 2.14, 2.27]


# -- a study ----------------------------------------------------------------------------------------------------------


def written(root, scale, seeds):
    study = study_at(root, scale, seeds=seeds, artefacts="claims")
    for run in study.runs():
        write_run(study, run)
    for run in plan.evaluated(study, "claims"):
        write_scores(study, run, 12)
    (root / REPORTED).parent.mkdir(parents=True)
    shutil.copy(ROOT / REPORTED, root / REPORTED)
    return study


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return written(tmp_path_factory.mktemp("three"), "tiny", "1,2,3")


@pytest.fixture(scope="module", params=[("tiny", "1"), ("tiny", "1,2"), ("smoke", "1,2,3")])
def few(request, tmp_path_factory):
    scale, seeds = request.param
    return written(tmp_path_factory.mktemp("few"), scale, seeds)


def told(study):
    paths = {path.suffix: path for path in make("claims", study)}
    return json.loads(paths[".json"].read_text(), parse_constant=pytest.fail), paths


@pytest.fixture(scope="module")
def judged(three):
    return told(three)


def test_differences_are_what_the_files_hold(three):
    reader = Reader(three)
    by_id = {s.id: s for c in claims(three) for s in c.statements}

    def steps(method, seed):
        run = Run("qwen3-160k", method, seed)
        return records.read(three.runs_dir(run) / "steps.parquet", records.STEPS).to_pandas().set_index("step")

    found = reader.differences(by_id["2-entropy-pos-only-0.5-vs-reinforce-qwen3-160k"]).windows
    assert found.shape == (3, 3)
    late = [
        steps("pos-only-0.5", s)["entropy"][[3, 4]].mean() - steps("reinforce", s)["entropy"][[3, 4]].mean()
        for s in (1, 2, 3)
    ]
    assert np.allclose(found[2], late)
    shares = reader.differences(by_id["6-none-solved-reinforce-entropy-vs-reinforce-qwen3-160k"]).windows[0]
    expected = [
        100 * (steps("reinforce-entropy", s)["none_solved"] - steps("reinforce", s)["none_solved"]).mean()
        for s in (1, 2, 3)
    ]
    assert np.allclose(shares, expected)
    ratio = reader.differences(by_id["11-entropy-ratio-asymgrpo-vs-grpo-qwen3-160k"]).windows[0]
    means = [[steps(m, s)["entropy"].mean() for m in ("asymgrpo", "grpo")] for s in (1, 2, 3)]
    assert np.allclose(np.exp(ratio), [a / b for a, b in means])

    def accuracy(method, seed):
        file = three.runs_dir(Run("qwen3-160k", method, seed)) / "evaluations.parquet"
        return 100 * records.read(file, records.EVALUATIONS).to_pandas().groupby("step")["accuracy"].mean()

    own = reader.differences(by_id["7-degradation-ent-decrease-vs-grpo-qwen3-160k"]).windows[0]
    drops = [[accuracy(m, s)[4] - accuracy(m, s).max() for m in ("ent-decrease", "grpo")] for s in (1, 2, 3)]
    assert np.allclose(own, [a - b for a, b in drops])
    tables = reader.differences(by_id["8-final-average-asymgrpo-vs-grpo-qwen3-160k"]).tables
    assert [table.shape for table in tables] == [(3, 12)] * 5


def test_the_file_is_as_agreed_and_as_the_table(three, judged):
    found, paths = judged
    assert [claim["claim"] for claim in found["claims"]] == [c.name for c in claims(three)]
    assert (found["scale"], found["seeds"], found["level"]) == ("tiny", [1, 2, 3], 0.95)
    assert isinstance(found["rule"], str)
    statements = [s for claim in found["claims"] for s in claim["statements"]]
    keys = {
        "id", "text", "backbone", "quantity", "unit", "window", "contrast", "direction", "threshold", "test", "verdict",
        "effect", "low", "high", "seeds", "p", "p_holm", "paper", "paper_note", "figure", "seeds_needed", "note",
    }  # fmt: skip
    assert all(keys <= set(s) for s in statements)
    for s in statements:
        assert s["verdict"] in verdicts.VERDICTS
        assert s["low"] is None or s["low"] <= s["effect"] <= s["high"]
        assert s["p"] is None or s["p"] <= s["p_holm"] <= 1
        if s["direction"] != "=" and s["low"] is not None and "," not in s["window"]:
            assert (s["p"] < 0.05) == (not s["low"] <= s["threshold"] <= s["high"]), s["id"]
        assert (s["seeds_needed"] is None) or s["verdict"] == INCONCLUSIVE
    table = pd.read_csv(paths[".csv"])
    assert table["id"].tolist() == [s["id"] for s in statements]
    assert np.allclose(table["effect"].astype(float), [s["effect"] for s in statements])
    text = paths[".md"].read_text()
    assert all(claim["why"].replace("|", "\\|") in text for claim in found["claims"])
    assert {s["paper"] for s in statements if s["id"].startswith("8-")} == {5.65, 2.86, 1.84, 0.61, 1.22, 2.27}


def test_verdicts_follow_the_effects(tmp_path, three):
    """A clear effect in every seed is found, and found to be contrary where the claim says the contrary."""
    root = tmp_path / "changed"
    shutil.copytree(three.root, root)
    study = dataclasses.replace(three, root=root)

    def shift(method, amount):
        for seed in study.seeds:
            path = study.runs_dir(Run("qwen3-160k", method, seed)) / "steps.parquet"
            reference = study.runs_dir(Run("qwen3-160k", "reinforce", seed)) / "steps.parquet"
            steps = records.read(reference, records.STEPS).to_pandas()
            steps["entropy"] += amount * (1 + 0.05 * seed)
            records.write(path, steps.to_dict("records"), records.STEPS)

    shift("pos-only-0.5", 0.2)
    shift("neg-only-0.5", 0.2)
    found = {s["id"]: s for claim in told(study)[0]["claims"] for s in claim["statements"]}
    assert found["2-entropy-pos-only-0.5-vs-reinforce-qwen3-160k"]["verdict"] == REPRODUCED
    against = found["4-entropy-neg-only-0.5-vs-reinforce-qwen3-160k"]
    assert against["verdict"] == CONTRADICTED
    assert against["effect"] == pytest.approx(0.22)


def test_the_seeds_that_are_said_to_be_needed_decide_all_windows_together(three, judged):
    reader, found = Reader(three), {s["id"]: s for claim in judged[0]["claims"] for s in claim["statements"]}
    checked = 0
    for claim in claims(three):
        tail = 0.05 / 2 / len(claim.statements)
        for s in claim.statements:
            needed = found[s.id]["seeds_needed"]
            if len(s.windows) > 1 and needed is not None:
                windows = reader.differences(s).windows
                assert power.joint_chance(windows, needed, s.direction, s.threshold, tail) >= 0.8
                assert needed == 3 or power.joint_chance(windows, needed - 1, s.direction, s.threshold, tail) < 0.8
                checked += 1
    assert checked


def test_the_table_says_how_many_seeds_are_needed_and_what_is_assumed(three, judged):
    text = judged[1][".md"].read_text()
    assert "| Seeds needed |" in text
    assert all(statement.removesuffix(" (assumed)") in text for statement in three.assumed("claims"))
    assert three.assumed("claims")


def test_few_seeds_or_methods_still_give_a_table_and_figures(few):
    found, paths = told(few)
    statements = [s for claim in found["claims"] for s in claim["statements"]]
    if len(few.seeds) < 3:
        assert {s["verdict"] for s in statements} == {INCONCLUSIVE}
        assert "nothing is decided" in paths[".md"].read_text()
    if len(few.seeds) == 1:
        assert {s["low"] for s in statements} == {None}
        assert {s["note"] for s in statements} == {"one seed: no interval"}
    if few.scale == "smoke":
        by_claim = {claim["claim"]: claim for claim in found["claims"]}
        assert by_claim["9"]["verdict"] == by_claim["3"]["verdict"] == NOT_TESTED
        assert "not run" in by_claim["9"]["why"]
        assert by_claim["8"]["verdict"] != REPRODUCED
    for name in ("claims", "power"):
        paths = make_figure(name, few)
        assert all(path.stat().st_size for path in paths)
        assert "nan" not in next(path for path in paths if path.suffix == ".md").read_text()


def test_the_same_bytes_twice(three, judged):
    first = {suffix: path.read_bytes() for suffix, path in judged[1].items()}
    assert {path.suffix: path.read_bytes() for path in make("claims", three)} == first


def test_a_step_without_a_value_is_not_tested(tmp_path, three):
    root = tmp_path / "changed"
    shutil.copytree(three.root, root)
    study = dataclasses.replace(three, root=root)
    for seed in study.seeds:
        path = study.runs_dir(Run("qwen3-160k", "grpo", seed)) / "steps.parquet"
        steps = records.read(path, records.STEPS).to_pandas().assign(alpha=np.nan)
        records.write(path, steps.to_dict("records"), records.STEPS)
    first = told(study)[0]["claims"][0]
    assert first["statements"][0]["verdict"] == NOT_TESTED
    assert "no value" in first["statements"][0]["note"]
    assert first["verdict"] != REPRODUCED


def test_figures_of_other_seeds_are_refused(three, judged):
    other = dataclasses.replace(three, seeds=(1, 2))
    with pytest.raises(ValueError, match=r"claims\.json: expected the seeds \[1, 2\], found \[1, 2, 3\]; make it with"):
        make_figure("claims", other)
    with pytest.raises(ValueError, match=r"claims\.json: no such file; make it with: snakemake"):
        make_figure("power", dataclasses.replace(three, root=three.root / "elsewhere"))


def test_a_missing_run_is_named_with_the_command(tmp_path):
    study = study_at(tmp_path, artefacts="claims")
    (tmp_path / REPORTED).parent.mkdir(parents=True)
    shutil.copy(ROOT / REPORTED, tmp_path / REPORTED)
    with pytest.raises(ValueError, match=r"steps\.parquet: no such file; make it with: snakemake"):
        make("claims", study)


def test_a_window_of_unknown_spread_is_not_shown_for_another_that_contradicts():
    alike, against = np.zeros(5), np.array([-1.0, -1.1, -0.9, -1.2, -0.8])
    found, shown = evidence([paired(alike), paired(against)], "above")
    assert shown == 1
    assert found.against < 0.01 < found.for_it
