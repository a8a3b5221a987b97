"""Photons per ray against solid angles, FBP noise against its matrix and draws, I₀ back from noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from operators import (
    Bowtie,
    ConeBeam,
    ConeVectors,
    FanBeam,
    LowDose,
    ParallelBeam,
    ParallelBeam3D,
    attenuation_modulation,
    exposure,
    fbp,
    fbp_variance,
    i0_for_sigma,
    photons_per_ray,
    region_sigma,
    sigma_hu,
    sigma_hu_water,
    sinusoidal_modulation,
)
from operators.water import _cylinder

TURN = tuple(2 * math.pi * k / 6 for k in range(6))
MU = 0.0206


def cone(detector="flat", offset=(0.0, 0.0), shape=(40, 60), pixel=(2.0, 3.0), **more):
    return ConeBeam((4, 8, 8), 1.0, TURN, shape, pixel, 500.0, 900.0, detector, offset, **more)


def fan(detector="flat", offset=0.0, views=6):
    angles = tuple(2 * math.pi * k / views for k in range(views))
    return FanBeam((8, 8), 1.0, angles, 61, 3.0, 500.0, 900.0, detector, offset)


def test_photons_of_the_centre():
    """The numbers of CatSim's default scan: 200 mA, 1 s, 1000 views, 0.81 mm² active at 950 mm."""
    angles = tuple(2 * math.pi * k / 1000 for k in range(1000))
    scan = FanBeam((8, 8), 1.0, angles, 901, 1.0, 540.0, 950.0, "arc")
    i0 = photons_per_ray(scan, mas=200.0, cell_height=1.0, fill_factor=0.81)
    assert i0.dtype == torch.float64 and i0.shape == (1, 901)
    expected = 1.2e6 * 0.2 * 0.81 / 0.95**2
    torch.testing.assert_close(i0, torch.full_like(i0, expected))
    assert float(i0[0, 0]) == pytest.approx(2.15e5, rel=2e-3)


def test_a_flat_panel_collects_its_solid_angle():
    """Σ I₀ = Φ · mAs/N · Ω · 10⁶ mm², Ω = 4 atan(ab / d√(a² + b² + d²)) of a rectangle 2a × 2b at d."""
    scan = cone(shape=(200, 300), pixel=(0.8, 0.9))
    a, b, d = 80.0, 135.0, 900.0
    omega = 4 * math.atan(a * b / (d * math.sqrt(a * a + b * b + d * d)))
    i0 = photons_per_ray(scan, 60.0, fluence=2e6)
    # the midpoint rule over 200 × 300 cells
    assert float(i0.sum()) == pytest.approx(2e6 * 10.0 * omega * 1e6, rel=1e-6)


def test_a_cylinder_collects_its_solid_angle():
    """Ω = 2Γ · 2h/√(D² + h²) of a cylinder of fan angles ±Γ and heights ±h, also off centre."""
    scan = cone("arc", shape=(200, 30), pixel=(0.8, 3.0), offset=(0.0, 7.0))
    omega = 30 * 3.0 / 900 * 160 / math.sqrt(900**2 + 80**2)
    assert float(photons_per_ray(scan, 6.0).sum()) == pytest.approx(1.2e6 * omega * 1e6, rel=1e-6)


@pytest.mark.parametrize("detector", ["flat", "arc"])
def test_the_middle_row_of_a_cone_is_a_fan(detector):
    bowtie = Bowtie.flattening(100.0, 500.0)
    row = photons_per_ray(fan(detector, 4.0), 50.0, cell_height=2.0, bowtie=bowtie)
    panel = photons_per_ray(cone(detector, (0.0, 4.0), (5, 61)), 50.0, bowtie=bowtie)
    assert panel.shape == (1, 5, 61)
    torch.testing.assert_close(panel[:, 2], row)
    # farther, oblique, and through more of the bowtie
    assert bool((panel[0, 0] < panel[0, 2]).all())


@pytest.mark.parametrize("detector", ["flat", "arc"])
def test_vectors_are_their_cone(detector):
    bowtie = Bowtie((-0.4, 0.0, 0.4), (0.0, 1.0, 5.0), 0.03)
    scan = cone(detector, (3.0, 5.0), (5, 7), pitch=20.0)
    f = scan.frames()
    grids = scan.volume_shape, scan.voxel_size, scan.detector_shape
    vectors = ConeVectors(*grids, f.source, f.centre, f.u, f.v, f.radius)
    expected = photons_per_ray(scan, 50.0, bowtie=bowtie).expand(6, 5, 7)
    torch.testing.assert_close(photons_per_ray(vectors, 50.0, bowtie=bowtie), expected)


def test_every_turn_of_a_helix_has_the_mas_of_a_rotation():
    angles = [2 * math.pi * k / 20 for k in range(50)]
    helix = ConeBeam((4, 8, 8), 1.0, angles, (3, 9), 2.0, 100.0, 200.0, pitch=3.0)
    circle = replace(helix, angles=tuple(angles[:20]), pitch=0.0)
    i0 = photons_per_ray(circle, 10.0)
    torch.testing.assert_close(photons_per_ray(helix, 10.0), i0, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        photons_per_ray(helix, 10.0, views_per_rotation=40), i0 / 2, rtol=1e-12, atol=0
    )


def test_photons_are_proportional():
    one = photons_per_ray(fan(), 50.0, cell_height=1.0)
    torch.testing.assert_close(photons_per_ray(fan(), 100.0, cell_height=2.0), 4 * one)
    torch.testing.assert_close(photons_per_ray(fan(views=12), 50.0, cell_height=1.0), one / 2)
    torch.testing.assert_close(
        photons_per_ray(fan(), 50.0, 1.0, views_per_rotation=12, filter_transmission=0.5, efficiency=0.5),
        one / 8,
    )
    flat = photons_per_ray(ParallelBeam((8, 8), 1.0, TURN, 9, 2.0), 50.0, 1.0, source_to_detector=1000.0)
    assert float(flat) == pytest.approx(1.2e6 * 50 / 6 * 2.0)
    panel = ParallelBeam3D((2, 8, 8), 1.0, TURN, (3, 9), (1.0, 2.0))
    assert photons_per_ray(panel, 50.0, source_to_detector=1000.0).flatten().tolist() == [float(flat)] * 6


def test_a_flattening_bowtie_flattens():
    """Behind water of its diameter every ray has the counts of the middle one; the edges have no less."""
    scan = FanBeam((64, 64), 4.0, TURN, 201, 3.0, 500.0, 900.0, "arc")
    p, _ = _cylinder(scan, 200.0, MU)
    i0 = photons_per_ray(scan, 100.0, 1.0, bowtie=Bowtie.flattening(200.0, 500.0, MU, attenuation=0.05))
    counts = (i0 * (-p).exp())[0]
    # the thickness is interpolated between 129 angles
    torch.testing.assert_close(counts, counts[100].expand(201), rtol=1e-3, atol=0)
    assert float(i0[0, 0] / i0[0, 100]) == pytest.approx(math.exp(-MU * 200), rel=1e-3)


def test_modulation_keeps_the_mas():
    angles = torch.arange(360, dtype=torch.float64) * math.pi / 180
    scan = FanBeam((64, 64), 4.0, angles, 101, 6.0, 500.0, 900.0, "arc")
    p = (
        2
        + torch.cos(2 * angles)[:, None]
        * torch.rand(101, generator=torch.Generator().manual_seed(0)).double()
    )
    plain = photons_per_ray(scan, 100.0, 1.0)
    for m in (sinusoidal_modulation(angles, 0.6, phase=0.3), attenuation_modulation(p)):
        assert m.shape == (360,) and float(m.mean()) == pytest.approx(1, abs=1e-12)
        i0 = photons_per_ray(scan, 100.0, 1.0, modulation=m)
        torch.testing.assert_close(i0.sum(0), 360 * plain[0])
        assert exposure(scan, LowDose(i0)).per_cell == pytest.approx(float(plain.mean()) * 360)
        torch.testing.assert_close(LowDose(plain).scaled(m[:, None]).i0, i0)
    m = sinusoidal_modulation(angles, 0.6, phase=math.pi / 6)
    assert int(m.argmax()) == 30 and float(m.max() / m.min()) == pytest.approx(4)


def test_modulation_by_attenuation():
    """α = 1 keeps the counts behind the thickest part; α = ½ makes Σ exp(p)/m smallest of all m of mean 1."""
    generator = torch.Generator().manual_seed(0)
    p = 6 * torch.rand(40, 9, generator=generator, dtype=torch.float64)
    worst = p.amax(1)
    counts = attenuation_modulation(p, 1.0) * (-worst).exp()
    torch.testing.assert_close(counts, counts[:1].expand(40))
    best = attenuation_modulation(p)
    least = float((worst.exp() / best).sum())
    for _ in range(50):
        other = best * torch.exp(0.1 * torch.randn(40, generator=generator, dtype=torch.float64))
        assert float((worst.exp() / (other / other.mean())).sum()) > least


def test_exposure():
    found = exposure(fan(), LowDose(torch.linspace(10, 70, 61)))
    assert found == (10.0, 40.0, 70.0, 6, 240.0)
    with pytest.raises(ValueError, match="exposure noise: I₀ of shape"):
        exposure(fan(), LowDose(torch.ones(7)))


SCANS = [
    ParallelBeam((7, 9), 1.3, [math.pi * k / 9 for k in range(9)], 11, 1.1, offset=0.2),
    FanBeam((9, 6), 1.3, [2 * math.pi * k / 9 for k in range(9)], 13, 1.7, 30.0, 47.0, "flat", -0.6),
    FanBeam((6, 9), 1.3, [0.13 * math.pi * k for k in range(10)], 12, 1.7, 30.0, 47.0, "arc", 0.3),
]


@pytest.mark.parametrize("scan", SCANS, ids=lambda s: type(s).__name__ + getattr(s, "detector", ""))
@pytest.mark.parametrize("settings", [{}, {"filter": "hann", "frequency_scaling": 0.7}])
def test_propagated_variance_is_that_of_the_matrix(scan, settings):
    """var x = (M ∘ M) var y with M the matrix of `fbp`, entry by entry."""
    generator = torch.Generator().manual_seed(0)
    variance = torch.rand(2, *scan.sinogram_shape, generator=generator, dtype=torch.float64)
    unit = torch.eye(variance[0].numel(), dtype=torch.float64).reshape(-1, *scan.sinogram_shape)
    M = fbp(scan, unit, **settings).flatten(1)
    found = fbp_variance(scan, variance, **settings)
    expected = (variance.flatten(1) @ M**2).reshape(found.shape)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)
    mask = torch.zeros(scan.image_shape, dtype=torch.bool)
    mask[2, 1:4] = True
    assert torch.equal(fbp_variance(scan, variance, **settings, mask=mask), found[:, mask])


def test_linear_interpolation_lowers_the_noise():
    """σ_μ = π σ_p / (τ √(12 N)) of the textbook, times √(2/3 − 2/π²) = 0.68 by interpolation, on average."""
    scan = ParallelBeam((65, 65), 0.7, [math.pi * k / 200 for k in range(200)], 401, 1.0)
    variance = fbp_variance(scan, torch.full(scan.sinogram_shape, 0.04, dtype=torch.float64))
    textbook = math.pi * 0.2 / math.sqrt(12 * 200)
    expected = textbook * math.sqrt(2 / 3 - 2 / math.pi**2)
    # 200 views and 4225 pixels take the place of the mean over all fractions of a bin
    assert math.sqrt(float(variance.mean())) == pytest.approx(expected, rel=0.01)


WATER = FanBeam((64, 64), 4.0, [2 * math.pi * k / 90 for k in range(90)], 120, 4.5, 500.0, 900.0, "arc", 1.1)


@pytest.mark.parametrize(("filter", "scaling"), [("ram-lak", 1.0), ("hann", 0.8)])
@pytest.mark.parametrize("i0", [400.0, 1e5])
def test_sigma_of_water_is_that_of_draws(filter, scaling, i0):
    """Within three standard errors of 300 draws; at 400 photons 7 counts are left in the middle."""
    profile = i0 * sinusoidal_modulation(WATER.angles, 0.4)[:, None] * torch.linspace(0.8, 1.2, 120)
    noise = LowDose(profile, electronic_sigma=2.0)
    p, mask = _cylinder(WATER, 200.0, MU)
    y = noise.linearise(noise(p.expand(300, *p.shape), seed=1))
    values = fbp(WATER, y, filter=filter, frequency_scaling=scaling)[:, mask] * 1000 / MU
    squares = (values - values.mean(0)).square().mean(1) * 300 / 299
    error = float(squares.std()) / math.sqrt(300)
    found = sigma_hu_water(WATER, noise, 200.0, filter, scaling, MU)
    assert abs(float(squares.mean()) - found**2) <= 3 * error
    assert error < 0.02 * found**2


@pytest.mark.parametrize("electronic", [0.0, 5.0])
@pytest.mark.parametrize("sigma", [3.0, 30.0, 300.0])
def test_sigma_and_i0_are_inverse(electronic, sigma):
    profile = LowDose(torch.linspace(0.5, 1.5, 120).double(), electronic, background=0.01)
    i0 = i0_for_sigma(WATER, sigma, profile, filter="hann")
    torch.testing.assert_close(i0 / i0[0], profile.i0 / profile.i0[0])
    found = LowDose(i0, electronic, background=0.01 * float(i0[0] / profile.i0[0]))
    assert sigma_hu_water(WATER, found, filter="hann") == pytest.approx(sigma, rel=1e-8)


def test_i0_from_the_noise_in_a_scan():
    """Of an image made with 5e4 photons the noise in a region gives I₀ back."""
    noise = LowDose(5e4, electronic_sigma=3.0)
    p, _ = _cylinder(WATER, 180.0, MU)
    y = noise.linearise(noise(p.expand(40, *p.shape), seed=2))
    ny, nx = WATER.image_shape
    mask = torch.zeros(ny, nx, dtype=torch.bool)
    mask[20:44, 20:44] = True
    sigmas = region_sigma(fbp(WATER, y) * 1000 / MU, mask)
    assert sigmas.shape == (40,)
    # the variance rather than the deviation is unbiased
    mean, error = float(sigmas.square().mean()), float(sigmas.square().std()) / math.sqrt(40)
    i0 = i0_for_sigma(WATER, math.sqrt(mean), LowDose(1.0, electronic_sigma=3.0), p, mask)
    assert abs(sigma_hu(WATER, noise, p, mask) ** 2 - mean) <= 3 * error
    # σ² ∝ 1/I₀, plus at most 3 % that the polynomial takes
    assert i0 == pytest.approx(5e4, rel=3 * error / mean + 0.03)


def test_region_sigma_of_white_noise():
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 50), indexing="ij")
    image = 3 + 40 * x - 20 * y * x + 7 * y * y + 5 * torch.randn(200, 40, 50, generator=generator)
    mask = torch.hypot(x, y) < 0.7
    found = region_sigma(image.double(), mask)
    n = int(mask.sum()) - 6
    assert abs(float(found.square().mean()) / 25 - 1) <= 3 * math.sqrt(2 / n / 200)
    assert float(found[3]) == pytest.approx(float(region_sigma(image[3].double(), mask)), rel=1e-12)


BAD = {
    "negative mAs": (lambda: photons_per_ray(fan(), -5.0, 1.0), "mas: expected a positive number, got -5"),
    "no views": (lambda: photons_per_ray(fan(), 5.0, 1.0, 0), "views_per_rotation: expected a positive"),
    "no height": (lambda: photons_per_ray(fan(), 5.0), "without height; give it"),
    "a height too many": (lambda: photons_per_ray(cone(), 5.0, 1.0), "cell_height: ConeBeam knows it"),
    "a distance too many": (
        lambda: photons_per_ray(fan(), 5.0, 1.0, source_to_detector=9.0),
        "source_to_detector: FanBeam knows it",
    ),
    "no distance": (
        lambda: photons_per_ray(ParallelBeam((8, 8), 1.0, TURN, 9, 1.0), 5.0, 1.0),
        "give source_to_detector",
    ),
    "a bowtie before parallel rays": (
        lambda: photons_per_ray(SCANS[0], 5.0, 1.0, bowtie=Bowtie((0.0, 1.0), (0.0, 1.0), 0.1)),
        "no fan angle",
    ),
    "a filter that amplifies": (
        lambda: photons_per_ray(fan(), 5.0, 1.0, filter_transmission=1.2),
        r"filter_transmission: expected a share in \(0, 1\], got 1.2",
    ),
    "a narrow bowtie": (
        lambda: photons_per_ray(fan(), 5.0, 1.0, bowtie=Bowtie((0.0, 0.05), (0.0, 1.0), 0.1)),
        "known from 0 to 0.05, but rays reach",
    ),
    "modulation of another scan": (
        lambda: photons_per_ray(fan(), 5.0, 1.0, modulation=torch.ones(5)),
        "modulation: expected 6 positive factors",
    ),
    "negative current": (
        lambda: photons_per_ray(fan(), 5.0, 1.0, modulation=[1, 1, 1, 1, 1, -1]),
        "modulation: expected 6 positive factors",
    ),
    "a bowtie of other lengths": (lambda: Bowtie((0.0, 0.1), (1.0,), 0.1), "as many thicknesses as angles"),
    "a bowtie of falling angles": (lambda: Bowtie((0.0, -0.1), (1.0, 2.0), 0.1), "rising angles"),
    "a bowtie that begins late": (lambda: Bowtie((0.1, 0.2), (1.0, 2.0), 0.1), "begin at 0"),
    "a bowtie that adds": (lambda: Bowtie((0.0, 0.1), (1.0, -2.0), 0.1), "no negative ones"),
    "a bowtie of nothing": (lambda: Bowtie((0.0, 0.1), (1.0, 2.0), 0.0), "attenuation .* positive"),
    "a bowtie of NaN": (lambda: Bowtie((0.0, 0.1), (1.0, math.nan), 0.1), "thickness: expected finite"),
    "a bowtie for a cylinder around the source": (
        lambda: Bowtie.flattening(1200.0, 500.0),
        "reaches the source",
    ),
    "full modulation": (
        lambda: sinusoidal_modulation(TURN, 1.0),
        r"amplitude: expected a number in \[0, 1\)",
    ),
    "no angles": (lambda: sinusoidal_modulation([], 0.5), "angles: expected at least one"),
    "NaN line integrals": (
        lambda: attenuation_modulation(torch.tensor([[math.nan, 1.0]])),
        "attenuation_modulation p: expected finite",
    ),
    "negative variances": (
        lambda: fbp_variance(WATER, -torch.ones(90, 120)),
        "non-negative numbers of shape",
    ),
    "another mask": (
        lambda: fbp_variance(WATER, torch.ones(90, 120), mask=torch.ones(3, 3, dtype=torch.bool)),
        "fbp_variance mask: expected a bool tensor",
    ),
    "three dimensions": (lambda: sigma_hu_water(cone(), LowDose(1e4)), "ParallelBeam or FanBeam"),
    "no water": (lambda: sigma_hu_water(WATER, LowDose(1e4), diameter=0.0), "diameter .* positive"),
    "starved and correlated": (
        lambda: sigma_hu_water(WATER, LowDose(400.0, starvation="neighbour")),
        "counts are left here, 50 are needed",
    ),
    "noise out of reach": (lambda: i0_for_sigma(WATER, 1e5), "no dose makes 100000 HU"),
    "half an object": (lambda: i0_for_sigma(WATER, 10.0, p=torch.ones(90, 120)), "expected both"),
    "a tiny region": (
        lambda: region_sigma(torch.ones(8, 8), torch.eye(8, dtype=torch.bool)),
        "at least 30 pixels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        call()


def test_other_rules_where_counts_are_many():
    """Nothing is starved: the same σ as by the floor."""
    plain = sigma_hu_water(WATER, LowDose(1e5))
    assert sigma_hu_water(WATER, LowDose(1e5, starvation="trimmed-mean")) == plain
    assert np.isclose(i0_for_sigma(WATER, plain, LowDose(2e5, starvation="neighbour")), 1e5)


def test_a_cylinder_does_not_reach_the_source():
    with pytest.raises(ValueError, match=r"a cylinder of 1200 reaches the source at 595 mm"):
        fan = FanBeam((8, 8), 1.0, TURN, 21, 3.0, 595.0, 900.0)
        sigma_hu_water(fan, LowDose(1e5), diameter=1200.0)
