"""The low-contrast phantom and its backgrounds: what they hold, and their statistics in closed form."""

import math

import numpy as np
import pytest
import torch

from operators import to_hu
from recon.data import low_contrast_phantom, lumpy_background, power_law_background
from recon.data.low_contrast import CCT189, MU_WATER, ring


def test_the_phantom_holds_its_discs():
    hu = to_hu(low_contrast_phantom().rasterise((1050, 1050), 0.2, 8), MU_WATER)
    for (diameter, contrast), (x, y) in zip(CCT189, ring(4), strict=True):
        assert math.hypot(x, y) == pytest.approx(40)
        row, column = round(525 - 0.5 - y / 0.2), round(525 - 0.5 + x / 0.2)
        assert float(hu[row, column]) == pytest.approx(contrast, abs=1e-6)
        near = hu[row - 40 : row + 41, column - 40 : column + 41]
        area = float(near.sum()) / contrast * 0.2**2
        # a rim of pixels 0.2 mm wide, sampled in eight rows
        assert area == pytest.approx(math.pi * diameter**2 / 4, rel=2e-3)
    assert float(hu[525, 525]) == pytest.approx(0, abs=1e-9) and float(hu[0, 0]) == -1000
    assert len(low_contrast_phantom(())) == 1


def test_a_soft_rim_falls_from_water_to_air_and_keeps_the_area():
    soft = low_contrast_phantom((), rim=16.0).rasterise((232, 232), 1.0, 8) / MU_WATER
    sharp = low_contrast_phantom(()).rasterise((232, 232), 1.0, 8) / MU_WATER
    # area of a linear fall differs by π rim²/12
    assert float(soft.sum() - sharp.sum()) == pytest.approx(math.pi * 16**2 / 12, rel=0.05)
    row = soft[115, 116:]
    assert float(row[:91].min()) == pytest.approx(1) and float(row[109:].max()) == 0
    # a step of 1/32 each half millimetre
    assert float(row.diff().abs().max()) == pytest.approx(1 / 16, rel=0.3)


def test_places_on_the_pixels():
    for size in (160, 161):
        for x, y in ring(8, 40.0, pixel_size=1.376, even=size % 2 == 0):
            column, row = x / 1.376 + (size - 1) / 2, (size - 1) / 2 - y / 1.376
            assert column == pytest.approx(round(column)) and row == pytest.approx(round(row))
            assert abs(math.hypot(x, y) - 40) < 1.376


def test_the_power_law_has_its_spectrum():
    size, h, sigma = 64, 1.2, 8.0
    images = power_law_background((size, size), h, sigma, exponent=3.0, longest=40.0, seed=3, count=400)
    f = torch.fft.fftfreq(size, h, dtype=torch.float64)
    expected = ((1 / 40) ** 2 + f[:, None] ** 2 + f[None] ** 2) ** -1.5
    expected = expected / expected.sum() * sigma**2 * size**2 * size**2
    ratio = (torch.fft.fft2(images).abs() ** 2).mean(0) / expected
    # entries of a mean of 400 exponential values have a standard deviation of 1/20 (1/14 at the 4 real ones)
    assert float(ratio.mean()) == pytest.approx(1, abs=3 / 20 / size * math.sqrt(2))
    assert float((ratio - 1).abs().max()) < 5.5 / 14
    assert float(images.var()) == pytest.approx(sigma**2, rel=0.1)


def test_the_lumps_have_their_mean_and_variance():
    density, amplitude, width = 0.01, 5.0, 3.0
    images = lumpy_background((40, 50), 1.0, density, amplitude, width, seed=5, count=600)
    variance = math.pi * density * amplitude**2 * width**2
    means = images.mean((1, 2))
    assert abs(float(means.mean())) < 3 * float(means.std()) / math.sqrt(600)
    squares = (images**2).mean((1, 2))
    assert abs(float(squares.mean()) - variance) < 3 * float(squares.std()) / math.sqrt(600)
    # the covariance at a distance r is the variance times exp(−r²/(4 width²)), at the border as well
    products = (images[:, :, 0] * images[:, :, 6]).mean(1)
    expected = variance * math.exp(-(6**2) / (4 * width**2))
    assert abs(float(products.mean()) - expected) < 3 * float(products.std()) / math.sqrt(600)


@pytest.mark.parametrize("background", [power_law_background, lumpy_background])
def test_one_seed_one_texture(background):
    together = background((12, 14), 1.0, seed=7, count=3)
    assert together.shape == (3, 12, 14) and together.dtype == torch.float64
    assert torch.equal(background((12, 14), 1.0, seed=7, count=2), together[:2])
    assert not torch.equal(together[0], together[1])
    again = background((12, 14), 1.0, seed=[1, 1], count=2)
    assert torch.equal(again[0], again[1])
    assert np.isfinite(together.numpy()).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: low_contrast_phantom([(3.0, 14.0, (99.0, 0.0))]), "leaves the cylinder"),
        (lambda: low_contrast_phantom(mu_water=0.0), "mu_water"),
        (lambda: low_contrast_phantom(rim=-1.0), "rim"),
        (lambda: power_law_background((8, 8), 1.0, sigma=-1.0), "sigma"),
        (lambda: lumpy_background((8, 8), 1.0, density=0.0), "density"),
        (lambda: lumpy_background((8, 8), 1.0, seed=[1, 2], count=3), "one per image"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
