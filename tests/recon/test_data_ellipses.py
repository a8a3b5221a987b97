"""Ellipses against quadrature, the FFT of a fine raster, and values known by hand."""

import math

import numpy as np
import pytest
import torch

from operators import FanBeam, ParallelBeam
from recon.data import (
    Ellipse,
    Ellipses,
    cluttered_head,
    head_slices,
    random_head,
    shepp_logan,
    shepp_logan_ellipses,
)
from recon.data.ellipses import disc
from recon.data.phantoms import off_centre_pair

PAIR = Ellipses([Ellipse(0.02, (30, 18), (6, -4), 0.4), disc(-0.01, 9, (-8, 11))])
FAN = dict(image_shape=(64, 80), pixel_size=1.5, angles=[0.0, 0.7, 2.0, 4.5], n_bins=41, bin_size=3.0)
GEOMETRIES = [
    ParallelBeam((64, 80), 1.5, [0.0, 0.7, math.pi / 2, 4.0], 41, 2.5, offset=0.8),
    FanBeam(**FAN, source_to_centre=200.0, source_to_detector=350.0, detector="flat", offset=1.0),
    FanBeam(**FAN, source_to_centre=200.0, source_to_detector=350.0, detector="arc"),
]


def inside(ellipse, x, y):
    c, s = math.cos(ellipse.angle), math.sin(ellipse.angle)
    dx, dy = x - ellipse.centre[0], y - ellipse.centre[1]
    along, across = (c * dx + s * dy) / ellipse.semi_axes[0], (c * dy - s * dx) / ellipse.semi_axes[1]
    return along**2 + across**2 <= 1


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=["parallel", "flat", "arc"])
def test_line_integrals_are_those_of_quadrature_along_each_ray(geometry):
    point, direction = geometry.rays()
    # both start within 250 mm of the centre; 0.005 mm steps, each of two edges an ellipse errs by at most one
    step = 0.005
    t = np.arange(-300, 300, step) + step / 2 + (200 if isinstance(geometry, FanBeam) else 0)
    found = PAIR.line_integrals(geometry).numpy()
    for view in range(4):
        for bin in range(3, 41, 7):
            x, y = point[view, bin, :, None] + t * direction[view, bin, :, None]
            expected = sum(e.value * step * inside(e, x, y).sum() for e in PAIR)
            assert abs(found[view, bin] - expected) <= step * sum(abs(e.value) for e in PAIR)


def test_a_disc_has_its_chord_through_the_centre():
    geometry = ParallelBeam((64, 64), 1.0, [0.3], 3, 5.0)
    expected = [2 * 0.02 * math.sqrt(100 - 25), 2 * 0.02 * 10, 2 * 0.02 * math.sqrt(100 - 25)]
    found = Ellipses([disc(0.02, 10)]).line_integrals(geometry)
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)


def test_rows_run_downwards_and_columns_to_the_right():
    image = Ellipses([disc(1.0, 2.0, (10, 7))]).rasterise((40, 40), 1.0)
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    mass = image.sum()
    assert float((image * rows).sum() / mass) == pytest.approx(19.5 - 7, abs=1e-9)
    assert float((image * columns).sum() / mass) == pytest.approx(19.5 + 10, abs=1e-9)


def test_a_raster_keeps_the_mass_and_averages_over_pixels():
    area = sum(e.value * math.pi * math.prod(e.semi_axes) for e in PAIR)
    coarse = PAIR.rasterise((64, 80), 1.5, oversampling=64)
    # the midpoint rule over chords of a half-circle errs by O(step^1.5)
    assert float(coarse.sum()) * 1.5**2 == pytest.approx(area, rel=1e-5)
    fine = PAIR.rasterise((256, 320), 0.375, oversampling=16)
    torch.testing.assert_close(
        fine.unfold(0, 4, 4).unfold(1, 4, 4).mean((-2, -1)), coarse, rtol=0, atol=1e-15
    )


def test_a_raster_is_cut_at_the_border():
    image = Ellipses([disc(2.0, 100.0)]).rasterise((5, 8), 1.0)
    torch.testing.assert_close(image, torch.full((5, 8), 2.0, dtype=torch.float64), rtol=1e-14, atol=0)
    assert float(Ellipses([disc(2.0, 3.0, (50, 0))]).rasterise((5, 8), 1.0).abs().max()) == 0


@pytest.mark.parametrize("shape", [(64, 64), (64, 50), (63, 50), (63, 65)])
def test_k_space_is_that_of_a_fine_raster(shape):
    pixel, factor = 1.5, 9
    fine = PAIR.rasterise((shape[0] * factor, shape[1] * factor), pixel / factor, oversampling=16)
    # the fine pixel whose centre is that of pixel (ny // 2, nx // 2): an odd factor has one
    y, x = ((n // 2) * factor + factor // 2 for n in shape)
    k = np.fft.fft2(np.roll(fine.numpy(), (-y, -x), (0, 1)))
    low = [np.arange(-6, 7) % (n * factor) for n in shape]
    expected = k[np.ix_(*low)] / (factor**2 * math.sqrt(math.prod(shape)))
    middle = PAIR.fourier(shape, pixel).numpy()
    middle = middle[tuple(slice(n // 2 - 6, n // 2 + 7) for n in shape)]
    # box averaging loses π²(f h)²/6 = 2e-4 at f = 6 / 75 mm, aliasing less
    assert np.linalg.norm(middle - expected) <= 3e-4 * np.linalg.norm(expected)


def test_k_space_agrees_with_the_operator_on_low_frequencies():
    from operators import Fourier

    image = PAIR.rasterise((256, 256), 0.5, 16)
    of_image = Fourier((256, 256))(image.to(torch.complex128))[120:137, 120:137]
    box = torch.sinc(torch.arange(-8, 9, dtype=torch.float64) / 256)  # what averaging over a pixel does
    exact = box[:, None] * box * PAIR.fourier((256, 256), 0.5)[120:137, 120:137]
    # left over is aliasing: the spectrum falls by |k|^1.5 and wraps at 256
    assert float((of_image - exact).norm() / exact.norm()) <= 1e-4


def test_shepp_logan_has_the_published_values():
    original, modified = shepp_logan((512, 512), modified=False), shepp_logan((512, 512))

    def at(image, x, y):
        return float(image[round(255.5 - 256 * y), round(255.5 + 256 * x)])

    places = [(0, 0.9), (0, -0.3), (0.22, 0.0), (-0.22, 0.0), (0, 0.35), (0, 0.08), (0, -0.605), (0.95, 0.95)]
    assert [at(original, *p) for p in places] == pytest.approx(
        [2, 1.02, 1, 1, 1.03, 1.03, 1.03, 0], abs=1e-12
    )
    assert [at(modified, *p) for p in places] == pytest.approx([1, 0.2, 0, 0, 0.3, 0.3, 0.3, 0], abs=1e-12)
    assert float(modified.min()) == 0 and float(original.max()) == pytest.approx(2, abs=1e-12)


def test_shepp_logan_leans_as_published():
    # the right ventricle's top leans outwards: (0.22, 0) + 0.28 (sin 18°, cos 18°) is inside, not its mirror
    image = shepp_logan((400, 400))
    lean = math.radians(18)
    x, y = 0.22 + 0.28 * math.sin(lean), 0.28 * math.cos(lean)
    row = round(199.5 - 200 * y)
    assert float(image[row, round(199.5 + 200 * x)]) == pytest.approx(0.0, abs=1e-12)
    x = 0.22 - 0.28 * math.sin(lean)
    assert float(image[row, round(199.5 + 200 * x)]) > 0.1


def test_shepp_logan_scales_and_measures_millimetres():
    head = shepp_logan_ellipses(modified=False, field=220, scale=0.0206)
    image = head.rasterise((256, 256), 220 / 256)
    torch.testing.assert_close(image, shepp_logan((256, 256), False, scale=0.0206), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_heads_are_heads(seed):
    image = random_head(seed).rasterise((256, 256), 220 / 256)
    hu = 1000 * (image / 0.0206 - 1)
    border = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
    assert float(border.abs().max()) == 0
    assert float(image.min()) >= 0 and 700 < float(hu.max()) < 2300
    assert 20 < float(hu[hu > -300].median()) < 45
    area = float((hu > -300).sum()) * (220 / 256) ** 2
    assert math.pi * 72 * 90 * 0.98 < area < math.pi * 79 * 98 * 1.05


def test_random_heads_differ_by_seed_only():
    assert repr(random_head(3)) == repr(random_head(3)) != repr(random_head(4))


@pytest.mark.parametrize("seed", range(12))
def test_clutter_stays_within_what_tissue_can_be(seed):
    hu = 1000 * (cluttered_head(seed).rasterise((880, 880), 0.25, 4) / 0.0206 - 1)
    assert float(hu.min()) >= -1000.001 and float(hu.max()) < 2500.001
    assert repr(cluttered_head(seed)) == repr(cluttered_head(seed))
    clean, cluttered = random_head(seed), cluttered_head(seed)
    assert list(cluttered)[: len(clean)] == list(clean) and len(cluttered) - len(clean) <= 160


def test_clutter_is_of_every_tissue_inside_and_outside():
    heads = [(random_head(k), cluttered_head(k)) for k in range(20)]
    clean, full = (
        torch.stack([h.rasterise((220, 220), 1.0) for h in side]) * 1000 / 0.0206 - 1000
        for side in zip(*heads, strict=True)
    )
    changed = (full - clean).abs() > 20
    outside = changed & (clean == -1000)
    assert changed.float().mean() > 0.02 and outside.float().mean() > 0.003
    for low, high in ((-1001, -999), (-950, -300), (-120, -60), (0, 90), (300, 1800)):
        assert ((full > low) & (full < high) & changed).sum() > 100


def test_slices_of_heads_are_blurred_and_grainy_within_their_bounds():
    """The spectrum of slice over head is the kernel's, exp(−2π²σ²f²), where grain does not reach."""
    widths, grains = [], []
    for seed in range(8):
        seen = head_slices([seed], 440)[0].double()
        sharp = cluttered_head(seed).rasterise((440, 440), 0.5, 2)
        f = torch.fft.fftfreq(440, 0.5, dtype=torch.float64)
        f = (f[:, None] ** 2 + f**2).sqrt()
        a, b = torch.fft.fft2(seen), torch.fft.fft2(sharp)
        band = (f > 0.05) & (f < 0.15)
        ratio = float((a * b.conj()).real[band].sum() / b.abs().square()[band].sum())
        weight = b.abs().square()[band]
        middle = float((f[band] ** 2 * weight).sum() / weight.sum())
        widths.append(math.sqrt(max(-math.log(ratio), 0) / (2 * math.pi**2 * middle)))
        gain = torch.exp(-2 * math.pi**2 * widths[-1] ** 2 * f**2)
        rest = seen - torch.fft.ifft2(b * gain).real
        water = (sharp / 0.0206 - 1).abs() < 0.1
        calm = torch.nn.functional.avg_pool2d((~water)[None].double(), 9, 1, 4)[0] == 0
        grains.append(float(rest[calm].std()) * 1000 / 0.0206)
        assert torch.equal(head_slices([seed], 440)[0].double(), seen) and float(seen.min()) >= 0
    assert min(widths) > 0.15 and max(widths) < 1.1 and max(widths) - min(widths) > 0.3
    assert max(grains) < 16 and max(grains) - min(grains) > 3


def test_the_test_object_has_no_symmetry():
    image = off_centre_pair(32.0).rasterise((64, 64), 1.0)
    turned = [image.flip(0), image.flip(1), image.T, image.rot90(2)]
    assert all(float((image - other).norm() / image.norm()) > 0.1 for other in turned)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((1.0, (1.0, 0.0)), "semi_axes"),
        ((1.0, (1.0, 2.0), (0.0, math.nan)), "centre"),
        ((math.inf, (1.0, 2.0)), "value"),
    ],
)
def test_impossible_ellipses_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        Ellipse(*arguments)


def test_a_raster_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="pixel_size"):
        PAIR.rasterise((4, 4), 0.0)
