import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from operators import Fourier, Gradient, ParallelBeam, XRay
from operators.interop import from_scipy, to_scipy
from operators.testing import check

A = XRay(ParallelBeam((6, 7), 1.0, [math.pi * k / 8 for k in range(8)], 10, 0.9))


def dense(op):
    units = torch.eye(math.prod(op.in_shape), dtype=torch.float64).reshape(-1, *op.in_shape)
    return op(units).reshape(len(units), -1).T.numpy()


def test_vectors_and_columns():
    S, M = to_scipy(A), dense(A)
    x = np.random.default_rng(0).normal(size=(42, 3))
    y = np.random.default_rng(1).normal(size=(80, 3))
    assert S.shape == (80, 42) and S.dtype == np.float64
    for forward, back in (
        (S @ x, S.H @ y),
        (np.stack([S @ c for c in x.T], 1), np.stack([S.H @ c for c in y.T], 1)),
    ):
        np.testing.assert_allclose(forward, M @ x, atol=1e-12)
        np.testing.assert_allclose(back, M.T @ y, atol=1e-12)


def test_scipys_solvers_run_on_it():
    truth = np.random.default_rng(0).normal(size=42)
    S = to_scipy(A)
    found = scipy.sparse.linalg.lsqr(S, S @ truth, atol=1e-13, btol=1e-13, iter_lim=500)[0]
    np.testing.assert_allclose(found, np.linalg.lstsq(dense(A), S @ truth, rcond=None)[0], atol=1e-6)
    largest = scipy.sparse.linalg.svds(S, k=1, return_singular_vectors=False)[0]
    assert largest == pytest.approx(A.norm(), rel=1e-3)  # power iteration stops at 1e-3


def test_single_precision_stays_single():
    S = to_scipy(A, np.float32)
    assert S.dtype == np.float32 and (S @ np.ones(42, np.float32)).dtype == np.float32


def test_complex_operators():
    F = Fourier((4, 5))
    S = to_scipy(F, np.complex128)
    x = np.random.default_rng(0).normal(size=20) + 1j * np.random.default_rng(1).normal(size=20)
    assert S.dtype == np.complex128
    np.testing.assert_allclose(S.H @ (S @ x), x, atol=1e-12)  # it is unitary
    check(from_scipy(S, F.in_shape, F.out_shape), complex_input=True)


@pytest.mark.parametrize("op", [A, Gradient((3, 4), 0.5)], ids=["x-ray", "gradient"])
def test_there_and_back_is_the_operator(op):
    same = from_scipy(to_scipy(op), op.in_shape, op.out_shape)
    x = torch.randn(2, *op.in_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(same(x), op(x))
    check(same)


@pytest.mark.parametrize("kind", ["csr", "csc", "array", "complex"])
def test_matrices_keep_the_contract(kind):
    matrix = scipy.sparse.random(12, 15, density=0.3, random_state=0)
    if kind == "complex":
        check(from_scipy(matrix.toarray() * (1 + 0.5j), (3, 5)), complex_input=True)
    else:
        given = matrix.toarray() if kind == "array" else matrix.asformat(kind)
        check(from_scipy(given, (3, 5), (4, 3)))


def test_bad_input():
    with pytest.raises(ValueError, match=r"in_shape: expected 15 elements as the matrix has, got \(3, 4\)"):
        from_scipy(np.ones((2, 15)), (3, 4))
