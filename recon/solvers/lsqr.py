"""Least squares by Golub–Kahan bidiagonalisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import norm, spread, squared_norm

from .iterate import Iterate, relative


def lsqr(A: LinearOperator, y: Tensor, x: Tensor, damping: Tensor | float = 0.0) -> Iterator[Iterate]:
    """min_x ½‖A x − y‖² + ½δ‖x‖², by the bidiagonalisation of (A, √δ).

    Paige and Saunders, ACM Trans. Math. Softw. 8 (1982). In exact arithmetic the iterates of `cgls`, in
    floating point closer to them where A is ill-conditioned. One A and one A* an iteration; from x = 0 the
    minimum-norm solution. With x ≠ 0 it is still ‖x‖ that is damped, not the correction.

    damping  δ ≥ 0, a float or one per image (scipy's `damp` is √δ)

    residual = ‖A*(y − A x) − δ x‖ / max(‖A*y‖, that at the start), from the recurrences; an image stands
    still when it is at rounding level. objective = the minimised value.
    """
    n, m = len(A.in_shape), len(A.out_shape)
    root = torch.as_tensor(damping, dtype=x.real.dtype, device=x.device).sqrt()
    if not bool(torch.isfinite(root).all()):
        raise ValueError(f"lsqr damping: expected numbers ≥ 0, got {damping}")
    delta = spread(root, n)
    u = y - A(x) if bool((x != 0).any()) else y.expand(*x.shape[: x.ndim - n], *A.out_shape)
    below = -delta * x  # u's share in the rows of √δ

    def unit(v: Tensor, length: Tensor, ndim: int) -> Tensor:
        return v * spread(torch.where(length > 0, 1 / length, 0.0), ndim)

    beta = (squared_norm(u, m) + squared_norm(below, n)).sqrt()
    u, below = unit(u, beta, m), unit(below, beta, n)
    v = A.adjoint(u) + delta * below
    alpha = norm(v, n)
    v = unit(v, alpha, n)
    w, phi_bar, rho_bar = v, beta, alpha
    slope = alpha * beta
    length = torch.maximum(norm(A.adjoint(y), n), slope) if bool((x != 0).any()) else slope
    yield Iterate(x, relative(slope, length), phi_bar**2 / 2)
    while True:
        alive = slope > torch.finfo(slope.dtype).eps * length
        u = A(v) - spread(alpha, m) * u
        below = delta * v - spread(alpha, n) * below
        beta = (squared_norm(u, m) + squared_norm(below, n)).sqrt()
        u, below = unit(u, beta, m), unit(below, beta, n)
        v = A.adjoint(u) + delta * below - spread(beta, n) * v
        alpha = norm(v, n)
        v = unit(v, alpha, n)
        rho = torch.hypot(rho_bar, beta)
        rho = torch.where(rho > 0, rho, 1.0)
        c, s = rho_bar / rho, beta / rho
        theta, rho_bar = s * alpha, -c * alpha
        step = torch.where(alive, c * phi_bar / rho, 0.0)
        phi_bar = torch.where(alive, s * phi_bar, phi_bar)
        x = x + spread(step, n) * w
        w = v - spread(theta / rho, n) * w
        slope = torch.where(alive, phi_bar * alpha * c.abs(), 0.0)
        yield Iterate(x, relative(slope, length), phi_bar**2 / 2)
