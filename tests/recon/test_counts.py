"""Likelihoods of counts: shifted Poisson, curvatures, convexity, Pearson residuals."""

import math

import pytest
import torch

from operators import Identity, LowDose, Poisson
from priors.testing import check
from recon.fidelity import (
    KullbackLeibler,
    ShiftedPoisson,
    TransmissionPoisson,
    matching,
    poisson,
    shifted_poisson,
    standardised,
    unweighted,
    weighted,
)
from recon.problem import Problem

Y = torch.tensor([[0.0, 3.0, 1.0], [7.0, 60.0, 20.0]], dtype=torch.float64)
BOTH = [
    TransmissionPoisson(Y, i0=50.0),
    TransmissionPoisson(Y, i0=50.0, background=2.0),
    ShiftedPoisson(Y - 4, i0=50.0, sigma=3.0, background=0.5),
]


@pytest.mark.parametrize("k", [0, 1])
def test_shifted_poisson_keeps_the_contract_without_electronic_noise(k):
    f, shape = ShiftedPoisson.examples()[k]
    if f.convex:
        check(f, shape)


def test_shifted_poisson_is_the_law_of_shifted_counts():
    y = torch.tensor([[-20.0, 3.0, 40.0]], dtype=torch.float64)
    f, z = ShiftedPoisson(y, 50.0, 3.0, 0.5), torch.rand(1, 3, dtype=torch.float64)
    shifted = (y + 9).clamp(min=0)

    def log_law(z):
        return torch.distributions.Poisson(50 * (-z).exp() + 9.5).log_prob(shifted).sum()

    assert (f(z) - f(0 * z)).item() == pytest.approx((log_law(0 * z) - log_law(z)).item())


def test_shifted_counts_have_mean_and_variance_alike():
    noise = LowDose(i0=40.0, electronic_sigma=4.0, background=2.0)
    y = noise(torch.full((400, 500), 1.5, dtype=torch.float64), seed=1)
    shifted = y + 16
    mean = 40 * math.exp(-1.5) + 2 + 16
    n = y.numel()
    assert (shifted.mean() - mean).abs() < 4 * math.sqrt(mean / n)
    # the variance of a variance: (μ₄ − σ⁴)/n, μ₄ = 3σ⁴ + the fourth cumulant, which is at most the mean
    assert (shifted.var() - mean).abs() < 4 * math.sqrt((2 * mean**2 + mean) / n)


@pytest.mark.parametrize("law", ["transmission", "background", "shifted", "emission"])
def test_deviance_in_single_precision(law):
    """At an ordinary dose it is a small sum of large terms: half a unit a ray, of 10⁵ counts."""
    g = torch.Generator().manual_seed(0)
    z = 2 * torch.rand(40, 50, generator=g, dtype=torch.float64)
    z[5:] = 0.01 if law != "emission" else 5.0  # in rays alike the rounding is, too, and adds up
    make = {
        "transmission": lambda y: TransmissionPoisson(y, 5.6e5),
        "background": lambda y: TransmissionPoisson(y, 5.6e5, background=50.0),
        "shifted": lambda y: ShiftedPoisson(y, 5.6e5, sigma=3.0),
        "emission": lambda y: KullbackLeibler(y, background=50.0, scale=1e5),
    }[law]
    mean = 1e5 * z + 50 if law == "emission" else 5.6e5 * (-z).exp() + 50 * (law == "background")
    y = torch.poisson(mean, generator=g)
    exact = make(y)(z).item()
    assert 0.4 < exact / y.numel() < 0.6
    assert make(y.float())(z.float()).item() == pytest.approx(exact, rel=3e-3)


def test_deviance_without_counts_is_the_mean_and_has_a_gradient():
    z = torch.tensor([[0.0, 2.0]], requires_grad=True)
    for f in (
        KullbackLeibler(torch.zeros(1, 2)),
        TransmissionPoisson(torch.zeros(1, 2), 50.0, background=1.0),
    ):
        value = f(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
        mean = z if isinstance(f, KullbackLeibler) else 50 * (-z).exp() + 1
        torch.testing.assert_close(value, mean.sum())
        torch.testing.assert_close(slope, f.grad(z).detach())


@pytest.mark.parametrize("f", BOTH, ids=["poisson", "background", "shifted"])
def test_gradients_are_those_of_autograd(f):
    z = 3 * torch.rand(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z.requires_grad_()
    torch.testing.assert_close(
        f.grad(z.detach()), torch.autograd.grad(f(z).sum(), z)[0], rtol=1e-11, atol=1e-12
    )


def second_derivative(f, z):
    z = z.detach().requires_grad_()
    return torch.autograd.grad(f.grad(z).sum(), z)[0]


@pytest.mark.parametrize("f", BOTH, ids=["poisson", "background", "shifted"])
def test_the_largest_curvature_is_the_one_at_zero_and_is_reached(f):
    z = torch.linspace(0, 12, 2000, dtype=torch.float64)[:, None, None].expand(2000, 2, 3)
    bend = second_derivative(f, z)
    assert (bend <= f.curvatures() * (1 + 1e-12)).all()
    torch.testing.assert_close(bend[0].clamp(min=0), f.curvatures(), rtol=1e-12, atol=1e-12)


def values(f, z):
    """f entry by entry."""
    m = f.i0 * (-z).exp() + f.r
    return m - torch.xlogy(f.y, m)


@pytest.mark.parametrize("f", BOTH, ids=["poisson", "background", "shifted"])
def test_the_optimal_curvature_makes_the_least_parabola_above(f):
    at = torch.tensor([1e-7, 1e-3, 0.1, 0.7, 2.0, 5.0, 11.0], dtype=torch.float64)[:, None, None]
    at = at.expand(7, 2, 3)
    c = f.curvatures(at)
    assert (c <= f.curvatures() * (1 + 1e-9)).all()
    for v in torch.linspace(0, 15, 301, dtype=torch.float64):
        parabola = values(f, at) + f.grad(at) * (v - at) + c * (v - at) ** 2 / 2
        assert (values(f, v.expand_as(at)) <= parabola + 1e-9).all()
    # it touches at 0: none smaller would do, unless 0 is already enough
    at, c = at[2:], c[2:]
    touch = values(f, at) - f.grad(at) * at + c * at**2 / 2
    torch.testing.assert_close(touch[c > 0], values(f, torch.zeros_like(at))[c > 0], rtol=1e-9, atol=1e-9)


def test_curvatures_in_single_precision():
    f, z = TransmissionPoisson(Y, 1e6, 30.0), torch.logspace(-6, 2, 60)[:, None, None].expand(60, 2, 3)
    double = f.curvatures(z.double())
    single = TransmissionPoisson(Y.float(), 1e6, 30.0).curvatures(z)
    assert single.isfinite().all()
    # below z = 0.04 the single one is that at 0, four per cent above at most
    assert (single >= double * (1 - 2e-3)).all() and (single <= double * 1.04 + 1e-3).all()


def test_where_it_is_convex():
    y = torch.tensor([[5.0, 10.0]], dtype=torch.float64)
    z = torch.linspace(-3, 12, 400, dtype=torch.float64)[:, None, None].expand(400, 1, 2)
    for r, convex in ((0.0, True), (12.0, True), (7.0, False), (3.0, False)):
        f = TransmissionPoisson(y, 50.0, r)
        assert f.convex is convex
        assert bool((second_derivative(f, z) >= -1e-12).all()) is convex


@pytest.mark.parametrize(
    ("noise", "z"),
    [
        (LowDose(i0=30.0), 3.5),
        (LowDose(i0=30.0, electronic_sigma=2.0, background=1.0), 2.0),
        (Poisson(2.0, 0.3), 0.2),
    ],
)
def test_pearson_residuals_have_variance_one_at_any_count(noise, z):
    A, z = Identity((300, 400)), torch.full((300, 400), z, dtype=torch.float64)
    d = matching(Problem(A, noise(z, seed=2), noise))
    chi2 = standardised(d, z).square()
    # E χ² = 1 exactly; clamping y + σ² at 0 takes off less than the error of the mean here
    assert (chi2.mean() - 1).abs() < 4 * chi2.std() / math.sqrt(z.numel())
    assert (2 * d(z) / z.numel() - 1).abs() > 4 * chi2.std() / math.sqrt(z.numel())  # the deviance has not


def test_standardised_of_gaussian_likelihoods():
    y = torch.full((2, 3), 50.0, dtype=torch.float64)
    problem = Problem(Identity((2, 3)), y, LowDose(i0=100.0))
    z = problem.linear + 0.1
    for d in (weighted(problem), unweighted(problem)):
        torch.testing.assert_close(
            standardised(d, z), torch.full((2, 3), -0.1 * 50**0.5, dtype=torch.float64)
        )


def test_which_likelihoods_a_noise_model_has():
    A, y = Identity((2, 3)), Y
    quiet, loud = LowDose(i0=50.0), LowDose(i0=50.0, electronic_sigma=3.0, background=0.5)
    assert type(matching(Problem(A, y, quiet))) is TransmissionPoisson
    assert isinstance(matching(Problem(A, y, loud)), ShiftedPoisson)
    z = torch.rand(2, 3, dtype=torch.float64)
    plain = poisson(Problem(A, y - 2, loud))
    assert plain(z).item() == pytest.approx(TransmissionPoisson((y - 2).clamp(min=0), 50.0, 0.5)(z).item())
    # without electronic noise the two are one
    assert shifted_poisson(Problem(A, y, quiet))(z).item() == pytest.approx(
        poisson(Problem(A, y, quiet))(z).item()
    )
    emission = Problem(A, y, Poisson())
    assert isinstance(poisson(emission), KullbackLeibler)
    with pytest.raises(ValueError, match="'shifted-poisson': expected LowDose"):
        shifted_poisson(emission)
    with pytest.raises(ValueError, match="standardised: expected"):
        standardised(torch.nn.Identity(), z)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ShiftedPoisson(Y * torch.nan, 10.0, 1.0),
        lambda: ShiftedPoisson(Y, 10.0, -1.0),
        lambda: ShiftedPoisson(Y, 0.0, 1.0),
        lambda: TransmissionPoisson(Y, 10.0, -1.0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="expected"):
        make()
