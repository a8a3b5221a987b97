"""LSQR, L-BFGS, EM and OS-SQS: oracles, monotonicity, and that all of them find one minimiser."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.sparse.linalg import lsqr as scipy_lsqr

from operators import LinearOperator, LowDose, ParallelBeam, XRay
from operators.gradient import Gradient
from priors import Box, HuberTV, NonNegative, Quadratic, SquaredL2
from recon.fidelity import KullbackLeibler, matching, weighted
from recon.problem import Problem
from recon.solvers import cgls, fista, lbfgs, lsqr, mlem, os_sqs, osem, run, trace
from recon.solvers.sqs import diagonal

VIEWS = 20
GEOMETRY = ParallelBeam((12, 12), 10.0, [math.pi * k / VIEWS for k in range(VIEWS)], 21, 9.0)
DELTA = 1e-3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Matrix(LinearOperator):
    def __init__(self, M, in_shape):
        super().__init__()
        self.in_shape, self.out_shape = in_shape, (M.shape[0],)
        self.register_buffer("M", M)

    def _forward(self, x):
        return x.flatten(1) @ self.M.T

    def _adjoint(self, y):
        return (y @ self.M).reshape(-1, *self.in_shape)


@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("iterations", [1, 5, 40])
def test_lsqr_is_scipys_step_by_step(damping, iterations):
    # well conditioned, so that rounding does not part two recurrences that differ in it
    U, _ = torch.linalg.qr(torch.randn(30, 20, generator=generator(), dtype=torch.float64))
    M = U * torch.logspace(0, -1, 20, dtype=torch.float64)
    y = torch.randn(30, generator=generator(1), dtype=torch.float64)
    A = Matrix(M, (4, 5))
    x = run(lsqr(A, y, torch.zeros(4, 5, dtype=torch.float64), damping), iterations)
    truth = scipy_lsqr(
        M.numpy(), y.numpy(), damp=math.sqrt(damping), iter_lim=iterations, atol=0, btol=0, conlim=0
    )
    np.testing.assert_allclose(x.flatten().numpy(), truth[0], rtol=0, atol=1e-9 * np.abs(truth[0]).max())


def test_lsqr_is_cgls_and_knows_its_objective_and_residual():
    A = XRay(GEOMETRY, backend="sparse")
    y = (
        torch.rand(2, VIEWS, 21, generator=generator(2), dtype=torch.float64)
        * torch.tensor([1.0, 50.0])[:, None, None]
    )
    start = torch.rand(2, 12, 12, generator=generator(3), dtype=torch.float64)
    for x0 in (torch.zeros_like(start), start):
        a, b = trace(lsqr(A, y, x0, 0.3), 6), trace(cgls(A, y, x0, 0.3), 6)
        # the two lose orthogonality each in its own way
        torch.testing.assert_close(a.last.x, b.last.x, rtol=1e-6, atol=1e-8)
        for (r1, f1, _), (r2, f2, _) in zip(a.history, b.history, strict=True):
            torch.testing.assert_close(r1, r2, rtol=1e-6, atol=1e-12)
            torch.testing.assert_close(f1, f2, rtol=1e-9, atol=0)


def test_lsqr_finds_the_minimum_norm_solution():
    M = torch.randn(6, 20, generator=generator(4), dtype=torch.float64)
    y = torch.randn(6, generator=generator(5), dtype=torch.float64)
    x = run(lsqr(Matrix(M, (4, 5)), y, torch.zeros(4, 5, dtype=torch.float64)), 60)
    torch.testing.assert_close(x.flatten(), torch.linalg.pinv(M) @ y, rtol=1e-10, atol=1e-12)


def rosenbrock():
    class Rosenbrock(SquaredL2):
        def forward(self, x):
            a, b = x[..., 0], x[..., 1]
            return (1 - a) ** 2 + 100 * (b - a**2) ** 2

        def grad(self, x):
            a, b = x[..., 0], x[..., 1]
            return torch.stack([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)], -1)

    return Rosenbrock(ndim=1)


def test_lbfgs_on_rosenbrocks_valley_without_and_with_bounds():
    f = rosenbrock()
    x0 = torch.tensor([[-1.2, 1.0], [3.0, -2.0]], dtype=torch.float64)
    found = trace(lbfgs(f, x0), 200, 1e-12)
    torch.testing.assert_close(found.last.x, torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=1e-7)
    assert found.iterations.max() < 100
    # on a ≤ ½ the minimum is at the bound, b = a²
    found = trace(lbfgs(f, x0, lower=-2.0, upper=0.5), 300, 1e-10)
    truth = torch.tensor([0.5, 0.25], dtype=torch.float64).expand(2, 2)
    torch.testing.assert_close(found.last.x, truth, rtol=0, atol=1e-7)


def test_lbfgs_never_rises_and_meets_wolfes_conditions():
    f, x = rosenbrock(), torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    steps = [it.x for it, _ in zip(lbfgs(f, x), range(30), strict=False)]
    for a, b in pairwise(steps):
        slope, slope_after = ((f.grad(v) * (b - a)).sum() for v in (a, b))
        if f(a) > 1e-12:
            assert f(b) <= f(a) + 1e-4 * slope
            assert slope_after >= 0.9 * slope


def scan(noise, seed=3):
    A = XRay(GEOMETRY, backend="sparse")
    grid = (torch.arange(12, dtype=torch.float64) - 5.5) / 12
    disc = 0.02 * (grid[:, None] ** 2 + (grid[None] / 0.8) ** 2 < 0.12).double()
    x = torch.stack([disc, 0.4 * disc.T])
    return Problem(A, noise(A(x), seed=seed), noise)


def in_subsets(problem, likelihood, count):
    terms = []
    for k in range(count):
        views = list(range(k, VIEWS, count))
        part = Problem(problem.A.subset(views), problem.y[..., views, :], problem.noise)
        terms.append(likelihood(part) @ part.A)
    return terms


PRIOR = HuberTV((12, 12), 10.0, DELTA, 20.0)


def reference(problem, likelihood, upper=math.inf):
    """scipy's L-BFGS-B, image by image."""
    found = []
    for y in problem.y:
        one = Problem(problem.A, y, problem.noise)
        f = likelihood(one) @ problem.A + PRIOR

        def both(v, f=f):
            x = torch.as_tensor(v).reshape(12, 12)
            return float(f(x)), f.grad(x).flatten().numpy()

        # scaled so that its absolute tolerances mean something
        def scaled(v, both=both):
            value, slope = both(v / 100)
            return value, slope / 100

        bounds = [(0, 100 * upper)] * 144
        options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-9}
        result = minimize(scaled, np.zeros(144), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        found.append(torch.as_tensor(result.x / 100).reshape(12, 12))
    return torch.stack(found)


CASES = {
    "pwls": (LowDose(i0=2e4), weighted, math.inf),
    "pwls-box": (LowDose(i0=2e4), weighted, 0.015),
    "shifted": (LowDose(i0=2e3, electronic_sigma=3.0), matching, math.inf),
}


def far(x, truth):
    return ((x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).max().item()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    noise, likelihood, upper = CASES[request.param]
    problem = scan(noise)
    return problem, likelihood, upper, reference(problem, likelihood, upper)


def test_all_solvers_find_scipys_minimiser(case):
    problem, likelihood, upper, truth = case
    d, x = likelihood(problem), torch.zeros_like(truth)
    bound = None if upper == math.inf else upper
    # scipy itself stops at 1e-15 of the objective, √ of which limits x
    assert far(run(lbfgs(d @ problem.A + PRIOR, x, 0.0, bound), 2000, 1e-10), truth) < 1e-6
    for count, curvature in ((1, "optimal"), (5, "max")):
        terms = in_subsets(problem, likelihood, count)
        found = run(os_sqs(terms, PRIOR, x, 0.0, bound, curvature=curvature), 3000, 1e-9)
        assert far(found, truth) < 1e-6
    if likelihood is weighted:
        L = d.weight.flatten(1).amax(1) * (1.02 * problem.A.norm()) ** 2 + PRIOR.lipschitz
        found = run(fista(d @ problem.A + PRIOR, Box(0.0, upper), L, x), 20000, 1e-10)
        assert far(found, truth) < 1e-6


def test_subsets_with_momentum_are_near_after_ten_passes(case):
    problem, likelihood, upper, truth = case
    bound, x = None if upper == math.inf else upper, torch.zeros_like(truth)

    def after_ten(count, momentum):
        return far(
            run(os_sqs(in_subsets(problem, likelihood, count), PRIOR, x, 0.0, bound, momentum), 10), truth
        )

    one, many, plain = after_ten(1, True), after_ten(5, True), after_ten(5, False)
    assert many < one / 2
    assert many < plain
    assert many < 0.1


@pytest.mark.parametrize("curvature", ["optimal", "max"])
@pytest.mark.parametrize("name", CASES)
def test_one_subset_without_momentum_never_rises(name, curvature):
    noise, likelihood, upper = CASES[name]
    problem = scan(noise)
    f = likelihood(problem) @ problem.A + PRIOR
    iterates = os_sqs(
        in_subsets(problem, likelihood, 1), PRIOR, torch.full((2, 12, 12), 0.01, dtype=torch.float64),
        0.0, None if upper == math.inf else upper, momentum=False, curvature=curvature,
    )  # fmt: skip
    values = torch.stack([f(it.x) for it, _ in zip(iterates, range(60), strict=False)])
    assert (values.diff(dim=0) <= 1e-9 * values[1:]).all()
    assert (values[-1] < 0.5 * values[0]).all()


@pytest.mark.parametrize(
    "prior", [PRIOR, Quadratic(Gradient((12, 12), 10.0), 3.0), 2.0 * PRIOR + 0.5 * SquaredL2()]
)
def test_the_diagonal_bends_more_than_the_prior(prior):
    x, v = 0.05 * torch.randn(2, 40, 12, 12, generator=generator(7), dtype=torch.float64)
    v = x + (v - x) * torch.logspace(-4, 1, 40, dtype=torch.float64)[:, None, None]
    D = torch.as_tensor(diagonal(prior, x))
    above = prior(x) + (prior.grad(x) * (v - x)).sum((1, 2)) + 0.5 * (D * (v - x) ** 2).sum((1, 2))
    assert (prior(v) <= above * (1 + 1e-12)).all()


def test_subsets_that_are_never_merged_end_near_the_minimum(case):
    problem, likelihood, upper, truth = case
    bound = None if upper == math.inf else upper
    found = run(os_sqs(in_subsets(problem, likelihood, 4), PRIOR, 0 * truth, 0.0, bound, halve=0), 200)
    assert 1e-7 < far(found, truth) < 0.1


@pytest.fixture(scope="module")
def emission():
    A = XRay(GEOMETRY, backend="sparse")
    x = torch.rand(2, 12, 12, generator=generator(8), dtype=torch.float64)
    x = x * torch.tensor([1.0, 20.0], dtype=torch.float64)[:, None, None]
    y = torch.poisson(0.3 * A(x) + 0.5, generator=generator(9))
    return A, x, y


def test_mlem_never_lowers_the_likelihood_and_keeps_the_counts(emission):
    A, _, y = emission
    d = KullbackLeibler(y, 0.5, 0.3)
    found = trace(mlem(A, y, torch.ones(2, 12, 12, dtype=torch.float64), 0.5, 0.3), 40)
    values = torch.stack([f for _, f, _ in found.history])
    assert (values.diff(dim=0) <= 1e-12 * values[1:]).all()
    torch.testing.assert_close(values[-1], d(A(found.last.x)), rtol=1e-12, atol=0)
    without = (0.3 * A(run(mlem(A, y, torch.ones(2, 12, 12, dtype=torch.float64), 0.0, 0.3), 7))).sum((1, 2))
    torch.testing.assert_close(without, (y * (A(torch.ones(12, 12, dtype=torch.float64)) > 0)).sum((1, 2)))


def test_mlem_and_osem_by_their_formulas(emission):
    A, _, y = emission
    M = A(torch.eye(144, dtype=torch.float64).reshape(144, 12, 12)).flatten(1).T
    start = torch.rand(144, generator=generator(10), dtype=torch.float64) + 0.1
    by_hand, data = start.clone(), y[0].flatten()
    for _ in range(3):
        by_hand = by_hand / (0.3 * M.sum(0)) * (0.3 * M.T @ (data / (0.3 * M @ by_hand + 0.5)))
    found = run(mlem(A, y[0], start.reshape(12, 12), 0.5, 0.3), 3)
    torch.testing.assert_close(found.flatten(), by_hand, rtol=1e-11, atol=1e-13)
    one = run(osem([A], [y[0]], start.reshape(12, 12), 0.5, 0.3), 3)
    torch.testing.assert_close(one, found, rtol=1e-12, atol=1e-14)


def test_mlem_approaches_the_maximum_of_the_likelihood(emission):
    A, _, y = emission
    d = KullbackLeibler(y, 0.5, 0.3)
    x = run(mlem(A, y, torch.ones(2, 12, 12, dtype=torch.float64), 0.5, 0.3), 1500)
    best = trace(lbfgs(d @ A, torch.ones_like(x), lower=0.0), 600, 1e-8)
    # EM is sublinear where pixels go to zero: the difference falls as one over the iterations
    assert (d(A(x)) >= best.last.objective).all()
    torch.testing.assert_close(d(A(x)), best.last.objective, rtol=5e-3, atol=0)
    slope = A.adjoint(d.grad(A(best.last.x)))
    assert (slope * best.last.x).abs().max() < 1e-3 * (A.adjoint(torch.ones_like(y)) * best.last.x).max()


def test_osem_is_ahead_of_mlem_pass_by_pass(emission):
    A, _, y = emission
    d, x0 = KullbackLeibler(y, 0.5, 0.3), torch.ones(2, 12, 12, dtype=torch.float64)
    subsets = [list(range(k, VIEWS, 4)) for k in (0, 2, 1, 3)]
    parts = [A.subset(v) for v in subsets]
    few = run(osem(parts, [y[..., v, :] for v in subsets], x0, 0.5, 0.3), 2)
    assert (d(A(few)) < d(A(run(mlem(A, y, x0, 0.5, 0.3), 2)))).all()
    assert ((d(A(few)) / d(A(run(mlem(A, y, x0, 0.5, 0.3), 8))) - 1).abs() < 0.05).all()


def test_em_without_counts_and_without_rays():
    A = XRay(ParallelBeam((6, 6), 10.0, [0.0], 2, 10.0), backend="sparse")
    one = torch.ones(6, 6, dtype=torch.float64)
    x = run(mlem(A, torch.tensor([[0.0, 30.0]], dtype=torch.float64), one), 200)
    seen = A.adjoint(torch.ones(1, 2, dtype=torch.float64)) > 0
    assert (x[~seen] == 0).all() and x.isfinite().all()
    assert A(x).flatten().tolist() == pytest.approx([0.0, 30.0], abs=1e-9)
    assert torch.equal(run(osem([A], [torch.zeros(1, 2, dtype=torch.float64)], one), 1), 0 * one)


@pytest.mark.parametrize("solver", [mlem, lambda A, y, x, b, s: osem([A], [y], x, b, [s])])
def test_em_of_an_image_does_not_know_the_exposure_of_others(solver):
    A = XRay(GEOMETRY, backend="sparse")
    y = torch.poisson(3 * A(torch.ones(2, 12, 12, dtype=torch.float64)), generator=generator(11))
    start, scale = (
        torch.ones_like(A.adjoint(y)),
        torch.tensor([1e-7, 1.0], dtype=torch.float64)[:, None, None],
    )
    together = run(solver(A, y, start, 0.5, scale), 2)
    torch.testing.assert_close(together[:1], run(solver(A, y[:1], start[:1], 0.5, scale[:1]), 2))
    assert float(together[0].max()) > 0


def test_bounds_hold_and_are_optimal(case):
    problem, likelihood, upper, _ = case
    d = likelihood(problem)
    x = run(
        lbfgs(d @ problem.A + PRIOR, torch.zeros(2, 12, 12, dtype=torch.float64), 0.0, upper), 2000, 1e-10
    )
    g = (d @ problem.A + PRIOR).grad(x)
    assert (x >= 0).all() and (x <= upper).all()
    small = 1e-5 * g.abs().max()
    assert (g[(x > 0) & (x < upper)].abs() < small).all()
    assert (g[x == 0] > -small).all() and (g[x == upper] < small).all()
    assert NonNegative()(x).eq(0).all()
