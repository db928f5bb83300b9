"""Our verdicts against the scorer that verl ships, called as its reward workers call it, and inside Ray workers."""

import importlib.util
import os
import threading
import time
from pathlib import Path

import pytest

from asymgrpo.verification import Item, Limits, verify, verify_many
from asymgrpo.verification.reasons import TIME_LIMIT

pytest.importorskip("verl")

pytestmark = pytest.mark.verl

VERL_SECONDS = 5.0
"""Its parser and grader give up after so long, without a word."""

HANGING = r"\boxed{9^{9^{9^9}}}"


@pytest.fixture(scope="module")
def mix():
    path = Path(__file__).parents[2] / "benchmarks" / "math_responses.py"
    spec = importlib.util.spec_from_file_location("math_responses", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.responses(400, group=4, seed=11)


def test_agreement_with_the_scorer_that_verl_ships(mix):
    """Only percentages differ: verl's installation has a parser that cannot read them."""
    from verl.utils.reward_score.math_verify import compute_score

    def score(response):
        start = time.monotonic()
        return compute_score(response.text, response.ground_truth) > 0, time.monotonic() - start

    score(mix[0])  # starts its process
    scores = list(map(score, mix))
    verdicts = verify_many(Item(*response) for response in mix)
    judged = [entry for entry in zip(mix, verdicts, scores, strict=True) if entry[2][1] < VERL_SECONDS]
    assert len(judged) > 0.9 * len(mix)
    assert 0.2 < sum(theirs for *_, (theirs, _) in judged) / len(judged) < 0.9
    differing = [
        (response.ground_truth, response.text[-80:], verdict)
        for response, verdict, (theirs, _) in judged
        if verdict.correct != theirs
    ]
    assert all(v.correct and "%" in truth + v.extracted for truth, _, v in differing), differing
    assert len(differing) < 20


def test_in_ray_workers(mix):
    """In tasks and in threads of actors, where signals do not work; a hanging answer in one touches no other."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote
        def task(items):
            return [tuple(verdict) for verdict in verify_many(items, workers=1)]

        @ray.remote(max_concurrency=4)
        class Actor:
            def score(self, item):
                in_main = threading.current_thread() is threading.main_thread()
                return tuple(verify(*item[:3], limits=Limits(3.0))), in_main, os.getpid()

        items = [Item(*response) for response in mix[:60]]
        expected = [tuple(verdict) for verdict in verify_many(items)]
        assert {correct for correct, *_ in expected} == {True, False}
        assert ray.get([task.remote(items[:30]), task.remote(items[30:])]) == [expected[:30], expected[30:]]

        actor = Actor.remote()
        hanging = actor.score.remote(Item(HANGING, "6", "numerical"))
        found = ray.get([actor.score.remote(item) for item in items], timeout=120)
        assert [verdict for verdict, *_ in found] == expected
        assert not any(in_main for _, in_main, _ in found)
        assert {pid for *_, pid in found} == {ray.get(hanging, timeout=60)[2]} != {os.getpid()}
        assert ray.get(hanging)[0] == (False, HANGING[7:-1], TIME_LIMIT)
    finally:
        ray.shutdown()
