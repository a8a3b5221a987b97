"""The differences of total generalised variation: an image x together with its slope field w."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import LinearOperator
from .gradient import Gradient


class Slope(LinearOperator):
    """(A (x, w))_d = ∂_d x − w_d: what the field w leaves of the slope of x; 0 at the far edges.

    (*batch, 1 + D, *shape), x first -> (*batch, D, *shape). Zero for an affine x with its own slope as w.

    shape   : one image, D axes
    spacing : distance of neighbours, a number or one per axis
    """

    def __init__(self, shape: tuple[int, ...], spacing: float | tuple[float, ...] = 1.0):
        super().__init__()
        self.gradient = Gradient(tuple(shape), spacing)
        self.in_shape, self.out_shape = (1 + len(shape), *shape), (len(shape), *shape)

    def _forward(self, x: Tensor) -> Tensor:
        return self.gradient(x[:, 0]) - self._inside(x[:, 1:])

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([self.gradient.adjoint(y)[:, None], -self._inside(y)], 1)

    def _inside(self, w: Tensor) -> Tensor:
        """w_d without the last pixels along d, where x has no difference."""
        w = w.clone()
        for d, n in enumerate(self.out_shape[1:]):
            w[:, d].narrow(d + 1, n - 1, 1).zero_()
        return w

    @classmethod
    def examples(cls) -> list[Slope]:
        return [cls((4, 5)), cls((3, 1), 0.7), cls((2, 3, 4), (2.0, 1.0, 0.5))]


class Strain(LinearOperator):
    """E w = ½(∇w + ∇wᵀ): diagonal entries, and √2 times the others, so that |E w| is Frobenius'.

    (*batch, 1 + D, *shape), the first of which is not looked at -> (*batch, D(D + 1)/2, *shape). Zero for a
    constant field.

    shape   : one image, D axes
    spacing : distance of neighbours, a number or one per axis
    """

    def __init__(self, shape: tuple[int, ...], spacing: float | tuple[float, ...] = 1.0):
        super().__init__()
        D = len(shape)
        self.gradient = Gradient(tuple(shape), spacing)
        self.pairs = [(d, d) for d in range(D)] + [(d, e) for d in range(D) for e in range(d + 1, D)]
        self.in_shape, self.out_shape = (1 + D, *shape), (len(self.pairs), *shape)

    def _forward(self, x: Tensor) -> Tensor:
        D = len(self.in_shape) - 1
        jacobian = self.gradient(x[:, 1:].flatten(0, 1)).unflatten(0, (len(x), D))
        return torch.stack([self._entry(jacobian, d, e) for d, e in self.pairs], 1)

    @staticmethod
    def _entry(jacobian: Tensor, d: int, e: int) -> Tensor:
        return jacobian[:, d, d] if d == e else (jacobian[:, d, e] + jacobian[:, e, d]) / math.sqrt(2)

    def _adjoint(self, y: Tensor) -> Tensor:
        D = len(self.in_shape) - 1
        jacobian = y.new_zeros(len(y), D, D, *self.in_shape[1:])
        for k, (d, e) in enumerate(self.pairs):
            scale = 1.0 if d == e else 1 / math.sqrt(2)
            jacobian[:, d, e] += scale * y[:, k]
            if d != e:
                jacobian[:, e, d] += scale * y[:, k]
        w = self.gradient.adjoint(jacobian.flatten(0, 1)).unflatten(0, (len(y), D))
        return torch.cat([torch.zeros_like(w[:, :1]), w], 1)

    @classmethod
    def examples(cls) -> list[Strain]:
        return [cls((4, 5)), cls((3, 1), 0.7), cls((2, 3, 4), (2.0, 1.0, 0.5))]


class First(LinearOperator):
    """A (x, w) = x: the image without its field, (*batch, 1 + D, *shape) -> (*batch, *shape)."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.in_shape, self.out_shape = (1 + len(shape), *shape), tuple(shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x[:, 0].clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.in_shape)
        x[:, 0] = y
        return x

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> list[First]:
        return [cls((4, 5)), cls((2, 3, 4))]
