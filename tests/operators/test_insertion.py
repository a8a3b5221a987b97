"""Inserted dose against true low-dose scans: moments, noise power spectra, seeds, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from operators import (
    FanBeam,
    LowDose,
    XRay,
    fbp,
    insert_dose_into_image,
    insert_into_counts,
    insert_into_log,
    thin_counts,
)
from operators.noise import image_seeds
from operators.water import _cylinder

SHARES = [0.1, 0.25, 0.5]
MU = 0.0206


def uniform(mean_counts, i0=1e5, shape=(600, 800)):
    return torch.full(shape, math.log(i0 / mean_counts), dtype=torch.float64)


def assert_mean(sample, mean, variance):
    assert abs(float(sample.mean()) - mean) <= 3 * math.sqrt(variance / sample.numel())


@pytest.mark.parametrize("a", SHARES)
@pytest.mark.parametrize("mean_counts", [4.0, 5000.0])
def test_thinned_poisson_counts_are_poisson(a, mean_counts):
    """Mean, variance, third moment, covariance with the full dose, and few counts, within three errors."""
    noise = LowDose(1e5)
    full = noise(uniform(mean_counts), seed=1)
    low = thin_counts(full, a, seed=2)
    n, m = low.numel(), a * mean_counts
    assert bool((low <= full).all()) and bool((low == low.round()).all())
    assert_mean(low, m, m)
    centred = low - m
    assert abs(float(centred.square().mean()) - m) <= 3 * math.sqrt((m + 2 * m * m) / n)
    # E (n − m)⁶ of a Poisson law
    sixth = m + 25 * m**2 + 15 * m**3
    assert abs(float((centred**3).mean()) - m) <= 3 * math.sqrt((sixth - m**2) / n)
    # cov(n_L, n_H) = a var n_H
    spread = math.sqrt((m + m * m + 2 * m * mean_counts) * mean_counts / m / n) * 2
    assert abs(float((centred * (full - mean_counts)).mean()) - m) <= 3 * spread * m
    if mean_counts < 10:
        seen = np.bincount(low.numpy().astype(int).ravel(), minlength=20)[:4]
        chance = stats.poisson.pmf(np.arange(4), m)
        assert (np.abs(seen - n * chance) <= 3.5 * np.sqrt(n * chance * (1 - chance))).all()


@pytest.mark.parametrize("a", SHARES)
@pytest.mark.parametrize(("sigma", "background"), [(0.0, 0.0), (5.0, 0.0), (5.0, 300.0)])
def test_counts_have_the_variance_of_a_low_dose_scan(a, sigma, background):
    """Within 1 %, three standard errors of 480 000 rays, of the exact value; and of a true scan's."""
    noise = LowDose(1e5, sigma, background)
    p = uniform(2000.0)
    low = insert_into_counts(noise(p, seed=1), noise, a, seed=2)
    true = noise.scaled(a)(p, seed=3)
    mean, variance = a * (2000 + background), a * (2000 + background) + sigma**2
    assert_mean(low, mean, variance)
    assert float(low.var()) == pytest.approx(variance, rel=0.01)
    assert float(low.var() / true.var()) == pytest.approx(1, abs=0.01)
    # after the logarithm, too
    logs = [noise.scaled(a).linearise(y) for y in (low, true)]
    exact = noise.scaled(a).exact(p[:1, :1])
    assert_mean(logs[0], float(exact.mean), float(exact.variance))
    assert float(logs[0].var() / exact.variance) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("a", SHARES)
@pytest.mark.parametrize(("sigma", "background"), [(0.0, 0.0), (5.0, 0.0), (5.0, 300.0)])
def test_log_data_have_the_variance_of_a_low_dose_scan(a, sigma, background):
    """Within 1 % at 10 000 counts of the full dose; the next order is some 3/2N̄ and 1/N̄, 0.25 % at 1000."""
    noise = LowDose(1e5, sigma, background)
    p = uniform(10_000.0)
    low = insert_into_log(noise.linearise(noise(p, seed=1)), noise, a, seed=2)
    exact = noise.scaled(a).exact(p[:1, :1])
    assert float(low.var() / exact.variance) == pytest.approx(1, abs=0.01)
    # the bias of the logarithm is that of the full dose, smaller by 1/2N̄
    full = noise.exact(p[:1, :1])
    assert_mean(low, float(full.mean), float(exact.variance))


SCAN = FanBeam((40, 40), 6.0, [2 * math.pi * k / 60 for k in range(60)], 72, 7.2, 500.0, 900.0, "arc")
DRAWS = 200


def spectra(images):
    """Radial noise power of the middle 24 × 24 pixels of each draw, (draws, 8 rings), and the variances."""
    roi = images[:, 8:32, 8:32]
    roi = roi - roi.mean(0)
    power = torch.fft.fft2(roi).abs().square() * len(roi) / (len(roi) - 1) / 24**2
    f = torch.fft.fftfreq(24)
    ring = (torch.hypot(f[:, None], f[None]) * 16).long().clamp(max=8)
    rings = torch.stack([power[:, ring == r].mean(-1) for r in range(1, 9)], 1)
    return rings, roi.square().mean((-2, -1)) * len(roi) / (len(roi) - 1)


@pytest.mark.parametrize("a", SHARES)
def test_noise_power_is_that_of_a_low_dose_scan(a):
    """FBP of thinned counts, noisier counts, noisier logs, and images with noise: every ring of the spectrum
    and the variance within three standard errors of both (a seed in four misses one of the 108 by chance).
    """
    A = XRay(SCAN)
    noise = LowDose(2e5)
    p, _ = _cylinder(SCAN, 180.0, MU)
    p = p.expand(DRAWS, *p.shape)
    low = noise.scaled(a)

    def reconstruct(logs):
        return fbp(A, logs) * 1000 / MU

    full = noise(p, seed=1)
    hu = reconstruct(noise.linearise(full)) - 1000
    true, true_variance = spectra(reconstruct(low.linearise(low(p, seed=10))))
    inserted = {
        "thinned": reconstruct(low.linearise(thin_counts(full, a, seed=2))),
        "counts": reconstruct(low.linearise(insert_into_counts(full, noise, a, seed=3))),
        "log": reconstruct(insert_into_log(noise.linearise(full), noise, a, seed=4)),
        "image": insert_dose_into_image(hu, A, noise, a, seed=5),
    }
    for name, images in inserted.items():
        found, variance = spectra(images)
        for ours, theirs in ((found, true), (variance[:, None], true_variance[:, None])):
            difference = ours.mean(0) - theirs.mean(0)
            error = torch.sqrt((ours.var(0) + theirs.var(0)) / DRAWS)
            assert bool((difference.abs() <= 3 * error).all()), (name, difference / error)
            assert bool((error < 0.05 * theirs.mean(0)).all())


def test_an_inserted_image_keeps_its_object():
    """What is added has mean zero but for the bias of the logarithm, and nothing at the full dose."""
    A, noise = XRay(SCAN), LowDose(5e5)
    hu = torch.full((40, 40), -1000.0)
    hu[12:28, 10:30] = 40.0
    assert torch.equal(insert_dose_into_image(hu, A, noise, 1.0), hu)
    low = insert_dose_into_image(hu.expand(100, 40, 40), A, noise, 0.25, seed=3)
    noise_image = (low - hu).double()
    error = noise_image.std(0) / 10
    # of 1600 pixels at most 4.4 exceed three standard errors on average; the shift is of many together
    assert int(((noise_image.mean(0)).abs() > 3 * error).sum()) <= 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_is_drawn_the_same_alone_and_in_a_batch(dtype):
    A = XRay(SCAN)
    generator = torch.Generator().manual_seed(0)
    i0 = torch.tensor([1e4, 2e4, 3e4], dtype=torch.float64).reshape(3, 1, 1)
    noise = LowDose(i0, electronic_sigma=2.0)
    p = 2 * torch.rand(3, 60, 72, generator=generator, dtype=dtype)
    y, hu = noise(p, seed=1), 100 * torch.rand(3, 40, 40, generator=generator, dtype=dtype)
    a = torch.tensor([0.1, 0.5, 0.3])
    whole = torch.poisson(50 * torch.rand(3, 5, 7, generator=generator, dtype=dtype), generator=generator)
    calls = [
        (lambda y, n, a, s: insert_into_counts(y, n, a, s), y),
        (lambda p, n, a, s: insert_into_log(p, n, a, s), p),
        (lambda hu, n, a, s: insert_dose_into_image(hu, A, n, a, s), hu),
        (lambda c, n, a, s: thin_counts(c, a, s), whole),
    ]
    for call, data in calls:
        before = data.clone()
        low = call(data, noise, a, 7)
        assert low.dtype == dtype and low.shape == data.shape and torch.equal(data, before)
        assert torch.equal(call(data, noise, a, 7), low) and not torch.equal(call(data, noise, a, 8), low)
        for i, seed in enumerate(image_seeds(7, 3)):
            alone = call(data[i], noise.select(i), float(a[i]), [seed])
            # the reconstruction of one image may round otherwise than that of a batch
            torch.testing.assert_close(alone, low[i], rtol=1e-5, atol=1e-2 if data is hu else 0)


COUNTS = torch.full((4, 5), 30.0)


@pytest.mark.parametrize("a", [0.0, -0.1, 1.1, math.nan])
def test_shares_out_of_range(a):
    for call in (
        lambda: thin_counts(COUNTS, a),
        lambda: insert_into_counts(COUNTS, LowDose(1e3), a),
        lambda: insert_into_log(COUNTS, LowDose(1e3), a),
        lambda: insert_dose_into_image(torch.zeros(40, 40), XRay(SCAN), LowDose(1e3), a),
    ):
        with pytest.raises(ValueError, match=r"a: expected a share of the dose in \(0, 1\]"):
            call()


def test_bad_input():
    with pytest.raises(ValueError, match=r"whole numbers ≥ 0; with electronic noise .* insert_into_counts"):
        thin_counts(COUNTS + 0.5, 0.5)
    with pytest.raises(ValueError, match="whole numbers"):
        thin_counts(-COUNTS, 0.5)
    with pytest.raises(ValueError, match=r"floating-point tensor, got torch.int64"):
        thin_counts(COUNTS.long(), 0.5)
    with pytest.raises(ValueError, match=r"one number or one per image \(3,\), got shape \(2,\)"):
        thin_counts(COUNTS.expand(3, 4, 5), torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match="no negative values"):
        insert_into_counts(-COUNTS, LowDose(1e3), 0.5)
    with pytest.raises(ValueError, match="expected starvation='floor'"):
        insert_dose_into_image(torch.zeros(40, 40), XRay(SCAN), LowDose(1e3, starvation="neighbour"), 0.5)
    with pytest.raises(ValueError, match=r"expects shape \(\*batch, 40, 40\)"):
        insert_dose_into_image(torch.zeros(30, 40), XRay(SCAN), LowDose(1e3), 0.5)
    for hole in (-3024.0, math.nan):
        hu = torch.zeros(40, 40)
        hu[0, 0] = hole
        with pytest.raises(ValueError, match="hu: expected finite values above -2000 HU"):
            insert_dose_into_image(hu, XRay(SCAN), LowDose(1e3), 0.5)
    with pytest.raises(ValueError, match="finite"):
        insert_into_log(COUNTS * math.nan, LowDose(1e3), 0.5)
