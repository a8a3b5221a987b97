"""Prewhitened noise is white and of unit size; its covariance is that of the noise scan."""

import warnings

import pytest
import torch

from operators import (
    Gaussian,
    Prewhitening,
    Sense,
    birdcage,
    noise_covariance,
    noise_from_border,
    noise_from_corners,
    prewhiten,
)
from operators.coils import to_kspace

DOUBLE = torch.complex128


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


MIX = random(4, 4, seed=1) + torch.diag(torch.tensor([1.0, 2, 3, 4]))
PSI = MIX @ MIX.mH
N = 200_000


def test_covariance_of_circular_noise():
    """(MIX n)(MIX n)*/N of torch's complex normal, E|n|² = 1; relative error about N^−½ = 0.2 %."""
    noise = MIX @ random(4, N)
    found = noise_covariance(noise)
    assert float((found - PSI).norm() / PSI.norm()) < 0.01
    torch.testing.assert_close(found, found.mH)
    torch.testing.assert_close(noise_covariance(noise.reshape(4, 100, -1), scale=0.5), found / 2)


def test_covariance_is_exactly_the_mean_product_and_leaves_its_input_alone():
    noise = random(3, 5) + 2.0
    before = noise.clone()
    found = noise_covariance(noise)
    for c in range(3):
        for d in range(3):
            assert complex(found[c, d]) == pytest.approx(complex((noise[c] * noise[d].conj()).mean()))
    assert torch.equal(noise, before)


def test_covariance_up_to_the_two_defects_of_sigpys():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        util = pytest.importorskip("sigpy.mri.util")
    noise = random(3, 50)
    noise = noise - noise.mean(1, keepdim=True)  # it subtracts the mean, and does not divide by the samples
    wanted = torch.from_numpy(util.get_cov(noise.clone().numpy())) / 50
    torch.testing.assert_close(noise_covariance(noise), wanted)
    whitened = util.whiten(random(3, 6, 5, seed=2).numpy(), wanted.numpy())
    torch.testing.assert_close(prewhiten(random(3, 6, 5, seed=2), wanted), torch.from_numpy(whitened))


def test_whitened_noise_is_white():
    white = Prewhitening(PSI)
    torch.testing.assert_close(white.matrix @ PSI @ white.matrix.mH, torch.eye(4, dtype=DOUBLE))
    noise = MIX @ random(4, N)
    one = noise_covariance(Prewhitening(noise_covariance(noise))(noise, ndim=1))
    torch.testing.assert_close(one, torch.eye(4, dtype=DOUBLE))
    torch.testing.assert_close(white(noise.reshape(4, 400, 500)), prewhiten(noise.reshape(4, 400, 500), PSI))


def test_maps_take_the_same_matrix():
    """L⁻¹(A x + n) = A' x + n' with the maps L⁻¹S, under Gaussian(1)."""
    S, x = birdcage(4, (9, 8), dtype=DOUBLE), random(9, 8)
    mask = torch.rand(9, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    white = Prewhitening(PSI)
    torch.testing.assert_close(Sense(mask, white(S))(x), white(Sense(mask, S)(x)))


def test_single_precision_and_batches():
    y = random(2, 4, 6, 5)
    white = Prewhitening(PSI.to(torch.complex64))
    assert white(y.to(torch.complex64)).dtype == torch.complex64
    torch.testing.assert_close(Prewhitening(PSI)(y)[1], Prewhitening(PSI)(y[1]))


@pytest.mark.parametrize("pick", [noise_from_corners, noise_from_border])
def test_noise_without_a_noise_scan(pick):
    """An object in the middle, σ = 0.1: the far tenth of k-space or image has nearly only noise."""
    shape = (96, 81)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    smooth = torch.exp(-20 * (x * x + y * y)) * torch.exp(1j * x)
    clean = to_kspace(birdcage(4, shape, dtype=DOUBLE) * smooth, (-2, -1))
    noisy = Gaussian(0.1, data_ndim=3)(torch.stack([clean, clean]), seed=1)
    noise = pick(noisy)
    assert noise.shape[0] == 4
    assert noise.shape[1] == pytest.approx(0.1 * 2 * 96 * 81, rel=0.05)
    found = noise_covariance(noise)
    # 1500 samples: 2.6 % of a variance, by four standard deviations and a trace of signal
    torch.testing.assert_close(found, 0.01 * torch.eye(4, dtype=DOUBLE), atol=0.0012, rtol=0)


def test_corners_take_only_what_was_sampled():
    y = random(3, 12, 10)
    mask = torch.zeros(10, dtype=torch.bool)
    mask[::3] = True
    noise = noise_from_corners(y * mask, fraction=1.0)
    assert noise.shape == (3, 48)
    assert bool((noise != 0).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_covariance(random(3, 9).real), "complex"),
        (lambda: noise_covariance(random(9)), "coils, samples"),
        (lambda: noise_covariance(random(3, 2)), "at least as many samples"),
        (lambda: noise_covariance(random(3, 9) * torch.inf), "finite"),
        (lambda: noise_covariance(random(3, 9) * torch.tensor([[1.0], [0], [1]])), r"coils \[1\]"),
        (lambda: noise_covariance(random(3, 9), scale=0), "scale"),
        (lambda: Prewhitening(random(3, 4)), "coils, coils"),
        (lambda: Prewhitening(random(3, 3)), "Hermitian"),
        (lambda: Prewhitening(-PSI), "positive definite"),
        (lambda: Prewhitening(torch.ones(3, 3, dtype=DOUBLE)), "positive definite"),
        (lambda: Prewhitening(PSI * torch.nan), "finite"),
        (lambda: Prewhitening(PSI)(random(4, 3, 3).real), "complex"),
        (lambda: prewhiten(random(3, 5, 5), PSI), "new, coils"),
        (lambda: prewhiten(random(4, 5, 5) * 0, PSI), "zero everywhere"),
        (lambda: noise_from_corners(random(4, 5, 5), 0.0), "fraction"),
        (lambda: noise_from_corners(random(5, 5, 5), 0.01), "4 samples are too few"),
        (lambda: noise_from_border(random(4, 9, 9) * (torch.arange(9) % 2)), "not fully sampled"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
