"""scipy.sparse.linalg.LinearOperator and matrices, to and fro."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import LinearOperator
from .foreign import Foreign


def to_scipy(A: LinearOperator, dtype: Any = np.float64) -> Any:
    """A as a scipy LinearOperator on flat numpy vectors, for lsqr, eigsh, svds…

    dtype  of the vectors A is given: a real one, or a complex one for complex images
    """
    from scipy.sparse.linalg import LinearOperator as Scipy

    taken = torch.from_numpy(np.empty(0, dtype)).dtype
    with torch.no_grad():
        given = A(torch.zeros(A.in_shape, dtype=taken)).dtype
    shape = (math.prod(A.out_shape), math.prod(A.in_shape))

    def forward(x: NDArray[Any]) -> NDArray[Any]:
        return _columns(A, x, A.in_shape, taken)

    def adjoint(y: NDArray[Any]) -> NDArray[Any]:
        return _columns(A.adjoint, y, A.out_shape, given)

    return Scipy(
        shape, matvec=forward, rmatvec=adjoint, matmat=forward, rmatmat=adjoint, dtype=_numpy_dtype(given)
    )


def from_scipy(
    matrix: Any, in_shape: tuple[int, ...] | None = None, out_shape: tuple[int, ...] | None = None
) -> Foreign:
    """A scipy sparse matrix, LinearOperator or numpy matrix as our operator; computed on the CPU.

    matrix     (rows, columns); a LinearOperator needs its rmatvec
    in_shape   of one image, columns = ∏ in_shape; by default (columns,)
    out_shape  of its data, rows = ∏ out_shape; by default (rows,)
    """
    rows, columns = matrix.shape
    in_shape, out_shape = tuple(in_shape or (columns,)), tuple(out_shape or (rows,))
    for name, shape, count in (("in_shape", in_shape, columns), ("out_shape", out_shape, rows)):
        if math.prod(shape) != count:
            raise ValueError(f"from_scipy {name}: expected {count} elements as the matrix has, got {shape}")
    return Foreign(_Matrix(matrix, in_shape, out_shape), in_shape, out_shape)


class _Matrix:
    """x ↦ M x and y ↦ Mᴴ y on batches."""

    def __init__(self, matrix: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...]):
        self.matrix, self.in_shape, self.out_shape = matrix, in_shape, out_shape

    def forward(self, x: Tensor) -> Tensor:
        return self._times(self.matrix, x, self.out_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._times(
            self.matrix.conj().T if not hasattr(self.matrix, "H") else self.matrix.H, y, self.in_shape
        )

    def _times(self, matrix: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if x.device.type != "cpu":
            raise ValueError(f"an operator of scipy runs on the CPU, got a tensor on {x.device}: use x.cpu()")
        flat = x.detach().resolve_conj().resolve_neg().reshape(len(x), -1).numpy().T
        result = torch.from_numpy(np.ascontiguousarray((matrix @ flat).T)).reshape(len(x), *shape)
        return result.to(x.dtype.to_complex() if result.is_complex() else x.dtype)


def _columns(apply: Any, x: NDArray[Any], shape: tuple[int, ...], dtype: torch.dtype) -> NDArray[Any]:
    """`apply` to a flat vector, or to every column of a matrix."""
    columns = np.ascontiguousarray(x.T).reshape(-1, *shape)
    with torch.no_grad():
        result = apply(torch.from_numpy(columns).to(dtype)).numpy()
    flat: NDArray[Any] = result.reshape(len(columns), -1).T
    return flat if x.ndim == 2 else flat[:, 0]


def _numpy_dtype(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype
