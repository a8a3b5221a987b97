"""MR methods: closed forms, symmetries, and the weight without the truth on undersampled complex data."""

import math

import pytest
import torch

from operators import Fourier, Gaussian, NonUniformSense, Sense, radial, voronoi
from priors import TV, LocallyLowRank, WaveletL1
from recon import (
    CGLS,
    CGSENSE,
    METHODS,
    CentreScaled,
    LocallyLowRankReconstruction,
    Problem,
    RootSumOfSquares,
    TotalVariation,
    VariationalReconstruction,
    WaveletReconstruction,
    ZeroFilled,
    psnr,
)
from recon.fidelity import count, unweighted

SHAPE = (24, 20)


def maps(coils, shape, seed=0):
    """Smooth in phase and size, Σ|S|² = 1."""
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    sides = [[math.cos(2 * math.pi * k / coils + d) for d in range(len(shape))] for k in range(coils)]
    along = [sum(c * g for c, g in zip(side, grid, strict=True)) for side in sides]
    found = torch.stack([torch.polar(torch.exp(1.5 * a), 2 * a + seed) for a in along])
    return found / found.abs().square().sum(0).sqrt()


def ball(shape):
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    r = sum(g**2 for g in grid).sqrt()
    return torch.polar((r < 0.8).double() - 0.4 * (r < 0.4).double(), 0.8 * grid[-1])


def scan(A, x, sigma, seed=0):
    noise = Gaussian(sigma, data_ndim=len(A.out_shape), mask=A.sampled)
    return Problem(A, noise(A(x), seed=seed), noise)


def sampling(shape, part=0.35, centre=4, seed=0):
    """Random lines with the middle, fully sampled along the last axis."""
    inside = torch.rand(*shape[:-1], 1, generator=torch.Generator().manual_seed(seed)) < part
    middle = tuple(slice(n // 2 - centre // 2, n // 2 + centre // 2) for n in shape[-2:-1])
    inside[(..., *middle, slice(None))] = True
    return inside.expand(shape)


@pytest.fixture(scope="module")
def problem():
    A = Sense(sampling(SHAPE), maps(4, SHAPE))
    x = torch.stack([ball(SHAPE), 0.5 * ball(SHAPE).roll(2, 0)])
    return scan(A, x, 0.03, [0, 1])


ALL = [
    ZeroFilled(),
    RootSumOfSquares(),
    CGSENSE(0.5, 10),
    CGSENSE(0, 5),
    TotalVariation(5.0, 15),
    TotalVariation(5.0, 15, algorithm="admm"),
    WaveletReconstruction(5.0, 15, wavelet="haar", levels=2),
    VariationalReconstruction([TV(SHAPE), WaveletL1(SHAPE, "haar", 1)], 5.0, 15),
]


def named(method):
    return f"{method.name}-{getattr(method, 'algorithm', getattr(method, 'weight', ''))}"


@pytest.mark.parametrize("method", ALL, ids=named)
def test_alone_as_in_a_batch(method, problem):
    together = method(problem)
    assert METHODS[method.name] is type(method)
    assert together.shape == (2, *SHAPE)
    for i in range(2):
        alone = method(Problem(problem.A, problem.y[i], problem.noise))
        torch.testing.assert_close(alone, together[i], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", ALL, ids=named)
def test_what_the_order_and_phase_of_the_coils_do(method, problem):
    """Nothing to the image; a phase that all coils share goes into the image, none of it into |x|."""
    x = method(problem)
    order = torch.tensor([2, 0, 3, 1])
    turn = torch.polar(torch.ones(4, dtype=torch.float64), torch.arange(4.0).double())[:, None, None]
    A, y, noise = problem.A, problem.y, problem.noise
    mixed = Problem(Sense(A.mask, (turn * A.maps)[order]), (turn * y)[:, order], noise)
    # sums in another order: rounding, also of ‖A‖, which power iteration finds in single precision
    torch.testing.assert_close(method(mixed), x, rtol=0, atol=1e-6)
    shared = Problem(A, torch.tensor(1j, dtype=torch.complex128) * y, noise)
    torch.testing.assert_close(method(shared).abs(), x.abs(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ALL, ids=named)
def test_images_and_weights_follow_the_scale_of_the_data(method, problem):
    """rec(c y; λ c^(2−p)) = c rec(y; λ) for E of degree p: 1 but for CG-SENSE."""
    c = 40.0
    other = Problem(problem.A, c * problem.y, problem.noise)
    weight = getattr(method, "weight", None)
    x = method(problem)
    if isinstance(weight, float) and weight and not isinstance(method, CGSENSE):
        method.weight = c * weight
    try:
        torch.testing.assert_close(method(other), c * x, rtol=0, atol=1e-8)
    finally:
        if weight is not None:
            method.weight = weight


def test_one_coil_fully_sampled_is_the_image():
    x = ball((9, 7))
    A = Sense(torch.ones(9, 7))
    exact = Problem(A, A(x), Gaussian(1.0))
    torch.testing.assert_close(ZeroFilled()(exact), x)
    torch.testing.assert_close(RootSumOfSquares()(exact), x.abs())
    # A*A = 1: x/(1 + λσ²/2), σ²/2 the variance of a real part
    torch.testing.assert_close(CGSENSE(0.5)(exact), x / 1.25)
    torch.testing.assert_close(CGSENSE(0, 3)(exact), x)


def test_zero_filled_combines_any_coils_to_the_scale_of_the_image():
    x = ball(SHAPE)
    S = 3 * maps(3, SHAPE)
    S[:, :2] = 0
    A = Sense(torch.ones(SHAPE), S)
    found = ZeroFilled()(Problem(A, A(x), Gaussian(1.0, data_ndim=3)))
    torch.testing.assert_close(found[2:], x[2:])
    assert (found[:2] == 0).all()


def test_root_sum_of_squares_of_frames_and_volumes():
    for shape, spatial in (((3, 8, 6), (8, 6)), ((4, 8, 6), (4, 8, 6))):
        S = maps(3, spatial)
        A, x = Sense(torch.ones(shape), S), torch.stack([ball(shape[1:])] * shape[0])
        problem = Problem(A, A(x), Gaussian(1.0, data_ndim=len(A.out_shape)))
        torch.testing.assert_close(RootSumOfSquares()(problem), x.abs())
        torch.testing.assert_close(ZeroFilled()(problem), x)


def test_root_sum_of_squares_keeps_the_units_of_whitened_coils():
    """Whitening divides data and maps by the noise; the image, air included, stays in the units of x."""
    x, received = ball(SHAPE), maps(3, SHAPE)
    received[:, 0] = 0  # no coil sees the first row
    white = received * torch.tensor([30.0, 10.0, 20.0]).reshape(3, 1, 1)
    A = Sense(torch.ones(SHAPE, dtype=torch.bool), white)
    found = RootSumOfSquares()(Problem(A, A(x), Gaussian(1.0, data_ndim=3)))
    torch.testing.assert_close(found[1:], x.abs()[1:])
    drawn = Gaussian(1.0, data_ndim=3)(torch.zeros_like(A(x)), seed=0)
    air = RootSumOfSquares()(Problem(A, drawn, Gaussian(1.0, data_ndim=3)))
    # of one size in both; 20 pixels with three coils each: 7 % of spread, and the maps are not constant
    assert 0.6 < float(air[0].mean() / air[1:].mean()) < 1.6


def test_root_sum_of_squares_needs_a_grid():
    A = Fourier((8, 6))
    with pytest.raises(ValueError, match="Sense"):
        RootSumOfSquares()(Problem(A, A(ball((8, 6))), Gaussian(1.0)))


def test_cg_sense_is_the_closed_form(problem):
    A, n = problem.A, math.prod(SHAPE)
    M = A(torch.eye(n, dtype=torch.complex128).reshape(n, *SHAPE)).flatten(1).T
    w, lam = 2 / 0.03**2, 20.0
    H = w * M.mH @ M + lam * torch.eye(n)
    truth = torch.linalg.solve(H, w * M.mH @ problem.y.flatten(1).T).T.reshape(2, *SHAPE)
    torch.testing.assert_close(CGSENSE(lam, 400, 1e-12)(problem), truth, rtol=0, atol=1e-8)
    # k steps from zero are the paper's, and CGLS's
    torch.testing.assert_close(CGSENSE(0, 7)(problem), CGLS(7)(problem), rtol=0, atol=1e-9)


def test_cg_sense_uses_the_normal_operator_alone(problem):
    """One A*A an iteration, so that a Toeplitz one saves the transforms; data of unequal noise cannot."""
    A = NonUniformSense(radial(16, 24), maps(3, (12, 12)), backend="direct")
    uneven = scan(A, ball((12, 12)), 0.05)
    x = CGSENSE(1.0, 30)(uneven)
    before = A.calls.copy()
    torch.testing.assert_close(CGSENSE(1.0, 30)(uneven), x)
    # three steps of CGLS make the start, the right-hand side takes one adjoint
    assert (A.calls["forward"] - before["forward"], A.calls["adjoint"] - before["adjoint"]) <= (4, 6)


def test_gridding_weighs_samples_by_their_area():
    shape = (24, 24)
    k = radial(40, 48)
    A = NonUniformSense(k, maps(3, shape), backend="direct")
    grid = torch.linspace(-1, 1, 24, dtype=torch.float64)
    x = torch.exp(-8 * (grid[:, None] ** 2 + grid**2)).to(torch.complex128)
    problem = Problem(A, A(x), Gaussian(1.0, data_ndim=len(A.out_shape)))
    found = ZeroFilled()(problem)
    # a Gaussian that k-space and the field of view both hold: gridding returns it
    assert (found - x).norm() < 0.02 * x.norm()
    torch.testing.assert_close(ZeroFilled(voronoi(k, shape))(problem), found)
    assert (ZeroFilled("pipe-menon")(problem) - x).norm() < 0.1 * x.norm()
    frames = NonUniformSense(torch.stack([k, k]), maps(3, shape), backend="direct", frames=True)
    two = Problem(frames, frames(torch.stack([x, x])), Gaussian(1.0, data_ndim=len(frames.out_shape)))
    torch.testing.assert_close(ZeroFilled()(two), torch.stack([found, found]))


def test_what_zero_filled_refuses(problem):
    with pytest.raises(ValueError, match="density"):
        ZeroFilled("ramp")
    with pytest.raises(ValueError, match="density"):
        ZeroFilled(-torch.ones(3))
    with pytest.raises(ValueError, match="trajectory"):
        ZeroFilled("voronoi")(problem)


@pytest.mark.parametrize(
    ("shape", "spatial"), [((16, 20), (16, 20)), ((8, 12, 12), (8, 12, 12)), ((3, 16, 12), (16, 12))]
)
def test_the_discrepancy_on_undersampled_data(shape, spatial):
    """χ²/m of the truth is 1, so is that of what it chooses, and the image beats plain CG-SENSE."""
    x = ball(shape) if len(spatial) == len(shape) else torch.stack([ball(spatial)] * shape[0])
    A = Sense(sampling(shape, 0.4), maps(4, spatial))
    problem = scan(A, x, 0.05)
    d = unweighted(problem)

    def chi2(image):
        return float(2 * d(A(image)) / count(d, problem.y))

    m = float(count(d, problem.y))
    assert abs(chi2(x) - 1) < 4 * math.sqrt(2 / m)  # four standard deviations of χ²/m
    quality = {}
    for method in (TotalVariation(iterations=100), CGSENSE()):
        found = method.solve(problem)
        assert abs(chi2(found.x) - 1) < 0.06  # short runs choose, a full one follows
        quality[method.name] = float(psnr(found.x.abs(), x.abs(), data_range=1.0).mean())
    assert quality["total-variation"] > quality["cg-sense"] + 1
    zero_filled = float(psnr(ZeroFilled()(problem).abs(), x.abs(), data_range=1.0).mean())
    assert quality["total-variation"] > zero_filled + 3


def test_two_priors_are_between_each_alone(problem):
    """The sum of both is least where their sum is minimised, and one of factor 0⁺ leaves the other."""
    one = Problem(problem.A, problem.y[0], problem.noise)
    tv, wavelet, d = TV(SHAPE), WaveletL1(SHAPE, "haar", 2), unweighted(one)

    def objective(x):
        return float(d(one.A(x)) + 10 * (tv(x) + 0.5 * wavelet(x)))

    both = VariationalReconstruction([tv, 0.5 * wavelet], 10.0, 800, 1e-7)(one)
    alone = [
        TotalVariation(10.0, 400, 1e-6)(one),
        WaveletReconstruction(10.0, 400, 1e-6, wavelet="haar", levels=2)(one),
    ]
    generator = torch.Generator().manual_seed(0)
    nearby = [both + 1e-3 * torch.randn(SHAPE, generator=generator, dtype=torch.complex128) for _ in range(5)]
    assert all(objective(both) < objective(x) for x in alone + nearby)
    barely = VariationalReconstruction([tv, 1e-9 * wavelet], 10.0, 800, 1e-7)(one)
    torch.testing.assert_close(barely, TotalVariation(10.0, 800, 1e-7)(one), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="functionals"):
        VariationalReconstruction([])
    with pytest.raises(ValueError, match=r"\(24, 20\)"):
        VariationalReconstruction(TV((3, 24, 20)), 1.0)(one)


@pytest.fixture(scope="module")
def series():
    """Six frames, each with its own mask: a ball that fades while its hole fills up, of rank two."""
    shape = (6, 16, 16)
    one, two = ball((16, 16)), torch.polar((ball((16, 16)).abs() > 0.7).double(), torch.tensor(0.3).double())
    t = torch.arange(6, dtype=torch.float64)[:, None, None]
    x = torch.exp(-t / 4) * one + (1 - torch.exp(-t / 3)) * two
    masks = torch.stack([sampling((16, 16), 0.3, 2, seed) for seed in range(6)])
    return scan(Sense(masks, maps(4, (16, 16))), x, 0.05), x, shape


def test_low_rank_blocks_of_a_series(series):
    problem, x, shape = series
    prior, d = LocallyLowRank(shape, 4), unweighted(problem)
    found = LocallyLowRankReconstruction(20.0, 300, 1e-7, block=4)(problem)

    def objective(image):
        return float(d(problem.A(image)) + 20.0 * prior(image))

    by_pdhg = VariationalReconstruction(prior, 20.0, 800, 1e-7)(problem)
    torch.testing.assert_close(found, by_pdhg, rtol=0, atol=1e-4)
    assert objective(found) == pytest.approx(objective(by_pdhg), rel=1e-6)
    # neighbours in time know what a frame did not measure
    error = {
        name: float((image - x).norm() / x.norm())
        for name, image in {
            "blocks": LocallyLowRankReconstruction(block=4)(problem),
            "two grids": LocallyLowRankReconstruction(20.0, block=4, shifts=(0, 2))(problem),
            "frames alone": CGSENSE()(problem),
        }.items()
    }
    assert error["blocks"] < 0.6 * error["frames alone"]
    assert error["two grids"] < 0.6 * error["frames alone"]
    c = 30.0
    scaled = Problem(problem.A, c * problem.y, problem.noise)
    rule = LocallyLowRankReconstruction(CentreScaled(0.01), 20, block=4)
    torch.testing.assert_close(rule(scaled), c * rule(problem), rtol=0, atol=1e-8)


def test_low_rank_alone_as_in_a_batch(series):
    problem, _, _ = series
    both = Problem(problem.A, torch.stack([problem.y, 3 * problem.y]), problem.noise)
    method = LocallyLowRankReconstruction(20.0, 20, block=4)
    assert METHODS["locally-low-rank"] is type(method)
    torch.testing.assert_close(method(both)[0], method(problem), rtol=1e-8, atol=1e-12)
    with pytest.raises(ValueError, match="shifts"):
        LocallyLowRankReconstruction(shifts=())


def test_k_space_is_complex():
    """Real data would count half as many numbers, so that the discrepancy chose another weight in silence."""
    for A in (
        Sense(torch.ones(SHAPE, dtype=torch.bool), maps(2, SHAPE)),
        Sense(torch.ones(SHAPE, dtype=torch.bool)),
        NonUniformSense(radial(5, 32), maps(2, SHAPE), backend="direct"),
    ):
        with pytest.raises(ValueError, match="Problem y: expected complex k-space"):
            Problem(A, torch.ones(A.out_shape), Gaussian(1.0, data_ndim=len(A.out_shape)))
