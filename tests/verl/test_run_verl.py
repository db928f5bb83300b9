"""A whole run with the real verl and the real vLLM: killed in the middle, started again, and nothing lost or doubled.

Some minutes, most of them starting Ray and vLLM twice.
"""

import json
import re
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from asymgrpo import records
from asymgrpo.config import load
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.schedules import exponents_of_run
from asymgrpo.tasks import countdown
from asymgrpo.training.verl import journal

pytest.importorskip("vllm")

pytestmark = [pytest.mark.verl, pytest.mark.dag]

STEPS, EVERY = 8, 4
PATIENCE = 600

# the quantiles are far from the ends, so that the exponents move with every step
SCHEDULE = {"name": "adaptive", "start": {"beta_pos": 0.9, "beta_neg": 0.4}, "memory": 0.5, "range": [0.05, 0.95]}
SCHEDULE |= {"quantiles": {"positive": 0.4, "negative": 0.6}}
LOGGED = re.compile(r"\bstep:(\d+) - .*?asymgrpo/beta_pos:([\d.]+) - asymgrpo/beta_neg:([\d.]+)")
SCHEDULED = {"name": "family", "flip": None, "all_solved_zero": False, "none_solved_zero": False, "schedule": SCHEDULE}


@pytest.fixture
def start(run_values, servable, request):
    """start(work, out) -> the process of one run; it and all that it started are gone when the test ends."""
    study = load(request.config.rootpath, {"scale": "smoke"})
    verl = study.spec(study.runs()[0])["verl"]
    minibatch = {"prompts_per_step": 8, "group_size": 4, "prompts_per_minibatch": 4}
    spec = run_values(
        backend="verl",
        verl=verl,
        estimator=SCHEDULED,
        steps=STEPS,
        checkpoint_every=EVERY,
        rollout=minibatch,
        evaluation={"every": EVERY},
        threads=2,
    )
    started = []

    def run(work, out, log):
        command = [sys.executable, "-m", "asymgrpo", "train", "--spec", json.dumps(spec), "--start", servable.policy]
        command += ["--problems", servable.problems, "--benchmarks", *servable.benchmarks.values()]
        command += ["--out", out, "--work", work]
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log.open("w"), stderr=subprocess.STDOUT, cwd=log.parent
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def processes_of(work):
    """Processes that have the run's work directory as theirs, and Ray's workers, whose parent is not ours."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        if process.info["cwd"] and process.info["cwd"].startswith(str(work)):
            found.append(process)
    return found


def wait_for(condition, process, log, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"{what}: the run ended\n{log.read_text()[-4000:]}"
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s\n{log.read_text()[-4000:]}"
        time.sleep(0.05)


def test_a_killed_run_goes_on(start, tmp_path):
    work, out, log = tmp_path / "work", tmp_path / "out", tmp_path / "first.log"
    process = start(work, out, log)
    tracker = work / "checkpoints" / "latest_checkpointed_iteration.txt"
    beyond = EVERY + 1
    wait_for(
        lambda: tracker.exists() and journal.read(work / "journal.jsonl").steps[-1]["step"] >= beyond,
        process,
        log,
        f"step {beyond}",
    )
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while (left := processes_of(work)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left, [p.info["cmdline"] for p in left]
    assert not out.exists()
    kept, before = int(tracker.read_text()), journal.read(work / "journal.jsonl")
    assert before.steps[-1]["step"] > kept >= EVERY  # a step was trained that no checkpoint has

    first, log = log, tmp_path / "second.log"
    process = start(work, out, log)
    wait_for(lambda: (out / "run.yaml").exists(), process, log, "the end")
    assert process.wait(60) == 0
    assert f"continuing after step {kept}" in log.read_text()

    steps = pq.read_table(out / "steps.parquet").to_pylist()
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert json.dumps(steps[:kept]) == json.dumps(before.until(kept).steps)  # as text, in which NaN equals NaN
    for name, schema in (("steps", records.STEPS), ("groups", records.GROUPS), ("timings", records.TIMINGS)):
        table = records.read(out / f"{name}.parquet", schema)
        assert set(table["step"].to_pylist()) == set(range(1, STEPS + 1))
    evaluations = records.read(out / "evaluations.parquet", records.EVALUATIONS).to_pylist()
    assert [(row["step"], row["benchmark"]) for row in evaluations] == [
        (step, benchmark) for step in range(0, STEPS + 1, EVERY) for benchmark in ("easy", "hard")
    ]
    record = yaml.safe_load((out / "run.yaml").read_text())
    assert record["result"]["attempts"] == [0, kept]
    assert record["long_prompts"]["dropped"] == 0
    assert record["verl_overrides"]["algorithm.adv_estimator"] == "asymgrpo"
    chosen = {row["step"]: row["accuracy"] for row in evaluations if row["benchmark"] == "easy" and row["step"] > 0}
    assert record["result"]["best_step"] == min(s for s, a in chosen.items() if a == max(chosen.values()))
    assert not work.exists()
    check_rows(steps, out)
    check_exponents(steps, kept, first.read_text(), log.read_text())


def check_exponents(steps, kept, first, second):
    """Every step had the exponents that follow from the run's own files, whichever attempt trained it."""
    expected = exponents_of_run(SCHEDULED, STEPS, [row["group_accuracy_histogram"] for row in steps])
    assert expected[0] == (0.9, 0.4)
    assert len(set(expected[1:])) > 1
    found = {}
    for text, steps_of_it in ((first, range(1, kept + 1)), (second, range(kept + 1, STEPS + 1))):
        for step, *betas in LOGGED.findall(text):
            if int(step) in steps_of_it:
                found[int(step)] = tuple(map(float, betas))
    assert sorted(found) == list(range(1, STEPS + 1))
    for step, exponents in enumerate(expected, 1):
        assert found[step] == pytest.approx(exponents, abs=1e-6)


def check_rows(steps, out):
    """What must hold of every row whatever was sampled."""
    groups = pq.read_table(out / "groups.parquet").to_pandas().groupby("step")
    for row in steps:
        found = groups.get_group(row["step"])
        assert row["n_groups"] == len(found) == 8
        assert (found["rollouts"] == 4).all()
        assert sum(row["group_accuracy_histogram"]) == 8
        assert row["reward"] == pytest.approx(found["correct"].sum() / 32)
        assert row["none_solved"] == pytest.approx((found["correct"] == 0).mean())
        assert 0 < row["tokens"] <= 32 * 13
        assert row["entropy"] > 0
        assert (row["gradient_norm"] > 0) == (row["n_mixed"] > 0)  # groups of one kind have no GRPO advantage
    assert any(row["entropy"] != row["entropy_after"] for row in steps)
    last, best = (huggingface.load(out / "policy" / name) for name in ("last", "best"))
    assert all(bool(torch.isfinite(weights).all()) for weights in last.state_dict().values())
    assert set(last.state_dict()) == set(best.state_dict())
    assert last.config.vocab_size == len(countdown.VOCABULARY)


def test_asked_to_end_it_leaves_nothing_behind(start, tmp_path):
    work, log = tmp_path / "work", tmp_path / "run.log"
    process = start(work, tmp_path / "out", log)
    wait_for(lambda: "Started a local Ray instance" in log.read_text(), process, log, "Ray")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert work.is_dir()
