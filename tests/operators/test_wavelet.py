import math

import numpy as np
import pytest
import torch

from operators import Wavelet
from operators.wavelet import NAMES, scaling_filter

pywt = pytest.importorskip("pywt")


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_those_of_pywavelets(name):
    # PyWavelets' tables of symlets carry twelve digits
    tolerance = 1e-11 if name.startswith("sym") else 1e-13
    np.testing.assert_allclose(scaling_filter(name), pywt.Wavelet(name).rec_lo, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_orthonormal_with_vanishing_moments(name):
    h = np.array(scaling_filter(name))
    for shift in range(0, len(h), 2):
        assert h[shift:] @ h[: len(h) - shift] == pytest.approx(float(shift == 0), abs=1e-13)
    assert h.sum() == pytest.approx(math.sqrt(2), abs=1e-13)
    k = np.arange(len(h)) - (len(h) - 1) / 2
    g = (-1.0) ** np.arange(len(h)) * h[::-1]
    for moment in range(len(h) // 2):
        # rounding grows with the largest power
        assert g @ k**moment == pytest.approx(0, abs=1e-13 * np.abs(k).max() ** moment)


@pytest.mark.filterwarnings("ignore:Level value of:UserWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "levels"), [((32, 16), 2), ((8, 24), 3), ((16,), 4), ((8, 4, 12), 2)])
def test_equals_pywavelets(name, shape, levels):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = pywt.wavedecn(x.numpy(), name, mode="periodization", level=levels)
    expected, _ = pywt.coeffs_to_array(coefficients)
    got = Wavelet(shape, name, levels)(x).numpy()
    # PyWavelets' tables of symlets carry twelve digits, and a filter acts axes × levels times
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 if name.startswith("sym") else 1e-12)


@pytest.mark.parametrize("name", ["haar", "db4", "sym8"])
def test_is_orthonormal(name):
    W = Wavelet((16, 8), name)
    x = torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    y = W(x)
    torch.testing.assert_close(y.abs().square().sum((1, 2)), x.abs().square().sum((1, 2)))
    torch.testing.assert_close(W.adjoint(y), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(W(W.adjoint(x)), x, rtol=0, atol=1e-12)


def test_a_constant_image_has_one_kind_of_coefficient():
    y = Wavelet((16, 16), "db3", 2)(torch.ones(16, 16, dtype=torch.float64))
    torch.testing.assert_close(y[:4, :4], torch.full((4, 4), 4.0, dtype=torch.float64))
    y[:4, :4] = 0
    assert float(y.abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ((64, 64), 4),
        ((512, 512), 4),
        ((24, 16), 3),
        ((6, 8), 1),
        ((4, 4), 2),
        ((230, 180), 4),
        ((40, 64), 3),
        ((6, 256, 256), 4),
    ],
)
def test_default_levels(shape, levels):
    assert Wavelet(shape).levels == levels


@pytest.mark.parametrize("name", ["haar", "db2", "sym8"])
@pytest.mark.parametrize("shape", [(7, 5), (1, 6), (3, 3), (23, 18), (2, 9)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_any_size_is_orthonormal(name, shape, dtype):
    W = Wavelet(shape, name, (max(shape) - 1).bit_length())
    x = torch.eye(math.prod(shape), dtype=dtype).reshape(-1, *shape)
    matrix = W(x).reshape(len(x), -1)
    torch.testing.assert_close(matrix @ matrix.mH, torch.eye(len(x), dtype=dtype), rtol=0, atol=1e-12)
    torch.testing.assert_close(W.adjoint(W(x)), x, rtol=0, atol=1e-12)


def test_an_odd_side_leaves_its_last_sample_to_the_next_level():
    x = torch.randn(7, 5, dtype=torch.float64)
    y, even = Wavelet((7, 5), "db2", 1)(x), Wavelet((6, 4), "db2", 1)(x[:6, :4])
    torch.testing.assert_close(y[:3, :2], even[:3, :2])
    torch.testing.assert_close(y[4:, 3:], even[3:, 2:])
    assert y[3, 2] == x[6, 4]


# a filter acts axes × levels times, in another order in the kernels: some ten roundings
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 2e-6), (torch.complex64, 2e-6), (torch.float64, 1e-14), (torch.complex128, 1e-14)],
)
@pytest.mark.parametrize(
    ("shape", "ndim"), [((16, 24), 2), ((37, 50), 2), ((1, 6), 2), ((3, 10, 6), 2), ((150, 130), 2)]
)
def test_kernels_equal_the_plain_form(monkeypatch, shape, ndim, dtype, tolerance):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for name in ("haar", "db2", "db4", "sym5"):
        W = Wavelet(shape, name, min(3, (max(shape[-2:]) - 1).bit_length()), ndim)
        fast = W(x), W.adjoint(x), W.adjoint(x.mT.clone().mT), W(x.conj())
        with monkeypatch.context() as context:
            context.setattr("operators.wavelet.fits", lambda *tensors: False)
            plain = W(x), W.adjoint(x), W.adjoint(x), W(x.conj())
        for a, b in zip(fast, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(x.abs().max()))


def test_leading_axes_are_left_alone():
    x = torch.randn(2, 3, 8, 12, dtype=torch.complex64)
    W, each = Wavelet((3, 8, 12), "db2", 2, ndim=2), Wavelet((8, 12), "db2", 2)
    assert torch.equal(W(x), each(x)) and torch.equal(W.adjoint(x), each.adjoint(x))


def test_what_cannot_be_transformed():
    with pytest.raises(ValueError, match=r"levels: expected 1 … 4 for the shape \(8, 12\), got 5"):
        Wavelet((8, 12), levels=5)
    with pytest.raises(ValueError, match=r"expected 1 … 3 for the shape \(8, 8\), got 0"):
        Wavelet((8, 8), levels=0)
    with pytest.raises(ValueError, match="expected a side above 1"):
        Wavelet((1, 1))
    with pytest.raises(ValueError, match="ndim: expected 1 … 2"):
        Wavelet((8, 8), ndim=3)
    with pytest.raises(ValueError, match=r"expected one of haar, db1, .*, got 'bior2\.2'"):
        Wavelet((8, 8), "bior2.2")
