"""Filters against their formulas; angular cells and redundancy weights against what they must add up to."""

import math

import numpy as np
import pytest

from operators import FanBeam, ParallelBeam
from operators.backprojection import ramp, redundancy

WINDOW = {
    "ram-lak": lambda r: 1.0,
    "shepp-logan": lambda r: math.sin(math.pi * r / 2) / (math.pi * r / 2) if r else 1.0,
    "cosine": lambda r: math.cos(math.pi * r / 2),
    "hamming": lambda r: 0.54 + 0.46 * math.cos(math.pi * r),
    "hann": lambda r: math.cos(math.pi * r / 2) ** 2,
}


@pytest.mark.parametrize("filter", WINDOW)
@pytest.mark.parametrize("scaling", [1.0, 0.705, 0.3])
def test_filters_are_their_formulas(filter, scaling):
    tau = 0.7
    H = ramp(300, tau, filter, scaling)
    f = np.linspace(0, 1 / (2 * tau), len(H))
    cut = scaling / (2 * tau)
    expected = np.array([abs(v) * WINDOW[filter](v / cut) if v <= cut * (1 + 1e-9) else 0.0 for v in f])
    # a finite kernel: its transform differs from |f| by 2/(π² τ m), most at f = 0
    bound = 2 / (math.pi**2 * tau * 2 * (len(H) - 1)) * 1.1
    assert np.abs(H - expected).max() < bound
    assert (H[f > cut * (1 + 1e-9)] == 0).all()


def test_the_ramp_is_its_samples():
    tau, n = 0.7, 50
    h = np.fft.irfft(ramp(n, tau)) / tau
    assert h[0] == pytest.approx(1 / (4 * tau**2), rel=1e-12)
    k = np.arange(1, n)
    expected = np.where(k % 2 == 1, -1 / (math.pi * k * tau) ** 2, 0)
    np.testing.assert_allclose(h[1:n], expected, atol=1e-14)
    np.testing.assert_allclose(h[:-n:-1], expected, atol=1e-14)


def test_the_ramp_of_an_arc_is_its_samples():
    tau, n, alpha = 0.7, 50, 0.03
    h = np.fft.irfft(ramp(n, tau, arc_step=alpha)) / tau
    k = np.arange(1, n, 2)
    expected = -1 / (math.pi * k * tau) ** 2 * (k * alpha / np.sin(k * alpha)) ** 2
    np.testing.assert_allclose(h[1:n:2], expected, rtol=1e-10)
    np.testing.assert_allclose(h[2:n:2], 0, atol=1e-14)


# Views and fan angles on one lattice, 2γ = view steps, so that the conjugate of every ray is a ray.
M = 90
STEP = math.pi / M


def arc(views, half_bins, offset_halves=0, begin=0.37, descending=False):
    """Bins of half a view step: γ = (k + offset/2) STEP/2; with an odd sum conjugates lie on half steps."""
    D = 1000.0
    angles = begin + STEP / 2 * np.arange(views)
    return FanBeam(
        (64, 64),
        1.0,
        angles[::-1] if descending else angles,
        2 * half_bins + 1,
        STEP / 2 * D,
        500.0,
        D,
        "arc",
        offset_halves * STEP / 2 * D,
    )


def conjugate_sum(geometry, w):
    """w of every ray plus w of its conjugate (view + π − 2γ, −γ) where there is one, and whether there is."""
    order = np.argsort(geometry.angles)
    w = w[order]
    views = len(w)
    step = STEP / 2
    gamma = np.rint(geometry.fan_angles() / step).astype(int)
    turn = round(2 * math.pi / step)
    total, has = w.copy(), np.zeros(w.shape, bool)
    for v in range(views):
        for b, g in enumerate(gamma):
            partner = np.flatnonzero(gamma == -g)
            for other in {(v + turn // 2 - 2 * g) % turn} if partner.size else ():
                if 0 <= other < views and (other, partner[0]) != (v, b):
                    total[v, b] += w[other, partner[0]]
                    has[v, b] = True
    return total, has


SCANS = {
    "Parker": arc(2 * M + 4 * 20 + 2, 20),
    "between": arc(3 * M, 20),
    "descending": arc(2 * M + 4 * 20 + 2, 20, descending=True),
    "off centre": arc(2 * M + 4 * 30 + 2, 20, 7),
    "full": arc(4 * M, 20),
    "full, off centre": arc(4 * M, 20, -9),
    "too short": arc(2 * M + 20, 20),
    "limited": arc(M, 20),
}


@pytest.mark.parametrize("name", SCANS)
def test_a_ray_and_its_conjugate_add_up_to_one(name):
    geometry = SCANS[name]
    _, w = redundancy(geometry)
    assert ((w >= 0) & (w <= 1)).all()
    total, has = conjugate_sum(geometry, w)
    assert has.any() or name == "limited"
    np.testing.assert_allclose(total, 1, atol=1e-12)


def test_parker_weights_are_parkers():
    """Parker, Med. Phys. 9 (1982) 254, his fan angle the other way round, the range half a view longer."""
    geometry = SCANS["Parker"]
    delta, w = redundancy(geometry)
    angles, gamma = np.array(geometry.angles), -geometry.fan_angles()
    beta = angles - angles[0] + STEP / 4
    half_fan = (float(delta.sum()) - math.pi) / 2
    expected = np.ones_like(w)
    for v, b in np.ndindex(w.shape):
        if beta[v] < 2 * half_fan - 2 * gamma[b]:
            expected[v, b] = math.sin(math.pi / 4 * beta[v] / (half_fan - gamma[b])) ** 2
        elif beta[v] > math.pi - 2 * gamma[b]:
            expected[v, b] = (
                math.sin(math.pi / 4 * (math.pi + 2 * half_fan - beta[v]) / (half_fan + gamma[b])) ** 2
            )
    np.testing.assert_allclose(w, expected, atol=1e-12)


def test_a_full_scan_shares_equally():
    np.testing.assert_allclose(redundancy(SCANS["full"])[1], 0.5)
    forced = redundancy(SCANS["full"], short_scan=True)[1]
    assert forced.min() < 0.01
    assert forced.max() > 0.99
    np.testing.assert_allclose(redundancy(SCANS["Parker"], short_scan=False)[1], 0.5)


def parallel(angles, **options):
    return ParallelBeam((8, 8), 1.0, angles, 12, 1.0, **options)


RANDOM = np.random.default_rng(3).uniform(0, 50, 40)


@pytest.mark.parametrize(
    "angles",
    [
        np.arange(7) * math.pi / 7 + 2,
        -np.arange(9) * math.pi / 9 * 2,
        RANDOM,
        np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0]),
        np.array([1.0]),
        np.array([0.0, math.pi]),
        np.arange(150) * math.pi * (math.sqrt(5) - 1) / 2,
    ],
)
def test_cells_fill_the_half_turn(angles):
    delta, w = redundancy(parallel(angles))
    assert (delta > 0).all()
    assert (w == 1).all()
    assert delta.sum() == pytest.approx(math.pi, rel=1e-9)


def test_repeated_views_share_their_cell():
    delta, _ = redundancy(parallel([0.0, 1.0, 1.0, 1.0, 2.0, 2.0 + math.pi, math.pi]))
    cells = {0: (1 + math.pi - 2) / 2, 1: 1.0, 2: (1 + math.pi - 2) / 2}
    np.testing.assert_allclose(delta, [cells[0] / 2, *[1 / 3] * 3, cells[2] / 2, cells[2] / 2, cells[0] / 2])


def test_a_missing_wedge_is_not_filled():
    delta, _ = redundancy(parallel(np.arange(20) * 0.1))
    np.testing.assert_allclose(delta, 0.1)
    delta, _ = redundancy(FanBeam((8, 8), 1.0, np.arange(45) * 0.1, 12, 1.0, 20.0, 30.0))
    np.testing.assert_allclose(delta, 0.1)


@pytest.mark.parametrize("offset", [0.25, 2.0, -2.0, 4.5, 8.0, -6.0])
def test_a_detector_off_centre_in_parallel_beam(offset):
    geometry = parallel(np.arange(16) * math.pi / 8, offset=offset)
    _, w = redundancy(geometry)
    u = geometry.bins()
    for b, value in enumerate(w[0]):
        partner = np.flatnonzero(np.isclose(u, -u[b]))
        if partner.size:
            assert value + w[0, partner[0]] == pytest.approx(1, abs=1e-12)
        elif abs(u[b]) > min(-u[0], u[-1]) + 0.5:
            assert value == pytest.approx(1, abs=1e-12)
