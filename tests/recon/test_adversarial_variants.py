"""Local and convex critics, λ in closed form, stops without the truth, rankings, bad input."""

import math
from dataclasses import replace

import pytest
import torch

from operators import Gaussian, ParallelBeam, XRay
from operators.simple import Identity
from operators.tensors import inner, squared_norm
from priors import TV, ConvexRegulariser, NonNegative
from priors.networks.critic import LocalCritic
from priors.networks.icnn import InputConvexNetwork
from priors.networks.seeds import seeded
from recon import (
    AdversarialRegularisation,
    ConvexAdversarialRegularisation,
    LocalAdversarialRegularisation,
    Problem,
    VariationalReconstruction,
    gradient_descent,
    nmapg,
    run,
)
from recon.adversarial import data_term
from recon.data.sets import PairedData, SimulatedPairs
from recon.learned import TrainedFor
from recon.solvers import trace

GEOMETRY = ParallelBeam((16, 16), 1.0, [(k + 0.5) * math.pi / 8 for k in range(8)], 23, 1.0)


def boxes(seeds):
    images = torch.zeros(len(seeds), 32, 32)
    for image, seed in zip(images, seeds, strict=True):
        g = torch.Generator().manual_seed(seed)
        top, left = (int(k) for k in torch.randint(4, 16, (2,), generator=g))
        image[top : top + 10, left : left + 12] = 0.5 + 0.5 * torch.rand((), generator=g)
    return images


PAIRS = SimulatedPairs(GEOMETRY, Gaussian(relative=0.1), boxes, validation_size=8, name="boxes")
FAST = {"optimizer": "adam", "beta1": 0.5, "beta2": 0.9, "batch_size": 8, "validate_every": 60}


@pytest.fixture(scope="module")
def local():
    method = LocalAdversarialRegularisation(
        channels=(8, 8), detail=0.1, learning_rate=3e-3, steps=60, start_steps=2, filter="ram-lak", **FAST
    )
    return method.fit(PAIRS.unpaired())


@pytest.fixture(scope="module")
def convex():
    method = ConvexAdversarialRegularisation(
        layers=2, width=4, kernel=3, filters=6, bank=3, sparsity=1.0, detail=0.1, learning_rate=1e-2,
        steps=60, start_steps=2, filter="ram-lak", tolerance=1e-4, iterations=100, **FAST,
    )  # fmt: skip
    return method.fit(PAIRS.unpaired())


def error(method):
    problem, truth = PAIRS.validation
    scale = method.trained_for.image_scale
    start = scale * method.start(problem.A, problem.linear / scale)
    made, naive = ((x - truth).square().mean() for x in (method(problem), start))
    return float(made / naive)


@pytest.mark.parametrize("name", ["local", "convex"])
def test_critics_learn_rank_and_help(name, request):
    method = request.getfixturevalue(name)
    ranks = method.record["ranks truth below"]
    # between different images a convex one, much like an L1 norm, mostly sees their contrast
    assert ranks["naive"]["share"] >= (0.9 if name == "local" else 0.6)
    assert ranks["naive"]["same_image"] == 1.0
    assert set(ranks["total variation"]) == {"share", "same_image", "gap"}
    assert 0 <= ranks["total variation"]["share"] <= 1
    # ‖∇Ψ‖ is held near 1 by the penalty, so that the gap is at most about the distance
    assert 0.05 < ranks["naive"]["gap"] < 1.3 and "warning" not in method.record
    assert error(method) < 0.8


def test_ranking_counts_pairs(local):
    problem, truth = PAIRS.validation
    same = local.ranking(PAIRS, truth)
    psi = local.prior(truth / local.trained_for.image_scale)
    share = (psi[:, None] < psi[None]).float().mean()
    assert (same.share, same.same_image, same.gap) == (pytest.approx(float(share)), 0.0, 0.0)
    scale = local.trained_for.image_scale
    naive = scale * local.start(problem.A, problem.linear / scale)
    assert local.ranking(PAIRS, naive).gap == pytest.approx(local.ranking(PAIRS).gap)
    assert local.ranking(PAIRS, local).share <= local.ranking(PAIRS).share
    with pytest.raises(ValueError, match="ranking other"):
        local.ranking(PAIRS, truth[:, :5])


def test_local_critic_is_local_and_fits_any_size():
    with seeded(0):
        psi = LocalCritic((5, 4, 4, 4, 4, 4)).double()
    assert psi.field == 15
    x = torch.randn(1, 25, 23, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    far, near = x.clone(), x.clone()
    far[0, 0, 0] += 1
    near[0, 10, 12] += 1
    change = psi.convolutions(torch.nn.functional.pad(far - x, (7,) * 4)[:, None])
    flat = psi.convolutions(torch.zeros(1, 1, 39, 37, dtype=torch.float64))
    seen = (change - flat)[0, 0].abs() > 0
    assert bool(seen[:8, :8].all()) and not bool(seen[8:].any()) and not bool(seen[:, 8:].any())
    # the same patches anywhere: a pattern moved within zeros has the same verdict
    small = torch.zeros(2, 40, 40, dtype=torch.float64)
    small[0, 15:20, 15:20], small[1, 20:25, 17:22] = x[0, :5, :5], x[0, :5, :5]
    torch.testing.assert_close(psi(small)[0], psi(small)[1])


def test_estimated_weight_is_its_closed_form_on_white_noise():
    """A = identity on N pixels: E‖n‖ = σ √2 Γ((N+1)/2)/Γ(N/2); and any A: E‖A*n‖² = σ² ‖A‖_F²."""
    sigma, scale = 0.3, 2.0
    A = Identity((5, 5))
    method = LocalAdversarialRegularisation(channels=(2,))
    method.build(TrainedFor((5, 5), (5, 5), repr(A), "", 1.0, scale))
    method.any_geometry = True
    images = torch.zeros(20_000, 5, 5, dtype=torch.float64)
    estimate = method.estimated_weight(Problem(A, images, Gaussian(sigma=sigma)), images)
    closed = sigma / scale * math.sqrt(2) * math.exp(math.lgamma(13) - math.lgamma(12.5))
    # ‖n‖ of 25 pixels spreads by 14 %: the mean of 20 000 by 0.1 %, of which four
    assert estimate == pytest.approx(closed, rel=4e-3)

    A = XRay(GEOMETRY)
    size = A.norm()
    method.build(TrainedFor(A.in_shape, A.out_shape, repr(A), "", size, scale))
    images = torch.zeros(500, 16, 16, dtype=torch.float64)
    y = torch.zeros(500, *A.out_shape, dtype=torch.float64)
    estimate = method.estimated_weight(Problem(A, y, Gaussian(sigma=sigma)), images)
    unit = torch.eye(256, dtype=torch.float64).reshape(256, 16, 16)
    frobenius = float(A(unit).norm())
    bound = sigma * frobenius / (size**2 * scale)
    # E‖·‖ is below (E‖·‖²)^½ by 1 − Var/2E², 2 % at most for a spread of 0.2
    assert 0.97 * bound < estimate < bound


def test_convex_one_has_one_minimiser(convex):
    """Two starts, and two solvers; midpoint convexity; a monotone gradient. In float64."""
    prior, scanner = convex.prior.double(), convex.trained_for
    g = torch.Generator().manual_seed(0)
    x, z = 0.5 * torch.randn(2, 50, 16, 16, generator=g, dtype=torch.float64)
    assert bool((prior((x + z) / 2) <= (prior(x) + prior(z)) / 2 + 1e-10).all())
    assert bool((inner(prior.grad(x) - prior.grad(z), x - z, 2) >= -1e-10).all())

    problem, _ = PAIRS.validation
    y = problem.linear[:2].double() / scanner.image_scale
    # a tenth of the identity, as more views would, so that the minimiser is found soon
    objective = data_term(problem.A, y, scanner.norm) + float(convex.weight) * prior
    objective = objective + 0.1 * data_term(Identity((16, 16)), convex.start(problem.A, y), 1.0)
    found = [
        run(nmapg(objective, NonNegative(), x[:2]), 300, 1e-6),
        run(nmapg(objective, NonNegative(), torch.zeros_like(x[:2])), 300, 1e-6),
    ]
    # 0.1-strongly convex: a residual of 1e-6 of a slope of some 5 leaves 5e-5, of each
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)
    convex.prior.float()


def test_backtracking_never_rises(local):
    problem, _ = PAIRS.validation
    steady = LocalAdversarialRegularisation(local.config, solver="backtracking")
    steady.build(local.trained_for)
    steady.load_state_dict(local.state_dict())
    steady = steady.double()
    y = problem.linear[:3].double() / local.trained_for.image_scale
    values = [v for _, v, _ in trace(steady.iterates(problem.A, y), 30).history]
    steps = torch.stack(values).detach().diff(dim=0)
    assert bool((steps <= 1e-12).all()) and float(steps[0].max()) < 0


def test_discrepancy_stops_where_it_says_and_per_image(local):
    problem, _ = PAIRS.validation
    variance = problem.variance.expand_as(problem.linear)

    def misfit(x):
        return ((problem.A(x) - problem.linear).square() / variance).flatten(1).mean(1)

    scale = local.trained_for.image_scale
    before = misfit(scale * local.start(problem.A, problem.linear / scale))
    free = misfit(local(problem))
    target = 0.5 * float(before.mean() + free.mean())
    stopping = LocalAdversarialRegularisation(local.config, discrepancy=target)
    stopping.build(local.trained_for)
    stopping.load_state_dict(local.state_dict())
    x = stopping(problem)
    after = misfit(x)
    crosses = (before > target) != (free > target)
    assert bool(crosses.any())
    # each crossed, by no more than one step of fifty
    assert bool(((after > target) != (before > target))[crosses].all())
    assert bool(((after - target).abs() < (before - free).abs() / 5)[crosses].all())
    i = int(crosses.int().argmax())
    alone = stopping(Problem(problem.A, problem.y[i], problem.noise.select(i)))
    torch.testing.assert_close(alone, x[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["local", "convex"])
def test_total_variation_and_a_critic_in_one_call(name, request):
    """0.3·TV + Ψ: one functional, one solver; the objective is as said and falls, the image is better."""
    trained = request.getfixturevalue(name)
    problem, truth = PAIRS.validation
    problem, truth = Problem(problem.A, problem.y[:2], problem.noise.select(slice(0, 2))), truth[:2]
    tv, psi = TV((16, 16)), trained.prior
    method = VariationalReconstruction(0.3 * tv + psi, weight=5.0, iterations=4)
    assert method.solver == "nmapg"
    found = method.solve(problem)
    sigma = problem.variance.expand_as(problem.linear).flatten(1).mean(1).sqrt()
    d = lambda v: (problem.A(v) - problem.linear).square().sum((-2, -1)) / (2 * sigma**2)  # noqa: E731
    total = lambda v: d(v) + 5 * (0.3 * tv(v) + psi(v))  # noqa: E731
    torch.testing.assert_close(found.objective, total(found.x), rtol=1e-4, atol=1e-4)
    naive = trained.start(problem.A, problem.linear)
    assert bool((found.objective < total(naive)).all())
    assert (found.x - truth).square().mean() < (naive - truth).square().mean()


def test_rollout_shows_the_critic_its_own_iterates():
    method = LocalAdversarialRegularisation(channels=(3,), rollout=3, steps=2, batch_size=2, step=0.5)
    method.fit(PAIRS.unpaired())
    problem, _ = PAIRS.validation
    y = problem.linear / method.trained_for.image_scale
    naive = method.start(problem.A, y)
    steps = torch.randint(4, (8,), generator=torch.Generator().manual_seed(5))
    x = method._descended(problem.A, y, naive, float(method.weight), torch.Generator().manual_seed(5))
    for i, n in enumerate(steps.tolist()):
        alone = data_term(problem.A, y[i], method.trained_for.norm) + float(method.weight) * method.prior
        expected = run(gradient_descent(alone, naive[i], 0.5, NonNegative()), n)
        torch.testing.assert_close(x[i], expected, rtol=1e-4, atol=1e-5)
    assert len(set(steps.tolist())) > 1


def test_a_critic_that_learned_nothing_is_marked():
    tiny = {"channels": (4,), "strides": (2,), "width": 4, "steps": 1, "learning_rate": 1e-12}
    untrained = AdversarialRegularisation(**tiny).fit(PAIRS.unpaired())
    assert "collapsed" in untrained.record["warning"]


@pytest.mark.parametrize("cls", [LocalAdversarialRegularisation, ConvexAdversarialRegularisation])
def test_saved_and_loaded(cls, tmp_path):
    method = cls.examples()[1].fit(PAIRS.unpaired())
    again = cls.load(method.save(tmp_path / "weights"))
    problem, _ = PAIRS.validation
    torch.testing.assert_close(again(problem), method(problem))
    assert again.record["ranks truth below"] == method.record["ranks truth below"]


def test_convex_starts_from_the_weights_it_says():
    c = ConvexAdversarialRegularisation(sparsity=0.7, square=1e-3, layers=1, width=1)
    with seeded(0):
        prior = c.critic((8, 8))
    expected = torch.tensor([0.7, 1e-3])
    torch.testing.assert_close(torch.nn.functional.softplus(prior.weights.detach()), expected)
    with seeded(0):
        steep = replace(c.config, sparsity=100.0)
        steep = ConvexAdversarialRegularisation(steep).critic((8, 8)).weights.detach()
    torch.testing.assert_close(torch.nn.functional.softplus(steep), torch.tensor([100.0, 1e-3]))
    paper = torch.nn.functional.softplus(ConvexRegulariser(InputConvexNetwork(1, 1, 1, 1)).weights.detach())
    default = ConvexAdversarialRegularisation().config
    torch.testing.assert_close(torch.tensor([default.sparsity, default.square]), paper, rtol=1e-3, atol=0)


def pairs_of(truth, validation=None):
    A = XRay(GEOMETRY)
    make = lambda x: (Problem(A, A(x.nan_to_num()), Gaussian(sigma=0.1)), x)  # noqa: E731
    return PairedData(make(truth), make(torch.ones(2, 16, 16) if validation is None else validation))


def test_bad_input():
    tiny = LocalAdversarialRegularisation.examples()[0]
    bad = torch.ones(4, 16, 16)
    bad[3, 2, 2] = math.nan
    for make, text in (
        (lambda: tiny.fit(pairs_of(torch.ones(1, 16, 16)).unpaired()), "no unpaired images"),
        (lambda: tiny.fit(pairs_of(bad).unpaired()), "NaN"),
        (lambda: tiny.fit(pairs_of(torch.ones(4, 16, 16), bad[2:]).unpaired()), "NaN"),
        (lambda: tiny.fit(PAIRS), "unpaired"),
        (lambda: pairs_of(torch.ones(2, 17, 16)), "shape|17"),
        (lambda: replace(tiny.config, solver="newton"), "solver"),
        (lambda: replace(tiny.config, discrepancy=-1.0), "discrepancy"),
        (lambda: replace(tiny.config, detail=0.0), "detail"),
        (lambda: replace(tiny.config, penalty=-5.0), "penalty: expected at least 0"),
        (lambda: replace(tiny.config, tolerance=math.nan), "tolerance: expected at least 0"),
        (lambda: replace(tiny.config, filter="hannn"), "filter: expected one of"),
        (lambda: replace(tiny.config, channels=()), "channels"),
        (lambda: ConvexAdversarialRegularisation(square=0.0), "square"),
        (lambda: ConvexAdversarialRegularisation(layers=0), "layers"),
    ):
        with pytest.raises(ValueError, match=text):
            make()


def test_strong_convexity_of_the_sum(convex):
    """Ψ of the method has the μ it was given to learn from: h = Ψ − ½μ‖·‖² is convex too."""
    prior = convex.prior.double()
    mu = prior.strong_convexity
    g = torch.Generator().manual_seed(1)
    x, z = torch.randn(2, 30, 16, 16, generator=g, dtype=torch.float64)
    h = lambda v: prior(v) - 0.5 * mu * squared_norm(v, 2)  # noqa: E731
    assert mu > 0 and bool((h((x + z) / 2) <= (h(x) + h(z)) / 2 + 1e-9).all())
    convex.prior.float()
