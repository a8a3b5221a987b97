"""Variational methods on volumes: the same solvers, voxels of any shape."""

import math

import pytest
import torch

from operators import ConeBeam, Gaussian, Gradient, ParallelBeam3D, XRay
from priors import TV, HuberTV
from recon import CGLS, HuberTotalVariation, Problem, Tikhonov, TotalVariation
from recon.data.ellipsoids import off_centre_solids

TURN = [2 * math.pi * k / 24 for k in range(24)]
SCANS = {
    "cone": ConeBeam((12, 16, 16), (1.25, 1.0, 1.0), TURN, (12, 26), 2.0, 40.0, 80.0),
    "helix": ConeBeam((12, 16, 16), (1.25, 1.0, 1.0), TURN, (12, 26), 2.0, 40.0, 80.0, pitch=2.0),
    "parallel": ParallelBeam3D((12, 16, 16), (1.25, 1.0, 1.0), TURN[:12], (15, 24), 1.0),
}


def problem(name):
    geometry = SCANS[name]
    solids = off_centre_solids(8.0, value=0.1)
    noise, A = Gaussian(sigma=0.02, data_ndim=3), XRay(geometry)
    truth = solids.rasterise((12, 16, 16), (1.25, 1.0, 1.0))
    # data of the grid's own model: what is tested is the method
    return Problem(A, noise(A(truth), seed=0), noise), truth


@pytest.mark.parametrize("name", SCANS)
def test_total_variation_beats_least_squares(name):
    given, truth = problem(name)
    method = TotalVariation(iterations=60)
    solution = method.solve(given)
    assert solution.weight > 0
    assert bool((solution.x >= -1e-12).all())
    # at the discrepancy's weight the residual is that of the noise: within the search's own tolerance
    misfit = float(((given.A(solution.x) - given.y) ** 2).mean() / 0.02**2)
    assert 0.8 < misfit < 1.2
    best = min(float((CGLS(iterations=k)(given) - truth).norm()) for k in (3, 5, 10, 20))
    assert float((solution.x - truth).norm()) < 0.9 * best


@pytest.mark.parametrize(
    "method", [HuberTotalVariation(0.5, delta=5e-3), Tikhonov(1.0)], ids=["huber", "tikhonov"]
)
def test_smooth_methods_reach_a_stationary_point(method):
    given, _ = problem("cone")
    x = method(given)
    d = (given.y - given.A(x)) / 0.02**2
    slope = -given.A.adjoint(d)
    if isinstance(method, Tikhonov):
        slope = slope + 1.25 * Gradient(x.shape, (1.25, 1.0, 1.0)).gram(x)
    else:
        slope = slope + 0.5 * HuberTV(x.shape, (1.25, 1.0, 1.0), 5e-3).grad(x)
    # zero inside, not negative where x is held at zero; against the slope at zero
    scale = given.A.adjoint(given.y).norm() / 0.02**2
    free = slope[x > 1e-6]
    assert float(free.norm() / scale) < 2e-3
    assert float(slope[x <= 1e-6].min() / scale) > -2e-3


def test_total_variation_of_a_cone_is_slope_times_volume():
    """∫|∇x| of x = c·max(0, R − |r|) is c·4πR³/3, approached as the voxels shrink."""
    errors = []
    for n, voxel in ((32, (1.0, 1.0, 1.0)), (64, (0.5, 0.5, 0.5)), (64, (1.0, 0.5, 0.5))):
        shape = (round(32 / voxel[0]), n, n)
        axes = [
            (torch.arange(m, dtype=torch.float64) - (m - 1) / 2) * h
            for m, h in zip(shape, voxel, strict=True)
        ]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        cone = 0.3 * (12 - (x**2 + y**2 + z**2).sqrt()).clamp(min=0)
        errors.append(abs(float(TV(shape, voxel)(cone)) / (0.3 * 4 / 3 * math.pi * 12**3) - 1))
    # one-sided differences miss by some half voxel in the kinks: of the radius, and of 3 / 12 of the volume
    assert errors[0] < 0.5 * 1.0 / 12
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < errors[0]


def test_a_slab_of_equal_slices_is_an_image():
    x = torch.randn(7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    volume = x.expand(4, 7, 9)
    for flat, solid in (
        (TV((7, 9), 0.7), TV((4, 7, 9), (1.3, 0.7, 0.7))),
        (TV((7, 9), 0.7, isotropic=False), TV((4, 7, 9), (1.3, 0.7, 0.7), isotropic=False)),
        (HuberTV((7, 9), 0.7, 0.3), HuberTV((4, 7, 9), (1.3, 0.7, 0.7), 0.3)),
    ):
        torch.testing.assert_close(solid(volume), 4 * 1.3 * flat(x), rtol=1e-12, atol=0)
        near, far = flat.prox(x, 0.5, tolerance=1e-7), solid.prox(volume, 0.5 * 1.0 / 1.3, tolerance=1e-7)
        # the cell is 1.3 times as large, so a step 1/1.3 as long does the same to every slice
        torch.testing.assert_close(far, near.expand(4, 7, 9), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TV((3, 4, 5), (1.0, 2.0)), r"pixel_size: expected a positive number or 3 of them"),
        (lambda: TV((3, 4, 5), (1.0, 2.0, 0.0)), "pixel_size"),
        (lambda: TV((3,)), r"shape: expected \(ny, nx\) or \(nz, ny, nx\)"),
        (lambda: Gradient((3, 4), (1.0, -1.0)), r"spacing \[mm\]: expected a positive number or 2"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
