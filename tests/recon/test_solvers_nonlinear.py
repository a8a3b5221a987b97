"""Solvers behind non-linear operators: they find what made noiseless data, image by image."""

import math

import pytest
import torch

from operators import (
    Identity,
    LinearOperator,
    Mask,
    Operator,
    ParallelBeam,
    Polyenergetic,
    Transmission,
    XRay,
)
from priors import L1, NonNegative, SquaredL2
from priors.testing import check
from recon.fidelity import PWLS, KullbackLeibler
from recon.solvers import (
    Misfit,
    cgls,
    gauss_newton,
    levenberg_marquardt,
    nonlinear_gradient,
    run,
    trace,
)

X = XRay(ParallelBeam((10, 10), 2.0, [math.pi * k / 16 for k in range(16)], 19, 1.5))
BEAM = Polyenergetic.examples()[0].beam


def phantom():
    """Two images of water, each with its own insert of more and less."""
    c = torch.arange(10, dtype=torch.float64) - 4.5
    r = (c[:, None] ** 2 + c**2).sqrt()
    x = torch.where(r < 4.6, 0.021, 0.0).to(torch.float64).expand(2, 10, 10).clone()
    x[0, 3:5, 4:7], x[1, 5:8, 3:5], x[1, 3, 6] = 0.05, 0.035, 0.06
    return x


TRUTH = phantom()
OPERATORS = [Transmission(X), Polyenergetic(X, BEAM), Polyenergetic(X, BEAM, ramp=(100.0, 1500.0))]
IDS = ["exp(-Ax)", "polyenergetic", "polyenergetic, split"]


@pytest.mark.parametrize("solver", [gauss_newton, levenberg_marquardt])
@pytest.mark.parametrize("F", OPERATORS, ids=IDS)
def test_noiseless_data_give_the_truth(F, solver):
    steps = solver(F, F(TRUTH), torch.zeros_like(TRUTH), inner_iterations=300, inner_tolerance=1e-7)
    found = trace(steps, 40, 1e-10)
    # the data determine the image (16 × 19 rays, 100 pixels): what the residual leaves times the condition
    torch.testing.assert_close(found.last.x, TRUTH, rtol=0, atol=1e-6)
    assert bool((found.iterations <= 30).all())
    assert bool((found.last.objective < 1e-14).all())


def test_gauss_newton_converges_quadratically():
    F = OPERATORS[1]
    steps = gauss_newton(F, F(TRUTH), torch.zeros_like(TRUTH), inner_iterations=500, inner_tolerance=1e-12)
    r = [h[0].max().item() for h in trace(steps, 4).history]
    assert r[2] < r[1] ** 1.7 * 10 and r[3] < max(r[2] ** 1.7 * 10, 1e-11)


def test_one_step_of_gauss_newton_solves_a_linear_problem():
    y = X(TRUTH)
    variance = 0.5 + torch.rand(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = y + 0.01 * (variance - 1)
    for damping in (0.0, torch.tensor([0.3, 3.0], dtype=torch.float64)):
        steps = gauss_newton(X, noisy, torch.zeros_like(TRUTH), variance, damping, 200, 1e-12)
        last = trace(steps, 1).last
        for i in range(2):
            W = Mask(variance[i].rsqrt()) @ X
            delta = damping if isinstance(damping, float) else float(damping[i])
            wanted = run(cgls(W, noisy[i] * variance[i].rsqrt(), torch.zeros(10, 10).double(), delta), 400)
            torch.testing.assert_close(last.x[i], wanted, rtol=0, atol=1e-9)
        assert bool((last.residual < 1e-9).all())


class Arctan(Operator):
    """From |x| > 1.39 the full Gauss–Newton step of arctan x = 0 overshoots more each time."""

    in_shape = out_shape = (2, 1)

    def _forward(self, x):
        return x.atan()

    def derivative(self, x):
        return Mask(1 / (1 + x**2))


def test_levenberg_marquardt_where_gauss_newton_diverges():
    F, x = Arctan(), torch.tensor([[[2.0], [-3.0]], [[1.5], [0.1]]], dtype=torch.float64)
    y = torch.zeros_like(x)
    found = trace(levenberg_marquardt(F, y, x), 60, 1e-12)
    torch.testing.assert_close(found.last.x, y, rtol=0, atol=1e-9)
    values = torch.stack([h[1] for h in found.history])
    assert bool((values.diff(dim=0) <= 0).all())  # it never rises
    far = trace(gauss_newton(F, y, x), 4).last.x
    assert float(far.abs().max()) > 100


@pytest.mark.parametrize("F", OPERATORS[:2], ids=IDS[:2])
def test_noise_is_weighted(F):
    """The minimiser of PWLS: its gradient F'*(F(x) − y)/variance vanishes, for both solvers."""
    generator = torch.Generator().manual_seed(1)
    clean = F(TRUTH)
    variance = 1e-8 * (0.2 + torch.rand(clean.shape, generator=generator, dtype=torch.float64))
    y = clean + variance.sqrt() * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    d = Misfit(PWLS(y, variance), F)
    results = []
    for solver in (gauss_newton, levenberg_marquardt):
        steps = solver(F, y, TRUTH, variance, inner_iterations=400, inner_tolerance=1e-8)
        last = trace(steps, 40, 1e-9).last
        torch.testing.assert_close(last.objective, d(last.x))
        start = d.grad(TRUTH).flatten(1).norm(dim=1)
        assert bool((d.grad(last.x).flatten(1).norm(dim=1) < 1e-7 * start).all())
        results.append(last.x)
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", [gauss_newton, levenberg_marquardt])
def test_images_do_not_see_each_other(solver):
    F = OPERATORS[2]
    y, x = F(TRUTH), torch.zeros_like(TRUTH)
    together = trace(solver(F, y[None], x[None]), 3).last
    assert together.x.shape == (1, 2, 10, 10) and together.residual.shape == (1, 2)
    for i in range(2):
        alone = trace(solver(F, y[i], x[i]), 3).last
        assert alone.residual.shape == ()
        torch.testing.assert_close(together.x[0, i], alone.x, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(together.objective[0, i], alone.objective, rtol=1e-6, atol=1e-16)


@pytest.mark.parametrize("F", OPERATORS[:2], ids=IDS[:2])
def test_proximal_gradients_keep_what_is_allowed(F):
    y = F(TRUTH)
    found = trace(nonlinear_gradient(SquaredL2(y), F, torch.zeros_like(TRUTH), NonNegative()), 500, 1e-8)
    torch.testing.assert_close(found.last.x, TRUTH, rtol=0, atol=1e-5)
    assert bool((found.last.x >= 0).all())
    values = torch.stack([h[1] for h in found.history])
    assert bool((values.diff(dim=0) <= 1e-12 * values[0]).all())


def test_proximal_gradients_with_a_prior_in_closed_form():
    """Counts y of mean exp(−x): e^(−x) + y x + λ|x| is least at −ln(y + λ) where that is positive."""
    F = Transmission(Identity((2, 3)))
    y = torch.tensor([[0.9, 0.5, 0.2], [0.05, 0.7, 0.3]], dtype=torch.float64)
    for weight in (0.05, 0.2):
        steps = nonlinear_gradient(KullbackLeibler(y), F, torch.zeros_like(y), weight * L1(ndim=2))
        wanted = -(y + weight).clamp(max=1).log()
        torch.testing.assert_close(run(steps, 500, 1e-12), wanted, rtol=0, atol=1e-6)


def test_a_step_that_overflows_is_taken_back():
    """The first step tried is as long as the start, to a pixel of −95, whose exp(−x) is inf in float32."""
    F, y = Transmission(Identity((1, 2))), torch.tensor([[0.0, 0.2]])
    x = run(nonlinear_gradient(SquaredL2(y), F, torch.tensor([[100.0, 5.0]])), 200, 1e-5)
    assert float(x[0, 1]) == pytest.approx(-math.log(0.2), abs=1e-3)
    with pytest.raises(FloatingPointError, match="use levenberg_marquardt"):
        run(gauss_newton(Transmission(Identity((1, 1))), torch.tensor([[0.5]]), torch.tensor([[9.0]])), 9)


def test_misfit_is_a_functional():
    for f, shape in Misfit.examples():
        check(f, shape)
    F, y = OPERATORS[1], OPERATORS[1](TRUTH)
    f, x = Misfit(PWLS(y, 0.3 + y), F), (1.2 * TRUTH).requires_grad_()
    (wanted,) = torch.autograd.grad(f(x).sum(), x)
    torch.testing.assert_close(f.grad(x.detach()), wanted)


def test_what_is_refused():
    F, y = OPERATORS[0], OPERATORS[0](TRUTH)
    with pytest.raises(ValueError, match=r"expects 2 dimensions, .* data of shape \(16, 2, 19\)"):
        Misfit(SquaredL2(ndim=2), Lifted())
    with pytest.raises(ValueError, match=r"x and y: expected \(\*batch, \*\(10, 10\)\)"):
        next(gauss_newton(F, y, TRUTH[0]))
    with pytest.raises(ValueError, match="variance: expected positive numbers"):
        next(levenberg_marquardt(F, y, TRUTH, variance=0.0))


class Lifted(LinearOperator):
    in_shape, out_shape = (16, 19), (16, 2, 19)

    def _forward(self, x):
        return torch.stack([x, x], 2)

    def _adjoint(self, y):
        return y.sum(2)


def test_float32():
    F = OPERATORS[1]
    y = F(TRUTH).float()
    x = run(levenberg_marquardt(F, y, torch.zeros_like(TRUTH).float(), inner_iterations=100), 15, 1e-5)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, TRUTH.float(), rtol=0, atol=2e-3 * 0.06)
