"""Combining, normalising, simulating and estimating coil sensitivities."""

import warnings

import pytest
import torch

from operators import birdcage, combine, low_frequency_maps, normalised, root_sum_of_squares, walsh
from operators.coils import sampled_centre, to_images, to_kspace

DOUBLE = torch.complex128


def random(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth_object(shape):
    """An ellipse with structure and phase, and where it is."""
    *z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 + (z[0] ** 2 if z else 0) < 1
    size = inside * (1 + 0.5 * torch.cos(7 * x) * torch.sin(9 * y + 1))
    return size * torch.exp(1j * (1.5 * x + y * y - 0.7)), inside


def error(maps, truth, inside):
    """‖S − S₀‖ / ‖S₀‖ on the object, modulo the phase of every pixel."""
    turned = maps * (maps.conj() * truth).sum(0).sgn()
    return float((turned - truth)[:, inside].norm() / truth[:, inside].norm())


@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 5)])
def test_root_sum_of_squares_and_combination_of_coil_images_of_one_object(spatial):
    x, S = random(2, *spatial), normalised(random(3, *spatial, seed=1), ndim=len(spatial))
    images = S * x.unsqueeze(1)
    torch.testing.assert_close(root_sum_of_squares(images, len(spatial)), x.abs())
    torch.testing.assert_close(combine(images, S), x)
    torch.testing.assert_close(combine(images, 3 * S), x / 3)
    assert not (combine(images, S * 0) != 0).any()


def test_combination_is_least_squares_pixel_by_pixel():
    images, S = random(4, 3, 2), random(4, 3, 2, seed=1)
    x = combine(images, S)
    for y in range(3):
        for column in range(2):
            best = torch.linalg.lstsq(S[:, y, column, None], images[:, y, column, None]).solution
            torch.testing.assert_close(x[y, column], best[0, 0])


def test_root_sum_of_squares_has_a_gradient_at_zero():
    images = torch.zeros(2, 3, 3, dtype=DOUBLE, requires_grad=True)
    root_sum_of_squares(images).sum().backward()
    assert not (images.grad != 0).any()


def test_normalised_is_one_on_the_support_with_the_phase_of_the_reference():
    S = random(2, 4, 5, 6)
    S[..., 0, :] = 0
    first = normalised(S, reference=0)
    power = first.abs().square().sum(1)
    torch.testing.assert_close(power[:, 1:], torch.ones_like(power[:, 1:]))
    assert not (power[:, 0] != 0).any()
    assert float(first[:, 0].imag.abs().max()) < 1e-15
    assert float(first[:, 0].real.min()) >= 0
    torch.testing.assert_close(normalised(S, None) * S.abs().square().sum(1, True).sqrt(), S)
    # one global phase more or less changes nothing once a reference is chosen
    for reference in (2, "virtual"):
        wanted = normalised(S, reference)
        torch.testing.assert_close(normalised(S * torch.tensor(0.6 + 0.8j), reference), wanted)
        torch.testing.assert_close(normalised(S[1], reference), wanted[1])


def test_the_virtual_reference_of_birdcage_coils_leaves_them_smooth():
    """Coil 0 has no zero either, but its phase winds; the virtual coil's is that of the middle."""
    S = birdcage(8, (16, 16), dtype=DOUBLE)
    jump = {r: normalised(S, r).diff(dim=-1).abs().max() for r in (0, "virtual")}
    assert jump["virtual"] <= jump[0] * 1.001


@pytest.mark.parametrize(("coils", "shape"), [(8, (5, 6)), (3, (7, 4)), (13, (4, 5, 6)), (8, (3, 4, 4))])
def test_birdcage_equals_sigpy(coils, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sim = pytest.importorskip("sigpy.mri.sim")
    wanted = torch.from_numpy(sim.birdcage_maps((coils, *shape)))
    # the same formula: rounding only
    torch.testing.assert_close(birdcage(coils, shape, dtype=DOUBLE), wanted, atol=1e-14, rtol=0)
    assert birdcage(coils, shape).dtype == torch.complex64


@pytest.mark.parametrize("spatial", [(48, 40), (25, 31), (12, 17, 14)])
def test_walsh_finds_smooth_maps(spatial):
    n = len(spatial)
    x, inside = smooth_object(spatial)
    S = birdcage(6, spatial, dtype=DOUBLE)
    window = 3
    maps = walsh(S * x, window, ndim=n)
    # a box of h pixels on either side averages maps that turn by O(1/side) a pixel
    assert error(maps, S, inside) < 1.0 / min(spatial)
    power = maps.abs().square().sum(0)
    torch.testing.assert_close(power[inside], torch.ones_like(power[inside]))
    assert not (power == 0).all()


def test_walsh_is_exact_where_the_maps_are_constant_and_zero_where_nothing_is():
    S = normalised(random(4, 1, 1), "virtual").expand(4, 20, 21)
    x = random(20, 21, seed=1)
    x[:, 12:] = 0
    maps = walsh(S * x, 5)
    # the object reaches two pixels into its background, half a window
    torch.testing.assert_close(maps[..., :14], S[..., :14].contiguous())
    assert not (maps[..., 14:] != 0).any()


def test_walsh_by_slabs_and_in_a_batch_is_walsh(monkeypatch):
    images = random(2, 3, 11, 9)
    wanted = torch.stack([walsh(i, 5) for i in images])
    torch.testing.assert_close(walsh(images, 5), wanted)
    monkeypatch.setattr("operators.coils._BLOCK", 9 * 9 * 2)
    torch.testing.assert_close(walsh(images, 5), wanted)
    torch.testing.assert_close(walsh(images.to(torch.complex64), 5), wanted.to(torch.complex64), **SINGLE)


SINGLE = {"atol": 1e-4, "rtol": 0}  # eigenvectors at a gap of a few percent, in float32


@pytest.mark.parametrize("spatial", [(48, 40), (33, 47)])
def test_low_frequency_maps_are_close_and_only_see_the_centre(spatial):
    x, inside = smooth_object(spatial)
    S = birdcage(6, spatial, dtype=DOUBLE)
    y = to_kspace(S * x, (-2, -1))
    maps = low_frequency_maps(y, 16)
    assert error(maps, S, inside) < 0.05  # a blur over a twelfth of the image; ESPIRiT has 0.005
    outer = y.clone()
    outer[:, spatial[0] // 2 - 8 : spatial[0] // 2 + 9, spatial[1] // 2 - 8 : spatial[1] // 2 + 9] = 0
    torch.testing.assert_close(low_frequency_maps(y - outer, 16), maps)


def test_images_and_kspace_are_inverse_along_any_axis():
    x = random(2, 3, 4, 5)
    for axes in ((-1,), (-2, -1), (-3, -2, -1)):
        torch.testing.assert_close(to_images(to_kspace(x, axes), axes), x)


def test_the_sampled_centre_is_found_off_centre_too():
    lines = torch.zeros(9, 20, dtype=torch.bool)
    lines[:, ::3] = True
    lines[:, 7:13] = True
    assert sampled_centre(lines) == (slice(0, 9), slice(6, 13))
    box = torch.zeros(9, 11, dtype=torch.bool)
    box[2:7, 4:9] = True
    assert sampled_centre(box) == (slice(2, 7), slice(4, 9))
    with pytest.raises(ValueError, match="middle of k-space is not sampled"):
        sampled_centre(~box)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalised(random(3, 4, 4).real), "complex"),
        (lambda: normalised(random(3, 4, 4) * 0), "zero everywhere"),
        (lambda: normalised(random(3, 4, 4) * torch.nan), "NaN"),
        (lambda: normalised(random(3, 4, 4), reference=3), "coil below 3"),
        (lambda: normalised(random(3, 4, 4), reference="third"), "virtual"),
        (lambda: normalised(random(4, 4)), "coils, ny, nx"),
        (lambda: combine(random(3, 4, 5), random(2, 4, 5)), "as the maps"),
        (lambda: root_sum_of_squares(random(4, 5)), "coils, ny, nx"),
        (lambda: birdcage(0, (4, 4)), "coils ≥ 1"),
        (lambda: birdcage(4, (4,)), "ny, nx"),
        (lambda: walsh(random(3, 4, 4), 4), "odd"),
        (lambda: walsh(torch.stack([random(3, 4, 4), random(3, 4, 4) * 0])), "zero everywhere"),
        (lambda: low_frequency_maps(random(3, 8, 8), 9), "sides between"),
        (lambda: low_frequency_maps(random(3, 8, 8), (4, 4, 4)), "sides between"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
