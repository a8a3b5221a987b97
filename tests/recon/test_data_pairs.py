"""Training sets of heads and of DIVal's ellipses: what each pair is, and what is told of them."""

import math

import pytest
import torch

from operators import Gaussian, LowDose, ParallelBeam, XRay
from recon.data import DivalPairs, HeadPairs, dival_problem, random_head, simulate_ellipses
from recon.data.dival import DIVAL_FINE, dival_geometry, upsampled
from recon.data.sets import TRAIN
from recon.learned import described

GEOMETRY = ParallelBeam((32, 32), 6.9, [math.pi * k / 12 for k in range(12)], 48, 6.9)


@pytest.mark.parametrize("noise", [LowDose(i0=1e4), Gaussian(sigma=0.1), Gaussian(relative=0.05)])
def test_every_head_has_its_own_data_and_law(noise):
    problem, truth = HeadPairs(GEOMETRY, noise, oversampling=1).pairs([1, 2, 3])
    for k in range(3):
        alone, x = simulate_ellipses(random_head(k + 1), GEOMETRY, noise, k + 1, oversampling=1)
        assert torch.equal(problem.y[k], alone.y) and torch.equal(truth[k], x)
        torch.testing.assert_close(problem.variance[k], alone.variance)


def test_new_images_of_dival_have_the_published_law():
    data = DivalPairs(validation_size=1, test_size=1)
    problem, truth = data.pairs([TRAIN, TRAIN + 7])
    assert not torch.equal(truth[0], truth[1])
    assert torch.equal(data.pairs([TRAIN + 7])[0].y[0], problem.y[1])
    clean = XRay(dival_geometry(DIVAL_FINE))(upsampled(truth, DIVAL_FINE))
    sigma = 0.025 * clean.mean((1, 2))
    torch.testing.assert_close(problem.variance[:, 0, 0].sqrt(), sigma, rtol=1e-5, atol=0)
    white = (problem.y - clean) / sigma[:, None, None]
    # 5490 numbers each: 1/√10980 = 1 %, three times; two images with different draws
    for w in white:
        assert float(w.std()) == pytest.approx(1, abs=0.03) and abs(float(w.mean())) < 0.05
    assert abs(float((white[0] * white[1]).mean())) < 0.05
    published, x = dival_problem(0, "validation")
    assert torch.equal(data.validation[0].y[0], published.y) and torch.equal(data.validation[1][0], x)


def test_the_card_does_not_tell_seeds_of_published_images():
    assert described(DivalPairs(4, validation_size=1))["seeds"] == "of the first published images"
    assert described(DivalPairs(validation_size=1))["seeds"] == f"from {TRAIN}"
    heads = HeadPairs(GEOMETRY, Gaussian(sigma=0.1), oversampling=1, validation_size=1, train_size=4)
    assert described(heads)["seeds"] == f"{TRAIN} to {TRAIN + 3}"
