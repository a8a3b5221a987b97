import math
from itertools import pairwise

import pytest
import torch

from operators import Gaussian, Identity, LowDose, ParallelBeam, Sense, XRay
from priors import HuberTV, SquaredL2
from recon import CGLS, DeepImagePrior, LearnedPrimalDual, Problem
from recon.data.small import ellipses_small
from recon.dip import first_image
from recon.dip_fit import JUMP, SAFE_EVERY
from recon.dip_presets import PRESETS, likelihood_weight
from recon.dip_stopping import Discrepancy
from recon.fidelity import matching


@pytest.fixture(scope="module")
def scan():
    geometry = ParallelBeam((20, 18), 1.0, [(k + 0.5) * math.pi / 10 for k in range(10)], 29, 1.0)
    A = XRay(geometry)
    truth = torch.zeros(2, 20, 18)
    truth[0, 5:14, 4:11] = 1.0
    truth[1, 3:9, 6:15] = 30.0
    noise = Gaussian(relative=0.03).at(A(truth))
    return Problem(A, noise(A(truth), seed=1), noise), truth


def prior(**changes):
    return DeepImagePrior(
        **{"iterations": 120, "channels": (8, 8), "skips": (4,), "learning_rate": 0.02, **changes}
    )


def test_it_improves_and_beats_the_bare_network(scan):
    problem, truth = scan
    objectives = []
    method = prior(callback=lambda image, k, value: objectives.append((image, k, value)))
    x = method(problem)
    error = ((x - truth).flatten(1).square().sum(1) / truth.flatten(1).square().sum(1)).sqrt()
    assert x.shape == truth.shape and bool((error < 0.3).all())
    first = [next(v for i, k, v in objectives if (i, k) == (image, 0)) for image in (0, 1)]
    last = [min(v for i, k, v in objectives if i == image) for image in (0, 1)]
    # it starts at five steps of CGLS, which already explain the data
    assert all(b < 0.5 * a for a, b in zip(first, last, strict=True))


def test_each_image_is_fitted_alone(scan):
    problem, _ = scan
    method = prior(iterations=5)
    both = method(problem)
    for i in (0, 1):
        alone = method(Problem(problem.A, problem.y[i], problem.noise.select(i)))
        torch.testing.assert_close(alone, both[i], rtol=1e-6, atol=1e-6)


def test_seed_decides(scan):
    problem, _ = scan
    torch.manual_seed(5)
    a, b, c = prior(iterations=3)(problem), prior(iterations=3)(problem), prior(iterations=3, seed=1)(problem)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_lowest_objective_is_kept(scan):
    """At a rate that diverges, the image returned is still the best one seen."""
    problem, _ = scan
    one = Problem(problem.A, problem.y[0], problem.noise.select(0))
    values = []
    method = prior(iterations=31, learning_rate=1.0, weight=0.0, callback=lambda i, k, v: values.append(v))
    x = method(one)
    objective = ((one.A(x) - one.y).square() / one.variance).sum() / 2 / one.y.numel()
    assert float(objective) == pytest.approx(min(values), rel=1e-4)
    assert max(values[values.index(min(values)) :]) > 2 * min(values)


def test_the_last_image_is_looked_at():
    """One pixel whose weight is the image: every step of Adam towards y = 5 is one of the rate."""

    class Pixel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1, 1, 4, 4))

        def forward(self, z):
            return self.w + 0 * z

    problem = Problem(Identity((4, 4)), torch.full((4, 4), 5.0), Gaussian(sigma=1.0))
    settings = {"network": lambda *_: Pixel(), "z": "noise", "weight": 0.0, "schedule": "constant"}
    found, x = values(problem, iterations=4, learning_rate=0.1, nonnegative=False, **settings)
    unit = float(first_image(problem).abs().max())
    assert len(found) == 5
    torch.testing.assert_close(x / unit, torch.full((4, 4), 0.4), rtol=1e-3, atol=0)


def test_inference_mode(scan):
    problem = single(scan)
    x = prior(iterations=2)(problem)
    with torch.inference_mode():
        within = prior(iterations=2)(Problem(problem.A, problem.y.clone(), problem.noise))
    assert torch.equal(within, x)


def test_discrepancy_stops_early(scan):
    problem, _ = scan
    steps = []
    method = prior(
        iterations=400, weight=0.0, stop=Discrepancy(4.0), callback=lambda i, k, v: steps.append((i, k))
    )
    x = method(problem)
    assert len(steps) < 800
    misfit = ((problem.A(x) - problem.y).square() / problem.variance).flatten(1).mean(1)
    assert bool((misfit <= 4.0 * (1 + 1e-4)).all())


def test_total_variation_makes_it_smoother(scan):
    problem, _ = scan
    one = Problem(problem.A, problem.y[0], problem.noise.select(0))
    rough, smooth = (prior(weight=w)(one) for w in (0.0, 1000.0))

    def variation(x):
        return float(x.diff(dim=0).abs().sum() + x.diff(dim=1).abs().sum())

    assert variation(smooth) < 0.8 * variation(rough)


def test_needs_no_fit_and_works_in_float64(scan):
    problem, _ = scan
    one = Problem(problem.A, problem.y[0].double(), Gaussian(sigma=0.1))
    assert prior(iterations=2).fit(None)(one).dtype == torch.float64


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"iterations": 0}])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DeepImagePrior(**arguments)


def single(scan, image=0):
    problem, _ = scan
    return Problem(problem.A, problem.y[image], problem.noise.select(image))


def values(problem, **settings):
    """The objective at every iteration, and the image."""
    found = []
    x = prior(**settings, callback=lambda i, k, v: found.append(v))(problem)
    return found, x


def test_first_objective_is_the_likelihood_of_the_counts_plus_all_priors(scan):
    """At the start f_w(z) = z, five steps of CGLS, for which d + γ TV + E is known."""
    A, truth = scan[0].A, 0.03 * scan[1][:1]
    noise = LowDose(i0=torch.linspace(800.0, 2000.0, 29), electronic_sigma=3.0)
    problem = Problem(A, noise(A(truth), seed=1), noise)
    x = first_image(problem)[0].clamp(min=0)
    extra = SquaredL2(0.01, 50.0)
    found, _ = values(problem, iterations=1, likelihood="matching", weight=2.0, prior=extra)
    tv = HuberTV((20, 18), 1.0, delta=1e-3 * float(first_image(problem).abs().max()))
    expected = float(matching(problem)(A(x))[0] + 2.0 * tv(x) + extra(x)) / problem.y.numel()
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_counts_are_fitted_by_their_own_law(scan):
    A, truth = scan[0].A, 0.03 * scan[1][0]
    noise = LowDose(i0=300.0)
    problem = Problem(A, noise(A(truth), seed=1), noise)
    found, x = values(problem, iterations=60, likelihood="matching", weight=0.0)
    assert min(found) < 0.8 * found[0]
    assert float(matching(problem)(A(x))) / problem.y.numel() == pytest.approx(min(found), rel=1e-4)


def test_complex_images_of_several_coils():
    mask = torch.zeros(16, 15, dtype=torch.bool)
    mask[::2], mask[6:10] = True, True
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 16, 15, generator=g, dtype=torch.complex64)
    A = Sense(mask, maps / maps.abs().square().sum(0).sqrt())
    truth = torch.zeros(2, 16, 15, dtype=torch.complex64)
    truth[0, 4:11, 3:9], truth[1, 5:9, 2:12] = 1 + 1j, 2j
    noise = Gaussian(sigma=0.1, data_ndim=3, mask=A.sampled)
    problem = Problem(A, noise(A(truth), seed=[0, 1]), noise)
    method = prior(iterations=40)
    x = method(problem)
    rough = CGLS(iterations=5)(problem)
    assert x.dtype == torch.complex64 and x.shape == truth.shape
    assert float((x - truth).norm()) < float((rough - truth).norm())
    alone = method(Problem(A, problem.y[1], noise))
    torch.testing.assert_close(alone, x[1], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="bounds: order needs real numbers"):
        prior(bounds=(0.0, 1.0))(problem)
    with pytest.raises(ValueError, match="out of it"):
        prior(network=lambda inside, outside, shape: torch.nn.Conv2d(inside, 3, 1))(problem)


@pytest.mark.parametrize(
    "settings", [{}, {"network": "hourglass"}, {"network": "conv-decoder", "z": "uniform"}]
)
def test_volumes_go_through_the_network_slice_by_slice(settings):
    truth = torch.zeros(3, 12, 10)
    truth[:2, 3:8, 2:7] = 1.0
    noise = Gaussian(sigma=0.3, data_ndim=3)
    problem = Problem(Identity((3, 12, 10)), noise(truth, seed=0), noise)
    found, x = values(problem, iterations=40, channels=(8, 8), skips=None, weight=None, **settings)
    assert x.shape == truth.shape and min(found) < 0.9 * found[0]
    assert not torch.allclose(x[0], x[2], atol=0.1)


def test_papers_weight_is_converted_exactly(scan):
    """mean |A x − y|² + γ Σ|∂x| and ½ ‖(A x − y)/σ‖² + λ ∫|∂x| are one, the second m/(2σ²) as high."""
    geometry = ParallelBeam((20, 18), 0.5, scan[0].A.geometry.angles, 29, 0.5)
    A = XRay(geometry)
    truth = scan[1][0].double()
    noise = Gaussian(sigma=0.2)
    problem = Problem(A, noise(A(truth), seed=0), noise)
    gamma, m, sigma = 3e-4, problem.y.numel(), 0.2
    weight = float(likelihood_weight(gamma, problem))
    assert weight == pytest.approx(gamma * m / (2 * sigma**2) / 0.5, rel=1e-12)
    # what clips the gradient knows the scale; Adam does by its ε of 1e-8 alone, hence the tolerances below
    same = {"iterations": 8, "tv": "anisotropic", "clip": None, "nonnegative": False}
    theirs, x = values(problem, objective="mean-square", weight=gamma, **same)
    ours, z = values(problem, likelihood="unweighted", weight=weight, **same)
    for a, b in zip(theirs, ours, strict=True):
        assert a == pytest.approx(2 * sigma**2 * b, rel=1e-12 if a == theirs[0] else 1e-4)
    torch.testing.assert_close(x, z, rtol=1e-3, atol=1e-4)


def test_published_objective(scan):
    """Mean square over all rays plus γ times the sum of absolute differences, as in DIVal, at x₀."""
    problem = single(scan)
    x = first_image(problem)
    x[-1], x[:, -1] = x[-2], x[:, -2]
    found, _ = values(
        problem, iterations=1, objective="mean-square", weight=10**-3.5, tv="anisotropic",
        start=_Fixed(x), nonnegative=False,
    )  # fmt: skip
    # DIVal leaves out the differences within the last row and column, which are zero here across it
    across, down = x.diff(dim=1).abs(), x.diff(dim=0).abs()
    published = (problem.A(x) - problem.y).square().mean() + 10**-3.5 * (across.sum() + down.sum())
    assert found[0] == pytest.approx(float(published), rel=1e-5)


class _Fixed(CGLS):
    """The same image, whatever the data."""

    name = "fixed"

    def __init__(self, x):
        super().__init__()
        self.x = x

    def forward(self, problem):
        return self.x


def test_presets_are_those_of_the_papers():
    assert {"ulyanov", "baguer", "baguer-bare", "baguer-start"} == set(PRESETS)
    tv, bare = DeepImagePrior.preset("baguer"), DeepImagePrior.preset("baguer-bare")
    assert (tv.settings.iterations, bare.settings.iterations) == (10_000, 5000)
    assert tv.weight == pytest.approx(3.16227766e-4, rel=1e-8) and bare.weight == 0
    assert tv.channels == (128,) * 5 and tv.skips == (0,) * 4 and tv.settings.learning_rate == 1e-3
    start = DeepImagePrior.preset("baguer-start", start=CGLS())
    assert start.settings.amsgrad and start.start_iterations == 5000 and start.settings.learning_rate == 1e-5
    for name in ("baguer-start", "chang"):
        with pytest.raises(ValueError, match="preset"):
            DeepImagePrior.preset(name)


@pytest.mark.parametrize("name", ["ulyanov", "baguer", "baguer-bare"])
def test_presets_run(scan, name):
    small = {"channels": (8, 8), "skips": (2 if name == "ulyanov" else 0,), "iterations": 20}
    problem = single(scan)
    found = []
    x = DeepImagePrior.preset(name, **small, callback=lambda i, k, v: found.append(v))(problem)
    assert x.shape == (20, 18) and bool(((x > 0) & (x < 1)).all())
    assert len(found) == 21 and min(found) < found[0]  # the first, and one after each iteration


@pytest.mark.parametrize("network", ["unet", "hourglass"])
def test_no_iterations_on_the_data_leave_the_start(scan, network):
    problem = single(scan)
    first = CGLS(iterations=8)
    x0 = first(problem).clamp(min=0)
    settings = {"network": network, "iterations": 0, "start_learning_rate": 1e-2, "start_tolerance": 0.05}
    x = prior(**settings, start=_Fixed(x0), start_iterations=1500, skips=(8,), channels=(16, 16))(problem)
    assert float((x - x0).norm() / x0.norm()) <= 0.05


def test_from_learned_primal_dual_the_data_are_fitted_better():
    problem, _ = ellipses_small().pairs([2**30 + 1])
    network = LearnedPrimalDual.pretrained("ellipses-small")

    def misfit(x):
        return float(((problem.A(x) - problem.y) / problem.noise.sigma[:, None, None]).square().mean())

    bare = {"channels": (8, 8), "iterations": 15, "learning_rate": 1e-3, "start": network}
    x0 = network(problem).clamp(min=0)
    assert misfit(prior(**bare, weight=0.0)(problem)) < misfit(x0)
    found = prior(**bare, weight=1.0)(problem)
    tv = HuberTV((64, 64), 1.0, delta=1e-3 * float(first_image(problem).abs().max()))
    m = problem.y.numel()
    assert misfit(found) / 2 + float(tv(found)) / m <= (misfit(x0) / 2 + float(tv(x0)) / m) * (1 + 1e-4)


def test_restarts_take_the_lowest_or_the_mean(scan):
    problem = single(scan)
    settings = {"iterations": 6, "z": "noise", "weight": 0.0, "channels": (4, 4)}
    alone = torch.stack([prior(**settings, seed=seed)(problem) for seed in range(3)])
    misfit = ((problem.A(alone) - problem.y) ** 2 / problem.variance).sum((1, 2))
    lowest = prior(**settings, restarts=3)(problem)
    torch.testing.assert_close(lowest, alone[int(misfit.argmin())], rtol=0, atol=0)
    mean = prior(**settings, restarts=3, combine="mean")(problem)
    torch.testing.assert_close(mean, alone.mean(0), rtol=1e-6, atol=1e-6)


def test_backtracking_returns_to_the_last_safe_weights(scan):
    problem = single(scan)
    found, _ = values(problem, iterations=40, learning_rate=1.0, weight=0.0, backtrack=True)
    safe, jumps = found[0], 0
    assert len(found) < SAFE_EVERY
    for before, after in pairwise(found):
        if before > JUMP * safe:
            jumps += 1
            assert after == pytest.approx(safe, rel=1e-6)
    assert jumps


def test_backtracking_does_not_lock_up(scan):
    """At a rate whose first step is itself a jump the fit goes on, with smaller steps."""
    settings = {"learning_rate": 0.06, "schedule": "constant", "clip": None, "weight": 0.0}
    found, _ = values(single(scan), iterations=100, backtrack=True, **settings)
    assert found[1] > JUMP * found[0] and min(found) < 0.5 * found[0]


def test_backtracking_that_leads_nowhere_says_so(scan):
    with pytest.raises(ValueError, match="after 10 returns to safe weights; lower learning_rate"):
        prior(iterations=40, learning_rate=1e30, clip=None, backtrack=True)(single(scan))


def test_a_nan_is_named(scan):
    class Broken(SquaredL2):
        def forward(self, x):
            return super().forward(x) * math.nan

    with pytest.raises(ValueError, match="prior is NaN or inf at iteration 0"):
        prior(iterations=2, prior=Broken())(single(scan))


@pytest.mark.parametrize(
    "arguments",
    [
        {"network": "transformer"},
        {"z": "ones"},
        {"network": "conv-decoder", "z": "data"},
        {"objective": "mean-square"},
        {"bounds": (1.0, 0.0)},
        {"smooth": 1.0},
        {"restarts": 0},
        {"likelihood": "exact"},
        {"tv": "weak"},
        {"schedule": "linear"},
        {"precision": "float16"},
    ],
)
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="DeepImagePrior"):
        DeepImagePrior(**arguments)


def test_one_dimensional_images_and_uneven_decoders_are_refused(scan):
    y = torch.zeros(7)
    with pytest.raises(ValueError, match="images or volumes"):
        DeepImagePrior()(Problem(Identity((7,)), y, Gaussian(sigma=1.0, data_ndim=1)))
    with pytest.raises(ValueError, match="one width"):
        prior(network="conv-decoder", channels=(4, 8))(single(scan))


@pytest.mark.parametrize(
    "settings",
    [{}, {"network": "hourglass", "channels": (16, 16), "skips": (4,)}],
    ids=["unet", "hourglass"],
)
def test_bfloat16_networks_find_as_good_an_image_of_float32(scan, settings):
    problem, truth = scan
    found = {p: prior(precision=p, **settings)(problem) for p in ("float32", "bfloat16")}
    errors = {p: float((x - truth).norm() / truth.norm()) for p, x in found.items()}
    assert all(x.dtype == torch.float32 for x in found.values())
    assert not torch.equal(*found.values())
    assert errors["bfloat16"] < 1.15 * errors["float32"] + 0.01
