"""The three elementwise pieces of a Qwen3 layer with hand-written gradients.

On a CPU these cost as much as the matrix products when autograd chains them op by op; written out they touch memory
about half as often. Each is checked against autograd on the plain formula (``torch.autograd.gradcheck`` in the tests).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
"""Qwen3's rms_norm_eps."""


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x / rms(x) * weight over the last dimension; x (..., d), weight broadcastable to x's last dimensions."""
    return _RMSNorm.apply(x, weight)


def rms_norm_rotate(x: Tensor, weight: Tensor, cis: Tensor) -> Tensor:
    """Rotary embedding of :func:`rms_norm`: x (N, heads, d), weight (heads, d), cis (N or 1, 1, d/2) complex.

    Dimensions 2i and 2i+1 are the real and imaginary part that cis[i] turns.
    """
    return _RMSNormRotate.apply(x, weight, cis)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, elementwise."""
    return _SwiGLU.apply(gate, up)


def _normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
    return x * scale, scale


def _normalise_backward(gradient: Tensor, normal: Tensor, scale: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    product = gradient * normal
    weight_gradient = product.sum_to_size(weight.shape)
    mean = product.mul_(weight).mean(-1, keepdim=True)
    return torch.addcmul(gradient * weight, normal, mean, value=-1).mul_(scale), weight_gradient


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        normal, scale = _normalise(x)
        ctx.save_for_backward(normal, scale, weight)
        return normal * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return _normalise_backward(gradient, *ctx.saved_tensors)


class _RMSNormRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cis: Tensor) -> Tensor:
        normal, scale = _normalise(x)
        ctx.save_for_backward(normal, scale, weight, cis)
        return _rotate(normal * weight, cis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normal, scale, weight, cis = ctx.saved_tensors
        return *_normalise_backward(_rotate(gradient, cis.conj()), normal, scale, weight), None


def _rotate(x: Tensor, cis: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * cis).flatten(-2)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        to_up = F.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(gradient * up, gate), to_up
