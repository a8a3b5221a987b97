"""Every solver reaches the closed-form minimiser of a strongly convex problem, in float64."""

import pytest
import torch
from scipy.optimize import nnls

from operators import LinearOperator
from operators.simple import Identity
from priors import NonNegative, SquaredL2
from recon.solvers import (
    admm,
    cg,
    cgls,
    douglas_rachford,
    fista,
    gradient_descent,
    lbfgs,
    lsqr,
    pdhg,
    run,
)

SHAPE, DATA = (4, 5), (30,)


class Matrix(LinearOperator):
    """A dense matrix, for closed forms."""

    def __init__(self, M, in_shape, out_shape):
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        self.register_buffer("M", M)

    def _forward(self, x):
        return (x.flatten(1).to(self.M.dtype) @ self.M.T).reshape(-1, *self.out_shape)

    def _adjoint(self, y):
        return (y.flatten(1).to(self.M.dtype) @ self.M.conj()).reshape(-1, *self.in_shape)


@pytest.fixture(params=[torch.float64, torch.complex128], ids=["real", "complex"])
def system(request):
    generator = torch.Generator().manual_seed(1)
    M = torch.randn(30, 20, generator=generator, dtype=request.param)
    y = torch.randn(3, 30, generator=generator, dtype=request.param) * torch.tensor([[1.0], [0.0], [100.0]])
    return Matrix(M, SHAPE, DATA), y


def closed_form(A, y, ridge):
    H = A.M.mH @ A.M + ridge * torch.eye(20, dtype=A.M.dtype)
    return torch.linalg.solve(H, (y @ A.M.conj()).mT).mT.reshape(-1, *SHAPE)


RIDGE = 0.5


def least_squares(y):
    return SquaredL2(target=y, ndim=1)


def strongly_convex(name, A, y, x):
    f, ridge = least_squares(y), RIDGE * SquaredL2()
    L = (1.02 * A.norm()) ** 2
    mu = float(torch.linalg.eigvalsh(A.M.mH @ A.M).min())
    return {
        "cg": lambda: cg(lambda v: A.gram(v) + RIDGE * v, A.adjoint(y), x),
        "cgls": lambda: cgls(A, y, x, damping=RIDGE),
        "lsqr": lambda: lsqr(A, y, x, damping=RIDGE),
        "lbfgs": lambda: lbfgs(f @ A + ridge, x),
        "gradient_descent": lambda: gradient_descent(f @ A + ridge, x, step=1 / (L + RIDGE)),
        "backtracking": lambda: gradient_descent(f @ A, x, g=ridge),
        "fista": lambda: fista(f @ A, ridge, L, x),
        "fista-strong": lambda: fista(f @ A, ridge, L, x, strong_convexity=mu, restart=False),
        "pdhg": lambda: pdhg([(f, A)], ridge, x),
        "pdhg-two-terms": lambda: pdhg([f @ A, ridge @ Identity(SHAPE)], None, x),
        "admm": lambda: admm([(f, A)], ridge, x),
        "admm-two-terms": lambda: admm([f @ A, ridge @ Identity(SHAPE)], None, x),
        "douglas_rachford": lambda: douglas_rachford([(f, A)], ridge, x),
    }[name]()


NAMES = [
    "cg", "cgls", "lsqr", "lbfgs", "gradient_descent", "backtracking", "fista", "fista-strong", "pdhg",
    "pdhg-two-terms", "admm", "admm-two-terms", "douglas_rachford",
]  # fmt: skip


@pytest.mark.parametrize("start", ["zero", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_reaches_the_minimiser(name, start, system):
    A, y = system
    x0 = torch.zeros(3, *SHAPE, dtype=y.dtype)
    if start == "random":
        x0 = torch.randn(3, *SHAPE, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
        x0[1] = 0
    iterates = strongly_convex(name, A, y, x0)
    x = run(iterates, 3000, tolerance=1e-11)
    truth = closed_form(A, y, RIDGE)
    error = (x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1).clamp(min=1)
    assert error.max() < 1e-8


@pytest.mark.parametrize("name", ["fista", "pdhg", "admm", "douglas_rachford", "backtracking", "lbfgs"])
def test_reaches_the_nonnegative_minimiser(name):
    generator = torch.Generator().manual_seed(3)
    A = Matrix(torch.randn(30, 20, generator=generator, dtype=torch.float64), SHAPE, DATA)
    y = torch.randn(2, 30, generator=generator, dtype=torch.float64) * torch.tensor([[1.0], [100.0]])
    f, g, x = least_squares(y), NonNegative(), torch.zeros(2, *SHAPE, dtype=torch.float64)
    solver = {
        "fista": lambda: fista(f @ A, g, (1.02 * A.norm()) ** 2, x),
        "pdhg": lambda: pdhg([(f, A)], g, x),
        "admm": lambda: admm([(f, A)], g, x),
        "douglas_rachford": lambda: douglas_rachford([(f, A)], g, x),
        "backtracking": lambda: gradient_descent(f @ A, x, g=g),
        "lbfgs": lambda: lbfgs(f @ A, x, lower=0.0),
    }[name]()
    found = run(solver, 3000, tolerance=1e-12)
    for image, data in zip(found, y, strict=True):
        truth = torch.as_tensor(nnls(A.M.numpy(), data.numpy())[0]).reshape(SHAPE)
        assert (image - truth).norm() < 1e-8 * truth.norm()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_the_same_alone_and_beside_a_brighter_one(name, system):
    A, y = system
    x = torch.zeros(3, *SHAPE, dtype=y.dtype)
    together = run(strongly_convex(name, A, y, x), 12)
    for i in range(3):
        alone = run(strongly_convex(name, A, y[i], x[i]), 12)
        # the same arithmetic but for the order of sums in a batched matrix product
        torch.testing.assert_close(together[i], alone, rtol=1e-9, atol=1e-11)
