"""Final evaluation: Avg@k and pass@k by enumeration, and from sampled responses to verdicts."""

import json
import time
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import torch
import yaml

from asymgrpo import records
from asymgrpo.evaluation.engine import Decoding, Settings, decodings_from
from asymgrpo.evaluation.metrics import average_at_k, pass_at_k
from asymgrpo.evaluation.sample import RECORD, sample_benchmarks
from asymgrpo.evaluation.score import score_samples
from asymgrpo.evaluation.torch_engine import CHUNK
from asymgrpo.policy import checkpoint
from asymgrpo.policy.generation import sample
from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import text_of
from asymgrpo.training.local import save_policy
from asymgrpo.verification.countdown import REASONS, verify, verify_texts

# -- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n):
    counts = np.arange(n + 1)
    for k in range(1, n + 1):
        expected = []
        for c in counts:
            samples = [True] * c + [False] * (n - c)
            subsets = [any(chosen) for chosen in combinations(samples, k)]
            expected.append(sum(subsets) / len(subsets))
        np.testing.assert_allclose(pass_at_k(counts, n, k), expected, rtol=1e-12, atol=1e-15)


def test_pass_at_k_is_unbiased():
    """Its expectation over binomial counts is 1 - (1 - p)^k."""
    n, p = 6, 0.3
    weights = [comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    for k in range(1, n + 1):
        assert np.dot(weights, pass_at_k(np.arange(n + 1), n, k)) == pytest.approx(1 - (1 - p) ** k, rel=1e-12)


def test_pass_at_k_of_many_samples_does_not_overflow():
    found = pass_at_k([0, 1, 500, 4999, 5000], 5000, 2500)
    np.testing.assert_allclose(found, [0, 0.5, 1, 1, 1], rtol=1e-9, atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


def test_pass_at_1_is_average_at_k():
    counts = np.random.default_rng(0).integers(0, 9, 50)
    assert pass_at_k(counts, 8, 1).mean() == pytest.approx(average_at_k(counts, 8))


def test_average_at_k():
    assert average_at_k([0, 4, 1], 4) == 5 / 12
    assert average_at_k([0, 2, 1, 0], 4) == 3 / 16
    assert average_at_k(np.array([3], np.int8), 3) == 1.0


@pytest.mark.parametrize("k", [0, -1, 5])
def test_k_outside_the_samples_is_an_error(k):
    with pytest.raises(ValueError, match=rf"k: expected 1\.\.4 \(the samples per problem\), found {k}"):
        pass_at_k([1, 2], 4, k)


@pytest.mark.parametrize("counts", [[5, 0], [-1, 2]])
def test_impossible_counts_are_errors(counts):
    for call in (lambda: pass_at_k(counts, 4, 2), lambda: average_at_k(counts, 4)):
        with pytest.raises(ValueError, match=r"correct: expected counts of 0\.\.4, found"):
            call()


@pytest.mark.parametrize("counts", [[], [[1, 2]], 3])
def test_counts_of_another_shape_are_errors(counts):
    for call in (lambda: pass_at_k(counts, 4, 2), lambda: average_at_k(counts, 4)):
        with pytest.raises(ValueError, match="expected one count per problem, found the shape"):
            call()


# -- sampling and scoring ---------------------------------------------------------------------------------------------

SETTINGS = {
    "t1": {"temperature": 1.0, "samples": CHUNK + 3, "checkpoints": ["last", "best"]},
    "t0.4": {"temperature": 0.4, "samples": 2, "checkpoints": ["last"]},
    "greedy": {"temperature": 0.0, "samples": 1, "checkpoints": ["last", "best"]},
}


@pytest.fixture(scope="module")
def other_policy(small, tmp_path_factory):
    """The small policy, a little changed: another checkpoint."""
    policy = checkpoint.load(small.policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    directory = tmp_path_factory.mktemp("other") / "policy"
    save_policy(policy, directory)
    return directory


def run(small, output, last, best=None, seed=1, settings=SETTINGS, max_tokens=13, work=None, limit=6):
    policies = {"last": last} | ({} if best is None else {"best": best})
    how = Settings("torch", max_tokens, seed, limit)
    sample_benchmarks(policies, small.benchmarks, decodings_from(settings), how, output, work or output / "work")
    assert not (work or output / "work").exists()
    return {name: records.read(output / f"{name}.samples.parquet", records.SAMPLES) for name in small.benchmarks}


@pytest.fixture(scope="module")
def evaluated(small, other_policy, tmp_path_factory):
    """(directory, samples by benchmark)"""
    directory = tmp_path_factory.mktemp("evaluation")
    samples = run(small, directory, small.policy, other_policy)
    for name, path in small.benchmarks.items():
        score_samples(directory / f"{name}.samples.parquet", path, directory / f"{name}.scores.parquet")
    return directory, samples


def problems(small, name):
    rows = records.read(small.benchmarks[name], records.BENCHMARK).to_pylist()
    return {row["problem_id"]: text_of(row["prompt"]) for row in rows}


def test_decodings_from_a_scale():
    found = decodings_from(SETTINGS)
    assert list(found) == list(SETTINGS)
    assert found["t0.4"] == Decoding(0.4, 2, ("last",))
    assert found["t0.4"].samples_of("any") == 2
    mapped = decodings_from({"t": SETTINGS["t0.4"] | {"samples": {"a": 5, "b": 10}}})["t"]
    assert (mapped.samples_of("a"), mapped.samples_of("b")) == (5, 10)


def test_every_problem_has_all_its_samples(small, evaluated):
    for name, table in evaluated[1].items():
        keys = [(r["checkpoint"], r["decoding"], r["problem_id"], r["sample"]) for r in table.to_pylist()]
        expected = [
            (which, decoding, problem, sample)
            for decoding, values in SETTINGS.items()
            for which, problem, sample in product(
                values["checkpoints"], problems(small, name), range(values["samples"])
            )
        ]
        assert sorted(keys) == sorted(expected)
        assert len(keys) == len(set(keys))


def test_what_a_row_says_about_its_response(small, evaluated):
    reasons = set()
    for table in evaluated[1].values():
        for row in table.to_pylist():
            words = row["response"].split()
            stopped = row["finish_reason"] == "stop"
            assert row["tokens"] == len(words) + stopped
            assert stopped or row["tokens"] == 13
            assert "<eos>" not in words
            reasons.add(row["finish_reason"])
    assert "stop" in reasons


def test_a_response_that_is_cut_off_has_the_finish_reason_length(small, tmp_path):
    settings = {"t1": {"temperature": 1.0, "samples": 4, "checkpoints": ["last"]}}
    tables = run(small, tmp_path, small.policy, settings=settings, max_tokens=6)
    rows = [row for table in tables.values() for row in table.to_pylist()]
    cut = [row for row in rows if row["finish_reason"] == "length"]
    assert len(cut) > len(rows) / 2
    assert all(row["tokens"] == 6 for row in cut)


def test_scores_are_the_verifiers_verdicts(small, evaluated):
    directory, samples = evaluated
    correct = 0
    for name, table in samples.items():
        prompts, rows = problems(small, name), table.to_pylist()
        scores = records.read(directory / f"{name}.scores.parquet", records.SCORES).to_pylist()
        codes = verify_texts(
            [prompts[row["problem_id"]] for row in rows],
            [row["response"] for row in rows],
            [row["finish_reason"] == "stop" for row in rows],
        )
        for row, score, code in zip(rows, scores, codes.tolist(), strict=True):
            assert score["correct"] is (code == 0)
            assert score["reason"] == REASONS[code]
            assert (score["reason"] == "") is score["correct"]
            unreadable = code in (1, 2, 3)  # no end, another number of steps, no step
            assert score["extracted"] == ("" if unreadable else row["response"].split()[-1])
            for column in ("checkpoint", "decoding", "problem_id", "sample", "tokens", "finish_reason"):
                assert score[column] == row[column]
        correct += sum(score["correct"] for score in scores)
    assert 0 < correct < sum(table.num_rows for table in samples.values())


def test_greedy_scores_are_the_training_verdicts(small, evaluated):
    """The same responses, judged from tokens as the trainer does."""
    directory, _ = evaluated
    policy = checkpoint.load(small.policy)
    for name in small.benchmarks:
        prompts = torch.tensor([countdown.to_tokens(prompt) for prompt in problems(small, name).values()])
        rollouts = sample(policy, prompts, 1, 13, 0.0, countdown.PAD, countdown.EOS)
        expected = verify(prompts.numpy(), rollouts.tokens[:, 0].numpy()) == 0
        scores = records.read(directory / f"{name}.scores.parquet", records.SCORES).to_pandas()
        chosen = scores[(scores.decoding == "greedy") & (scores.checkpoint == "last")]
        assert chosen.problem_id.tolist() == list(problems(small, name))
        assert chosen.correct.tolist() == expected.tolist()


def test_samples_of_a_problem_differ(evaluated):
    rows = evaluated[1]["hard"].to_pandas()
    drawn = rows[(rows.decoding == "t1") & (rows.checkpoint == "last")]
    assert drawn.groupby("problem_id").response.nunique().mean() > 2
    # also across the groups in which they are decoded: the tail is no copy of the head
    by_sample = drawn.pivot(index="problem_id", columns="sample", values="response")
    assert not (by_sample[0] == by_sample[CHUNK]).all()


def samples_in(directory):
    """File -> (bytes, when it was written)."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.glob("*.samples.parquet")}


def test_a_finished_evaluation_is_kept(small, tmp_path, capsys):
    run(small, tmp_path, small.policy)
    before = samples_in(tmp_path)
    capsys.readouterr()
    run(small, tmp_path, small.policy)
    assert samples_in(tmp_path) == before
    assert f"{tmp_path}: there already" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["seed", "policy", "benchmark", "decoding", "length"])
def test_another_evaluation_is_sampled_again(small, other_policy, tmp_path, change):
    run(small, tmp_path, small.policy)
    before = samples_in(tmp_path)
    changes = {
        "seed": {"seed": 2},
        "policy": {"last": other_policy},
        "decoding": {"settings": SETTINGS | {"t1": SETTINGS["t1"] | {"samples": CHUNK + 2}}},
        "length": {"max_tokens": 12},
        "benchmark": {"small": small},
    }[change]
    if change == "benchmark":
        rows = records.read(small.benchmarks["hard"], records.BENCHMARK).to_pylist()
        records.write(tmp_path / "hard.parquet", rows[::-1], records.BENCHMARK)
        changes = {"small": small._replace(benchmarks=small.benchmarks | {"hard": tmp_path / "hard.parquet"})}
    run(**{"small": small, "output": tmp_path, "last": small.policy} | changes)
    assert samples_in(tmp_path)["hard.samples.parquet"][0] != before["hard.samples.parquet"][0]


def parts_in(work):
    return {path.name: path for path in work.glob("*/*.parquet")}


@pytest.fixture
def killed(small, tmp_path, asymgrpo_process):
    """An evaluation that was killed while it sampled the second of its benchmarks: (settings, output, work)."""
    settings = {"t1": {"temperature": 1.0, "samples": {"easy": 2, "hard": 12000}, "checkpoints": ["last"]}}
    output, work = tmp_path / "output", tmp_path / "work"
    arguments = ["sample", "--policies", f"last={small.policy}", "--benchmarks", *small.benchmarks.values()]
    arguments += ["--decodings", json.dumps(settings), "--max-prompt-tokens", 6, "--max-tokens", 13, "--seed", 1]
    process = asymgrpo_process([*arguments, "--out", output, "--work", work])
    waiting = time.monotonic() + 60
    while "easy.parquet" not in parts_in(work) and process.poll() is None and time.monotonic() < waiting:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert set(parts_in(work)) == {"easy.parquet"}, "it was not killed in the middle"
    assert not output.exists()
    return settings, output, work


def test_a_kill_loses_at_most_the_benchmark_that_was_being_sampled(small, killed, capsys):
    settings, output, work = killed
    settings["t1"]["samples"]["hard"] = 3  # another benchmark's settings do not matter to the one that is there
    run(small, output, small.policy, settings=settings, work=work)
    assert "last: 1 of 2 benchmarks to be sampled" in capsys.readouterr().out
    whole = output.with_name("whole")
    run(small, whole, small.policy, settings=settings)
    assert {name: data for name, (data, _) in samples_in(output).items()} == {
        name: data for name, (data, _) in samples_in(whole).items()
    }


@pytest.mark.parametrize("change", ["seed", "policy", "damage", "nothing"])
def test_what_a_kill_left_is_used_only_if_it_is_the_same(small, other_policy, killed, capsys, change):
    settings, output, work = killed
    settings["t1"]["samples"]["hard"] = 3
    if change == "damage":
        [part] = parts_in(work).values()
        part.write_bytes(part.read_bytes()[:-100])
    policy = other_policy if change == "policy" else small.policy
    run(small, output, policy, settings=settings, work=work, seed=2 if change == "seed" else 1)
    assert f"last: {1 if change == 'nothing' else 2} of 2 benchmarks to be sampled" in capsys.readouterr().out


def test_a_best_policy_that_is_the_last_is_sampled_once(small, tmp_path, capsys):
    tables = run(small, tmp_path, small.policy, small.policy)
    assert "last = best: 2 of 2" in capsys.readouterr().out
    assert set(tables["easy"].to_pandas().groupby("checkpoint").decoding.agg(frozenset)) == {
        frozenset(SETTINGS), frozenset({"t1", "greedy"}),
    }  # fmt: skip


def test_samples_may_differ_between_benchmarks(small, tmp_path):
    settings = {"t1": {"temperature": 1.0, "samples": {"easy": 3, "hard": 5}, "checkpoints": ["last"]}}
    tables = run(small, tmp_path, small.policy, settings=settings)
    for name, samples in settings["t1"]["samples"].items():
        assert set(tables[name].to_pandas().groupby("problem_id")["sample"].agg(tuple)) == {tuple(range(samples))}
    with pytest.raises(ValueError, match="samples: hard: is missing"):
        run(small, tmp_path, small.policy, settings={"t1": settings["t1"] | {"samples": {"easy": 3}}})


def test_the_record_says_how_samples_were_made(small, other_policy, tmp_path):
    run(small, tmp_path, small.policy, other_policy, limit=5)
    record = yaml.safe_load((tmp_path / RECORD).read_text())
    assert record["versions"] == {"torch": torch.__version__}
    assert (record["seed"], record["max_tokens"], record["sampler"]) == (1, 13, "torch")
    assert record["decodings"]["t0.4"] == {"temperature": 0.4, "samples": {"easy": 2, "hard": 2}}
    assert record["policies"]["last"] != record["policies"]["best"]
    assert set(record["seconds"]) == {"last", "best"}


def test_long_prompts_are_used_and_listed(small, tmp_path):
    within = run(small, tmp_path / "within", small.policy)
    over = run(small, tmp_path / "over", small.policy, limit=5)
    assert over == within
    for directory, long in (("within", 0), ("over", 10)):
        prompts = yaml.safe_load((tmp_path / directory / RECORD).read_text())["prompts"]["hard"]
        assert (prompts["problems"], prompts["longest"], prompts["dropped"]) == (10, 6, 0)
        assert len(prompts["longer_than_limit"]) == long
        assert set(prompts["longer_than_limit"].values()) <= {6}


def test_the_same_seed_gives_the_same_file(small, other_policy, evaluated, tmp_path):
    directory, _ = evaluated
    run(small, tmp_path, small.policy, other_policy)
    for name in small.benchmarks:
        file = f"{name}.samples.parquet"
        assert (tmp_path / file).read_bytes() == (directory / file).read_bytes()


def test_policies_are_given_the_same_random_numbers(small, other_policy, evaluated, tmp_path):
    """Two methods' policies, or two checkpoints: equal policies answer equally, and the order does not matter."""
    same = run(small, tmp_path / "same", small.policy, small.policy)["hard"].to_pandas()
    last, best = (same[same.checkpoint == which].drop(columns="checkpoint") for which in ("last", "best"))
    last = last[last.decoding != "t0.4"]
    assert last.reset_index(drop=True).equals(best.reset_index(drop=True))
    # and so does a method that has no other checkpoint beside it
    alone = run(small, tmp_path / "alone", other_policy)["hard"].to_pandas()
    together = evaluated[1]["hard"].to_pandas()
    for decoding in ("t1", "greedy"):
        a = alone[alone.decoding == decoding].response.tolist()
        b = together[(together.decoding == decoding) & (together.checkpoint == "best")].response.tolist()
        assert a == b
    # policies that differ a little answer alike, which two independent streams would not
    t1 = together[together.decoding == "t1"].pivot(
        index=["problem_id", "sample"], columns="checkpoint", values="response"
    )
    shuffled = t1.best.sample(frac=1.0, random_state=0).to_numpy()
    assert (t1["last"] == t1.best).mean() > 3 * (t1["last"].to_numpy() == shuffled).mean()


def test_another_seed_or_benchmark_has_other_random_numbers(small, evaluated, tmp_path):
    other = run(small, tmp_path, small.policy, seed=2)["hard"].to_pandas()
    before = evaluated[1]["hard"].to_pandas()
    for decoding, equal in (("t1", False), ("greedy", True)):
        a = other[(other.decoding == decoding)].response.tolist()
        b = before[(before.decoding == decoding) & (before.checkpoint == "last")].response.tolist()
        assert (a == b) is equal


def test_a_decoding_without_its_checkpoint_is_left_out(small, tmp_path):
    table = run(small, tmp_path, small.policy)["easy"].to_pandas()
    assert set(table.checkpoint) == {"last"}
    assert set(table.decoding) == set(SETTINGS)


# -- mathematical answers ---------------------------------------------------------------------------------------------

ASKED = [
    # ground truth, type, unit, tolerance, response, correct, extracted
    ("\\frac{1}{2}", "expression", "", None, "So it is \\boxed{0.5}.", True, "0.5"),
    ("\\frac{1}{2}", "expression", "", None, "So it is \\boxed{\\frac{2}{3}}.", False, "\\frac{2}{3}"),
    ("27", "numerical", "", None, "\\boxed{3}. No: that was wrong. It is \\boxed{27}", True, "27"),
    ("27", "numerical", "", None, "I do not know", False, ""),
    ("4", "numerical", "cm", None, "\\boxed{4 \\text{ cm}}", True, "4 \\text{ cm}"),
    ("3.14", "numerical", "", 0.01, "\\boxed{3.145}", True, "3.145"),
    ("3.14", "numerical", "", None, "\\boxed{3.145}", False, "3.145"),
    ("1,-2", "multiple", "", None, "\\boxed{-2, 1}", True, "-2, 1"),
]


@pytest.fixture
def mathematics(tmp_path):
    """mathematics(cases) -> a benchmark with a problem per case, and a file with its response."""

    def write(cases):
        rows, samples = [], []
        for number, (truth, answer_type, unit, tolerance, response, *_) in enumerate(cases):
            source = {"source": "a test", "revision": "1", "checksum": ""}
            problem = {"problem_id": f"p{number}", "prompt": [{"role": "user", "content": "What is it?"}]}
            answer = {"ground_truth": truth, "answer_type": answer_type, "unit": unit, "tolerance": tolerance}
            rows.append(problem | answer | source)
            place = {"checkpoint": "last", "decoding": "t1", "problem_id": f"p{number}", "sample": 0}
            samples.append(place | {"response": response, "tokens": 7, "finish_reason": "stop"})
        records.write(tmp_path / "math.parquet", rows, records.BENCHMARK)
        records.write(tmp_path / "math.samples.parquet", samples, records.SAMPLES)
        return tmp_path / "math.parquet", tmp_path / "math.samples.parquet"

    return write


def test_scores_of_mathematical_answers(mathematics):
    benchmark, samples = mathematics(ASKED)
    score_samples(samples, benchmark, samples.with_name("scores.parquet"), threads=2)
    scores = records.read(samples.with_name("scores.parquet"), records.SCORES).to_pylist()
    found = [(score["correct"], score["extracted"]) for score in scores]
    assert found == [case[5:] for case in ASKED]
    assert all((score["reason"] == "") is score["correct"] for score in scores)
    assert scores[3]["reason"] == "no answer"


def test_a_benchmark_may_have_countdown_and_other_problems(small, mathematics, tmp_path):
    cases = [
        ("9", "countdown", "", None, "1 + 2 3 3 * 3 9", True, "9"),
        ("9", "numerical", "", None, "\\boxed{9}", True, "9"),
        ("9", "countdown", "", None, "\\boxed{9}", False, ""),
    ]
    benchmark, samples = mathematics(cases)
    rows = records.read(benchmark, records.BENCHMARK).to_pylist()
    prompt = [{"role": "user", "content": "_ 1 2 3 9 ->"}]
    records.write(benchmark, [row | {"prompt": prompt} for row in rows], records.BENCHMARK)
    score_samples(samples, benchmark, samples.with_name("scores.parquet"))
    scores = records.read(samples.with_name("scores.parquet"), records.SCORES).to_pylist()
    assert [(score["correct"], score["extracted"]) for score in scores] == [case[5:] for case in cases]


# -- bad input --------------------------------------------------------------------------------------------------------


def test_responses_to_unknown_problems_are_an_error(small, evaluated, tmp_path):
    samples = evaluated[0] / "hard.samples.parquet"
    with pytest.raises(ValueError, match=rf"{samples}: problems that are not in {small.benchmarks['easy']}: \['"):
        score_samples(samples, small.benchmarks["easy"], tmp_path / "scores.parquet")
    assert not (tmp_path / "scores.parquet").exists()


def test_an_answer_type_without_a_verifier_is_an_error(small, evaluated, tmp_path):
    rows = records.read(small.benchmarks["easy"], records.BENCHMARK).to_pylist()
    rows[3]["answer_type"] = "math"
    records.write(tmp_path / "easy.parquet", rows, records.BENCHMARK)
    with pytest.raises(ValueError, match=r"easy.parquet: answer_type: expected one of countdown, .*, found \['math'\]"):
        score_samples(evaluated[0] / "easy.samples.parquet", tmp_path / "easy.parquet", tmp_path / "scores.parquet")


def test_a_problem_without_an_answer_is_an_error(mathematics):
    benchmark, samples = mathematics([("1", "numerical", "", None, "1")])
    rows = records.read(benchmark, records.BENCHMARK).to_pylist()
    records.write(benchmark, [rows[0] | {"ground_truth": " "}], records.BENCHMARK)
    with pytest.raises(ValueError, match=rf"{samples}: cannot be scored: ground_truth: expected an answer"):
        score_samples(samples, benchmark, samples.with_name("scores.parquet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "sglang"}, "sampler: expected one of torch, vllm, found 'sglang'"),
        ({"options": {"max_num_seqs": 4}}, "expected none, because the sampler is torch"),
        ({"template": {"enable_thinking": False}}, "expected none, because the sampler is torch"),
    ],
)
def test_settings_that_no_engine_can_follow_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"sampler": "torch", "max_tokens": 13, "seed": 1, "max_prompt_tokens": 6} | changes)


def test_a_policy_that_is_not_there_is_an_error(small, tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path / 'none'}: no policy there \(config.json is missing\)"):
        run(small, tmp_path / "output", tmp_path / "none")
    assert not (tmp_path / "output").exists()


def test_samples_without_any_row_have_scores_without_any_row(small, tmp_path):
    records.write(tmp_path / "easy.samples.parquet", [], records.SAMPLES)
    score_samples(tmp_path / "easy.samples.parquet", small.benchmarks["easy"], tmp_path / "easy.scores.parquet")
    assert records.read(tmp_path / "easy.scores.parquet", records.SCORES).num_rows == 0
