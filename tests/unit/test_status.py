"""The state of runs, start policies and final evaluations, from files as the backends write them."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from test_figures import study_at

from asymgrpo import progress, status
from asymgrpo.config import BASE, ConfigError, Run, load
from asymgrpo.progress import alive
from asymgrpo.status import OUTPUTS, STATES
from asymgrpo.training.local import train
from asymgrpo.training.runtime import Progress, write_yaml
from asymgrpo.training.spec import run_spec, warm_start_spec, what_counts

ROOT = Path(__file__).parents[2]
GRPO = Run("qwen3-160k", "grpo", 1)
NAME = "qwen3-160k/grpo/seed-1"


@pytest.fixture
def study(tmp_path):
    return study_at(tmp_path, artefacts=["fig3"])  # six runs: three methods, two backbones


@pytest.fixture
def project(tmp_path):
    """project(steps=400) -> the study of a copy of the configuration, at the tiny scale with so many steps."""
    for part in ("config", "workflow/schemas"):
        shutil.copytree(ROOT / part, tmp_path / part)

    def change(text=None, to=None, file="config/scales/tiny.yaml", **overrides):
        if text is not None:
            path = tmp_path / file
            assert path.read_text().count(text) == 1, text
            path.write_text(path.read_text().replace(text, to))
        return load(tmp_path, {"scale": "tiny", "artefacts": ["fig3"], **overrides})

    return change


def record(study, run, **changes):
    """A run's directory as a backend leaves it, but for the content of its files."""
    place = study.runs_dir(run)
    (place / "policy" / "last").mkdir(parents=True)
    (place / "policy" / "best").mkdir()
    for name in OUTPUTS[:4]:
        (place / name).touch()
    spec = asdict(run_spec(study.spec(run) | changes))
    write_yaml(place / "run.yaml", {"spec": spec, "fingerprint": "0", "settings": study.provenance(run)})
    return place


def prepare(study, small):
    """Start policies, problems and benchmarks of a study, those of the small policy under the study's names."""
    for start in study.warm_starts():
        shutil.copytree(small.policy, study.warm_start_dir(*start) / "policy")
        spec = asdict(warm_start_spec(study.warm_start(*start)))
        write_yaml(study.warm_start_dir(*start) / "run.yaml", {"spec": spec})
    study.train_file().parent.mkdir(parents=True)
    shutil.copy(small.problems, study.train_file())
    for name in study.benchmarks:
        study.benchmark_file(name).parent.mkdir(exist_ok=True)
        shutil.copy(small.benchmarks["easy"], study.benchmark_file(name))


def arguments(study, run):
    """Of `asymgrpo train`, as the DAG has them."""
    start = study.start_policy(run.backbone, study.start_seed(run.backbone, run.seed))
    given = ["train", "--spec", json.dumps(study.spec(run)), "--start", start, "--problems", study.train_file()]
    given += ["--benchmarks", *map(study.benchmark_file, study.benchmarks), "--root", study.root]
    return [*given, "--out", study.runs_dir(run), "--work", study.work_dir(run)]


def state(study, run=GRPO):
    return status.state_of(study, run)


def states(found):
    return {of.name: of.state for of in found}


# -- runs, for real ---------------------------------------------------------------------------------------------------


def test_a_trained_run_is_done_until_its_settings_or_inputs_change(project, small):
    study = project()
    prepare(study, small)
    benchmarks = {name: study.benchmark_file(name) for name in study.benchmarks}
    start = study.start_policy("qwen3-160k", 1)
    spec = run_spec(study.spec(GRPO))
    train(spec, start, study.train_file(), benchmarks, study.runs_dir(GRPO), study.work_dir(GRPO))
    assert state(study).state == "done"
    assert not study.work_dir(GRPO).exists()

    weights = start / "model.safetensors"
    os.utime(weights)  # newer, but the same: the content decides
    assert state(study).state == "done"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (state(study).state, state(study).note) == ("stale", "its start policy, problems or benchmarks are newer")
    weights.write_bytes(content)

    noted = project("note: more than one minibatch a step", "note: another note")
    assert state(noted).state == "done"
    changed = project("steps: {value: 4,", "steps: {value: 5,")
    assert (state(changed).state, state(changed).note) == ("stale", "steps was 4, is 5")
    (study.runs_dir(GRPO) / "groups.parquet").unlink()
    assert state(study).note == "lacks groups.parquet"


def test_a_run_that_is_killed_is_running_then_resumable_then_done(project, small, asymgrpo_process):
    study = project("steps: {value: 4,", "steps: {value: 100,")
    prepare(study, small)
    assert state(study).state == "missing"
    process = asymgrpo_process(arguments(study, GRPO))
    try:
        waiting = time.monotonic() + 60
        while (found := state(study)).state != "running" or not found.step or found.step < 4:
            assert time.monotonic() < waiting, found
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        assert (found.steps, found.left > 0) == (100, True)
        assert platform.node() in found.note
        assert f"{found.step}/100" in status.as_text(status.status(study))
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    killed = state(study)
    assert killed.state == "resumable"
    assert killed.step % 2 == 0  # a checkpoint every two steps
    assert found.step - 2 <= killed.step <= 100

    # of other settings the checkpoint is not taken, so nothing is resumable
    assert state(project("max_gradient_norm: {value: 1.0,", "max_gradient_norm: {value: 2.0,")).state == "missing"
    study = project("max_gradient_norm: {value: 2.0,", "max_gradient_norm: {value: 1.0,")
    again = asymgrpo_process(arguments(study, GRPO))
    output, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    assert f"continuing after step {killed.step}" in output
    assert state(study).state == "done"


def test_a_run_that_fails_names_its_log(study):
    log = study.log_file(GRPO)
    log.parent.mkdir(parents=True)
    log.write_text("no")
    assert (state(study).state, state(study).note) == ("missing", f"was started, see {log}")


# -- signs of life ----------------------------------------------------------------------------------------------------


def test_who_works_in_a_directory_says_so_and_says_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(progress, "BEAT", 0.02)
    with alive(tmp_path / "work", {"a": 1}):
        path = tmp_path / "work" / "alive.json"
        os.utime(path, (1, 1))
        waiting = time.monotonic() + 10
        while path.stat().st_mtime < 2 and time.monotonic() < waiting:
            time.sleep(0.01)
        sign = progress.sign(tmp_path / "work")
        assert (sign.lives, sign.host, sign.job) == (True, platform.node(), "77")
        assert sign.settings == progress.digest({"a": 1}) != progress.digest({"a": 2})
    assert path.stat().st_mtime > time.time() - 60  # it was touched
    assert progress.sign(tmp_path / "work").lives is False
    assert not [thread for thread in threading.enumerate() if thread.name == "alive"]


def test_a_work_directory_that_is_removed_stays_removed(tmp_path):
    with alive(tmp_path / "work"):
        shutil.rmtree(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def say(directory, **changes):
    """A sign of life of this process, changed."""
    directory.mkdir(parents=True, exist_ok=True)
    said = {
        "host": platform.node(), "pid": os.getpid(), "space": progress._space(),
        "started": progress._started(os.getpid()), "job": None, "since": time.time(), "settings": None,
    }  # fmt: skip
    (directory / "alive.json").write_text(json.dumps(said | changes))


def test_on_this_machine_the_process_itself_is_looked_up(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for changes, lives in (({}, True), ({"pid": gone.pid}, False), ({"started": 1}, False), ({"ended": 1.0}, False)):
        say(tmp_path, **changes)
        assert progress.sign(tmp_path).lives is lives, changes
    say(tmp_path)
    assert progress.sign(tmp_path, now=time.time() + 1e6).lives  # however long a step takes


@pytest.mark.parametrize("elsewhere", [{"host": "node-17"}, {"space": "another boot"}])
def test_of_another_machine_the_age_decides(tmp_path, elsewhere):
    say(tmp_path, **elsewhere)
    assert progress.sign(tmp_path).lives
    assert progress.sign(tmp_path, now=time.time() + progress.SILENCE - 10).lives
    assert not progress.sign(tmp_path, now=time.time() + progress.SILENCE + 10).lives


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "x"}', "null"])
def test_a_file_that_says_nothing_is_no_sign(tmp_path, content):
    (tmp_path / "alive.json").write_text(content)
    (tmp_path / "progress.json").write_text(content)
    assert progress.sign(tmp_path) is None
    assert progress.told(tmp_path) is None


def test_what_an_earlier_attempt_told_is_not_taken_for_a_new_ones(study):
    work = study.work_dir(GRPO)
    Progress(NAME, 4, work).step(2, saved=True)
    os.utime(work / "progress.json", (time.time() - 1000,) * 2)
    say(work, job="5")
    found = state(study)
    assert (found.state, found.step, found.left) == ("running", 2, None)
    assert found.note == f"starting, on {platform.node()}, job 5"
    Progress(NAME, 4, work, done=2).step(3)
    found = state(study)
    assert (found.state, found.step) == ("running", 3)


# -- everything of a study --------------------------------------------------------------------------------------------


def test_a_study_in_every_state(study):
    runs = study.runs()
    assert len(runs) == 6
    record(study, runs[0])
    record(study, runs[1], steps=99)
    say(study.work_dir(runs[2]))
    Progress("x", 4, study.work_dir(runs[2])).step(1)
    work = study.work_dir(runs[3])
    Progress("x", 4, work).step(2, saved=True)
    (work / "checkpoint.pt").touch()
    found = status.status(study)
    words = ["done", "stale", "running", "resumable", "missing", "missing"]
    assert [of.state for of in found.runs] == words
    assert found.runs[3].about == "from step 2 of 4"
    text = status.as_text(found)
    assert text.startswith("Scale tiny: 6 runs; 1 done, 1 running, 1 resumable, 1 stale, 2 missing.")
    head, *rows = [line.split() for line in text.split("\n\n")[1].splitlines()]
    assert head == ["backbone", "method", "runs", *STATES]
    assert rows[0] == ["qwen3-160k", "grpo", "1", "1", ".", ".", ".", "."]
    assert rows[-1] == ["all", "6", "1", "1", "1", "1", "2"]
    assert "steps was 99, is 4" in text
    lines = status.as_list(found).splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == words  # after two start policies
    assert json.loads(json.dumps(status.as_json(found)))["runs"][1]["state"] == "stale"


def test_only_what_an_artefact_needs(study):
    record(study, GRPO)
    assert {run.name.split("/")[1] for run in status.status(study, ["table1"]).runs} == {"grpo"}
    assert status.status(study, ["prop2"]).runs == []
    with pytest.raises(ConfigError, match="unknown artefact 'fig9'"):
        status.status(study, ["fig9"])


def test_what_nothing_asks_for_is_told_apart(study):
    other, gone = Run("qwen3-160k", "dr-grpo", 4), Run("qwen3-160k", "was-renamed", 1)
    record(study, other)
    (study.runs_dir(gone)).mkdir(parents=True)
    study.runs_dir(Run("qwen3-160k", "symmetric", 9)).mkdir(parents=True)  # of a job that failed
    found = status.status(study)
    assert states(found.others) == {"qwen3-160k/dr-grpo/seed-4": "done", "qwen3-160k/was-renamed/seed-1": "stale"}
    assert "Runs that nothing selected needs: 2; 1 done, 1 stale." in status.as_text(found)


def test_many_alike_share_a_line(study):
    for run in study.runs():
        record(study, run, steps=99)
    text = status.as_text(status.status(study))
    assert text.count("steps was 99, is 4") == 1
    assert "6 runs" in text
    assert status.as_list(status.status(study)).count("steps was 99, is 4") == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda names: [*names[:-1], "an-old-one"], "has no more an-old-one and has now countdown-4-big"),
        (lambda names: names[:-1], "has now countdown-4-big"),
        (
            lambda names: names[:2][::-1] + names[2:],
            "was countdown-4, countdown-3, cou…, is countdown-3, countdown-4, cou…",
        ),
    ],
)
def test_of_a_changed_list_only_the_difference_is_told(study, change, said):
    """Cut off, the two lists would read the same."""
    evaluation = study.spec(GRPO)["evaluation"]
    record(study, GRPO, evaluation=evaluation | {"benchmarks": change(evaluation["benchmarks"])})
    assert state(study).note == f"evaluation.benchmarks {said}"


def test_start_policies(project, small):
    study = project()
    start = ("qwen3-160k", 1)
    assert states(status.status(study).starts) == {"qwen3-160k/seed-1": "missing", "qwen3-80k/seed-1": "missing"}
    prepare(study, small)
    assert set(states(status.status(study).starts).values()) == {"done"}
    changed = project("batch_size: {value: 96,", "batch_size: {value: 97,")
    found = status.status(changed).starts[0]
    assert (found.state, found.note) == ("stale", "batch_size was 96, is 97")
    shutil.rmtree(study.warm_start_dir(*start))
    work = study.warm_start_work_dir(*start)
    say(work, settings=progress.digest(asdict(warm_start_spec(study.warm_start(*start)))), ended=1.0)
    Progress("warm start", 600, work).step(200, saved=True)
    (work / "checkpoint.pt").touch()
    assert states(status.status(changed).starts)["qwen3-160k/seed-1"] == "missing"
    changed = project("batch_size: {value: 97,", "batch_size: {value: 96,")
    assert status.status(changed).starts[0].about == "from step 200 of 600"


def test_fetched_models(tmp_path):
    study = study_at(tmp_path, "paper", artefacts=["table1"])
    place = study.model_dir("qwen3-4b")
    place.mkdir(parents=True)
    place.with_name("qwen3-4b.yaml").touch()
    found = states(status.status(study).starts)
    assert found == {"qwen3-4b": "done", "qwen2.5-math-1.5b": "missing", "qwen2.5-7b-base": "missing"}


def test_checkpoints_of_verl(tmp_path):
    study = study_at(tmp_path, "paper", artefacts=["table1"])
    run = Run("qwen3-4b", "grpo", 1)
    for step, whole in ((10, True), (100, True), (110, False)):
        place = study.work_dir(run) / "checkpoints" / f"global_step_{step}"
        place.mkdir(parents=True)
        if whole:
            (place / "data.pt").touch()
    found = state(study, run)
    assert (found.state, found.step, found.steps) == ("resumable", 100, 200)
    spec = run_spec(study.spec(run))
    other = dataclasses.replace(spec, verl=spec.verl | {"actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 1})
    say(study.work_dir(run), settings=progress.digest(asdict(what_counts(other))), ended=1.0)
    assert state(study, run).state == "resumable"  # with other budgets it goes on
    other = dataclasses.replace(spec, verl=spec.verl | {"trainer.n_gpus_per_node": 2})
    say(study.work_dir(run), settings=progress.digest(asdict(what_counts(other))), ended=1.0)
    assert state(study, run).state == "missing"


def evaluate(study, run, **changes):
    """A final evaluation's record as the sampler writes it, and all its scores."""
    final = study.settings["evaluation"]["final"]
    rollout = study.spec(GRPO)["rollout"]
    content = {
        "fingerprint": "0", "sampler": "torch", "engine": {}, "versions": {"torch": "1"}, "seed": run.seed,
        "max_tokens": rollout["max_response_tokens"], "template": {}, "policies": {"last": "0"},
        "decodings": {
            name: {"temperature": how["temperature"], "samples": dict.fromkeys(study.benchmarks, how["samples"])}
            for name, how in final.items()
        },
        "prompt_limit": rollout["max_prompt_tokens"], "prompts": {}, "seconds": {},
    }  # fmt: skip
    write_yaml(study.evaluation_dir(run) / "sampling.yaml", content | changes)
    for name in study.benchmarks:
        (study.evaluation_dir(run) / f"{name}.scores.parquet").touch()


def test_final_evaluations(tmp_path):
    study = study_at(tmp_path, artefacts=["fig4"])
    run, other, changed, half, again = study.runs()[:5]
    assert set(states(status.status(study).evaluations).values()) == {"missing"}
    evaluate(study, run)
    evaluate(study, changed, max_tokens=99)
    evaluate(study, half)
    (study.evaluation_dir(half) / "countdown-3.scores.parquet").unlink()
    evaluate(study, again)
    record(study, again)
    os.utime(study.runs_dir(again) / "run.yaml", (time.time() + 5,) * 2)
    part = study.evaluation_work_dir(other) / "0123" / "countdown-3.parquet"
    part.parent.mkdir(parents=True)
    part.touch()
    found = {of.name: of for of in status.status(study).evaluations}

    def told(of):
        return (found["/".join([*of[:2], f"seed-{of.seed}"])].state, found["/".join([*of[:2], f"seed-{of.seed}"])].note)

    assert told(run) == ("done", "")
    assert told(other) == ("resumable", "1 parts are sampled")
    assert told(changed) == ("stale", "max_tokens was 99, is 13")
    assert told(half) == ("missing", "sampled, not scored")
    assert told(again) == ("stale", "the run has been trained again since")


def test_a_record_as_the_sampler_writes_it_is_done(project, small, asymgrpo_process):
    """The settings that are compared are those that `asymgrpo sample` records."""
    study = project(artefacts=["table2"])
    prepare(study, small)
    run = Run("qwen3-160k", BASE, 1)
    decodings, out = study.settings["evaluation"]["final"], study.evaluation_dir(run)
    given = ["sample", "--policies", f"last={small.policy}", "--decodings", json.dumps(decodings), "--seed", 1]
    given += [
        "--benchmarks",
        *map(study.benchmark_file, study.benchmarks),
        "--max-prompt-tokens",
        6,
        "--max-tokens",
        13,
    ]
    process = asymgrpo_process([*given, "--out", out, "--work", study.evaluation_work_dir(run)])
    assert process.wait(timeout=120) == 0, process.communicate()
    found = {of.name: of for of in status.status(study).evaluations}["qwen3-160k/base/seed-1"]
    assert (found.state, found.note) == ("missing", "sampled, not scored")
    for name in study.benchmarks:
        (out / f"{name}.scores.parquet").touch()
    assert states(status.status(study).evaluations)["qwen3-160k/base/seed-1"] == "done"


def test_what_is_made_from_something_stale_is_stale(project, small):
    study = project(artefacts=["table2"])
    prepare(study, small)
    base = Run(GRPO.backbone, BASE, 1)
    record(study, GRPO)
    for run in (GRPO, base):
        evaluate(study, run)
    for file, settings in (
        (study.train_file(), study.train_problems),
        (study.benchmark_file("countdown-3"), study.benchmarks["countdown-3"].settings),
    ):
        write_yaml(file.with_suffix(".yaml"), {"settings": settings})

    def told(study):
        """Of the run, and of the evaluations of the run and of its start policy."""
        found = status.status(study)
        return [
            next(f"{of.state} {of.note}".strip() for of in states if of.name == name)
            for states, name in (
                (found.runs, NAME), (found.evaluations, NAME), (found.evaluations, "qwen3-160k/base/seed-1")
            )
        ]  # fmt: skip

    assert told(study) == ["done"] * 3
    changed = project("batch_size: {value: 96,", "batch_size: {value: 97,", artefacts=["table2"])
    assert told(changed) == [
        "stale its start policy is stale",
        "stale its policy is stale",
        "stale its policy is stale",
    ]
    changed = project("batch_size: {value: 97,", "batch_size: {value: 96,", artefacts=["table2"])
    assert told(changed) == ["done"] * 3
    changed = project("problems: {value: 200,", "problems: {value: 210,", artefacts=["table2"])
    of_problems = "stale train: problems was 200, is 210"
    assert told(changed) == [of_problems, "stale its policy is stale", of_problems]


@pytest.mark.parametrize("content", ["", "{", "spec: [1]\n", "spec:\n  a: {\n", "settings: {}\n"])
def test_a_record_that_cannot_be_read_is_stale(study, content):
    place = record(study, GRPO)
    (place / "run.yaml").write_text(content)
    assert state(study).state == "stale"


# -- speed ------------------------------------------------------------------------------------------------------------


def test_it_imports_nothing_heavy_and_parses_what_many_runs_share_once(project):
    """In a process of its own; how long it takes, benchmarks/dag.py measures."""
    every = ",".join(map(str, range(1, 11)))
    study = project(seeds=every, artefacts=["table2", "fig2", "fig3", "fig4", "table1", "prop1"])
    runs = len(study.runs())
    assert runs >= 200
    text = {}
    for run in study.runs():
        if run.seed == 1:
            place = record(study, run)
            text[run[:2]] = (place / "run.yaml").read_text()
            continue
        place = study.runs_dir(run)
        shutil.copytree(study.runs_dir(run._replace(seed=1)), place)
        (place / "run.yaml").write_text(text[run[:2]].replace("  seed: 1\n", f"  seed: {run.seed}\n"))
    code = (
        "import sys; from asymgrpo.cli import main; assert main(sys.argv[1:]) == 0; "
        "print(sorted({'torch', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules))); "
        "from asymgrpo.status import _parsed; print(_parsed.cache_info().misses)"
    )
    given = ["status", "--root", study.root, "--scale", "tiny", "--seeds", every, "--runs"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, check=True)
    *_, summary, imported, parsed = done.stdout.splitlines()
    assert summary == f"{runs} runs at scale tiny; {runs} done"
    assert imported == "[]"
    assert int(parsed) == runs / 10


def test_every_method_that_can_be_asked_for_has_a_state(tmp_path):
    study = study_at(tmp_path, "smoke")
    assert "dr-grpo" not in study.methods
    run = Run(study.primary, "dr-grpo", 1)
    record(study, run)
    assert state(study, run).state == "done"
    assert dataclasses.asdict(state(study, run))["kind"] == "run"
