"""Conjugate gradients, for self-adjoint equations and for least squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import inner, norm, spread, squared_norm

from .iterate import Iterate, relative


def cg(A: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, ndim: int | None = None) -> Iterator[Iterate]:
    """A x = b, for A self-adjoint and positive definite: conjugate gradients.

    Hestenes and Stiefel, J. Res. Nat. Bur. Stand. 49 (1952). One call of A an iteration.

    A     an operator or a function on (*batch, *shape); one image never sees another
    b, x  right-hand side and start, (*batch, *shape)
    ndim  dimensions of one image; those of A.in_shape, or 2 for a plain function

    residual = ‖b − A x‖ / max(‖b‖, ‖b − A x₀‖); at rounding level an image stands still.
    """
    n = _ndim(A, ndim)
    r = b - A(x)
    p, rr = r, squared_norm(r, n)
    length = torch.maximum(norm(b, n), rr.sqrt())
    yield Iterate(x, relative(rr.sqrt(), length))
    while True:
        Ap = A(p)
        alpha = _safe_ratio(_alive(rr, length), inner(p, Ap, n))
        x = x + spread(alpha, n) * p
        r = r - spread(alpha, n) * Ap
        rr, rr_old = squared_norm(r, n), rr
        p = r + spread(_safe_ratio(rr, rr_old), n) * p
        yield Iterate(x, relative(rr.sqrt(), length))


def cgls(A: LinearOperator, y: Tensor, x: Tensor, damping: Tensor | float = 0.0) -> Iterator[Iterate]:
    """min_x ½‖A x − y‖² + ½δ‖x‖², by conjugate gradients on the normal equations without forming them.

    Björck, Numerical Methods for Least Squares Problems (1996), algorithm 7.4.1. One A and one A* an
    iteration; from x = 0 the minimum-norm solution.

    damping  δ, a float or one per image

    residual = ‖A*(y − A x) − δ x‖ / max(‖A*y‖, that at the start), and an image stands still when it is at
    rounding level; objective = the minimised value.
    """
    n, m = len(A.in_shape), len(A.out_shape)
    delta = spread(damping, n)
    b = A.adjoint(y)
    if bool((x == 0).all()):
        r, s = y.expand(*x.shape[: x.ndim - n], *A.out_shape), b
    else:
        r = y - A(x)
        s = A.adjoint(r) - delta * x
    p, ss = s, squared_norm(s, n)
    length = torch.maximum(norm(b, n), ss.sqrt())
    yield Iterate(x, relative(ss.sqrt(), length), _damped(r, x, damping, n, m))
    while True:
        q = A(p)
        alpha = _safe_ratio(_alive(ss, length), squared_norm(q, m) + damping * squared_norm(p, n))
        x = x + spread(alpha, n) * p
        r = r - spread(alpha, m) * q
        s = A.adjoint(r) - delta * x
        ss, ss_old = squared_norm(s, n), ss
        p = s + spread(_safe_ratio(ss, ss_old), n) * p
        yield Iterate(x, relative(ss.sqrt(), length), _damped(r, x, damping, n, m))


def _damped(r: Tensor, x: Tensor, damping: Tensor | float, n: int, m: int) -> Tensor:
    return (squared_norm(r, m) + damping * squared_norm(x, n)) / 2


def _alive(rr: Tensor, length: Tensor) -> Tensor:
    """‖r‖², and 0 when it is rounding: going on would only collect errors."""
    return torch.where(rr.sqrt() > torch.finfo(rr.dtype).eps * length, rr, 0.0)


def _safe_ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where a = 0: a solved image stands still."""
    return torch.where(a == 0, torch.zeros_like(a), a / b)


def _ndim(A: Callable[[Tensor], Tensor], ndim: int | None) -> int:
    if ndim is not None:
        return ndim
    return len(A.in_shape) if isinstance(A, LinearOperator) else 2
