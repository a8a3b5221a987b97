"""Detector effects: energy is conserved, kernels and scatter are what they say, noise is correlated."""

import math

import pytest
import torch

from operators import DetectorBlur, FanBeam, Lag, LowDose, Scatter, crosstalk, focal_spot_blur
from operators.detector import FWHM, gaussian, through


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    "B",
    [
        crosstalk((4, 9), 0.05),
        crosstalk((3, 5, 6), 0.1),
        DetectorBlur((3, 7), [gaussian(0.7)]),
        DetectorBlur(
            (2, 4, 5), [gaussian(9.0), gaussian(2.0)]
        ),  # a kernel many times as wide as the detector
    ],
    ids=["crosstalk", "rows", "narrow", "wide"],
)
def test_blur_conserves_energy_view_by_view_and_keeps_constants(B):
    y = random(2, *B.in_shape)
    detector = tuple(range(2, y.ndim))
    torch.testing.assert_close(B(y).sum(detector), y.sum(detector))
    torch.testing.assert_close(B(torch.ones_like(y)), torch.ones_like(y))
    assert bool((B(y) > 0).all())
    one_view = torch.zeros_like(y)
    one_view[:, 1] = y[:, 1]
    assert float(B(one_view)[:, 0].abs().max()) == 0  # never along the views


def test_crosstalk_written_out():
    y = torch.tensor([[1.0, 0.0, 0.0, 10.0]] * 2, dtype=torch.float64)
    wanted = torch.tensor([0.95, 0.05, 0.5, 9.5], dtype=torch.float64)  # the ends give to one neighbour
    torch.testing.assert_close(crosstalk((2, 4), 0.05)(y)[0], wanted)
    spot = torch.zeros(1, 5, 5, dtype=torch.float64)
    spot[0, 2, 2] = 1
    spread = crosstalk((1, 5, 5), 0.05)(spot)[0]
    torch.testing.assert_close(spread[2, 1:4], 0.9 * torch.tensor([0.05, 0.9, 0.05], dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 5.0])
def test_gaussian_has_its_variance(sigma):
    """σ² + 1/12, for the kernel is integrated over bins; cut at 4σ, which takes 0.2 % of the variance."""
    k = gaussian(sigma)
    j = torch.arange(len(k)) - len(k) // 2
    assert float(k.sum()) == pytest.approx(1)
    assert float((k * j**2).sum()) == pytest.approx(sigma**2 + 1 / 12, rel=3e-3)


def test_focal_spot_at_the_centre():
    """A spot of 1 mm at magnification 2 is 1 mm wide on the detector, FWHM."""
    geometry = FanBeam((8, 8), 1.0, [0.0], 201, 0.1, 500.0, 1000.0)
    spike = torch.zeros(1, 201, dtype=torch.float64)
    spike[0, 100] = 1
    u = torch.from_numpy(geometry.bins())
    seen = focal_spot_blur(geometry, 1.0)(spike)[0]
    sigma = float((seen * u**2).sum().sqrt())
    assert sigma * FWHM == pytest.approx(1.0, rel=5e-3)  # bins of 0.1 mm add 0.01/12 to σ²
    torch.testing.assert_close(focal_spot_blur(geometry, 0.0)(spike), spike)


def test_lag_is_a_geometric_tail():
    y = torch.zeros(6, 2, dtype=torch.float64)
    y[1] = torch.tensor([1.0, 3.0])
    seen = Lag((6, 2), 0.2)(y)
    torch.testing.assert_close(seen[:, 1], 3 * seen[:, 0])
    torch.testing.assert_close(seen[1:, 0], 0.8 * 0.2 ** torch.arange(5, dtype=torch.float64))
    assert float(seen[0].abs().max()) == 0
    # after many views everything has arrived
    assert float(Lag((60, 1), 0.2)(torch.eye(60, 1, dtype=torch.float64)).sum()) == pytest.approx(1)


def test_through_is_on_intensities():
    B = crosstalk((3, 8), 0.1)
    p = 30 * random(2, 3, 8)
    torch.testing.assert_close(through(B, p), -B((-p).exp()).log())
    # also for rays whose transmission is no longer a float
    assert bool(through(B, p.float() + 200).isfinite().all())
    torch.testing.assert_close(through(B, torch.full((3, 8), 5.0)), torch.full((3, 8), 5.0))


def test_where_blur_acts_decides_about_noise():
    """Before the draw: independent counts. After it: variance Σ k², neighbours' covariance Σ kⱼ kⱼ₊₁."""
    f, mean, n = 0.1, 400.0, 40_000
    B = crosstalk((n, 12), f)
    clean = torch.full((n, 12), math.log(1e6 / mean), dtype=torch.float64)
    noise = LowDose(1e6)
    before = noise(through(B, clean), seed=1)[:, 3:9]
    after = B(noise(clean, seed=1))[:, 3:9]
    for y, variance, covariance in (
        (before, 1.0, 0.0),
        (after, 2 * f**2 + (1 - 2 * f) ** 2, 2 * f * (1 - 2 * f)),
    ):
        found = torch.cov(y.T) / mean
        error = 4 * math.sqrt(2 / n)  # four standard errors, for eleven numbers each
        assert bool(((found.diag() - variance).abs() < error).all())
        assert bool(((found.diag(1) - covariance).abs() < error).all())


def test_scatter_to_primary_ratio():
    """Behind a wide even object it is c·p: 15 % or so for 35 cm of water with c = 0.025."""
    S = Scatter((2, 300), amount=0.025, sigma=30.0)
    p = torch.full((2, 300), 350 * 0.0193, dtype=torch.float64)
    torch.testing.assert_close(S.ratio(p), 0.025 * p)
    assert 0.14 < float(S.ratio(p)[0, 0]) < 0.18
    # what is scattered is there: the kernel only moves it
    p = 4 * random(3, 2, 300)
    torch.testing.assert_close(S(p).sum(-1), (0.025 * p * (-p).exp()).sum(-1))
    # air scatters nothing, but gets some from beside
    p = torch.zeros(2, 300, dtype=torch.float64)
    p[:, 100:200] = 3
    assert float(S(p)[0, 80]) > 0 and float(S(torch.zeros_like(p)).abs().max()) == 0


@pytest.mark.parametrize(("amount", "left"), [(0.025, 1e-6), (0.1, 1e-3)])
def test_scatter_is_found_in_the_data(amount, left):
    """To a millionth for CT's ratios, to 0.1 % where there is more scatter than primary radiation."""
    p = 6 * torch.sin(torch.linspace(0, math.pi, 200, dtype=torch.float64)).expand(2, 200)
    S = Scatter((2, 200), amount, 25.0)
    found = S.estimate((-p).exp() + S(p), iterations=8)
    assert float((found - S(p)).abs().max()) < left * float(S(p).max())
    assert float(S.ratio(p).max()) > 4 * amount


def test_known_scatter_is_the_background_of_the_noise_model():
    """Ignored it is a bias of −ln(1 + SPR), as background none, within three standard errors."""
    n = 20_000
    p = torch.tensor([1.0, 3.0, 3.0, 2.0], dtype=torch.float64).expand(n, 4)
    S = Scatter((n, 4), 0.1, 2.0)
    i0 = 1e6
    noise = LowDose(i0, background=i0 * S(p))
    y = noise(p, seed=0)
    error = 3 * (noise.variance(y).mean(0) / n).sqrt()
    assert bool(((noise.linearise(y).mean(0) - p[0]).abs() < error + noise.variance(y).mean(0)).all())
    ignored = LowDose(i0).linearise(y).mean(0)
    wanted = p[0] - torch.log1p(S.ratio(p)[0])
    torch.testing.assert_close(ignored, wanted, rtol=0, atol=float(error.max()) + 1e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: crosstalk((2, 4), 0.3), r"expected 0 to 0.25 per neighbour, got 0.3"),
        (lambda: crosstalk((2, 4), -0.1), "got -0.1"),
        (lambda: DetectorBlur((2, 4), [(0.5, 0.5)]), "odd number of symmetric values"),
        (lambda: DetectorBlur((2, 4), [(0.3, 0.5, 0.2)]), "symmetric"),
        (lambda: DetectorBlur((2, 4), [(-0.1, 1.2, -0.1)]), "≥ 0"),
        (lambda: DetectorBlur((2, 4), [(0.1, 0.1, 0.1)]), "sum 1"),
        (lambda: DetectorBlur((2, 4), [None, None]), "expected 1 to 1 for data of shape"),
        (lambda: focal_spot_blur(None, 1.0), "expected a FanBeam, got NoneType"),
        (lambda: focal_spot_blur(FanBeam((4, 4), 1.0, [0.0], 5, 1.0, 20.0, 40.0), -1.0), "got -1"),
        (lambda: gaussian(-1.0), "expected a number ≥ 0, got -1"),
        (lambda: Lag((2, 4), 1.0), "expected 0 to below 1, got 1"),
        (lambda: Scatter((2, 4), -1.0, 2.0), "amount: expected a number ≥ 0"),
    ],
)
def test_bad_effects(make, words):
    with pytest.raises(ValueError, match=words):
        make()
