"""Variational methods: optimality, positivity, the weight without the truth, and what a weight means."""

import math

import pytest
import torch

from operators import FanBeam, Fourier, Gaussian, Gradient, LowDose, ParallelBeam, XRay
from operators.simple import Identity
from priors import TV, Box, Functional, HuberTV, SquaredL2, WaveletL1
from priors.base import Composed
from recon.data.simulation import averaged
from recon.discrepancy import discrepancy
from recon.fidelity import unweighted, weighted
from recon.problem import Problem
from recon.solvers import pdhg, run
from recon.variational import (
    HuberTotalVariation,
    PWLSTotalVariation,
    Tikhonov,
    TotalVariation,
    WaveletReconstruction,
)
from recon.variational.combined import CommonProx, VariationalReconstruction

METHODS = [TotalVariation, PWLSTotalVariation, HuberTotalVariation, Tikhonov, WaveletReconstruction]


def disc(n, h):
    grid = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * h
    return 0.02 * ((grid[:, None] ** 2 + (grid[None] / 0.8) ** 2) < (0.35 * n * h) ** 2).double()


@pytest.fixture(scope="module")
def problem():
    geometry = ParallelBeam((16, 16), 8.0, [math.pi * k / 20 for k in range(20)], 25, 8.0)
    A = XRay(geometry, backend="sparse")
    x = torch.stack([disc(16, 8.0), 0.4 * disc(16, 8.0).T])
    noise = LowDose(i0=2e4)
    return Problem(A, noise(A(x), seed=3), noise)


def one(problem, i):
    return Problem(problem.A, problem.y[i], problem.noise)


@pytest.mark.parametrize("Method", METHODS)
def test_the_chosen_weight_makes_the_misfit_that_of_the_noise(Method, problem):
    found = Method().solve(problem)
    d = (weighted if Method is PWLSTotalVariation else unweighted)(problem)
    chi2 = 2 * d(problem.A(found.x)) / problem.y[0].numel()
    assert found.weight.shape == chi2.shape == (2,)
    # weights come from short runs, the image from a full one
    assert (chi2 - 1).abs().max() < 0.06
    assert found.x.min() >= 0


@pytest.mark.parametrize("Method", METHODS)
def test_alone_as_in_a_batch(Method, problem):
    method = Method(weight=30.0, iterations=20)
    together = method(problem)
    for i in range(2):
        torch.testing.assert_close(method(one(problem, i)), together[i], rtol=1e-8, atol=1e-12)


def test_chosen_alone_as_in_a_batch(problem):
    method = TotalVariation(iterations=60)
    together = method.solve(problem)
    alone = method.solve(one(problem, 0))
    torch.testing.assert_close(alone.weight, together.weight[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(alone.x, together.x[0], rtol=1e-7, atol=1e-12)


def test_a_weight_per_image(problem):
    weights = torch.tensor([3.0, 300.0], dtype=torch.float64)
    together = TotalVariation(weight=weights, iterations=20)(problem)
    alone = TotalVariation(weight=300.0, iterations=20)(one(problem, 1))
    torch.testing.assert_close(alone, together[1], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "prior"),
    [
        (TotalVariation(weight=20.0, iterations=400, tolerance=1e-6), TV((16, 16), 8.0)),
        (PWLSTotalVariation(weight=20.0, iterations=400, tolerance=1e-6), TV((16, 16), 8.0)),
        (TotalVariation(20.0, 400, 1e-6, isotropic=False), TV((16, 16), 8.0, isotropic=False)),
        (HuberTotalVariation(weight=20.0, iterations=800), HuberTV((16, 16), 8.0, delta=1e-3)),
        (WaveletReconstruction(20.0, 800, 1e-6), WaveletL1((16, 16), pixel_size=8.0)),
        (WaveletReconstruction(20.0, 800, 1e-6, positive=False), WaveletL1((16, 16), pixel_size=8.0)),
    ],
)
def test_no_image_nearby_is_better(method, prior, problem):
    found = method.solve(problem)
    d = (weighted if isinstance(method, PWLSTotalVariation) else unweighted)(problem)

    def objective(x):
        return d(problem.A(x)) + 20.0 * prior(x)

    best = objective(found.x)
    if found.objective is not None:
        torch.testing.assert_close(found.objective, best, rtol=1e-9, atol=0)
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-2, 1e-3):
        for _ in range(10):
            step = torch.randn(found.x.shape, generator=generator, dtype=torch.float64)
            other = found.x + scale * 0.02 * step
            other = other.clamp(min=0) if method.positive else other
            assert (objective(other) >= best * (1 - 1e-6)).all()
        for factor in (1 - scale, 1 + scale):
            assert (objective(factor * found.x) >= best * (1 - 1e-6)).all()


@pytest.mark.parametrize("penalty", ["identity", "gradient"])
def test_tikhonov_without_positivity_is_the_closed_form(penalty, problem):
    A, one_image = problem.A, one(problem, 0)
    M = A(torch.eye(256, dtype=torch.float64).reshape(256, 16, 16)).flatten(1).T
    weight = unweighted(one_image).weight.item()
    L = torch.eye(256, dtype=torch.float64)
    if penalty == "gradient":
        L = Gradient((16, 16), spacing=8.0)(L.reshape(256, 16, 16)).flatten(1).T
    H = weight * M.T @ M + 50.0 * 64 * L.T @ L
    truth = torch.linalg.solve(H, weight * M.T @ one_image.linear.flatten()).reshape(16, 16)
    method = Tikhonov(weight=50.0, iterations=2000, tolerance=1e-12, positive=False, penalty=penalty)
    torch.testing.assert_close(method(one_image), truth, rtol=1e-7, atol=1e-10)


def test_positive_tikhonov_meets_the_optimality_conditions(problem):
    found = Tikhonov(weight=50.0, iterations=5000, tolerance=1e-10).solve(problem)
    d = unweighted(problem)
    slope = problem.A.adjoint(d.grad(problem.A(found.x))) + 50 * 64 * Gradient((16, 16), spacing=8.0).gram(
        found.x
    )
    scale = problem.A.adjoint(d.grad(torch.zeros_like(problem.y))).abs().max()
    assert (slope[found.x > 0].abs() < 1e-6 * scale).all()
    assert (slope[found.x == 0] > -1e-6 * scale).all()


def test_a_method_does_not_change(problem):
    method = TotalVariation(iterations=20)
    before = dict(vars(method))
    first = method(problem)
    assert dict(vars(method)) == before
    assert torch.equal(method(problem), first)


def test_the_gap_and_the_history_are_told(problem):
    seen = []
    found = TotalVariation(weight=20.0, iterations=200).solve(problem, callback=lambda k, it: seen.append(k))
    assert seen == list(range(len(found.history)))
    assert found.gap is not None and (found.gap >= 0).all()
    assert (found.gap < 0.05 * found.objective).all()
    assert found.iterations.max() == seen[-1]


def test_complex_images_are_free():
    F = Fourier((8, 8))
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(8, 8, dtype=torch.complex128)
    x[2:6, 3:7] = 1 - 2j
    y = F(x) + 0.1 * torch.randn(8, 8, generator=generator, dtype=torch.complex128)
    found = TotalVariation(iterations=200).solve(Problem(F, y, Gaussian(sigma=0.1)))
    assert (found.x - x).abs().square().sum() < (F.adjoint(y) - x).abs().square().sum() * 0.6
    assert (F(found.x) - y).abs().square().mean().item() == pytest.approx(0.01, rel=0.05)


def test_the_poisson_likelihood_of_the_counts(problem):
    found = TotalVariation(weight=20.0, iterations=200, likelihood="matching").solve(problem)
    by_weights = PWLSTotalVariation(weight=20.0, iterations=200)(problem)
    # at thousands of counts the two likelihoods agree
    assert (found.x - by_weights).norm() < 0.02 * by_weights.norm()


@pytest.mark.slow
def test_a_weight_keeps_its_meaning_over_pixel_sizes():
    """One scan of an ellipse with an insert, on pixels of 2 and 1 mm, at one λ; inside, where noise rules."""
    rmse, n = [], 384
    grid = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / 2
    r2 = (grid[:, None] / 80) ** 2 + (grid[None] / 60) ** 2
    fine = 0.02 * (r2 < 1).double() + 0.002 * ((grid[:, None] - 20) ** 2 + (grid[None] + 15) ** 2 < 18**2)
    truth, mask = averaged(fine, (96, 96)), averaged((r2 < 0.7).double(), (96, 96))
    for size in (96, 192):
        angles = [2 * math.pi * k / 60 for k in range(60)]
        geometry = FanBeam((size, size), 192 / size, angles, 96, 5.0, 500.0, 900.0, detector="arc")
        noise = LowDose(i0=5e3)
        data = noise(XRay(geometry.refined((n, n), 1))(fine), seed=1)
        problem = Problem(XRay(geometry), data, noise)
        # compared at the coarse resolution: the fine image has more to say about edges
        x = averaged(PWLSTotalVariation(weight=200.0, iterations=200)(problem), (96, 96))
        rmse.append(float((x - truth)[mask == 1].square().mean().sqrt()))
    assert rmse[0] == pytest.approx(rmse[1], rel=0.1)


def test_discrepancy_finds_the_root_of_each_image_by_itself():
    calls = []

    def solve(weight, x):
        calls.append(weight)
        return weight[:, None, None].log().expand(-1, 1, 1)

    def misfit(x):
        return (0.3 * (x.flatten() - torch.tensor([3.0, -4.0]))).exp()

    weight, x = discrepancy(solve, misfit, torch.ones(2), torch.zeros(2, 1, 1), tolerance=1e-3, solves=30)
    assert weight.log().tolist() == pytest.approx([3.0, -4.0], abs=0.01)
    assert x.flatten().tolist() == pytest.approx(weight.log().tolist())
    assert len(calls) < 15


def test_discrepancy_out_of_reach_ends_a_tenth_above_the_least():
    """χ²/m = 2 + λ never reaches 1: λ = 0.2, where it is 1.1 times the least. The other image is as alone."""

    def solve(w, x):
        return w[:, None, None]

    def misfit(x):
        return torch.stack([2 + x[0].flatten()[0], *(0.5 * x[k].flatten()[0] for k in range(1, len(x)))])

    weight, x = discrepancy(solve, misfit, torch.ones(2), torch.zeros(2, 1, 1), tolerance=1e-3, solves=30)
    assert weight.tolist() == pytest.approx([0.2, 2.0], rel=0.02)
    assert x.flatten().tolist() == pytest.approx(weight.tolist())


def test_discrepancy_an_image_at_rest_stays_whatever_its_neighbour_does():
    """A solver stopped early moves on with every call, also where the misfit is right already."""

    def solve(w, x):
        return x + 0.5 * (w.sqrt()[:, None] - x)

    def misfit(x):
        return x.square().flatten(1).mean(1)

    guess, start = torch.tensor([1.0, 50.0]).double(), torch.tensor([[0.975], [8.0]]).double()
    both, x = discrepancy(solve, misfit, guess, start)
    alone, z = discrepancy(solve, misfit, guess[:1], start[:1])
    assert torch.equal(both[:1], alone) and torch.equal(x[:1], z)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TotalVariation(weight=-1.0),
        lambda: TotalVariation(iterations=0),
        lambda: TotalVariation(likelihood="best"),
        lambda: Tikhonov(penalty="edges"),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_the_common_prox_is_that_of_the_sum_and_keeps_its_duals():
    shape = (12, 10)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = [0.3 * TV(shape), Composed(0.2 * WaveletL1(shape, "haar", 1), Identity(shape))]
    step = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    common = CommonProx(terms, Box(0.0, 1.0), 1e-9, 5000)
    found = common.prox(x, step)
    whole = [SquaredL2(x, ndim=2) @ Identity(shape), *(step * term for term in terms)]
    expected = run(pdhg(whole, Box(0.0, 1.0), x), 20_000, 1e-11)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # from the duals of the same prox there is nothing left to do
    calls = terms[0].A.calls.copy()
    again = common.prox(x, step)
    assert terms[0].A.calls["forward"] - calls["forward"] <= 3
    torch.testing.assert_close(again, found, rtol=0, atol=1e-7)
    for i in range(3):
        alone = CommonProx(terms, Box(0.0, 1.0)).prox(x[i], step[i])
        torch.testing.assert_close(
            alone, CommonProx(terms, Box(0.0, 1.0)).prox(x, step)[i], rtol=0, atol=1e-12
        )


def test_a_prior_of_one_number_for_all_images_is_refused(problem):
    class Whole(Functional):
        ndim = 2

        def forward(self, x):
            return x.square().sum()

    with pytest.raises(ValueError, match="one value per image"):
        VariationalReconstruction(Whole(), weight=1.0, iterations=2)(problem)
