"""The small policy: the same function as transformers' Qwen3 on the same files, whichever way it is evaluated."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from asymgrpo.policy import checkpoint
from asymgrpo.policy.generation import sample
from asymgrpo.policy.model import Policy, PolicyConfig, decode_bias
from asymgrpo.tasks import countdown
from asymgrpo.tasks.countdown import EOS, PAD, VOCABULARY
from asymgrpo.training.local import save_policy

SHAPES = {"2 heads": (2, 2, 2), "grouped": (2, 2, 1), "4 heads over 2": (1, 4, 2)}


def lively(layers, heads, kv_heads, seed=0):
    """A policy whose every weight matters, as after training: no logit near another, no norm weight 1."""
    policy = Policy(PolicyConfig(len(VOCABULARY), 64, layers, heads, kv_heads, 32, 112, rope_theta=5_000.0))
    generator = torch.Generator().manual_seed(seed)
    policy.initialise(generator)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.dim() == 2:
                parameter.mul_(12.0)
            else:
                parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return policy


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def policy(request):
    return lively(*request.param)


@pytest.fixture(scope="module")
def directory(policy, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "saved"
    save_policy(policy, path)
    return path


@pytest.fixture(scope="module")
def theirs(directory):
    from transformers import Qwen3ForCausalLM

    return Qwen3ForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()


def tokens(*shape, seed=0):
    return torch.randint(0, len(VOCABULARY), shape, generator=torch.Generator().manual_seed(seed))


def prompts(count):
    return torch.from_numpy(countdown.prompt_tokens(countdown.benchmark_problems(count, 1, 3)))


# -- transformers -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_transformers_has_the_same_logits(policy, theirs):
    batch = tokens(16, 19)
    ours = policy(batch)
    assert ours.dtype == torch.float32
    assert ours.shape == (16, 19, len(VOCABULARY))
    assert ours.std() > 1  # otherwise 1e-4 would say little
    torch.testing.assert_close(ours, theirs(batch).logits, atol=1e-4, rtol=0)


def test_transformers_has_the_same_greedy_continuations(policy, theirs):
    start = torch.cat([prompts(20), tokens(20, 6)])
    ours = sample(policy, start, 1, 13, 0.0, PAD, EOS).tokens[:, 0]
    config = {"do_sample": False, "max_new_tokens": 13, "eos_token_id": EOS, "pad_token_id": PAD}
    found = theirs.generate(start, attention_mask=torch.ones_like(start), **config)[:, 6:]
    assert torch.equal(found, ours[:, : found.shape[1]])
    assert (ours[:, found.shape[1] :] == PAD).all()
    assert len({tuple(row) for row in ours.tolist()}) > 20


def test_transformers_loads_all_weights_and_nothing_else(policy, theirs):
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in policy.parameters())
    assert theirs.config.vocab_size == len(VOCABULARY)
    assert theirs.config.rope_parameters["rope_theta"] == policy.config.rope_theta
    assert theirs.generation_config.eos_token_id == EOS
    assert theirs.generation_config.pad_token_id == PAD


def test_the_tokenizer_is_ours(directory):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert len(tokenizer) == len(VOCABULARY)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, EOS)
    assert tokenizer.convert_ids_to_tokens(list(range(len(VOCABULARY)))) == VOCABULARY
    texts = [countdown.to_text(row) for row in prompts(10).tolist()] + ["8 * 5 40 40 + 3 43", "99 - 1 98"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert ids == countdown.to_tokens(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([*ids, EOS, PAD], skip_special_tokens=True) == text
        chat = [{"role": "user", "content": text}]
        assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == text
    # a word that is not in the vocabulary never becomes a number
    assert tokenizer("8 * 05")["input_ids"] == [*countdown.to_tokens("8 *"), PAD]


# -- save and load ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_loading_gives_the_same_policy_bit_for_bit(policy, directory):
    again = checkpoint.load(directory)
    assert again.config == policy.config
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))
    assert torch.equal(policy(tokens(4, 10)), again(tokens(4, 10)))


def test_saving_replaces_a_directory_as_a_whole(tmp_path):
    first, second = lively(1, 2, 1, seed=1), lively(1, 2, 1, seed=2)
    target = tmp_path / "new" / "policy"
    save_policy(first, target)
    (target / "left over").write_text("")
    (target.parent / ".policy.1").mkdir()  # of a process that was killed
    save_policy(second, target)
    names = {path.name for path in target.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert torch.equal(checkpoint.load(target).embedding, second.embedding)
    assert {path.name for path in target.parent.iterdir()} == {"policy", ".policy.1"}


def test_the_same_policy_is_the_same_files(tmp_path):
    for name in "ab":
        save_policy(lively(1, 2, 1), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_saving_needs_a_word_per_token(tmp_path):
    with pytest.raises(ValueError, match="the policy has 107 tokens, not 106"):
        checkpoint.save(lively(1, 2, 1), tmp_path / "policy", VOCABULARY[:-1], PAD, EOS)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken(tmp_path):
    """A saved policy, and a function that changes its config.json."""
    save_policy(lively(1, 2, 1), tmp_path / "policy")

    def change(key, value):
        path = tmp_path / "policy" / "config.json"
        content = json.loads(path.read_text())
        if value is None:
            del content[key]
        else:
            content[key] = value
        path.write_text(json.dumps(content))

    return tmp_path / "policy", change


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [("model_type", "llama", "'llama'"), ("tie_word_embeddings", False, "False"), ("hidden_act", "gelu", "'gelu'")],
)
def test_another_architecture_is_an_error(broken, key, value, found):
    directory, change = broken
    change(key, value)
    with pytest.raises(ValueError, match=rf"{directory}/config.json: {key}: expected .*, found {found}"):
        checkpoint.load(directory)


@pytest.mark.parametrize("key", ["vocab_size", "num_hidden_layers", "head_dim", "max_position_embeddings"])
def test_a_missing_key_is_an_error(broken, key):
    directory, change = broken
    change(key, None)
    with pytest.raises(ValueError, match=rf"config.json: .*{key}"):
        checkpoint.load(directory)


def test_missing_files_are_errors(broken, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no policy there \(config.json is missing\)"):
        checkpoint.load(tmp_path / "nowhere")
    directory, _ = broken
    (directory / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        checkpoint.load(directory)


@pytest.mark.parametrize("name", ["model.norm", "self_attn.q_proj", "mlp.down_proj"])
def test_missing_weights_are_errors(broken, name):
    directory, _ = broken
    weights = load_file(directory / "model.safetensors")
    for key in [key for key in weights if name in key]:
        del weights[key]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"model.safetensors.*{name}"):
        checkpoint.load(directory)


def test_weights_of_another_shape_are_an_error(broken):
    directory, change = broken
    change("intermediate_size", 96)
    with pytest.raises(ValueError, match=r"model.safetensors"):
        checkpoint.load(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kv_heads": 3}, r"heads \(4\) must be a multiple of kv_heads \(3\)"), ({"head_dim": 7}, "even .* found 7")],
)
def test_impossible_shapes_are_errors(change, message):
    shape = {"vocab_size": 10, "hidden_size": 8, "layers": 1, "heads": 4, "kv_heads": 2, "head_dim": 8}
    with pytest.raises(ValueError, match=message):
        PolicyConfig(**(shape | {"intermediate_size": 8} | change))


# -- one function, three ways to evaluate it --------------------------------------------------------------------------


def concatenated(policy, prompts, responses):
    """What group_logits should give, by the plain pass over prompt and response of every rollout."""
    size, steps = responses.shape[1:]
    full = torch.cat([prompts[:, None].expand(-1, size, -1), responses], 2)
    logits = policy(full.flatten(0, 1))[:, prompts.shape[1] - 1 : -1]
    return logits.unflatten(0, (-1, size)), steps


@pytest.mark.parametrize("steps", [1, 2, 13])
def test_group_logits_are_those_of_the_plain_pass(policy, steps):
    start, responses = tokens(5, 6), tokens(5, 3, steps, seed=1)
    expected, _ = concatenated(policy, start, responses)
    ours = policy.group_logits(start, responses)
    assert ours.shape == (5, 3, steps, len(VOCABULARY))
    torch.testing.assert_close(ours, expected, atol=5e-5, rtol=1e-4)
    # and so are the gradients of every weight
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2)) / ours.numel() ** 0.5
    gradients = [torch.autograd.grad((x * upstream).sum(), list(policy.parameters())) for x in (ours, expected)]
    for (name, _), mine, plain in zip(policy.named_parameters(), *gradients, strict=True):
        scale = plain.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(mine, plain, atol=1e-4 * scale, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_the_last_response_token_is_no_input(policy):
    start, responses = tokens(2, 6), tokens(2, 3, 5, seed=1)
    other = responses.clone()
    other[:, :, -1] = (other[:, :, -1] + 1) % len(VOCABULARY)
    assert torch.equal(policy.group_logits(start, responses), policy.group_logits(start, other))


@torch.no_grad()
def test_decoding_gives_the_logits_of_the_plain_pass(policy):
    start, responses = tokens(6, 6), tokens(6, 4, 9, seed=1)
    expected, steps = concatenated(policy, start, responses)
    logits, caches = policy.prefill(start, 4, steps)
    torch.testing.assert_close(logits[:, None].expand(-1, 4, -1), expected[:, :, 0], atol=5e-5, rtol=1e-4)
    bias, groups = decode_bias(4, 6, steps, start.device), torch.arange(6)
    for t in range(steps - 1):
        if t == 3:  # some groups have ended; the others must not notice
            kept = torch.tensor([0, 2, 3, 5])
            groups = groups[kept]
            for cache in caches:
                cache.keep(kept)
        logits = policy.decode(responses[groups, :, t], caches, 6 + t, bias)
        torch.testing.assert_close(logits, expected[groups, :, t + 1], atol=5e-5, rtol=1e-4)


@torch.no_grad()
def test_a_position_sees_only_what_came_before(policy):
    batch = tokens(2, 12)
    other = batch.clone()
    other[:, 7:] = tokens(2, 5, seed=9)
    before, after = policy(batch), policy(other)
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-5, rtol=0)
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-2


def test_initial_weights_depend_on_the_generator_only():
    first, again, other = (Policy(PolicyConfig(107, 32, 2, 2, 1, 16, 64)) for _ in range(3))
    for policy, seed in ((first, 1), (again, 1), (other, 2)):
        policy.initialise(torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.embedding, other.embedding)
    assert first.embedding.std().item() == pytest.approx(0.02, rel=0.1)
    assert first.layers[0].down.std().item() == pytest.approx(0.01, rel=0.1)  # / sqrt(2 * 2 layers)
