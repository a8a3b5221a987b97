"""Helical scans rebinned to fans, against the fan-beam projections of the slice itself."""

import dataclasses
import math

import pytest
import torch

from operators import ConeBeam, FanBeam, fbp, helical_fbp, helical_to_fan
from operators.helical import covered
from recon.data.ellipsoids import Ellipsoid, Ellipsoids, ball

N = 64
POST = Ellipsoids([Ellipsoid(1.0, (18.0, 14.0, 1e9), (5.0, -4.0, 0.0))])
BALL = Ellipsoids([ball(1.0, 20.0, (5.0, -4.0, 0.0))])
SOLIDS = Ellipsoids([*BALL, Ellipsoid(0.5, (8.0, 5.0, 12.0), (-14.0, 6.0, -5.0), (0.4, 0.3, 0.2))])


def helix(detector="flat", pitch=20.0, rows=17, row=4.0, turns=4.0, nz=2, columns=96, per_turn=90, **other):
    """The views do not begin at a multiple of anything; the middle one is near z = 0."""
    n = int(turns * per_turn)
    angles = [2 * math.pi * (k - n / 2 + 0.3) / per_turn for k in range(n)]
    return ConeBeam(
        (nz, N, N), 1.0, angles, (rows, columns), (row, 2.0), 250.0, 500.0, detector, pitch=pitch, **other
    )


def one_row(detector="flat", pitch=2.5, **other):
    return helix(detector, pitch, rows=1, row=5.0, turns=6.0, **other)


def of_the_slice(phantom, fan, z):
    """The sinogram that the fan sees of the slice itself."""
    scan = ConeBeam(
        (1, N, N), 1.0, fan.angles, (1, fan.n_bins), fan.bin_size, fan.source_to_centre,
        fan.source_to_detector, fan.detector, (0.0, fan.offset), start=z,
    )  # fmt: skip
    return phantom.line_integrals(scan)[:, 0]


def error(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("pitch", [20.0, -20.0])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (3.0, 1.5)])
def test_single_slice_is_exact_where_nothing_changes_along_z(detector, pitch, offset):
    geometry = helix(detector, pitch, offset=offset)
    fan, sinogram = helical_to_fan(geometry, POST.line_integrals(geometry), 0.7)
    assert isinstance(fan, FanBeam) and (fan.detector, fan.offset) == (detector, offset[1])
    # semi-axes of 1e9 mm cost nine of sixteen digits
    torch.testing.assert_close(sinogram, of_the_slice(POST, fan, 0.7), rtol=0, atol=1e-6)
    # π + fan angle, and not a view more than the grid of views asks for
    span = max(fan.angles) - min(fan.angles)
    least = math.pi + 2 * max(abs(float(g)) for g in geometry.fan_angles())
    assert least <= span + 1e-9 < least + 2 * 2 * math.pi / 90


@pytest.mark.parametrize("detector", ["flat", "arc"])
def test_interpolation_over_a_turn_is_exact_where_nothing_changes_along_z(detector):
    geometry = one_row(detector, offset=(0.0, 1.5))
    fan, sinogram = helical_to_fan(geometry, POST.line_integrals(geometry), 0.7, "360li")
    assert len(fan.angles) == 90
    torch.testing.assert_close(sinogram, of_the_slice(POST, fan, 0.7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_opposite_rays_are_found_where_they_are(detector, offset):
    errors = []
    for per_turn in (90, 180):
        geometry = one_row(detector, 5.0, per_turn=per_turn, columns=per_turn, offset=(0.0, offset))
        geometry = dataclasses.replace(geometry, detector_pixel_size=(5.0, 190 / per_turn))
        fan, sinogram = helical_to_fan(geometry, POST.line_integrals(geometry), 0.3, "180li")
        assert len(fan.angles) == per_turn
        errors.append(error(sinogram, of_the_slice(POST, fan, 0.3)))
    # linear between views and bins: half the step halves the error at the ellipse's edges, of infinite slope,
    # but for where between bins the opposite rays happen to fall
    assert errors[0] < 0.01 and errors[1] < 0.75 * errors[0]


def test_the_error_of_single_slice_rebinning_falls_with_the_pitch():
    errors = []
    for pitch in (10.0, 20.0, 40.0):
        geometry = helix(pitch=pitch, rows=81, row=1.0, per_turn=50, turns=2.0)
        fan, sinogram = helical_to_fan(geometry, SOLIDS.line_integrals(geometry), 0.7)
        errors.append(error(sinogram, of_the_slice(SOLIDS, fan, 0.7)))
    # rows of 0.5 mm at the axis cost 7e-4; a ray leaves its slice by at most pitch · Λ/4π · r/R = 0.8 … 3 mm
    assert errors == sorted(errors)
    assert errors[0] < 2e-3 and errors[2] < 1e-2


@pytest.mark.parametrize("method", ["360li", "180li"])
def test_the_error_of_interpolation_falls_with_the_pitch(method):
    errors = []
    for pitch in (1.25, 2.5, 5.0):
        geometry = one_row(pitch=pitch / (2 if method == "360li" else 1), columns=192)
        geometry = dataclasses.replace(geometry, detector_pixel_size=(5.0, 1.0))
        fan, sinogram = helical_to_fan(geometry, SOLIDS.line_integrals(geometry), 0.3, method)
        errors.append(error(sinogram, of_the_slice(SOLIDS, fan, 0.3)))
    assert errors == sorted(errors) and errors[2] < 1e-2


@pytest.mark.parametrize(
    "geometry, method",
    [
        (helix(nz=4, per_turn=150), "single-slice"),
        (helix("arc", -20.0, nz=4, per_turn=150), "single-slice"),
        (one_row(nz=4, per_turn=150), "360li"),
        (one_row("arc", 5.0, nz=4, per_turn=150), "180li"),
    ],
    ids=["flat", "arc, downwards", "360li", "180li"],
)
def test_slices_of_a_ball(geometry, method):
    y = BALL.line_integrals(geometry)
    x = helical_fbp(geometry, y.float(), method=method)
    assert x.dtype == torch.float32 and x.shape == geometry.in_shape
    axis = torch.arange(N) - (N - 1) / 2
    apart = torch.hypot(axis[None] - 5, -axis[:, None] + 4)
    for plane in x:
        assert abs(float(plane[apart < 17].mean()) - 1) < 1e-3
        assert float((plane[apart < 17] - 1).abs().quantile(0.99)) < 0.03
        assert abs(float(plane[apart > 23].mean())) < 1e-3


def test_fbp_takes_a_helix():
    geometry = helix(pitch=18.0)
    y = BALL.line_integrals(geometry)
    expected = []
    for z in (-0.5, 0.5):
        fan, sinogram = helical_to_fan(geometry, y, z)
        expected.append(fbp(fan, sinogram, "hann", 0.8, short_scan=True))
    torch.testing.assert_close(fbp(geometry, y, "hann", 0.8), torch.stack(expected), rtol=0, atol=1e-14)


def test_a_descending_helix_is_a_mirrored_one():
    up = helix(pitch=18.0, nz=3)
    down = dataclasses.replace(up, pitch=-18.0)
    y = SOLIDS.line_integrals(up)
    # mirrored at z = 0 the same rays are measured by the flipped rows
    torch.testing.assert_close(fbp(down, y.flip(-2)), fbp(up, y).flip(-3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["single-slice", "360li", "180li"])
def test_views_may_come_in_any_order_images_in_a_batch(method):
    geometry = helix(per_turn=45) if method == "single-slice" else one_row(per_turn=45)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, *geometry.out_shape, generator=generator, dtype=torch.float64)
    fan, sinogram = helical_to_fan(geometry, y, 0.2, method)
    order = torch.randperm(geometry.views, generator=generator)
    shuffled = geometry.subset(order.tolist())
    again, same = helical_to_fan(shuffled, y[1, order], 0.2, method)
    assert again == fan
    torch.testing.assert_close(same, sinogram[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", ["single-slice", "360li", "180li"])
def test_differentiable(method):
    small = dict(columns=6, per_turn=9)
    geometry = helix(rows=9, row=9.0, **small) if method == "single-slice" else one_row(**small)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(geometry.out_shape, generator=generator, dtype=torch.float64, requires_grad=True)
    w, other = (torch.randn(geometry.out_shape, generator=generator, dtype=torch.float64) for _ in range(2))
    s = helical_to_fan(geometry, y, 0.2, method)[1]
    g = torch.randn(s.shape, generator=generator, dtype=torch.float64)
    (back,) = torch.autograd.grad((s * g).sum(), y)
    # linear: <S w, g> = <w, S* g>, and S(w + 2 v) = S w + 2 S v
    ahead, second, both = (helical_to_fan(geometry, t, 0.2, method)[1] for t in (w, other, w + 2 * other))
    torch.testing.assert_close((ahead * g).sum(), (back * w).sum())
    torch.testing.assert_close(both, ahead + 2 * second)


def test_covered_slices():
    geometry = helix(start=3.0)
    low, high = covered(geometry)
    assert low < -30 and high > 36
    y = torch.zeros(geometry.out_shape)
    for z in (low, high):
        helical_to_fan(geometry, y, z)
    for z in (low - 0.1, high + 0.1):
        with pytest.raises(ValueError, match=rf"covers {low:.4g} … {high:.4g}"):
            helical_to_fan(geometry, y, z)
    wide, narrow = covered(one_row(), "360li"), covered(one_row(), "180li")
    assert narrow[0] < wide[0] < wide[1] < narrow[1]


def test_the_largest_pitch_a_detector_allows():
    geometry = helix(pitch=100.0, rows=17, row=4.0)
    y = torch.zeros(geometry.out_shape)
    with pytest.raises(ValueError, match=r"pitch of 100 mm is too large.*it allows") as found:
        helical_to_fan(geometry, y, 0.0)
    allowed = float(str(found.value).split("it allows ")[1].split(" mm")[0])
    helical_to_fan(dataclasses.replace(geometry, pitch=0.97 * allowed), y, 0.0)
    with pytest.raises(ValueError, match="too large"):
        # the views nearest to the end of the range need a little more or less
        helical_to_fan(dataclasses.replace(geometry, pitch=1.03 * allowed), y, 0.0)
    # Λ/4π turns of it up and down, magnified at the object's border
    assert 40 < allowed < 65


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda y: helical_to_fan(one_row(pitch=2.6), y, 0.0, "360li"), "leaves gaps along z.*allows 2.5 mm"),
        (lambda y: helical_to_fan(one_row(pitch=5.1), y, 0.0, "180li"), "allows 5 mm, 2 × a row"),
        (lambda y: helical_to_fan(one_row(offset=(9.0, 0.0)), y, 0.0, "360li"), "plane of the source"),
        (lambda y: helical_to_fan(one_row(), y, 0.0, "270li"), "method: expected one of 'single-slice'"),
        (lambda y: helical_to_fan(one_row(), y[1:], 0.0), "expected shape"),
        (lambda y: helical_fbp(one_row(pitch=0.0), y), "ConeBeam with a pitch"),
        (lambda y: helical_fbp(one_row(nz=90), y), "covers"),
        (lambda y: helical_to_fan(dataclasses.replace(one_row(), voxel_size=(1, 1, 2)), y, 0.0), "square"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.zeros(one_row().out_shape))
