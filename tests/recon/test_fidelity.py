"""Data terms: the contract of functionals, brute force, and which one belongs to a problem."""

import math

import pytest
import torch

from operators import Gaussian, Identity, LowDose, NoiseModel, Poisson
from priors.testing import check
from recon.fidelity import (
    PWLS,
    HuberFidelity,
    KullbackLeibler,
    L1Fidelity,
    LeastSquares,
    TransmissionPoisson,
    matching,
    unweighted,
    weighted,
)
from recon.problem import Problem

ALL = [LeastSquares, PWLS, L1Fidelity, HuberFidelity, TransmissionPoisson]


@pytest.mark.parametrize(
    ("f", "shape"),
    [pytest.param(*e, id=f"{c.__name__}-{i}") for c in ALL for i, e in enumerate(c.examples())],
)
def test_contract(f, shape):
    check(f, shape)


def kl(b=0.5, s=2.0):
    y = torch.tensor([[0.0, 3.0, 1.0], [7.0, 0.0, 20.0]], dtype=torch.float64)
    return KullbackLeibler(y, background=b, scale=s)


def brute_prox(f, x, step, low, high):
    """argmin of ½(z − x)² + step·f(z), f a sum over entries, by golden sections per entry."""
    low, high = torch.full_like(x, low), torch.full_like(x, high)
    shrink = (math.sqrt(5) - 1) / 2
    alone = type(f).forward

    def cost(z):
        # one entry at a time: the others do not matter to where its minimum is
        values = torch.empty_like(z)
        for i in range(z.numel()):
            moved = x.clone().flatten()
            moved[i] = z.flatten()[i]
            values.view(-1)[i] = 0.5 * ((moved - x.flatten())[i]) ** 2 + step * alone(
                f, moved.reshape(x.shape)
            )
        return values

    for _ in range(70):
        a, b = high - shrink * (high - low), low + shrink * (high - low)
        left = cost(a) < cost(b)
        low, high = torch.where(left, low, a), torch.where(left, b, high)
    return (low + high) / 2


@pytest.mark.parametrize("step", [0.01, 1.0, 30.0])
def test_kl_prox_by_brute_force(step):
    f = kl()
    x = torch.tensor([[0.1, 2.0, 5.0], [0.3, 1.0, 4.0]], dtype=torch.float64)
    z = f.prox(x, step)
    assert (2 * z + 0.5 >= 0).all()
    # golden sections see differences of the cost above rounding only: √eps
    torch.testing.assert_close(z, brute_prox(f, x, step, -0.25 + 1e-12, 60.0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("background", [0.0, 0.5])
@pytest.mark.parametrize("step", [1e-3, 0.05, 1.0])
def test_transmission_prox_by_brute_force(step, background):
    y = torch.tensor([[0.0, 3.0, 1.0], [7.0, 60.0, 20.0]], dtype=torch.float64)
    f = TransmissionPoisson(y, i0=50.0, background=background)
    x = torch.tensor([[0.1, 2.0, 5.0], [0.3, 0.0, 1.0]], dtype=torch.float64)
    low, high = float((x - step * y).min()), 12.0
    torch.testing.assert_close(f.prox(x, step), brute_prox(f, x, step, low, high), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transmission_prox_is_finite_for_wild_points(dtype):
    y = torch.tensor([[0.0, 1.0, 1e6]], dtype=dtype)
    f = TransmissionPoisson(y, i0=1e6)
    for x in (-50.0, 0.0, 80.0):
        for step in (1e-8, 1.0, 1e4):
            assert f.prox(torch.full_like(y, x), step).isfinite().all()


@pytest.mark.parametrize("f", [kl(), kl(0.5, 1.0)])
def test_kl_fenchel_young_with_equality_at_the_gradient(f):
    z = torch.rand(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    p = f.grad(z)
    assert (f(z) + f.conjugate(p)).item() == pytest.approx((z * p).sum().item(), rel=1e-12)
    other = p - 0.3
    assert f(z) + f.conjugate(other) > (z * other).sum()
    assert f.conjugate(p + 100) == math.inf


@pytest.mark.parametrize(
    "f", [kl(), TransmissionPoisson(torch.tensor([[3.0, 0.0, 9.0]], dtype=torch.float64), 20.0, 0.7)]
)
def test_gradients_are_those_of_autograd(f):
    z = torch.rand(f.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = (z + 0.2).requires_grad_()
    torch.testing.assert_close(
        f.grad(z.detach()), torch.autograd.grad(f(z).sum(), z)[0], rtol=1e-11, atol=1e-12
    )


def test_likelihoods_are_zero_at_their_best_and_infinite_outside():
    f = kl()
    assert f((f.y - 0.5) / 2).abs() < 1e-12
    assert f(torch.full((2, 3), -1.0, dtype=torch.float64)) == math.inf
    y = torch.tensor([[5.0, 9.0]], dtype=torch.float64)
    assert TransmissionPoisson(y, 20.0)(-(y / 20).log()).abs() < 1e-12


def test_matching_follows_the_noise_model():
    A = Identity((2, 3))
    y = torch.tensor([[5.0, -2.0, 9.0], [4.0, 3.0, 1.0]], dtype=torch.float64)
    z = torch.rand(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gauss = matching(Problem(A, y, Gaussian(sigma=0.3)))
    assert gauss(z).item() == pytest.approx(float(((z - y) ** 2).sum() / 2 / 0.09))
    dose = matching(Problem(A, y, LowDose(i0=20.0, electronic_sigma=3.0, background=1.0)))
    law = torch.distributions.Poisson(20 * (-z).exp() + 10)
    counts = (y + 9).clamp(min=0)
    told = dose(z) - dose(0 * z)
    truth = law.log_prob(counts).sum() - torch.distributions.Poisson(30 + 0 * z).log_prob(counts).sum()
    assert told.item() == pytest.approx(-truth.item())
    emission = matching(Problem(A, y.abs(), Poisson(scale=2.0, background=0.5)))
    assert isinstance(emission, KullbackLeibler)


def test_matching_says_when_it_knows_no_likelihood():
    class Unknown(NoiseModel):
        def draw(self, clean, generator):
            return clean

        def variance(self, y):
            return torch.ones_like(y)

    with pytest.raises(ValueError, match="matching: no likelihood"):
        matching(Problem(Identity((2, 3)), torch.ones(2, 3), Unknown()))


def test_weights_are_the_inverse_variance_and_one_sigma_keeps_the_mean():
    A = Identity((2, 3))
    y = torch.full((2, 2, 3), 50.0, dtype=torch.float64)
    y[1] *= 4
    problem = Problem(A, y, LowDose(i0=1000.0))
    torch.testing.assert_close(weighted(problem).weight, y)
    assert unweighted(problem).weight.flatten().tolist() == pytest.approx([50.0, 200.0])


def test_complex_noise_has_half_the_variance_in_each_part():
    y = torch.ones(2, 3, dtype=torch.complex128)
    problem = Problem(Identity((2, 3)), y, Gaussian(sigma=0.5))
    assert matching(problem)(torch.zeros_like(y)).item() == pytest.approx(6 / 0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: LeastSquares(y, sigma=0.0),
        lambda y: PWLS(y, torch.zeros_like(y)),
        lambda y: KullbackLeibler(-y),
        lambda y: TransmissionPoisson(-y, 10.0),
        lambda y: TransmissionPoisson(y, 0.0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="expected"):
        make(torch.ones(2, 3))
