"""A*WA of non-uniform Fourier operators as a convolution: no non-uniform transform per iteration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from .base import LinearOperator
from .tensors import real_dtype

if TYPE_CHECKING:
    from .nufft import NonUniformFourier

_CACHE = 1 << 18  # complex numbers


class Toeplitz(LinearOperator):
    """(A*WA x)(r) = Σ_r' q(r − r') x(r'), q(d) = n^(−1) Σ_j w_j exp(i k_j·d): circulant on a doubled grid.

    Fessler, Lee, Olafsson, Shi, Noll, IEEE Trans. Signal Process. 53 (2005). Self-adjoint.

    shape     of the image, (*lead, *spatial)
    spectrum  transform of q on a grid of at least 2 n_d − 1 points an axis, zero frequency first, real
    """

    spectrum: Tensor

    def __init__(self, shape: tuple[int, ...], spectrum: Tensor):
        super().__init__()
        self.ndim = spectrum.ndim
        spatial = tuple(shape)[-self.ndim :]
        if len(spatial) < self.ndim or any(
            p < 2 * n - 1 for p, n in zip(spectrum.shape, spatial, strict=True)
        ):
            raise ValueError(
                f"Toeplitz spectrum: expected at least 2 n − 1 points an axis for an image {tuple(shape)}, "
                f"got {tuple(spectrum.shape)}"
            )
        if spectrum.is_complex() or not bool(torch.isfinite(spectrum).all()):
            raise ValueError("Toeplitz spectrum: expected finite real values, got complex, NaN or inf")
        self.in_shape = self.out_shape = tuple(shape)
        self.spatial = spatial
        self.register_buffer("spectrum", spectrum)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.to(real_dtype(x).to_complex())
        spectrum = self.spectrum.to(x.device, real_dtype(x)).movedim(0, -1).contiguous()
        images = x.reshape(-1, *self.spatial)
        out = torch.empty_like(images)
        for part, result in zip(*(z.split(self._together) for z in (images, out)), strict=True):
            result.copy_(self._filtered(part, spectrum))
        return out.reshape(x.shape)

    def _filtered(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """Axis by axis, each in turn the last: no line that is padding alone is transformed."""
        sizes = list(zip(self.spatial, self.spectrum.shape, strict=True))
        for _, padded in sizes[:0:-1]:
            x = torch.fft.fft(x, n=padded).movedim(-1, 1).contiguous()
        x = torch.fft.ifft(torch.fft.fft(x, n=sizes[0][1]).mul_(spectrum))[..., : sizes[0][0]]
        for n, _ in sizes[1:]:
            x = torch.fft.ifft(x.movedim(1, -1))[..., :n]
        return x

    @property
    def _together(self) -> int:
        """Images at a time, such that what is worked on stays in the cache."""
        return max(1, _CACHE // self.spectrum.numel())

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    @classmethod
    def examples(cls) -> list[Toeplitz]:
        generator = torch.Generator().manual_seed(0)

        def spectrum(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        return [
            cls((4, 5), spectrum(8, 9)),
            cls((2, 3, 4), spectrum(5, 10)),
            cls((2, 3, 2), spectrum(3, 6, 4)),
        ]


def toeplitz(A: NonUniformFourier, weights: Tensor | None = None) -> Toeplitz:
    """A*WA of a `NonUniformFourier`, W = diag(weights); its spectrum costs one adjoint transform.

    weights  real, of the shape of A's samples, as from `voronoi`; None: W = 1. To A's own tolerance.

    Raises ValueError for complex weights, or of another shape.
    """
    from .nufft import NonUniformFourier

    samples = A.trajectory.shape[:-1]
    w = torch.ones(samples, dtype=torch.float64, device=A.trajectory.device) if weights is None else weights
    if w.is_complex() or w.shape != samples or not bool(torch.isfinite(w).all()):
        raise ValueError(
            f"toeplitz weights: expected real finite values {tuple(samples)}, got {w.dtype} {tuple(w.shape)}"
        )
    padded = tuple(next_fast_len(2 * n - 1) for n in A.spatial)
    doubled = NonUniformFourier(padded, A.trajectory.detach(), A.tolerance, A.backend)
    q = doubled._adjoint_sum(w.detach().to(A.trajectory.device, torch.complex128)) / math.prod(A.spatial)
    dims = tuple(range(q.ndim))
    # q(−d) = conj q(d) for the differences that occur; the real part makes it so for the others too
    spectrum = torch.fft.fftn(torch.fft.ifftshift(q, dim=dims), dim=dims).real
    return Toeplitz(A.in_shape, spectrum)
