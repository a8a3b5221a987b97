"""The centred Fourier transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .backends import coils
from .base import LinearOperator
from .tensors import real_dtype


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
        self._kept: dict[Any, tuple[Tensor, Tensor, Tensor]] = {}

    def _forward(self, x: Tensor) -> Tensor:
        if not x.is_complex():  # the transform of real images takes half the time, shifts included
            k = torch.fft.fftn(torch.fft.ifftshift(x, dim=self._dims), dim=self._dims, norm="ortho")
            return torch.fft.fftshift(k, dim=self._dims)
        p, weight, _ = self._phases(x)
        return coils.encode(x.reshape(-1, *p.shape), None, p, weight).reshape(x.shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        p, _, weight = self._phases(y)
        return coils.decode(y.reshape(-1, 1, *p.shape), None, p, weight).reshape(y.shape)

    def _phases(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dtype = real_dtype(x).to_complex()
        if (dtype, x.device) not in self._kept:
            p, q = coils.centring(self.in_shape[-self.ndim :], x.device)
            self._kept[dtype, x.device] = (p.to(dtype), *coils.weights(q.to(dtype)[None]))
        return self._kept[dtype, x.device]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> list[Fourier]:
        return [cls((5, 4)), cls((7,), ndim=1), cls((2, 3, 6)), cls((2, 3, 4), ndim=3)]
