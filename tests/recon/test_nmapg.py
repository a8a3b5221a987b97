import pytest
import torch

from operators import Gaussian
from operators.gradient import Gradient
from operators.simple import Identity
from priors import TV, ConvexRidge, Functional, HuberTV, NonNegative, SquaredL2, WaveletL1, WeaklyConvexRidge
from priors.networks.seeds import seeded
from recon import Problem, VariationalReconstruction
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
    with pytest.raises(ValueError, match="memory"):
        next(nmapg(Wells(), None, image(1), memory=1.0))
