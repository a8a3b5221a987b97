"""NPS, TTF, MTF, CNR, HU bias, streaks and regions against closed forms."""

import math

import numpy as np
import pytest
import torch

from recon.data.ellipses import Ellipses, disc
from recon.metrics import (
    cnr,
    cut,
    hu_bias,
    material_regions,
    noise_power_spectrum,
    point_transfer,
    streak_index,
    task_transfer,
    transfer_error,
)
from recon.metrics.rois import distances, radial_frequency

H = 0.7  # [mm]


def white(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coloured(n, size, power, seed=0):
    """Noise on a periodic grid whose NPS is `power` (size, size), centred."""
    spectrum = torch.fft.fft2(white(n, size, size, seed=seed)) * torch.fft.ifftshift(power).sqrt() / H
    return torch.fft.ifft2(spectrum).real


def gaussian(size, sigma):
    """(size, size) whose transform at |f| is exp(−2π²σ²f²), centred on the middle."""
    power = torch.exp(-2 * (math.pi * sigma * radial_frequency((size, size), H)) ** 2)
    return torch.fft.ifftshift(power)


def blurred(image, sigma):
    return torch.fft.ifft2(torch.fft.fft2(image) * gaussian(image.shape[-1], sigma)).real


@pytest.mark.parametrize("detrend", ["quadratic", "mean", "repeats"])
@pytest.mark.parametrize("shape", [(16, 16), (15, 22)])
def test_the_integral_is_the_variance_exactly(detrend, shape):
    rois = 3 + 5 * white(2, 6, *shape) + torch.linspace(0, 9, shape[1])
    if detrend == "repeats":
        residual = (rois[0] - rois[1]) / math.sqrt(2)
    elif detrend == "mean":
        residual = rois - rois.mean((-2, -1), keepdim=True)
    else:
        y, x = np.mgrid[: shape[0], : shape[1]].reshape(2, -1)
        basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).astype(float)
        flat = rois.reshape(12, -1).numpy()
        fit = basis @ np.linalg.lstsq(basis, flat.T, rcond=None)[0]
        residual = torch.from_numpy(flat - fit.T)
    found = noise_power_spectrum(rois, H, detrend).variance
    assert found == pytest.approx(float((residual**2).mean()), rel=1e-10)


def test_white_noise_has_a_flat_spectrum_of_variance_times_pixel_area():
    sigma, n = 12.0, 300
    power = noise_power_spectrum(sigma * white(n, 32, 32), H, "mean")
    radial = power.radial()
    expected = sigma**2 * H**2
    pulls = (radial.nps - expected) / radial.error
    # independent rings: sum of squares of 16 pulls is χ² of 16, whose 0.999 quantile is 39.3
    assert len(pulls) == 16 and float((pulls**2).sum()) < 39.3
    # the error of a periodogram is its value over √n; error bars from 300 values are good to 4 %, 3 of them
    middle = power.error[1:, 1:].mean() / (expected / math.sqrt(n))
    assert float(middle) == pytest.approx(1, abs=0.02)
    assert radial.mean_frequency == pytest.approx(float(radial.frequency.mean()), rel=0.01)


def test_repeats_and_coloured_noise():
    size, repeats = 32, 5
    f = radial_frequency((size, size), H)
    truth = 40 * f * torch.exp(-((f / 0.25) ** 2)) + 1.0
    scans = coloured(repeats * 60, size, truth).reshape(repeats, 60, size, size)
    background = 100 * distances((size, size), H)
    radial = noise_power_spectrum(scans + background, H, "repeats").radial()
    ring = (f * size * H).round().long()
    expected = torch.stack([truth[ring == k].mean() for k in range(1, size // 2 + 1)])
    pulls = (radial.nps - expected) / radial.error
    assert float((pulls**2).sum()) < 39.3
    assert radial.degrees == 60 * (repeats - 1)
    # a maximum of f exp(−(f/0.25)²) at 0.25/√2, to a ring
    assert radial.peak_frequency == pytest.approx(0.25 / math.sqrt(2), abs=1 / (size * H))
    mean = float((radial.frequency * expected).sum() / expected.sum())
    assert abs(radial.mean_frequency - mean) < 3 * radial.mean_frequency_error
    assert 0 < radial.mean_frequency_error < 0.01


def test_the_mean_frequency_error_is_the_spread_of_repeated_measurements():
    power = 1 + 20 * radial_frequency((16, 16), H)
    found = [noise_power_spectrum(coloured(20, 16, power, seed=s), H, "mean").radial() for s in range(150)]
    spread = np.std([r.mean_frequency for r in found], ddof=1)
    # a standard deviation of 150 values is known to 6 %
    assert np.mean([r.mean_frequency_error for r in found]) == pytest.approx(spread, rel=0.18)


def test_a_single_region_has_no_error():
    power = noise_power_spectrum(white(1, 16, 16), H)
    assert torch.isinf(power.error).all() and math.isinf(power.radial().mean_frequency_error)


@pytest.mark.parametrize("contrast", [100.0, -7.0])
def test_the_edge_of_a_blurred_disc_gives_its_transfer(contrast):
    sigma, radius, centre = 0.8, 20.0, (3.3, -2.1)
    # 8 × finer, blurred and averaged to pixels: TTF is the blur's times the pixel's
    fine = Ellipses([disc(contrast, radius, centre)]).rasterise((96, 96), H, 16)
    found = task_transfer(blurred(fine, sigma) + 1000, H, centre, radius)
    f = found.frequency
    # a pixel seen from all directions: the mean of sinc over the angle
    angle = torch.linspace(0, math.pi / 2, 91, dtype=torch.float64)[:, None]
    pixel = (torch.sinc(f * H * torch.cos(angle)) * torch.sinc(f * H * torch.sin(angle))).mean(0)
    expected = torch.exp(-2 * (math.pi * sigma * f) ** 2) * pixel
    # the edge of a disc of 20 mm differs from a straight one by blur over radius, squared
    assert float((found.transfer - expected).abs().max()) < 0.01
    assert found.contrast == pytest.approx(contrast, rel=1e-6)
    assert found.at(0.5) == found.f50 < found.f10
    level = float(torch.exp(torch.tensor(-2 * (math.pi * sigma * found.f50) ** 2)))
    assert level * float(pixel[(f - found.f50).abs().argmin()]) == pytest.approx(0.5, abs=0.01)


def test_f50_of_a_noisy_edge_is_right_within_its_jackknife_error():
    sigma, radius = 1.0, 18.0
    clean = blurred(Ellipses([disc(60.0, radius)]).rasterise((72, 72), H, 16), sigma)
    exact = task_transfer(clean, H, (0.0, 0.0), radius).f50
    images = clean + 10 * white(12, 72, 72)
    keep = [[j for j in range(12) if j != k] for k in range(12)]
    error = transfer_error([task_transfer(images[k], H, (0.0, 0.0), radius) for k in keep])
    found = task_transfer(images, H, (0.0, 0.0), radius)
    assert 0 < error < 0.2 * exact
    # 3 standard errors
    assert abs(found.f50 - exact) < 3 * error
    assert found.contrast_to_noise > 15


def test_a_point_gives_the_transfer_of_its_blur():
    sigma = 0.9
    image = torch.zeros(64, 64, dtype=torch.float64)
    image[30, 37] = 500.0
    # pixel (30, 37) lies at x = 5.5 h, y = 1.5 h
    found = point_transfer(blurred(image, sigma) + 40, H, (5.5 * H, 1.5 * H), size=33)
    expected = torch.exp(-2 * (math.pi * sigma * found.frequency) ** 2)
    # rings as wide as the frequency grid bend the mean of a curve by at most this
    assert float((found.transfer - expected).abs().max()) < 0.01
    # the blur is cut off at Nyquist's frequency, and its ripples leave the square
    assert found.contrast == pytest.approx(500 * H**2, rel=1e-4)
    assert found.f50 == pytest.approx(math.sqrt(math.log(2) / 2) / (math.pi * sigma), rel=0.02)


def test_transfer_interpolates_and_may_never_fall():
    image = torch.zeros(40, 40, dtype=torch.float64)
    image[20, 20] = 1.0
    found = point_transfer(image, 1.0, (0.5, -0.5), size=21)
    assert math.isinf(found.f50) and math.isinf(found.contrast_to_noise)
    torch.testing.assert_close(found(torch.tensor([0.1, 9.0])), torch.ones(2, dtype=torch.float64))


def test_cnr_by_hand():
    image = torch.tensor([[1.0, 3.0, 10.0, 16.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    signal, background = torch.zeros(2, 4, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    signal[0, 2:], background[0, :2] = True, True
    # means 13 and 2, sample variances 18 and 2
    assert float(cnr(image, signal, background)) == pytest.approx(11 / math.sqrt(10))
    both = torch.stack([image, 2 * image - 5])
    torch.testing.assert_close(
        cnr(both, signal, background), torch.full((2,), 11 / math.sqrt(10), dtype=torch.float64)
    )


def test_hu_bias_per_material():
    water, truth = 0.02, torch.zeros(2, 24, 24, dtype=torch.float64)
    truth[:, 4:20, 4:20] = water
    truth[1, 8:16, 8:16] = water * 1.8
    image = truth + water * torch.where(truth > 1.5 * water, -0.03, 0.004)
    regions = material_regions(truth, water, margin=1)
    assert list(regions) == ["air", "water", "bone"]
    # a pixel off the edges of 16 × 16, and of the bone of 8 × 8 inside
    assert regions["water"].sum((1, 2)).tolist() == [14**2, 14**2 - 10**2]
    assert regions["bone"].sum((1, 2)).tolist() == [0, 6**2]
    bias = hu_bias(image, truth, mu_water=water, regions=regions)
    assert bias["water"].tolist() == pytest.approx([4.0, 4.0])
    assert math.isnan(bias["bone"][0]) and float(bias["bone"][1]) == pytest.approx(-30.0)


def test_streaks_count_and_white_noise_averages_out():
    mask = torch.ones(128, 128, dtype=torch.bool)
    noise = white(128, 128)
    # 256 tiles: a standard deviation known to 4.4 %, 3 of them
    assert float(streak_index(noise, mask)) == pytest.approx(1 / 8, rel=0.14)
    stripes = (torch.arange(128) // 8 % 2).double().expand(128, 128)
    expected = float(torch.tensor([0.0, 1.0]).repeat(128).std())
    assert float(streak_index(stripes, mask)) == pytest.approx(expected)
    half = mask.clone()
    half[:, 60:] = False
    seven = torch.tensor([0.0, 1, 0, 1, 0, 1, 0]).repeat(16).std()
    assert float(streak_index(stripes, half)) == pytest.approx(float(seven))


def test_cut_takes_the_nearest_pixels():
    image = torch.arange(63, dtype=torch.float64).reshape(7, 9)
    squares = cut(image, [(0.0, 0.0), (2.1, -1.0)], 3, 1.0)
    assert torch.equal(squares[0], image[2:5, 3:6]) and torch.equal(squares[1], image[3:6, 5:8])
    assert cut(image.expand(2, 5, 7, 9), [(0.0, 0.0)], 3, 1.0).shape == (2, 5, 1, 3, 3)


IMAGE = torch.zeros(40, 40, dtype=torch.float64)
MASK = torch.ones(40, 40, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: noise_power_spectrum(IMAGE, H), r"\(n, ny, nx\)"),
        (lambda: noise_power_spectrum(IMAGE[None], -1.0), "pixel_size"),
        (lambda: noise_power_spectrum(IMAGE[None], H, "linear"), "detrend"),
        (lambda: noise_power_spectrum(IMAGE[None], H, "repeats"), "repeats ≥ 2"),
        (lambda: noise_power_spectrum(IMAGE[None, :2, :3], H), "leaves no noise"),
        (lambda: noise_power_spectrum(IMAGE[None] * math.nan, H), "NaN"),
        (lambda: noise_power_spectrum(IMAGE[None] * 1j, H), "real"),
        (lambda: task_transfer(IMAGE, H, (0.0, 0.0), 7.0), "no contrast"),
        (lambda: task_transfer(IMAGE, H, (9.0, 0.0), 8.0), "leaves the image"),
        (lambda: task_transfer(IMAGE, H, (0.0, 0.0), 2.0), "reach"),
        (lambda: task_transfer(IMAGE, H, (0.0, 0.0), math.nan), "radius"),
        (lambda: point_transfer(IMAGE, H, (0.0, 0.0)), "nothing"),
        (lambda: point_transfer(IMAGE, H, (0.0, 0.0), size=7), "at least 8"),
        (lambda: point_transfer(IMAGE, H, (9.0, 0.0)), "leaves the image"),
        (lambda: transfer_error([]), "at least 2"),
        (lambda: cnr(IMAGE, MASK.double(), MASK), "bool"),
        (lambda: cnr(IMAGE, MASK, ~MASK), "at least 2 pixels"),
        (lambda: cnr(IMAGE, MASK[:5], MASK), "broadcasts"),
        (lambda: hu_bias(IMAGE, IMAGE, mu_water=0.0, regions={"a": MASK}), "mu_water"),
        (lambda: hu_bias(IMAGE, IMAGE[:5], mu_water=0.02, regions={"a": MASK}), "equal shapes"),
        (lambda: streak_index(IMAGE, MASK, tile=40), "at least 2 whole tiles"),
        (lambda: streak_index(IMAGE, MASK, tile=0), "tile"),
        (lambda: cut(IMAGE, [(13.0, 0.0)], 9, H), "leaves the image"),
        (lambda: cut(IMAGE, [], 9, H), "some centres"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
