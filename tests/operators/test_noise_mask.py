"""Gaussian noise of data that were not measured everywhere, as k-space."""

import math

import pytest
import torch

from operators import Gaussian, Sense
from recon import Problem
from recon.fidelity import count, standardised, unweighted, weighted

MASK = torch.zeros(6, 8, dtype=torch.bool)
MASK[:, ::3] = True


def problem():
    maps = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    A = Sense(MASK, maps)
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)
    noise = Gaussian(sigma=0.5, data_ndim=3, mask=A.sampled)
    return Problem(A, noise(A(x), seed=3), noise), x


def test_there_is_no_noise_where_nothing_was_measured():
    one, _ = problem()
    assert bool((one.y[:, ~MASK] == 0).all())
    assert bool((one.y[:, MASK] != 0).all())
    assert bool(one.variance[:, ~MASK].isinf().all())
    torch.testing.assert_close(one.variance[:, MASK], torch.full((3, 18), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("likelihood", [unweighted, weighted])
def test_only_measured_data_count(likelihood):
    one, x = problem()
    d = likelihood(one)
    assert int(count(d, one.y)) == 2 * 3 * int(MASK.sum())
    r = standardised(d, one.A(x))
    expected = (one.y - one.A(x)) / math.sqrt(0.25 / 2)  # σ²/2 in each of re and im
    torch.testing.assert_close(r, expected)


def test_the_relative_sigma_is_of_the_mean_of_measured_data():
    clean = torch.zeros(6, 8)
    clean[:, ::3] = 2.0
    assert Gaussian(relative=0.1, mask=MASK).at(clean).sigma == pytest.approx(0.2)


@pytest.mark.parametrize("mask", [MASK.float(), MASK & False, MASK.expand(2, 2, 6, 8), [True]])
def test_masks_that_are_none(mask):
    with pytest.raises(ValueError, match="Gaussian mask: expected bool"):
        Gaussian(1.0, data_ndim=3, mask=mask)


def test_data_outside_of_the_mask_are_an_error():
    one, _ = problem()
    with pytest.raises(ValueError, match="expected 0 outside the mask, got 1 other"):
        Problem(one.A, one.y + _one(one.y), one.noise)


def _one(y):
    stray = torch.zeros_like(y)
    stray[1, 2, 1] = 1
    return stray


def test_a_mask_that_does_not_fit():
    one, _ = problem()
    with pytest.raises(ValueError, match="mask: shape"):
        Problem(one.A, one.y, Gaussian(1.0, data_ndim=3, mask=MASK[:4]))
