"""Rings: gain errors are stripes of the sinogram, and both corrections take them off."""

import math

import pytest
import torch

from operators import ParallelBeam, fbp, gain_errors, remove_rings

GEOMETRY = ParallelBeam((96, 96), 1.0, [math.pi * k / 180 for k in range(180)], 128, 1.0)


def disc(x0, y0, radius, mu):
    """Exact line integrals of a disc."""
    theta = torch.tensor(GEOMETRY.angles, dtype=torch.float64)[:, None]
    u = torch.from_numpy(GEOMETRY.bins())[None] - x0 * theta.cos() - y0 * theta.sin()
    return 2 * mu * (radius**2 - u**2).clamp(min=0).sqrt()


CLEAN = disc(2.0, -3.0, 40, 0.02) + disc(15, 12, 6, 0.01)


def rms_in_the_disc(p, clean=CLEAN):
    """Of the image's error inside 30 mm, relative to μ = 0.02."""
    c = torch.arange(96, dtype=torch.float64) - 47.5
    inside = (c[:, None] ** 2 + c**2).sqrt() < 30
    error = fbp(GEOMETRY, p) - fbp(GEOMETRY, clean)
    return float(error[..., inside].square().mean().sqrt()) / 0.02


def test_gains_are_drawn_once_for_all_views():
    g = gain_errors(4000, 0.01, seed=3)
    # three standard errors of a mean and of a standard deviation
    assert abs(float(g.mean()) - 1) < 3 * 0.01 / math.sqrt(4000)
    assert abs(float(g.std()) / 0.01 - 1) < 3 / math.sqrt(2 * 4000)
    assert torch.equal(g, gain_errors(4000, 0.01, seed=3)) and gain_errors((3, 5), 0.1).shape == (3, 5)


def test_rings_of_single_bins_go():
    """Every eighth bin off by 2 %: a quarter is left, of which most is what a scan without rings gets."""
    gains = torch.ones(128, dtype=torch.float64)
    gains[5::8] = 1 + 2 * (gain_errors(16, 0.01, seed=0) - 1)
    striped = CLEAN - gains.log()
    before = rms_in_the_disc(striped)
    assert before > 0.025  # of μ: 25 HU
    assert rms_in_the_disc(remove_rings(striped)) < 0.3 * before
    assert rms_in_the_disc(remove_rings(CLEAN)) < 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rings_of_all_bins_grow_weaker(seed):
    """By what is not slow from bin to bin; sorting misses what is smaller than the object's own steps."""
    striped = CLEAN - gain_errors(128, 0.01, seed).log()
    before = rms_in_the_disc(striped)
    assert rms_in_the_disc(remove_rings(striped, "mean")) < 0.55 * before
    assert rms_in_the_disc(remove_rings(striped, "sorting")) < 0.9 * before


def test_a_stripe_on_a_cubic_is_taken_off_exactly():
    """Also beside it, where at most two of the four cubics see it."""
    u = torch.linspace(-1, 1, 60, dtype=torch.float64)
    p = (2 + u - u**3).expand(20, 60) + 0.3 * torch.arange(20)[:, None]
    striped = p.clone()
    striped[:, 30] += 0.5
    torch.testing.assert_close(remove_rings(striped)[:, 8:-8], p[:, 8:-8])


def test_sorting_follows_a_stripe_that_depends_on_the_intensity():
    """Where neighbours are alike, whatever the bin's answer is, it gets theirs."""
    p = torch.linspace(0, 3, 25, dtype=torch.float64)[:, None].expand(25, 40).clone()
    striped = p.clone()
    striped[:, 20] = 0.1 + 1.2 * p[:, 20] ** 1.1
    torch.testing.assert_close(remove_rings(striped, "sorting"), p)


def test_images_do_not_see_each_other():
    p = torch.stack([CLEAN, CLEAN - gain_errors(128, 0.01).log()])
    for method in ("sorting", "mean"):
        torch.testing.assert_close(remove_rings(p, method)[1], remove_rings(p[1], method))
        assert remove_rings(p.float()[None], method).shape == (1, *p.shape)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: remove_rings(CLEAN, "magic"), "expected 'mean' or 'sorting', got 'magic'"),
        (lambda: remove_rings(CLEAN, width=4), "an odd number from 3 to 128, got 4"),
        (lambda: remove_rings(CLEAN[0]), r"expected real \(\*batch, views, bins\)"),
        (lambda: gain_errors(5, -0.1), "expected 0 to 0.3, got -0.1"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
