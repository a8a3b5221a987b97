"""Arithmetic that treats every image of a batch by itself."""

from __future__ import annotations

import torch
from torch import Tensor


def inner(x: Tensor, y: Tensor, ndim: int) -> Tensor:
    """Re⟨x, y⟩ = Re Σ conj(xᵢ) yᵢ over the last `ndim` dimensions, one value per image.

    x, y : (*batch, *shape) with len(shape) = ndim. Returns (*batch,), real.
    """
    if x.is_complex() and y.is_complex():
        return total(x.real * y.real + x.imag * y.imag, ndim)
    return total(x.real * y.real, ndim)


def squared_norm(x: Tensor, ndim: int) -> Tensor:
    """‖x‖² over the last `ndim` dimensions, one value per image."""
    return inner(x, x, ndim)


def norm(x: Tensor, ndim: int) -> Tensor:
    """‖x‖₂ over the last `ndim` dimensions, one value per image."""
    return squared_norm(x, ndim).sqrt()


def total(x: Tensor, ndim: int) -> Tensor:
    """Σ x over the last `ndim` dimensions, one value per image."""
    return x.sum(dim=tuple(range(-ndim, 0))) if ndim else x


def spread(value: Tensor | float, ndim: int) -> Tensor | float:
    """One value per image, shaped to multiply images: (*batch,) -> (*batch, 1, …, 1); a float stays."""
    if isinstance(value, Tensor) and value.ndim:
        return value.reshape(*value.shape, *(1,) * ndim)
    return value


def real_dtype(x: Tensor) -> torch.dtype:
    """The real dtype of the same precision."""
    return x.real.dtype if x.is_complex() else x.dtype
