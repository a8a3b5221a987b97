"""Simulation of volumes: pixels add intensities over rows and columns, and methods take what comes out."""

import math

import pytest
import torch

from operators import ConeBeam, ConeVectors, Gaussian, LowDose, ParallelBeam, ParallelBeam3D, XRay, fdk
from recon import CGLS, FBP, FDK, METHODS, SIRT
from recon.data import simulate, simulate_ellipsoids
from recon.data import simulation as module
from recon.data.ellipsoids import Ellipsoid, Ellipsoids
from recon.data.simulation import averaged

TURN = [2 * math.pi * k / 36 for k in range(36)]
CONE = ConeBeam((8, 16, 16), (2.0, 2.0, 2.0), TURN, (10, 24), (4.0, 3.5), 120.0, 200.0)
HELIX = ConeBeam((4, 16, 16), 2.0, [a - 3 * math.pi + t for t in (0, 6.2831853, 12.5663706) for a in TURN],
                 (12, 24), (4.0, 3.5), 120.0, 200.0, "arc", pitch=12.0)  # fmt: skip
PARALLEL = ParallelBeam3D((8, 16, 16), 2.0, TURN[:18], (8, 24), 2.0)
OBJECT = Ellipsoids(
    [
        Ellipsoid(0.02, (12.0, 9.0, 6.0), (1.0, -2.0, 0.5), (0.3, 0.2, 0.0)),
        Ellipsoid(0.03, (3.0, 4.0, 3.0), (-4.0, 2.0, -1.0)),
    ]
)
FINE = OBJECT.rasterise((32, 64, 64), 0.5)


def vectors(geometry):
    f = geometry.frames()
    grids = geometry.volume_shape, geometry.voxel_size, geometry.detector_shape
    return ConeVectors(*grids, f.source, f.centre, f.u, f.v, f.radius)


@pytest.mark.parametrize("fine", [(12, 8, 18), (7, 9, 10)])
def test_averaging_a_volume_is_that_of_a_common_grid(fine):
    coarse = (4, 4, 6)
    x = torch.rand(2, *fine, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    common = x
    for n, dim in zip(coarse, (1, 2, 3), strict=True):
        common = common.repeat_interleave(n, dim)
    blocks = common.unflatten(3, (6, -1)).unflatten(2, (4, -1)).unflatten(1, (4, -1))
    torch.testing.assert_close(averaged(x, coarse), blocks.mean((2, 4, 6)), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "geometry", [CONE, PARALLEL, HELIX, vectors(CONE)], ids=["cone", "parallel", "helix", "vectors"]
)
def test_data_are_those_of_the_fine_grid_and_truth_its_mean(geometry, monkeypatch):
    # a few views at a time, and another number the last time
    monkeypatch.setattr(module, "AT_ONCE", 5 * 9 * 10 * 24)
    shape = tuple(2 * n for n in geometry.volume_shape)
    volume = averaged(FINE, shape)
    problem, truth = simulate(volume, geometry, Gaussian(sigma=1e-9, data_ndim=3), oversampling=3)
    views, rows, columns = geometry.out_shape
    parts = XRay(geometry.refined(shape, 3))(volume).reshape(views, rows, 3, columns, 3)
    torch.testing.assert_close(problem.y, parts.mean((2, 4)), rtol=0, atol=1e-7)
    torch.testing.assert_close(truth, averaged(volume, geometry.volume_shape), rtol=0, atol=1e-15)
    assert problem.A.geometry == geometry


def test_vectors_are_refined_as_the_scan_they_describe():
    fine, same = vectors(CONE).refined((16, 32, 32), 2), vectors(CONE.refined((16, 32, 32), 2))
    assert (fine.voxel_size, fine.detector_shape) == (same.voxel_size, same.detector_shape)
    for a, b in zip(fine.rays(), same.rays(), strict=True):
        assert abs(a - b).max() < 1e-12


def test_intensities_are_added_over_rows_and_columns():
    noise = LowDose(i0=1e15, data_ndim=3)
    problem, _ = simulate(60 * FINE, CONE, noise, oversampling=2)
    views, rows, columns = CONE.out_shape
    parts = XRay(CONE.refined(FINE.shape, 2))(60 * FINE).reshape(views, rows, 2, columns, 2)
    expected = -parts.neg().exp().mean((2, 4)).log()
    seen = problem.y > 1e9  # counts of 1e9 know −log to 3e-5
    assert int(seen.sum()) > 2000
    torch.testing.assert_close(problem.linear[seen], expected[seen], rtol=0, atol=6 * 1e9**-0.5)
    assert float((expected - parts.mean((2, 4))).abs().max()) > 0.1


def test_volumes_and_ellipsoids_give_the_same_data():
    noise = Gaussian(sigma=1e-9, data_ndim=3)
    exact, exact_truth = simulate_ellipsoids(OBJECT, CONE, noise, oversampling=4, dtype=torch.float64)
    problem, truth = simulate(FINE, CONE, noise, oversampling=4)
    # what is left is Joseph's error on voxels of 0.5 mm, 7e-3, and half of it on voxels of 0.25 mm
    assert float((problem.y - exact.y).norm() / exact.y.norm()) < 1e-2
    assert float((truth - exact_truth).abs().max()) < 1e-3


def test_an_image_has_the_same_noise_alone_and_in_a_batch():
    noise = LowDose(i0=1e4, data_ndim=3)
    both = torch.stack([FINE, 0.5 * FINE]).float()
    batch, truths = simulate(both, CONE, noise, seed=[3, 4])
    alone, truth = simulate(both[1], CONE, noise, seed=[4])
    assert torch.equal(batch.y[1], alone.y)
    torch.testing.assert_close(truths[1], truth)


@pytest.mark.parametrize("geometry", [CONE, PARALLEL, HELIX], ids=["cone", "parallel", "helix"])
@pytest.mark.parametrize("method", [FBP(), CGLS(8), SIRT(30), CGLS()], ids=str)
def test_methods_take_volumes(geometry, method):
    fine = averaged(FINE, tuple(2 * n for n in geometry.volume_shape)).float()
    problem, truth = simulate(fine, geometry, LowDose(i0=2e5, electronic_sigma=3.0, data_ndim=3))
    x = method(problem)
    assert x.shape == truth.shape and x.dtype == torch.float32
    # voxels of a sixth of the object's height: partial volumes alone are some 10 %
    assert float((x - truth).norm() / truth.norm()) < 0.4


def test_fdk_is_a_name_of_fbp():
    assert METHODS["fdk"] is FDK
    problem, _ = simulate(FINE, CONE, Gaussian(relative=0.01, data_ndim=3))
    raw = FBP("cosine", frequency_scaling=0.8, positive=False)(problem)
    assert torch.equal(raw, fdk(CONE, problem.linear, "cosine", 0.8))
    assert torch.equal(FDK("cosine", frequency_scaling=0.8)(problem), raw.clamp_min(0))


QUIET = Gaussian(sigma=0.1, data_ndim=3)
PLANE = ParallelBeam((16, 16), 2.0, TURN, 24, 2.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: simulate(FINE, CONE, Gaussian(sigma=0.1)), r"data_ndim=3.*say Gaussian\(…, data_ndim=3\)"),
        (lambda: simulate_ellipsoids(OBJECT, CONE, LowDose(1e5)), "data_ndim=3"),
        (lambda: simulate(FINE[0], CONE, QUIET), r"expected \(\*batch, nz, ny, nx\)"),
        (
            lambda: simulate(FINE[:7], CONE, QUIET),
            "7 × 64 × 64 voxels are coarser than the reconstruction's 8",
        ),
        (lambda: simulate(torch.zeros(8, 16, 16), CONE, QUIET), "inverse_crime=True"),
        (lambda: simulate(-FINE, CONE, LowDose(1e5, data_ndim=3)), "no negative values"),
        (lambda: simulate(FINE, CONE, QUIET, oversampling=0), "oversampling"),
        (lambda: simulate(FINE[0, 0], PLANE, Gaussian(sigma=0.1)), r"expected \(\*batch, ny, nx\)"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
