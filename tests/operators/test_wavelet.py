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
    ("shape", "levels"), [((64, 64), 4), ((512, 512), 4), ((24, 16), 3), ((6, 8), 1), ((4, 4), 2), ((230, 180), 4), ((40, 64), 3), ((6, 256, 256), 4)]
)
def test_default_levels(shape, levels):
    assert Wavelet(shape).levels == levels


def test_sizes_that_do_not_fit():
    with pytest.raises(
        ValueError, match=r"multiples of 2\*\*levels, with levels=1, got \(5, 4\), which fit 0"
    ):
        Wavelet((5, 4))
    with pytest.raises(ValueError, match=r"with levels=3, got \(8, 12\), which fit 2 levels; pad or crop"):
        Wavelet((8, 12), levels=3)
    with pytest.raises(ValueError, match="multiples"):
        Wavelet((8, 8), levels=0)
    with pytest.raises(ValueError, match=r"expected one of haar, db1, .*, got 'bior2\.2'"):
        Wavelet((8, 8), "bior2.2")
