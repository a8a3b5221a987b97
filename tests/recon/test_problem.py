"""What a method is given."""

import pytest
import torch

from operators import Gaussian, Identity, LowDose, ParallelBeam3D, Transmission, XRay
from recon.problem import Problem

A = Identity((2, 3))


def test_linear_data_and_variance_are_those_of_the_noise_model():
    y = torch.full((4, 2, 3), 50.0)
    problem = Problem(A, y, LowDose(i0=1000.0))
    assert problem.batch == (4,)
    torch.testing.assert_close(problem.linear, torch.full((4, 2, 3), 20.0).log())
    torch.testing.assert_close(problem.variance, torch.full((4, 2, 3), 1 / 50))


@pytest.mark.parametrize(
    ("y", "noise", "text"),
    [
        (torch.ones(3, 2), Gaussian(sigma=1.0), r"expected shape \(\*batch, 2, 3\)"),
        (torch.ones(2, 3, dtype=torch.int64), Gaussian(sigma=1.0), "floating-point"),
        ([[1.0]], Gaussian(sigma=1.0), "floating-point"),
        (torch.full((2, 3), torch.nan), Gaussian(sigma=1.0), "NaN or inf"),
        (torch.full((2, 3), -1.0), LowDose(i0=10.0), "negative"),
    ],
)
def test_bad_data(y, noise, text):
    with pytest.raises(ValueError, match=text):
        Problem(A, y, noise)


def test_a_problem_is_frozen():
    problem = Problem(A, torch.ones(2, 3), Gaussian(sigma=1.0))
    with pytest.raises(AttributeError):
        problem.y = torch.zeros(2, 3)


def test_noise_of_other_dimensions():
    A = XRay(ParallelBeam3D((2, 4, 4), 1.0, (0.0, 1.0), (2, 6), 1.0))
    with pytest.raises(
        ValueError, match=r"Problem noise: .* 3 dimensions, .* say Gaussian\(…, data_ndim=3\)"
    ):
        Problem(A, torch.zeros(A.out_shape), Gaussian(0.1))


def test_a_nonlinear_model():
    A = Transmission(Identity((2, 3)))
    with pytest.raises(ValueError, match="Problem A: expected a linear operator"):
        Problem(A, torch.ones(2, 3), Gaussian(0.1))
