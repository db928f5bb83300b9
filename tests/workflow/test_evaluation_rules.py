"""What the final evaluation is told: dry runs, nothing is sampled."""

from __future__ import annotations

import json
import re
import shlex

import pytest


def commands(result, name):
    """Arguments of every `asymgrpo <name>` of a dry run with -p: option -> its values."""
    assert result.returncode == 0, result.stdout + result.stderr
    found = []
    for line in re.findall(rf"asymgrpo {name} (.*)", result.stdout + result.stderr):
        options: dict[str, list[str]] = {}
        for word in shlex.split(line.partition(" > ")[0]):
            if word.startswith("--"):
                values = options.setdefault(word, [])
            else:
                values.append(word)
        found.append(options)
    return found


@pytest.fixture
def sampling(workflow, call):
    """sampling(scale, backbone, method) -> the options of that command."""

    def plan(scale, backbone, method):
        place = f"results/{scale}/evaluation/{backbone}/{method}/seed-1"
        (options,) = (
            found
            for found in commands(
                call(workflow, "-n", "-p", f"{place}/sampling.yaml", "--config", f"scale={scale}"), "sample"
            )
            if found["--out"] == [place]
        )
        return options

    return plan


def test_sampling_at_the_papers_scale(sampling):
    options = sampling("paper", "qwen3-4b", "grpo")
    assert options["--sampler"] == ["vllm"]
    assert json.loads(options["--template"][0]) == {"enable_thinking": False}
    assert (options["--max-prompt-tokens"], options["--max-tokens"]) == (["1024"], ["4096"])
    final = json.loads(options["--decodings"][0])["t0.4"]
    assert final["samples"] == {"math-500": 5, "aime24": 10, "aime25": 10, "amc23": 10, "olympiadbench": 5}
    run = "results/paper/runs/qwen3-4b/grpo/seed-1/policy"
    assert options["--policies"] == [f"last={run}/last", f"best={run}/best"]
    # Snakemake wipes what a failed job had declared: what is there so far must lie elsewhere
    assert not options["--work"][0].startswith(options["--out"][0])


def test_the_start_policy_is_sampled_where_it_is(sampling):
    fetched = sampling("paper", "qwen2.5-math-1.5b", "base")
    assert fetched["--policies"] == ["last=results/paper/models/qwen2.5-math-1.5b"]
    assert (fetched["--max-prompt-tokens"], fetched["--max-tokens"]) == (["512"], ["2560"])
    assert json.loads(fetched["--template"][0]) == {}
    trained = sampling("tiny", "qwen3-80k", "base")
    assert trained["--policies"] == ["last=results/tiny/warm-start/qwen3-80k/seed-1/policy"]
    assert (trained["--sampler"], trained["--device"]) == (["torch"], ["cpu"])


def test_only_sampling_with_vllm_on_a_gpu_asks_for_one(workflow, call):
    for scale, backbone, gpus in (("paper", "qwen3-4b", 1), ("smoke", "qwen3-160k", 0), ("tiny", "qwen3-80k", 0)):
        target = f"results/{scale}/evaluation/{backbone}/base/seed-1/sampling.yaml"
        result = call(workflow, "-n", target, "--config", f"scale={scale}")
        assert result.returncode == 0, result.stderr
        (job,) = re.findall(r"rule sample_base:\n(?:    .*\n)+", result.stdout + result.stderr)
        asked = re.search(r"resources: .*\bgpu=(\d+)", job)
        assert int(asked.group(1) if asked else 0) == gpus
