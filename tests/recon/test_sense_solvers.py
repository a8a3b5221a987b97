"""One SENSE problem, many solvers, one objective ½‖A x − y‖² + λ R(x): ours, sigpy's, MRpro's, BART's."""

import math

import pytest
import torch

from operators import Gaussian, Identity, Sense
from priors import TV, L1, SquaredL2, WaveletL1
from recon import CGSENSE, Problem, TotalVariation, VariationalReconstruction, WaveletReconstruction
from recon.solvers import admm, cg, fista, gradient_descent, pdhg, run

N = (16, 20)


def coil_maps(coils, shape):
    """Smooth, complex, Σ|S|² = 1: small coils round the object, Biot and Savart far away."""
    grid = [(torch.arange(n, dtype=torch.float64) - n // 2) / (n / 2) for n in shape]
    y, x = torch.meshgrid(*grid, indexing="ij")
    angles = [2 * math.pi * k / coils for k in range(coils)]
    z = [torch.complex(x - 1.5 * math.cos(a), y - 1.5 * math.sin(a)) for a in angles]
    maps = torch.stack([v.conj() / v.abs() ** 2 for v in z])
    return maps / maps.abs().square().sum(0).sqrt()


def phantom(shape):
    """Two ellipses with a smooth phase."""
    grid = [(torch.arange(n, dtype=torch.float64) - n // 2) / (n / 2) for n in shape]
    y, x = torch.meshgrid(*grid, indexing="ij")
    body = ((y**2 / 0.7 + x**2 / 0.6) < 1).double() - 0.5 * (((y - 0.2) ** 2 + (x + 0.1) ** 2) < 0.09)
    return torch.polar(body, 0.7 * y - 0.4 * x * y)


@pytest.fixture(scope="module")
def case():
    mask = torch.zeros(N[0], 1, dtype=torch.bool)
    mask[::3], mask[N[0] // 2 - 2 : N[0] // 2 + 2] = True, True
    A = Sense(mask.expand(N), coil_maps(4, N))
    noise = Gaussian(math.sqrt(2) * 0.05, data_ndim=3, mask=A.sampled)
    return Problem(A, noise(A(phantom(N)), seed=0), noise)


# the residuals of these small problems are driven to rounding: 1e-5 is what the issue asks of solvers
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def test_four_solvers_agree_on_a_quadratic(case):
    A, y = case.A, case.y
    f, g, lam = SquaredL2(target=y, ndim=3), SquaredL2(), 0.03
    zero = torch.zeros_like(A.adjoint(y))

    def normal(v):
        return A.gram(v) + lam * v

    eye = Identity(N)
    found = {
        "cg": run(cg(normal, A.adjoint(y), zero), 200, 1e-12),
        "fista": run(fista(f @ A + lam * g, None, A.norm() ** 2 * 1.02 + lam, zero), 600, 1e-12),
        "gradient": run(gradient_descent(f @ A + lam * g, zero), 2000, 1e-10),
        "pdhg": run(pdhg([f @ A], lam * g, zero), 2000, 1e-11),
        "admm": run(admm([f @ A], lam * g, zero), 600, 1e-11),
        "admm, whole": run(admm([(lam * g, eye)], None, zero, 20, quadratic=f @ A), 300, 1e-12),
    }
    for x in found.values():
        torch.testing.assert_close(x, found["cg"], **CLOSE)
        torch.testing.assert_close(f(A(x)) + lam * g(x), f(A(found["cg"])) + lam * g(found["cg"]), **CLOSE)


@pytest.mark.parametrize("kind", ["wavelet", "tv"])
def test_solvers_agree_on_sparsity(kind, case):
    A, y = case.A, case.y
    f, zero = SquaredL2(target=y, ndim=3), torch.zeros_like(A.adjoint(y))
    prior = (0.05 * WaveletL1(N, "haar", 2)) if kind == "wavelet" else TV(N, weight=0.05)

    def objective(x):
        return f(A(x)) + prior(x)

    found = {
        "pdhg": run(pdhg([f @ A, prior], None, zero), 4000, 1e-10),
        "admm": run(admm([f @ A, prior], None, zero), 4000, 1e-9),
        "admm, whole": run(admm([prior], None, zero, 20, quadratic=f @ A), 3000, 1e-10),
    }
    if kind == "wavelet":
        found["fista"] = run(fista(f @ A, prior, 1.02 * A.norm() ** 2, zero), 3000, 1e-11)
    for name, x in found.items():
        torch.testing.assert_close(objective(x), objective(found["pdhg"]), rtol=1e-6, atol=0, msg=name)
        torch.testing.assert_close(x, found["pdhg"], rtol=0, atol=1e-5, msg=name)
