"""What artefacts need and cost: every run once, formulas by hand, and only what is not there is still to do."""

import dataclasses
import json
from pathlib import Path

import pytest

from asymgrpo.config import BASE, ConfigError, Run, load
from asymgrpo.plan import (
    Job,
    Measured,
    Model,
    Needs,
    _makespan,
    as_json,
    as_text,
    costs,
    duration,
    evaluated,
    plan,
    size,
    table,
)

ROOT = Path(__file__).resolve().parents[2]
SCALES = sorted(path.stem for path in (ROOT / "config/scales").glob("*.yaml"))


def study_at(root, scale, **overrides):
    """The repository's own configuration, with its results under another root."""
    return dataclasses.replace(load(ROOT, {"scale": scale, **overrides}), root=root)


@pytest.fixture
def paper(tmp_path):
    return study_at(tmp_path, "paper")


def rows(made):
    return {row.target: row for row in made.rows}


def with_cost(study, **constants):
    changed = {path: dataclasses.replace(s, value=constants.get(path[-1], s.value)) for path, s in study.cost.items()}
    return dataclasses.replace(study, cost=changed)


@pytest.mark.parametrize("scale", SCALES)
def test_every_target_has_its_runs_and_all_has_each_once(tmp_path, scale):
    study = study_at(tmp_path, scale)
    found = rows(plan(study))
    assert list(found) == [*study.artefacts, "all"]
    for name in study.artefacts:
        assert found[name].runs == len(study.runs(name))
    assert found["all"].runs == len(study.runs())
    targets = [found[name] for name in study.artefacts]
    for quantity in ("hours", "kept_bytes"):
        assert max(getattr(row, quantity) for row in targets) <= getattr(found["all"], quantity)
        assert getattr(found["all"], quantity) < sum(getattr(row, quantity) for row in targets)
    nothing = found["fig1"]
    assert (nothing.runs, nothing.hours, nothing.wall_seconds, nothing.kept_bytes + nothing.working_bytes) == (0,) * 4
    assert all(row.hours_left == row.hours and row.done == 0 for row in found.values())


def test_untrained_policies_are_evaluated_for_tables_only(paper):
    assert [run for run in evaluated(paper, "fig4") if run.method == BASE] == []
    assert [run for run in evaluated(paper, "fig4", "table2") if run.method == BASE] == [
        Run(backbone, BASE, 1) for backbone in paper.backbones
    ]
    assert evaluated(paper, "fig2") == evaluated(paper) == []
    assert set(evaluated(paper, "table2")) > set(paper.runs("table2"))


def test_start_policies_are_those_of_the_runs(tmp_path):
    local = study_at(tmp_path, "local")
    assert Needs.of(local, "fig4").starts == [("qwen3-160k", 1), ("qwen3-160k", 2)]
    assert len(Needs.of(local, "table1").starts) == 4
    assert Needs.of(local, "fig1").starts == []


def test_the_model_by_hand(paper):
    """Qwen3-4B, from the numbers in the scale's file."""
    cost, own = paper.cost, paper.backbones["qwen3-4b"].cost
    c = {path[-1]: setting.value for path, setting in cost.items()}
    o = {path[-1]: setting.value for path, setting in own.items()}
    rollouts, longest, problems = 128 * 8, 4096, 500 + 30 + 30 + 40 + 674
    tail = (longest - o["response_tokens"]) / o["single_stream_rate"]
    tokens = rollouts * (c["prompt_tokens"] + o["response_tokens"])
    validation = problems * o["response_tokens"] / (4 * o["generation_rate"]) + tail
    expected = {
        "sampling": rollouts * o["response_tokens"] / (4 * o["generation_rate"]) + tail,
        "forward": 2 * 2 * o["parameters"] * tokens / (4 * c["peak_flops"] * c["forward_utilisation"]),
        "update": 8 * o["parameters"] * tokens / (4 * c["peak_flops"] * c["update_utilisation"]),
        "evaluation": 21 * validation / 200,
        "checkpoint": o["parameters"] * c["checkpoint_bytes"] / c["disk_rate"] / 10,
        "overhead": c["step_overhead_seconds"],
    }
    model, run = Model(paper), Run("qwen3-4b", "grpo", 1)
    assert model.step(run) == pytest.approx(expected)
    job = model.train(run)
    assert job.seconds == pytest.approx(c["start_seconds"] + 200 * sum(expected.values()))
    assert (job.width, job.size) == (4, 2 * 2 * o["parameters"])
    samples = 5 * (500 + 674) + 10 * (30 + 30 + 40)
    one = c["engine_start_seconds"] + samples * o["response_tokens"] / o["generation_rate"] + tail
    assert model.evaluate(run).seconds == pytest.approx(2 * one)
    assert model.evaluate(Run("qwen3-4b", BASE, 1)).seconds == pytest.approx(one)
    assert model.evaluate(run).size == pytest.approx(2 * samples * o["response_tokens"] * c["token_bytes"])


def test_a_target_is_the_sum_of_its_jobs(paper):
    cost = costs(paper)
    row = rows(plan(paper, ["table2"]))["table2"]
    jobs = [*map(cost.train, paper.runs("table2")), *map(cost.evaluate, evaluated(paper, "table2"))]
    assert row.hours == pytest.approx(sum(job.seconds * job.width for job in jobs) / 3600)
    models = 2 * sum(b.cost["parameters",].value for b in paper.backbones.values())
    assert row.kept_bytes == pytest.approx(sum(job.size for job in jobs) + models)
    assert row.working_bytes == 36 * paper.backbones["qwen2.5-7b-base"].cost["parameters",].value  # the largest


def test_constants_are_read_from_the_scale(paper):
    run = Run("qwen3-4b", "grpo", 1)
    before = Model(paper).step(run)
    after = Model(with_cost(paper, peak_flops=2 * 989e12, step_overhead_seconds=0)).step(run)
    assert after == pytest.approx(
        before | {"forward": before["forward"] / 2, "update": before["update"] / 2, "overhead": 0}
    )


def test_measured_times_by_hand(tmp_path):
    local = study_at(tmp_path, "local")
    c = {path[-1]: setting.value for path, setting in local.cost.items()}
    job = Measured(local).train(Run("qwen3-160k", "grpo", 1))
    assert job == Job(c["start_seconds"] + 60 * c["step_seconds"], 1, c["run_bytes"])
    row = rows(plan(local))["all"]
    evaluations = len(evaluated(local, *local.artefacts))
    seconds = 82 * job.seconds + evaluations * c["sampling_seconds"] + 4 * c["warm_start_seconds"]
    assert row.hours == pytest.approx(seconds / 3600)
    assert row.wall_seconds == pytest.approx(seconds / 2)
    # the README says how long it really takes
    assert 18 * 60 < row.wall_seconds < 26 * 60


def test_more_nodes_take_less_time_and_the_same_work(paper):
    made = {nodes: rows(plan(paper, nodes=nodes))["all"] for nodes in (1, 2, 4, 47)}
    assert len({row.hours for row in made.values()}) == 1
    assert made[1].wall_seconds > 1.9 * made[2].wall_seconds > 3.5 * made[4].wall_seconds
    assert made[1].wall_seconds == pytest.approx(made[1].hours * 3600 / 4)  # nothing idles
    longest = max(Model(paper).train(run).seconds for run in paper.runs())
    assert longest < made[47].wall_seconds < 1.1 * longest
    assert made[2].working_bytes == 2 * made[1].working_bytes  # the two largest have the same size


def test_jobs_are_spread_longest_first():
    jobs = [Job(seconds, 4, 0) for seconds in (3, 3, 2, 2, 2)]
    assert _makespan(jobs, nodes=2, width=4) == 7
    assert _makespan(jobs, nodes=1, width=8) == 7
    assert _makespan(jobs, nodes=1, width=4) == 12
    assert _makespan(jobs, nodes=4, width=2) == 7  # a job takes two nodes
    assert _makespan(jobs, nodes=1, width=2) == 12
    assert _makespan([], nodes=3, width=4) == 0


def test_what_is_there_is_not_to_do(paper):
    run = Run("qwen3-4b", "grpo", 1)
    before = rows(plan(paper, ["fig3", "table2"]))
    (paper.runs_dir(run)).mkdir(parents=True)
    (paper.runs_dir(run) / "steps.parquet").write_bytes(b"")
    assert rows(plan(paper, ["fig3", "table2"])) == before  # begun is not done
    (paper.runs_dir(run) / "run.yaml").write_text("")
    trained = rows(plan(paper, ["fig3", "table2"]))
    for name in ("fig3", "table2", "all"):
        assert trained[name].done == 1
        assert trained[name].hours == before[name].hours
        assert before[name].hours_left - trained[name].hours_left == pytest.approx(Model(paper).train(run).hours)
    paper.evaluation_dir(run).mkdir(parents=True)
    for benchmark in paper.benchmarks:
        assert rows(plan(paper, ["table2"]))["table2"].hours_left == pytest.approx(trained["table2"].hours_left)
        (paper.evaluation_dir(run) / f"{benchmark}.scores.parquet").write_bytes(b"")
    left = trained["table2"].hours_left - Model(paper).evaluate(run).hours
    assert rows(plan(paper, ["table2"]))["table2"].hours_left == pytest.approx(left)


def test_nothing_is_left_when_all_is_there(tmp_path):
    study = study_at(tmp_path, "tiny", artefacts=["table1"])
    for start in study.starts():
        study.start_policy(*start).mkdir(parents=True)
        (study.start_policy(*start) / "config.json").write_text("{}")
    for run in study.runs():
        study.runs_dir(run).mkdir(parents=True)
        (study.runs_dir(run) / "run.yaml").write_text("")
    (row,) = plan(study).rows
    assert row.runs == row.done == 2
    assert row.hours > row.hours_left == row.wall_seconds == row.working_bytes == 0


@pytest.mark.parametrize("scale", SCALES)
def test_the_text_is_aligned_and_says_what_it_is(tmp_path, scale):
    study = study_at(tmp_path, scale)
    made = plan(study, nodes=3)
    text = as_text(study, made)
    assert max(map(len, text.splitlines())) <= 100
    body = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in body}) == 1
    assert [line.split()[0] for line in body[1:]] == [*study.artefacts, "all"]
    assert "on 3 nodes" in text
    told = " ".join(text.split())
    assert f"in config/scales/{scale}.yaml" in told
    assert "once in `all`" in told
    assert ("A model, not a measurement" in told) == (made.unit == "GPU-hours") == (scale == "paper")
    assert json.loads(json.dumps(as_json(made)))["rows"][-1]["runs"] == len(study.runs())


def test_named_artefacts_only(paper):
    assert list(rows(plan(paper, ["fig3"]))) == ["fig3"]
    assert list(rows(plan(paper, ["fig3", "fig2", "fig3"]))) == ["fig3", "fig2", "all"]
    assert set(plan(paper, ["fig3"]).phases) == {"qwen3-4b", "qwen2.5-math-1.5b"}
    assert "counts in each" not in as_text(paper, plan(paper, ["fig3"]))


def test_bad_input(paper):
    with pytest.raises(ValueError, match="nodes: expected at least 1, found 0"):
        plan(paper, nodes=0)
    with pytest.raises(ConfigError, match="unknown artefact 'fig9'"):
        plan(paper, ["fig9"])


def test_durations_and_sizes():
    assert [duration(s) for s in (0, 40, 1320, 34200, 1.06e6)] == ["0", "40 s", "22 min", "9.5 h", "12.3 days"]
    assert [size(b) for b in (0, 4e5, 1.07e8, 3e9, 1.94e12)] == ["0", "0.4 MB", "107 MB", "3.0 GB", "1.9 TB"]
    assert table([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"
