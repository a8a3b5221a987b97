"""PET methods: stopping at the noise, counts kept, subsets, filters, and what a corrected FBP needs."""

import math

import pytest
import torch

from operators import Emission, Gaussian, ParallelBeam, ParallelBeam3D, Poisson, XRay
from operators.tensors import total
from recon import FBP, MLEM, OSEM, EmissionFBP, Problem, TotalVariation
from recon.emission import smoothed
from recon.fidelity import poisson
from recon.solvers import mlem, run

VIEWS = 24
GEOMETRY = ParallelBeam((20, 20), 8.0, [math.pi * k / VIEWS for k in range(VIEWS)], 30, 6.0)


@pytest.fixture(scope="module")
def scan():
    grid = (torch.arange(20, dtype=torch.float64) - 9.5) / 20
    body = (grid[:, None] ** 2 + (grid[None] / 0.8) ** 2 < 0.2).double()
    hot = ((grid[:, None] - 0.1) ** 2 + (grid[None] + 0.15) ** 2 < 0.008).double()
    A = Emission(XRay(GEOMETRY, "sparse"), 0.0096 * body)
    x = torch.stack([body + 4 * hot, body])
    background = 0.2 * A(x).mean((1, 2), keepdim=True).expand(2, VIEWS, 30) * 3
    noise = Poisson(scale=torch.tensor([3.0, 0.6], dtype=torch.float64)[:, None, None], background=background)
    return Problem(A, noise(A(x), seed=0), noise), x


METHODS = [
    MLEM(),
    OSEM(subsets=4),
    MLEM(iterations=5, fwhm=12.0),
    OSEM(iterations=2, subsets=4),
    EmissionFBP(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_alone_as_in_a_batch(method, scan):
    problem, _ = scan
    together = method(problem)
    for i in range(2):
        alone = method(Problem(problem.A, problem.y[i], problem.noise.select(i)))
        torch.testing.assert_close(alone, together[i], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("Method", [MLEM, OSEM])
def test_stops_at_the_noise(Method, scan):
    problem, _ = scan
    chi2 = poisson(problem).pearson(problem.A(Method()(problem))).square().mean((1, 2))
    assert (chi2 <= 1).all() and (chi2 > 0.8).all()
    early = Method(most=1)(problem)
    assert (poisson(problem).pearson(problem.A(early)).square().mean((1, 2)) > chi2).all()


def test_the_filter_is_as_wide_along_every_axis_of_a_volume():
    geometry = ParallelBeam3D((7, 15, 13), (4.0, 2.0, 1.5), (0.0, 1.0), (7, 30), (4.0, 1.0))
    A = Emission(XRay(geometry))
    point = torch.zeros(A.in_shape, dtype=torch.float64)
    point[3, 7, 6] = 1.0
    noise = Poisson(scale=100.0, data_ndim=3)
    problem = Problem(A, noise.expected(A(point)), noise)
    sharp, blurred = (MLEM(iterations=3, fwhm=w)(problem) for w in (0.0, 6.0))
    torch.testing.assert_close(blurred, smoothed(sharp, [1.5, 3.0, 4.0], 3))


def test_mlem_is_its_solver_from_a_uniform_image_of_the_right_counts(scan):
    problem, _ = scan
    noise, A = problem.noise, problem.A
    net = total(problem.y - noise.background, 2)
    flat = torch.ones(2, 20, 20, dtype=torch.float64)
    flat = flat * (net / total(noise.scale * A(flat), 2))[:, None, None]
    found = run(mlem(A, problem.y, flat, noise.background, noise.scale), 5)
    torch.testing.assert_close(MLEM(iterations=5)(problem), found, rtol=1e-12, atol=0)


def test_better_than_filtered_back_projection_and_penalised_better_still(scan):
    problem, x = scan

    def error(image):
        return (image - x).square().mean((1, 2)).sqrt()

    by_fbp, by_em = error(EmissionFBP()(problem)), error(OSEM(subsets=4)(problem))
    by_tv = error(TotalVariation(likelihood="matching")(problem))
    assert (by_em < by_fbp).all()
    assert (by_tv < by_em).all()


def test_corrected_projections_without_noise_are_those_of_the_transform(scan):
    problem, x = scan
    noise = Poisson(scale=2.0, background=5.0)
    exact = Problem(problem.A, noise.expected(problem.A(x)), noise)
    plain = Problem(problem.A.xray, problem.A.xray(x), Gaussian(1.0))
    torch.testing.assert_close(EmissionFBP("hann")(exact), FBP("hann")(plain), rtol=1e-9, atol=1e-11)


def test_the_filter_keeps_the_mean_and_has_its_width():
    x = torch.zeros(41, 41, dtype=torch.float64)
    x[20, 20] = 1
    s = smoothed(x, 6.0, 2)
    assert s.sum().item() == pytest.approx(1)
    # half the height at half the width
    assert (s[20, 23] / s[20, 20]).item() == pytest.approx(0.5, rel=1e-12)
    torch.testing.assert_close(s, s.T)
    torch.testing.assert_close(smoothed(torch.ones(2, 3, 4), 3.0, 2), torch.ones(2, 3, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: MLEM(iterations=0),
        lambda p: OSEM(subsets=0),
        lambda p: MLEM(fwhm=-1.0),
        lambda p: MLEM(1)(Problem(p.A, p.y, Gaussian(1.0))),
        lambda p: EmissionFBP()(Problem(p.A.xray, p.y, p.noise)),
    ],
)
def test_bad_arguments(make, scan):
    with pytest.raises(ValueError, match="expect"):
        make(scan[0])
