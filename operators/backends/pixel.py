"""Pixel-driven back projection with linear interpolation in the sinogram, and its exact transpose.

    (B q)(x) = Σ_v W(v, x) q_v(s),   q_v(s) = (1 − f) q_v[⌊s⌋] + f q_v[⌊s⌋ + 1],   f = s − ⌊s⌋,  zero outside

A pixel at lateral distance t = x·u and depth ℓ = source_to_centre + x·w from the source is seen in bin

    parallel   s = c + t / bin_size                         W = 1
    flat fan   s = c + (D / bin_size) t / ℓ                 W = (R / ℓ)²
    arc fan    s = c + (D / bin_size) atan(t / ℓ)           W = R² / (ℓ² + t²)

with R = source_to_centre, D = source_to_detector; t and ℓ are affine in the pixel's row and column.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam, PlanarGeometry
from .pool import available, share

Array = NDArray[Any]

PARALLEL, FLAT, ARC = 0, 1, 2
BLOCK = 16  # rows of the image for which a view's bins stay in cache
SERIAL = 100_000  # samples, some 0.1 ms, for which waking a thread does not pay
ONE = np.uint32(1)


@lru_cache(maxsize=32)
def table(geometry: PlanarGeometry) -> tuple[int, NDArray[np.float64]]:
    """Kind of beam, and per view (t₀, ∂t/∂row, ∂t/∂column, ℓ₀, ∂ℓ/∂row, ∂ℓ/∂column, c); remembered.

    Parallel: t in bins, ℓ = 1. Fan: t and ℓ in units of R, and a last entry D / bin_size.
    """
    ny, nx = geometry.image_shape
    h = geometry.pixel_size
    c, s = np.cos(geometry.angles), np.sin(geometry.angles)
    offset: float = getattr(geometry, "offset", 0.0)
    centre = np.full_like(c, (geometry.n_bins - 1) / 2 - offset / geometry.bin_size)
    x, y = -(nx - 1) / 2 * h, (ny - 1) / 2 * h
    t = np.stack([x * c + y * s, -h * s, h * c])
    depth = np.stack([-x * s + y * c, -h * c, -h * s])
    if isinstance(geometry, FanBeam):
        R = geometry.source_to_centre
        depth[0] += R
        magnify = np.full_like(c, geometry.source_to_detector / geometry.bin_size)
        kind = FLAT if geometry.detector == "flat" else ARC
        return kind, np.ascontiguousarray(np.concatenate([t / R, depth / R, [centre, magnify]]).T)
    return PARALLEL, np.ascontiguousarray(
        np.concatenate([t / geometry.bin_size, depth, [centre, np.ones_like(c)]]).T
    )


def backproject(q: Tensor, geometry: PlanarGeometry) -> Tensor:
    """B q: (batch, views, bins) -> (batch, ny, nx), on any device, in float32 or float64."""
    if q.device.type != "cpu":
        return backproject_torch(q, geometry)
    kind, views = table(geometry)
    padded = _padded(q).numpy()
    x = torch.zeros(len(q), *geometry.image_shape, dtype=q.dtype)
    image = x.numpy()
    blocks = -(-geometry.image_shape[0] // BLOCK)

    def rows(k: int) -> None:
        _gather(padded, image, views, kind, k * BLOCK, (k + 1) * BLOCK)

    share(rows, blocks, _threads(q, geometry))
    return x


def project(x: Tensor, geometry: PlanarGeometry) -> Tensor:
    """B*x: (batch, ny, nx) -> (batch, views, bins), the transpose of `backproject`."""
    if x.device.type != "cpu":
        return project_torch(x, geometry)
    kind, views = table(geometry)
    padded = torch.zeros(len(x), geometry.views, geometry.n_bins + 3, dtype=x.dtype)
    image, q = x.detach().resolve_neg().contiguous().numpy(), padded.numpy()
    share(lambda v: _scatter(image, q, views, kind, v), geometry.views, _threads(x, geometry))
    return padded[..., 1:-2].contiguous()


def _threads(batch: Tensor, geometry: PlanarGeometry) -> int:
    samples = len(batch) * geometry.views * math.prod(geometry.image_shape)
    return available() if samples > SERIAL else 1


def _padded(q: Tensor) -> Tensor:
    """One zero before the first bin and two after the last: clamped positions read zero."""
    return torch.nn.functional.pad(q.detach(), (1, 2))


def _atan_coefficients(terms: int = 20) -> tuple[float, ...]:
    """Of x, x³, x⁵, … in Σ 2 (−1)ᵏ (√2 − 1)²ᵏ⁺¹ / (2k + 1) T₂ₖ₊₁(x) = atan x on |x| ≤ 1, highest first."""
    chebyshev = np.zeros(2 * terms)
    k = np.arange(terms)
    chebyshev[1::2] = 2.0 * (-1.0) ** k * (math.sqrt(2) - 1) ** (2 * k + 1) / (2 * k + 1)
    return tuple(np.polynomial.chebyshev.cheb2poly(chebyshev)[1::2][::-1].tolist())


ATAN = _atan_coefficients()


@numba.njit(fastmath=True, cache=True, error_model="numpy")
def _atan(x: Array, out: Array) -> None:
    """out = atan x of a monotone row, by Horner's scheme over the row: vectorised, as math.atan is not."""
    real = out.dtype.type
    if max(abs(x[0]), abs(x[-1])) > 1:
        for i in range(x.size):
            out[i] = math.atan(x[i])
        return
    out[:] = real(ATAN[0])
    for k in range(1, len(ATAN)):
        a = real(ATAN[k])
        for i in range(x.size):
            out[i] = out[i] * x[i] * x[i] + a
    for i in range(x.size):
        out[i] *= x[i]


@numba.njit(fastmath=True, cache=True, error_model="numpy")
def _locate(
    p: Array, kind: int, j: int, bins: int, index: NDArray[np.uint32], fraction: Array, weight: Array
) -> None:
    """Padded bin, fraction and weight of every pixel of row j in the view with parameters p."""
    real = fraction.dtype.type
    one, last = real(1), real(bins + 1)
    t0, dt = real(p[0] + j * p[1]), real(p[2])
    l0, dl = real(p[3] + j * p[4]), real(p[5])
    c, m = real(p[6] + 1), real(p[7])
    if kind == PARALLEL:
        for i in range(index.size):
            fraction[i], weight[i] = c + t0 + dt * real(np.int32(i)), one
    elif kind == FLAT:
        for i in range(index.size):
            t, inverse = t0 + dt * real(np.int32(i)), one / (l0 + dl * real(np.int32(i)))
            fraction[i], weight[i] = c + m * t * inverse, inverse * inverse
    else:
        for i in range(index.size):
            weight[i] = (t0 + dt * real(np.int32(i))) / (l0 + dl * real(np.int32(i)))
        _atan(weight, fraction)
        for i in range(index.size):
            t, depth = t0 + dt * real(np.int32(i)), l0 + dl * real(np.int32(i))
            fraction[i], weight[i] = c + m * fraction[i], one / (depth * depth + t * t)
    for i in range(index.size):
        s = min(max(fraction[i], real(0)), last)
        whole = np.int32(s)
        index[i], fraction[i] = np.uint32(whole), s - real(whole)


@numba.njit(fastmath={"contract", "nsz", "arcp"}, cache=True, nogil=True, error_model="numpy")
def _gather(q: Array, x: Array, views: Array, kind: int, begin: int, end: int) -> None:
    """Rows begin … end − 1 of x: the bins of a view stay in cache for all of them."""
    images, ny, nx = x.shape
    bins = q.shape[2] - 3
    index, fraction, weight = np.empty(nx, np.uint32), np.empty(nx, q.dtype), np.empty(nx, q.dtype)
    for v in range(len(views)):
        for j in range(begin, min(end, ny)):
            _locate(views[v], kind, j, bins, index, fraction, weight)
            for b in range(images):
                row, out = q[b, v], x[b, j]
                for i in range(nx):
                    left = row[index[i]]
                    out[i] += weight[i] * (left + fraction[i] * (row[index[i] + ONE] - left))


@numba.njit(fastmath={"contract", "nsz", "arcp"}, cache=True, nogil=True, error_model="numpy")
def _scatter(x: Array, q: Array, views: Array, kind: int, v: int) -> None:
    """View v of q."""
    images, ny, nx = x.shape
    bins = q.shape[2] - 3
    index, fraction, weight = np.empty(nx, np.uint32), np.empty(nx, q.dtype), np.empty(nx, q.dtype)
    for j in range(ny):
        _locate(views[v], kind, j, bins, index, fraction, weight)
        for b in range(images):
            row, image = q[b, v], x[b, j]
            for i in range(nx):
                value = weight[i] * image[i]
                right = fraction[i] * value
                row[index[i]] += value - right
                row[index[i] + ONE] += right


def backproject_torch(q: Tensor, geometry: PlanarGeometry) -> Tensor:
    """`backproject` in plain torch, one view at a time: any device."""
    padded = _padded(q)
    x = q.new_zeros(len(q), math.prod(geometry.image_shape))
    for v in range(geometry.views):
        index, fraction, weight = _located(geometry, v, q)
        row = padded[:, v]
        x += weight * torch.lerp(row[:, index], row[:, index + 1], fraction)
    return x.reshape(len(q), *geometry.image_shape)


def project_torch(x: Tensor, geometry: PlanarGeometry) -> Tensor:
    """`project` in plain torch, one view at a time: any device."""
    padded = x.new_zeros(len(x), geometry.views, geometry.n_bins + 3)
    flat = x.detach().flatten(1)
    for v in range(geometry.views):
        index, fraction, weight = _located(geometry, v, x)
        value = weight * flat
        padded[:, v].index_add_(1, index, (1 - fraction) * value)
        padded[:, v].index_add_(1, index + 1, fraction * value)
    return padded[..., 1:-2].contiguous()


def _located(geometry: PlanarGeometry, view: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Padded bin, fraction and weight of every pixel in one view, each (ny·nx,)."""
    kind, views = table(geometry)
    p = views[view].tolist()
    ny, nx = geometry.image_shape
    j = torch.arange(ny, device=like.device, dtype=torch.float64)[:, None]
    i = torch.arange(nx, device=like.device, dtype=torch.float64)
    t, depth = p[0] + p[1] * j + p[2] * i, p[3] + p[4] * j + p[5] * i
    if kind == PARALLEL:
        s, weight = t, torch.ones_like(t)
    elif kind == FLAT:
        s, weight = p[7] * t / depth, depth**-2
    else:
        s, weight = p[7] * torch.atan(t / depth), 1 / (depth**2 + t**2)
    s = (s + p[6] + 1).clamp(0, geometry.n_bins + 1).flatten()
    index = s.floor()
    return index.long(), (s - index).to(like.dtype), weight.flatten().to(like.dtype)
