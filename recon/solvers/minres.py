"""MINRES: self-adjoint equations that need not be positive definite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from operators.tensors import inner, norm, spread

from .conjugate import _ndim, _safe_ratio
from .iterate import Iterate, relative


def minres(A: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, ndim: int | None = None) -> Iterator[Iterate]:
    """A x = b, A self-adjoint, of any signs, perhaps singular: the least ‖b − A x‖ in every Krylov space.

    Paige and Saunders, SIAM J. Numer. Anal. 12 (1975). One call of A an iteration; ‖b − A x‖ never rises.

    A     an operator or a function on (*batch, *shape); one image never sees another
    b, x  right-hand side and start, (*batch, *shape)
    ndim  dimensions of one image; those of A.in_shape, or 2 for a plain function

    residual = ‖b − A x‖ / max(‖b‖, ‖b − A x₀‖), from the recurrence.
    """
    n = _ndim(A, ndim)
    r = b - A(x)
    beta = norm(r, n)
    length, eta = torch.maximum(norm(b, n), beta), beta
    floor = torch.finfo(beta.dtype).eps * length
    v, v_old = spread(_safe_ratio(_one(beta), beta), n) * r, torch.zeros_like(r)
    w, w_old = torch.zeros_like(r), torch.zeros_like(r)
    c = c_old = torch.ones_like(beta)
    s = s_old = torch.zeros_like(beta)
    yield Iterate(x, relative(eta.abs(), length))
    while True:
        p = A(v) - spread(beta, n) * v_old
        alpha = inner(v, p, n)
        p = p - spread(alpha, n) * v
        # the Krylov space ends where only rounding is left of p
        beta_new = norm(p, n)
        beta_new = torch.where(beta_new > torch.finfo(beta.dtype).eps * (alpha.abs() + beta), beta_new, 0.0)
        delta = c * alpha - c_old * s * beta
        rho = torch.hypot(delta, beta_new)
        rho_1, rho_2 = s * alpha + c_old * c * beta, s_old * beta
        c_old, s_old = c, s
        c = _safe_ratio(delta, torch.where(rho == 0, 1.0, rho))
        s = torch.where(rho == 0, 1.0, _safe_ratio(beta_new, rho))
        share = spread(_safe_ratio(_one(rho), rho), n)
        w, w_old = share * (v - spread(rho_2, n) * w_old - spread(rho_1, n) * w), w
        x = x + spread(torch.where(eta.abs() > floor, c * eta, 0.0), n) * w
        eta = -s * eta
        v, v_old, beta = spread(_safe_ratio(_one(beta_new), beta_new), n) * p, v, beta_new
        yield Iterate(x, relative(eta.abs(), length))


def _one(t: Tensor) -> Tensor:
    """1, and 0 where t = 0."""
    return (t != 0).to(t)
