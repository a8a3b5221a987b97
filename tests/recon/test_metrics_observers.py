"""Detectability and model observers against closed forms, within sampling error."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from recon.data.ellipses import Ellipses, disc
from recon.metrics import (
    auc,
    auc_error,
    auc_of,
    channel_outputs,
    channelised_hotelling,
    d_prime,
    d_prime_of,
    difference_of_gaussians,
    eye_filter,
    gabor,
    hanley_mcneil_error,
    hotelling_d_prime,
    laguerre_gauss,
    noise_power_spectrum,
)
from recon.metrics.channels import SPARSE
from recon.metrics.observers import pair_order
from recon.metrics.rois import distances, radial_frequency

N, H, SIGMA = 25, 0.8, 10.0
SHAPE = (N, N)


def white(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blob(height=6.0, width=2.0):
    """A Gaussian signal, standard deviation `width` mm."""
    return height * torch.exp(-(distances(SHAPE, H) ** 2) / (2 * width**2))


def power(f):
    """NPS of a filtered back projection, in shape."""
    return 60 * f * torch.exp(-((f / 0.35) ** 2)) + 2


def coloured(n, seed=0):
    amplitude = torch.fft.ifftshift(power(radial_frequency(SHAPE, H))).sqrt() / H
    return torch.fft.ifft2(torch.fft.fft2(white(n, *SHAPE, seed=seed)) * amplitude).real


def ideal_through(channels, signal, covariance):
    """√(sᵀU (UᵀKU)⁻¹ Uᵀs), the observer who knows everything; K a function on images."""
    u, s = channels.flatten(1), signal.flatten()
    k = torch.stack([covariance(c).flatten() for c in channels]) @ u.T
    return float(((u @ s) @ torch.linalg.solve(k, u @ s)).sqrt())


def coloured_covariance(image):
    nps = torch.fft.ifftshift(power(radial_frequency(SHAPE, H))) / H**2
    return torch.fft.ifft2(torch.fft.fft2(image) * nps).real


def test_white_noise_and_known_signal():
    signal = torch.stack([blob(), blob(3.0, 1.0)])
    flat = torch.full(SHAPE, SIGMA**2 * H**2, dtype=torch.float64)
    expected = (signal**2).sum((1, 2)).sqrt() / SIGMA
    for observer in ("ideal", "npw"):
        torch.testing.assert_close(d_prime(signal, flat, H, observer), expected, rtol=1e-12, atol=0)


def test_correlated_noise_in_the_frequency_domain_is_the_covariance_in_space():
    signal = blob()
    nps = power(radial_frequency(SHAPE, H))
    s = signal.flatten()
    k = torch.stack([coloured_covariance(e).flatten() for e in torch.eye(N * N).double().reshape(-1, N, N)])
    ideal = (s @ torch.linalg.solve(k, s)).sqrt()
    npw = (s @ s) / (s @ k @ s).sqrt()
    torch.testing.assert_close(d_prime(signal, nps, H, "ideal"), ideal, rtol=1e-9, atol=0)
    torch.testing.assert_close(d_prime(signal, nps, H, "npw"), npw, rtol=1e-9, atol=0)
    assert float(ideal) > 1.05 * float(npw)
    # as a function, and with the blur apart from the signal
    torch.testing.assert_close(d_prime(signal, power, H, "npw"), npw, rtol=1e-12, atol=0)

    def blur(f):
        return torch.exp(-2 * (math.pi * 0.9 * f) ** 2)

    seen = torch.fft.ifft2(
        torch.fft.fft2(signal) * torch.fft.ifftshift(blur(radial_frequency(SHAPE, H)))
    ).real
    for observer in ("ideal", "npw", "npwe"):
        apart = d_prime(signal, power, H, observer, transfer=blur)
        torch.testing.assert_close(apart, d_prime(seen, power, H, observer), rtol=1e-9, atol=0)


def test_the_eye_filter_and_npwe():
    f = torch.linspace(0, 3, 30001, dtype=torch.float64)
    e = eye_filter(f, viewing_distance=500.0, magnification=2.0)
    degree = 500 * math.pi / 180 / 2
    assert float(f[e.argmax()] * degree) == pytest.approx(4, abs=0.002) and float(e.max()) == pytest.approx(1)
    # ρ^1.3 exp(−c ρ²), c = 1.3/32, by the ratio of two frequencies
    two, eight = (float(eye_filter(torch.tensor(rho / degree), 500.0, 2.0)) for rho in (2.0, 8.0))
    assert eight / two == pytest.approx(4**1.3 * math.exp(-1.3 / 32 * 60), rel=1e-6)
    # a flat eye is no eye; any eye is worse than none where the ideal observer is the matched filter
    flat = torch.full(SHAPE, SIGMA**2 * H**2, dtype=torch.float64)
    npw = d_prime(blob(), flat, H, "npw")
    torch.testing.assert_close(d_prime(blob(), flat, H, "npwe", eye=torch.ones_like), npw, rtol=1e-12, atol=0)
    assert 0 < float(d_prime(blob(), flat, H, "npwe")) < float(npw)


def test_d_prime_from_a_measured_nps_is_that_of_the_true_one():
    noise = coloured(400)
    measured = noise_power_spectrum(noise, H, "mean").radial()
    # no rings reach f = 0: a signal without a mean
    signal = blob(6.0, 1.0) - blob(1.5, 2.0)
    found, expected = (float(d_prime(signal, p, H, "npw")) for p in (measured, power))
    # 400 regions know a ring of 20 entries, half of them twins, to 1.6 % and d′ to half of that
    assert found == pytest.approx(expected, rel=0.025)


def test_no_signal_is_not_detected():
    assert float(d_prime(torch.zeros(SHAPE), power, H)) == 0.0


def test_auc_and_d_prime():
    d = torch.tensor([0.0, 0.5, 1.3, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(auc_of(d).numpy(), norm.cdf(d.numpy() / math.sqrt(2)), rtol=1e-12)
    torch.testing.assert_close(d_prime_of(auc_of(d)), d, rtol=1e-9, atol=1e-12)
    assert math.isinf(d_prime_of(1.0))


def test_laguerre_gauss_channels_are_orthonormal_and_span_a_gaussian():
    a, h = 12.0, 0.4
    u = laguerre_gauss((201, 201), h, a, count=6).flatten(1)
    torch.testing.assert_close(u @ u.T * h**2, torch.eye(6).double(), rtol=0, atol=1e-6)
    # the first channel is exp(−πr²/a²): a Gaussian of σ = a/√(2π) lies in it, one of another σ nearly in six
    r = distances((201, 201), h)
    for sigma, missing in ((a / math.sqrt(2 * math.pi), 1e-6), (0.7 * a / math.sqrt(2 * math.pi), 1e-4)):
        s = torch.exp(-(r**2) / (2 * sigma**2)).flatten()
        inside = u.T @ (u @ s) * h**2
        assert float(((s - inside) ** 2).sum() / (s**2).sum()) < missing


@pytest.mark.parametrize(
    ("options", "q", "ratio", "first"), [({}, 1.67, 1.4, 0.005), (SPARSE, 2.0, 2.0, 0.015)]
)
def test_difference_of_gaussians_has_the_stated_transform(options, q, ratio, first):
    size = 255
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    # sampled channels have the transform's aliases; the finest reach beyond Nyquist's frequency
    shifts = [(f[:, None] + i) ** 2 + (f + j) ** 2 for i in (-1, 0, 1) for j in (-1, 0, 1)]
    channels = difference_of_gaussians((size, size), **options)
    assert len(channels) == (10 if not options else 3)
    for j, channel in enumerate(channels, 1):
        s = first * ratio**j
        expected = sum(torch.exp(-0.5 * r2 / (q * s) ** 2) - torch.exp(-0.5 * r2 / s**2) for r2 in shifts)
        found = torch.fft.fft2(torch.fft.ifftshift(channel)).real
        # the widest of them, 23 pixels of standard deviation, ends at 5.6 of these
        assert float((found - expected).abs().max()) < 1e-5


def test_gabor_channels_have_bands_of_the_stated_width():
    u = gabor((257, 257), bands=[(1 / 16, 1 / 8)], orientations=4, phases=[0.0])
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(u, (-2, -1))), (-2, -1)).real
    row = spectrum[0, 128, 129:]  # orientation 0 lies along x
    f = torch.arange(1, 129) / 257
    assert float(f[row.argmax()]) == pytest.approx(3 / 32, abs=1 / 257)
    inside = f[row > row.max() / 2]
    assert float(inside[-1] - inside[0]) == pytest.approx(1 / 16, abs=2 / 257)
    torch.testing.assert_close(u[2], u[0].T.flip(0), rtol=0, atol=1e-12)
    assert gabor(SHAPE).shape == (40, N, N)


@pytest.mark.parametrize("noise", ["white", "coloured"])
@pytest.mark.parametrize("kind", ["laguerre-gauss", "dog"])
def test_the_unbiased_estimate_is_the_closed_form(noise, kind):
    channels = (
        laguerre_gauss(SHAPE, H, 5.0)
        if kind == "laguerre-gauss"
        else difference_of_gaussians(SHAPE, **SPARSE)
    )
    draws, n = 60, 40
    make = coloured if noise == "coloured" else (lambda n, seed: SIGMA * white(n, *SHAPE, seed=seed))
    covariance = coloured_covariance if noise == "coloured" else (lambda image: SIGMA**2 * image)
    exact = 1.4
    signal = blob() * exact / ideal_through(channels, blob(), covariance)
    images = make(2 * n * draws, seed=7).reshape(draws, 2, n, N, N)
    found = [hotelling_d_prime(g[0], g[1] + signal, channels) for g in images]
    squares = np.array([f.plain**2 for f in found])
    p, nu, m = len(channels), 2 * n - 2, n / 2
    # E of the plain estimate, from Hotelling's T²: this is the bias of a finite sample
    expected = nu / (nu - p - 1) * (exact**2 + p / m)
    assert abs(squares.mean() - expected) < 3 * squares.std(ddof=1) / math.sqrt(draws)
    assert expected > 1.1 * exact**2
    unbiased = (nu - p - 1) / nu * squares - p / m
    assert abs(unbiased.mean() - exact**2) < 3 * unbiased.std(ddof=1) / math.sqrt(draws)
    np.testing.assert_allclose([f.d_prime**2 for f in found], np.maximum(unbiased, 0), rtol=1e-9, atol=1e-12)
    # 95 % intervals: of 60 at least 52 hold the truth (binomial, 0.3 % by chance below)
    assert sum(f.interval[0] <= exact <= f.interval[1] for f in found) >= 52


def test_the_gaussian_signal_in_white_noise_is_seen_by_laguerre_gauss_as_by_the_ideal_observer():
    sigma = 2.0
    channels = laguerre_gauss(SHAPE, H, sigma * math.sqrt(2 * math.pi) * 1.1)
    signal = blob(5.0, sigma)
    ideal = float((signal**2).sum().sqrt() / SIGMA)
    # five channels, their width 10 % off, hold nearly all of the signal
    assert ideal_through(channels, signal, lambda g: SIGMA**2 * g) == pytest.approx(ideal, rel=1e-3)


@pytest.mark.parametrize("remove_mean", [False, True])
def test_the_channelised_hotelling_observer_reaches_the_closed_form(remove_mean):
    channels, signal, n = laguerre_gauss(SHAPE, H, 5.0), blob(0.9), 1000
    images = coloured(2 * n, seed=11)
    found = channelised_hotelling(
        images[:n], images[n:] + signal, channels, splits=4, remove_mean=remove_mean
    )
    used = channels - channels.mean((-2, -1), keepdim=True) if remove_mean else channels
    exact = ideal_through(used, signal, coloured_covariance)
    # trained on 500 a class with 5 channels: d′ falls by some p/(2m d′²) ≈ 0.5 %, less than an error bar
    assert abs(found.auc - float(auc_of(exact))) < 3 * found.auc_error
    assert found.d_prime == pytest.approx(
        exact, abs=3 * found.auc_error / (norm.pdf(exact / 2**0.5) / 2**0.5)
    )


def test_the_observer_trained_on_few_images_is_worse_and_its_error_bar_right():
    channels, signal, n, draws = difference_of_gaussians(SHAPE, **SPARSE), blob(1.0), 40, 60
    images = coloured(2 * n * draws, seed=5).reshape(draws, 2, n, N, N)
    found = [
        channelised_hotelling(g[0], g[1] + signal, channels, splits=8, seed=k) for k, g in enumerate(images)
    ]
    aucs, errors = (np.array([getattr(f, name) for f in found]) for name in ("auc", "auc_error"))
    exact = float(auc_of(ideal_through(channels, signal, coloured_covariance)))
    assert exact - 0.06 < aucs.mean() < exact + 2 * aucs.std(ddof=1) / math.sqrt(draws)
    # a spread of 60 values is known to 9 %; training on 20 a class adds what the error leaves out
    assert np.sqrt((errors**2).mean()) == pytest.approx(aucs.std(ddof=1), rel=0.3)


def test_internal_noise_lowers_d_prime_by_its_formula():
    channels, signal, n = laguerre_gauss(SHAPE, H, 5.0), blob(4.0), 1000
    images = SIGMA * white(2 * n, *SHAPE, seed=2)
    quiet = channelised_hotelling(images[:n], images[n:] + signal, channels, splits=2)
    noisy = channelised_hotelling(images[:n], images[n:] + signal, channels, splits=2, internal_noise=1.0)
    # standard error of d′ with 1000 a class is 0.05, of which quiet and noisy share one half
    assert noisy.d_prime == pytest.approx(quiet.d_prime / math.sqrt(2), abs=0.12)


def test_groups_stay_together_and_widen_the_error():
    channels, n = laguerre_gauss(SHAPE, H, 5.0), 60
    noise = SIGMA * white(2 * n, *SHAPE, seed=4)
    absent, present = noise[:n], noise[n:] + blob(5.0)
    groups = ([k // 4 for k in range(n)], [100 + k // 4 for k in range(n)])
    apart = channelised_hotelling(absent, present, channels, seed=1)
    # four copies of every fourth image: as many images, a quarter of the information
    copies = channelised_hotelling(
        absent[::4].repeat_interleave(4, 0), present[::4].repeat_interleave(4, 0), channels, groups=groups
    )
    assert copies.auc_error > 1.5 * apart.auc_error
    alone = channelised_hotelling(absent[::4], present[::4], channels)
    assert copies.auc_error == pytest.approx(alone.auc_error, rel=0.35)


def test_auc_is_the_brute_force_count_and_its_error_delong_s():
    t0, t1 = (3 * white(14, seed=1)).round(), (3 * white(9, seed=2) + 2).round()
    order = np.array([[float(b > a) + 0.5 * float(a == b) for b in t1] for a in t0])
    found, error = auc(t0, t1)
    assert found == pytest.approx(order.mean(), rel=1e-12) and (order == 0.5).any()
    # DeLong 1988, eq. 3 to 5, by the placements of every score
    v10, v01 = order.mean(0), order.mean(1)
    s10 = sum((v - found) ** 2 for v in v10) / (len(v10) - 1)
    s01 = sum((v - found) ** 2 for v in v01) / (len(v01) - 1)
    assert error == pytest.approx(math.sqrt(s10 / len(v10) + s01 / len(v01)), rel=1e-12)
    # everyone a group of his own: the same up to n/(n − 1)
    groups = torch.arange(14), torch.arange(14, 23)
    assert auc_error(pair_order(t0, t1), groups) == pytest.approx(error, rel=0.07)


def test_delong_s_error_is_the_spread_and_hanley_s_near_it():
    d, n, draws = 1.2, 50, 400
    t = white(draws, 2, n, seed=9)
    found = np.array([auc(a, b + d) for a, b in t])
    exact = norm.cdf(d / math.sqrt(2))
    spread = found[:, 0].std(ddof=1)
    assert abs(found[:, 0].mean() - exact) < 3 * spread / math.sqrt(draws)
    # a spread of 400 values is known to 3.5 %
    assert np.sqrt((found[:, 1] ** 2).mean()) == pytest.approx(spread, rel=0.11)
    # the law of Hanley and McNeil's scores is another one; within 10 % for Gaussian ones, as they say
    assert hanley_mcneil_error(exact, n, n) == pytest.approx(spread, rel=0.15)


def test_a_bootstrap_of_the_order_is_a_bootstrap_of_auc():
    t0, t1 = white(30, seed=1), white(20, seed=2) + 1
    rows, columns = torch.tensor([0, 3, 3, 7]), torch.tensor([1, 1, 9])
    order = pair_order(t0, t1)[rows][:, columns]
    assert float(order.mean()) == pytest.approx(auc(t0[rows], t1[columns])[0])


def test_a_disc_of_the_phantom_has_the_ideal_d_prime_of_its_area():
    radius, contrast = 3.0, 7.0
    signal = Ellipses([disc(contrast, radius)]).rasterise((41, 41), 0.25, 16)
    flat = torch.full((41, 41), SIGMA**2 * 0.25**2, dtype=torch.float64)
    expected = contrast * math.sqrt(math.pi * radius**2) / (SIGMA * 0.25)
    # pixels on the rim are part full: half a per cent of the energy
    assert float(d_prime(signal, flat, 0.25, "ideal")) == pytest.approx(expected, rel=0.02)


IMAGES, CHANNELS = white(12, *SHAPE), laguerre_gauss(SHAPE, H, 5.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: d_prime(blob(), power, -H), "pixel_size"),
        (lambda: d_prime(blob(), power, H, "human"), "'human'"),
        (lambda: d_prime(blob(), power, H, "npw", eye=torch.ones_like), "eye"),
        (lambda: d_prime(blob(), torch.ones(4, 4), H), r"signal's grid \(25, 25\)"),
        (lambda: d_prime(blob(), -torch.ones(SHAPE), H), "non-negative"),
        (lambda: d_prime(blob(), noise_power_spectrum(IMAGES, 2 * H), H), "pixels of 1.6 mm"),
        (lambda: d_prime(blob(), torch.eye(N), H, "ideal"), "ideal observer"),
        (lambda: d_prime_of(1.2), r"\[0, 1\]"),
        (lambda: channelised_hotelling(IMAGES, IMAGES, CHANNELS[:, 1:]), "one size"),
        (lambda: channelised_hotelling(IMAGES[:5], IMAGES[:5], CHANNELS), "cannot give a covariance"),
        (lambda: channelised_hotelling(IMAGES, IMAGES, torch.cat([CHANNELS, CHANNELS[:1]])), "dependent"),
        (lambda: channelised_hotelling(0 * IMAGES, IMAGES[:1] * torch.ones(12, 1, 1), CHANNELS), "no noise"),
        (lambda: channelised_hotelling(IMAGES, IMAGES, CHANNELS, splits=0), "splits"),
        (lambda: channelised_hotelling(IMAGES, IMAGES, CHANNELS, groups=([1], [2])), "groups"),
        (lambda: channelised_hotelling(IMAGES * math.inf, IMAGES, CHANNELS), "finite"),
        (lambda: hotelling_d_prime(IMAGES[:3], IMAGES[:3], CHANNELS), "too few"),
        (lambda: hotelling_d_prime(IMAGES, IMAGES, CHANNELS, confidence=95), "confidence"),
        (lambda: channel_outputs(IMAGES, CHANNELS[0]), r"\(n, ny, nx\)"),
        (lambda: auc(torch.ones(1), torch.ones(3)), "at least 2"),
        (lambda: hanley_mcneil_error(1.5, 3, 3), "auc"),
        (lambda: laguerre_gauss(SHAPE, H, 0.0), "width"),
        (lambda: laguerre_gauss((5,), H, 1.0), "shape"),
        (lambda: difference_of_gaussians(SHAPE, ratio=1.0), "ratio"),
        (lambda: gabor(SHAPE, bands=[(0.2, 0.1)]), "bands"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
