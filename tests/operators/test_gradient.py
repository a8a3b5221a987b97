import math

import pytest
import torch

from operators import Gradient
from operators.gradient import BOUNDARIES


def test_differences_of_a_linear_image_are_its_slope_per_mm():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    h = 0.7
    gradient = Gradient((6, 5), spacing=h)(3 * h * y - 2 * h * x)
    torch.testing.assert_close(gradient[0, :-1], torch.full((5, 5), 3.0))
    torch.testing.assert_close(gradient[1, :, :-1], torch.full((6, 4), -2.0))


def test_neumann_edges_are_zero_and_a_constant_has_no_gradient():
    gradient = Gradient((6, 5))(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)))
    assert not gradient[:, 0, -1].any() and not gradient[:, 1, :, -1].any()
    assert not Gradient((3, 4, 5))(torch.full((3, 4, 5), 7.0)).any()


def test_against_torch_diff_in_three_dimensions():
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    expected = torch.stack(
        [torch.diff(x, dim=d, append=x.narrow(d, n - 1, 1)) / 1.5 for d, n in ((1, 3), (2, 4), (3, 5))], 1
    )
    torch.testing.assert_close(Gradient((3, 4, 5), spacing=1.5)(x), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (1, 1), (1, 6), (6, 5), (3, 4, 2)])
@pytest.mark.parametrize("spacing", [1.0, 0.35])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_norm_is_the_largest_singular_value(shape, spacing, boundary):
    A = Gradient(shape, spacing, boundary)
    n = math.prod(shape)
    matrix = A(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, -1)
    assert A.norm() == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-12, abs=1e-15)


def test_the_well_known_bound():
    assert 0.999 * math.sqrt(8) < Gradient((512, 512)).norm() < math.sqrt(8)


@pytest.mark.parametrize("spacing", [0.0, -1.0, math.nan, math.inf])
def test_bad_spacing(spacing):
    with pytest.raises(ValueError, match=r"Gradient spacing \[mm\]: expected a positive number"):
        Gradient((4, 4), spacing)


@pytest.mark.parametrize(("boundary", "beyond"), [("periodic", 0), ("zero", None)])
def test_what_lies_beyond_the_edge(boundary, beyond):
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    expected = []
    for d in (1, 2):
        outside = torch.zeros_like(x.narrow(d, 0, 1)) if beyond is None else x.narrow(d, beyond, 1)
        expected.append(torch.diff(x, dim=d, append=outside) / 1.5)
    got = Gradient((4, 5), 1.5, boundary)(x)
    torch.testing.assert_close(got, torch.stack(expected, 1), rtol=1e-14, atol=0)
