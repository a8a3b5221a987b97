"""Hypergradients against unrolling, differences and closed forms; training on denoising and on problems."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from operators import Gaussian, ParallelBeam, XRay
from operators.simple import Identity
from priors import (
    ConvexRegulariser,
    ConvexRidge,
    Functional,
    GradientStepDenoiser,
    SquaredL2,
    TotalDeepVariation,
    Tuned,
    WeaklyConvexRidge,
)
from priors.networks.drunet import DRUNet
from priors.networks.icnn import InputConvexNetwork
from priors.networks.seeds import seeded
from recon import FBP, METHODS, LearnedPriorReconstruction, Problem
from recon.bilevel import BilevelConfig, LowerLevel, Tally, train_bilevel
from recon.data import SimulatedPairs, SyntheticMRI
from recon.denoising import CleanImages
from recon.solvers import minres, run, trace
from recon.variational.learned_prior import compass

N = 6
QUICK = LowerLevel(50, 1e-3, linear_iterations=20, linear_tolerance=1e-2)
EXACT = LowerLevel(400, 1e-11, linear_iterations=200, linear_tolerance=1e-11)


class Encoded(Functional):
    """Σ √(h² + 0.01), h = a small network's code of x: as NETT."""

    def __init__(self):
        super().__init__()
        self.code = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Softplus(), nn.Conv2d(3, 2, 3, padding=1))

    def forward(self, x):
        return (self.code(x[:, None]).square() + 0.01).sqrt().sum((1, 2, 3))


def prior(name):
    with seeded(1):
        f = {
            "crr": lambda: ConvexRidge((1, 2, 4), 3, 7, reach=1.0),
            "wcrr": lambda: WeaklyConvexRidge((1, 2, 4), 3, 7, reach=1.0, rho=1.0),
            "tdv": lambda: TotalDeepVariation(2, 2, 1),
            "convex": lambda: ConvexRegulariser(InputConvexNetwork(1, 2, 3, 3, 0.3), 1.0, 2, 3, 0.3),
            "lsr": lambda: GradientStepDenoiser(DRUNet(1, (2, 4), 1, "softplus")).potential(0.3),
            "nett": Encoded,
        }[name]()
    return Tuned(f, 0.5, 1.3).double()


PRIORS = ("crr", "wcrr", "tdv", "convex", "lsr", "nett")


def image(*batch, seed=0):
    return torch.randn(*batch, N, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scanner():
    angles = [math.pi * k / 8 for k in range(8)]
    return XRay(ParallelBeam((N, N), 1.0, angles, 11, 1.0))  # 88 data for 36 pixels: strictly convex


def data_term(A=None, count=2):
    y = image(count) if A is None else A(image(count))
    return SquaredL2(y + 0.1, 2.0) @ (A or Identity((N, N)))


def gradient(f, R, lower, truth, tally=None):
    x = lower.solve(f, R, torch.zeros_like(truth), tally)
    return dict(
        zip(
            dict(R.named_parameters()),
            torch.autograd.grad((x - truth).square().sum(), list(R.parameters()), allow_unused=True),
            strict=True,
        )
    )


def value(f, R, lower, truth):
    with torch.no_grad():
        return float((lower.solve(f, R, torch.zeros_like(truth)) - truth).square().sum())


@pytest.mark.parametrize("name", ["crr", "tdv"])
@pytest.mark.parametrize("measured", [False, True], ids=["denoising", "ct"])
def test_implicit_gradient_is_the_unrolled_one(name, measured):
    f, R, truth = data_term(scanner() if measured else None), prior(name), image(2, seed=1)
    f = f + 20 * SquaredL2()  # or too many steps would be needed
    x = torch.zeros_like(truth).requires_grad_()
    step = 1 / (float(f.lipschitz) + 2)
    for _ in range(150 if measured else 30):
        x = x - step * (f + R).grad(x)
    assert float((f + R).grad(x).detach().norm()) < 1e-8
    unrolled = torch.autograd.grad((x - truth).square().sum(), list(R.parameters()), allow_unused=True)
    implicit = gradient(f, R, EXACT, truth)
    for (key, a), b in zip(implicit.items(), unrolled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("bound", [False, True], ids=["free", "nonnegative"])
def test_implicit_gradient_is_that_of_differences(name, bound):
    lower = replace(EXACT, nonnegative=bound)
    f, R, truth = data_term(), prior(name), image(2, seed=1)
    if bound:
        x = lower.minimise(f, R, torch.zeros_like(truth)).last.x
        assert 0.2 < float((x == 0).double().mean()) < 0.8
    slopes = gradient(f, R, lower, truth)
    g = torch.Generator().manual_seed(5)
    direction = {k: torch.randn(p.shape, generator=g, dtype=p.dtype) for k, p in R.named_parameters()}
    expected = sum(float((slopes[k] * d).sum()) for k, d in direction.items() if slopes[k] is not None)
    h, values = 1e-5, []
    for move in (1, -2):
        for k, p in R.named_parameters():
            p.data += move * h * direction[k]
        values.append(value(f, R, lower, truth))
    # differences: h² of a third derivative, and the lower level's 1e-11 over h
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("solver", ["minres", "cg"])
def test_quadratic_prior_has_its_closed_form(solver):
    """x* = (1 + λσ²)⁻¹ y: dL/d log λ = −2λσ² ⟨x* − truth, x*⟩ / (1 + λσ²)."""
    lam, power, truth = 0.7, 2.0, image(3, seed=1)
    f, R = data_term(count=3), Tuned(SquaredL2(), lam).double()
    lam = R.weight
    lower = replace(EXACT, solver=solver)
    found = gradient(f, R, lower, truth)
    x = f.f.target * power / (power + lam)
    expected = -2 * lam / (power + lam) * ((x - truth) * x).sum()
    torch.testing.assert_close(found["log_weight"], expected, rtol=1e-9, atol=0)
    assert abs(float(found["log_scale"])) < 1e-9  # of degree 2: s cancels
    jfb = gradient(f, R, replace(EXACT, gradient="jfb"), truth)["log_weight"]
    # here the neglected part is one number, (σ⁻² + λ) in place of σ⁻²
    torch.testing.assert_close(jfb, expected * (power + lam) / power, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", PRIORS)
def test_jacobian_free_gradient_points_the_same_way(name):
    f, R, truth = data_term(), prior(name), image(2, seed=1)
    exact, free = (gradient(f, R, replace(EXACT, gradient=kind), truth) for kind in ("implicit", "jfb"))
    product = sum(float((exact[k] * free[k]).sum()) for k in exact if exact[k] is not None)
    assert product > 0


def test_gradient_to_the_data():
    """dx*/dy of a quadratic is the matrix (1 + λ/w)⁻¹."""
    y = image(1).requires_grad_()
    x = EXACT.solve(SquaredL2(y, 2.0), Tuned(SquaredL2(), 3.0).double(), torch.zeros_like(y.detach()))
    (slope,) = torch.autograd.grad(x.sum(), y)
    torch.testing.assert_close(slope, torch.full_like(y, 2 / 5), rtol=1e-6, atol=0)


def test_what_did_not_converge_is_counted():
    f, R, truth = data_term(), prior("tdv"), image(2, seed=1)
    hasty, tally = LowerLevel(3, 1e-8, linear_iterations=2, linear_tolerance=1e-8), Tally()
    for _ in range(2):
        gradient(f, R, hasty, truth, tally)
    assert (tally.solves, tally.unconverged, tally.iterations) == (4, 4, 12)
    assert (tally.linear_solves, tally.linear_unconverged, tally.linear_iterations) == (4, 4, 8)
    assert tally.worst > 1e-8 and tally.linear_worst > 1e-8
    patient = Tally()
    gradient(f, R, LowerLevel(200, 1e-8, linear_tolerance=1e-8), truth, patient)
    assert patient.unconverged == patient.linear_unconverged == 0 and 0 < patient.worst <= 1e-8
    with torch.no_grad():
        assert not hasty.solve(f, R, torch.zeros_like(truth)).requires_grad


def test_an_image_has_the_same_gradient_alone_and_in_a_batch():
    R, truth = prior("tdv"), image(3, seed=1)
    y = image(3) * torch.tensor([1.0, 50.0, 0.01], dtype=torch.float64)[:, None, None]

    def slope(k):
        x = EXACT.solve(SquaredL2(y[k], 2.0), R, torch.zeros_like(y[k]))
        return torch.autograd.grad((x - truth[k])[:1].square().sum(), R.prior.network.last)[0]

    torch.testing.assert_close(slope([0]), slope([0, 1, 2]), rtol=1e-7, atol=1e-10)


def test_a_jacobian_free_gradient_does_not_know_the_weights_of_other_images():
    R, y = prior("crr"), image(2)
    w = torch.tensor([1.0, 100.0], dtype=torch.float64)[:, None, None]

    def slope(f):
        x = replace(EXACT, gradient="jfb").solve(f, R, f.target)
        return torch.autograd.grad(x[0].square().sum(), R.log_weight)[0]

    torch.testing.assert_close(slope(SquaredL2(y, w)), slope(SquaredL2(y[:1], w[:1])), rtol=1e-7, atol=0)


def test_the_image_has_the_precision_of_the_data():
    data = pairs()
    method = LearnedPriorReconstruction(**(SMALL | {"iterations": 3}), steps=1).fit(data)
    problem = data.test[0]
    double = Problem(problem.A, problem.y.double(), problem.noise)
    assert method(double).dtype == torch.float64
    empty = Problem(problem.A, problem.y[:0].double(), Gaussian(sigma=1.0))
    assert method(empty).dtype == torch.float64


def test_minres():
    g = torch.Generator().manual_seed(0)
    Q = torch.randn(4, 9, 9, generator=g, dtype=torch.float64)
    H, b = Q + Q.mT, torch.randn(4, 9, generator=g, dtype=torch.float64)
    H[3, :, 4:] = H[3, 4:] = 0  # singular; b not in its range
    b[2] = 0
    A = lambda v: (H @ v[..., None])[..., 0]  # noqa: E731
    assert float(torch.linalg.eigvalsh(H[0]).min()) < 0 < float(torch.linalg.eigvalsh(H[0]).max())
    found = trace(minres(A, b, torch.zeros_like(b), 1), 12, 1e-12)
    x = found.last.x
    torch.testing.assert_close(A(x)[:2], b[:2], rtol=0, atol=1e-9)
    assert not bool(x[2].any()) and int(found.iterations[2]) == 0
    # least squares where there is no solution, which the residual says
    assert float(found.last.residual[3]) == pytest.approx(float(b[3, 4:].norm() / b[3].norm()), rel=1e-6)
    assert float((A(x) - b)[3].norm()) == pytest.approx(float(b[3, 4:].norm()), rel=1e-6)
    residuals = torch.stack([r for r, _, _ in found.history])
    assert bool((residuals.diff(dim=0) <= 1e-12).all())
    begun = torch.randn(4, 9, generator=g, dtype=torch.float64)
    torch.testing.assert_close(run(minres(A, b, begun, 1), 12, 1e-13)[:2], x[:2], rtol=1e-7, atol=1e-8)


def test_learns_the_best_weight_of_a_quadratic():
    """min_λ E‖y/(1 + λσ²) − x‖² is at λ = 1/mean x², whatever σ."""
    x = image(16)
    power = float(x[:-2].square().mean())
    R = Tuned(SquaredL2(), 10.0).double()
    config = BilevelConfig(steps=150, batch_size=14, learning_rate=0.1, lowest=0.8, highest=0.8)
    tally = Tally()
    train_bilevel(R, CleanImages(x), config, tally=tally)
    # noise of 150 averaged steps of 14 · 36 numbers
    assert R.weight == pytest.approx(1 / power, rel=0.05)
    assert tally.unconverged == 0 and tally.solves == 150 * 14


@pytest.mark.parametrize(
    "options", [{"lower": QUICK}, {"lower": replace(QUICK, gradient="jfb")}, {"score_matching": True}]
)
def test_learns_to_denoise(options):
    x = torch.zeros(32, 12, 12, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    for picture in x:
        top, left = (int(v) for v in torch.randint(1, 6, (2,), generator=g))
        picture[top : top + 5, left : left + 6] = 0.5 + 0.5 * float(torch.rand((), generator=g))
    with seeded(0):
        R = Tuned(TotalDeepVariation(4, 1, 1), 10.0).double()
    steps = 100 if options.get("score_matching") else 25
    config = BilevelConfig(steps=steps, batch_size=4, learning_rate=0.03, lowest=0.2, highest=0.2, **options)
    score = train_bilevel(R, CleanImages(x), config).scores[-1][1]
    assert score > -20 * math.log10(0.2) + 3  # 3 dB above doing nothing
    assert not any(p.requires_grad for p in R.parameters())


def boxes(seeds):
    images = torch.zeros(len(seeds), 24, 24)
    for picture, seed in zip(images, seeds, strict=True):
        g = torch.Generator().manual_seed(seed)
        top, left = (int(k) for k in torch.randint(2, 12, (2,), generator=g))
        picture[top : top + 8, left : left + 9] = 0.02 * (0.5 + torch.rand((), generator=g))
    return images


def pairs():
    geometry = ParallelBeam((12, 12), 1.0, [(k + 0.5) * math.pi / 6 for k in range(6)], 17, 1.0)
    return SimulatedPairs(geometry, Gaussian(relative=0.05), boxes, 6, 4, name="boxes")


SMALL = {"layers": (1, 2, 4), "iterations": 60, "tolerance": 1e-3, "batch_size": 4, "learning_rate": 0.1}


@pytest.mark.parametrize("training", ["bilevel", "denoising"])
def test_reconstructs_better_than_its_start_and_says_how_it_ended(training, tmp_path):
    data = pairs()
    steps = 12 if training == "bilevel" else 20
    method = LearnedPriorReconstruction(**SMALL, steps=steps, training=training, fit_solves=10).fit(data)
    problem, truth = data.test
    x = method(problem)
    error = [(v - truth).square().mean() for v in (x, FBP("hann")(problem))]
    assert float(error[0]) < 0.5 * float(error[1])
    assert float(x.min()) >= 0 and x.shape == truth.shape and not x.requires_grad
    lower = method.record["lower_level"]
    assert lower["solves"] == 4 * steps and 0 <= lower["unconverged"] <= lower["solves"]
    assert ("fitted" in method.record) == (training == "denoising")
    found = method.solve(problem)
    assert bool(((found.last.residual <= 1e-3) | (found.iterations == 60)).all())
    method.save(tmp_path / "weights")
    again = LearnedPriorReconstruction.load(tmp_path / "weights")
    assert torch.equal(again(problem), x) and again.record == method.record
    for k in (0, 3):
        alone = Problem(problem.A, problem.y[k], problem.noise.select(k))
        # float32, and an iteration that ends at a relative residual of 1e-3
        torch.testing.assert_close(method(alone), x[k], rtol=1e-3, atol=1e-5)
    assert method(Problem(problem.A, problem.y[:0], Gaussian(sigma=1.0))).shape == (0, 12, 12)


def test_the_weight_follows_the_dose():
    """The data term holds the noise: noise twice as strong is a quarter of its weight."""
    data = pairs()
    method = LearnedPriorReconstruction(**SMALL, steps=1).fit(data)
    problem = data.test[0]
    one, two = (method.data_term(Problem(data.A, problem.y, Gaussian(sigma=s))) for s in (0.01, 0.02))
    torch.testing.assert_close(one.f.weight, 4 * two.f.weight)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    data = pairs()
    options = SMALL | {"steps": 4, "checkpoint_every": 2, "iterations": 20}
    whole = LearnedPriorReconstruction(**options).fit(data)
    broken, path = LearnedPriorReconstruction(**options), tmp_path / "run.safetensors"

    def kill(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fit(data, checkpoint=path, callback=kill)
    resumed = LearnedPriorReconstruction(**options).fit(data, checkpoint=path)
    for (k, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), k
    # what the loop saved when it was interrupted is not done again, and counted in the other session
    assert resumed.record["lower_level"]["solves"] < 4 * 4


def test_complex_images():
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[:, ::2] = mask[:, 5:8] = True
    data = SyntheticMRI(mask, (12, 12), 2, validation_size=2, test_size=2)
    for options in ({}, {"prior": "tdv", "layers": (2, 2, 1)}, {"prior": "convex", "layers": (2, 3)}):
        method = LearnedPriorReconstruction(**(SMALL | {"steps": 2, "iterations": 30} | options)).fit(data)
        problem, truth = data.test
        x = method(problem)
        assert x.dtype == truth.dtype and bool(x.isfinite().all())
        assert method.trained_for.complex
    with pytest.raises(ValueError, match="prior='critic': for real images"):
        LearnedPriorReconstruction(prior="critic", layers=(2,)).fit(data)


@pytest.mark.parametrize(("name", "layers"), [("wcrr", (1, 2, 4)), ("lsr", (4, 6)), ("critic", (4, 4))])
def test_the_other_priors_train(name, layers):
    options = SMALL | {"layers": layers, "steps": 2, "iterations": 15, "learning_rate": 1e-3}
    method = LearnedPriorReconstruction(prior=name, **options).fit(pairs())
    assert METHODS["learned-prior-reconstruction"] is type(method)
    assert all(bool(p.isfinite().all()) for p in method.parameters())


def test_compass_finds_a_maximum():
    asked = []

    def hill(at):
        asked.append(at)
        return -((at[0] - 2.3) ** 2) - (at[1] + 1.1 - 0.5 * at[0]) ** 2

    best, highest, count = compass(hill, (0.0, 0.0), 1.0, 200)
    assert count == len(asked) == len(set(asked)) and highest == max(hill(a) for a in list(asked))
    # the last step was a sixteenth
    assert best[0] == pytest.approx(2.3, abs=0.15) and best[1] == pytest.approx(0.05, abs=0.15)
    assert compass(hill, (0.0, 0.0), 1.0, 1)[0] == (0.0, 0.0)


def test_bad_input():
    data = pairs()
    for make, text in (
        (lambda: LowerLevel(gradient="exact"), "gradient"),
        (lambda: LowerLevel(tolerance=-1.0), "tolerance"),
        (lambda: LearnedPriorReconstruction(prior="magic"), "prior: expected one of crr"),
        (lambda: LearnedPriorReconstruction(gradient="score"), "only for training='denoising'"),
        (lambda: LearnedPriorReconstruction(prior="tdv", layers=(2, 2, 1, 1, 9)).fit(data), "layers"),
        (lambda: LearnedPriorReconstruction()(data.test[0]), "not trained"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
