"""Cartesian MRI: coil sensitivities, and the whole encoding from image to undersampled k-space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .backends import coils
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

    complex_data: ClassVar[bool] = True
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
        self._dims, self._spatial = tuple(range(-ndim, 0)), spatial
        self._kept: dict[Any, Any] = {}

    @property
    def sampled(self) -> Tensor:
        """Where k-space was measured, bool, broadcasts to `out_shape`."""
        return self._over_coils(self.mask != 0)

    @property
    def acceleration(self) -> float:
        """Points of k-space per sampled one, the fully sampled centre included."""
        sampled = (self.mask != 0).expand(self.in_shape)
        return sampled.numel() / int(sampled.sum())

    @property
    def gram(self) -> LinearOperator:
        """A*A in one operator, without transforms along leading axes where the mask does not vary."""
        return SenseGram(self)

    def _forward(self, x: Tensor) -> Tensor:
        images = x.reshape(-1, *self._spatial)
        if self._learns():
            p, weight = self._keep("phased", x, self._phased)
            seen = (images * p)[:, None]
            seen = seen if self.maps is None else _like(self.maps, x) * seen
            y = torch.fft.fftn(seen, dim=self._dims) * _each(weight, len(images))
        else:
            p, weight, _ = self._folded(x)
            y = coils.encode(images, self.maps, p, weight)
        return y.reshape(len(x), *self.out_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        images = y.reshape(-1, 1 if self.maps is None else len(self.maps), *self._spatial)
        if self._learns():
            p, weight = self._keep("phased", y, self._phased)
            z = _each(weight.conj(), len(images)) * images
            z = torch.fft.ifftn(z, dim=self._dims, norm="forward")
            x = p.conj() * (z if self.maps is None else _like(self.maps, y).conj() * z).sum(1)
        else:
            p, _, weight = self._folded(y)
            x = coils.decode(images, self.maps, p, weight)
        return x.reshape(len(y), *self.in_shape)

    def _norm(self, iterations: int = 500) -> float:
        mask = self.mask.detach().abs()
        if self.maps is None:
            return float(mask.max())
        if not _varying(self._frames_of_mask().detach()):
            return float(mask.max()) * math.sqrt(float(self.maps.detach().abs().square().sum(0).max()))
        return super()._norm(iterations)

    def _learns(self) -> bool:
        """Whether autograd has to see the maps or the mask."""
        held = [t for t in (self.mask, self.maps) if t is not None]
        learnt = torch.is_grad_enabled() and any(t.requires_grad for t in held)
        return learnt or any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in held)

    def _folded(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phases p of the image, and weights w of k-space for A and for A*, as `coils` wants them."""
        return self._keep("fold", x, self._fold)

    def _fold(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        p, weight = self._phased(dtype)
        return p, *coils.weights(weight)

    def _phased(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        p, q = coils.centring(self._spatial, self.mask.device)
        return p.to(dtype), (self._frames_of_mask().to(q.real.dtype) * q).to(dtype)

    def _spectrum(self, dtype: torch.dtype) -> tuple[Tensor, int]:
        """mask² over n in the order of the FFT, for `coils.gram`, and how many trailing axes it is over."""
        mask = self._frames_of_mask()
        ndim = _varying(mask)
        once, sizes = self.ndim - ndim, self._spatial[self.ndim - ndim :]
        mask = mask[(slice(None), *(slice(0, 1),) * once)].expand(-1, *(1,) * once, *sizes)
        weight = (mask.double().square() / math.prod(sizes)).to(dtype.to_real())
        if ndim:
            weight = torch.fft.ifftshift(weight, dim=tuple(range(-ndim, 0)))
        return coils.doubled(weight, True), ndim

    def _keep(self, what: str, x: Tensor, make: Callable[[torch.dtype], Any]) -> Any:
        """`make`, once for every precision while the mask stays as it is."""
        dtype, mask = real_dtype(x).to_complex(), self.mask
        if mask.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(mask):
            return make(dtype)
        state = 0 if mask.is_inference() else mask._version
        kept = self._kept.get((what, dtype))
        if kept is None or kept[0] is not mask or kept[1] != state:
            kept = self._kept[what, dtype] = (mask, state, make(dtype))
        return kept[2]

    def _frames_of_mask(self) -> Tensor:
        """The mask as (frames, *spatial), sizes 1 where it repeats."""
        mask = self.mask.reshape(*(1,) * (self.ndim - self.mask.ndim), *self.mask.shape)
        spatial, frames = mask.shape[-self.ndim :], mask.shape[: -self.ndim]
        if any(n > 1 for n in frames):
            mask = mask.expand(*self.in_shape[: -self.ndim], *spatial)
        return mask.reshape(-1, *spatial)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

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


class SenseGram(LinearOperator):
    """A*A x = Σ_c conj(S_c) F* M² F S_c x, without shifts, and without F along axes it cancels on.

    Self-adjoint. F* M² F is a convolution, so that the centre of the transforms does not matter, and it is
    the identity along an axis on which M is constant, as the readout.

    A  a Sense; its calls of A and A* are counted there
    """

    def __init__(self, A: Sense):
        super().__init__()
        self.A, self.in_shape, self.out_shape = A, A.in_shape, A.in_shape

    def _forward(self, x: Tensor) -> Tensor:
        A = self.A
        if A._learns():
            return A.adjoint(A(x))
        A.calls.update(("forward", "adjoint"))
        weight, ndim = A._keep("gram", x, A._spectrum)
        return coils.gram(x.reshape(-1, *A._spatial), A.maps, weight, ndim).reshape(x.shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _norm(self, iterations: int = 500) -> float:
        return self.A.norm() ** 2

    @classmethod
    def examples(cls) -> list[SenseGram]:
        return [cls(A) for A in Sense.examples()]


def check_maps(name: str, maps: Tensor) -> None:
    """Coil maps are complex, finite, (coils, ny, nx) or (coils, nz, ny, nx), and see something."""
    if not isinstance(maps, Tensor) or not maps.is_complex():
        got = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        hint = "use torch.complex" if isinstance(maps, Tensor) else "use torch.as_tensor"
        hint = "the mask comes first, Sense(mask, maps)" if got == torch.bool else hint
        raise ValueError(f"{name}: expected a complex tensor (coils, ny, nx), got {got}; {hint}")
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


def _varying(mask: Tensor) -> int:
    """How many trailing axes of (frames, *spatial) there are from the first along which the mask varies."""
    for axis in range(1, mask.ndim):
        if bool((mask != mask.narrow(axis, 0, 1)).any()):
            return mask.ndim - axis
    return 0


def _each(weight: Tensor, count: int) -> Tensor:
    """The weights of `count` images, with an axis for coils."""
    return weight.repeat(count // len(weight), *(1,) * (weight.ndim - 1))[:, None]


def _like(maps: Tensor, x: Tensor) -> Tensor:
    return maps.to(real_dtype(x).to_complex())


def _maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.complex128)
