"""The weight without the truth: scores against exact degrees of freedom, the search, and the methods."""

import math

import pytest
import torch

from operators import Fourier, Gaussian, Identity, LowDose, ParallelBeam, Poisson, XRay
from recon import PWLSHuber, PWLSTotalVariation, Tikhonov, TotalVariation, WaveletReconstruction
from recon.fidelity import LeastSquares, unweighted
from recon.problem import Problem
from recon.selection import GCV, SURE, Discrepancy, RobustDiscrepancy, Trial, Whiteness, criterion, least

NAMES = ["discrepancy", "robust-discrepancy", "gcv", "sure", "whiteness"]


def shrinking(sigma, n=(20, 30), seed=0):
    """Denoising by x = y / (1 + λ): everything about it is known."""
    generator = torch.Generator().manual_seed(seed)
    truth = (
        torch.randn(2, *n, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 4.0])[:, None, None]
    )
    y = truth + sigma * torch.randn(2, *n, generator=generator, dtype=torch.float64)
    d = LeastSquares(y, sigma)

    def solve(d, weight, start):
        return d.target / (1 + weight[:, None, None])

    return Trial(d, lambda x: x, solve, n), truth, y


def test_degrees_of_freedom_and_scores_are_exact_for_a_linear_method():
    trial, _, y = shrinking(0.5)
    weight, start = torch.tensor([0.1, 2.0], dtype=torch.float64), torch.zeros_like(y)
    x = trial.solve(trial.d, weight, start)
    share = 1 / (1 + weight)  # f / m
    for rule in (SURE(), GCV(epsilon=1.0), GCV(probes=3)):
        # ±1 probes have no variance where the influence matrix is diagonal
        torch.testing.assert_close(rule.freedom(trial, weight, x, start), 600 * share, rtol=1e-9, atol=0)
    chi2 = ((x - y) / 0.5).square().mean((1, 2))
    torch.testing.assert_close(SURE().score(trial, weight, x, start), chi2 + 2 * share - 1)
    torch.testing.assert_close(GCV().score(trial, weight, x, start), chi2 / (1 - share) ** 2)


def test_sure_is_unbiased():
    weight = torch.full((2,), 0.3, dtype=torch.float64)
    differences = []
    for seed in range(30):
        trial, truth, y = shrinking(0.5, seed=seed)
        x = trial.solve(trial.d, weight, y)
        error = ((x - truth) / 0.5).square().mean((1, 2))
        differences.append(SURE().score(trial, weight, x, y) - error)
    found = torch.stack(differences)
    assert (found.mean(0).abs() < 4 * found.std(0) / math.sqrt(30)).all()


def test_sure_finds_the_best_shrinkage():
    """min over λ of E‖y/(1+λ) − x‖² is at λ = σ²/mean(x²), for each image its own."""
    trial, truth, y = shrinking(0.5, n=(150, 150))
    weight, x, _ = SURE().choose(trial, torch.ones(2, dtype=torch.float64), torch.zeros_like(y))
    best = 0.25 / truth.square().mean((1, 2))
    torch.testing.assert_close(weight, best, rtol=0.1, atol=0)
    torch.testing.assert_close(x, trial.solve(trial.d, weight, x))


def test_whiteness_is_two_for_white_noise_and_more_for_structure():
    trial, truth, y = shrinking(0.5, n=(128, 128))
    none = torch.zeros(2, dtype=torch.float64)
    noise = Trial(LeastSquares(y - truth, 0.5), trial.predict, trial.solve, trial.shape)
    score = Whiteness().score(noise, none, torch.zeros_like(y), y)
    # |R|² is exponential: E|R|⁴ / (E|R|²)² = 2; its estimate from 8192 of them has an error of √20/√8192
    assert (score - 2).abs().max() < 4 * math.sqrt(20 / 8192)
    ramp = torch.linspace(-1, 1, 128, dtype=torch.float64).expand(2, 128, 128)
    bent = Trial(LeastSquares(y - truth + ramp, 0.5), trial.predict, trial.solve, trial.shape)
    assert (Whiteness().score(bent, none, torch.zeros_like(y), y) > 10).all()


def test_the_search_finds_each_minimum_by_itself():
    aims = torch.tensor([5.0, -3.0, 0.2], dtype=torch.float64)
    tried = []

    def evaluate(weight, start):
        tried.append(weight.log())
        return (weight.log() - aims).cosh(), weight.log()[:, None]

    weight, x, score = least(
        evaluate, torch.ones(3, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64), 12
    )
    torch.testing.assert_close(weight.log(), aims, rtol=0, atol=0.15)
    torch.testing.assert_close(x[:, 0], weight.log())
    torch.testing.assert_close(score, (weight.log() - aims).cosh())
    for i in range(3):
        alone = least(
            lambda w, s, i=i: ((w.log() - aims[i]).cosh(), w.log()[:, None]),
            torch.ones(1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), 12,
        )  # fmt: skip
        assert alone[0].item() == pytest.approx(weight[i].item(), rel=1e-12)


def test_the_search_stays_within_reach_and_survives_nan():
    weight, _, score = least(
        lambda w, s: (w, s), torch.ones(1, dtype=torch.float64), torch.zeros(1, 1), 30, reach=100.0
    )
    assert weight.item() == pytest.approx(0.01) and score.item() == pytest.approx(0.01)

    def broken(w, s):
        return torch.where(w < 0.5, torch.nan, (w.log() - 1) ** 2), s

    weight, _, _ = least(broken, torch.ones(1, dtype=torch.float64), torch.zeros(1, 1), 12)
    assert weight.log().item() == pytest.approx(1.0, abs=0.2)


@pytest.fixture(scope="module")
def problem():
    geometry = ParallelBeam((16, 16), 8.0, [math.pi * k / 20 for k in range(20)], 25, 8.0)
    A = XRay(geometry, backend="sparse")
    grid = torch.arange(16, dtype=torch.float64) - 7.5
    x = 0.02 * (grid[:, None] ** 2 + (grid[None] / 0.8) ** 2 < 31).double()
    noise = LowDose(i0=2e3)
    truth = torch.stack([x, 0.4 * x.T])
    return Problem(A, noise(A(truth), seed=3), noise), truth


CHOICES = [
    *((Method, name) for Method in (TotalVariation, PWLSTotalVariation) for name in NAMES if name[0] != "r"),
    (PWLSTotalVariation, "robust-discrepancy"),
    (PWLSHuber, "sure"),
]


@pytest.mark.parametrize(("Method", "name"), CHOICES)
def test_every_criterion_is_near_the_best_weight(Method, name, problem):
    problem, truth = problem
    method = Method(weight=name, iterations=60, tolerance=1e-4)
    found = method.solve(problem)
    assert found.criterion == name
    assert found.weight.shape == found.score.shape == (2,)

    def error(x):
        return (x - truth).square().mean((1, 2)).sqrt()

    factors = (0.03, 0.2, 5, 30)
    tried = torch.stack([error(Method(found.weight * f, 60, 1e-4)(problem)) for f in factors])
    # the discrepancy smooths too much, the best weight is up to five times less: errors of up to 1.6 times
    assert (error(found.x) < (1.8 if "discrepancy" in name else 1.3) * tried.amin(0)).all()
    assert (error(found.x) < 0.7 * tried.amax(0)).all()


@pytest.mark.parametrize("name", ["sure", "gcv"])
def test_sure_and_gcv_predict_data_well_also_where_that_says_little_of_the_image(name, problem):
    """Of Tikhonov the error of A x is flat over three decades of λ; the error of x is not."""
    problem, truth = problem
    d, clean = unweighted(problem), problem.A(truth)

    def risk(weight):
        return (d.weight * (problem.A(Tikhonov(weight)(problem)) - clean) ** 2).mean((1, 2))

    found = Tikhonov(name).solve(problem)
    tried = torch.stack([risk(found.weight * f) for f in (0.03, 0.2, 5, 30)])
    # one probe of 500 data knows f/m to some 0.02
    assert (risk(found.weight) < tried.amin(0) + 0.06).all()


@pytest.mark.parametrize("name", NAMES)
def test_chosen_alone_as_in_a_batch(name, problem):
    problem, _ = problem
    method = TotalVariation(weight=name, iterations=30)
    together = method.solve(problem)
    alone = method.solve(Problem(problem.A, problem.y[1], problem.noise))
    torch.testing.assert_close(alone.weight, together.weight[1], rtol=1e-7, atol=0)
    torch.testing.assert_close(alone.x, together.x[1], rtol=1e-6, atol=1e-11)


def test_the_discrepancy_of_a_target_leaves_room_for_the_model(problem):
    problem, _ = problem
    for target in (1.0, 1.5):
        found = PWLSTotalVariation(weight=Discrepancy(target=target)).solve(problem)
        assert (found.score / target - 1).abs().max() < 0.06
    assert found.criterion == "discrepancy"


def test_the_robust_discrepancy_is_one_for_noise_and_forgets_a_few_bad_rays():
    trial, truth, _ = shrinking(0.5, n=(200, 200))
    rule = RobustDiscrepancy()
    # the median of m squares of normals has an error of 1.17/√m, relative, times two for the square
    assert (rule.misfit(trial, truth) - 1).abs().max() < 4 * 2.4 / 200
    bad = truth.clone()
    bad[:, :10] += 100
    assert (rule.misfit(trial, bad) - 1).abs().max() < 0.2
    assert (trial.misfit(bad) > 100).all()
    noise = torch.randn(300, 300, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    both = Trial(LeastSquares(noise, 0.5**0.5), trial.predict, trial.solve, (300, 300))
    assert rule.misfit(both, torch.zeros_like(noise)).item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("likelihood", ["poisson", "shifted-poisson", "matching"])
@pytest.mark.parametrize("name", ["discrepancy", "whiteness"])
def test_likelihoods_of_counts_choose_by_pearson_residuals(name, likelihood, problem):
    problem, _ = problem
    found = TotalVariation(weight=name, likelihood=likelihood, iterations=60).solve(problem)
    assert found.weight.isfinite().all()
    if name == "discrepancy":
        assert (found.score - 1).abs().max() < 0.06
    with pytest.raises(ValueError, match="needs a Gaussian likelihood"):
        TotalVariation(weight="sure", likelihood=likelihood)(problem)


def test_complex_images_and_given_weights():
    F = Fourier((24, 24))
    x = torch.zeros(24, 24, dtype=torch.complex128)
    x[6:18, 8:22] = 1 - 2j
    y = F(x) + 0.1 * torch.randn(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    problem = Problem(F, y, Gaussian(sigma=0.1))
    for name in NAMES:
        found = TotalVariation(weight=name, iterations=100).solve(problem)
        assert (found.x - x).abs().square().sum() < (F.adjoint(y) - x).abs().square().sum() * 0.6
    given = TotalVariation(weight=1.0).solve(problem)
    assert given.criterion is None and given.score is None


METHODS = {
    "tv": TotalVariation(20.0, 400, 1e-6, upper=0.015),
    "tikhonov": Tikhonov(20.0, 2000, upper=0.015),
    "tikhonov-counts": Tikhonov(20.0, 2000, likelihood="matching", upper=0.015),
    "wavelet": WaveletReconstruction(20.0, 500, upper=0.015),
    "os-sqs": PWLSHuber(20.0, 100, upper=0.015),
}


@pytest.mark.parametrize("name", METHODS)
def test_upper_bounds_hold_and_are_reached(name, problem):
    x = METHODS[name](problem[0])
    assert x.min() >= 0 and x.max() == 0.015


@pytest.mark.parametrize(
    "make",
    [
        lambda: TotalVariation(weight="best"),
        lambda: TotalVariation(upper=0.0),
        lambda: TotalVariation(weight=torch.tensor([1.0, -1.0])),
        lambda: PWLSHuber(subsets=0),
        lambda: PWLSHuber(curvature="least"),
        lambda: Discrepancy(target=0.0),
        lambda: SURE(probes=0),
        lambda: criterion("l-curve"),
        lambda: PWLSHuber(1.0)(Problem(Identity((3, 3)), torch.ones(3, 3), Gaussian(1.0))),
        lambda: PWLSHuber(1.0, likelihood="matching", positive=False)(
            Problem(XRay(ParallelBeam((4, 4), 1.0, [0.0, 1.0], 6, 1.0)), torch.ones(2, 6), LowDose(10.0))
        ),
        lambda: PWLSHuber(1.0, likelihood="poisson")(
            Problem(XRay(ParallelBeam((4, 4), 1.0, [0.0, 1.0], 6, 1.0)), torch.ones(2, 6), Poisson())
        ),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"expect|need"):
        make()
