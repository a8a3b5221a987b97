"""Simulation: the truth is the exact mean, bins add intensities, seeds belong to images."""

import math

import pytest
import torch

from operators import FanBeam, Gaussian, LowDose, ParallelBeam, Poisson, XRay
from recon.data import Ellipse, Ellipses, random_head, simulate, simulate_ellipses
from recon.data.simulation import averaged

PARALLEL = ParallelBeam((32, 24), 2.0, [0.1, 0.9, 2.0, 2.8], 31, 3.0, offset=0.4)
FAN = FanBeam((32, 24), 2.0, [0.1, 0.9, 2.0, 2.8], 31, 5.0, 150.0, 260.0, detector="arc")
OBJECT = Ellipses([Ellipse(0.02, (22, 15), (3, -4), 0.4), Ellipse(0.03, (6, 4), (-5, 9), 1.0)])
FINE = OBJECT.rasterise((128, 96), 0.5)


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_averaging_by_whole_numbers_is_block_means():
    x = image(2, 12, 18)
    expected = x.reshape(2, 4, 3, 9, 2).mean((2, 4))
    torch.testing.assert_close(averaged(x, (4, 9)), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("fine, coarse", [((7, 10), (3, 4)), ((9, 5), (9, 5)), ((13, 11), (6, 10))])
def test_averaging_by_any_ratio_is_that_of_a_common_grid(fine, coarse):
    x = image(*fine)
    # on a grid of fine × coarse pixels both are whole blocks
    common = x.repeat_interleave(coarse[0], 0).repeat_interleave(coarse[1], 1)
    expected = common.reshape(coarse[0], fine[0], coarse[1], fine[1]).mean((1, 3))
    torch.testing.assert_close(averaged(x, coarse), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("geometry", [PARALLEL, FAN], ids=["parallel", "fan"])
def test_data_are_those_of_the_fine_grid_and_truth_its_mean(geometry):
    problem, truth = simulate(FINE, geometry, Gaussian(sigma=1e-9), oversampling=3)
    fine = XRay(geometry.refined((128, 96), 3))(FINE).reshape(4, 31, 3).mean(-1)
    torch.testing.assert_close(problem.y, fine, rtol=0, atol=1e-7)
    torch.testing.assert_close(truth, FINE.reshape(32, 4, 24, 4).mean((1, 3)), rtol=0, atol=1e-15)
    assert problem.A.geometry == geometry
    crime = problem.A(truth)
    assert float((crime - fine).norm() / fine.norm()) > 1e-3


@pytest.mark.parametrize("geometry", [PARALLEL, FAN], ids=["parallel", "fan"])
def test_images_and_ellipses_give_the_same_data(geometry):
    exact, exact_truth = simulate_ellipses(OBJECT, geometry, Gaussian(sigma=1e-9), dtype=torch.float64)
    fine = OBJECT.rasterise((512, 384), 0.125)
    problem, truth = simulate(fine, geometry, Gaussian(sigma=1e-9), oversampling=8)
    # what is left is Joseph's error on 0.125 mm pixels
    assert float((problem.y - exact.y).norm() / exact.y.norm()) < 2e-3
    torch.testing.assert_close(truth, exact_truth, rtol=0, atol=2e-4)


def test_low_dose_bins_add_intensities():
    problem, _ = simulate(50 * FINE, PARALLEL, LowDose(i0=1e15), oversampling=4)
    fine = XRay(PARALLEL.refined((128, 96), 4))(50 * FINE).reshape(4, 31, 4)
    expected = -fine.neg().exp().mean(-1).log()
    seen = problem.y > 1e9  # counts of 1e9 know −log to 3e-5
    assert 20 < int(seen.sum()) < seen.numel()
    torch.testing.assert_close(problem.linear[seen], expected[seen], rtol=0, atol=5 * 1e9**-0.5)
    assert float((expected - fine.mean(-1)).abs().max()) > 0.1


def test_open_noise_parameters_are_fixed_for_the_clean_data():
    problem, _ = simulate(FINE, PARALLEL, Gaussian(relative=0.05))
    clean = simulate(FINE, PARALLEL, Gaussian(sigma=1e-12))[0].y
    assert problem.noise.sigma == pytest.approx(0.05 * float(clean.mean()), rel=1e-9)
    assert float((problem.y - clean).std()) == pytest.approx(problem.noise.sigma, rel=0.3)


@pytest.mark.parametrize("noise", [Gaussian(relative=0.1), LowDose(1e4, 3.0)])
def test_a_seed_gives_the_same_data_alone_and_in_a_batch(noise):
    batch = torch.stack([FINE, 2 * FINE])
    one, _ = simulate(FINE, PARALLEL, noise, seed=5)
    both, truth = simulate(batch, PARALLEL, noise, seed=5)
    assert truth.shape == (2, 32, 24) and both.y.shape == (2, 4, 31)
    torch.testing.assert_close(both.y[0], one.y, rtol=1e-12, atol=0)
    again, _ = simulate(FINE, PARALLEL, noise, seed=6)
    assert not torch.equal(again.y, one.y)
    each, _ = simulate(batch, PARALLEL, noise, seed=[8, 9])
    swapped, _ = simulate(batch.flip(0), PARALLEL, noise, seed=[9, 8])
    torch.testing.assert_close(each.y.flip(0), swapped.y, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_image_decides_the_dtype(dtype):
    problem, truth = simulate(FINE.to(dtype), PARALLEL, Gaussian(relative=0.1))
    assert problem.y.dtype == truth.dtype == dtype


def test_fine_pixels_need_not_divide_the_coarse_ones():
    fine = OBJECT.rasterise((80, 60), 0.8)
    _, truth = simulate(fine, PARALLEL, Gaussian(sigma=1e-9))
    assert truth.shape == (32, 24)
    assert float(truth.mean()) == pytest.approx(float(fine.mean()), rel=1e-12)


def test_the_reconstruction_grid_is_allowed_when_asked_for():
    x = OBJECT.rasterise((32, 24), 2.0)
    problem, truth = simulate(x, PARALLEL, Gaussian(sigma=1e-9), oversampling=1, inverse_crime=True)
    torch.testing.assert_close(problem.y, problem.A(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(truth, x, rtol=0, atol=1e-15)


def test_a_random_head_of_ellipses_can_be_scanned():
    geometry = FanBeam(
        (64, 64), 220 / 64, [2 * math.pi * k / 12 for k in range(12)], 92, 10.2864, 595.0, 1085.6, "arc"
    )
    problem, truth = simulate_ellipses(random_head(0), geometry, LowDose(5.6e5, 3.0), seed=1)
    assert problem.y.dtype == truth.dtype == torch.float32 and problem.y.shape == (12, 92)
    assert 3 < float(problem.linear.max()) < 7


def bad(value):
    x = FINE.clone()
    x[3, 4] = value
    return x


@pytest.mark.parametrize(
    "fine, noise, options, message",
    [
        (FINE[:, :64], Gaussian(sigma=1.0), {}, "field of view"),
        (FINE[::8, ::8], Gaussian(sigma=1.0), {}, "coarser"),
        (FINE[::4, ::4], Gaussian(sigma=1.0), {}, "inverse_crime=True"),
        (bad(math.nan), Gaussian(sigma=1.0), {}, "1 NaN or inf"),
        (bad(math.inf), Gaussian(sigma=1.0), {}, "1 NaN or inf"),
        (FINE.mul(1000).int(), Gaussian(sigma=1.0), {}, "floating-point"),
        (FINE.to(torch.complex128), Gaussian(sigma=1.0), {}, "floating-point"),
        (FINE.numpy(), Gaussian(sigma=1.0), {}, "floating-point"),
        (FINE[0], Gaussian(sigma=1.0), {}, "shape"),
        (bad(-0.1), LowDose(1e4), {}, "not HU"),
        (bad(-0.1), Poisson(10.0), {}, "negative"),
        (FINE, Gaussian(sigma=1.0), {"oversampling": 0}, "oversampling"),
        (FINE, Gaussian(sigma=1.0), {"oversampling": 1.5}, "oversampling"),
    ],
)
def test_what_cannot_be_simulated_is_refused(fine, noise, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(fine, PARALLEL, noise, **options)
