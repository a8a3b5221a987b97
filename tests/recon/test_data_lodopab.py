"""LoDoPaB's transform, geometry and counts against what can be computed by hand."""

import math

import pytest
import torch

from operators import XRay
from recon.data import (
    LoDoPaBPairs,
    lodopab_attenuation,
    lodopab_geometry,
    lodopab_images,
    lodopab_problem,
)
from recon.data.lodopab import FIELD, MU_MAX, PHOTONS


def disc(size: int, radius: float, value: float) -> torch.Tensor:
    """A disc on `size`² pixels over the field, every pixel the mean of 8² points."""
    n = 8 * size
    at = (torch.arange(n, dtype=torch.float64) + 0.5) * FIELD / n - FIELD / 2
    inside = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).double()
    return value * inside.reshape(size, 8, size, 8).mean((1, 3))


def test_attenuation_of_air_water_and_the_ends_of_the_range():
    hu = torch.tensor([-1000.0, 0.0, 1000.0, 3071.0, -1100.0, 4000.0], dtype=torch.float64)
    # 20 /m of water, 0.02 /m of air, 81.35858 /m of 3071 HU
    expected = torch.tensor([2e-5, 0.02, 0.03998, 0.08135858, 0.0, 0.08135858], dtype=torch.float64)
    torch.testing.assert_close(lodopab_attenuation(hu), expected, rtol=1e-9, atol=1e-12)


def test_images_are_the_middle_of_the_slice_with_less_than_one_hu_added():
    hu = torch.full((2, 512, 512), -1000.0)
    hu[:, 75:437, 75:437] = 100.0
    images = lodopab_images(hu, seed=3)
    assert images.shape == (2, 362, 362)
    added = (images.double() - lodopab_attenuation(torch.tensor(100.0).double())) / (0.02 - 2e-5) * 1000
    # float32 attenuation is exact to 1e-4 HU
    assert float(added.min()) > -1e-3
    assert float(added.max()) < 1 + 1e-3
    # 131 044 values of variance 1/12: five standard deviations of their mean are 0.004
    assert abs(float(added[0].mean()) - 0.5) < 0.004
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[1], lodopab_images(hu, seed=3)[1])
    smaller = lodopab_images(hu, size=181, seed=3)
    torch.testing.assert_close(smaller, images.reshape(2, 181, 2, 181, 2).mean((2, 4)))


def test_geometry_is_the_published_one_and_keeps_the_noise_of_a_pixel_when_smaller():
    full = lodopab_geometry()
    assert (full.views, full.n_bins, full.image_shape) == (1000, 513, (362, 362))
    assert full.n_bins * full.bin_size / 2 == pytest.approx(183.8, abs=0.1)  # ± 0.1838 m
    assert full.angles[0] == pytest.approx(math.pi / 2000)
    assert full.angles[-1] == pytest.approx(math.pi - math.pi / 2000)
    half = lodopab_geometry(181)
    assert (half.views, half.n_bins) == (250, 257)
    # variance of a pixel ∝ 1 / (views · bin²) at equal photons a bin; 513 = 2·257 − 1
    kept = half.views * half.bin_size**2 / (full.views * full.bin_size**2)
    assert kept == pytest.approx((513 / 514) ** 2, rel=1e-9)


def test_noise_of_a_reconstructed_pixel_does_not_depend_on_the_grid():
    from operators import fbp

    spreads = []
    for size in (48, 96):
        image = disc(size, 100.0, 0.02)
        many = lodopab_problem(image.expand(8, size, size), seed=1)
        x = fbp(many.A, many.linear, filter="ram-lak")
        middle = slice(size // 2 - size // 8, size // 2 + size // 8)
        noise = (x - x.mean(0))[:, middle, middle]
        spreads.append(float(noise.square().sum() / (7 * noise[0].numel())))
    # the variance is of 8 × 12² correlated pixels; views and bins are rounded
    assert spreads[1] / spreads[0] == pytest.approx(1.0, rel=0.15)


def test_counts_have_the_mean_and_variance_of_4096_exp_minus_p():
    size, radius = 64, 90.0
    image = disc(size, radius, 0.02)
    problem = lodopab_problem(image.expand(40, size, size), seed=0)
    s = torch.as_tensor(problem.A.geometry.bins())
    inner = s.abs() < 0.8 * radius
    chord = 2 * 0.02 * (radius**2 - s[inner].square()).sqrt()
    expected = PHOTONS * torch.exp(-chord)
    counts = problem.y[..., inner]
    # the disc is made of pixels, interpolated: its line integrals are off by half a percent of a chord
    torch.testing.assert_close(counts.mean((0, 1)), expected, rtol=0.03, atol=0)
    clean = XRay(problem.A.geometry)(image)[..., inner]
    torch.testing.assert_close(problem.linear[..., inner].mean(0), clean, rtol=0.03, atol=0.03)
    # Poisson: variance over draws equals the mean, view by view; 39 degrees of freedom, 31 × bins of them
    ratio = float((counts.var(0) / counts.mean(0)).mean())
    assert ratio == pytest.approx(1.0, abs=5 * math.sqrt(2 / 39 / counts[0].numel()))


def test_no_photons_count_as_a_tenth_of_one():
    problem = lodopab_problem(torch.full((24, 24), MU_MAX, dtype=torch.float64))
    starved = problem.y == 0
    assert bool(starved.any())
    assert torch.allclose(problem.linear[starved], torch.tensor(math.log(PHOTONS / 0.1)).double())


def test_pairs_keep_patients_apart_and_images_as_they_are():
    train, validation, test = (
        torch.full((n, 24, 24), value) + 0.001 * torch.arange(n)[:, None, None]
        for n, value in ((3, 0.01), (2, 0.02), (1, 0.03))
    )
    train[:, :12] = 0.0
    with pytest.raises(ValueError, match="turned"):
        LoDoPaBPairs(train, validation, test, turned=True, train_size=1)
    data = LoDoPaBPairs(train, validation, test, turned=True)
    assert torch.equal(data.validation[1], validation)
    assert torch.equal(data.test[1], test)
    assert torch.equal(data.train[1], train)
    first, again = (next(data.batches(16, torch.Generator().manual_seed(5))) for _ in range(2))
    assert torch.equal(first[0].y, again[0].y)
    upright = {float(image.amax()) for image in train}
    assert {float(image.amax()) for image in first[1]} <= upright
    # half of the pixels stay 0 however an image is turned
    assert bool(((first[1] == 0).sum((1, 2)) == 288).all())
    assert len({tuple(image.flatten().tolist()) for image in first[1]}) > 3
    once = LoDoPaBPairs(train, validation, train_size=2)
    problem, truth = next(once.batches(2, torch.Generator().manual_seed(0)))
    order = [int(torch.equal(truth[0], train[1])), int(torch.equal(truth[1], train[1]))]
    assert torch.equal(problem.y, once.train[0].y[order])


def test_bad_input_says_what_was_expected():
    with pytest.raises(ValueError, match="square slices"):
        lodopab_images(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="not enlarged"):
        lodopab_images(torch.zeros(32, 32), size=64)
    with pytest.raises(ValueError, match="lodopab_geometry size"):
        lodopab_geometry(0)
    with pytest.raises(ValueError, match="LoDoPaBPairs validation"):
        LoDoPaBPairs(torch.zeros(2, 24, 24), torch.zeros(1, 23, 23))
    with pytest.raises(ValueError, match="train_size"):
        LoDoPaBPairs(torch.zeros(2, 24, 24), torch.zeros(1, 24, 24), train_size=3)
