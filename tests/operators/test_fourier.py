import math

import pytest
import torch

from operators import Fourier


@pytest.mark.parametrize("shape", [(4, 6), (5, 4), (7, 3)])
def test_equals_the_sum_that_defines_it(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    matrices = []
    for n in shape:
        r = torch.arange(n, dtype=torch.float64) - n // 2
        matrices.append(torch.exp(-2j * math.pi * torch.outer(r, r) / n) / math.sqrt(n))
    expected = matrices[0] @ x @ matrices[1].T
    torch.testing.assert_close(Fourier(shape)(x), expected, rtol=1e-12, atol=1e-12)


def test_a_point_in_the_middle_is_flat():
    x = torch.zeros(6, 5, dtype=torch.float64)
    x[3, 2] = 1
    torch.testing.assert_close(
        Fourier((6, 5))(x), torch.full((6, 5), 1 / math.sqrt(30), dtype=torch.complex128)
    )


def test_a_constant_is_a_point_in_the_middle():
    k = Fourier((6, 5))(torch.ones(6, 5, dtype=torch.float64))
    assert k[3, 2].real == pytest.approx(math.sqrt(30))
    k[3, 2] = 0
    assert float(k.abs().max()) < 1e-14


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_only_trailing_dimensions_and_unitary(ndim):
    A = Fourier((2, 4, 5), ndim=ndim)
    x = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    torch.testing.assert_close(A.adjoint(A(x)), x)
    part = Fourier((2, 4, 5)[3 - ndim :], ndim=ndim)
    torch.testing.assert_close(A(x), part(x))


def test_precision_stays():
    A = Fourier((4, 4))
    assert A(torch.ones(4, 4)).dtype == A(torch.ones(4, 4) + 0j).dtype == torch.complex64
    assert A(torch.ones(4, 4).double()).dtype == torch.complex128


@pytest.mark.parametrize("ndim", [0, 3])
def test_bad_ndim(ndim):
    with pytest.raises(ValueError, match=r"Fourier ndim: expected 1 to 2 for shape \(4, 4\)"):
        Fourier((4, 4), ndim=ndim)
