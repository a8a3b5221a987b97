"""Sparsity in an orthonormal wavelet basis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from operators.tensors import spread
from operators.wavelet import Wavelet

from .base import Composed, Functional, Step
from .norms import L1, SLACK


class WaveletL1(Composed):
    """E(x) = weight · h Σ |details of W x|, W orthonormal; prox in closed form, W*(soft(W x)).

    Donoho and Johnstone, Biometrika 81 (1994). Coarse averages are free. With the pixel size h [mm] a
    coefficient keeps its value over pixel sizes: h W x ≈ ∫ x ψ, ‖ψ‖₂ = 1, and the sum is the Besov norm of
    B¹₁,₁ in the plane (finer pixels add levels, they do not change the coarse ones). Modulus if complex.

    shape      : (ny, nx), multiples of 2**levels
    wavelet    : as in operators.Wavelet
    levels     : by default as many as fit, at most 4
    pixel_size : h [mm]
    weight     : > 0, a float or one per image (*batch,)
    """

    weight: Step

    def __init__(
        self,
        shape: Sequence[int],
        wavelet: str = "db4",
        levels: int | None = None,
        pixel_size: float = 1.0,
        weight: Step = 1.0,
    ):
        if not 0 < pixel_size < math.inf:
            raise ValueError(f"WaveletL1 pixel_size [mm]: expected a positive number, got {pixel_size}")
        if len(shape) != 2:
            raise ValueError(
                f"WaveletL1 shape: expected an image (ny, nx), got {tuple(shape)}; volumes have TV"
            )
        ny, nx = shape
        W = Wavelet((ny, nx), wavelet, levels)
        super().__init__(weight * pixel_size * _Details((ny >> W.levels, nx >> W.levels)), W)
        self.options = (shape, wavelet, W.levels, pixel_size)
        self.pixel_size = pixel_size
        if isinstance(weight, Tensor) and weight.ndim:
            self.register_buffer("weight", weight)
        else:
            self.weight = float(weight)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        return self.A.adjoint(self.f.prox(self.A(x), step))

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        return self.A.adjoint(self.f.prox_conj(self.A(y), step))

    def conjugate(self, y: Tensor) -> Tensor:
        return self.f.conjugate(self.A(y))

    def __rmul__(self, scale: Step) -> WaveletL1:
        return WaveletL1(*self.options, scale * self.weight)

    def __repr__(self) -> str:
        return f"WaveletL1({self.A!r}, pixel_size={self.pixel_size}, weight={self.weight})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((8, 12)), (8, 12)),
            (cls((4, 6), "haar", 1, pixel_size=0.5, weight=0.3), (4, 6)),
        ]


class _Details(Functional):
    """Σ |cᵢ| outside the first ny × nx coefficients, which cost nothing.

    Conjugate: 0 where |yᵢ| ≤ 1 outside and yᵢ = 0 inside, both to 1e-6 (of max|y| inside), else inf.
    """

    ndim = 2

    def __init__(self, coarse: tuple[int, int]):
        super().__init__()
        self.l1, self.coarse = L1(), (..., slice(coarse[0]), slice(coarse[1]))

    def _with_coarse(self, c: Tensor, coarse: Tensor | float) -> Tensor:
        c = c.clone()
        c[self.coarse] = coarse
        return c

    def forward(self, c: Tensor) -> Tensor:
        return self.l1(self._with_coarse(c, 0.0))

    def grad(self, c: Tensor) -> Tensor:
        return self.l1.grad(c)

    def prox(self, c: Tensor, step: Step) -> Tensor:
        return self._with_coarse(self.l1.prox(c, step), c[self.coarse])

    def prox_conj(self, c: Tensor, step: Step) -> Tensor:
        return self._with_coarse(self.l1.prox_conj(c, step), 0.0)

    def conjugate(self, c: Tensor) -> Tensor:
        largest = spread(c.abs().amax((-2, -1)), 2)
        free = (c[self.coarse].abs() <= SLACK * largest).all((-2, -1))
        return torch.where(free, self.l1.conjugate(self._with_coarse(c, 0.0)), math.inf)

    def __repr__(self) -> str:
        return "details"
