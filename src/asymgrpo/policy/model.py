"""The small policy: Qwen3's architecture, arranged for groups of short rollouts that share a prompt.

The same function as ``transformers.Qwen3ForCausalLM`` on the same weights: a test compares logits and greedy answers.
Where it is arranged differently, and why:

- query, key and value are one matrix: fewer, larger products;
- a group's prompt passes through the network once, and its keys and values serve all G rollouts, when sampling *and*
  when updating: at 6 prompt and 13 response tokens this saves three tenths of the work;
- the last response token is never an input, since nothing is predicted after it;
- when decoding, a group's G queries meet all of the group's keys in one product and a mask keeps the rollouts apart:
  more multiplications than needed, but one large product where there would be G matrix-vector ones;
- the two dimensions that a rotary angle turns are neighbours (Hugging Face keeps them half a head apart), so that the
  rotation is one complex product; :mod:`asymgrpo.policy.checkpoint` converts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asymgrpo.policy.kernels import rms_norm, rms_norm_rotate, swiglu


@dataclass(frozen=True)
class PolicyConfig:
    """Shape of a Qwen3 policy with tied embeddings."""

    vocab_size: int
    hidden_size: int
    """Width of the residual stream."""
    layers: int
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; divides `heads`."""
    head_dim: int
    """At least 32, or vLLM refuses the policy on a CPU."""
    intermediate_size: int
    """Width of the gated MLP."""
    rope_theta: float = 10_000.0
    max_positions: int = 64

    def __post_init__(self) -> None:
        """Reject shapes that would fail later with a message about tensors."""
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary embeddings, found {self.head_dim}")


class Layer(nn.Module):
    """Weights of one decoder layer, fused as the module's docstring says."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        c = config
        self.input_norm = nn.Parameter(torch.ones(c.hidden_size))
        self.qkv = nn.Parameter(torch.empty((c.heads + 2 * c.kv_heads) * c.head_dim, c.hidden_size))
        self.q_norm = nn.Parameter(torch.ones(c.head_dim))
        self.k_norm = nn.Parameter(torch.ones(c.head_dim))
        self.out = nn.Parameter(torch.empty(c.hidden_size, c.heads * c.head_dim))
        self.mlp_norm = nn.Parameter(torch.ones(c.hidden_size))
        self.gate = nn.Parameter(torch.empty(c.intermediate_size, c.hidden_size))
        self.up = nn.Parameter(torch.empty(c.intermediate_size, c.hidden_size))
        self.down = nn.Parameter(torch.empty(c.hidden_size, c.intermediate_size))


class Cache:
    """Keys and values of one layer while decoding: first the prompt's L positions, then G for each decoded token.

    `key` and `value` are (P, heads, L + T * G, d); after t decoded tokens the first L + t * G positions are filled.
    """

    def __init__(self, key: Tensor, value: Tensor, size: int, steps: int) -> None:
        groups, heads, self.filled, dim = key.shape
        self.key = key.new_empty(groups, heads, self.filled + steps * size, dim)
        self.value = torch.empty_like(self.key)
        self.key[:, :, : self.filled], self.value[:, :, : self.filled] = key, value

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add one token's keys and values (P, heads, G, d) for each rollout; return all filled ones."""
        end = self.filled + key.shape[2]
        self.key[:, :, self.filled : end], self.value[:, :, self.filled : end] = key, value
        self.filled = end
        return self.key[:, :, :end], self.value[:, :, :end]

    def keep(self, groups: Tensor) -> None:
        """Forget all but these groups (1-D index)."""
        self.key, self.value = self.key[groups], self.value[groups]


class Policy(nn.Module):
    """A Qwen3 causal language model. Tokens are int64, logits float32 over the whole vocabulary."""

    cis: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.final_norm = nn.Parameter(torch.ones(config.hidden_size))
        frequencies = config.rope_theta ** -(torch.arange(0, config.head_dim, 2) / config.head_dim)
        angles = torch.arange(config.max_positions)[:, None] * frequencies
        self.register_buffer("cis", torch.polar(torch.ones_like(angles), angles)[:, None], persistent=False)

    def blocks(self) -> list[Layer]:
        """The decoder layers, first to last."""
        return cast("list[Layer]", list(self.layers))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weight matrices from N(0, 0.02^2), those that write to the residual stream / sqrt(2 * layers)."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() == 2:
                    residual = name.endswith(("out", "down"))
                    std = 0.02 * (2 * self.config.layers) ** -0.5 if residual else 0.02
                    parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, L, vocab) at every position of the sequences (B, L): the plain causal pass."""
        x, _ = self._prompt_pass(tokens)
        return self._logits(x).view(*tokens.shape, -1)

    def group_logits(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """Logits that predict each response token, for groups that share a prompt.

        Args:
            prompts: (P, L) int64.
            responses: (P, G, T) int64; the last of the T tokens is predicted, but is no input.

        Returns:
            (P, G, T, vocab) float32.
        """
        (groups, length), (_, size, steps) = prompts.shape, responses.shape
        own = steps - 1
        if own == 0:
            x, _ = self._prompt_pass(prompts)
            first = self._logits(x.view(groups, length, -1)[:, -1])
            return first[:, None, None].expand(-1, size, -1, -1)
        device, parts = prompts.device, (groups * length, groups * size * own)
        x = F.embedding(torch.cat([prompts.reshape(-1), responses[:, :, :-1].reshape(-1)]), self.embedding)
        cis = torch.cat(
            [
                self.cis[:length].repeat(groups, 1, 1),
                self.cis[length : length + own].repeat(groups * size, 1, 1),
            ]
        )
        causal_prompt = _causal(length, device)
        # a rollout's query sees the whole prompt and its own tokens up to itself
        causal = torch.cat([torch.zeros(own, length, device=device), _causal(own, device)], -1)
        for layer in self.blocks():
            q, k, v = (
                [part.unflatten(0, (groups, -1)) for part in t.split(parts)] for t in self._project(layer, x, cis)
            )
            # -> (P, heads, L, d) and (P, heads, G, T - 1, d)
            qp, kp, vp = (t[0].transpose(1, 2) for t in (q, k, v))
            qr, kr, vr = (t[1].unflatten(1, (size, own)).permute(0, 3, 1, 2, 4) for t in (q, k, v))
            keys = torch.cat([kp[:, :, None].expand(-1, -1, size, -1, -1), kr], 3)
            values = torch.cat([vp[:, :, None].expand(-1, -1, size, -1, -1), vr], 3)
            from_prompt = _attend(qp, kp, vp, causal_prompt).transpose(1, 2)
            from_own = _attend(qr, keys, values, causal).permute(0, 2, 3, 1, 4)
            mixed = torch.cat([from_prompt.reshape(parts[0], -1), from_own.reshape(parts[1], -1)])
            x = self._finish_layer(layer, x, mixed)
        prompt_x, own_x = x.split(parts)
        last = prompt_x.view(groups, length, -1)[:, -1]
        x = torch.cat([last[:, None, None].expand(-1, size, -1, -1), own_x.view(groups, size, own, -1)], 2)
        return self._logits(x)

    def prefill(self, prompts: Tensor, size: int, steps: int) -> tuple[Tensor, list[Cache]]:
        """Logits (P, vocab) after the prompts (P, L), and caches with room for `size` rollouts of `steps` tokens."""
        x, keys = self._prompt_pass(prompts)
        return self._logits(x.view(*prompts.shape, -1)[:, -1]), [Cache(k, v, size, steps) for k, v in keys]

    def decode(self, tokens: Tensor, caches: list[Cache], position: int, bias: Tensor) -> Tensor:
        """Logits (P, G, vocab) after one more token (P, G) of each rollout, which has this position.

        `bias` is :func:`decode_bias` for the group size and at least this many positions.
        """
        groups, size = tokens.shape
        x = F.embedding(tokens.reshape(-1), self.embedding)
        for layer, cache in zip(self.blocks(), caches, strict=True):
            q, k, v = (_heads(t, groups, size) for t in self._project(layer, x, self.cis[position]))
            keys, values = cache.append(k, v)
            mixed = _attend(q, keys, values, bias[:, : cache.filled]).transpose(1, 2).reshape(groups * size, -1)
            x = self._finish_layer(layer, x, mixed)
        return self._logits(x).view(groups, size, -1)

    # -- parts of the passes ------------------------------------------------------------------------------------------

    def _prompt_pass(self, tokens: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        batch, length = tokens.shape
        x = F.embedding(tokens.reshape(-1), self.embedding)
        cis, causal, cached = self.cis[:length].repeat(batch, 1, 1), _causal(length, tokens.device), []
        for layer in self.blocks():
            q, k, v = (_heads(t, batch, length) for t in self._project(layer, x, cis))
            cached.append((k, v))
            x = self._finish_layer(layer, x, _attend(q, k, v, causal).transpose(1, 2).reshape(batch * length, -1))
        return x, cached

    def _project(self, layer: Layer, x: Tensor, cis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, already scaled by 1/sqrt(d), keys and values, each (N, heads, d), rotated where they should be."""
        c = self.config
        joint = F.linear(rms_norm(x, layer.input_norm), layer.qkv).view(len(x), -1, c.head_dim)
        qk, v = joint.split((c.heads + c.kv_heads, c.kv_heads), 1)
        weight = torch.cat([(layer.q_norm * c.head_dim**-0.5).expand(c.heads, -1), layer.k_norm.expand(c.kv_heads, -1)])
        q, k = rms_norm_rotate(qk, weight, cis).split((c.heads, c.kv_heads), 1)
        times = c.heads // c.kv_heads
        return (q, k, v) if times == 1 else (q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1))

    def _finish_layer(self, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + F.linear(mixed, layer.out)
        normal = rms_norm(x, layer.mlp_norm)
        return x + F.linear(swiglu(F.linear(normal, layer.gate), F.linear(normal, layer.up)), layer.down)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(rms_norm(x, self.final_norm), self.embedding)


def decode_bias(size: int, length: int, steps: int, device: torch.device) -> Tensor:
    """Additive mask (G, L + T * G) for decoding: rollout g sees the prompt and the positions of rollout g."""
    apart = torch.full((size, size), float("-inf"), device=device).fill_diagonal_(0.0)
    return torch.cat([torch.zeros(size, length, device=device), apart.repeat(1, steps)], -1)


def _heads(t: Tensor, batch: int, length: int) -> Tensor:
    """(batch * length, heads, d) -> (batch, heads, length, d)."""
    return t.unflatten(0, (batch, length)).transpose(1, 2)


def _causal(length: int, device: torch.device) -> Tensor:
    return torch.full((length, length), float("-inf"), device=device).triu_(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) + bias, -1) @ v
