"""FID, KID, inception score and the feature distance, against numpy, scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from recon.losses import LOSSES
from recon.metrics import (
    feature_distance,
    fid,
    frechet_distance,
    inception_score,
    kernel_distance,
    kid,
)
from recon.metrics.generative import score_of

random = np.random.default_rng(0)
A = random.normal(0, 1, (40, 6)) @ random.normal(0, 1, (6, 6)) + 0.5
B = random.normal(0.3, 1, (55, 6)) @ random.normal(0, 1, (6, 6))


def torched(*arrays):
    return [torch.tensor(a) for a in arrays]


def test_frechet_is_its_formula():
    s, t = np.cov(A.T), np.cov(B.T)
    root = linalg.sqrtm(s @ t)
    expected = ((A.mean(0) - B.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root.real)
    assert frechet_distance(*torched(A, B)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(*torched(B, A)) == pytest.approx(expected, rel=1e-9)
    # few images of many features: covariances are singular, scipy's root then warns and rounds
    few, other = A[:4], B[:5]
    s, t = np.cov(few.T), np.cov(other.T)
    eigenvalues = np.linalg.eigvals(s @ t).real.clip(0)
    expected = ((few.mean(0) - other.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * np.sqrt(eigenvalues).sum()
    assert frechet_distance(*torched(few, other)) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_one_set_and_of_a_shift_and_a_scale():
    assert frechet_distance(*torched(A, A)) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(*torched(A + 2.0, A)) == pytest.approx(6 * 4, rel=1e-9)
    # Σ and 9 Σ about one mean: tr (Σ + 9 Σ − 6 Σ)
    expected = 4 * np.trace(np.cov(A.T))
    assert frechet_distance(*torched(3 * (A - A.mean(0)) + A.mean(0), A)) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_its_formula():
    def k(x, y):
        return (x @ y / 6 + 1) ** 3

    def within(x):
        n = len(x)
        return sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    expected = within(A) + within(B) - 2 * np.mean([k(x, y) for x in A for y in B])
    assert kernel_distance(*torched(A, B)) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_one_law_is_zero_on_average():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(400, 2, 20, 4, generator=generator, dtype=torch.float64)
    values = np.array([kernel_distance(a, b) for a, b in draws])
    # four standard errors; a biased estimate is off by twenty
    assert abs(values.mean()) < 4 * values.std() / 20
    shifted = np.array([kernel_distance(a, b + 0.5) for a, b in draws])
    assert shifted.mean() > 20 * values.std() / 20


def test_inception_score_is_its_formula():
    p = random.dirichlet(np.ones(5), 30)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), 1)))
    assert score_of(torch.tensor(p))[0] == pytest.approx(expected, rel=1e-12)
    parts = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(0)), 1))) for q in np.split(p, 3)]
    assert score_of(torch.tensor(p), 3) == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)
    # sure of every class, and of none
    assert score_of(torch.eye(4).repeat(3, 1))[0] == pytest.approx(4)
    assert score_of(torch.full((9, 4), 0.25))[0] == pytest.approx(1)


class Two(nn.Module):
    """Features of x and of its slopes: 2 numbers an image."""

    def forward(self, x):
        assert x.shape[1] == 1 and float(x.abs().max()) <= 1
        return [x, torch.cat([x, torch.nn.functional.pad(x.diff(dim=-1), (0, 1)).abs()], 1)]


def test_any_network_can_look():
    images, reference = torch.rand(50, 8, 9), torch.rand(40, 1, 8, 9) ** 2
    inside = [2 * a.reshape(-1, 8, 9).double() - 1 for a in (images, reference)]
    u, v = (torch.stack([a.mean((1, 2)), a.diff(dim=2).abs().sum((1, 2)) / 72], 1) for a in inside)
    score = fid(images, reference, Two(), window=(0.0, 1.0))
    assert (score.n, score.n_reference, score.network, score.spread) == (50, 40, "Two", 0.0)
    # features are computed in float32
    assert score.value == pytest.approx(frechet_distance(u, v), rel=1e-4)
    score = kid(images, reference, Two(), window=(0.0, 1.0))
    assert score.value == pytest.approx(kernel_distance(u, v), rel=1e-4)
    many = kid(images, reference, Two(), (0.0, 1.0), subsets=30, subset_size=20, seed=3)
    assert many == kid(images, reference, Two(), (0.0, 1.0), subsets=30, subset_size=20, seed=3)
    assert many.spread > 0
    assert abs(many.value - score.value) < 4 * many.spread / 30**0.5 + 0.05 * score.value


class ByMean(nn.Module):
    name = "by mean"

    def forward(self, x):
        p = (x.mean((1, 2, 3)) > 0).float()
        return torch.stack([p, 1 - p], 1)


def test_any_classifier_can_look():
    images = torch.cat([torch.full((3, 5, 5), 0.5), torch.full((3, 5, 5), -0.5)])
    score = inception_score(images, ByMean())
    assert score.value == pytest.approx(2) and score.n == 6 and score.network == "by mean"
    assert inception_score(images, ByMean(), splits=2).value == pytest.approx(1)
    # one that learns is asked without a graph, whose number would be a warning
    learner = nn.Sequential(nn.Flatten(), nn.Linear(25, 3), nn.Softmax(1))
    assert 1 <= inception_score(images, learner).value <= 3


def test_the_feature_distance_is_the_loss():
    image, truth = torch.rand(2, 3, 12, 11), torch.rand(2, 3, 12, 11)
    found = feature_distance(image, truth, Two(), window=(0.0, 1.0))
    assert found.shape == (2, 3)
    loss = LOSSES["feature-distance"](Two(), window=(0.0, 1.0))
    torch.testing.assert_close(found[1, 2], loss(image[1:, 2:], truth[1:, 2:]))
    assert not feature_distance(image, image, Two(), window=(0.0, 1.0)).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frechet_distance(torch.ones(1, 3), torch.ones(4, 3)), "N, M ≥ 2"),
        (lambda: kernel_distance(torch.ones(4, 2), torch.ones(4, 3)), r"\(N, d\) and \(M, d\)"),
        (lambda: score_of(torch.ones(4, 3)), "sum 1"),
        (lambda: score_of(torch.eye(3), 4), "splits"),
        (lambda: fid(torch.ones(4, 2, 8, 8), torch.ones(4, 8, 8), Two()), "1 or 3 channels"),
        (lambda: fid(torch.ones(4, 8, 8).int(), torch.ones(4, 8, 8), Two()), "real"),
        (lambda: fid(torch.ones(4, 8, 8), torch.ones(4, 8, 8), Two(), (1.0, 0.0)), "window"),
        (lambda: kid(torch.ones(4, 8, 8), torch.ones(4, 8, 8), Two(), subset_size=5), "subset_size"),
        (lambda: feature_distance(torch.ones(8, 8), torch.ones(8, 9), Two()), "equal shape"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
