import pytest
import torch

from operators.tensors import inner, norm, real_dtype, spread, squared_norm, total


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("batch", "ndim"), [((), 2), ((3,), 2), ((3, 2), 1), ((0,), 2)])
def test_one_value_per_image(dtype, batch, ndim):
    x, y = torch.randn(2, *batch, *(4, 5)[:ndim], generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert inner(x, y, ndim).shape == norm(x, ndim).shape == batch
    expected = (x.conj() * y).real.flatten(len(batch)).sum(-1)
    torch.testing.assert_close(inner(x, y, ndim), expected)
    torch.testing.assert_close(inner(x, y, ndim), inner(y, x, ndim))
    torch.testing.assert_close(norm(x, ndim) ** 2, squared_norm(x, ndim))
    assert not norm(x, ndim).is_complex() and norm(x, ndim).dtype == real_dtype(x)
    torch.testing.assert_close(total(x, ndim), x.flatten(len(batch)).sum(-1))


def test_real_with_complex():
    x, y = torch.ones(2, 3), (2 + 5j) * torch.ones(2, 3)
    assert float(inner(x, y, 2)) == float(inner(y, x, 2)) == 12


def test_spread():
    value = torch.tensor([1.0, 2.0])
    assert torch.equal((spread(value, 2) * torch.ones(2, 3, 4))[1], torch.full((3, 4), 2.0))
    assert spread(0.5, 2) == 0.5
    assert spread(torch.tensor(0.5), 2).shape == ()


@pytest.mark.parametrize(
    ("dtype", "real"),
    [(torch.complex64, torch.float32), (torch.complex128, torch.float64), (torch.float64,) * 2],
)
def test_real_dtype(dtype, real):
    assert real_dtype(torch.ones(1, dtype=dtype)) == real
