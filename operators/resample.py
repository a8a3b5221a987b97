"""Fewer, larger pixels: the mean of every block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import LinearOperator
from .tensors import real_dtype


class Downsample(LinearOperator):
    """(A x)ᵢ = mean of x over block i of factor × factor pixels: what a detector of larger pixels sees.

    A A* = diag(1/n), n the pixels of every block, so that factorᵈ A* repeats each value over its block.

    shape  one image, (…, ny, nx)
    factor  pixels of a block along each of the last `ndim` dimensions; a last block may be smaller
    ndim  how many dimensions are averaged

    Raises ValueError for a factor that is no whole number from 1, or larger than the image.
    """

    counts: Tensor

    def __init__(self, shape: tuple[int, ...], factor: int, ndim: int = 2):
        super().__init__()
        shape = tuple(int(n) for n in shape)
        if not 1 <= ndim <= len(shape):
            raise ValueError(f"Downsample ndim: expected 1 to {len(shape)}, got {ndim}")
        sides = shape[len(shape) - ndim :]
        if isinstance(factor, bool) or not isinstance(factor, int) or not 1 <= factor <= min(sides):
            raise ValueError(
                f"Downsample factor: expected a whole number from 1 to {min(sides)}, got {factor!r}"
            )
        self.factor, self.ndim, self.in_shape = factor, ndim, shape
        self.out_shape = (*shape[: len(shape) - ndim], *(math.ceil(n / factor) for n in sides))
        counts = torch.ones((1,) * ndim, dtype=torch.float64)
        for axis, n in enumerate(sides):
            width = torch.full((math.ceil(n / factor),), float(factor), dtype=torch.float64)
            width[-1] = n - factor * (len(width) - 1)
            counts = counts * width.reshape(-1, *(1,) * (ndim - 1 - axis))
        self.register_buffer("counts", counts)

    def _forward(self, x: Tensor) -> Tensor:
        for axis in range(-self.ndim, 0):
            n, blocks = x.shape[axis], math.ceil(x.shape[axis] / self.factor)
            missing = blocks * self.factor - n
            if missing:
                x = torch.cat([x, torch.zeros_like(x.narrow(axis, 0, missing))], axis)
            x = x.unflatten(axis, (blocks, self.factor)).sum(axis)  # the block's pixels
        return x / self.counts.to(real_dtype(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y / self.counts.to(real_dtype(y))
        for axis in range(-self.ndim, 0):
            x = x.repeat_interleave(self.factor, axis).narrow(axis, 0, self.in_shape[axis])
        return x

    def _norm(self, iterations: int = 500) -> float:
        return 1 / math.sqrt(float(self.counts.min()))

    def __repr__(self) -> str:
        return f"Downsample({self.in_shape}, {self.factor}{'' if self.ndim == 2 else f', {self.ndim}'})"

    @classmethod
    def examples(cls) -> list[Downsample]:
        """Even and odd sizes, a volume, its slices only."""
        return [cls((6, 4), 2), cls((7, 5), 3), cls((3, 5, 4), 2, ndim=3), cls((2, 5, 4), 2)]
