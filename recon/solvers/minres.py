"""MINRES: self-adjoint equations that need not be positive definite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from operators.tensors import inner, norm, spread

from .conjugate import _ndim
from .iterate import Iterate, relative


def minres(A: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, ndim: int | None = None) -> Iterator[Iterate]:
    """A x = b, A self-adjoint, of any signs, perhaps singular: the least ‖b − A x‖ in every Krylov space.

    Paige and Saunders, SIAM J. Numer. Anal. 12 (1975). One call of A an iteration; ‖b − A x‖ never rises.

    A     an operator or a function on (*batch, *shape); one image never sees another
    b, x  right-hand side and start, (*batch, *shape)
    ndim  dimensions of one image; those of A.in_shape, or 2 for a plain function

    residual = ‖b − A x‖ / max(‖b‖, ‖b − A x₀‖), from the recurrence: below the true one where A is singular,
    b not in its range, and the iteration goes on beyond the least squares.
    """
    n = _ndim(A, ndim)
    r = b - A(x)
    beta = norm(r, n)
    length, eta = torch.maximum(norm(b, n), beta), beta
    eps, size = torch.finfo(beta.dtype).eps, torch.zeros_like(beta)
    v, v_old = spread(_inverse(beta), n) * r, torch.zeros_like(r)
    w, w_old = torch.zeros_like(r), torch.zeros_like(r)
    c = c_old = torch.ones_like(beta)
    s = s_old = torch.zeros_like(beta)
    yield Iterate(x, relative(eta.abs(), length))
    while True:
        p = A(v) - spread(beta, n) * v_old
        alpha = inner(v, p, n)
        p = p - spread(alpha, n) * v
        beta_new = norm(p, n)
        # what is left at rounding level is nothing: the end of the Krylov space, or a singular direction
        size = torch.maximum(size, alpha.abs() + beta_new)
        beta_new = torch.where(beta_new > 100 * eps * size, beta_new, 0.0)
        delta = c * alpha - c_old * s * beta
        rho = torch.hypot(delta, beta_new)
        rho = torch.where(rho > 100 * eps * size, rho, 0.0)
        rho_1, rho_2 = s * alpha + c_old * c * beta, s_old * beta
        c_old, s_old = c, s
        c = torch.where(rho == 0, 0.0, delta / rho)
        s = torch.where(rho == 0, 1.0, beta_new / rho)
        share = spread(_inverse(rho), n)
        w, w_old = share * (v - spread(rho_2, n) * w_old - spread(rho_1, n) * w), w
        # at rounding level an image stands still
        x = x + spread(torch.where(eta.abs() > eps * length, c * eta, 0.0), n) * w
        eta = -s * eta
        v, v_old, beta = spread(_inverse(beta_new), n) * p, v, beta_new
        yield Iterate(x, relative(eta.abs(), length))


def _inverse(t: Tensor) -> Tensor:
    """1/t, and 0 where t = 0."""
    return torch.where(t == 0, 0.0, 1 / t)
