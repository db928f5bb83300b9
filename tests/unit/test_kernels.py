"""Hand-written gradients against autograd, and values against the plain formulas; float64, so that errors show."""

import pytest
import torch
import torch.nn.functional as F

from asymgrpo.policy.kernels import EPS, rms_norm, rms_norm_rotate, swiglu


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def angles(*shape):
    theta = torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)) * 6.3
    return torch.polar(torch.ones_like(theta), theta)


def plain_norm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight


def plain_norm_rotate(x, weight, cis):
    """Dimensions 2i and 2i + 1 turned by the angle of cis[i], with a sine and a cosine."""
    normal, (cos, sin) = plain_norm(x, weight), (cis.real, cis.imag)
    even, odd = normal[..., 0::2], normal[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def plain_swiglu(gate, up):
    return gate * torch.sigmoid(gate) * up


CASES = {
    "norm": (rms_norm, plain_norm, lambda: (random(5, 8), random(8, seed=1))),
    "norm, heads": (rms_norm, plain_norm, lambda: (random(5, 3, 8), random(3, 8, seed=1))),
    "rotate": (
        rms_norm_rotate,
        plain_norm_rotate,
        lambda: (random(4, 3, 8), random(3, 8, seed=1), angles(4, 1, 4)),
    ),
    "rotate, one position": (
        rms_norm_rotate,
        plain_norm_rotate,
        lambda: (random(4, 3, 8), random(3, 8, seed=1), angles(1, 4)),
    ),
    "swiglu": (swiglu, plain_swiglu, lambda: (random(5, 6), random(5, 6, seed=1))),
}


@pytest.mark.parametrize(("kernel", "plain", "arguments"), CASES.values(), ids=CASES)
def test_values_are_those_of_the_plain_formula(kernel, plain, arguments):
    torch.testing.assert_close(kernel(*arguments()), plain(*arguments()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "plain", "arguments"), CASES.values(), ids=CASES)
def test_gradients_are_right(kernel, plain, arguments):
    assert torch.autograd.gradcheck(kernel, arguments(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kernel", "plain", "arguments"), CASES.values(), ids=CASES)
def test_gradients_are_those_of_the_plain_formula(kernel, plain, arguments):
    """Also where gradcheck cannot look: an upstream gradient that is no view, used twice, in float32."""
    results = []
    for function in (kernel, plain):
        leaves = [a.detach().to(torch.complex64 if a.is_complex() else torch.float32) for a in arguments()]
        leaves = [a if a.is_complex() else a.requires_grad_() for a in leaves]
        out = function(*leaves)
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        kept = upstream.clone()
        out.backward(upstream, retain_graph=True)
        out.backward(upstream)  # the saved tensors must have survived the first pass
        assert torch.equal(upstream, kept)
        results.append([a.grad for a in leaves if not a.is_complex()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_arguments_are_not_changed():
    for kernel, _, arguments in CASES.values():
        given = arguments()
        copies = [a.detach().clone() for a in given]
        kernel(*given).sum().backward()
        assert all(torch.equal(a.detach(), b) for a, b in zip(given, copies, strict=True))


def test_the_norm_of_a_tiny_vector_is_bounded_by_epsilon():
    x = torch.full((1, 4), 1e-9, dtype=torch.float64)
    torch.testing.assert_close(rms_norm(x, torch.ones(4).double()), x / EPS**0.5, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        rms_norm(x.float(), torch.ones(4)), F.rms_norm(x.float(), (4,), eps=EPS), rtol=1e-5, atol=0
    )
