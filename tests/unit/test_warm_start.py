"""The supervised start policy."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.tasks import countdown
from asymgrpo.training import warm_start as module
from asymgrpo.training.spec import fingerprint, warm_start_spec
from asymgrpo.training.warm_start import schedule, supervised_loss, warm_start

WEIGHTS = "policy/model.safetensors"


def held_out_loss(policy):
    """Mean cross-entropy on solutions that are the same for everyone."""
    arrays = countdown.random_solutions(np.random.default_rng(123), 200, {2: 0.5, 3: 0.25, 4: 0.25})
    with torch.no_grad():
        return float(supervised_loss(policy, *map(torch.from_numpy, arrays)))


@pytest.fixture(scope="module")
def whole(warm_start_values, tmp_path_factory):
    """Output of a warm start that was never interrupted."""
    directory = tmp_path_factory.mktemp("warm start")
    warm_start(warm_start_spec(warm_start_values()), directory / "out", directory / "work")
    return directory / "out"


def test_the_loss_is_the_mean_over_response_tokens(small):
    policy = huggingface.load(small.policy)
    prompts, responses = map(
        torch.from_numpy, countdown.random_solutions(np.random.default_rng(0), 12, {2: 0.4, 3: 0.3, 4: 0.3})
    )
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, response in zip(prompts, responses, strict=True):
            response = response[: response.tolist().index(countdown.EOS) + 1]
            for t, token in enumerate(response):
                logits = policy(torch.cat([prompt, response[:t]])[None])[0, -1]
                total -= float(F.log_softmax(logits, -1)[token])
                count += 1
        assert float(supervised_loss(policy, prompts, responses)) == pytest.approx(total / count, rel=1e-5)


def test_the_loss_falls(whole, warm_start_values):
    values = warm_start_values()
    policy = huggingface.load(whole / "policy")
    untrained = module.Policy(policy.config)
    untrained.initialise(torch.Generator().manual_seed(0))
    assert held_out_loss(untrained) == pytest.approx(np.log(107), abs=0.1)
    assert held_out_loss(policy) < 3.5
    assert policy.config.layers == values["policy"]["layers"]


def test_what_it_writes(whole, warm_start_values):
    assert {path.name for path in whole.iterdir()} == {"policy", "run.yaml"}
    written = yaml.safe_load((whole / "run.yaml").read_text())
    assert written["parameters"] == sum(p.numel() for p in huggingface.load(whole / "policy").parameters())
    assert written["spec"]["steps"] == 30
    assert written["fingerprint"] == fingerprint(warm_start_spec(warm_start_values()))
    assert not (whole.parent / "work").exists()


def test_the_same_spec_gives_the_same_weights_and_another_seed_others(whole, warm_start_values, tmp_path):
    for name, seed in (("again", 1), ("other", 2)):
        warm_start(warm_start_spec(warm_start_values(seed=seed)), tmp_path / name, tmp_path / "work")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (whole / WEIGHTS).read_bytes()


def test_every_step_sees_new_problems(warm_start_values, tmp_path, monkeypatch):
    seen = []

    def watched(policy, prompts, responses):
        seen.append(prompts)
        return supervised_loss(policy, prompts, responses)

    monkeypatch.setattr(module, "supervised_loss", watched)
    warm_start(warm_start_spec(warm_start_values(steps=4)), tmp_path / "out", tmp_path / "work")
    assert [len(prompts) for prompts in seen] == [32] * 4
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


# Checkpoints are rare (every 200 steps); the process makes them every 7, and kills itself as SIGKILL would.
PROCESS = """
import json, os, signal, sys
from pathlib import Path
from asymgrpo.training import warm_start as module
from asymgrpo.training.spec import warm_start_spec

class Progress(module.Progress):
    def step(self, done, saved=False, **numbers):
        if done == {killed}:
            os.kill(os.getpid(), signal.SIGKILL)

module.CHECKPOINT_EVERY, module.Progress = 7, Progress
module.warm_start(warm_start_spec(json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_killed_and_started_again(whole, warm_start_values, tmp_path, capsys):
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            PROCESS.format(killed=25),
            json.dumps(warm_start_values()),
            str(tmp_path / "out"),
            str(tmp_path / "work"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (tmp_path / "work" / "checkpoint.writing").write_bytes(b"half")
    warm_start(warm_start_spec(warm_start_values()), tmp_path / "out", tmp_path / "work")
    assert "continuing after step 21" in capsys.readouterr().out
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert not (tmp_path / "work").exists()


def test_the_checkpoint_of_other_settings_is_not_resumed(whole, warm_start_values, tmp_path, monkeypatch, capsys):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 5)
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_policy", kill)
        with pytest.raises(Killed):
            warm_start(warm_start_spec(warm_start_values(steps=10)), tmp_path / "out", tmp_path / "work")
    assert (tmp_path / "work" / "checkpoint.pt").exists()
    warm_start(warm_start_spec(warm_start_values()), tmp_path / "out", tmp_path / "work")
    assert "made with other settings" in capsys.readouterr().out
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_the_learning_rate_rises_and_falls():
    factors = [schedule(step, 1500) for step in range(1, 1501)]
    assert factors[0] == pytest.approx(1 / 50)
    assert np.argmax(factors) == 49
    assert factors[49] == 1.0
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(factors[:49]) > 0).all()
    assert (np.diff(factors[50:]) < 0).all()
    assert factors[(50 + 1500) // 2 - 1] == pytest.approx(0.5, abs=1e-3)


def test_shares_have_numbers_as_keys_whatever_json_made_of_them(warm_start_values):
    assert warm_start_spec(warm_start_values()).shares == {2: 0.5, 3: 0.25, 4: 0.25}
    assert fingerprint(warm_start_spec(warm_start_values(shares={2: 0.5, 3: 0.25, 4: 0.25}))) == fingerprint(
        warm_start_spec(warm_start_values())
    )
    with pytest.raises(ValueError, match=r"warm start spec: keys missing: \['steps'\]"):
        warm_start_spec({key: value for key, value in warm_start_values().items() if key != "steps"})
