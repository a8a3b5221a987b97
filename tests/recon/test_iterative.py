"""Methods regularised by when they stop."""

import math

import pytest
import torch

from operators import Gaussian, Identity, LowDose, ParallelBeam, XRay
from recon.fidelity import unweighted
from recon.iterative import CGLS, OSSART, SART, SIRT
from recon.problem import Problem
from recon.solvers import cgls, run

METHODS = [CGLS, SIRT, OSSART, SART]


@pytest.fixture(scope="module")
def problem():
    geometry = ParallelBeam((12, 13), 8.0, [math.pi * k / 15 for k in range(15)], 21, 8.0)
    A = XRay(geometry, backend="sparse")
    grid = torch.arange(13, dtype=torch.float64) - 6
    x = 0.02 * ((grid[:12, None] + 0.5) ** 2 + grid[None] ** 2 < 16).double()
    noise = LowDose(i0=1e4)
    return Problem(A, noise(A(torch.stack([x, x / 2])), seed=0), noise)


@pytest.mark.parametrize("Method", METHODS)
def test_stops_when_the_misfit_is_that_of_the_noise(Method, problem):
    found = Method()(problem)
    chi2 = 2 * unweighted(problem)(problem.A(found)) / problem.y[0].numel()
    assert (chi2 <= 1).all()
    assert (chi2 > 0.5).all()


@pytest.mark.parametrize("iterations", [None, 4])
@pytest.mark.parametrize("Method", METHODS)
def test_alone_as_in_a_batch(Method, iterations, problem):
    together = Method(iterations=iterations)(problem)
    for i in range(2):
        alone = Method(iterations=iterations)(Problem(problem.A, problem.y[i], problem.noise))
        torch.testing.assert_close(alone, together[i], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("Method", [SIRT, OSSART, SART])
def test_not_negative_unless_asked(Method, problem):
    assert Method(iterations=20)(problem).min() == 0
    assert Method(iterations=20, positive=False)(problem).min() < 0


def test_cgls_is_its_solver(problem):
    zero = torch.zeros(2, 12, 13, dtype=torch.float64)
    assert torch.equal(CGLS(iterations=5)(problem), run(cgls(problem.A, problem.linear, zero), 5))


def test_subsets_are_faster_than_one(problem):
    d = unweighted(problem)
    one, ten = (d(problem.A(OSSART(iterations=2, subsets=n, relaxation=0.5)(problem))) for n in (1, 5))
    assert (ten < one).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="expected at least 1"):
        CGLS(iterations=0)
    plain = Problem(Identity((3, 3)), torch.ones(3, 3), Gaussian(sigma=1.0))
    with pytest.raises(ValueError, match="subset"):
        SART(iterations=1)(plain)
