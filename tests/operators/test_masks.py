"""Sampling masks: fastMRI's own, exact counts, distances, nesting, reproducibility, errors."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from operators import (
    Sense,
    acceleration,
    equispaced_mask,
    gaussian_mask,
    grid_mask,
    kt_mask,
    nested_masks,
    poisson_disc,
    radial_mask,
    random_mask,
    seed_of,
)
from operators.masks_2d import GOLDEN, _poisson_disc


def where(mask):
    return torch.nonzero(mask).ravel().tolist()


# what fastMRI's subsample.py (commit 91f2df4, numpy 2) gave for these arguments
FASTMRI_RANDOM = [
    (40, 4, 0.08, seed_of("file"), [2, 7, 8, 14, 15, 19, 20, 21, 22]),
    (33, 3, 0.1, 7, [0, 7, 13, 15, 16, 17, 19, 22, 25, 30]),
]
FASTMRI_ADJUSTED = [
    (40, 4, 0.08, seed_of("file"), [3, 8, 14, 19, 20, 21, 24, 29, 35]),
    (33, 3, 0.1, 7, [3, 7, 10, 14, 15, 16, 17, 18, 22, 26, 29]),
]
FASTMRI_REGULAR = [
    (40, 4, 0.08, seed_of("file"), [3, 7, 11, 15, 19, 20, 21, 23, 27, 31, 35, 39]),
    (33, 3, 0.1, 7, [0, 3, 6, 9, 12, 15, 16, 17, 18, 21, 24, 27, 30]),
]


@pytest.mark.parametrize("n, rate, fraction, seed, lines", FASTMRI_RANDOM)
def test_random_lines_are_those_fastmri_draws_from_the_seed(n, rate, fraction, seed, lines):
    assert where(random_mask(n, rate, fraction, seed)) == lines


@pytest.mark.parametrize("n, rate, fraction, seed, lines", FASTMRI_ADJUSTED)
def test_adjusted_lines_are_those_fastmri_draws_from_the_seed(n, rate, fraction, seed, lines):
    assert where(equispaced_mask(n, rate, fraction, seed=seed)) == lines


@pytest.mark.parametrize("n, rate, fraction, seed, lines", FASTMRI_REGULAR)
def test_regular_lines_are_those_fastmri_draws_from_the_seed(n, rate, fraction, seed, lines):
    assert where(equispaced_mask(n, rate, fraction, "regular", seed=seed)) == lines


def test_the_default_centre_is_fastmri_s():
    for rate, fraction in ((4, 0.08), (8, 0.04)):
        assert torch.equal(random_mask(368, rate), random_mask(368, rate, fraction))


def test_random_lines_have_the_acceleration_on_average():
    counts = [int(random_mask(320, 4, seed=s).sum()) for s in range(200)]
    low = round(320 * 0.08)
    p = (80 - low) / (320 - low)
    # the mean of 200 binomials, within 4 standard errors
    error = ((320 - low) * p * (1 - p) / 200) ** 0.5
    assert abs(np.mean(counts) - 80) < 4 * error


@pytest.mark.parametrize("n", [31, 64, 368])
@pytest.mark.parametrize("rate", [2, 4, 5.5])
def test_adjusted_gaps_differ_by_one_and_meet_the_acceleration(n, rate):
    mask = equispaced_mask(n, rate, offset=1)
    # one line may be lost at the end of the grid, one or two fall into the centre or out of it by rounding
    assert int(mask.sum()) == pytest.approx(n / rate, abs=2.5)
    before = [line for line in where(mask) if line < n // 2 - n * 0.2 / rate]
    assert len(before) >= 2 and np.ptp(np.diff(before)) <= 1


def test_regular_lines_start_at_the_offset_and_the_centre_comes_on_top():
    mask = equispaced_mask(21, 5, 3 / 21, "regular", offset=2)
    assert where(mask) == [2, 7, 9, 10, 11, 12, 17]


@pytest.mark.parametrize("shape", [64, 65, (32, 40), (33, 21)])
def test_gaussian_masks_sample_exactly_and_densely_in_the_centre(shape):
    mask = gaussian_mask(shape, 4, centre=5, seed=3)
    sides = (shape,) if isinstance(shape, int) else shape
    assert tuple(mask.shape) == sides and mask.dtype == torch.bool
    assert int(mask.sum()) == int(np.prod(sides) / 4)
    middle = tuple(slice(n // 2 - 2, n // 2 + 3) for n in sides)
    assert bool(mask[middle].all())


def test_gaussian_lines_follow_the_density():
    # of lines drawn without return the chance is near to p only where few are drawn: 2 of 100, no centre
    draws = torch.stack([gaussian_mask(100, 50, centre=0, seed=s) for s in range(4000)]).double().mean(0)
    k = torch.arange(100, dtype=torch.float64) - 50
    p = torch.exp(-(k**2) / 200) + 1 / 100
    inner, expected = draws[45:56].sum(), 2 * p[45:56].sum() / p.sum()
    # 4 standard errors of a count out of 4000, and 7 % since the second draw cannot repeat the first
    assert float(inner) == pytest.approx(float(expected), rel=0.07)


@pytest.mark.parametrize("shape", [97, (40, 33)])
@pytest.mark.parametrize("density", ["gaussian", "uniform"])
def test_nested_masks_contain_the_faster_ones(shape, density):
    rates = [4, 10, 2, 1, 14]
    masks = nested_masks(shape, rates, centre=4, density=density)
    total = masks[0].numel()
    assert [int(m.sum()) for m in masks] == [int(total / r) for r in rates]
    ordered = sorted(masks, key=lambda m: int(m.sum()))
    for less, more in pairwise(ordered):
        assert bool((more | ~less).all())


def test_interleaved_frames_together_sample_everything_once():
    masks = kt_mask(6, 20, 5, center_fraction=0.0, seed=2)
    assert tuple(masks.shape) == (6, 1, 20)
    assert torch.equal(masks[:5].sum(0), torch.ones(1, 20, dtype=torch.long))
    assert torch.equal(masks[5], masks[0])
    assert acceleration(masks) == 5


def test_random_frames_differ_and_keep_the_centre():
    masks = kt_mask(4, 64, 4, kind="random")
    low = round(64 * 0.08)
    assert bool(masks[..., 32 - low // 2 : 32 + low // 2].all())
    assert len({tuple(where(m[0])) for m in masks}) == 4
    assert torch.equal(masks[0, 0], random_mask(64, 4))
    A = Sense(kt_mask(3, 8, 2), torch.ones(2, 6, 8, dtype=torch.complex64))
    assert A.in_shape == (3, 6, 8) and A.out_shape == (3, 2, 6, 8)


@pytest.mark.parametrize(
    "shape, rate, calibration, crop",
    [((64, 64), 4, 12, True), ((65, 48), 8, (6, 9), True), ((40, 64), 2, 0, False), ((48, 48), 1.5, 8, True)],
)
def test_poisson_samples_keep_their_distance_and_their_number(shape, rate, calibration, crop):
    mask, radius = _poisson_disc(shape, rate, calibration, crop, seed=1)
    assert torch.equal(mask, poisson_disc(shape, rate, calibration, crop, seed=1))
    total = shape[0] * shape[1]
    assert int(mask.sum()) == round(total / rate)
    cy, cx = shape[0] // 2, shape[1] // 2
    assert bool(mask[cy, cx])
    y, x = np.nonzero(mask.numpy())
    if crop:
        # no sample outside the ellipse
        assert np.max((2 * (y - cy) / shape[0]) ** 2 + (2 * (x - cx) / shape[1]) ** 2) <= 1
    by, bx = (calibration, calibration) if isinstance(calibration, int) else calibration
    middle = np.zeros(shape, bool)
    top, left = (shape[0] - by + 1) // 2, (shape[1] - bx + 1) // 2
    middle[top : top + by, left : left + bx] = True
    assert mask.numpy()[middle].all()
    outside = ~middle[y, x]
    y, x = y[outside], x[outside]
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    np.fill_diagonal(distance, np.inf)
    # the largest distance on the grid that the local radius of both reaches
    levels = np.unique(np.hypot(*np.mgrid[:80, :80]))[1:]
    least = levels[np.searchsorted(levels, radius[y, x], side="right") - 1]
    assert (distance.min(1) >= least).all()
    if rate > 4:
        assert least.max() > 2  # the law is not empty


def test_poisson_density_falls_with_the_radius():
    masks = torch.stack([poisson_disc((96, 96), 6, 0, seed=s) for s in range(8)]).double().mean(0)
    k = np.arange(96) - 48
    ring = np.hypot(k[:, None], k).astype(int) // 8
    profile = [float(masks[torch.from_numpy(ring == r)].mean()) for r in range(1, 6)]
    assert profile == sorted(profile, reverse=True)
    assert profile[0] > 2 * profile[-1]


def test_poisson_masks_have_their_number_whatever_the_seed():
    for seed in range(60):
        assert int(poisson_disc((20, 17), 3, 3, seed=seed).sum()) == round(340 / 3)


def test_poisson_density_has_no_steps():
    # at 4-fold the local radius goes from 1 to 1.7, across √2; rounded down it would have one density up to
    # there and half of it beyond
    masks = torch.stack([poisson_disc((96, 96), 4, 0, seed=s) for s in range(8)]).double().mean(0)
    k = np.arange(96) - 48
    ring = np.hypot(k[:, None], k).astype(int) // 4
    profile = np.array([float(masks[torch.from_numpy(ring == r)].mean()) for r in range(2, 12)])
    assert (profile[:-1] / profile[1:]).max() < 1.3
    assert profile[0] > 2 * profile[-1]


def test_one_poisson_sample_is_that_of_dc_and_rate_one_is_everything():
    assert where(poisson_disc((6, 5), 30, 0).ravel()) == [3 * 5 + 2]
    assert bool(poisson_disc((6, 5), 1, 0, crop=False).all())


def test_spokes_go_through_dc_to_the_edges():
    mask = radial_mask((9, 9), 1)
    assert where(mask[4]) == list(range(9)) and int(mask.sum()) == 9
    cross = radial_mask((9, 8), 2, golden=False)
    assert bool(cross[4].all()) and bool(cross[:, 4].all()) and int(cross.sum()) == 16
    diagonal = radial_mask((7, 7), 1, angle=np.pi / 4)
    assert torch.equal(diagonal, torch.eye(7, dtype=torch.bool))
    odd = radial_mask((31, 31), 13, golden=False, angle=0.1)
    assert torch.equal(odd, odd.flip(0, 1))
    assert np.degrees(GOLDEN) == pytest.approx(111.246, abs=5e-4)


@pytest.mark.parametrize("golden", [True, False])
def test_spokes_meet_the_acceleration_from_above(golden):
    mask = radial_mask((64, 50), acceleration=5, golden=golden)
    # one spoke more or less is at most 64 of 640 samples
    assert 5 <= acceleration(mask) < 5 / (1 - 64 / 640)


def test_golden_spokes_contain_fewer_golden_spokes():
    less, more = radial_mask((40, 33), 8), radial_mask((40, 33), 13)
    assert bool((more | ~less).all()) and int(more.sum()) > int(less.sum())


def test_grids_have_dc_their_steps_and_their_centre():
    mask = grid_mask((12, 15), (3, 2), 0)
    assert where(mask.any(1)) == [0, 3, 6, 9]
    assert where(mask.any(0)) == [1, 3, 5, 7, 9, 11, 13]
    assert bool(mask[6, 7]) and int(mask.sum()) == 28
    moved = grid_mask((12, 15), (3, 2), 0, offset=(1, 1))
    assert torch.equal(moved[1:, 1:], mask[:-1, :-1])
    centre = grid_mask((12, 15), (3, 2), (4, 5))
    assert bool(centre[4:8, 5:10].all()) and bool((centre | ~mask).all())
    assert int(grid_mask((8, 8), (2, 2), 4).sum()) == 16 + 12
    assert acceleration(grid_mask((8, 12), (2, 3), 0)) == 6


DRAWN = {
    "random": lambda seed: random_mask(60, 3, seed=seed),
    "adjusted": lambda seed: equispaced_mask(60, 7, seed=seed),
    "regular": lambda seed: equispaced_mask(60, 7, 0, "regular", seed=seed),
    "gaussian": lambda seed: gaussian_mask((20, 21), 3, 4, seed=seed),
    "kt": lambda seed: kt_mask(3, 30, 6, seed=seed),
    "poisson": lambda seed: poisson_disc((24, 20), 4, 4, seed=seed),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_is_a_mask(name):
    make = DRAWN[name]
    assert torch.equal(make(5), make(5)) and torch.equal(make((1, 2)), make((1, 2)))
    assert len({tuple(make(s).ravel().tolist()) for s in range(10)}) > 1
    assert make(5).dtype == torch.bool
    for generator in (lambda: np.random.default_rng(3), lambda: torch.Generator().manual_seed(3)):
        drawn = generator()
        first = [make(drawn) for _ in range(10)]
        assert torch.equal(first[0], make(generator()))
        assert any(not torch.equal(first[0], m) for m in first[1:])


def test_no_global_state_is_touched():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    for make in DRAWN.values():
        make(0)
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_there_is_always_a_sample(n):
    for seed in range(10):
        for mask in (
            random_mask(n, n, 0, seed),
            equispaced_mask(n, n, 0, seed=seed),
            equispaced_mask(n, n, 0, "regular", seed=seed),
            gaussian_mask(n, n, 0, seed=seed),
        ):
            assert mask.shape == (n,) and bool(mask.any())


@pytest.mark.parametrize("n", [8, 9])
def test_no_acceleration_is_everything(n):
    for mask in (
        random_mask(n, 1),
        equispaced_mask(n, 1),
        equispaced_mask(n, 1, 1.0),
        gaussian_mask((n, n), 1),
        radial_mask((n, n), acceleration=1),
        grid_mask((n, n), (1, 1), 0),
        kt_mask(2, n, 1),
    ):
        assert bool(mask.all()) and acceleration(mask) == 1


def test_only_the_centre_where_there_is_room_for_no_more():
    assert where(equispaced_mask(40, 4, 0.25)) == list(range(15, 25))
    assert where(random_mask(40, 4, 0.25)) == list(range(15, 25))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: random_mask(64, 0.5), "acceleration: expected a number from 1 to 64"),
        (lambda: random_mask(64, 65), "acceleration: expected a number from 1 to 64"),
        (lambda: random_mask(64, float("nan")), "acceleration"),
        (lambda: random_mask(0, 1), "n: expected a whole number"),
        (lambda: random_mask(64, 4, 1.5), "center_fraction: expected a fraction"),
        (lambda: random_mask(64, 4, 0.5), "centre alone has 32 of 64"),
        (lambda: random_mask(64, 4, seed=-1), "seed: expected whole numbers"),
        (lambda: random_mask(64, 4, seed="a"), "seed: expected whole numbers"),
        (lambda: equispaced_mask(64, 4, 0.5), "centre alone has 32 of 64"),
        (lambda: equispaced_mask(64, 2.5, spacing="regular"), "whole number, got 2.5"),
        (lambda: equispaced_mask(64, 4, spacing="equal"), "spacing: expected 'adjusted'"),
        (lambda: equispaced_mask(64, 4, offset=64), "offset: expected an index from 0 to 63"),
        (lambda: gaussian_mask(64, 4, 65), "centre: expected whole numbers from 0 to"),
        (lambda: gaussian_mask(64, 16), "centre alone has 8 of 64"),
        (lambda: gaussian_mask((64,), 2), r"shape: expected \(ny, nx\)"),
        (lambda: gaussian_mask(64, 4, width=0), "width: expected a positive"),
        (lambda: nested_masks(64, []), "accelerations: expected at least one"),
        (lambda: nested_masks(64, [2], density="flat"), "density: expected"),
        (lambda: kt_mask(0, 64, 4), "frames: expected a whole number"),
        (lambda: kt_mask(2, 64, 4.5), "whole number, got 4.5"),
        (lambda: kt_mask(2, 64, 4, kind="x"), "kind: expected"),
        (lambda: poisson_disc((64, 64), 9, 24), "calibration region alone has 576 of 4096"),
        (lambda: poisson_disc((64, 64), 1.1, 24), "set crop=False"),
        (lambda: poisson_disc((20, 64), 2, 24), "calibration: expected whole numbers"),
        (lambda: poisson_disc((64, 64), 4, (24,)), "calibration: expected whole numbers"),
        (lambda: radial_mask((64, 64)), "expected spokes or acceleration"),
        (lambda: radial_mask((64, 64), 3, 4), "expected spokes or acceleration"),
        (lambda: radial_mask((64, 64), 0), "spokes: expected a whole number"),
        (lambda: radial_mask((64, 64), acceleration=100), "one spoke has 64 of 4096"),
        (lambda: grid_mask((8, 8), (2, 2), 9), "calibration: expected whole numbers"),
        (lambda: grid_mask((8, 8), (9, 2), 0), "steps: expected at most the shape"),
        (lambda: grid_mask((8, 8), (2,), 0), "two whole steps"),
        (lambda: seed_of(""), "expected a file name"),
        (lambda: acceleration(torch.zeros(3, dtype=torch.bool)), "samples nothing"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
