"""Orthogonal matching pursuit of many patches with one dictionary (numba)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from operators.backends.pool import available, share

Array = NDArray[Any]
PIECE = 256  # patches of one piece of work


def pursue(
    projections: Array, gram: Array, energy: Array, sparsity: int, enough: Array
) -> tuple[Array, Array]:
    """Greedy codes of patches z: the atom most like the rest, then least squares over all chosen, repeated.

    Batch form with a growing Cholesky factor: Rubinstein, Zibulevsky, Elad, Technion CS-2008-08. A patch
    stops at `sparsity` atoms, or when ‖z − Dγ‖² ≤ enough, (n,).

    projections : Dᵀz, (n, atoms); gram : DᵀD of atoms of length 1; energy : ‖z‖², (n,); all of one real dtype
    Returns the indices (−1 for none) and values of the codes, (n, sparsity).
    """
    n = len(projections)
    which = np.full((n, sparsity), -1, np.int64)
    value = np.zeros((n, sparsity), projections.dtype)
    work = (projections, gram, energy, enough, which, value)
    pieces = -(-n // PIECE)
    share(lambda k: _pursue(k * PIECE, min((k + 1) * PIECE, n), *work), pieces, available())
    return which, value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pursue(
    first: int, last: int, projections: Array, gram: Array, energy: Array, enough: Array,
    which: Array, value: Array,
) -> None:  # fmt: skip
    atoms, most = projections.shape[1], which.shape[1]
    L = np.zeros((most, most), projections.dtype)
    rest = np.empty(atoms, projections.dtype)
    code = np.empty(most, projections.dtype)
    # below the rounding of its own energy a rest is noise
    rounding = 10 * np.finfo(projections.dtype).eps
    for p in range(first, last):
        start, chosen = projections[p], which[p]
        rest[:] = start
        left = energy[p]
        for s in range(most):
            if left <= max(enough[p], rounding * energy[p]):
                break
            best = 0
            for k in range(atoms):
                if abs(rest[k]) > abs(rest[best]):
                    best = k
            pivot = gram[best, best]
            for i in range(s):
                entry = gram[chosen[i], best]
                for j in range(i):
                    entry -= L[i, j] * L[s, j]
                L[s, i] = entry / L[i, i]
                pivot -= L[s, i] * L[s, i]
            if pivot <= rounding:  # the atom depends on those chosen, or nothing is left to find
                break
            L[s, s] = np.sqrt(pivot)
            chosen[s] = best
            _solve(L, start, chosen, code, s + 1)
            left = energy[p]
            rest[:] = start
            for i in range(s + 1):
                left -= code[i] * start[chosen[i]]
                for k in range(atoms):
                    rest[k] -= code[i] * gram[chosen[i], k]
            value[p, : s + 1] = code[: s + 1]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve(L: Array, start: Array, chosen: Array, code: Array, n: int) -> None:
    """L Lᵀ code = start[chosen]"""
    for i in range(n):
        total = start[chosen[i]]
        for j in range(i):
            total -= L[i, j] * code[j]
        code[i] = total / L[i, i]
    for i in range(n - 1, -1, -1):
        total = code[i]
        for j in range(i + 1, n):
            total -= L[j, i] * code[j]
        code[i] = total / L[i, i]
