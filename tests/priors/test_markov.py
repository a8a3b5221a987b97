"""Markov random fields: closed forms, limits, surrogates, and a meaning that no pixel size changes."""

import math

import pytest
import torch

from operators import Gradient
from priors import QGGMRF, FairMRF, Huber, HuberMRF, QuadraticMRF

ALL = [QuadraticMRF, HuberMRF, FairMRF, QGGMRF]


def image(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("Prior", ALL)
def test_one_pair_is_its_potential(Prior):
    f, t = Prior((1, 2), 0.5, 0.3), 0.7
    x = torch.tensor([[0.0, 0.5 * t]], dtype=torch.float64)
    r = t / 0.3
    wanted = {
        QuadraticMRF: t * t / 0.6,
        HuberMRF: t - 0.15,
        FairMRF: t - 0.3 * math.log(1 + r),
        QGGMRF: 0.15 * r**2 / (1 + r**0.8),
    }[Prior]
    # 2 dimensions over 4 directions, a pixel of 0.25 mm²
    torch.testing.assert_close(float(f(x)), 0.5 * 0.25 * wanted, rtol=1e-12, atol=0)


def test_four_neighbours_and_huber_are_the_composed_functional():
    x = image(6, 7)
    f = HuberMRF((6, 7), 0.5, 0.4, diagonals=False)
    g = 0.25 * Huber(0.4, ndim=3) @ Gradient((6, 7), spacing=0.5)
    torch.testing.assert_close(f(x), g(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(f.grad(x), g.grad(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_brute_force_over_all_pairs(shape):
    """Every unordered pair of neighbours once, at its distance."""
    h = (0.5, 0.7, 0.9)[-len(shape) :]
    x, f = image(*shape), QGGMRF(shape, h, 0.4, 1.3)
    places = torch.cartesian_prod(*(torch.arange(n) for n in shape))
    total, directions = 0.0, 4 if len(shape) == 2 else 13
    for a in range(len(places)):
        for b in range(a):
            step = places[a] - places[b]
            if int(step.abs().max()) == 1:
                r = abs(float(x[tuple(places[a])] - x[tuple(places[b])]))
                r /= math.hypot(*(int(s) * d for s, d in zip(step, h, strict=True))) * 0.4
                total += 0.2 * r**2 / (1 + r**0.7)
    wanted = len(shape) / directions * math.prod(h) * total
    torch.testing.assert_close(float(f(x)), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "ndim"), [(200, 2), (40, 3)])
def test_smooth_images_cost_the_integral_of_the_squared_gradient(n, ndim):
    """A linear slope g has |g|²/(2δ) a unit of volume whatever its direction; the border lacks O(1/n)."""
    g = torch.tensor([0.3, -0.5, 0.2][:ndim], dtype=torch.float64)
    h = 2.0 / n
    grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) * h for _ in range(ndim)), indexing="ij")
    x = sum(a * b for a, b in zip(g, grid, strict=True))
    value = float(QuadraticMRF((n,) * ndim, h, 0.7)(x)) / 2.0**ndim
    # pairs along an offset of k ones are a share (1 − 1/n)^k of the pixels
    torch.testing.assert_close(value, float(g @ g) / 1.4, rtol=ndim / n, atol=0)


@pytest.mark.parametrize("Prior", [HuberMRF, FairMRF])
def test_edges_cost_their_length_at_every_pixel_size(Prior):
    """A step of 1 over the middle of 16 mm, far above δ: the same at every pixel size."""
    values = []
    for n in (64, 128):
        x = torch.zeros(n, n, dtype=torch.float64)
        x[:, n // 2 :] = 1.0
        values.append(float(Prior((n, n), 16.0 / n, 1e-6)(x)))
    # diagonal pairs miss one row of n, and Fair lacks δ ln of a slope over δ, 1e-6 · 17 a mm of 1
    torch.testing.assert_close(values[1], values[0], rtol=1 / 64, atol=0)


@pytest.mark.parametrize("f", [f for Prior in ALL for f, _ in Prior.examples()], ids=repr)
def test_the_surrogate_lies_above_and_touches(f):
    f = f.double()
    for k in range(20):
        x, v = image(*f.shape, seed=k), image(*f.shape, seed=100 + k) * 10.0 ** (k % 4 - 2)
        D = f.curvatures(x)
        above = f(x) + (f.grad(x) * v).sum() + 0.5 * (D * v * v).sum()
        assert f(x + v) <= above + 1e-12 * above.abs()
        assert D.max() <= f.lipschitz * (1 + 1e-12)


def test_limits_of_q():
    x = image(6, 7)
    # q = 2 halves the parabola: r²/2 / (1 + 1)
    torch.testing.assert_close(2 * QGGMRF((6, 7), c=0.3, q=2.0)(x), QuadraticMRF((6, 7), delta=0.3)(x))
    # q = 1, far above c: half the modulus less c/2 of every pair, O(c/t) remains
    sharp, modulus = QGGMRF((6, 7), c=1e-9, q=1.0)(x), HuberMRF((6, 7), delta=1e-9)(x)
    torch.testing.assert_close(2 * sharp, modulus, rtol=1e-6, atol=0)


@pytest.mark.parametrize("Prior", ALL)
def test_flat_images_have_no_slope(Prior):
    x = torch.full((4, 5), 0.7, dtype=torch.float64, requires_grad=True)
    f = Prior((4, 5))
    (slope,) = torch.autograd.grad(f(x), x)
    assert torch.equal(slope, torch.zeros(4, 5, dtype=torch.float64))
    assert torch.equal(f.grad(x.detach()), slope)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: QGGMRF((4, 4), q=0.8), "q: expected a number in"),
        (lambda: HuberMRF((4, 4), delta=0.0), "delta: expected a positive"),
        (lambda: HuberMRF((4, 4), (1.0, 2.0, 3.0)), "pixel_size: expected"),
        (lambda: FairMRF((4, 4))(torch.zeros(3, 4)), "expects images"),
        (lambda: FairMRF((4, 4))(torch.zeros(4, 4, dtype=torch.complex64)), "expects a real image"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
