"""Total variation against what is known about it in closed form."""

import math
import threading
import warnings

import numpy as np
import pytest
import torch

from priors import TV, HuberTV
from priors.backends import tv_prox
from priors.base import Composed

SIZES = (0.7, 1.3, 0.4)

MAKERS = {
    "isotropic": lambda shape, weight, **kind: TV(shape, SIZES[: len(shape)], True, weight, **kind),
    "anisotropic": lambda shape, weight, **kind: TV(shape, SIZES[: len(shape)], False, weight, **kind),
    "huber": lambda shape, weight, **kind: HuberTV(shape, SIZES[: len(shape)], 0.5, weight, **kind),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 6), (7, 1), (17, 33), (150, 131), (4, 5, 6), (1, 7, 1), (20, 30, 40)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_fused_dual_step_and_divergence_are_the_plain_ones(kind, shape, dtype, tolerance):
    g = torch.Generator().manual_seed(0)
    for batch in ((), (3,), (2, 1), (0,)):
        p = torch.randn(*batch, len(shape), *shape, generator=g, dtype=dtype)
        x = torch.randn(*batch, *shape, generator=g, dtype=dtype)
        per_image = torch.rand(batch, generator=g, dtype=dtype) + 0.5
        for weight, sigma in ((0.8, 0.3), (per_image, 0.3), (0.8, per_image), (per_image, per_image)):
            _same_steps(MAKERS[kind](shape, weight), p, x, sigma, tolerance)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (17, 33), (150, 131), (4, 5, 6), (1, 7, 1)])
@pytest.mark.parametrize("boundary", ["neumann", "periodic", "zero"])
@pytest.mark.parametrize("joint", [True, False])
def test_fused_steps_of_complex_images_and_other_boundaries(kind, shape, boundary, joint):
    g = torch.Generator().manual_seed(0)
    f = MAKERS[kind](shape, 0.8, boundary=boundary, joint=joint)
    # complex128: sums of at most eight terms; complex64: the same in single precision
    for dtype, tolerance in ((torch.complex64, 2e-6), (torch.complex128, 1e-13), (torch.float64, 1e-13)):
        p = torch.randn(2, len(shape), *shape, generator=g, dtype=dtype)
        x = torch.randn(2, *shape, generator=g, dtype=dtype)
        _same_steps(f, p, x, torch.tensor([0.3, 0.9], dtype=p.real.dtype), tolerance)


def _same_steps(f, p, x, sigma, tolerance):
    fused, plain = f.dual_step(p, x, sigma), Composed.dual_step(f, p, x, sigma)
    assert fused.shape == p.shape and fused.dtype == p.dtype
    torch.testing.assert_close(fused, plain, rtol=tolerance, atol=tolerance)
    back, n = f.A.adjoint(p), len(f.shape)
    plain = super(type(f.A), f.A)._adjoint(p.reshape(-1, n, *f.shape)).reshape(x.shape)
    torch.testing.assert_close(back, plain, rtol=10 * tolerance, atol=10 * tolerance)


KINDS = [
    {},
    {"boundary": "zero"},
    {"boundary": "periodic"},
    {"joint": False},
    {"boundary": "periodic", "joint": False},
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(12, 9), (1, 6), (7, 1), (1, 1), (37, 10)])
@pytest.mark.parametrize("kind", KINDS)
def test_prox_is_the_same_with_and_without_kernels(dtype, shape, kind):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    weight = torch.tensor([0.4, 0.1, 2.0], dtype=torch.float64)
    for f in (TV(shape, (0.7, 1.1), **kind), HuberTV(shape, (0.7, 1.1), 0.3, weight, **kind)):
        # few enough that no gap is down to rounding, where either form may stop before the other
        for iterations in (1, 7, 18):
            options = {"iterations": iterations, "tolerance": 0.0}
            plain = f.prox(x.clone().requires_grad_(), 0.4, **options).detach()
            # eighteen steps with momentum, restarts at the same places
            torch.testing.assert_close(f.prox(x, 0.4, **options), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_prox_in_single_precision(dtype, kind):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 37, 10, generator=g, dtype=dtype)
    f, options = TV((37, 10), **kind), {"iterations": 12, "tolerance": 0.0}
    plain = f.prox(x.clone().requires_grad_(), 0.4, **options).detach()
    fused = f.prox(x, 0.4, **options)
    assert fused.dtype == dtype
    # twelve steps, each with rounding of a few units in the seventh digit of numbers up to four
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_one_image_make_the_same_prox(dtype, kind, monkeypatch):
    """Three images on two threads are cut into blocks, that see of each other only their halos."""
    x = torch.randn(3, 150, 61, generator=torch.Generator().manual_seed(0), dtype=dtype)
    f, options, cut = TV((150, 61), **kind), {"iterations": 23, "tolerance": 0.0}, []
    halos = tv_prox._halos
    monkeypatch.setattr(
        tv_prox, "_halos", lambda b, blocks, *rest: cut.append(blocks) or halos(b, blocks, *rest)
    )
    monkeypatch.setattr(tv_prox, "available", lambda: 1)
    whole = f.prox(x, 0.4, **options)
    assert not cut
    monkeypatch.setattr(tv_prox, "available", lambda: 2)
    torch.testing.assert_close(f.prox(x, 0.4, **options), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(f.prox(x[1], 0.4, **options), whole[1], rtol=0, atol=1e-12)
    assert set(cut) == {8}


def test_fused_prox_leaves_its_input_and_takes_views():
    x = torch.randn(9, 12, 2, dtype=torch.float64).movedim(-1, 0).transpose(1, 2)
    before, f = x.clone(), TV((12, 9))
    z = f.prox(x, 0.4)
    assert torch.equal(x, before) and torch.equal(z, f.prox(before, 0.4))
    conjugate = torch.randn(12, 9, dtype=torch.complex128).conj()
    assert torch.equal(f.prox(conjugate, 0.4), f.prox(conjugate.resolve_conj(), 0.4))
    assert f.prox(x[:0], 0.4).shape == (0, 12, 9)


@pytest.mark.parametrize("shape", [(12, 9), (6, 5, 4)])
def test_is_the_total_variation_of_sigpy(shape):
    """Anisotropic, periodic, modulus: ‖D x‖₁ with its own D."""
    sigpy = _quietly("sigpy")
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    expected = np.abs(sigpy.linop.FiniteDifference(shape)(x.numpy())).sum()
    assert float(TV(shape, isotropic=False, boundary="periodic")(x)) == pytest.approx(expected, rel=1e-13)


def test_is_the_total_variation_of_mrpro():
    """Anisotropic, zeros outside, real and imaginary part by themselves, as in its TV reconstruction."""
    mrpro = _quietly("mrpro.operators")
    x = torch.randn(12, 9, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    (slopes,) = mrpro.FiniteDifferenceOp(dim=(-2, -1), mode="forward")(x)
    (expected,) = mrpro.functionals.L1NormViewAsReal()(slopes)
    f = TV((12, 9), isotropic=False, boundary="zero", joint=False)
    assert float(f(x)) == pytest.approx(float(expected.sum()), rel=1e-12)


def test_is_the_total_variation_of_deepinv():
    """Isotropic, Neumann, real and imaginary part as channels: the value and the denoised image."""
    optim = _quietly("deepinv.optim")
    models = _quietly("deepinv.models")
    x = torch.randn(12, 9, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    channels = torch.view_as_real(x).movedim(-1, 0)[None]
    f = TV((12, 9), joint=False)
    assert float(f(x)) == pytest.approx(float(optim.TVPrior()(channels).sum()), rel=1e-12)
    theirs = models.TVDenoiser(n_it_max=20000, crit=1e-9)(channels, ths=0.4)[0]
    ours = torch.view_as_real(f.prox(x, 0.4, tolerance=1e-7)).movedim(-1, 0)
    # it stops when an iteration changes the image by 1e-9, far from where it would end
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def _quietly(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def test_dual_step_takes_views_and_lets_gradients_through():
    f = TV((5, 4))
    p, x = torch.randn(5, 4, 2).movedim(-1, 0), torch.randn(4, 5).T
    plain = Composed.dual_step(f, p, x, 0.3)
    torch.testing.assert_close(f.dual_step(p, x, 0.3), plain)
    z = x.clone().requires_grad_()
    f.dual_step(p, z, 0.3).sum().backward()
    assert z.grad is not None and bool((z.grad != 0).any())


def test_three_threads_share_the_kernels():
    f, x = TV((150, 131)), torch.randn(150, 131)
    p = f.A(x)
    wanted, results = f.dual_step(p, x, 0.3), {}

    def work(k):
        for _ in range(20):
            results[k] = f.dual_step(p, x, 0.3)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 3 and all(torch.equal(r, wanted) for r in results.values())


@pytest.mark.parametrize("finer", [1, 2, 5])
def test_square_costs_its_perimeter_at_every_pixel_size(finer):
    h, contrast, sides = 0.75, 0.4, (6, 3)
    x = torch.zeros(12 * finer, 9 * finer, dtype=torch.float64)
    x[3 * finer : (3 + sides[0]) * finer, 2 * finer : (2 + sides[1]) * finer] = contrast
    perimeter = 2 * sum(sides) * h
    value = TV(x.shape, h / finer, isotropic=False)(x)
    assert float(value) == pytest.approx(contrast * perimeter, rel=1e-13)
    # of the four corners forward differences see one, and cut it
    cut = (2 - math.sqrt(2)) * h / finer
    assert float(TV(x.shape, h / finer)(x)) == pytest.approx(contrast * (perimeter - cut), rel=1e-13)


def test_ramp_costs_slope_times_area():
    h, slope = 0.5, 3.0
    x = slope * h * torch.arange(10, dtype=torch.float64).expand(8, 10)
    area = 8 * 9 * h * h  # the last column has no neighbour
    assert float(TV((8, 10), h)(x)) == pytest.approx(slope * area, rel=1e-13)
    delta = 2.0
    assert float(HuberTV((8, 10), h, delta)(x)) == pytest.approx((slope - delta / 2) * area, rel=1e-13)
    delta = 4.0
    assert float(HuberTV((8, 10), h, delta)(x)) == pytest.approx(slope**2 / (2 * delta) * area, rel=1e-13)


def test_huber_approaches_tv_from_below():
    x, h = torch.randn(9, 7, dtype=torch.float64), 0.3
    for delta in (1.0, 0.1, 0.01):
        difference = float(TV((9, 7), h)(x) - HuberTV((9, 7), h, delta)(x))
        assert 0 <= difference <= delta / 2 * x.numel() * h * h


def test_phase_of_a_complex_image_does_not_matter():
    x = torch.randn(6, 5, dtype=torch.complex128)
    f = TV((6, 5), 0.4)
    turned = np.exp(0.7j) * x
    assert float(f(turned)) == pytest.approx(float(f(x)), rel=1e-13)
    torch.testing.assert_close(
        f.prox(turned, 0.3, tolerance=1e-7), np.exp(0.7j) * f.prox(x, 0.3, tolerance=1e-7)
    )


def test_multiples_stay_fused():
    f = 3 * (2 * TV((4, 4), 0.5, isotropic=False))
    assert isinstance(f, TV) and f.weight == 6 and not f.isotropic
    assert "isotropic=False, boundary='neumann', joint=True" in repr(f)
    g = 2 * TV((4, 4), boundary="zero", joint=False)
    assert (g.boundary, g.joint) == ("zero", False) and "boundary='zero', joint=False" in repr(g)
    assert isinstance(0.5 * HuberTV((4, 4)), HuberTV)


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("across", [True, False])
def test_denoised_step_is_exact(isotropic, across):
    """Two halves of m pixels, one apart: λ moves each by λ/m towards the other."""
    m, h, step = 6, 0.5, 1.5
    x = torch.cat([torch.zeros(m), torch.ones(m)]).double()
    shape = (1, 2 * m) if across else (2 * m, 1)
    z = TV(shape, h, isotropic).prox(x.reshape(shape), step, tolerance=1e-9).flatten()
    loss = step * h / m
    torch.testing.assert_close(z, x + loss * (1 - 2 * x), rtol=0, atol=1e-8)


def test_strong_denoising_leaves_the_mean():
    x = torch.randn(3, 8, 6, dtype=torch.float64)
    z = TV((8, 6)).prox(x, 100.0, tolerance=1e-8)
    torch.testing.assert_close(z, x.mean((-2, -1), keepdim=True).expand_as(x), rtol=0, atol=1e-7)


def test_disc_loses_the_contrast_theory_says():
    """ROF of a disc lowers it by 2λ/r and lifts the rest, area B, by 2πrλ/B (Strong and Chan 2003).

    1.5 %: the theory is of the plane; forward differences do not see all directions alike, and the rim is one
    pixel wide (measured 0.7 % inside, 1.1 % outside, for a radius of 25 pixels).
    """
    n, h, r, step = 96, 0.5, 12.5, 2.0
    fine = (torch.arange(8 * n, dtype=torch.float64) + 0.5) * h / 8 - n * h / 2
    disc = ((fine[:, None] ** 2 + fine**2) < r * r).double()
    disc = disc.reshape(n, 8, n, 8).mean((1, 3))
    z = TV((n, n), h).prox(disc, step, tolerance=1e-4)
    weight = step * h * h  # ½ ∫ (z − x)² + weight ∫ |∇z|, both in mm
    loss, gain = 2 * weight / r, 2 * math.pi * r * weight / ((n * h) ** 2 - math.pi * r * r)
    assert 1 - float(z[n // 2, n // 2]) == pytest.approx(loss, rel=0.015)
    assert float(z[2, 2]) == pytest.approx(gain, rel=0.015)


@pytest.mark.parametrize(
    "f",
    [
        TV((20, 24), 0.8),
        TV((20, 24), isotropic=False),
        TV((20, 24), boundary="periodic"),
        HuberTV((20, 24), delta=0.1),
    ],
)
def test_prox_keeps_its_promise_of_accuracy(f):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20, 24, generator=g, dtype=torch.float64).cumsum(0)
    exact = f.prox(x, 1.0, iterations=100_000, tolerance=1e-6)
    for tolerance in (0.1, 1e-2, 1e-3):
        error = torch.linalg.vector_norm(f.prox(x, 1.0, tolerance=tolerance) - exact)
        assert error <= (tolerance + 1e-6) * torch.linalg.vector_norm(x - x.mean())


def test_prox_of_an_image_is_the_same_alone_and_in_a_batch():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 16, generator=g, dtype=torch.float64)
    x = x * torch.tensor([1.0, 100.0, 0.01, 5.0])[:, None, None]
    steps = torch.tensor([1.0, 0.1, 2.0, 20.0], dtype=torch.float64)
    f = TV((16, 16))
    together = f.prox(x, steps)
    for k in range(4):
        torch.testing.assert_close(together[k], f.prox(x[k], float(steps[k])), rtol=1e-12, atol=1e-14)


def test_prox_is_differentiable():
    f = TV((4, 5))
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: f.prox(x, 0.3, iterations=15, tolerance=0.0), x)


def test_tv_says_that_it_has_no_gradient():
    with pytest.raises(NotImplementedError, match="HuberTV"):
        TV((4, 4)).grad(torch.zeros(4, 4))


@pytest.mark.parametrize("make", [TV, HuberTV])
@pytest.mark.parametrize("pixel_size", [0.0, -1.0, math.nan, math.inf])
def test_pixel_size_is_a_length(make, pixel_size):
    with pytest.raises(ValueError, match="pixel_size"):
        make((4, 4), pixel_size)


def test_a_periodic_image_has_the_same_tv_wherever_it_begins():
    x = torch.randn(6, 5, dtype=torch.complex128)
    f = TV((6, 5), 0.4, boundary="periodic")
    assert float(f(x.roll((2, 3), (0, 1)))) == pytest.approx(float(f(x)), rel=1e-13)


def test_zeros_outside_are_an_edge():
    f = TV((6, 5), 0.5, boundary="zero", isotropic=False)
    assert float(f(torch.ones(6, 5))) == pytest.approx((6 + 5) * 0.5)  # the far edges only
    z = f.prox(torch.full((2, 6, 5), 3.0, dtype=torch.float64), 100.0, tolerance=1e-8)
    assert float(z.abs().max()) < 1e-6  # without a mean to keep


def test_unknown_boundary():
    with pytest.raises(ValueError, match="boundary: expected one of 'neumann', 'periodic', 'zero'"):
        TV((4, 4), boundary="mirror")
