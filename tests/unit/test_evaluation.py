"""Final evaluation: Avg@k and pass@k by enumeration, and from sampled responses to verdicts."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import torch

from asymgrpo import records
from asymgrpo.evaluation.metrics import average_at_k, pass_at_k
from asymgrpo.evaluation.sample import CHUNK, Decoding, decodings_from, sample_benchmarks
from asymgrpo.evaluation.score import score_samples
from asymgrpo.policy import checkpoint
from asymgrpo.policy.generation import sample
from asymgrpo.tasks import countdown
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


def run(small, output, last, best=None, seed=1, settings=SETTINGS, max_tokens=13):
    policies = {"last": last} | ({} if best is None else {"best": best})
    decodings = decodings_from(settings)
    sample_benchmarks(policies, small.benchmarks, decodings, max_tokens, seed, output, "cpu", 1)
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
    return {row["problem_id"]: row["prompt"] for row in rows}


def test_decodings_from_a_scale():
    found = decodings_from(SETTINGS)
    assert list(found) == list(SETTINGS)
    assert found["t0.4"] == Decoding(0.4, 2, ("last",))


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


def test_a_file_that_is_there_is_kept(small, evaluated, tmp_path):
    directory, _ = evaluated
    run(small, tmp_path, small.policy)
    kept = (tmp_path / "easy.samples.parquet").read_bytes()
    (tmp_path / "hard.samples.parquet").unlink()
    stamp = (tmp_path / "easy.samples.parquet").stat().st_mtime_ns
    run(small, tmp_path, small.policy, seed=2)  # what is there is not sampled again, what is missing is
    assert (tmp_path / "easy.samples.parquet").read_bytes() == kept
    assert (tmp_path / "easy.samples.parquet").stat().st_mtime_ns == stamp
    assert (tmp_path / "hard.samples.parquet").exists()
    assert not list(tmp_path.glob(".*"))
    assert directory != tmp_path


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
    with pytest.raises(ValueError, match=r"easy.parquet: answer_type: expected countdown, found \['math'\]"):
        score_samples(evaluated[0] / "easy.samples.parquet", tmp_path / "easy.parquet", tmp_path / "scores.parquet")


def test_samples_without_any_row_have_scores_without_any_row(small, tmp_path):
    records.write(tmp_path / "easy.samples.parquet", [], records.SAMPLES)
    score_samples(tmp_path / "easy.samples.parquet", small.benchmarks["easy"], tmp_path / "easy.scores.parquet")
    assert records.read(tmp_path / "easy.scores.parquet", records.SCORES).num_rows == 0
