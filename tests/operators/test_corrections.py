import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from operators import ConeBeam, FanBeam, ParallelBeam, ParallelBeam3D
from operators.corrections import centre_of_rotation, detector_rotation, recentred, tilted

HALF = [math.pi * k / 60 for k in range(60)]
ENDS = [math.pi * k / 60 for k in range(61)]
TURN = [2 * math.pi * k / 120 for k in range(120)]


def balls(geometry, dimensions=2):
    """Exact line integrals of three balls (discs), none in the middle."""
    points, directions = geometry.rays()
    total = np.zeros(points.shape[:-1])
    for x, y, z, radius, value in ((9, 4, 2, 7, 1.0), (-11, -6, -3, 5, 0.7), (2, -13, 0, 3, 2.0)):
        away = points - np.array((x, y, z)[:dimensions])
        squared = (away**2).sum(-1) - (away * directions).sum(-1) ** 2
        total += 2 * value * np.sqrt(np.clip(radius**2 - squared, 0, None))
    return torch.from_numpy(total)


def parallel(angles, offset):
    return ParallelBeam((64, 64), 1.0, angles, 81, 0.8, offset=offset)


def fan(detector, offset, turn=TURN):
    return FanBeam((64, 64), 1.0, turn, 71, 1.4, 90.0, 140.0, detector, offset=offset)


@pytest.mark.parametrize("offset", [0.0, 0.31, -2.7])
@pytest.mark.parametrize(
    ("angles", "method"),
    [(TURN, "symmetry"), (ENDS, "symmetry"), (HALF, "moments"), (HALF, "auto"), (TURN[:-1:7], "moments")],
    ids=["turn", "0° and 180°", "half", "half, auto", "scattered"],
)
def test_the_axis_of_a_parallel_scan_is_found(angles, method, offset):
    sinogram = balls(parallel(angles, offset))
    found = centre_of_rotation(sinogram, parallel(angles, 0.0), method)
    assert abs(float(found) - offset) <= 0.1 * 0.8


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("offset", [0.0, 0.35, -4.1])
def test_the_axis_of_a_fan_is_found(detector, offset):
    found = centre_of_rotation(balls(fan(detector, offset)), fan(detector, 0.0))
    assert abs(float(found) - offset) <= 0.1 * 1.4


def test_angles_may_run_backwards_and_begin_anywhere():
    turn = [0.7 - a for a in TURN]
    found = centre_of_rotation(balls(fan("arc", 1.9, turn)), fan("arc", 0.0, turn))
    assert abs(float(found) - 1.9) <= 0.1 * 1.4


def test_noise_and_truncation_move_the_axis_by_less_than_a_tenth_of_a_bin():
    """Two per cent of the largest integral; the detector sees 26 of 40 mm, so that moments are far off."""
    generator = torch.Generator().manual_seed(0)
    narrow = replace(parallel(TURN, 1.3), n_bins=33)
    clean = balls(narrow)
    noisy = clean + 0.02 * clean.max() * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    assert abs(float(centre_of_rotation(noisy, replace(narrow, offset=0.0))) - 1.3) <= 0.08
    assert abs(float(centre_of_rotation(clean, replace(narrow, offset=0.0), "moments")) - 1.3) > 0.4


def test_every_image_of_a_batch_by_itself():
    sinograms = torch.stack([balls(parallel(TURN, o)) * s for o, s in ((0.5, 1.0), (-1.5, 100.0))])
    found = centre_of_rotation(sinograms.unsqueeze(0), parallel(TURN, 0.0))
    assert found.shape == (1, 2)
    for k in range(2):
        assert found[0, k] == centre_of_rotation(sinograms[k], parallel(TURN, 0.0))


def test_recentring_gives_the_scan_its_axis():
    for true in (parallel(ENDS, 1.1), fan("flat", -2.0)):
        found = recentred(replace(true, offset=0.0), balls(true))
        assert found == replace(true, offset=found.offset)
        assert found.offset == pytest.approx(true.offset, abs=0.1 * true.bin_size)
    stack = ParallelBeam3D((8, 64, 64), 1.0, HALF, (5, 81), 0.8, offset=(0.0, 0.9))
    cone = ConeBeam((8, 64, 64), 1.0, TURN, (5, 71), 1.4, 90.0, 140.0, offset=(0.0, -1.7))
    for solid in (stack, cone):
        found = recentred(replace(solid, offset=(0.0, 0.0)), balls(solid, 3))
        assert found.offset[1] == pytest.approx(solid.offset[1], abs=0.1 * solid.detector_pixel_size[1])


def test_the_rotation_of_a_detector_is_found():
    plain = ParallelBeam3D((32, 64, 64), 1.0, TURN, (25, 81), 0.8)
    true = tilted(replace(plain, offset=(0.0, 1.2)), rotation=0.03)
    rotation, offset = detector_rotation(balls(true, 3), plain)
    # over half the detector, 32 mm, a tenth of a bin is 0.0025 rad
    assert rotation == pytest.approx(0.03, abs=0.0025)
    assert offset == pytest.approx(1.2, abs=0.08)


CONE = ConeBeam((4, 8, 8), 1.0, (0.3, 2.0), (5, 7), (1.1, 1.3), 40.0, 70.0, offset=(0.5, -2.0))
STACK = ParallelBeam3D((4, 8, 8), 1.0, (0.3, 2.0), (5, 7), (1.1, 1.3), offset=(0.5, -2.0))


@pytest.mark.parametrize("geometry", [CONE, STACK], ids=["cone", "parallel"])
def test_no_tilt_is_the_same_scan(geometry):
    same = tilted(geometry)
    np.testing.assert_allclose(same.rays()[0], geometry.rays()[0], atol=1e-12)
    np.testing.assert_allclose(same.rays()[1], geometry.rays()[1], atol=1e-12)


@pytest.mark.parametrize("geometry", [CONE, STACK], ids=["cone", "parallel"])
def test_signs_of_the_three_angles(geometry):
    """At view angle θ: u = (cos θ, sin θ, 0), v = (0, 0, 1), away from the source w = (−sin θ, cos θ, 0)."""
    a, t = 0.2, np.array(geometry.angles)
    u = np.stack([np.cos(t), np.sin(t), 0 * t], -1)
    v, w = np.broadcast_to([0.0, 0.0, 1.0], (2, 3)), np.stack([-np.sin(t), np.cos(t), 0 * t], -1)
    w = -w if geometry is STACK else w  # parallel rays run the other way
    cases = {
        "rotation": (math.cos(a) * u + math.sin(a) * v, math.cos(a) * v - math.sin(a) * u),
        "tilt": (u, math.cos(a) * v + math.sin(a) * w),
        "slant": (math.cos(a) * u + math.sin(a) * w, v),
    }
    for which, (columns, rows) in cases.items():
        f = tilted(geometry, **{which: a}).frames()
        np.testing.assert_allclose(f.u, 1.3 * columns, atol=1e-12)
        np.testing.assert_allclose(f.v, 1.1 * rows, atol=1e-12)
        np.testing.assert_allclose(f.centre, geometry.frames().centre, atol=1e-12)
        np.testing.assert_allclose(f.source, geometry.frames().source, atol=1e-12)


def test_a_tilted_detector_stays_rigid():
    f = tilted(CONE, 0.1, -0.2, 0.3).frames()
    pixels, before = f.pixels(5, 7), CONE.frames().pixels(5, 7)

    def distances(points):
        flat = points.reshape(2, -1, 3)
        return np.linalg.norm(flat[:, :, None] - flat[:, None], axis=-1)

    np.testing.assert_allclose(distances(pixels), distances(before), atol=1e-12)
    back = tilted(tilted(CONE, rotation=0.4), rotation=-0.4)
    np.testing.assert_allclose(back.rays()[1], CONE.rays()[1], atol=1e-12)


def test_a_curved_detector_turns_with_its_cylinder():
    arc = replace(CONE, detector="arc")
    turned = tilted(arc, rotation=0.3)
    assert turned.radius == 70.0
    away = turned.frames().pixels(5, 7) - turned.frames().source[:, None, None]
    axis = turned.frames().v / np.linalg.norm(turned.frames().v, axis=-1, keepdims=True)
    along = (away * axis[:, None, None]).sum(-1, keepdims=True) * axis[:, None, None]
    # its axis still passes the source, but for the detector's height of 0.5 mm: 0.5 sin 0.3 to one side
    np.testing.assert_allclose(np.linalg.norm(away - along, axis=-1), 70.0, atol=0.5 * math.sin(0.3) + 1e-3)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            lambda: centre_of_rotation(torch.ones(60, 80), parallel(HALF, 0.0)),
            r"expected \(\*batch, 60, 81\)",
        ),
        (lambda: centre_of_rotation(torch.ones(60, 81), parallel(HALF, 0.0), "best"), "got 'best'"),
        (lambda: centre_of_rotation(torch.ones(60, 81), parallel(HALF, 0.0), "symmetry"), "opposite views"),
        (lambda: centre_of_rotation(torch.ones(60, 71), fan("arc", 0.0, HALF)), "a full turn"),
        (lambda: centre_of_rotation(torch.ones(120, 71), fan("arc", 0.0), "moments"), "for parallel beams"),
        (lambda: centre_of_rotation(torch.zeros(60, 81), parallel(HALF, 0.0)), "something in each"),
        (lambda: centre_of_rotation(torch.full((60, 81), math.nan), parallel(HALF, 0.0)), "finite"),
        (lambda: centre_of_rotation(torch.ones(2, 5, 7), CONE), "expected ParallelBeam or FanBeam"),
        (lambda: recentred(CONE, torch.ones(2, 5, 6)), r"expected \(2, 5, 7\)"),
        (lambda: recentred(replace(CONE, pitch=2.0), torch.ones(2, 5, 7)), "helix"),
        (lambda: detector_rotation(torch.ones(2, 5, 7), CONE), "expected ParallelBeam3D"),
    ],
)
def test_bad_input(run, words):
    with pytest.raises(ValueError, match=words):
        run()
