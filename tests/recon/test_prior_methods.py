"""Methods with Markov fields, non-local means, dictionaries and a prior image."""

import math

import pytest
import torch

from operators import Gaussian, LowDose, ParallelBeam, XRay, fbp_variance
from operators.volume import ParallelBeam3D
from priors import QGGMRF, FairMRF
from priors.dictionary import cosines, learn_dictionary, patches
from recon import (
    FBP,
    METHODS,
    PICCS,
    PWLSQGGMRF,
    DictionaryReconstruction,
    FBPNonLocalMeans,
    Problem,
    PWLSFair,
    PWLSNonLocalMeans,
    PWLSTotalVariation,
)
from recon.data import SimulatedPairs
from recon.fidelity import weighted
from recon.nonlocal_means import deviation

N, H = 24, 6.0


def head(scale=1.0):
    """A disc of water in a ring of bone, with two inserts, [1/mm]."""
    grid = (torch.arange(N, dtype=torch.float64) - (N - 1) / 2) * H
    y, x = grid[:, None], grid[None]
    r = (y**2 + (x / 0.85) ** 2).sqrt()
    image = 0.02 * (r < 60).double() + 0.02 * ((r >= 54) & (r < 60))
    image[(y - 12) ** 2 + (x + 14) ** 2 < 12**2] += 0.004
    image[(y + 16) ** 2 + (x - 10) ** 2 < 9**2] -= 0.003
    return scale * image


def scan(i0=2e4, views=30, x=None):
    geometry = ParallelBeam((N, N), H, [math.pi * k / views for k in range(views)], 36, H)
    A = XRay(geometry, backend="sparse")
    x = torch.stack([head(), head(0.6).T]) if x is None else x
    noise = LowDose(i0=i0)
    return Problem(A, noise(A(x), seed=list(range(len(x)))), noise)


@pytest.fixture(scope="module")
def problem():
    return scan()


def rmse(x, truth):
    return (x - truth).square().mean((-2, -1)).sqrt()


TRUTH = torch.stack([head(), head(0.6).T])
DICTIONARY = learn_dictionary(torch.stack([head().T, head().flip(0)]), 32, 4, 3, 5, 800)
ALL = [
    PWLSQGGMRF(30.0, 8, subsets=3),
    PWLSFair(30.0, 8, subsets=3),
    PWLSNonLocalMeans(1e3, 8, subsets=3, search_radius=2),
    FBPNonLocalMeans(search_radius=2),
    DictionaryReconstruction(DICTIONARY, 1e3, 3, subsets=3),
    PICCS(FBP(), 30.0, 20),
]


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_alone_as_in_a_batch(method, problem):
    together = method(problem)
    assert METHODS[method.name] is type(method)
    assert together.shape == (2, N, N) and together.min() >= 0
    for i in range(2):
        alone = method(Problem(problem.A, problem.y[i], problem.noise))
        torch.testing.assert_close(alone, together[i], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(method(problem), together, rtol=0, atol=0)


@pytest.mark.parametrize(
    "method",
    [
        PWLSQGGMRF(),
        PWLSFair(),
        DictionaryReconstruction(DICTIONARY, iterations=60),
        PICCS(FBP(), iterations=150),
    ],
    ids=lambda m: m.name,
)
def test_the_weight_without_the_truth(method, problem):
    """The residual is that of the noise, and the image better than FBP's."""
    found = method.solve(problem)
    chi2 = 2 * weighted(problem)(problem.A(found.x)) / problem.y[0].numel()
    # weights come from short runs, the image from a full one
    assert found.criterion == "discrepancy" and (chi2 - 1).abs().max() < 0.06
    assert (rmse(found.x, TRUTH) < rmse(FBP()(problem), TRUTH)).all()


def test_similar_patches_help_although_they_cannot_explain_the_noise(problem):
    """The graph leaves so many values free that the misfit stays below 1: λ ends at its reach."""
    found = PWLSNonLocalMeans(iterations=60).solve(problem)
    chi2 = 2 * weighted(problem)(problem.A(found.x)) / problem.y[0].numel()
    assert (chi2 < 0.95).all()
    assert (rmse(found.x, TRUTH) < 0.5 * rmse(FBP("ram-lak")(problem), TRUTH)).all()


@pytest.mark.parametrize(
    ("method", "prior"),
    [
        (PWLSQGGMRF(40.0, 300, 1e-9, q=1.1), QGGMRF((N, N), H, 3e-4, 1.1)),
        (PWLSFair(40.0, 300, 1e-9), FairMRF((N, N), H, 3e-4)),
    ],
    ids=["q-ggmrf", "fair"],
)
def test_the_minimum_meets_the_optimality_conditions(method, prior, problem):
    x = method(problem)
    d = weighted(problem)
    slope = problem.A.adjoint(d.grad(problem.A(x))) + 40.0 * prior.grad(x)
    scale = problem.A.adjoint(d.grad(torch.zeros_like(problem.linear))).abs().max()
    assert (slope[x > 0].abs() < 1e-6 * scale).all() and (slope[x == 0] > -1e-6 * scale).all()


@pytest.mark.parametrize("method", [PWLSQGGMRF(40.0, upper=0.021), PICCS(FBP(), 40.0, upper=0.021)])
def test_upper(method, problem):
    x = method(problem)
    assert x.max() <= 0.021 and x.max() > 0.02


def test_the_weight_keeps_its_meaning_over_pixel_size():
    """The same scan and λ on pixels of half the size: the prior leaves as much of its energy."""
    found, problem = [], scan(x=head()[None])
    for n in (N, 2 * N):
        h = N * H / n
        geometry = ParallelBeam((n, n), h, [math.pi * k / 30 for k in range(30)], 36, H)
        x = PWLSQGGMRF(300.0, 60)(Problem(XRay(geometry), problem.y, problem.noise))
        found.append(float(QGGMRF((n, n), h, 3e-4)(x)))
    # pixels as coarse as the bins differ besides; a sum over pixels or of differences would by a factor 2
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_a_volume():
    geometry = ParallelBeam3D(
        (3, 8, 8), (2.0, 1.0, 1.0), [k * math.pi / 12 for k in range(12)], (3, 12), (2.0, 1.0)
    )
    A = XRay(geometry)
    truth = torch.zeros(3, 8, 8, dtype=torch.float64)
    truth[:, 2:6, 3:6] = 0.05
    problem = Problem(A, A(truth), Gaussian(sigma=1e-3, data_ndim=3))
    x = PWLSQGGMRF(1.0, 60, subsets=2, c=1e-3)(problem)
    assert float((x - truth).norm() / truth.norm()) < 0.05


def test_the_prior_image_is_found_again_from_a_handful_of_views():
    """Noiseless data of 5 views: x_p right, nothing is nearer; total variation alone is far."""
    geometry = ParallelBeam((N, N), H, [math.pi * k / 5 for k in range(5)], 36, H)
    A = XRay(geometry, backend="sparse")
    problem = Problem(A, A(head()), Gaussian(sigma=0.1))
    right, none = (PICCS(head(), 1000.0, 200, 1e-9, alpha=a)(problem) for a in (0.9, 0.0))
    error, without = ((x - head()).norm() / head().norm() for x in (right, none))
    # the start is an FBP of 5 views; pdhg's error halves as the iterations double, 0.0057 after 200
    assert error < 0.01 and without > 0.2


def test_a_wrong_prior_image_does_no_harm_as_alpha_vanishes(problem):
    wrong = 0.02 * torch.rand(N, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tv = PWLSTotalVariation(50.0, 150)(problem)
    distance = []
    for alpha in (0.3, 0.03, 0.0):
        x = PICCS(wrong, 50.0, 150, alpha=alpha)(problem)
        distance.append(float((x - tv).norm() / tv.norm()))
    assert distance[0] > 5 * distance[1]
    assert distance[2] == 0.0


def test_one_prior_image_for_each(problem):
    together = PICCS(TRUTH, 30.0, 20)(problem)
    alone = PICCS(TRUTH[1], 30.0, 20)(Problem(problem.A, problem.y[1], problem.noise))
    torch.testing.assert_close(alone, together[1], rtol=1e-8, atol=1e-12)


def test_the_noise_of_fbp_is_known(problem):
    """Draws and a window of 9 × 9 pixels against linear propagation through the filter and interpolation."""
    method = FBPNonLocalMeans()
    found = deviation(method.noise(problem, 64), 2)
    wanted = fbp_variance(problem.A, problem.variance, "ram-lak").sqrt()
    inside = slice(6, 18)
    ratio = (found / wanted)[:, inside, inside]
    # 64 draws in some 20 independent pixels: 2 %; the window averages over what varies besides
    assert abs(float(ratio.mean()) - 1) < 0.03 and float((ratio - 1).abs().max()) < 0.15


def test_steins_estimate_chooses_nearly_the_best_strength():
    problem = scan(200.0)
    chosen = rmse(FBPNonLocalMeans()(problem), TRUTH)
    tried = torch.stack([rmse(FBPNonLocalMeans(s)(problem), TRUTH) for s in (0.1, 0.3, 0.6, 1.2, 2.4, 4.8)])
    lost = chosen / tried.amin(0)
    # half of the pixels are edges here, and the estimate is one draw
    assert (lost < 1.1).all() and (tried.amax(0) / tried.amin(0) > 1.5).all()


def test_a_dictionary_is_fitted_saved_and_loaded(problem, tmp_path):
    def images(seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        coarse = torch.stack([0.02 * torch.rand(6, 6, generator=g) for g in generators])
        return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)

    data = SimulatedPairs(problem.A.geometry, problem.noise, images, validation_size=1)
    method = DictionaryReconstruction(
        weight=1e3, iterations=2, atoms=20, size=4, learn_sparsity=2, samples=500, subsets=2
    ).fit(data.unpaired(), images=4)
    assert method.dictionary.shape == (16, 20)
    file = method.save(tmp_path / "mine")
    again = DictionaryReconstruction.load(file)
    assert torch.equal(again(problem), method(problem)) and again.size == 4
    with pytest.raises(ValueError, match="no dictionary"):
        DictionaryReconstruction()(problem)
    with pytest.raises(ValueError, match="nothing learned"):
        DictionaryReconstruction().save(tmp_path / "none")


def test_the_pursuit_stops_at_the_noise(problem):
    method = DictionaryReconstruction(cosines(4, 4), 1e3, residual=0.8, sparsity=15)
    prior = method.prior(problem)
    z = patches(FBP("ram-lak", positive=False)(problem), 4, 2)
    left = (z - prior.approximated(z)).square().mean(-1).sqrt().flatten(1)
    assert prior.tolerance.shape == (2,)
    # 15 atoms and the mean say every patch of 16 pixels, so all can stop, and do not go further
    assert (left <= prior.tolerance[:, None] * (1 + 1e-9)).all()
    assert (left > 0.5 * prior.tolerance[:, None]).double().mean() > 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: PWLSQGGMRF(q=3.0), "q: expected"),
        (lambda p: PWLSFair(delta=-1.0), "delta"),
        (lambda p: FBPNonLocalMeans(-1.0), "strength"),
        (lambda p: FBPNonLocalMeans(search_radius=0), "search_radius"),
        (lambda p: PICCS("image"), "prior_image"),
        (lambda p: PICCS(FBP(), alpha=2.0), "alpha"),
        (lambda p: PICCS(torch.zeros(3, 3), 1.0)(p), "prior_image: expected"),
        (lambda p: DictionaryReconstruction(cosines(4, 4), residual=-1.0), "residual"),
        (lambda p: DictionaryReconstruction(2 * cosines(4, 4)), "length 1"),
        (lambda p: PWLSNonLocalMeans(strength=0.0), "strength"),
    ],
)
def test_bad_input(call, said, problem):
    with pytest.raises(ValueError, match=said):
        call(problem)
