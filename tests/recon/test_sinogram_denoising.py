"""Projections denoised by their variance: closed forms, statistics, and Stein's choice of the strength."""

import math

import pytest
import torch

from operators import Gaussian, Gradient, LowDose, ParallelBeam, XRay, fbp
from priors import TV
from recon import FBP, Problem, SinogramDenoisedFBP
from recon.data import shepp_logan
from recon.sinogram_denoising import (
    SMOOTHERS,
    anscombe,
    half_ramp,
    inverse_anscombe,
    smooth_bilateral,
    smooth_pwls,
    smooth_tv,
)

VIEWS = 40
GEOMETRY = ParallelBeam((32, 32), 6.0, [math.pi * (k + 0.5) / VIEWS for k in range(VIEWS)], 47, 6.0)
KINDS = [(smoother, domain) for smoother in SMOOTHERS for domain in ("log", "anscombe")]


@pytest.fixture(scope="module")
def scan():
    A = XRay(GEOMETRY, "sparse")
    x = torch.stack([shepp_logan((32, 32), scale=0.02), 0.5 * shepp_logan((32, 32), scale=0.02).mT])
    noise = LowDose(i0=1500.0, electronic_sigma=3.0)
    return Problem(A, noise(A(x), seed=0), noise), x


def random_data(n=(6, 7)):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, *n, generator=generator, dtype=torch.float64)
    variance = torch.rand(2, *n, generator=generator, dtype=torch.float64) ** 3 + 0.01
    return data, variance, torch.tensor([0.7, 5.0], dtype=torch.float64)


@pytest.mark.parametrize("n", [(6, 7), (3, 4, 5)])
def test_pwls_is_the_closed_form(n):
    data, variance, beta = random_data(n)
    size = math.prod(n)
    L = Gradient(n)(torch.eye(size, dtype=torch.float64).reshape(size, *n)).flatten(1).T
    found = smooth_pwls(data, variance, beta, iterations=300)
    for i in range(2):
        W = torch.diag(1 / variance[i].flatten())
        truth = torch.linalg.solve(W + beta[i] * L.T @ L, W @ data[i].flatten())
        # conjugate gradients stop at a residual of 1e-5
        torch.testing.assert_close(found[i].flatten(), truth, rtol=0, atol=1e-4)


def test_tv_is_the_prox_where_the_variance_is_one():
    data, variance, beta = random_data()
    found = smooth_tv(data, torch.full_like(variance, 0.5), beta, iterations=3000)
    truth = TV((6, 7)).prox(data, 0.5 * beta, iterations=20000, tolerance=1e-6)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-3)


def test_bilateral_by_its_definition():
    data, variance, beta = random_data()
    found = smooth_bilateral(data, variance, beta)
    for i, row, column in [(0, 0, 0), (1, 3, 4), (0, 5, 6), (1, 1, 6)]:
        top, bottom = 0.0, 0.0
        for r in range(max(row - 2, 0), min(row + 3, 6)):
            for c in range(max(column - 2, 0), min(column + 3, 7)):
                apart = (data[i, row, column] - data[i, r, c]) ** 2
                spread = 2 * beta[i] ** 2 * (variance[i, row, column] + variance[i, r, c])
                same = (r, c) == (row, column)
                w = 1.0 if same else math.exp(-((r - row) ** 2 + (c - column) ** 2) / 2 - apart / spread)
                top, bottom = top + w * data[i, r, c], bottom + w
        assert found[i, row, column].item() == pytest.approx(float(top / bottom), rel=1e-12)


@pytest.mark.parametrize("name", SMOOTHERS)
def test_little_strength_changes_little_and_constants_stay(name):
    data, variance, beta = random_data()
    torch.testing.assert_close(SMOOTHERS[name](data, variance, 1e-9 * beta), data, rtol=0, atol=1e-6)
    flat = torch.full_like(data, 3.0)
    torch.testing.assert_close(SMOOTHERS[name](flat, variance, beta), flat, rtol=1e-5, atol=0)


@pytest.mark.parametrize("sigma", [0.0, 3.0])
@pytest.mark.parametrize("mean", [5.0, 20.0, 200.0])
def test_anscombe_makes_the_variance_one_and_its_inverse_has_no_bias(mean, sigma):
    noise = LowDose(i0=mean, electronic_sigma=sigma)
    n = 400_000
    f = anscombe(noise(torch.zeros(1, n, dtype=torch.float64), seed=1), sigma)
    if mean + sigma**2 >= 14:  # below, the variance is up to a tenth off
        assert (f.var() - 1).abs() < 0.04
    back = inverse_anscombe(f.mean(), sigma)
    # the closed form is within 0.5 % of the exact inverse; a naive one is 0.25 counts off
    tolerance = 4 * math.sqrt((mean + sigma**2) / n) + 0.005 * mean + 0.02 * (sigma > 0)
    assert (back - mean).abs() < tolerance
    if mean >= 20:
        assert ((f.mean() / 2) ** 2 - 0.375 - sigma**2 - mean).abs() > 0.15


def test_half_ramped_errors_of_projections_are_errors_of_the_image():
    """Parseval on slices: ‖fbp(e)‖² / ‖√|f| e‖² does not depend on e."""
    geometry = ParallelBeam((96, 96), 1.0, [math.pi * k / 180 for k in range(180)], 140, 1.0)
    u = torch.arange(140, dtype=torch.float64) - 69.5
    ratios = []
    for width in (3.0, 6.0, 12.0):
        e = (-0.5 * (u / width) ** 2).exp().expand(180, 140)
        image = fbp(XRay(geometry), e)
        ratios.append((image.square().sum() / half_ramp(e).square().sum()).item())
    # bumps of a few pixels, whose tails the image cuts: six per cent
    assert max(ratios) < 1.08 * min(ratios)


@pytest.mark.parametrize(("smoother", "domain"), KINDS)
def test_the_chosen_strength_is_near_the_best(smoother, domain, scan):
    problem, x = scan
    clean = problem.A(x)

    def error(method):
        return half_ramp(method.denoised(problem) - clean).square().sum((1, 2))

    method = SinogramDenoisedFBP(smoother, domain)
    chosen = error(method)
    grid = [error(SinogramDenoisedFBP(smoother, domain, s)) for s in (0.5, 2.0, 8.0, 30.0, 120.0)]
    assert (chosen < 1.25 * torch.stack(grid).amin(0)).all()
    assert (chosen < 0.8 * half_ramp(problem.linear - clean).square().sum((1, 2))).all()


@pytest.mark.parametrize(("smoother", "domain"), KINDS)
def test_alone_as_in_a_batch(smoother, domain, scan):
    problem, _ = scan
    method = SinogramDenoisedFBP(smoother, domain, strength=2.0 if smoother == "tv" else None)
    alone = method(Problem(problem.A, problem.y[1], problem.noise))
    torch.testing.assert_close(alone, method(problem)[1], rtol=1e-7, atol=1e-11)


def test_less_noise_than_the_same_filter_without(scan):
    problem, x = scan

    # pixels and views apart, which no denoiser knows of
    clean = fbp(problem.A, problem.A(x)).clamp(min=0)

    def error(method):
        return (method(problem) - clean).square().mean((1, 2))

    assert (error(SinogramDenoisedFBP("bilateral")) < 0.8 * error(FBP("ram-lak"))).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SinogramDenoisedFBP("median"),
        lambda p: SinogramDenoisedFBP(domain="counts"),
        lambda p: SinogramDenoisedFBP(strength=0.0),
        lambda p: SinogramDenoisedFBP(domain="anscombe")(Problem(p.A, p.y, Gaussian(1.0))),
    ],
)
def test_bad_arguments(make, scan):
    with pytest.raises(ValueError, match=r"expected|needs"):
        make(scan[0])
