"""Trajectories: where they pass, how densely, and that bad numbers are refused."""

import math

import pytest
import torch

from operators import (
    cartesian,
    golden_angles,
    koosh_ball,
    radial,
    rosette,
    spiral,
    stack_of_stars,
)

ALL = [
    radial(5, 8),
    radial(5, 7, "golden"),
    radial(2, 9, [0.0, 1.0]),
    spiral(3, 50, 4.0),
    spiral(3, 50, 4.0, 2.0),
    rosette(3, 40, 5),
    stack_of_stars(5, 8, 3),
    koosh_ball(30, 9),
]


def length(k):
    return torch.linalg.vector_norm(k, dim=-1)


@pytest.mark.parametrize("k", ALL, ids=lambda k: str(tuple(k.shape)))
def test_double_precision_in_shots_within_pi(k):
    assert k.dtype == torch.float64 and k.ndim == 3 and k.shape[-1] in (2, 3)
    assert float(k.abs().max()) <= math.pi * (1 + 1e-12)
    # samples go out to π, or one step less
    assert float(k.abs().max()) > math.pi * (1 - 2 / 7)


def test_golden_angles_in_degrees():
    step = golden_angles(2).diff() * 180 / math.pi
    assert float(step) == pytest.approx(111.246, abs=5e-4)  # Winkelmann 2007
    # Wundrak 2015: golden, then 68.75°, …, 23.63° for the seventh
    assert float(golden_angles(2, 2).diff()) * 180 / math.pi == pytest.approx(68.754, abs=5e-4)
    assert float(golden_angles(2, 7).diff()) * 180 / math.pi == pytest.approx(23.628, abs=5e-4)
    # gaps of a Fibonacci number of spokes take two sizes only, in the golden ratio
    gaps = golden_angles(21).sort().values
    gaps = torch.cat([gaps, gaps[:1] + math.pi]).diff()
    assert float(gaps.max() / gaps.min()) == pytest.approx((1 + math.sqrt(5)) / 2, rel=1e-9)


@pytest.mark.parametrize("readout", [8, 9])
def test_radial_spokes_are_straight_even_and_through_the_centre(readout):
    k = radial(6, readout)
    assert float(length(k[:, readout // 2]).max()) == 0
    steps = length(k.diff(dim=1))
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * math.pi / readout))
    cross = k[:, :-1, 0] * k[:, 1:, 1] - k[:, :-1, 1] * k[:, 1:, 0]
    assert float(cross.abs().max()) < 1e-13
    assert float(k[0, :, 0].abs().max()) == 0  # the first spoke lies along kx, the second component
    turn = torch.atan2(k[1, -1, 0], k[1, -1, 1])
    assert float(turn) == pytest.approx(math.pi / 6)


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_spiral_steps_are_even_and_radii_follow_the_angle(power):
    k = spiral(4, 400, 5.0, power)
    steps = length(k.diff(dim=1))
    # a chord is shorter than its arc where the spiral bends most, at the centre
    assert float(steps[:, 20:].max() / steps[:, 20:].min()) < 1.01
    radius = length(k[0])
    angle = torch.atan2(k[0, :, 0], k[0, :, 1])
    wanted = 2 * math.pi * 5 * (radius / math.pi) ** (1 / power)
    assert float(torch.sin((wanted - angle)[1:] / 2).abs().max()) < 1e-3
    # the next interleaf is a quarter turn of (kx, ky) on
    torch.testing.assert_close(torch.stack([k[0, :, 1], -k[0, :, 0]], -1), k[1], atol=1e-12, rtol=0)


def test_rosette_passes_the_centre_twice_a_petal():
    k = rosette(1, 1200, 6)
    radius = length(k[0])
    zeros = (radius < 1e-9).sum()
    assert int(zeros) == 12
    assert float(radius.max()) == pytest.approx(math.pi, rel=1e-9)


def test_stack_of_stars_is_a_star_on_every_partition():
    k = stack_of_stars(5, 8, 3)
    assert k.shape == (15, 8, 3)
    for p, kz in enumerate([-2 * math.pi / 3, 0, 2 * math.pi / 3]):
        part = k[5 * p : 5 * p + 5]
        torch.testing.assert_close(part[..., 1:], radial(5, 8))
        assert float((part[..., 0] - kz).abs().max()) < 1e-15


def test_koosh_ball_is_even_over_the_sphere():
    k = koosh_ball(2000, 8)
    direction = -k[:, 0] / length(k[:, 0])[:, None]
    # full spokes on a half sphere: second moments of an even distribution are 1/3, those between axes 0
    moments = direction.T @ direction / len(direction)
    assert (
        float((moments - torch.eye(3, dtype=torch.float64) / 3).abs().max()) < 5e-3
    )  # 1/√2000 if random: 0.02
    z = direction[:3, 0]
    assert z[1:].tolist() == pytest.approx([0.4656, 2 * 0.4656], abs=1e-4)  # Chan 2009


def test_cartesian_takes_the_sampled_points_row_by_row():
    mask = torch.zeros(4, 5)
    mask[2, 2] = mask[0, 4] = mask[3, 0] = 1
    wanted = [[-math.pi, 4 * math.pi / 5], [0, 0], [math.pi / 2, -4 * math.pi / 5]]
    torch.testing.assert_close(cartesian(mask), torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: radial(0, 8), "radial spokes"),
        (lambda: radial(3, 8, [0.0, 1.0]), "3 finite numbers"),
        (lambda: radial(3, 8, "random"), "'uniform', 'golden'"),
        (lambda: spiral(1, 8, 0.0), "turns"),
        (lambda: spiral(1, 8, 1.0, 0.5), "power"),
        (lambda: rosette(1, 0), "readout"),
        (lambda: stack_of_stars(3, 8, 0), "partitions"),
        (lambda: koosh_ball(-1, 8), "spokes"),
        (lambda: golden_angles(3, 0), "order"),
        (lambda: cartesian(torch.zeros(3, 3)), "not 0 somewhere"),
        (lambda: cartesian(torch.ones(3)), "ny, nx"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
