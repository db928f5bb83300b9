"""Each stage as one command, and bad input as one line on standard error."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from asymgrpo import records
from asymgrpo.cli import main
from asymgrpo.config import Run, load


@pytest.fixture
def command(capsys):
    """command("train", ...) -> (exit code, standard output, standard error)"""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def fails(command):
    """fails("train", ...) -> the one line on standard error of a command that exits with 1."""

    def call(*arguments):
        code, _, error = command(*arguments)
        assert code == 1
        assert error.count("\n") == 1, error
        assert error.startswith(f"asymgrpo {arguments[0]}: ")
        return error

    return call


@pytest.fixture
def train(small, run_values, tmp_path):
    """train(steps=2, start=...) -> arguments of `asymgrpo train` in tmp_path."""

    def arguments(start=small.policy, problems=small.problems, benchmarks=None, **changes):
        paths = list(small.benchmarks.values()) if benchmarks is None else benchmarks
        given = ["train", "--spec", json.dumps(run_values(**changes)), "--start", start, "--problems", problems]
        return [*given, "--benchmarks", *paths, "--out", tmp_path / "run", "--work", tmp_path / "work"]

    return arguments


# -- the stages, one after the other ----------------------------------------------------------------------------------


def test_problems(command, tmp_path):
    train = {"problems": 20, "share_of_3": 1.0, "seed": 0, "numbers": [3]}
    benchmark = {"problems": 10, "seed": 0, "numbers": 3, "needs_multiplication": True, "max_solutions": None}
    benchmark |= {"one_number_from": None}
    for kind, settings, count in (("train", train, 20), ("benchmark", benchmark, 10)):
        out = tmp_path / f"{kind}.parquet"
        assert command("problems", "--kind", kind, "--settings", json.dumps(settings), "--out", out)[0] == 0
        assert records.read(out, records.BENCHMARK).num_rows == count


def test_from_the_start_policy_to_scores(command, warm_start_values, run_values, small, tmp_path):
    out, work = tmp_path / "start", tmp_path / "work"
    spec = json.dumps(warm_start_values(steps=3))
    assert command("warm-start", "--spec", spec, "--out", out, "--work", work)[0] == 0

    arguments = ["train", "--spec", json.dumps(run_values(steps=2)), "--start", out / "policy"]
    arguments += ["--problems", small.problems, "--benchmarks", *small.benchmarks.values()]
    code, output, _ = command(*arguments, "--out", tmp_path / "run", "--work", work)
    assert code == 0
    assert "small/grpo/seed-1  step 2/2  reward" in output

    decodings = {"t1": {"temperature": 1.0, "samples": 2, "checkpoints": ["last", "best"]}}
    policies = [f"{name}={tmp_path / 'run' / 'policy' / name}" for name in ("last", "best")]
    arguments = ["sample", "--policies", *policies, "--benchmarks", *small.benchmarks.values()]
    arguments += ["--decodings", json.dumps(decodings), "--max-prompt-tokens", 6, "--max-tokens", 13, "--seed", 1]
    assert command(*arguments, "--out", tmp_path / "samples", "--work", work)[0] == 0
    samples = [tmp_path / "samples" / f"{name}.samples.parquet" for name in small.benchmarks]
    assert [records.read(path, records.SAMPLES).num_rows for path in samples] == [2 * 2 * 8, 2 * 2 * 10]

    assert command("score", "--samples", *samples, "--benchmarks", *small.benchmarks.values())[0] == 0
    for name in small.benchmarks:
        scores = records.read(tmp_path / "samples" / f"{name}.scores.parquet", records.SCORES)
        assert scores.num_rows == 2 * 2 * {"easy": 8, "hard": 10}[name]


def test_a_run_says_where_its_settings_come_from(command, train, request, tmp_path):
    root = request.config.rootpath
    for backbone, known in (("qwen3-160k", True), ("small", False)):
        arguments = train(steps=1, scale="tiny", backbone=backbone, seed=2)
        assert command(*arguments, "--root", root)[0] == 0
        settings = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["settings"]
        expected = load(root, {"scale": "tiny"}).provenance(Run("qwen3-160k", "grpo", 2)) if known else {}
        assert settings == json.loads(json.dumps(expected))
        assert bool(settings) is known


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_start_policy_that_is_not_there(fails, train, tmp_path):
    error = fails(*train(start=tmp_path / "nowhere"))
    assert f"{tmp_path}/nowhere: no policy there (config.json is missing)" in error


def test_a_start_policy_that_is_not_whole(fails, train, small, tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text((small.policy / "config.json").read_text())
    assert "policy/model.safetensors" in fails(*train(start=tmp_path / "policy"))


def test_too_few_problems(fails, train, small):
    error = fails(*train(rollout={"prompts_per_step": 40}))
    assert f"{small.problems}: 32 problems, but rollout.prompts_per_step is 40" in error


def test_problems_that_are_not_there(fails, train, tmp_path):
    assert f"{tmp_path}/none.parquet" in fails(*train(problems=tmp_path / "none.parquet"))


def test_problems_that_are_no_problems(fails, train, small, tmp_path):
    text = tmp_path / "train.parquet"
    text.write_text("3 5 8 49")
    assert f"{text}" in fails(*train(problems=text))
    records.write(text, [], records.EVALUATIONS)
    assert f"{text}: expected the columns" in fails(*train(problems=text))


def test_a_benchmark_that_is_not_given(fails, train, small):
    error = fails(*train(benchmarks=[small.benchmarks["easy"]]))
    assert "evaluation" in error
    assert "hard" in error
    error = fails(*train(benchmarks=list(small.benchmarks.values()), evaluation={"select_on": "harder"}))
    assert "select_on" in error
    assert "harder" in error


def test_a_spec_with_an_unknown_key_and_one_missing(fails, train):
    assert "run spec: keys missing: [], keys unknown: ['colour']" in fails(*train(colour=1))
    assert "run spec: loss: keys missing: [], keys unknown: ['clip']" in fails(*train(loss={"clip": 1}))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ({"name": "family", "beta_pos": -1.0, "beta_neg": 0.5}, "beta_pos: expected a finite number >= 0, found -1.0"),
        ({"name": "ppo"}, "ppo"),
    ],
)
def test_an_impossible_estimator(fails, train, estimator, message):
    assert message in fails(*train(estimator=estimator))


def test_an_unknown_device(fails, train):
    assert "device: expected cpu or auto, found 'tpu'" in fails(*train(device="tpu"))


def test_too_many_problems_are_asked_for(fails, tmp_path):
    settings = {"problems": 10**6, "share_of_3": 1.0, "seed": 0}
    error = fails("problems", "--kind", "train", "--settings", json.dumps(settings), "--out", tmp_path / "x.parquet")
    assert "1000000 training problems of 3 numbers were asked for, there are" in error
    assert not (tmp_path / "x.parquet").exists()


def test_samples_of_another_benchmark(fails, small, tmp_path):
    samples = tmp_path / "easy.samples.parquet"
    error = fails("score", "--samples", samples, "--benchmarks", small.benchmarks["hard"])
    assert f"{samples}: expected the samples of hard" in error
    assert f"{samples}" in fails("score", "--samples", samples, "--benchmarks", small.benchmarks["easy"])


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["train"], ["train", "--spec", "{"], ["problems", "--kind", "test"], ["sample", "--seed", "one"]],
)
def test_a_call_that_is_no_command_explains_itself(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: asymgrpo")
    assert "Traceback" not in error


def test_help_is_there_for_every_command(capsys):
    made = ("problems", "overlap", "fetch", "warm-start", "train", "sample", "score", "ablation", "figure", "table")
    for command in ("plan", "status", "show", "compare", "doctor", *made):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert f"asymgrpo {command}" in capsys.readouterr().out


def test_a_module_that_can_be_run(tmp_path):
    """In a process of its own: the exit code and the line arrive, and no traceback."""
    arguments = ["problems", "--kind", "train", "--settings", '{"problems": 9999, "share_of_3": 1.0, "seed": 0}']
    process = subprocess.run(
        [sys.executable, "-m", "asymgrpo", *arguments, "--out", str(tmp_path / "x")], capture_output=True, text=True
    )
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.startswith("asymgrpo problems: 9999 training problems of 3 numbers were asked for")
    assert process.stderr.count("\n") == 1


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_lists_runs_and_what_is_done(command, request):
    root = request.config.rootpath
    code, output, _ = command("plan", "--root", root, "--scale", "tiny", "--seeds", "1", "--runs", "fig2")
    assert code == 0
    *runs, summary = output.splitlines()
    assert summary.startswith(f"{len(runs)} runs at scale tiny, ")
    assert len(runs) == 16
    assert all(line.split()[0] in ("done", "missing") for line in runs)
    assert all(line.endswith("seed-1") for line in runs)
    code, output, _ = command("plan", "--root", root, "--scale", "tiny", "--runs", "prop2")
    assert output.splitlines()[-1].startswith("0 runs")


def test_the_plan_says_what_each_target_costs(command, request):
    root = request.config.rootpath
    code, output, _ = command("plan", "--root", root, "--scale", "paper", "--nodes", "2")
    assert code == 0
    assert "on 2 nodes" in output
    assert re.search(r"\nall +50 ", output)
    code, output, _ = command("plan", "--root", root, "--scale", "paper", "--json", "table1")
    assert code == 0
    (row,) = json.loads(output)["rows"]
    assert (row["target"], row["runs"]) == ("table1", 3)


def test_what_is_there_at_the_command_line(command, fails, request, tmp_path):
    root = request.config.rootpath
    code, output, _ = command("status", "--root", root, "--scale", "tiny", "--seeds", "7", "fig3")
    assert code == 0
    assert output.startswith("Scale tiny: 6 runs; 6 missing.\n")
    code, output, _ = command("status", "--root", root, "--scale", "tiny", "--seeds", "7", "--runs", "fig3")
    assert output.splitlines()[-1] == "6 runs at scale tiny; 6 missing"
    code, output, _ = command("status", "--root", root, "--scale", "tiny", "--seeds", "7", "--json", "fig3")
    assert len(json.loads(output)["runs"]) == 6
    code, output, _ = command("show", "--root", root, "--scale", "tiny", "run", "qwen3-160k/grpo/seed-99")
    assert code == 0
    assert "GRPO, Qwen3-160k (cut), seed 99, scale tiny" in output
    assert "fig9" in fails("status", "--root", root, "fig9")
    assert "table9" in fails("show", "--root", root, "table9")
    assert "no run is there" in fails("compare", tmp_path, tmp_path)
    assert "gpro" in fails("ablation", "--root", root, "--scale", "tiny", "gpro")


def test_whoever_reads_may_stop(request):
    """As `head` does."""
    command = [sys.executable, "-m", "asymgrpo", "status", "--scale", "local", "--runs"]
    process = subprocess.Popen(command, cwd=request.config.rootpath, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_plan_of_what_does_not_exist(fails, request, tmp_path):
    root = request.config.rootpath
    assert "gigantic" in fails("plan", "--root", root, "--scale", "gigantic")
    assert "fig9" in fails("plan", "--root", root, "--scale", "tiny", "fig9")
    assert "nodes: expected at least 1" in fails("plan", "--root", root, "--scale", "tiny", "--nodes", "0")
    assert f"{tmp_path}" in fails("plan", "--root", tmp_path)
    assert "fig9" in fails("figure", "--root", root, "--scale", "tiny", "fig9")
    assert "table9" in fails("table", "--root", root, "--scale", "tiny", "table9")
