"""How large an MR image will be, from k-space; λ relative to it; the noise, from k-space."""

import math

import pytest
import torch

from operators import Gaussian, LowDose, NonUniformSense, Sense, XRay, radial
from operators.geometry import ParallelBeam
from recon import (
    CGSENSE,
    CentreScaled,
    HuberTotalVariation,
    Problem,
    Tikhonov,
    TotalVariation,
    WaveletReconstruction,
    estimate_sigma,
    kspace_scale,
)

SHAPE = (48, 40)


def maps(coils, shape):
    """Smooth in phase and size, Σ|S|² = 1."""
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape)
    waves = [
        torch.polar(1 + 0.3 * torch.cos(k + 2 * y[:, None] + x), k * y[:, None] - x) for k in range(coils)
    ]
    found = torch.stack(waves)
    return found / found.abs().square().sum(0).sqrt()


def disc(shape, value=1.0, radius=0.6):
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape)
    image = value * ((y[:, None] ** 2 + x**2) < radius**2).double()
    return torch.polar(image, 0.5 * y[:, None] + 0 * x)


def lines(centre=24, shape=SHAPE):
    mask = torch.zeros(shape[0], 1, dtype=torch.bool)
    mask[::4], mask[shape[0] // 2 - centre // 2 : shape[0] // 2 + centre // 2] = True, True
    return mask.expand(shape)


@pytest.fixture(scope="module")
def problem():
    A = Sense(lines(), maps(3, SHAPE))
    x = torch.stack([disc(SHAPE), 5 * disc(SHAPE, radius=0.4).flip(1)])
    y = Gaussian(0.05, data_ndim=3, mask=A.sampled)(A(x), seed=[0, 1])
    return Problem(A, y, Gaussian(1.0, data_ndim=3, mask=A.sampled))


def test_a_large_constant_has_its_own_value():
    """Of a constant image every small image is that constant, whatever the size of either."""
    two = torch.tensor([0.6, 0.8j], dtype=torch.complex128)[:, None, None]
    for shape in ((48, 40), (65, 33), (20, 30)):
        x = torch.full(shape, 3.0 - 4.0j, dtype=torch.complex128)
        for A in (Sense(torch.ones(shape)), Sense(torch.ones(shape), two.expand(2, *shape))):
            assert kspace_scale(A, A(x)).item() == pytest.approx(5.0, rel=1e-9)


def test_the_rule_of_percentile_and_maximum():
    """A few bright pixels decide alone when they stand out; then p₉₀ would be that of the dark rest."""
    n = (32, 32)
    A, x = (
        Sense(torch.ones(n)),
        torch.rand(n, generator=torch.Generator().manual_seed(0)).to(torch.complex128),
    )
    p90 = x.abs().flatten().sort().values[int(0.9 * 1024)]
    assert kspace_scale(A, A(x)).item() == pytest.approx(p90.item())
    x[3, 4] = 50.0
    assert kspace_scale(A, A(x)).item() == pytest.approx(50.0)


def test_only_the_block_that_was_fully_sampled_counts(problem):
    A = problem.A
    y = problem.y.clone()
    y[..., : SHAPE[0] // 2 - 12, :] *= 7
    torch.testing.assert_close(kspace_scale(A, y), kspace_scale(A, problem.y))
    y[..., SHAPE[0] // 2, SHAPE[1] // 2] *= 2
    assert (kspace_scale(A, y) > kspace_scale(A, problem.y)).all()


def test_without_a_sampled_centre_the_middle_is_taken_as_it_is():
    mask = lines().clone()
    mask[SHAPE[0] // 2] = False
    A = Sense(mask)
    assert float(kspace_scale(A, A(disc(SHAPE)))) > 0


@pytest.mark.parametrize("factor", [1e-6, -3.0, 2.0j])
def test_scale_and_methods_follow_the_data(factor, problem):
    s = kspace_scale(problem.A, problem.y)
    assert s.shape == (2,)
    torch.testing.assert_close(kspace_scale(problem.A, factor * problem.y), abs(factor) * s)
    other = Problem(problem.A, factor * problem.y, problem.noise)
    methods = [
        TotalVariation(CentreScaled(0.01), 20),
        WaveletReconstruction(CentreScaled(0.01), 20, wavelet="haar", levels=2),
        CGSENSE(CentreScaled(0.01), 20),
        Tikhonov(CentreScaled(0.01), 20),
    ]
    for method in methods:
        x = method(problem)
        error = (method(other) - factor * x).abs().max() / (abs(factor) * x.abs().max())
        assert error < 1e-9, type(method).__name__  # rounding, over 20 iterations


def test_it_solves_the_scaled_problem_in_pixels():
    """½‖A u − y/s‖² + 0.01 E(u), whatever σ and pixel size are said to be; x = s u."""
    images = []
    for sigma, h in ((1.0, 1.0), (0.02, 0.4)):
        A = Sense(lines(), maps(3, SHAPE), pixel_size=h)
        y = Gaussian(0.05, data_ndim=3, mask=A.sampled)(A(4 * disc(SHAPE)), seed=0)
        problem = Problem(A, y, Gaussian(sigma, data_ndim=3, mask=A.sampled))
        s = kspace_scale(A, y)
        scaled = Problem(A, y / s, Gaussian(math.sqrt(2), data_ndim=3, mask=A.sampled))
        for Method, power in ((TotalVariation, 1), (CGSENSE, 2)):
            rule = Method(CentreScaled(0.01), 400, 1e-8).solve(problem)
            assert rule.criterion == "centre-scaled"
            torch.testing.assert_close(rule.score, s)
            by_hand = Method(0.01 / h**power, 400, 1e-8)(scaled)
            torch.testing.assert_close(rule.x, s * by_hand, rtol=0, atol=1e-4)
            images.append(rule.x)
    torch.testing.assert_close(images[0], images[2], rtol=0, atol=1e-3)
    torch.testing.assert_close(images[1], images[3], rtol=0, atol=1e-6)


def test_alone_as_in_a_batch(problem):
    whole = kspace_scale(problem.A, problem.y)
    for i in range(2):
        torch.testing.assert_close(kspace_scale(problem.A, problem.y[i]), whole[i])


def test_samples_without_a_grid():
    A = NonUniformSense(radial(40, 48), maps(3, (24, 24)), backend="direct")
    x = 2 * disc((24, 24), radius=0.9)
    assert kspace_scale(A, A(x)).item() == pytest.approx(2.0, rel=0.5)
    torch.testing.assert_close(kspace_scale(A, -3j * A(x)), 3 * kspace_scale(A, A(x)))
    rule = TotalVariation(CentreScaled(), 20)
    law = Gaussian(1.0, data_ndim=len(A.out_shape))
    torch.testing.assert_close(rule(Problem(A, 7 * A(x), law)), 7 * rule(Problem(A, A(x), law)))


def test_what_has_no_such_scale_says_so(problem):
    with pytest.raises(ValueError, match="scale of its own"):
        HuberTotalVariation(CentreScaled())(problem)
    empty = Problem(problem.A, torch.zeros_like(problem.y), problem.noise)
    with pytest.raises(ValueError, match="DC"):
        TotalVariation(CentreScaled())(empty)
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="value"):
            CentreScaled(value)
    A = XRay(ParallelBeam((8, 8), 1.0, [0.0, 1.0], 11, 1.0), backend="sparse")
    counts = LowDose(i0=1e4)
    ct = Problem(A, counts(A(torch.full((8, 8), 0.01)), seed=0), counts)
    with pytest.raises(ValueError, match="Gaussian"):
        TotalVariation(CentreScaled(), likelihood="matching")(ct)


@pytest.mark.parametrize("sigma", [0.02, 0.5])
def test_sigma_from_the_rim_of_k_space(sigma):
    shape = (128, 128)
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape)
    smooth = torch.exp(-8 * (y[:, None] ** 2 + x**2)).to(torch.complex128)
    A = Sense(lines(24, shape), maps(3, shape))
    noise = Gaussian(sigma, data_ndim=3, mask=A.sampled)
    data = noise(A(torch.stack([smooth, 0 * smooth])), seed=[0, 1])
    found = estimate_sigma(A, data)
    # some 2000 samples; a median of |n| scatters by 2 %, and of a smooth image nothing is left out there
    torch.testing.assert_close(found, torch.full((2,), sigma, dtype=torch.float64), rtol=0.06, atol=0)
    B = NonUniformSense(radial(30, 64), maps(2, (16, 16)), backend="direct")
    n = sigma * torch.randn(B.out_shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    assert estimate_sigma(B, n, 1.0).item() == pytest.approx(sigma, rel=0.06)
    with pytest.raises(ValueError, match="share"):
        estimate_sigma(A, data, 0.0)
    with pytest.raises(ValueError, match="trajectory"):
        estimate_sigma(Sense(torch.ones(4, 4)).gram, torch.zeros(4, 4))
