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

    residual = ‖b − A x‖ / max(‖b‖, ‖b − A x₀‖), from the recurrence; where no x solves it, that of the least
    squares, at which an image stands still.
    """
    n = _ndim(A, ndim)
    r = b - A(x)
    beta = norm(r, n)
    length, eta = torch.maximum(norm(b, n), beta), beta
    eps, size = torch.finfo(beta.dtype).eps, torch.zeros_like(beta)
    ended = beta == 0
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
        # ‖A r‖ / ‖r‖ is at rounding level: r is the least there is, and what follows would be noise
        ended = ended | (torch.hypot(delta, c * beta_new) <= eps**0.75 * size)
        rho = torch.hypot(delta, beta_new)
        rho = torch.where(rho > 100 * eps * size, rho, 0.0)
        rho_1, rho_2 = s * alpha + c_old * c * beta, s_old * beta
        c_old, s_old = c, s
        c = torch.where(rho == 0, 0.0, delta / rho)
        s = torch.where(rho == 0, 1.0, beta_new / rho)
        share = spread(_inverse(rho), n)
        w, w_old = share * (v - spread(rho_2, n) * w_old - spread(rho_1, n) * w), w
        ended = ended | (eta.abs() <= eps * length)
        x = x + spread(torch.where(ended, 0.0, c * eta), n) * w
        eta = torch.where(ended, eta, -s * eta)
        v, v_old, beta = spread(_inverse(beta_new), n) * p, v, beta_new
        yield Iterate(x, relative(eta.abs(), length))


def _inverse(t: Tensor) -> Tensor:
    """1/t, and 0 where t = 0."""
    return torch.where(t == 0, 0.0, 1 / t)
