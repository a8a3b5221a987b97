"""Sparsity in an orthonormal wavelet basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from operators.backends.fused import fits
from operators.gradient import spacings
from operators.tensors import real_dtype, spread, total
from operators.wavelet import Wavelet

from .base import Composed, Functional, Step
from .norms import SLACK, _at_least, euclidean


class WaveletL1(Composed):
    """E(x) = weight · h Σ |details of W x|, W orthonormal; prox in closed form, W*(soft(W x)).

    Donoho and Johnstone, Biometrika 81 (1994). Coarse averages are free. With the pixel size h [mm] a
    coefficient keeps its value over pixel sizes: h W x ≈ ∫ x ψ, ‖ψ‖₂ = 1, and the sum is the Besov norm of
    B¹₁,₁ in the plane (finer pixels add levels, they do not change the coarse ones). Of a volume h is the
    square root of a voxel, and the space B^{3/2}₁,₁. Modulus if complex.

    With `joint` leading axes (frames, coils, contrasts), which are not transformed, Σ √(Σ_c |W x_c|²): they
    share where their details are (Majumdar and Ward, Magn. Reson. Imaging 29 (2011)).

    Sides need not be multiples of 2**levels: see operators.Wavelet for what happens at the far edge then.

    shape      : (ny, nx), (nz, ny, nx), or with axes to join before
    wavelet    : as in operators.Wavelet
    levels     : by default as many as fit, at most 4; see operators.Wavelet
    pixel_size : h [mm], or one for every transformed axis; h² stands for their product
    weight     : > 0, a float or one per image (*batch,)
    joint      : how many leading axes of shape are joined, 0 for none
    """

    weight: Step
    A: Wavelet

    def __init__(
        self,
        shape: Sequence[int],
        wavelet: str = "db4",
        levels: int | None = None,
        pixel_size: float | Sequence[float] = 1.0,
        weight: Step = 1.0,
        joint: int = 0,
    ):
        shape = tuple(shape)
        axes = len(shape) - joint
        if joint < 0 or axes not in (2, 3):
            wanted = "expected (ny, nx) or (nz, ny, nx)" + (f" after {joint} joint axes" if joint else "")
            raise ValueError(f"WaveletL1 shape: {wanted}, got {shape}")
        cell = math.prod(spacings("WaveletL1 pixel_size [mm]", pixel_size, axes))
        W = Wavelet(shape, wavelet, levels, axes)
        super().__init__(weight * math.sqrt(cell) * _Details(W.sides[-1], joint), W)
        self.options = (shape, wavelet, W.levels, pixel_size)
        self.pixel_size, self.joint, self._slope = pixel_size, joint, math.sqrt(cell)
        if isinstance(weight, Tensor) and weight.ndim:
            self.register_buffer("weight", weight)
        else:
            self.weight = float(weight)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        shape, batch = self.A.in_shape, x.shape[:-2]
        if len(shape) != 2 or tuple(x.shape[-2:]) != shape or not fits(x, step, self.weight):
            return self.A.adjoint(self.f.prox(self.A(x), step))
        limit = torch.as_tensor(step * self.weight * self._slope, dtype=real_dtype(x)).expand(batch)
        return self.A.shrunk(x.reshape(-1, *shape), limit.reshape(-1)).reshape(x.shape)

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        return self.A.adjoint(self.f.prox_conj(self.A(y), step))

    def conjugate(self, y: Tensor) -> Tensor:
        return self.f.conjugate(self.A(y))

    def __rmul__(self, scale: Step) -> WaveletL1:
        return WaveletL1(*self.options, scale * self.weight, self.joint)

    def __repr__(self) -> str:
        joint = f", joint={self.joint}" if self.joint else ""
        return f"WaveletL1({self.A!r}, pixel_size={self.pixel_size}, weight={self.weight}{joint})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((8, 12)), (8, 12)),
            (cls((4, 6), "haar", 1, pixel_size=0.5, weight=0.3), (4, 6)),
            (cls((5, 7), "db2", 2), (5, 7)),
            (cls((3, 4, 6), "haar", 1, (2.0, 0.5, 1.0)), (3, 4, 6)),
            (cls((3, 4, 5), "db2", 1, weight=0.7, joint=1), (3, 4, 5)),
        ]


class _Details(Functional):
    """Σ √(Σ_c |c|²) outside the corner of coarse averages, which cost nothing; c are joined coefficients.

    Conjugate: 0 where the lengths of y are ≤ 1 outside and y = 0 inside, both to 1e-6 (of max|y| inside),
    else inf.
    """

    def __init__(self, coarse: Sequence[int], joint: int):
        super().__init__()
        self.ndim = len(coarse) + joint
        self.coarse: tuple[Any, ...] = (..., *(slice(n) for n in coarse))
        self.group = tuple(range(-self.ndim, -len(coarse)))

    def length(self, c: Tensor) -> Tensor:
        return euclidean(c, self.group) if self.group else c.abs()

    def _with_coarse(self, c: Tensor, coarse: Tensor | float) -> Tensor:
        c = c.clone()
        c[self.coarse] = coarse
        return c

    def forward(self, c: Tensor) -> Tensor:
        return total(self.length(self._with_coarse(c, 0.0)), self.ndim)

    def grad(self, c: Tensor) -> Tensor:
        raise NotImplementedError(
            "WaveletL1 is not differentiable where a detail is 0: use its prox (fista, pdhg, admm)"
        )

    def prox(self, c: Tensor, step: Step) -> Tensor:
        s = spread(step, self.ndim)
        return self._with_coarse(c * (1 - s / _at_least(self.length(c), s)), c[self.coarse])

    def prox_conj(self, c: Tensor, step: Step) -> Tensor:
        return self._with_coarse(c / self.length(c).clamp(min=1.0), 0.0)

    def conjugate(self, c: Tensor) -> Tensor:
        axes = tuple(range(-self.ndim, 0))
        free = (c[self.coarse].abs() <= SLACK * c.abs().amax(axes, keepdim=True)).flatten(-self.ndim).all(-1)
        inside = (self.length(self._with_coarse(c, 0.0)) <= 1 + SLACK).flatten(-self.ndim).all(-1)
        return torch.where(free & inside, 0.0, math.inf).to(real_dtype(c))

    def __repr__(self) -> str:
        return "details"
