"""Norms, sets, quadratic and wavelet terms against independent computations; what must raise."""

import math

import numpy as np
import pytest
import pywt
import torch

from operators import Gradient
from priors import L1, L2, L21, Box, Huber, HuberL21, NonNegative, Quadratic, SquaredL2, WaveletL1, Zero

X = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_values_are_the_sums_they_say():
    x = X[0].numpy()
    weight = torch.arange(24.0, dtype=torch.float64).reshape(6, 4)
    expected = {
        SquaredL2(0.5, weight): 0.5 * np.sum(weight.numpy() * (x - 0.5) ** 2),
        L1(0.5): np.sum(np.abs(x - 0.5)),
        L2(): np.sqrt(np.sum(x**2)),
        L21(dim=-1, ndim=2): np.sum(np.sqrt(np.sum(x**2, -1))),
        Huber(0.7): sum(t * t / 1.4 if t <= 0.7 else t - 0.35 for t in np.abs(x).ravel()),
        Zero(): 0.0,
    }
    for f, value in expected.items():
        assert float(f(X[0])) == pytest.approx(value, rel=1e-13), f


def test_vector_lengths_join_real_and_imaginary_part():
    x = torch.zeros(2, 1, 1, dtype=torch.complex128)
    x[0], x[1] = 3j, 4
    assert float(L21()(x)) == 5.0
    assert float(HuberL21(10.0)(x)) == pytest.approx(25 / 20)
    assert L1(ndim=3).prox(x, 1.0).flatten().tolist() == [2j, 3]


def test_weight_zero_leaves_the_point_and_rules_the_dual():
    f = SquaredL2(torch.ones(3), torch.tensor([0.0, 1.0, 4.0]), ndim=1)
    assert torch.allclose(f.prox(torch.tensor([5.0, 5.0, 5.0]), 1.0), torch.tensor([5.0, 3.0, 1.8]))
    assert f.conjugate(torch.tensor([1.0, 0.0, 0.0])) == math.inf
    assert f.conjugate(torch.tensor([0.0, 1.0, 2.0])) == 3.0 + 0.5 * (1 + 4 / 4)


@pytest.mark.parametrize(
    ("f", "outside", "inside"),
    [
        (L1(ndim=1), [1.001, 0.0], [1.0, -1.0]),
        (L2(ndim=1), [0.8, 0.7], [0.6, 0.8]),
        (NonNegative(ndim=1), [-1.0, 0.001], [-1.0, 0.0]),
        (Zero(ndim=1), [1e-9, 0.0], [0.0, 0.0]),
        (Box(-math.inf, 0.0, ndim=1), [-0.1, 1.0], [0.0, 1.0]),
    ],
)
def test_conjugates_know_their_domain(f, outside, inside):
    assert float(f.conjugate(torch.tensor(outside))) == math.inf
    assert float(f.conjugate(torch.tensor(inside))) == 0.0
    assert float(f.conjugate(torch.tensor(inside) * (1 + 1e-7))) == 0.0  # rounding is forgiven


def test_indicators_are_zero_or_infinite():
    assert NonNegative()(torch.tensor([[[0.0, 1.0]], [[-1e-7, 1.0]]])).tolist() == [0.0, math.inf]
    assert Box(0.0, 1.0)(torch.tensor([[[0.0, 1.0]], [[0.5, 1.1]]])).tolist() == [0.0, math.inf]


@pytest.mark.parametrize("spacing", [1.0, 0.5])
def test_quadratic_prox_solves_the_normal_equations(spacing):
    A = Gradient((6, 4), spacing)
    columns = A(torch.eye(24, dtype=torch.float64).reshape(24, 6, 4)).reshape(24, -1)
    gram = columns @ columns.T
    steps = torch.tensor([0.3, 10.0], dtype=torch.float64)
    for f in (Quadratic(A, 0.7), 0.7 * Quadratic(A), 0.175 * Quadratic(2 * A)):
        z = f.prox(X, steps)
        for k in range(2):
            system = torch.eye(24, dtype=torch.float64) + 0.7 * steps[k] * gram
            exact = torch.linalg.solve(system, X[k].flatten()).reshape(6, 4)
            torch.testing.assert_close(z[k], exact, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("wavelet", "levels"), [("haar", 2), ("db4", 1), ("sym4", 1)])
def test_wavelet_term_is_that_of_pywavelets(wavelet, levels):
    x = torch.randn(16, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h, step = 0.5, 0.8
    f = WaveletL1((16, 24), wavelet, levels, pixel_size=h)
    coarse, *details = pywt.wavedec2(x.numpy(), wavelet, "periodization", levels)
    value = h * sum(np.abs(band).sum() for level in details for band in level)
    assert float(f(x)) == pytest.approx(value, rel=1e-10)
    soft = [tuple(pywt.threshold(band, step * h, "soft") for band in level) for level in details]
    expected = torch.from_numpy(pywt.waverec2([coarse, *soft], wavelet, "periodization"))
    torch.testing.assert_close(f.prox(x, step), expected, rtol=1e-10, atol=1e-10)


def test_wavelet_term_does_not_see_a_constant():
    f = WaveletL1((8, 8), "db4")
    x = torch.full((8, 8), 3.0, dtype=torch.float64)
    assert float(f(x)) == pytest.approx(0.0, abs=1e-9)  # PyWavelets' filters sum to √2 within 1e-11
    torch.testing.assert_close(f.prox(x, 5.0), x, rtol=1e-9, atol=0)


def test_lipschitz_constants():
    assert (2 * Huber(0.5)).lipschitz == 4.0
    assert (SquaredL2() + 2 * SquaredL2(weight=torch.tensor([[0.5, 3.0]]))).lipschitz == 7.0
    assert L1().lipschitz == math.inf
    weights = torch.tensor([[[1.0, 2.0]], [[5.0, 3.0]]])
    assert (2 * SquaredL2(weight=weights)).lipschitz.tolist() == [4.0, 10.0]  # of each image its own
    A = Gradient((6, 4), 0.5)
    assert Quadratic(A, 2.0).lipschitz == pytest.approx(2 * A.norm() ** 2)
    assert (Huber(0.5, ndim=3) @ A).lipschitz == pytest.approx(2 * A.norm() ** 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: SquaredL2(weight=torch.tensor([1.0, -1.0])), "weight"),
        (lambda: SquaredL2(weight=math.nan), "weight"),
        (lambda: Huber(0.0), "delta"),
        (lambda: HuberL21(-1.0), "delta"),
        (lambda: L21(dim=1), "dim"),
        (lambda: L21(dim=-4), "dim"),
        (lambda: Box(1.0, 0.0), "lower"),
        (lambda: Quadratic(weight=0.0), "weight"),
        (lambda: WaveletL1((8, 8), pixel_size=0.0), "pixel_size"),
        (lambda: WaveletL1((7,)), "ny, nx"),
        (lambda: 0.0 * L1(), "positive"),
        (lambda: -1 * L1(), "positive"),
        (lambda: L1() + L21(), "dimensions"),
        (lambda: L1() @ Gradient((3, 3)), "dimensions"),
        (lambda: NonNegative().prox(torch.zeros(2, 2, dtype=torch.complex64), 1.0), "real image"),
        (lambda: Box(0, 1)(torch.zeros(2, 2, dtype=torch.complex64)), "real image"),
    ],
)
def test_raises_clearly(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("f", [L1(), L2(), NonNegative()])
def test_no_gradient_says_what_to_use(f):
    with pytest.raises(NotImplementedError, match="prox"):
        f.grad(torch.zeros(2, 2))


def test_no_prox_says_what_to_use():
    with pytest.raises(NotImplementedError, match="pdhg"):
        (L1() + SquaredL2()).prox(torch.zeros(2, 2), 1.0)


def test_a_factor_may_stand_on_either_side():
    f, x = SquaredL2(ndim=1), torch.arange(3.0)
    assert float((f * 0.5)(x)) == float((0.5 * f)(x)) == 0.5 * float(f(x))
