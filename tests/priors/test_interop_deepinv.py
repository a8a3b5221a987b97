"""deepinv's priors, denoisers and fidelities as functionals, in our solvers."""

import math
import warnings

import pytest
import torch

from operators import ParallelBeam, XRay
from priors import L1, TV, Functional, HuberTV, SquaredL2
from priors.interop import from_deepinv_denoiser, from_deepinv_fidelity, from_deepinv_prior
from priors.testing import check
from recon import fista, pdhg, run

pytest.importorskip("deepinv")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import deepinv


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    "prior", [deepinv.optim.L1Prior(), deepinv.optim.Tikhonov(), deepinv.optim.ZeroPrior()], ids=repr
)
def test_closed_forms_keep_the_contract(prior):
    check(from_deepinv_prior(prior), (4, 5))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (deepinv.optim.L1Prior(), L1()),
        (deepinv.optim.Tikhonov(), SquaredL2()),
        (deepinv.optim.TVPrior(n_it_max=3000), TV((6, 7))),
    ],
    ids=["l1", "tikhonov", "tv"],
)
def test_values_and_proximal_points_are_those_of_ours(theirs, ours):
    f, x = from_deepinv_prior(theirs), random(3, 6, 7)
    torch.testing.assert_close(f(x), ours(x), rtol=1e-12, atol=1e-12)
    steps = torch.tensor([0.3, 1.0, 0.05], dtype=torch.float64)
    # deepinv's TV stops when an iterate moves by 1e-8 of itself
    torch.testing.assert_close(f.prox(x, steps), ours.prox(x, steps), rtol=0, atol=2e-3)


def test_nothing_is_remembered_and_every_image_goes_by_itself():
    """deepinv's TV starts from its last call, and stops by the whole batch; not here."""
    f, x = from_deepinv_prior(deepinv.optim.TVPrior(n_it_max=20)), random(6, 7)
    alone = f.prox(x, 0.5)
    f.prox(5 * random(6, 7).flip(0), 2.0)
    assert torch.equal(f.prox(x, 0.5), alone)
    beside = f.prox(torch.stack([x, 50 * x]), torch.tensor([0.5, 3.0], dtype=torch.float64))
    assert torch.equal(beside[0], alone)


def test_their_total_variation_in_our_solver_is_ours():
    geometry = ParallelBeam((12, 12), 1.0, [math.pi * k / 8 for k in range(8)], 17, 1.0)
    A, truth = XRay(geometry), torch.zeros(12, 12, dtype=torch.float64)
    truth[3:8, 4:9] = 1.0
    b = A(truth) + 0.1 * random(*A.out_shape)
    start, f = torch.zeros_like(truth), SquaredL2(b) @ A
    theirs = 0.5 * from_deepinv_prior(deepinv.optim.TVPrior(n_it_max=80))
    L = 1.05 * A.norm() ** 2
    x = run(fista(f, theirs, L, start), 60)
    ours = run(pdhg([f, TV((12, 12), weight=0.5)], None, start), 2000, 1e-7)
    objective = lambda z: float(f(z) + TV((12, 12), weight=0.5)(z))  # noqa: E731
    # 60 steps of an accelerated method whose prox is inexact
    assert objective(x) == pytest.approx(objective(ours), rel=1e-3)


@pytest.mark.parametrize(
    ("theirs", "ours", "u"),
    [
        (deepinv.optim.L2(sigma=2.0), lambda y: SquaredL2(y, weight=0.25), random(4, 5)),
        (deepinv.optim.L1(), lambda y: L1(y), random(4, 5)),
    ],
    ids=["l2", "l1"],
)
def test_fidelities_are_functionals_of_data(theirs, ours, u):
    y = random(2, 4, 5) + 1
    f, g = from_deepinv_fidelity(theirs, y), ours(y)
    u = torch.stack([u, 2 * u])
    torch.testing.assert_close(f(u), g(u), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(f.prox(u, 0.7), g.prox(u, 0.7), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(f.prox_conj(u, 0.7), g.prox_conj(u, 0.7), rtol=1e-10, atol=1e-10)


def test_l2_keeps_the_contract():
    check(from_deepinv_fidelity(deepinv.optim.L2(sigma=0.5), random(4, 5)), (4, 5))


def test_a_batch_does_not_add_up_deepinvs_poisson_likelihood():
    y, u = random(2, 4, 5).abs() + 1, random(2, 4, 5).abs() + 1
    f = from_deepinv_fidelity(deepinv.optim.PoissonLikelihood(), y)
    expected = (u - y - y * torch.log(u)).sum((-2, -1))
    torch.testing.assert_close(f(u), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(f.grad(u), 1 - y / u, rtol=1e-12, atol=1e-12)
    # deepinv itself, at 0.5.0, adds the logarithms of the whole batch to every value
    assert not torch.allclose(deepinv.optim.PoissonLikelihood().d(u[:, None], y[:, None]), expected)


def test_gradients_are_those_of_our_smooth_total_variation():
    delta = 0.3
    prior = deepinv.optim.Prior(g=lambda x, *_: HuberTV((5, 6), delta=delta)(x[:, 0]))
    f, x = from_deepinv_prior(prior), random(2, 5, 6)
    torch.testing.assert_close(f.grad(x), HuberTV((5, 6), delta=delta).grad(x), rtol=1e-10, atol=1e-10)
    assert not x.requires_grad and not f.grad(x).requires_grad


class Shrink(deepinv.models.base.Denoiser):
    """D(x; σ) = ½ + (x − ½)/(1 + σ²): the exact proximal point of a quadratic about ½."""

    def forward(self, x, sigma, **_):
        sigma = torch.as_tensor(sigma).reshape(-1, *(1,) * (x.ndim - 1))
        return 0.5 + (x - 0.5) / (1 + sigma**2)


def test_a_denoiser_removes_the_noise_of_its_step():
    """√step in the units of the image: the range 0 to 2 becomes 0 to 1, and σ with it."""
    f, x = from_deepinv_denoiser(Shrink(), data_range=(0.0, 2.0)), random(2, 4, 5)
    step = torch.tensor([0.4, 2.0], dtype=torch.float64)
    expected = 1 + (x - 1) / (1 + step.reshape(2, 1, 1) / 4)
    torch.testing.assert_close(f.prox(x, step), expected)
    fixed = from_deepinv_denoiser(Shrink(), sigma=1.0, data_range=(0.0, 2.0))
    torch.testing.assert_close(fixed.prox(x, 7.0), 1 + (x - 1) / 1.25)
    torch.testing.assert_close(fixed.grad(x), x - fixed.prox(x, 0.1))
    assert f(x).isnan().all() and f(x).shape == (2,)
    with pytest.raises(ValueError, match="needs a fixed σ"):
        f.grad(x)


def test_plug_and_play_in_our_solver():
    """Proximal gradients with a denoiser that is a prox: the minimiser in closed form."""
    y = random(4, 5)
    f = from_deepinv_denoiser(Shrink(), sigma=1.0)
    x = run(fista(SquaredL2(y), f, 1.0, torch.zeros_like(y)), 100)
    assert isinstance(f, Functional)
    torch.testing.assert_close(x, 0.5 + (y - 0.5) / 2, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: from_deepinv_prior(deepinv.optim.PnP(Shrink())), "PnP has no value"),
        (lambda: from_deepinv_denoiser(Shrink(), data_range=(1.0, 0.0)), "low < high"),
        (lambda: from_deepinv_denoiser(Shrink(), sigma=0.0), "positive number or None"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
