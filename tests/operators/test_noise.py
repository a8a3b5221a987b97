"""Noise models against exact moments, and what they refuse."""

import copy
import math

import numpy as np
import pytest
import torch

from operators import Gaussian, LowDose, NoiseModel, Poisson
from operators.noise import image_seeds


def assert_moments(sample, exact):
    """Mean and variance within three standard errors (a seed in five misses one of the 90 by chance)."""
    mean, variance, fourth = exact
    n = sample.size
    assert abs(sample.mean() - mean) <= 3 * math.sqrt(variance / n)
    assert abs(sample.var() - variance) <= 3 * math.sqrt((fourth - variance**2) / n)


@pytest.mark.parametrize("mean_counts", [3, 10, 50, 400])
def test_poisson_has_the_exact_moments(mean_counts):
    noise = Poisson(scale=4.0, background=1.0)
    y = noise(torch.full((300, 400), (mean_counts - 1) / 4, dtype=torch.float64), seed=1)
    assert_moments(y.numpy().ravel(), (mean_counts, mean_counts, mean_counts * (1 + 3 * mean_counts)))
    torch.testing.assert_close(
        noise.linearise(y).mean(), torch.tensor((mean_counts - 1) / 4).double(), rtol=0.01, atol=0
    )


def test_gaussian_has_the_exact_moments():
    y = Gaussian(sigma=0.3)(torch.full((300, 400), 2.0, dtype=torch.float64), seed=1)
    assert_moments(y.numpy().ravel(), (2.0, 0.09, 3 * 0.09**2))


def test_complex_gaussian_is_circular():
    clean = torch.full((300, 400), 1 + 2j, dtype=torch.complex64)
    y = Gaussian(sigma=0.3)(clean, seed=1)
    assert y.dtype == torch.complex64
    n = (y - clean).to(torch.complex128)
    for part in (n.real, n.imag):
        assert_moments(part.numpy().ravel(), (0.0, 0.045, 3 * 0.045**2))
    # |n|² is exponential with mean and deviation σ²; n² has mean 0
    assert abs(float(n.abs().square().mean()) - 0.09) <= 3 * 0.09 / math.sqrt(n.numel())
    assert abs(n.square().mean()) <= 4 * 0.09 / math.sqrt(n.numel())
    assert Gaussian(sigma=0.3).variance(y).dtype == torch.float32


MODELS = [
    LowDose(50.0, electronic_sigma=3.0),
    LowDose(torch.linspace(10, 90, 7), background=2.0),
    LowDose(torch.linspace(1, 9, 7), 2.0, background=2.0, starvation="neighbour"),
    LowDose(9.0, 2.0, starvation="trimmed-mean"),
    LowDose(torch.tensor([20.0, 40.0, 60.0, 80.0]).reshape(2, 2, 1, 1)),
    Poisson(scale=20.0, background=torch.linspace(0, 1, 42).reshape(6, 7)),
    Gaussian(sigma=0.1),
    Gaussian(sigma=[[0.1, 0.2], [0.3, 0.4]]),
    Gaussian(relative=0.05),
]


@pytest.mark.parametrize("noise", MODELS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_is_drawn_the_same_alone_and_in_a_batch(noise, dtype):
    clean = torch.rand(2, 2, 6, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)
    noise = noise.at(clean)
    before = clean.clone()
    y = noise(clean, seed=5)
    assert y.dtype == dtype and y.shape == clean.shape and torch.equal(clean, before)
    assert torch.equal(noise(clean, seed=5), y)
    assert not torch.equal(noise(clean, seed=6), y)
    assert torch.isfinite(noise.linearise(y)).all()
    assert (noise.variance(y) > 0).all() and noise.variance(y).shape == y.shape
    assert noise.linearise(y).dtype == noise.variance(y).dtype == dtype
    noise.check(y)
    flat = y.flatten(0, 1)
    for i, seed in enumerate(image_seeds(5, 4)):
        one, image = noise.select(i), clean.flatten(0, 1)[i]
        assert torch.equal(one(image, seed=[seed]), flat[i])
        assert torch.equal(one.linearise(flat[i]), noise.linearise(y).flatten(0, 1)[i])
        assert torch.equal(one.variance(flat[i]), noise.variance(y).flatten(0, 1)[i])


def test_seeds():
    clean = torch.rand(3, 5, 4)
    noise = Gaussian(sigma=1.0)
    assert torch.equal(noise(clean, seed=7)[0], noise(clean[0], seed=7))
    assert torch.equal(noise(clean[:2], seed=7), noise(clean, seed=7)[:2])
    assert torch.equal(noise(clean, seed=[3, 1, 2])[1:], noise(clean[1:], seed=[1, 2]))
    draws = noise(torch.zeros(3, 5, 4), seed=7)
    assert not torch.equal(draws[0], draws[1])
    assert len(set(image_seeds(0, 100) + image_seeds(1, 100))) == 200
    assert image_seeds(0, 3) == image_seeds(np.int64(0), 5)[:3]
    assert noise(torch.empty(0, 5, 4)).shape == (0, 5, 4)
    with pytest.raises(ValueError, match="one integer or 3, one per image, got 2"):
        noise(clean, seed=[1, 2])
    with pytest.raises(ValueError, match="non-negative integer, got -1"):
        noise(clean, seed=-1)


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    LowDose(100.0, 3.0)(torch.rand(4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.rand(2), expected)


def test_relative_noise_follows_each_image():
    clean = torch.stack([torch.ones(4, 5), 3 * torch.ones(4, 5)])
    open_model = Gaussian(relative=0.05)
    noise = open_model.at(clean)
    torch.testing.assert_close(noise.sigma, torch.tensor([0.05, 0.15]).double())
    torch.testing.assert_close(noise.variance(clean)[:, 0, 0], torch.tensor([0.0025, 0.0225]))
    assert torch.equal(open_model(clean, seed=2), noise(clean, seed=2))
    assert noise.select(1).sigma == pytest.approx(0.15)
    with pytest.raises(ValueError, match=r"σ is not known yet; use noise.at\(clean\)"):
        open_model.variance(clean)
    with pytest.raises(ValueError, match="zero everywhere"):
        open_model.at(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="one value per image"):
        noise.variance(clean[0])


def test_three_dimensional_data_are_one_image():
    clean = torch.rand(2, 3, 4, 5)
    assert Gaussian(relative=0.1, data_ndim=3).at(clean).sigma.shape == (2,)
    assert torch.equal(
        LowDose(100.0, data_ndim=3)(clean, seed=1)[0], LowDose(100.0, data_ndim=3)(clean[0], seed=1)
    )
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        LowDose(100.0, data_ndim=3)(clean[0, 0])


def test_sub_bins_average_their_intensity():
    p = torch.tensor([[[0.0, 2.0, 50.0], [1.0, 1.0, 1.0]]], dtype=torch.float64)
    expected = -torch.log(torch.exp(-p).mean(-1))
    torch.testing.assert_close(LowDose(1.0).average(p), expected)
    torch.testing.assert_close(LowDose(1.0).average(p + 2000), expected + 2000)
    torch.testing.assert_close(Gaussian(1.0).average(p), p.mean(-1))


def test_a_dose_beyond_float32_keeps_its_noise():
    """At 1e9 photons the deviation 3e4 counts is resolved whatever the precision of the data."""
    y = LowDose(1e9)(torch.zeros(200, 200, dtype=torch.float64))
    assert_moments(y.numpy().ravel(), (1e9, 1e9, 3e18))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_parameters_that_are_not_positive(value):
    with pytest.raises(ValueError, match="LowDose i0: expected positive finite"):
        LowDose(value)
    with pytest.raises(ValueError, match="LowDose i0: expected positive finite"):
        LowDose(torch.tensor([1e4, value]))
    with pytest.raises(ValueError, match="LowDose floor"):
        LowDose(1e4, floor=value)
    with pytest.raises(ValueError, match="Poisson scale"):
        Poisson(value)
    with pytest.raises(ValueError, match="Gaussian sigma"):
        Gaussian(value)
    with pytest.raises(ValueError, match="Gaussian relative"):
        Gaussian(relative=value)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_parameters_that_are_negative(value):
    for arguments in ({"electronic_sigma": value}, {"background": value}):
        with pytest.raises(ValueError, match="expected non-negative finite"):
            LowDose(1e4, **arguments)
    with pytest.raises(ValueError, match="Poisson background"):
        Poisson(background=value)


def test_gaussian_wants_exactly_one_level():
    for arguments in ({}, {"sigma": 1.0, "relative": 0.1}):
        with pytest.raises(ValueError, match="exactly one of sigma and relative"):
            Gaussian(**arguments)


@pytest.mark.parametrize("noise", [LowDose(10.0), LowDose(10.0, 3.0), Poisson(), Gaussian(1.0)], ids=repr)
def test_bad_data(noise):
    for bad in (math.nan, math.inf):
        y = torch.ones(3, 4)
        y[1, 2] = bad
        with pytest.raises(ValueError, match="expected finite data, got 1 NaN or inf of 12"):
            noise.check(y)
        with pytest.raises(ValueError, match="clean: expected finite data"):
            noise(y)
    with pytest.raises(ValueError, match=r"expected a floating-point tensor, got torch.int64"):
        noise(torch.ones(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected a floating-point tensor, got ndarray"):
        noise.check(np.ones((3, 4)))


def test_negative_counts_need_electronic_noise():
    y = torch.tensor([[3.0, -0.5]])
    for noise in (LowDose(10.0), Poisson()):
        with pytest.raises(ValueError, match=r"no negative values, got 1 of 2, lowest -0.5"):
            noise.check(y)
    LowDose(10.0, electronic_sigma=3.0).check(y)
    with pytest.raises(ValueError, match="clean: expected no negative values"):
        Poisson()(y)
    with pytest.raises(ValueError, match="expected real values"):
        LowDose(10.0).check(y + 0j)


def test_records():
    assert LowDose(5.6e5, electronic_sigma=3.0).config() == {
        "i0": 5.6e5,
        "electronic_sigma": 3.0,
        "background": 0.0,
        "floor": 0.1,
        "starvation": "floor",
    }
    assert LowDose(torch.tensor([1.0, 3.0])).config()["i0_mean"] == 2.0
    assert Gaussian(relative=0.05).config() == {"relative": 0.05}
    assert all(type(v) in (float, str) for noise in MODELS for v in noise.config().values())
    assert repr(Gaussian(sigma=0.25)) == "Gaussian(sigma=0.25)"
    assert repr(LowDose(5.6e5, 3.0)) == (
        "LowDose(i0=560000, electronic_sigma=3, background=0, floor=0.1, starvation='floor')"
    )
    assert repr(Poisson(torch.ones(3, 4))) == "Poisson(scale=<(3, 4): 1…1>, background=0)"
    again = eval(repr(LowDose(123456.75, starvation="neighbour")))
    assert again.i0 == 123456.75 and again.starvation == "neighbour"


def test_parameters_with_a_shape_are_buffers():
    noise = LowDose(torch.tensor([10.0, 20.0]))
    assert set(dict(noise.named_buffers())) == {"i0"}
    y = noise(torch.rand(3, 2))
    assert torch.equal(copy.deepcopy(noise).linearise(y), noise.linearise(y))


def test_a_model_of_ones_own_needs_two_methods():
    class Uniform(NoiseModel):
        def draw(self, clean, generator):
            return clean + torch.rand(clean.shape, generator=generator, dtype=clean.dtype) - 0.5

        def variance(self, y):
            return torch.full_like(y, 1 / 12)

    noise = Uniform()
    y = noise(torch.zeros(3, 20, 30), seed=1)
    assert y.abs().max() <= 0.5 and torch.equal(noise.linearise(y), y)
    assert repr(noise) == "Uniform()" and noise.config() == {}


def test_parameters_that_do_not_fit_the_data():
    y = torch.ones(6, 7)
    for noise in (
        LowDose(torch.ones(4)),
        LowDose(10.0, background=torch.ones(5, 1, 1)),
        Poisson(torch.ones(6)),
    ):
        with pytest.raises(ValueError, match=r"does not broadcast to data of shape \(6, 7\)"):
            noise(y)
        with pytest.raises(ValueError, match=r"does not broadcast to data of shape \(6, 7\)"):
            noise.check(y)


def test_hounsfield_units_are_no_line_integrals():
    with pytest.raises(ValueError, match=r"clean: expected line integrals .*, got -1000; HU are not"):
        LowDose(1e4)(torch.full((3, 4), -1000.0))
