"""Cartesian MRI: coil sensitivities, and the whole encoding from image to undersampled k-space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import LinearOperator
from .gradient import spacings
from .tensors import real_dtype


class Coils(LinearOperator):
    """(A x)_c = S_c x: what every receive coil sees; (*frames, *spatial) -> (*frames, coils, *spatial).

    maps    coil sensitivities S, (coils, *spatial), complex; an nn.Parameter is learned
    frames  leading dimensions of one image that all coils share, as (time,)

    Raises ValueError where the maps are not complex, not finite, or zero everywhere.
    """

    maps: Tensor

    def __init__(self, maps: Tensor, frames: Sequence[int] = ()):
        super().__init__()
        check_maps("Coils maps", maps)
        if isinstance(maps, nn.Parameter):
            self.maps = maps
        else:
            self.register_buffer("maps", maps)
        self.ndim = maps.ndim - 1
        self.in_shape, self.out_shape = (*frames, *maps.shape[1:]), (*frames, *maps.shape)

    def _forward(self, x: Tensor) -> Tensor:
        return _like(self.maps, x) * x.unsqueeze(-self.ndim - 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return (_like(self.maps, y).conj() * y).sum(-self.ndim - 1)

    def _norm(self, iterations: int = 500) -> float:
        return float(self.maps.detach().abs().square().sum(0).max().sqrt())

    @classmethod
    def examples(cls) -> list[Coils]:
        return [cls(_maps(3, 5, 4)), cls(_maps(2, 2, 3, 4)), cls(_maps(2, 4, 3), frames=(3,))]


class Sense(LinearOperator):
    """(A x)_c = M F S_c x: coil sensitivities, centred orthonormal FFT, sampling: `Mask @ Fourier @ Coils`.

    Pruessmann, Weiger, Scheidegger, Boesiger, Magn. Reson. Med. 42 (1999). Images (*frames, *spatial),
    k-space (*frames, coils, *spatial) on the full grid, zero where nothing was sampled. Without maps there
    is one coil of sensitivity 1, and k-space has the shape of the image.

    mask        real or bool, broadcasts to (*frames, *spatial); dimensions before the spatial ones are frames
    maps        (coils, *spatial), complex, spatial = (ny, nx) or (nz, ny, nx); an nn.Parameter is learned
    shape       of one image; needed without maps where the mask is smaller, as one line of phase encodings
    ndim        how many dimensions are spatial, without maps
    pixel_size  [mm], a number or one for every axis of the image, frames included: what TV measures edges by

    Raises ValueError for a mask that fits neither maps nor shape, is empty, complex or not finite, and for
    maps that are not complex, not finite or zero everywhere.
    """

    mask: Tensor
    maps: Tensor | None

    def __init__(
        self,
        mask: Tensor,
        maps: Tensor | None = None,
        shape: Sequence[int] | None = None,
        ndim: int = 2,
        pixel_size: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        mask = torch.as_tensor(mask)
        if maps is not None:
            check_maps("Sense maps", maps)
            ndim = maps.ndim - 1
            shape = tuple(shape or (*mask.shape[:-ndim], *maps.shape[1:]))
            if shape[-ndim:] != tuple(maps.shape[1:]):
                raise ValueError(f"Sense maps: expected (coils, {shape[-ndim:]}), got {tuple(maps.shape)}")
        self.ndim, self.in_shape = ndim, tuple(shape or mask.shape)
        check_sampling("Sense mask", mask, self.in_shape)
        frames, spatial = self.in_shape[:-ndim], self.in_shape[-ndim:]
        self.out_shape = self.in_shape if maps is None else (*frames, len(maps), *spatial)
        self.spacing = spacings("Sense pixel_size [mm]", pixel_size, len(self.in_shape))
        self.register_buffer("mask", mask if mask.is_floating_point() else mask.float())
        if isinstance(maps, nn.Parameter) or maps is None:
            self.maps = maps
        else:
            self.register_buffer("maps", maps)
        self._dims = tuple(range(-ndim, 0))

    @property
    def sampled(self) -> Tensor:
        """Where k-space was measured, bool, broadcasts to `out_shape`."""
        return self._over_coils(self.mask != 0)

    @property
    def acceleration(self) -> float:
        """Points of k-space per sampled one, the fully sampled centre included."""
        sampled = (self.mask != 0).expand(self.in_shape)
        return sampled.numel() / int(sampled.sum())

    def _forward(self, x: Tensor) -> Tensor:
        if self.maps is not None:
            x = _like(self.maps, x) * x.unsqueeze(-self.ndim - 1)
        k = torch.fft.fftn(torch.fft.ifftshift(x, dim=self._dims), dim=self._dims, norm="ortho")
        return self._over_coils(self.mask).to(real_dtype(x)) * torch.fft.fftshift(k, dim=self._dims)

    def _adjoint(self, y: Tensor) -> Tensor:
        y = torch.fft.ifftshift(self._over_coils(self.mask).to(real_dtype(y)) * y, dim=self._dims)
        x = torch.fft.fftshift(torch.fft.ifftn(y, dim=self._dims, norm="ortho"), dim=self._dims)
        return x if self.maps is None else (_like(self.maps, x).conj() * x).sum(-self.ndim - 1)

    def _over_coils(self, mask: Tensor) -> Tensor:
        return mask if self.maps is None or mask.ndim <= self.ndim else mask.unsqueeze(-self.ndim - 1)

    @classmethod
    def examples(cls) -> list[Sense]:
        """One coil and several, odd sides, lines, volumes, frames."""
        generator = torch.Generator().manual_seed(0)

        def mask(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator) < 0.6

        return [
            cls(mask(5, 4)),
            cls(mask(6), shape=(4, 6)),
            cls(mask(5, 4), _maps(3, 5, 4), pixel_size=0.5),
            cls(mask(3, 1, 6), _maps(2, 4, 6)),
            cls(mask(2, 3, 4), _maps(2, 2, 3, 4)),
        ]


def check_maps(name: str, maps: Tensor) -> None:
    """Coil maps are complex, finite, (coils, ny, nx) or (coils, nz, ny, nx), and see something."""
    if not isinstance(maps, Tensor) or not maps.is_complex():
        got = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"{name}: expected a complex tensor (coils, ny, nx), got {got}; use torch.complex")
    if maps.ndim not in (3, 4) or not maps.numel():
        raise ValueError(f"{name}: expected (coils, ny, nx) or (coils, nz, ny, nx), got {tuple(maps.shape)}")
    if not bool(torch.isfinite(maps.detach()).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or inf")
    if not bool((maps.detach() != 0).any()):
        raise ValueError(f"{name}: every coil is zero everywhere; there is nothing to reconstruct from")


def check_sampling(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    """A mask is real or bool, finite, samples something and broadcasts to `shape`."""
    if mask.is_complex() or not bool(torch.isfinite(mask).all()):
        raise ValueError(f"{name}: expected finite real or bool values, got {mask.dtype}, or NaN or inf")
    try:
        fits = tuple(torch.broadcast_shapes(mask.shape, shape)) == tuple(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: expected a shape that broadcasts to {shape}, got {tuple(mask.shape)}")
    if not bool((mask != 0).any()):
        raise ValueError(f"{name}: samples nothing; expected at least one True")


def _like(maps: Tensor, x: Tensor) -> Tensor:
    return maps.to(real_dtype(x).to_complex())


def _maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.complex128)
