"""Magnitude data against their exact moments and density."""

import math

import numpy as np
import pytest
import torch

from operators import Gaussian, Identity, NoiseModel, Rician
from operators.noise import image_seeds
from recon import Problem

LEVELS = [0.0, 0.3, 1.0, 2.5, 8.0]


@pytest.mark.parametrize("z", LEVELS)
def test_draws_have_the_exact_moments(z):
    noise = Rician(0.7)
    clean = torch.full((400, 500), 0.7 * z, dtype=torch.float64)
    y = noise(clean, seed=1)
    n = y.numel()
    second = float(noise.second_moment(clean)[0, 0])
    assert second == pytest.approx(0.49 * (z * z + 1))
    mean = float(noise.mean(clean)[0, 0])
    # three standard errors; the deviation of y² is σ² √(1 + 2z²)
    assert abs(float(y.mean()) - mean) <= 3 * math.sqrt((second - mean**2) / n)
    assert abs(float(y.square().mean()) - second) <= 3 * 0.49 * math.sqrt((1 + 2 * z * z) / n)


@pytest.mark.parametrize("z", LEVELS)
def test_the_density_integrates_to_its_moments(z):
    noise, step = Rician(0.7), 1e-4
    y = (torch.arange(120_000, dtype=torch.float64) + 0.5) * step
    clean = torch.full_like(y, 0.7 * z)
    density = noise.log_likelihood(y, clean).exp() * step
    # the midpoint rule errs by step² times the slope at 0
    assert float(density.sum()) == pytest.approx(1, abs=1e-7)
    assert float((density * y).sum()) == pytest.approx(float(noise.mean(clean)[0]), abs=1e-7)
    assert float((density * y * y).sum()) == pytest.approx(float(noise.second_moment(clean)[0]), abs=1e-7)


def test_the_mean_is_laguerres():
    from scipy.special import hyp1f1

    z = torch.linspace(0, 15, 50, dtype=torch.float64)
    # L_½(−z²) = ₁F₁(−½; 1; −z²)
    expected = math.sqrt(math.pi) / 2 * hyp1f1(-0.5, 1, -(z.numpy() ** 2))
    np.testing.assert_allclose(Rician(1.0).mean(z).numpy(), expected, rtol=1e-10)
    assert float(Rician(2.0).mean(torch.zeros(1).double())) == pytest.approx(math.sqrt(math.pi))


def test_linearised_data_have_the_stated_bias():
    noise = Rician(1.0)

    def linearised(z):
        return noise.linearise(noise(torch.full((1000, 1000), z, dtype=torch.float64), seed=3))

    nothing = linearised(0.0)
    # y² is exponential: E √max(y² − 1, 0) = Γ(3/2)/e and E max(y² − 1, 0) = 1/e
    assert float(nothing.mean()) == pytest.approx(math.sqrt(math.pi) / (2 * math.e), abs=2e-3)
    assert float(nothing.var()) == pytest.approx(1 / math.e - math.pi / (4 * math.e**2), abs=2e-3)
    strong = linearised(10.0)
    # −σ²/(4z) = −0.025; 3 standard errors of 1e6 draws are 0.0021
    assert float(strong.mean()) - 10 == pytest.approx(-0.025, abs=2.5e-3)
    assert float(strong.var()) == pytest.approx(float(noise.variance(strong)[0, 0]), rel=0.02)


def test_it_is_the_magnitude_of_complex_gaussian_data():
    clean = torch.full((300, 300), 0.6 + 0.8j, dtype=torch.complex128)
    magnitude = Gaussian(sigma=0.5)(clean, seed=2).abs()
    y = Rician(0.5)(clean, seed=5)
    assert y.dtype == torch.float64 and y.shape == clean.shape
    from scipy.stats import ks_2samp

    assert ks_2samp(y.numpy().ravel(), magnitude.numpy().ravel()).pvalue > 0.01


def test_images_have_their_own_sigma_and_seed():
    noise = Rician([0.1, 2.0])
    clean = torch.ones(2, 40, 40)
    y = noise(clean, seed=0)
    assert y.dtype == torch.float32 and float(y[1].std()) > 5 * float(y[0].std())
    again = noise.select(1)(clean[1], seed=[image_seeds(0, 2)[1]])
    torch.testing.assert_close(again, y[1])
    assert isinstance(noise, NoiseModel) and noise.variance(y)[1, 0, 0] == 2.0
    Problem(Identity((40, 40)), y, noise)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="Rician sigma"):
        Rician(0.0)
    with pytest.raises(ValueError, match="negative"):
        Rician(1.0).check(torch.tensor([[-1.0]]))
    with pytest.raises(ValueError, match="real values"):
        Rician(1.0).check(torch.ones(2, 2, dtype=torch.complex64))
