"""The small policy in Hugging Face layout, for transformers, vLLM and verl to load with ``from_pretrained``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from asymgrpo.policy.kernels import EPS
from asymgrpo.policy.model import Policy, PolicyConfig


def save(policy: Policy, directory: str | Path, vocabulary: list[str], pad: int, eos: int) -> None:
    """Write weights (float32), config, generation config and tokenizer; the directory appears whole or not at all.

    Args:
        policy: the policy; its vocabulary size must be len(vocabulary).
        directory: replaced if it exists.
        vocabulary: one word per token; texts are words separated by blanks.
        pad: index of the padding token.
        eos: index of the end token.
    """
    directory = Path(directory)
    if len(vocabulary) != policy.config.vocab_size:
        raise ValueError(f"{directory}: the policy has {policy.config.vocab_size} tokens, not {len(vocabulary)}")
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(to_hugging_face(policy), temporary / "model.safetensors", metadata={"format": "pt"})
    _write_json(temporary / "config.json", _hugging_face_config(policy.config, pad, eos))
    _write_json(temporary / "generation_config.json", {"eos_token_id": eos, "pad_token_id": pad, "do_sample": True})
    _write_tokenizer(temporary, vocabulary, vocabulary[pad], vocabulary[eos], policy.config.max_positions)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


def load(directory: str | Path, device: str | torch.device = "cpu") -> Policy:
    """Read a policy from a Hugging Face directory.

    Raises:
        ValueError: the directory is missing or holds another architecture; the message names the file and the key.
    """
    directory = Path(directory)
    try:
        found = json.loads((directory / "config.json").read_text())
    except FileNotFoundError:
        raise ValueError(f"{directory}: no policy there (config.json is missing)") from None
    expected = {"model_type": "qwen3", "tie_word_embeddings": True, "hidden_act": "silu"}
    for key, value in expected.items():
        if found.get(key) != value:
            raise ValueError(f"{directory}/config.json: {key}: expected {value!r}, found {found.get(key)!r}")
    try:
        policy = Policy(_policy_config(found))
    except KeyError as error:
        raise ValueError(f"{directory}/config.json: the key {error} is missing") from None
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise ValueError(f"{weights}: no such file")
    try:
        policy.load_state_dict(_from_hugging_face(load_file(weights), policy.config))
    except KeyError as error:
        raise ValueError(f"{weights}: the weight {error} is missing") from None
    except RuntimeError as error:  # what torch raises for other shapes than the config's; it names the weights
        raise ValueError(f"{weights}: not of the shapes that config.json states: {error}") from None
    return policy.to(device)


def _policy_config(found: dict[str, Any]) -> PolicyConfig:
    rope = found.get("rope_parameters") or found
    return PolicyConfig(
        vocab_size=found["vocab_size"],
        hidden_size=found["hidden_size"],
        layers=found["num_hidden_layers"],
        heads=found["num_attention_heads"],
        kv_heads=found["num_key_value_heads"],
        head_dim=found["head_dim"],
        intermediate_size=found["intermediate_size"],
        rope_theta=rope["rope_theta"],
        max_positions=found["max_position_embeddings"],
    )


def to_hugging_face(policy: Policy) -> dict[str, Tensor]:
    """Weights under transformers' names and in its arrangement of query, key and rotary dimensions."""
    c = policy.config
    weights = {"model.embed_tokens.weight": policy.embedding, "model.norm.weight": policy.final_norm}
    for i, layer in enumerate(policy.blocks()):
        q, k, v = layer.qkv.unflatten(0, (-1, c.head_dim)).split((c.heads, c.kv_heads, c.kv_heads))
        block = {
            "input_layernorm": layer.input_norm,
            "self_attn.q_proj": _halves(q, 1).flatten(0, 1),
            "self_attn.k_proj": _halves(k, 1).flatten(0, 1),
            "self_attn.v_proj": v.flatten(0, 1),
            "self_attn.q_norm": _halves(layer.q_norm, 0),
            "self_attn.k_norm": _halves(layer.k_norm, 0),
            "self_attn.o_proj": layer.out,
            "post_attention_layernorm": layer.mlp_norm,
            "mlp.gate_proj": layer.gate,
            "mlp.up_proj": layer.up,
            "mlp.down_proj": layer.down,
        }
        weights |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in block.items()}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def _from_hugging_face(weights: dict[str, Tensor], config: PolicyConfig) -> dict[str, Tensor]:
    state = {"embedding": weights["model.embed_tokens.weight"], "final_norm": weights["model.norm.weight"]}
    for i in range(config.layers):
        block = {
            name.removeprefix(f"model.layers.{i}.").removesuffix(".weight"): tensor.float()
            for name, tensor in weights.items()
            if name.startswith(f"model.layers.{i}.")
        }
        q, k = (_pairs(block[f"self_attn.{n}_proj"].unflatten(0, (-1, config.head_dim)), 1).flatten(0, 1) for n in "qk")
        layer = {
            "input_norm": block["input_layernorm"],
            "qkv": torch.cat([q, k, block["self_attn.v_proj"]]),
            "q_norm": _pairs(block["self_attn.q_norm"], 0),
            "k_norm": _pairs(block["self_attn.k_norm"], 0),
            "out": block["self_attn.o_proj"],
            "mlp_norm": block["post_attention_layernorm"],
            "gate": block["mlp.gate_proj"],
            "up": block["mlp.up_proj"],
            "down": block["mlp.down_proj"],
        }
        state |= {f"layers.{i}.{name}": tensor for name, tensor in layer.items()}
    return state


def _halves(t: Tensor, dim: int) -> Tensor:
    """Rotary pairs from neighbours (2i, 2i+1) to half a head apart (i, i + d/2)."""
    return t.unflatten(dim, (-1, 2)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def _pairs(t: Tensor, dim: int) -> Tensor:
    """The inverse of :func:`_halves`."""
    return t.unflatten(dim, (2, -1)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def _hugging_face_config(c: PolicyConfig, pad: int, eos: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "intermediate_size": c.intermediate_size,
        "hidden_act": "silu",
        "rms_norm_eps": EPS,
        "rope_theta": c.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "max_position_embeddings": c.max_positions,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "dtype": "float32",
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }


def _write_tokenizer(directory: Path, vocabulary: list[str], pad: str, eos: str, longest: int) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=pad))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins words with blanks
    tokenizer.add_special_tokens([pad, eos])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "eos_token": eos,
        "unk_token": pad,
        "model_max_length": longest,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }
    _write_json(directory / "tokenizer_config.json", settings)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
