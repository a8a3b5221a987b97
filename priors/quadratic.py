"""Quadratic regularisation (Tikhonov)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from operators.base import LinearOperator
from operators.gradient import Gradient
from operators.simple import Identity
from operators.tensors import inner, norm, real_dtype, spread, squared_norm

from .base import Functional, Step


class Quadratic(Functional):
    """½ weight ‖A x‖² (Tikhonov 1963); A = 1 if None.

    The prox solves (1 + s·weight·A*A) z = x: by a division (A = 1), by the cosine transform (Gradient), else
    by conjugate gradients, per image, to a relative error of 1e-12 in float64 and 1e-6 in float32. With
    A = Gradient(shape, spacing=h) and weight h² it is ½ ∫ |∇x|², whatever the pixel size.

    A      : linear operator on one image, or None
    weight : > 0, a float or one per image (*batch,)
    ndim   : dimensions of one image, if A is None
    """

    weight: Step

    def __init__(self, A: LinearOperator | None = None, weight: Step = 1.0, ndim: int = 2):
        super().__init__()
        if not bool(torch.as_tensor(weight > 0).all()):
            raise ValueError(f"Quadratic weight: expected a positive number, got {weight}")
        self.A, self.ndim = A, ndim if A is None else len(A.in_shape)
        if isinstance(weight, Tensor) and weight.ndim:
            self.register_buffer("weight", weight)
        else:
            self.weight = float(weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.A is None:
            return 0.5 * self.weight * squared_norm(x, self.ndim)
        return 0.5 * self.weight * squared_norm(self.A(x), len(self.A.out_shape))

    def grad(self, x: Tensor) -> Tensor:
        w = spread(self.weight, self.ndim)
        return w * (x if self.A is None else self.A.gram(x))

    def prox(self, x: Tensor, step: Step) -> Tensor:
        w = spread(step * self.weight, self.ndim)
        if self.A is None or isinstance(self.A, Identity):
            return x / (1 + w)
        if isinstance(self.A, Gradient):
            return _smoothed(x, w, self.A.spacing, self.ndim)
        gram = self.A.gram
        return _conjugate_gradients(lambda z: z + w * gram(z), x, self.ndim)

    def conjugate(self, y: Tensor) -> Tensor:
        if self.A is None or isinstance(self.A, Identity):
            return 0.5 / self.weight * squared_norm(y, self.ndim)
        return super().conjugate(y)

    @property
    def lipschitz(self) -> Step:
        return self.weight * (1.0 if self.A is None else self.A.norm() ** 2)

    def __rmul__(self, scale: Step) -> Quadratic:
        return Quadratic(self.A, scale * self.weight, self.ndim)

    def __repr__(self) -> str:
        return f"Quadratic({self.A!r}, weight={self.weight})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        gradient = Gradient((4, 5), spacing=0.5)
        return [
            (cls(), (3, 5)),
            (cls(Identity((4,)), weight=0.3), (4,)),
            (cls(gradient, weight=0.25), (4, 5)),
            (cls(2 * gradient), (4, 5)),
            (cls(Gradient((2, 3, 4), (1.0, 0.5, 2.0))), (2, 3, 4)),
        ]


def _smoothed(x: Tensor, weight: Tensor | float, spacing: tuple[float, ...], ndim: int) -> Tensor:
    """(1 + weight·∇*∇)⁻¹ x: mirrored at every edge, the Neumann Laplacian is a circular convolution."""
    dims = tuple(range(-ndim, 0))
    mirrored, eigenvalue = x, torch.zeros((), dtype=real_dtype(x), device=x.device)
    for d, h in zip(dims, spacing, strict=True):
        n = x.shape[d]
        mirrored = torch.cat([mirrored, mirrored.flip(d)], d)
        k = torch.arange(2 * n, dtype=real_dtype(x), device=x.device)
        along = (2 * torch.sin(math.pi * k / (2 * n)) / h).square()
        eigenvalue = eigenvalue + along.reshape(-1, *(1,) * (-d - 1))
    z = torch.fft.ifftn(torch.fft.fftn(mirrored, dim=dims) / (1 + weight * eigenvalue), dim=dims)
    z = z[(..., *(slice(x.shape[d]) for d in dims))]
    return z if x.is_complex() else z.real


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, ndim: int, iterations: int = 1000
) -> Tensor:
    """Solve apply(z) = b, apply ≥ 1 self-adjoint (Hestenes and Stiefel 1952); images that are done rest."""
    aim = (1e-12 if real_dtype(b) is torch.float64 else 1e-6) * norm(b, ndim)
    z, r, p, power = torch.zeros_like(b), b, b, squared_norm(b, ndim)
    for _ in range(iterations):
        active = power.sqrt() > aim
        if not bool(active.any()):
            break
        Ap = apply(p)
        alpha = torch.where(active, power / torch.where(active, inner(p, Ap, ndim), 1), 0)
        z, r = z + spread(alpha, ndim) * p, r - spread(alpha, ndim) * Ap
        new = torch.where(active, squared_norm(r, ndim), power)
        p, power = r + spread(torch.where(active, new / torch.where(active, power, 1), 0), ndim) * p, new
    return z
