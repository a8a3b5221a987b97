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
from collections.abc import Iterator

import torch
from torch import Tensor

_CACHE = 2**22  # [bytes] of coil images that go through all steps together
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


def encode(x: Tensor, maps: Tensor | None, p: Tensor, weight: Tensor) -> Tensor:
    """w · fftn(S p x): (n, *spatial) -> (n, coils, *spatial)."""
    coils, dims = 1 if maps is None else len(maps), tuple(range(-p.ndim, 0))
    y = torch.empty((len(x), coils, *p.shape), dtype=p.dtype, device=x.device)
    for images, parts, room in _pieces(y):
        seen = (x[images] * p)[:, None]
        w = _weights(weight, images)
        for part in parts:
            z = seen if maps is None else torch.mul(_of(maps, part, p), seen, out=_fit(room, y[images, part]))
            torch.mul(torch.fft.fftn(z, dim=dims), w, out=y[images, part])
    return y


def decode(y: Tensor, maps: Tensor | None, p: Tensor, weight: Tensor) -> Tensor:
    """The adjoint, with weights that are already conj w: (n, coils, *spatial) -> (n, *spatial)."""
    dims = tuple(range(-p.ndim, 0))
    x = torch.empty((len(y), *p.shape), dtype=p.dtype, device=y.device)
    for images, parts, room in _pieces(x[:, None].expand_as(y)):
        w, sums = _weights(weight, images), x[images]
        for part in parts:
            z = torch.mul(y[images, part], w, out=_fit(room, y[images, part]))
            _combine(torch.fft.ifftn(z, dim=dims, norm="forward"), maps, part, sums)
        if maps is None:
            sums.mul_(p.conj())
        else:
            sums.mul_(p).conj_physical_()
    return x


def gram(x: Tensor, maps: Tensor | None, weight: Tensor, ndim: int) -> Tensor:
    """Σ_c conj(S) ifftn(w fftn(S x)) over the last `ndim` axes, w where the FFT has its frequencies."""
    dims = tuple(range(-ndim, 0))
    out = torch.empty_like(x, dtype=weight.dtype, memory_format=torch.contiguous_format)
    coils = 1 if maps is None else len(maps)
    for images, parts, room in _pieces(out[:, None].expand(-1, coils, *x.shape[1:])):
        w, sums, seen = _weights(weight, images), out[images], x[images, None]
        for part in parts:
            shaped = _fit(room, out[images, None].expand(-1, part.stop - part.start, *x.shape[1:]))
            z = shaped.copy_(seen) if maps is None else torch.mul(_of(maps, part, w), seen, out=shaped)
            if ndim:
                z = torch.fft.fftn(z, dim=dims).mul_(w)
                z = torch.fft.ifftn(z, dim=dims, norm="forward")
            else:
                z.mul_(w)
            _combine(z, maps, part, sums)
        if maps is not None:
            sums.conj_physical_()
    return out


def _combine(z: Tensor, maps: Tensor | None, part: slice, sums: Tensor) -> None:
    """sums ← conj(Σ_c conj(S) z) of the coils so far, since conjugating z costs less than a copy of S."""
    if maps is None:
        sums.copy_(z[:, 0])
        return
    z = z.conj_physical_().mul_(_of(maps, part, z))
    if part.start:
        sums.add_(z.sum(1))
    else:
        torch.sum(z, 1, out=sums)


def _of(maps: Tensor, part: slice, like: Tensor) -> Tensor:
    return maps[part].to(like.dtype)


def _weights(weight: Tensor, images: slice) -> Tensor:
    """Those of some images, with an axis for coils."""
    if len(weight) > 1:
        weight = weight[torch.arange(images.start, images.stop, device=weight.device) % len(weight)]
    return weight[:, None]


def _pieces(y: Tensor) -> Iterator[tuple[slice, list[slice], Tensor]]:
    """Images, the parts of their coils, and room for the largest part, so that a part fits the cache."""
    count, coils = y.shape[:2]
    one = math.prod(y.shape[2:])
    fit = max(1, (_CACHE if y.device.type == "cpu" else _GPU) // (one * y.element_size()))
    together = max(1, fit // coils)
    each = -(-coils // -(-coils // fit))  # parts of about one size
    parts = [slice(c, min(c + each, coils)) for c in range(0, coils, each)]
    room = torch.empty(min(together, count) * each * one, dtype=y.dtype, device=y.device)
    for i in range(0, count, together):
        yield slice(i, min(i + together, count)), parts, room


def _fit(room: Tensor, like: Tensor) -> Tensor:
    return room[: like.numel()].view(like.shape)
