"""The centred Fourier transform."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import LinearOperator


class Fourier(LinearOperator):
    """(A x)(k) = n^(−½) Σ_r x(r) exp(−2πi Σ_d k_d r_d / n_d), r and k counted from the middle n_d // 2.

    Orthonormal (n is the number of pixels): A* = A⁻¹, ‖A‖ = 1. Real or complex images; float32 and complex64
    give complex64.

    shape : one image, (ny, nx), (coils, ny, nx), …
    ndim : how many trailing dimensions are transformed
    """

    def __init__(self, shape: tuple[int, ...], ndim: int = 2):
        super().__init__()
        if not 1 <= ndim <= len(shape):
            raise ValueError(f"Fourier ndim: expected 1 to {len(shape)} for shape {tuple(shape)}, got {ndim}")
        self.in_shape = self.out_shape = tuple(shape)
        self.ndim, self._dims = ndim, tuple(range(-ndim, 0))

    def _forward(self, x: Tensor) -> Tensor:
        k = torch.fft.fftn(torch.fft.ifftshift(x, dim=self._dims), dim=self._dims, norm="ortho")
        return torch.fft.fftshift(k, dim=self._dims)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = torch.fft.ifftn(torch.fft.ifftshift(y, dim=self._dims), dim=self._dims, norm="ortho")
        return torch.fft.fftshift(x, dim=self._dims)

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> list[Fourier]:
        return [cls((5, 4)), cls((7,), ndim=1), cls((2, 3, 6)), cls((2, 3, 4), ndim=3)]
