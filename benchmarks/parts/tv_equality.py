"""Total variation with exact data, solved to a certified gap, on images small enough for a dense basis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators import Gradient, LinearOperator


@dataclass(frozen=True)
class LeastTV:
    """x (n, ny, nx); per image the gap over TV, ‖Ax − y‖/‖y‖ and by how much x leaves [0, 1]; iterations."""

    x: Tensor
    gap: Tensor
    misfit: Tensor
    outside: Tensor
    iterations: int


class Range:
    """An orthonormal basis V of the range of A*, and x₀ = A⁺y: {x | Ax = y} = x₀ + (I − VVᵀ) ℝᴺ."""

    def __init__(self, A: LinearOperator, y: Tensor):
        n = A.in_shape[0] * A.in_shape[1]
        matrix = A(torch.eye(n, dtype=y.dtype).reshape(n, *A.in_shape)).reshape(n, -1).T
        # not the eigenvectors of A A*: those of small values are not orthogonal enough for a gap of 1e-8
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        # rays that say the same as others, or that miss the image, have singular values of rounding size
        use = values > 1e-10 * values[0]
        self.V = right[use].T
        self.start = (y.flatten(1) @ left[:, use] / values[use]) @ self.V.T

    def onto(self, x: Tensor) -> Tensor:
        """VVᵀx."""
        return (x @ self.V) @ self.V.T


def least_tv(A: LinearOperator, y: Tensor, iterations: int, gap: float, every: int = 50) -> LeastTV:
    """min Σ|∇x| (isotropic), Ax = y, 0 ≤ x ≤ 1: relaxed primal–dual iterations with exact projections.

    With p of length ≤ 1 at every pixel, any u and r = VVᵀ(∇*p + u), min_{0≤x≤1} ⟨∇*p − r, x⟩ + ⟨r, x₀⟩ is a
    lower bound of the minimum; the gap is |TV(x) less that|. Ends when it is at most `gap`·TV for all images
    and no pixel is further than `gap` outside [0, 1].

    y : (n, *A.out_shape), float64, in the range of A
    """
    D, rows = Gradient(A.in_shape), Range(A, y)
    shape = (len(y), *A.in_shape)
    x0 = rows.start.reshape(shape)

    def feasible(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return x0 + (flat - rows.onto(flat)).reshape(shape)

    x, u = feasible(x0.clamp(0, 1)), torch.zeros_like(x0)
    p = torch.zeros_like(D(x))
    tau, relax = 0.1, 1.9
    sigma = 1 / (9.0 * tau)  # ‖∇‖² + 1 ≤ 9
    shown, relative, k = x, torch.full((len(y),), torch.inf, dtype=y.dtype), 0
    for k in range(1, iterations + 1):
        x_hat = feasible(x - tau * (D.adjoint(p) + u))
        ahead = 2 * x_hat - x
        p_hat = p + sigma * D(ahead)
        p_hat = p_hat / p_hat.norm(dim=1, keepdim=True).clamp(min=1)
        v = u + sigma * ahead
        u_hat = v - sigma * (v / sigma).clamp(0, 1)
        if k % every == 0 or k == iterations:
            height = D(x_hat).norm(dim=1).sum((1, 2))
            slope = D.adjoint(p_hat)
            r = rows.onto((slope + u_hat).flatten(1)).reshape(shape)
            bound = (r * x0).sum((1, 2)) + (slope - r).clamp(max=0).sum((1, 2))
            shown, relative, outside = x_hat, (height - bound).abs() / height, _outside(x_hat)
            if bool((torch.maximum(relative, outside) <= gap).all()):
                break
        x, p, u = (a + relax * (b - a) for a, b in ((x, x_hat), (p, p_hat), (u, u_hat)))
    misfit = (A(shown) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    return LeastTV(shown, relative, misfit, _outside(shown), k)


def _outside(x: Tensor) -> Tensor:
    return torch.maximum(-x, x - 1).clamp(min=0).amax((1, 2))
