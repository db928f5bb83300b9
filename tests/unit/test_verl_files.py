"""A verl run's files: where to go on, exported and kept policies, problems in verl's columns, lengths of prompts."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from asymgrpo import records
from asymgrpo.policy import checkpoint as huggingface
from asymgrpo.training.batches import problems_of_step
from asymgrpo.training.spec import fingerprint, run_spec, what_counts
from asymgrpo.training.verl import data, launch, policies, task
from asymgrpo.training.verl.data import PromptLengths
from asymgrpo.training.verl.journal import Journal, read
from asymgrpo.training.verl.policies import TRACKER, export, remove_old, resume_point
from asymgrpo.training.verl.task import Task, keep, kept_step

WEIGHTS = "model.safetensors"


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# -- where to go on ----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path):
    """checkpoints(4, 6, tracker="6") -> a directory of verl's checkpoints of these steps."""

    def build(*steps, tracker=None):
        directory = tmp_path / "checkpoints"
        directory.mkdir()
        for step in steps:
            place = directory / f"global_step_{step}"
            (place / "actor" / "huggingface").mkdir(parents=True)
            (place / "actor" / "huggingface" / "config.json").write_text("{}")
            torch.save({"step": step}, place / "actor" / "model_world_size_1_rank_0.pt")
            torch.save({"_snapshot": {"_num_yielded": step}}, place / "data.pt")  # the last that verl writes
        if tracker is not None:
            (directory / TRACKER).write_text(tracker)
        return directory

    return build


def found(directory):
    """What is left: the steps, and what the tracker says."""
    tracker = directory / TRACKER
    steps = sorted(policies.step_of(place) for place in directory.glob("global_step_*"))
    return steps, tracker.read_text() if tracker.exists() else None


def test_old_checkpoints_are_removed_by_their_steps(checkpoints):
    directory = checkpoints(8, 9, 10, 100, tracker="100")
    remove_old(directory, 2)
    assert found(directory) == ([10, 100], "100")
    remove_old(directory, 2)
    assert found(directory) == ([10, 100], "100")


def test_nothing_there(tmp_path, checkpoints):
    assert resume_point(tmp_path / "no such directory") == 0
    assert not (tmp_path / "no such directory").exists()
    directory = checkpoints()
    assert resume_point(directory) == 0
    assert found(directory) == ([], None)


def test_a_tracker_without_checkpoints_goes(checkpoints):
    """verl would look for the checkpoint it names."""
    directory = checkpoints(tracker="4")
    assert resume_point(directory) == 0
    assert found(directory) == ([], None)


def test_the_newest_is_kept_and_the_others_removed(checkpoints):
    directory = checkpoints(2, 10, 4, 8, tracker="10")
    assert resume_point(directory) == 10
    assert found(directory) == ([10], "10")
    assert resume_point(directory) == 10
    assert found(directory) == ([10], "10")


@pytest.mark.parametrize("tracker", [None, "", "2", "7", "no number"])
def test_the_newest_counts_whatever_the_tracker_says(checkpoints, tracker):
    """A kill came after the checkpoint was written and before, or while, verl noted it."""
    directory = checkpoints(2, 4, tracker=tracker)
    before = contents(directory / "global_step_4")
    assert resume_point(directory) == 4
    assert found(directory) == ([4], "4")
    assert contents(directory / "global_step_4") == before


def incomplete(place, how):
    if how == "no data.pt":
        (place / "data.pt").unlink()
    elif how == "empty data.pt":
        (place / "data.pt").write_bytes(b"")
    elif how == "half a data.pt":
        (place / "data.pt").write_bytes((place / "data.pt").read_bytes()[:-30])
    elif how == "no weights":
        shutil.rmtree(place / "actor")
    else:
        shutil.rmtree(place)
        place.mkdir()


WAYS = ["no data.pt", "empty data.pt", "half a data.pt", "no weights", "nothing"]


@pytest.mark.parametrize("how", WAYS)
def test_a_part_of_a_checkpoint_is_none(checkpoints, how):
    directory = checkpoints(2, 4, 6, tracker="4")
    incomplete(directory / "global_step_6", how)
    assert resume_point(directory) == 4
    assert found(directory) == ([4], "4")


@pytest.mark.parametrize("how", WAYS)
def test_a_part_of_the_first_one_is_the_start(checkpoints, how):
    directory = checkpoints(2, tracker="")
    incomplete(directory / "global_step_2", how)
    assert resume_point(directory) == 0
    assert found(directory) == ([], None)


def test_data_pt_at_any_byte(checkpoints):
    directory = checkpoints(2)
    place = directory / "global_step_2"
    whole = (place / "data.pt").read_bytes()
    for length in range(0, len(whole), 5):
        (place / "data.pt").write_bytes(whole[:length])
        assert not policies._is_whole(place)
    (place / "data.pt").write_bytes(whole)
    assert policies._is_whole(place)


def test_a_checkpoint_whose_steps_nobody_noted_is_an_error(small, run_values, tmp_path):
    """Before anything is started: the run's file of steps could never be written."""
    spec, work = run_spec(run_values(backend="verl")), tmp_path / "work"
    mark = fingerprint(what_counts(spec), small.policy / WEIGHTS, small.problems, *small.benchmarks.values())
    launch._same_run(work, mark)
    place = work / "checkpoints" / "global_step_2"
    (place / "actor").mkdir(parents=True)
    torch.save({}, place / "data.pt")
    torch.save({}, place / "actor" / "model_world_size_1_rank_0.pt")
    journal = Journal(work / "journal.jsonl")
    journal.start(0)
    journal.step(1, {}, {}, [])
    with pytest.raises(ValueError, match="has 1 of the 2 steps of the last checkpoint") as error:
        launch.train(spec, small.policy, small.problems, small.benchmarks, tmp_path / "run", work)
    assert f"remove {work}" in str(error.value)


# -- exported policies -------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(small, tmp_path):
    """A policy as verl exports it, in two files of weights, one tensor of which is no float32."""
    place = tmp_path / "global_step_4" / "actor" / "huggingface"
    shutil.copytree(small.policy, place)
    save_file({"counter": torch.tensor([2**53 + 1]), "half": torch.ones(3).half()}, place / "more.safetensors")
    (place / "config.json").write_text(
        json.dumps(json.loads((place / "config.json").read_text()) | {"dtype": "float16"})
    )
    return place


@pytest.mark.parametrize("half", [True, False])
def test_an_export_is_the_policy(exported, tmp_path, half):
    place = tmp_path / "run" / "policy" / "last"
    before = contents(exported)
    export(exported, place, half)
    assert {path.name for path in place.iterdir()} == {path.name for path in exported.iterdir()}
    old, new = load_file(exported / WEIGHTS), load_file(place / WEIGHTS)
    assert set(old) == set(new)
    for name, tensor in new.items():
        assert tensor.dtype == (torch.bfloat16 if half else torch.float32)
        assert torch.equal(tensor, old[name].to(tensor.dtype))
    with safe_open(place / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # older readers refuse a file without it
    others = load_file(place / "more.safetensors")
    assert others["counter"].tolist() == [2**53 + 1]
    assert others["half"].dtype == torch.float16
    config = json.loads((place / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == ("bfloat16" if half else "float32")
    kept = json.loads((exported / "config.json").read_text())
    assert {key: config[key] for key in kept if "dtype" not in key} == {
        key: kept[key] for key in kept if "dtype" not in key
    }
    assert contents(exported) == before


def test_transformers_reads_an_export_as_it_is_meant(small, tmp_path):
    transformers = pytest.importorskip("transformers")
    export(small.policy, tmp_path / "half", half=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype="auto", local_files_only=True)
    assert model.dtype == torch.bfloat16
    tokens = small.prompts[:4]
    with torch.no_grad():
        ours, theirs = huggingface.load(small.policy)(tokens), model(tokens).logits.float()
    assert (ours - theirs).abs().max() < 0.1 * ours.abs().max()


def test_an_export_has_no_mark_of_the_best(exported, tmp_path):
    keep(exported, tmp_path / "best", 4)
    export(tmp_path / "best", tmp_path / "run" / "best", half=False)
    assert (tmp_path / "best" / task.BEST_STEP).exists()
    assert not (tmp_path / "run" / "best" / task.BEST_STEP).exists()


def test_an_export_that_is_interrupted_leaves_what_was_there(exported, tmp_path, monkeypatch):
    place = tmp_path / "run" / "last"
    export(exported, place, half=False)
    before = contents(place)

    def killed(*_, **__):
        raise KeyboardInterrupt

    for name in ("save_file", "load_file"):
        with monkeypatch.context() as patched:
            patched.setattr(policies, name, killed)
            with pytest.raises(KeyboardInterrupt):
                export(exported, place, half=True)
        assert contents(place) == before
    with monkeypatch.context() as patched:
        patched.setattr(policies.json, "dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            export(exported, tmp_path / "run" / "best", half=True)
    assert not (tmp_path / "run" / "best").exists()

    export(exported, place, half=True)
    export(exported, tmp_path / "run" / "best", half=True)
    assert {path.name for path in place.parent.iterdir()} == {"last", "best"}
    assert load_file(place / WEIGHTS)["model.norm.weight"].dtype == torch.bfloat16


# -- the best policy so far --------------------------------------------------------------------------------------------


def test_the_task_is_read_as_it_was_written(tmp_path):
    written = Task("small/grpo/seed-1", str(tmp_path / "work"), "easy", {"easy": 8, "hard": 10})
    written.write()
    assert Task.read(written.file) == written
    assert list(Task.read(written.file).problems) == ["easy", "hard"]
    for place in (written.file, written.journal, written.checkpoints, written.best):
        assert place.parent == tmp_path / "work"
    assert written.exported(4) == tmp_path / "work/checkpoints/global_step_4/actor/huggingface"


def test_nothing_is_kept_at_first(tmp_path):
    assert kept_step(tmp_path / "best") == 0
    (tmp_path / "best").mkdir()
    assert kept_step(tmp_path / "best") == 0
    (tmp_path / "best" / task.BEST_STEP).write_text("")
    assert kept_step(tmp_path / "best") == 0


def test_a_kept_policy_replaces_the_one_before(exported, tmp_path):
    best = tmp_path / "best"
    keep(exported, best, 4)
    assert kept_step(best) == 4
    assert contents(best) == contents(exported) | {task.BEST_STEP: b"4\n"}
    (exported / "more.safetensors").unlink()
    keep(exported, best, 12)
    assert kept_step(best) == 12
    assert contents(best) == contents(exported) | {task.BEST_STEP: b"12\n"}
    assert not (tmp_path / ".best").exists()


@pytest.mark.parametrize("moment", ["copytree", "rmtree"])
def test_a_kill_leaves_a_whole_policy_or_none(exported, tmp_path, monkeypatch, moment):
    """Before the copy is complete, and between the removal of the old and the new one's taking its place."""
    best = tmp_path / "best"
    keep(exported, best, 4)
    before = contents(best)
    real = getattr(task.shutil, moment)

    def killed(place, *arguments, **more):
        if moment == "copytree":
            (arguments[0] / "part").mkdir(parents=True)
            raise KeyboardInterrupt
        real(place, *arguments, **more)
        if place == best:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(task.shutil, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            keep(exported, best, 6)
    if moment == "copytree":
        assert contents(best) == before
    else:
        assert kept_step(best) == 0
    keep(exported, best, 6)
    assert contents(best) == contents(exported) | {task.BEST_STEP: b"6\n"}


# -- problems ----------------------------------------------------------------------------------------------------------


def written(directory, name):
    return pq.read_table(directory / f"{name}.parquet").to_pylist()


def of_step(spec, rows, step):
    wanted = spec.rollout.prompts_per_step
    return rows[(step - 1) * wanted : step * wanted]


def test_the_training_file_has_each_steps_prompts_in_order(small, run_values, tmp_path):
    spec = run_spec(run_values(seed=3, steps=7))  # 32 problems, 12 a step: epochs of two steps
    data.write_problems(spec, small.problems, small.benchmarks, tmp_path / "data")
    rows, problems = written(tmp_path / "data", "train"), records.read(small.problems, records.BENCHMARK).to_pylist()
    assert len(rows) == 7 * 12
    for step in range(1, 8):
        expected = problems_of_step(3, step, 32, 12).tolist()
        found = of_step(spec, rows, step)
        assert [row["extra_info"]["index"] for row in found] == expected
        assert [row["reward_model"]["index"] for row in found] == expected
        assert [row["prompt"] for row in found] == [problems[index]["prompt"] for index in expected]
        assert [row["reward_model"]["ground_truth"] for row in found] == [
            problems[index]["ground_truth"] for index in expected
        ]


def test_no_problem_twice_in_an_epoch_and_another_order_in_the_next(small, run_values, tmp_path):
    spec = run_spec(run_values(steps=6))
    data.write_problems(spec, small.problems, small.benchmarks, tmp_path)
    indices = [row["extra_info"]["index"] for row in written(tmp_path, "train")]
    epochs = [indices[start : start + 24] for start in (0, 24, 48)]
    assert all(len(set(epoch)) == 24 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_the_seeds(small, run_values, tmp_path):
    for name, values in {"a": {}, "b": {"method": "asymgrpo"}, "c": {"seed": 2}}.items():
        data.write_problems(run_spec(run_values(**values)), small.problems, small.benchmarks, tmp_path / name)
    assert written(tmp_path / "a", "train") == written(tmp_path / "b", "train")
    assert written(tmp_path / "a", "train") != written(tmp_path / "c", "train")


def test_the_columns_are_verls(small, run_values, tmp_path):
    data.write_problems(run_spec(run_values()), small.problems, small.benchmarks, tmp_path)
    for name in ("train", "validation"):
        row = written(tmp_path, name)[0]
        assert set(row) == {"data_source", "prompt", "reward_model", "extra_info"}
        assert set(row["reward_model"]) == {"style", "index", "ground_truth", "answer_type", "unit", "tolerance"}
        assert row["reward_model"]["style"] == "rule"
        assert [set(message) for message in row["prompt"]] == [{"role", "content"}]


def test_validation_has_every_problem_of_every_benchmark(small, run_values, tmp_path):
    spec = run_spec(run_values(evaluation={"benchmarks": ["hard", "easy"], "select_on": "easy"}))
    counts = data.write_problems(spec, small.problems, small.benchmarks, tmp_path)
    assert list(counts.items()) == [("hard", 10), ("easy", 8)]
    rows = written(tmp_path, "validation")
    assert [row["data_source"] for row in rows] == ["hard"] * 10 + ["easy"] * 8
    assert [row["extra_info"]["index"] for row in rows] == [*range(10), *range(8)]
    hard = records.read(small.benchmarks["hard"], records.BENCHMARK).to_pylist()
    assert [row["prompt"] for row in rows[:10]] == [row["prompt"] for row in hard]


def test_only_the_benchmarks_of_the_spec_are_read(small, run_values, tmp_path):
    spec = run_spec(run_values(evaluation={"benchmarks": ["easy"], "select_on": "easy"}))
    counts = data.write_problems(spec, small.problems, small.benchmarks | {"gone": tmp_path / "gone.parquet"}, tmp_path)
    assert counts == {"easy": 8}


@pytest.fixture
def math_problems(tmp_path):
    """Problems as of the real benchmarks: of several answer types, some with units and tolerances."""
    answers = [
        (r"\frac{1}{2}", "expression", "", None),
        ("27", "numerical", "", None),
        ("3.14", "numerical", "cm", 0.01),
        ("-2,1", "multiple", "", None),
        ("(1,2)", "tuple", "", None),
    ]
    rows = [
        {
            "problem_id": f"p{i}",
            "prompt": [{"role": "user", "content": "1 + 1" + " + 1" * i}],
            "ground_truth": answer,
            "answer_type": kind,
            "unit": unit,
            "tolerance": tolerance,
            "source": "a test",
            "revision": "1",
            "checksum": "",
        }
        for i, (answer, kind, unit, tolerance) in enumerate(answers)
    ]
    records.write(tmp_path / "math.parquet", rows, records.BENCHMARK)
    return tmp_path / "math.parquet"


def test_answers_with_units_and_tolerances_arrive(run_values, math_problems, tmp_path):
    spec = run_spec(
        run_values(rollout={"prompts_per_step": 5}, steps=1, evaluation={"benchmarks": ["math"], "select_on": "math"})
    )
    data.write_problems(spec, math_problems, {"math": math_problems}, tmp_path / "data")
    answers = [row["reward_model"] for row in written(tmp_path / "data", "validation")]
    assert [answer["tolerance"] for answer in answers] == [None, None, 0.01, None, None]
    assert [answer["unit"] for answer in answers] == ["", "", "cm", "", ""]
    assert answers[0]["ground_truth"] == r"\frac{1}{2}"
    trained = {row["extra_info"]["index"]: row["reward_model"] for row in written(tmp_path / "data", "train")}
    assert [trained[index] for index in range(5)] == answers


def test_a_benchmark_without_a_file_is_an_error(small, run_values, tmp_path):
    with pytest.raises(ValueError, match=r"evaluation.benchmarks: hard: expected its file among \['easy'\]"):
        data.write_problems(run_spec(run_values()), small.problems, {"easy": small.benchmarks["easy"]}, tmp_path)


def test_too_few_problems_are_an_error(small, run_values, tmp_path):
    spec = run_spec(run_values(rollout={"prompts_per_step": 33}))
    with pytest.raises(ValueError, match=r"32 problems, but rollout.prompts_per_step is 33") as error:
        data.write_problems(spec, small.problems, small.benchmarks, tmp_path)
    assert str(small.problems) in str(error.value)


# -- lengths of prompts ------------------------------------------------------------------------------------------------


def test_prompts_are_counted_in_tokens(small, run_values):
    pytest.importorskip("transformers")
    lengths = data.prompt_lengths(run_spec(run_values()), small.policy, small.problems, small.benchmarks)
    assert lengths.longest == 6
    assert {name: set(tokens.values()) for name, tokens in lengths.tokens.items()} == {
        "train": {6}, "easy": {6}, "hard": {6},
    }  # fmt: skip
    assert {name: len(tokens) for name, tokens in lengths.tokens.items()} == {"train": 32, "easy": 8, "hard": 10}


def test_with_the_chat_template_and_its_arguments(small, run_values, tmp_path, math_problems):
    """The template is asked for what the policy is given: the arguments of the start, and the turn to answer."""
    pytest.importorskip("transformers")
    policy = tmp_path / "policy"
    shutil.copytree(small.policy, policy)
    config = json.loads((policy / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% for message in messages %}{{ message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %} ->{% endif %}{% if style %} {{ style }}{% endif %}"
    )
    (policy / "tokenizer_config.json").write_text(json.dumps(config))
    evaluation = {"benchmarks": ["math"], "select_on": "math"}
    found = {}
    for name, template in {"plain": {}, "styled": {"style": "+ +"}}.items():
        start = {"repository": "a/b", "revision": "0" * 40, "template": template}
        spec = run_spec(run_values(start=start, evaluation=evaluation))
        lengths = data.prompt_lengths(spec, policy, small.problems, {"math": math_problems})
        assert lengths.longest == max(lengths.tokens["math"].values())
        found[name] = list(lengths.tokens["math"].values())
    assert found == {"plain": [4, 6, 8, 10, 12], "styled": [6, 8, 10, 12, 14]}


def test_the_record_lists_every_prompt_that_is_too_long():
    lengths = PromptLengths(1030, {"train": {"a": 1024, "b": 1025, "c": 1030}, "easy": {"a": 3}, "hard": {"z": 1026}})
    assert lengths.record(1024) == {
        "limit": 1024,
        "longest": 1030,
        "problems": {"train": 3, "easy": 1, "hard": 1},
        "longer_than_limit": {"train": {"b": 1025, "c": 1030}, "hard": {"z": 1026}},
        "dropped": 0,
    }
    assert lengths.record(1030)["longer_than_limit"] == {}


def test_other_budgets_go_on_with_what_is_there_but_another_world_does_not(run_values):
    def mark(**verl):
        return fingerprint(what_counts(run_spec(run_values(backend="verl", verl=verl))))

    budget = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
    four = {"trainer.n_gpus_per_node": 4}
    assert mark(**four, **{budget: 1024}) == mark(**four, **{budget: 512})
    assert mark(**four) != mark(**{"trainer.n_gpus_per_node": 2})
    assert mark(**four) != mark(**four, **{"trainer.nnodes": 2})


def test_a_policy_that_a_kill_left_unkept_is_kept_at_the_next_start(tmp_path):
    run = Task("a run", str(tmp_path), "easy", {"easy": 2})
    for step in (2, 4):
        run.exported(step).mkdir(parents=True)
        (run.exported(step) / "config.json").write_text(str(step))
    journal = Journal(run.journal)
    journal.start(0)
    rows = {0: 0.9, 2: 0.1, 4: 0.3}
    for step, accuracy in rows.items():
        row = {"benchmark": "easy", "decoding": "greedy", "problems": 2, "samples": 1, "correct": 1}
        journal.evaluation(step, [row | {"accuracy": accuracy, "response_length": 1.0}])
    keep(run.exported(2), run.best, 2)
    launch._keep_missed(run, read(run.journal), 4)
    assert kept_step(run.best) == 4
    assert (run.best / "config.json").read_text() == "4"
    keep(run.exported(2), run.best, 2)
    launch._keep_missed(run, read(run.journal).until(2), 2)  # of another step than the checkpoint: not ours to mend
    assert kept_step(run.best) == 2
