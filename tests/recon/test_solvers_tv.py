"""All ways to minimise least squares + total variation agree, and the gap says how far they are."""

import math

import pytest
import torch

from operators import Identity, ParallelBeam, XRay
from priors import TV, NonNegative, SquaredL2
from recon.solvers import admm, douglas_rachford, fista, pdhg, run, trace
from recon.solvers.metric import _symbol


@pytest.fixture(scope="module")
def case():
    A = XRay(ParallelBeam((12, 12), 0.5, [math.pi * k / 9 for k in range(9)], 17, 0.5), backend="sparse")
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(12, 12, dtype=torch.float64)
    x[3:9, 2:7], x[5:7, 4:11] = 1.0, 2.0
    y = A(x) + 0.05 * torch.randn(A.out_shape, generator=generator, dtype=torch.float64)
    f, tv = SquaredL2(target=y, weight=400.0), TV((12, 12), pixel_size=0.5, weight=8.0)
    best = trace(pdhg([f @ A, tv], NonNegative(), torch.zeros_like(x)), 6000, tolerance=1e-9).last

    def objective(image):
        return f(A(image)) + tv(image)

    return A, f, tv, torch.zeros_like(x), objective, best


def test_the_gap_closes(case):
    *_, objective, best = case
    assert best.gap is not None
    assert 0 <= best.gap < 1e-5 * best.objective
    assert best.objective.item() == pytest.approx(objective(best.x).item(), rel=1e-12)


@pytest.mark.parametrize("name", ["circulant", "admm", "douglas_rachford"])
def test_solvers_agree(name, case):
    A, f, tv, x, objective, best = case
    if name == "circulant":
        found = run(pdhg([f @ A, tv], NonNegative(), x, circulant=True), 600)
    elif name == "admm":
        found = run(admm([f @ A, tv], NonNegative(), x), 800)
    else:
        found = run(douglas_rachford([f @ A, tv], NonNegative(), x), 3000)
    assert found.min() >= 0
    assert objective(found).item() == pytest.approx(best.objective.item(), rel=1e-4)


def test_the_minimiser_is_a_fixed_point_of_fista_with_the_prox_of_tv(case):
    A, f, tv, x, objective, _ = case
    best = trace(pdhg([f @ A, tv], None, x), 4000, tolerance=1e-9).last.x

    class Exact(TV):
        def prox(self, x, step):
            return super().prox(x, step, iterations=20000, tolerance=1e-6)

    L = 400 * (1.02 * A.norm()) ** 2
    found = trace(fista(f @ A, Exact((12, 12), 0.5, weight=8.0), L, best), 5)
    # from zero the same measure begins at 1
    assert found.last.residual < 1e-5
    assert objective(found.last.x).item() == pytest.approx(objective(best).item(), rel=1e-5)


def test_the_filter_does_not_remember_the_precision_of_an_earlier_caller():
    """A float64 run after one in float32 is that of an operator never used before."""
    A = XRay(ParallelBeam((9, 8), 1.0, [0.1, 1.0, 2.0], 13, 1.0))
    B = XRay(ParallelBeam((9, 8), 1.0, [0.1, 1.0, 2.0], 13, 1.0))
    x = torch.zeros(9, 8, dtype=torch.float64)
    _symbol(A, x.float())
    assert torch.equal(_symbol(A, x), _symbol(B, x))


@pytest.mark.parametrize("circulant", [False, True])
def test_the_gap_bounds_the_error_along_the_way(circulant, case):
    A, f, tv, x, objective, best = case
    seen = []

    def look(k, iterate):
        if iterate.gap is not None:
            seen.append(
                (iterate.gap, objective(iterate.x) - best.objective, iterate.objective, objective(iterate.x))
            )

    run(pdhg([f @ A, tv], NonNegative(), x, circulant=circulant), 300, callback=look)
    assert len(seen) == 60
    for gap, excess, told, value in seen:
        assert gap >= excess - 1e-6 * best.objective
        assert told.item() == pytest.approx(value.item(), rel=1e-9)
    assert seen[-1][0] < 0.1 * seen[0][0]


def test_denoising_a_disc_lowers_its_contrast_by_2_lambda_over_r():
    # Strong and Chan, Inverse Problems 19 (2003): ½‖u − f‖² + λ TV lowers a disc of radius r by 2λ/r; in a
    # box of area |Ω| the background rises by 2πrλ / (|Ω| − πr²)
    n, radius, weight = 64, 16.0, 1.0
    grid = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    fine = torch.arange(8 * n, dtype=torch.float64) / 8 - (n - 1 / 8) / 2
    disc = ((fine[:, None] ** 2 + fine[None] ** 2) < radius**2).double().reshape(n, 8, n, 8).mean((1, 3))
    f = SquaredL2(target=disc)
    x = run(pdhg([f @ Identity((n, n)), weight * TV((n, n))], None, disc), 500, tolerance=1e-5)
    inside = (grid[:, None] ** 2 + grid[None] ** 2) < (radius - 4) ** 2
    # the grid's isotropic TV of a circle is within 3 % of its perimeter
    assert (1 - x[inside].mean()).item() == pytest.approx(2 * weight / radius, rel=0.05)
