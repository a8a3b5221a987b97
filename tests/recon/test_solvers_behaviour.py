"""What all solvers share: the start first, freezing, call counts, divergence; and the row-action ones."""

import math

import pytest
import torch

from operators import LinearOperator, ParallelBeam, XRay
from operators.tensors import total
from priors import TV, HuberTV, NonNegative, SquaredL2
from recon.solvers import (
    Iterate,
    admm,
    cg,
    cgls,
    douglas_rachford,
    fista,
    gradient_descent,
    lbfgs,
    lsqr,
    mlem,
    os_sqs,
    osem,
    pdhg,
    run,
    sart,
    sirt,
    trace,
    view_order,
)

GEOMETRY = ParallelBeam((8, 9), 1.0, [math.pi * k / 7 for k in range(7)], 13, 1.0)


def scan(images=2):
    generator = torch.Generator().manual_seed(0)
    A = XRay(GEOMETRY, backend="sparse")
    x = torch.rand(images, 8, 9, generator=generator, dtype=torch.float64)
    x = x * 10.0 ** torch.arange(images).reshape(-1, 1, 1)
    return A, x, A(x)


def every_solver(A, y, x):
    f, g = SquaredL2(target=y), NonNegative()
    views = [[k] for k in view_order(7)]
    parts = [SquaredL2(target=y[..., v, :]) @ A.subset(v) for v in views]
    return {
        "cg": lambda: cg(lambda v: A.gram(v) + v, A.adjoint(y), x),
        "cgls": lambda: cgls(A, y, x),
        "gradient_descent": lambda: gradient_descent(f @ A, x, step=1 / A.norm() ** 2),
        "backtracking": lambda: gradient_descent(f @ A, x, g=g),
        "fista": lambda: fista(f @ A, g, (1.02 * A.norm()) ** 2, x),
        "pdhg": lambda: pdhg([f @ A, TV((8, 9))], g, x),
        "pdhg-circulant": lambda: pdhg([f @ A, TV((8, 9))], g, x, circulant=True),
        "admm": lambda: admm([f @ A, TV((8, 9))], g, x),
        "douglas_rachford": lambda: douglas_rachford([f @ A, TV((8, 9))], g, x),
        "lsqr": lambda: lsqr(A, y, x),
        "lbfgs": lambda: lbfgs(f @ A + HuberTV((8, 9), delta=0.1), x),
        "lbfgs-box": lambda: lbfgs(f @ A, x, lower=0.0, upper=50.0),
        "mlem": lambda: mlem(A, y, x, background=0.1),
        "osem": lambda: osem([A.subset(v) for v in views], [y[..., v, :] for v in views], x),
        "os-sqs": lambda: os_sqs(parts, HuberTV((8, 9), delta=0.1), x, halve=2),
        "sirt": lambda: sirt(A, y, x),
        "sart": lambda: sart([A.subset(v) for v in views], [y[..., v, :] for v in views], x),
    }


NAMES = list(every_solver(*scan()[::2], scan()[1]))


@pytest.mark.parametrize("name", NAMES)
def test_the_start_comes_first(name):
    A, x, y = scan()
    start = torch.rand_like(x)
    first = next(every_solver(A, y, start)[name]())
    assert torch.equal(first.x, start)
    assert first.residual.shape == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_alone_as_beside_a_brighter_image_and_unbatched(name):
    A, x, y = scan()
    together = trace(every_solver(A, y, torch.zeros_like(x))[name](), 10)
    for i in range(2):
        alone = trace(every_solver(A, y[i], torch.zeros_like(x[i]))[name](), 10)
        torch.testing.assert_close(alone.last.x, together.last.x[i], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(alone.last.residual, together.last.residual[i], rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_zero_data_give_zero(name):
    A, x, y = scan()
    found = run(every_solver(A, 0 * y, torch.zeros_like(x))[name](), 10)
    assert torch.equal(found, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("name", "forward", "adjoint"),
    [
        ("cg", 1, 1),
        ("cgls", 1, 1),
        ("gradient_descent", 1, 1),
        ("fista", 1, 1),
        ("pdhg", 1, 1),
        ("admm", 5, 6),
        ("douglas_rachford", 2, 2),
        ("lsqr", 1, 1),
        ("mlem", 1, 1),
        ("sirt", 1, 1),
    ],
)
def test_operator_calls_of_an_iteration(name, forward, adjoint):
    A, x, y = scan()
    iterates = every_solver(A, y, x / 2)[name]()
    next(iterates)
    next(iterates)
    before = A.calls.copy()
    for _ in range(10):
        next(iterates)
    done = A.calls - before
    assert (done["forward"], done["adjoint"]) == (10 * forward, 10 * adjoint)


def halving(values):
    x = torch.tensor(values, dtype=torch.float64)
    while True:
        yield Iterate(x.reshape(-1, 1, 1), x.abs())
        x = x / 2


def test_run_freezes_an_image_that_is_there():
    seen = []
    found = trace(
        halving([1.0, 8.0]), 20, tolerance=0.6, callback=lambda k, it: seen.append((k, it.x.flatten()))
    )
    assert found.last.x.flatten().tolist() == [0.5, 0.5]
    assert found.iterations.tolist() == [1, 4]
    assert [k for k, _ in seen] == [0, 1, 2, 3, 4]
    assert seen[-1][1].tolist() == [0.5, 0.5]
    assert len(found.history) == 5


def test_run_of_no_iterations_is_the_start():
    assert run(halving([3.0]), 0).item() == 3.0
    with pytest.raises(ValueError, match="at least 0"):
        run(halving([3.0]), -1)


def test_divergence_names_the_solver_and_the_iteration():
    A, x, y = scan()
    with pytest.raises(FloatingPointError, match=r"gradient_descent diverged at iteration \d+ "):
        run(gradient_descent(SquaredL2(target=y) @ A, 0 * x, step=1e3), 500)


def test_a_stopped_image_may_diverge_later_unseen():
    def broken():
        yield Iterate(torch.ones(1, 1, 1), torch.ones(1))
        yield Iterate(torch.ones(1, 1, 1), torch.zeros(1))
        yield Iterate(torch.full((1, 1, 1), torch.nan), torch.full((1,), torch.nan))

    assert run(broken(), 5).item() == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda A, y, x: sirt(A, y, x, relaxation=2.0),
        lambda A, y, x: sart([A], [], x),
        lambda A, y, x: fista(SquaredL2(target=y) @ A, None, 0.0, x),
        lambda A, y, x: pdhg([], None, x),
        lambda A, y, x: pdhg([SquaredL2()], None, x),
        lambda A, y, x: pdhg([SquaredL2(target=y) @ A], SquaredL2(), x, circulant=True),
        lambda A, y, x: sirt(-A, y, x),
        lambda A, y, x: douglas_rachford([SquaredL2(target=y) @ A], None, x, tau=1.0),
        lambda A, y, x: lsqr(A, y, x, damping=-1.0),
        lambda A, y, x: lbfgs(SquaredL2(target=y) @ A, x, lower=1.0, upper=0.0),
        lambda A, y, x: lbfgs(SquaredL2(target=y) @ A, x, memory=0),
        lambda A, y, x: mlem(A, y, x - 1),
        lambda A, y, x: mlem(-A, y, x),
        lambda A, y, x: osem([A], [], x),
        lambda A, y, x: osem([A], [y], x, backgrounds=[0.0, 0.0]),
        lambda A, y, x: os_sqs([SquaredL2(target=y)], None, x),
        lambda A, y, x: os_sqs([SquaredL2(target=y) @ A], TV((8, 9)), x),
        lambda A, y, x: os_sqs([SquaredL2(target=y) @ -A], None, x),
    ],
)
def test_bad_arguments(call):
    A, x, y = scan()
    with pytest.raises(ValueError, match=r"expect|give both"):
        for _ in zip(range(2), call(A, y, x), strict=False):
            pass


class Positive(LinearOperator):
    """A dense matrix without negative entries and of full column rank."""

    def __init__(self):
        super().__init__()
        self.in_shape, self.out_shape = (2, 3), (9,)
        self.M = torch.rand(9, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def _forward(self, x):
        return x.flatten(1) @ self.M.T

    def _adjoint(self, y):
        return (y @ self.M).reshape(-1, 2, 3)


def test_sirt_reaches_the_weighted_least_squares_solution():
    A = Positive()
    y = torch.rand(2, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = run(sirt(A, y, torch.zeros(2, 2, 3, dtype=torch.float64), relaxation=1.9), 20000, tolerance=1e-13)
    R = 1 / A.M.sum(1)
    truth = torch.linalg.solve(A.M.T @ (R[:, None] * A.M), A.M.T @ (R[:, None] * y.T)).T.reshape(2, 2, 3)
    torch.testing.assert_close(x, truth, rtol=1e-8, atol=1e-8)


def test_sirt_with_a_lower_bound_stays_above_it_and_is_better_than_clipping():
    A = Positive()
    y = torch.rand(9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    free = run(sirt(A, y, zero), 5000).clamp(min=0)
    bounded = run(sirt(A, y, zero, lower=0.0), 5000)

    def misfit(x):
        return total((A(x) - y) ** 2 / A.M.sum(1), 1)

    assert bounded.min() >= 0
    assert misfit(bounded) < misfit(free)


@pytest.mark.parametrize("per_subset", [1, 3])
def test_sart_meets_consistent_data(per_subset):
    angles = [math.pi * k / 12 for k in range(12)]
    A = XRay(ParallelBeam((4, 5), 1.0, angles, 9, 0.8), backend="sparse")
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    y = A(x)
    count = 12 // per_subset
    views = [list(range(k, 12, count)) for k in view_order(count)]
    found = run(sart([A.subset(v) for v in views], [y[v] for v in views], torch.zeros_like(x)), 3000)
    # rows of a subset overlap in a pixel, so convergence is linear and slow in the last directions
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ["golden", "bit-reversal", "sequential", "random"])
@pytest.mark.parametrize("views", [1, 2, 7, 12])
def test_view_order_takes_every_view_once(order, views):
    assert sorted(view_order(views, order)) == list(range(views))


def test_view_orders():
    assert view_order(8, "bit-reversal") == [0, 4, 2, 6, 1, 5, 3, 7]
    assert view_order(9, "random", seed=1) == view_order(9, "random", seed=1)
    with pytest.raises(ValueError, match="view_order order"):
        view_order(3, "best")
