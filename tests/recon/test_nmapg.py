import math
from itertools import pairwise

import pytest
import torch

from operators import Gaussian, Mask, ParallelBeam, XRay
from operators.gradient import Gradient
from operators.simple import Identity
from operators.tensors import norm
from priors import (
    L21,
    TV,
    ConvexRidge,
    Functional,
    HuberTV,
    NonNegative,
    SquaredL2,
    WaveletL1,
    WeaklyConvexRidge,
)
from priors.base import Composed, Scaled
from priors.networks.seeds import seeded
from recon import FBP, Problem, VariationalReconstruction
from recon.fidelity import KullbackLeibler
from recon.solvers import fista, nmapg, run, trace
from recon.variational.combined import CommonProx, splits, summands

N = 8


class Wells(Functional):
    """Σ (x² − 1)²/4: minima at ±1, a maximum at 0."""

    def forward(self, x):
        return ((x.square() - 1).square() / 4).sum((-2, -1))

    def grad(self, x):
        return x**3 - x


def image(*batch, seed=0):
    return torch.randn(*batch, N, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ridge(rho=0.0):
    with seeded(0):
        f = WeaklyConvexRidge((1, 2, 4), 3, 7, reach=1.0, rho=rho)
    return f.double().requires_grad_(False)


def history(found):
    return torch.stack([objective for _, objective, _ in found.history])


@pytest.mark.parametrize("g", [None, NonNegative(), WaveletL1((N, N), "haar", 1)], ids=repr)
def test_agrees_with_fista_where_all_is_convex(g):
    A = Gradient((N, N))
    f = SquaredL2(image(3), ndim=2) @ Identity((N, N)) + 0.5 * (SquaredL2(ndim=3) @ A)
    L = 1 + 0.5 * 1.02 * A.norm() ** 2
    x = run(nmapg(f, g, image(3, seed=1)), 300, 1e-11)
    torch.testing.assert_close(x, run(fista(f, g, L, image(3)), 2000, 1e-13), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_reference_never_rises_and_the_objective_stays_below_it(memory):
    f = Wells() + 2 * ridge(1.0)
    values = history(trace(nmapg(f, WaveletL1((N, N), "haar", 1), 3 * image(4), memory=memory), 40))
    c, q = values[0], 1.0
    for value in values[1:]:
        assert bool((value <= c + 1e-12 * c.abs()).all())
        c_new = (memory * q * c + value) / (memory * q + 1)
        assert bool((c_new <= c + 1e-12 * c.abs()).all())
        c, q = c_new, memory * q + 1
    if memory == 0:
        assert bool((values[1:] <= values[:-1] + 1e-12).all())
    assert bool((values[-1] < 0.5 * values[0]).all())


def test_ends_in_critical_points_of_what_is_not_convex():
    x = run(nmapg(Wells(), None, image(5)), 200, 1e-10)
    torch.testing.assert_close(x.abs(), torch.ones_like(x), rtol=1e-6, atol=1e-6)


def test_an_image_is_the_same_alone_and_in_a_batch():
    f, g, x = Wells() + ridge(1.0), NonNegative(), image(3)
    x[1] *= 50
    together, alone = run(nmapg(f, g, x), 25), run(nmapg(f, g, x[0]), 25)
    torch.testing.assert_close(together[0], alone, rtol=1e-9, atol=1e-9)


def problem():
    clean = torch.zeros(2, N, N, dtype=torch.float64)
    clean[:, 2:6, 3:7] = 1
    return Problem(Identity((N, N)), clean + 0.2 * image(2), Gaussian(sigma=0.2))


def test_sums_of_learned_and_classical_priors():
    """TV + a network: the same minimiser as a sum, as a list, or by FISTA with a known bound."""
    R, huber = ridge(), HuberTV((N, N), delta=0.05)
    options = {"weight": 5.0, "iterations": 25, "tolerance": 1e-7}
    a = VariationalReconstruction(huber + 0.5 * R, **options)
    assert a.solver == "nmapg"
    p = problem()
    x = a(p)
    d = SquaredL2(p.y, 25.0) + 5.0 * (huber + 0.5 * R)
    slope = d.lipschitz
    expected = run(fista(d, NonNegative(), slope, p.y), 1000, 1e-11)
    # huber by its prox inside pdhg, to 1e-6
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(VariationalReconstruction([huber, 0.5 * R], **options)(p), x)


def test_total_variation_and_a_network_are_optimal():
    R, tv, p = ridge(), TV((N, N)), problem()
    x = VariationalReconstruction(2 * (tv + 0.5 * R), weight=2.0, iterations=25, tolerance=1e-7)(p)
    F = lambda v: SquaredL2(p.y, 25.0)(v) + 4.0 * tv(v) + 2.0 * R(v)  # noqa: E731
    for seed in range(20):
        for size in (1e-1, 1e-2, 1e-3):
            v = (x + size * image(2, seed=seed)).clamp(min=0)
            assert bool((F(v) >= F(x) - 1e-6).all())


def test_common_prox_is_the_prox_of_the_sum():
    x, tv = image(3), TV((N, N))
    both = CommonProx([0.1 * tv, 0.2 * tv], None, 1e-9, 5000)
    torch.testing.assert_close(both.prox(x, 2.0), tv.prox(x, 0.6, 5000, 1e-8), rtol=1e-5, atol=1e-5)


def test_what_pdhg_can_take():
    R, tv = ridge(), TV((N, N))
    assert (
        splits(tv)
        and splits(2 * tv)
        and splits(NonNegative())
        and splits(SquaredL2(ndim=3) @ Gradient((N, N)))
    )
    assert not splits(R) and not splits(2 * R) and not splits(R @ Identity((N, N)))
    assert [float(f.weight) for f in summands(2 * (tv + 3 * tv))] == [2.0, 6.0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"solver='pdhg': no prox for ConvexRidge"):
        VariationalReconstruction(ConvexRidge((1, 2), 3), solver="pdhg")
    with pytest.raises(ValueError, match="solver: expected"):
        VariationalReconstruction(TV((N, N)), solver="newton")
    for weight in (math.inf, math.nan, -1.0, torch.tensor([1.0, math.inf])):
        with pytest.raises(ValueError, match="weight: expected a positive number"):
            VariationalReconstruction(TV((N, N)), weight)
    with pytest.raises(ValueError, match=r"one per image \(2,\), got \(3,\)"):
        VariationalReconstruction(TV((N, N)), torch.ones(3))(problem())
    with pytest.raises(ValueError, match=r"precision of its weights, torch.float32, .*prior.double"):
        VariationalReconstruction(ConvexRidge((1, 2), 3), 1.0)(problem())
    with pytest.raises(ValueError, match="memory"):
        next(nmapg(Wells(), None, image(1), memory=1.0))


class Ripple(Functional):
    """Many minima, so that steps are often refused."""

    def forward(self, x):
        return (0.5 * x**2 + 3 * torch.cos(5 * x)).sum((-2, -1))

    def grad(self, x):
        return x - 15 * torch.sin(5 * x)


def test_refused_steps_of_one_image_do_not_shorten_those_of_another():
    x = torch.randn(6, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x * torch.tensor([0.1, 1, 10, 0.01, 3, 30], dtype=torch.float64)[:, None, None]
    together = run(nmapg(Ripple(), None, x), 40)
    for k in (2, 5):
        torch.testing.assert_close(run(nmapg(Ripple(), None, x[k]), 40), together[k], rtol=1e-9, atol=1e-9)


def test_counts_are_never_asked_below_zero_and_the_end_is_a_minimum():
    """Extrapolated, some means would be negative, and the slope there far above that of the start."""
    A = XRay(ParallelBeam((N, N), 1.0, [math.pi * k / 6 for k in range(6)], 12, 1.0)).double()
    x = torch.zeros(N, N, dtype=torch.float64)
    x[2:6, 3:6] = 0.5
    g = torch.Generator().manual_seed(1)
    y = torch.poisson(20 * A(x) + 0.5, generator=g)
    asked = []

    class Spy(KullbackLeibler):
        def grad(self, z):
            asked.append(float((self.s * z + self.b).min()))
            return super().grad(z)

    F = Spy(y, 0.5, 20.0) @ A + 0.1 * ridge()
    begin = FBP("ram-lak")(Problem(A, (y - 0.5) / 20, Gaussian(sigma=1.0)))
    found = trace(nmapg(F, NonNegative(), begin), 150, 1e-4)
    first = norm(F.grad(begin.clamp(min=0)), 2)
    asked.pop()
    slope = F.grad(found.last.x)
    left = torch.where((found.last.x > 0) | (slope < 0), slope, 0.0)
    assert min(asked) >= 0
    # the residual is of the last step, the slope at its end
    assert float(norm(left, 2)) <= 10 * max(float(found.last.residual), 1e-4) * float(first)


def test_one_operator_call_for_every_step_tried():
    A, calls = Gradient((N, N)), [0]
    forward = A._forward

    def counted(x):
        calls[0] += 1
        return forward(x)

    A._forward = counted
    x = image(2)
    iterates = nmapg(SquaredL2(x, ndim=2) + SquaredL2(ndim=3) @ A, None, image(2, seed=1))
    tried = [0]
    for _ in range(6):
        next(iterates)
        tried.append(calls[0])
    assert min(b - a for a, b in pairwise(tried)) == 1


def test_a_penalty_leaves_the_start_and_a_set_takes_it_in():
    x = image(2)
    x[0] = x[0].abs()
    first = next(nmapg(SquaredL2(), 50.0 * WaveletL1((N, N), "haar", 1), x))
    assert torch.equal(first.x, x)
    torch.testing.assert_close(next(nmapg(SquaredL2(), NonNegative(), x)).x, x.clamp(min=0))
    smooth = ridge()
    method = VariationalReconstruction(TV((N, N)) + smooth, weight=1e3, iterations=1)
    p = problem()
    first = next(method.iterates(p, SquaredL2(p.y, 25.0), torch.full((2,), 1e3).double(), x))
    torch.testing.assert_close(first.x, x.clamp(min=0))


def test_composed_priors_are_taken_apart():
    G, M = Gradient((N, N)), Mask(torch.rand(N, N, generator=torch.Generator().manual_seed(0)) > 0.3)
    nested, total = (L21() @ G) @ M, (L21() + 2 * SquaredL2(ndim=3)) @ G
    x = image(2)
    for f in (nested, total, 3 * nested, 3 * total, TV((N, N)) @ M, Scaled(2.0, nested), nested + total):
        parts = summands(f)
        assert all(splits(part) for part in parts)
        torch.testing.assert_close(sum(part(x) for part in parts), f(x))
    assert not splits(Composed(L21() + SquaredL2(ndim=3), G)) and not splits(nested)
    p, options = problem(), {"weight": 2.0, "iterations": 5}
    whole = VariationalReconstruction(total, **options)(p)
    apart = VariationalReconstruction([L21() @ G, 2 * (SquaredL2(ndim=3) @ G)], **options)(p)
    torch.testing.assert_close(whole, apart)
    assert bool(VariationalReconstruction(nested, **options)(p).isfinite().all())
