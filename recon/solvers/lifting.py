"""f(A x) seen as f at z = A x, so that A is applied once and its values at combinations of x are free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from operators.tensors import spread
from priors.base import Composed, Functional, Sum

Lifted = Any  # a tensor, or a pair of lifted values for a sum


def lift(f: Functional, x: Tensor) -> Lifted:
    """All that f needs of x and that is linear in x: A x for f @ A, a pair for a sum, else x itself."""
    if isinstance(f, Composed):
        return f.A(x)
    if isinstance(f, Sum):
        return lift(f.f, x), lift(f.g, x)
    return x


def value(f: Functional, z: Lifted) -> Tensor:
    """f(x) from z = lift(f, x), without an operator call."""
    if isinstance(f, Composed):
        return f.f(z)
    if isinstance(f, Sum):
        return value(f.f, z[0]) + value(f.g, z[1])
    return f(z)


def gradient(f: Functional, z: Lifted) -> Tensor:
    """∇f(x) from z = lift(f, x): one adjoint for f @ A."""
    if isinstance(f, Composed):
        return f.A.adjoint(f.f.grad(z))
    if isinstance(f, Sum):
        return gradient(f.f, z[0]) + gradient(f.g, z[1])
    return f.grad(z)


def combine(function: Callable[..., Tensor], *lifted: Lifted) -> Lifted:
    """The same combination of every tensor in several lifted values."""
    if isinstance(lifted[0], tuple):
        return tuple(combine(function, *parts) for parts in zip(*lifted, strict=True))
    return function(*lifted)


def choose(where: Tensor, a: Lifted, b: Lifted) -> Lifted:
    """a of the images `where` says so, (*batch,), b of the others."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(torch.as_tensor(spread(where, a.ndim - where.ndim)), a, b)

    return combine(one, a, b)


def defined(f: Functional, z: Lifted) -> Tensor:
    """Per image, whether f is finite at z = lift(f, x), without an operator call.

    What has parameters, a network, is so everywhere, and not asked.
    """
    if isinstance(f, Sum):
        return defined(f.f, z[0]) & defined(f.g, z[1])
    inner = f.f if isinstance(f, Composed) else f
    if any(True for _ in inner.parameters()):
        return torch.tensor(True, device=z.device)
    return inner(z).isfinite()
