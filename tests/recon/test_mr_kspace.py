"""k-space of ellipses, coils and phase against quadrature, fine rasters, direct sums and MRpro."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from operators import Fourier
from operators.coils import birdcage
from recon.data import (
    Ellipse,
    Ellipses,
    SmoothField,
    coil_fields,
    ellipse_kspace,
    multicoil_kspace,
    multicoil_samples,
    random_phase,
    shepp_logan_ellipses,
)
from recon.data.ellipses import disc
from recon.data.kspace_ellipses import half_step_kspace
from recon.data.multicoil import combined, multicoil_of_image
from recon.data.smooth_fields import loop_sensitivities, pixel_centres

PAIR = Ellipses([Ellipse(1.0, (30, 18), (6, -4), 0.4), disc(-0.5, 9, (-8, 11))])
PIXEL = 1.6
SHAPES = [(64, 64), (63, 65), (64, 50), (51, 64)]


def grid(shape):
    """The Cartesian frequencies [rad per pixel], (ny, nx, 2)."""
    axes = (2 * math.pi * (torch.arange(n, dtype=torch.float64) - n // 2) / n for n in shape)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def trajectory(samples=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(samples, 2, generator=generator, dtype=torch.float64) - 1) * math.pi


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_integral_is_that_of_quadrature(shape):
    """∫ f exp(−i k·r) dr in polar coordinates of each ellipse: no Bessel function."""
    k = trajectory(12).numpy()
    # Gauss–Legendre in the radius, trapezoids in the angle: both spectral for these smooth integrands
    nodes, weights = np.polynomial.legendre.leggauss(60)
    radius, weights = (nodes + 1) / 2, weights / 2
    angle = np.arange(240) * 2 * math.pi / 240
    expected = np.zeros(len(k), dtype=complex)
    for e in PAIR:
        a, b = e.semi_axes
        u, v = a * radius[:, None] * np.cos(angle), b * radius[:, None] * np.sin(angle)
        c, s = math.cos(e.angle), math.sin(e.angle)
        x, y = (e.centre[0] + c * u - s * v) / PIXEL, (e.centre[1] + s * u + c * v) / PIXEL
        # the middle of the field lies at (n − 1)/2, r is counted from n // 2, rows run downwards
        row, column = (shape[0] - 1) / 2 - shape[0] // 2 - y, (shape[1] - 1) / 2 - shape[1] // 2 + x
        area = e.value * a * b / PIXEL**2 * (2 * math.pi / 240) * (weights * radius)[:, None]
        expected += (area * np.exp(-1j * (k[:, 0, None, None] * row + k[:, 1, None, None] * column))).sum(
            (1, 2)
        )
    found = ellipse_kspace(PAIR, torch.from_numpy(k), shape, PIXEL).numpy() * math.sqrt(math.prod(shape))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_on_the_grid_it_is_that_of_the_class(shape):
    found = ellipse_kspace(PAIR, grid(shape), shape, PIXEL)
    torch.testing.assert_close(found, PAIR.fourier(shape, PIXEL), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_half_step_lattice_is_the_formula(shape):
    half = (70, 66)
    axes = (
        math.pi * torch.arange(-h, h + 1, dtype=torch.float64) / n for h, n in zip(half, shape, strict=True)
    )
    k = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    expected = ellipse_kspace(PAIR, k, shape, PIXEL)
    found = torch.from_numpy(half_step_kspace(PAIR, shape, half, PIXEL))
    # the table of J₁(q)/q errs by 6e-13 where ½ is its largest value
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-11
    assert not half_step_kspace(Ellipses([]), shape, half, PIXEL).any()


def test_a_raster_ever_finer_comes_ever_closer():
    shape, exact = (32, 32), PAIR.fourier((32, 32), 3.2)
    one = torch.ones(1, 1, 1, dtype=torch.complex128)
    errors = []
    for factor in (1, 2, 4, 8, 16):
        fine = PAIR.rasterise((32 * factor, 32 * factor), 3.2 / factor, 16)
        found = multicoil_of_image(fine, SmoothField(one).at((32 * factor, 32 * factor)), shape)[0]
        errors.append(error(found, exact))
    print("relative difference of the k-space of rasters 1, 2, 4, 8, 16 times as fine:", errors)  # noqa: T201
    # averaging over a fine pixel loses π²(f h)²/6: a quarter each time, once the pixels are small
    for coarse, fine in itertools.pairwise(errors[1:]):
        assert 3.5 < coarse / fine < 4.5
    assert errors[0] > 0.03  # what a simulation on the very grid does not know


def test_it_is_that_of_mrpro():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phantoms = pytest.importorskip("mrpro").phantoms
        from mrpro.phantoms.phantom_elements import EllipseParameters
    n = 64
    rows = [(0.1, -0.05, 0.3, 0.2, 1.0), (-0.08, 0.12, 0.1, 0.15, -0.4)]
    theirs = phantoms.EllipsePhantom([EllipseParameters(*row) for row in rows])
    lines = torch.arange(n, dtype=torch.float64) - n // 2
    expected = theirs.kspace(*torch.meshgrid(lines, lines, indexing="ij"))
    # their centres are in fields of view from pixel n // 2 with y downwards, ours from the middle, y upwards
    ours = Ellipses(Ellipse(value, (n * a, n * b), (n * x + 0.5, -n * y - 0.5)) for x, y, a, b, value in rows)
    found = ellipse_kspace(ours, grid((n, n)), (n, n))
    # theirs is complex64, of torch.special.bessel_j1, which errs by 5e-7 near 5
    assert error(found, expected.to(torch.complex128)) <= 2e-6
    of_pixels = Fourier((n, n))(ours.rasterise((n, n), 1.0).to(torch.complex128))
    apart = error(of_pixels, found)
    print(f"DFT of the pixels against the k-space of the object, {n}²: {100 * apart:.1f} %")  # noqa: T201
    assert apart > 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_multicoil_k_space_is_the_sum_of_shifted_spectra(shape):
    fields = coil_fields(3, seed=1) * random_phase(2, 2.0)
    found = multicoil_kspace(PAIR, fields, shape, PIXEL)
    direct = multicoil_samples(PAIR, fields, grid(shape), shape, PIXEL)
    assert found.shape == (3, *shape)
    # the table of J₁, times the size of the coefficients
    assert float((found - direct).abs().max() / direct.abs().max()) <= 1e-10


@pytest.mark.parametrize("shape", [(64, 64), (63, 64)])
def test_multicoil_k_space_is_that_of_a_fine_raster_under_the_coils(shape):
    fields = coil_fields(4, seed=3) * random_phase(5, 1.5)
    exact = multicoil_kspace(PAIR, fields, shape, PIXEL)
    errors = []
    for factor in (4, 8):
        size = (shape[0] * factor, shape[1] * factor)
        fine = PAIR.rasterise(size, PIXEL / factor, 16)
        errors.append(error(multicoil_of_image(fine, fields.at(size), shape), exact))
    print("k-space of rasters 4 and 8 times as fine under the coils:", errors)  # noqa: T201
    assert errors[0] < 3e-3 and errors[1] < errors[0] / 3.5


def test_any_trajectory_agrees_with_a_fine_raster():
    shape, fields, k = (33, 40), coil_fields(2), trajectory(30)
    obj = Ellipses([Ellipse(1.0, (20, 12), (3, -2), 0.4)])
    exact = multicoil_samples(obj, fields, k, shape, PIXEL)
    factor = 12
    size = (shape[0] * factor, shape[1] * factor)
    image = obj.rasterise(size, PIXEL / factor, 16) * fields.at(size)
    # the place of a fine pixel, from the coarse pixel n // 2 in coarse pixels
    y, x = (
        pixel_centres(m) * n - float((pixel_centres(n) * n)[n // 2]) for n, m in zip(shape, size, strict=True)
    )
    rows, columns = torch.exp(-1j * k[:, :1] * y), torch.exp(-1j * k[:, 1:] * x)
    direct = torch.einsum("sy,cyx,sx->cs", rows, image, columns) / factor**2 / math.sqrt(math.prod(shape))
    # a fine pixel's average loses (k h)²/24 at most 3e-3 of the highest frequencies, little of the whole
    assert error(direct, exact) <= 1e-3


def test_fields_multiply_as_their_values_do():
    a, b = coil_fields(3, seed=2), random_phase(1, 2.0)
    for shape in [(20, 20), (13, 18)]:
        torch.testing.assert_close((a * b).at(shape), a.at(shape) * b.at(shape), rtol=0, atol=1e-12)
    assert (a * b).order == (7, 7)


def test_a_fit_of_a_field_finds_it():
    generator = torch.Generator().manual_seed(0)
    field = SmoothField(torch.randn(2, 5, 5, generator=generator, dtype=torch.complex128))
    fitted = SmoothField.fit(field.at((40, 30)), 2)
    # waves of half the period are nearly dependent: the values are found, the coefficients to their condition
    torch.testing.assert_close(fitted.at((25, 26)), field.at((25, 26)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("coils", [1, 4, 8, 16])
@pytest.mark.parametrize("seed", [None, 7])
def test_coil_fields_are_loops_to_a_fraction_of_a_percent(coils, seed):
    loops = loop_sensitivities(coils, 64, seed)
    loops = loops / loops.abs().square().sum(0).sqrt()
    found = coil_fields(coils, seed).at((64, 64))
    apart = error(found, loops)
    rss = found.abs().square().sum(0).sqrt()
    spread = float((rss - 1).abs().max())
    print(f"{coils} coils, seed {seed}: {100 * apart:.3f} %, |RSS − 1| ≤ {spread:.4f}")  # noqa: T201
    assert apart < 0.005
    assert spread < 0.02


@pytest.mark.parametrize("coils", [4, 8])
def test_birdcage_maps_are_fitted_to_a_fraction_of_a_percent(coils):
    maps = birdcage(coils, (64, 64), dtype=torch.complex128)
    apart = error(SmoothField.fit(maps, 4).at((64, 64)), maps)
    print(f"birdcage of {coils}, 81 waves: {100 * apart:.3f} %")  # noqa: T201
    assert apart < 0.01
    assert error(SmoothField.fit(maps, 2).at((64, 64)), maps) > 2 * apart


def test_a_loop_on_its_axis_has_the_textbook_field():
    # B = 2π R²/(R² + z²)^{3/2} along the axis, here −x seen from the loop at angle 0: B_x real, of that size
    values = loop_sensitivities(1, 101, None, distance=1.0, radius=0.3)[0]
    for column in (0, 50, 100):
        away = 1.0 - float(pixel_centres(101)[column])
        expected = 2 * math.pi * 0.3**2 / (0.3**2 + away**2) ** 1.5
        # 64 points of a periodic integrand: the trapezoidal rule is exact to rounding
        assert abs(values[50, column]) * 2 * math.pi / 64 == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_phase_has_modulus_one_and_stays_below_its_strength(strength):
    for seed in range(10):
        values = random_phase(seed, strength).at((40, 40))
        # the error of 49 waves grows with the strength
        assert float((values.abs() - 1).abs().max()) <= 0.005
        turn = (values / values.mean()).angle()
        assert float(turn.abs().max()) <= 2 * strength + 0.01


def test_combining_recovers_what_the_coils_saw():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 12, 9, generator=generator, dtype=torch.complex128)
    maps = coil_fields(3).at((12, 9))
    maps[:, 0, 0] = 0
    k = Fourier((2, 3, 12, 9))(maps * x.unsqueeze(1))
    x[:, 0, 0] = 0
    torch.testing.assert_close(combined(k, maps), x, rtol=0, atol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="ellipse_kspace k"):
        ellipse_kspace(PAIR, torch.zeros(3), (4, 4))
    with pytest.raises(ValueError, match="positive pixel_size"):
        ellipse_kspace(PAIR, torch.zeros(3, 2), (4, 4), -1.0)
    with pytest.raises(ValueError, match="SmoothField coefficients"):
        SmoothField(torch.zeros(4, 4, dtype=torch.complex128))
    with pytest.raises(ValueError, match="at least 9 pixels"):
        SmoothField.fit(torch.zeros(4, 4), 4)
    with pytest.raises(ValueError, match="coil_fields"):
        coil_fields(0)
    with pytest.raises(ValueError, match="strength"):
        random_phase(0, -1.0)


def test_shepp_logan_at_the_origin_is_its_mass():
    phantom = shepp_logan_ellipses(field=64)
    mass = sum(e.value * math.pi * math.prod(e.semi_axes) for e in phantom)
    found = ellipse_kspace(phantom, torch.zeros(1, 2, dtype=torch.float64), (64, 64))
    assert complex(found[0]) == pytest.approx(mass / 64, rel=1e-12)
