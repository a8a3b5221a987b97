"""Coil images, FFT and sampling in pieces that stay in the cache, without fftshift.

The centred orthonormal transform is the plain one between two products: with c = n // 2,

    exp(−2πi (k − c)(r − c) / n) = exp(2πi c (k − c) / n) · exp(−2πi k r / n) · exp(2πi c r / n),

signs where n is even. The first factor joins the sampling weights w, the last, p, multiplies the image once
for all coils. Functions on tensors of any device: images (n, *spatial), coil images (n, coils, *spatial),
maps (coils, *spatial) or None for one coil of sensitivity 1, weights (frames, *spatial), where image i has
the weights of frame i modulo frames. Nothing here is seen by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_CACHE = 2**23  # [bytes] of coil images that go through all steps together
_REUSED = 2**25  # [bytes] what is larger, malloc gives back to the system and asks for anew, page by page
_GPU = 2**28  # [bytes] the same where only the memory for them counts


def centring(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Phases p, q, complex128 of `shape`, with centred orthonormal F x = q · fftn(p · x)."""
    p = q = torch.ones((), dtype=torch.complex128, device=device)
    for axis, n in enumerate(shape):
        k, along = torch.arange(n, device=device), (-1, *(1,) * (len(shape) - axis - 1))
        before, after = _turns(n // 2 * k, n), _turns(n // 2 * (k - n // 2), n) / math.sqrt(n)
        p, q = p * before.reshape(along), q * after.reshape(along)
    return p, q


def _turns(count: Tensor, n: int) -> Tensor:
    """exp(2πi count / n), of whole numbers: signs come out exact."""
    angle = 2 * math.pi * (count % n).double() / n
    turned = torch.polar(torch.ones_like(angle), angle)
    return turned if n % 2 else turned.real.round().to(turned.dtype)


def doubled(weight: Tensor, conjugate: bool) -> Tensor:
    """Real weights of real and imaginary part, (*shape, 2): w z, or conj(w z), as one real product."""
    return torch.stack([weight, -weight if conjugate else weight], -1)


def weights(w: Tensor) -> tuple[Tensor, Tensor]:
    """Complex weights as `encode` and as `decode` want them: doubled where they are signs or real."""
    if all(n % 2 == 0 for n in w.shape[1:]):
        return doubled(w.real, False), doubled(w.real, True)
    return w, w.conj().resolve_conj()


def encode(x: Tensor, maps: Tensor | None, p: Tensor, weight: Tensor) -> Tensor:
    """w · fftn(S p x): (n, *spatial) -> (n, coils, *spatial); w complex, or real and `doubled`."""
    coils, dims = 1 if maps is None else len(maps), tuple(range(-p.ndim, 0))
    cut, x = _Pieces(len(x), coils, p), x * p

    def piece(images: slice, part: slice, room: Tensor | None, out: Tensor | None) -> Tensor:
        z = x[images, None]
        if maps is not None:
            z = torch.mul(_of(maps, part, p), z, out=room)
        z = torch.fft.fftn(z, dim=dims)
        return _weigh(z, _weights(weight, images), z if out is None else out[images, part])

    if cut.whole:
        return piece(slice(0, len(x)), slice(0, coils), None, None)
    y = _empty((len(x), coils, *p.shape), p)
    for images in cut.images:
        for part in cut.parts:
            piece(images, part, cut.room(images, part), y)
    return y


def decode(y: Tensor, maps: Tensor | None, p: Tensor, weight: Tensor) -> Tensor:
    """conj(p) Σ_c conj(S) fftn*(conj(w) y), with weights of conj(w z): complex conj w, or real and `doubled`.

    conj x = p Σ_c S fftn(conj(conj(w) y)): conjugating on the way out of a product costs nothing, while maps
    would have to be copied for it.
    """
    coils, dims = 1 if maps is None else len(maps), tuple(range(-p.ndim, 0))
    cut, y = _Pieces(len(y), coils, p), y.to(p.dtype).resolve_conj()

    def piece(images: slice, part: slice, room: Tensor | None) -> Tensor:
        w = _weights(weight, images)
        z = torch.empty_like(y, memory_format=torch.contiguous_format) if room is None else room
        _weigh(y[images, part], w, z)
        if w.is_complex():
            z.conj_physical_()
        return _combine(torch.fft.fftn(z, dim=dims), maps, part)

    return _sums(piece, cut).mul_(p).conj_physical_()


def gram(x: Tensor, maps: Tensor | None, weight: Tensor, ndim: int) -> Tensor:
    """Σ_c conj(S) ifftn(w fftn(S x)) over the last `ndim` axes.

    weight  real, `doubled` with conjugate=True, over n, in the order of the FFT
    """
    coils, dims = 1 if maps is None else len(maps), tuple(range(-ndim, 0))
    x = x.to(weight.dtype.to_complex()).resolve_conj()
    cut = _Pieces(len(x), coils, x[0])

    def piece(images: slice, part: slice, room: Tensor | None) -> Tensor:
        w, z = _weights(weight, images), x[images, None]
        if maps is not None:
            z = torch.mul(_of(maps, part, x), z, out=room)
        z = torch.fft.fftn(z, dim=dims) if ndim else z.clone()
        _weigh(z, w, z)
        return _combine(torch.fft.fftn(z, dim=dims) if ndim else z, maps, part)

    return _sums(piece, cut).conj_physical_()


def _sums(piece: Callable[[slice, slice, Tensor | None], Tensor], cut: _Pieces) -> Tensor:
    """What the pieces give, added over the parts of the coils."""
    if cut.whole:
        return piece(slice(0, cut.count), slice(0, cut.coils), None)
    x = _empty((cut.count, *cut.like.shape), cut.like)
    for images in cut.images:
        for part in cut.parts:
            found = piece(images, part, cut.room(images, part))
            x[images].add_(found) if part.start else x[images].copy_(found)
    return x


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A new tensor; a large one in memory of numpy, which asks for huge pages."""
    if like.device.type == "cpu" and math.prod(shape) * like.element_size() > _REUSED:
        return torch.from_numpy(np.empty(shape, like.detach()[:0].numpy().dtype))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _weigh(z: Tensor, w: Tensor, out: Tensor) -> Tensor:
    if w.is_complex():
        torch.mul(z, w, out=out)
    else:
        torch.mul(torch.view_as_real(z), w, out=torch.view_as_real(out))
    return out


def _combine(z: Tensor, maps: Tensor | None, part: slice) -> Tensor:
    """Σ_c S z, in place."""
    return z[:, 0] if maps is None else z.mul_(_of(maps, part, z)).sum(1)


def _of(maps: Tensor, part: slice, like: Tensor) -> Tensor:
    return maps[part].to(like.dtype)


def _weights(weight: Tensor, images: slice) -> Tensor:
    """Those of some images, with an axis for coils."""
    if len(weight) > 1:
        weight = weight[torch.arange(images.start, images.stop, device=weight.device) % len(weight)]
    return weight[:, None]


class _Pieces:
    """How to cut (count, coils, *like.shape) into parts that fit the cache, and room for one part."""

    def __init__(self, count: int, coils: int, like: Tensor):
        self.count, self.coils, self.like = count, coils, like
        one = like.numel() * like.element_size()
        fit = max(1, (_CACHE if like.device.type == "cpu" else _GPU) // one)
        self.whole = fit >= count * coils
        self.images, self.parts = _cut(count, max(1, fit // coils)), _cut(coils, fit)
        self._room: Tensor | None = None

    def room(self, images: slice, part: slice) -> Tensor:
        shape = (images.stop - images.start, part.stop - part.start, *self.like.shape)
        if self._room is None:  # the first piece is the largest
            self._room = _empty(shape, self.like)
        return self._room.flatten()[: math.prod(shape)].view(shape)


def _cut(count: int, most: int) -> list[slice]:
    """Slices of at most `most`, of about one size, the largest first."""
    each = -(-count // -(-count // most))
    return [slice(a, min(a + each, count)) for a in range(0, count, each)]
