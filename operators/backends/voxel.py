# mypy: disable-error-code="call-arg, var-annotated"
"""Voxel-driven back projection of upright 3-D scans, linear between pixels, and its exact transpose.

    (B q)(x) = Σ_v W(v, x) q_v(row, column),   W = g²

where a voxel's column, row and g come from `Orbit.table`. Columns count as zero beyond the detector; rows are
those of the outermost ones up to the detector's edge, half a row out, and zero beyond.

All voxels above one another read the same two columns: these are joined first, row by row, and the line of
rows that results is then read by every slice. Kernels see projections as (columns, rows) and volumes as
(ny, nx, nz).
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..orbit import FLAT, PARALLEL, Orbit
from .pool import available, share
from .sampling import sampled
from .vector import LANES, axpy, load, store

Array = NDArray[Any]

TILE = (16, 16, 128)  # rows, columns and slices of the volume that stay in cache over all views
SERIAL = 100_000  # samples, some 0.1 ms, for which waking a thread does not pay
EDGE = 1e-6  # rows by which rounding may not move a voxel off the detector
ONE = np.uint32(1)


def backproject(q: Tensor, orbit: Orbit, out: Tensor | None = None) -> Tensor:
    """B q, added to `out` if given: (batch, views, rows, columns) -> (batch, nz, ny, nx), on any device."""
    x = q.new_zeros(len(q), *orbit.volume_shape) if out is None else out
    if q.device.type != "cpu":
        return _backproject_torch(q, orbit, x)
    padded, volume = _turned(q).numpy(), x.detach().numpy()
    nz, ny, nx = orbit.volume_shape
    tiles = list(product(*(range(0, n, size) for n, size in zip((ny, nx, nz), TILE, strict=True))))

    def work(n: int) -> None:
        begin = np.array(tiles[n])
        _gather(padded, volume, orbit.table, orbit.kind, begin, np.minimum(begin + TILE, (ny, nx, nz)))

    share(work, len(tiles), _threads(q, orbit))
    return x


def project(x: Tensor, orbit: Orbit) -> Tensor:
    """B*x: (batch, nz, ny, nx) -> (batch, views, rows, columns), the transpose of `backproject`."""
    if x.device.type != "cpu":
        return _project_torch(x, orbit)
    rows, columns = orbit.detector_shape
    q = torch.zeros(len(x), len(orbit), columns + 3, rows + 1, dtype=x.dtype)
    volume, padded = x.detach().resolve_neg().permute(0, 2, 3, 1).contiguous().numpy(), q.numpy()
    share(lambda v: _scatter(volume, padded, orbit.table, orbit.kind, v), len(orbit), _threads(x, orbit))
    return q[:, :, 1:-2, :-1].transpose(-1, -2).contiguous()


def _threads(batch: Tensor, orbit: Orbit) -> int:
    samples = len(batch) * len(orbit) * math.prod(orbit.volume_shape)
    return available() if samples > SERIAL else 1


def _turned(q: Tensor) -> Tensor:
    """(batch, views, columns, rows): a zero column before, two after, one row that is read with weight 0."""
    rows, columns = q.shape[-2:]
    padded = torch.zeros(*q.shape[:2], columns + 3, rows + 1, dtype=q.dtype, device=q.device)
    padded[:, :, 1:-2, :-1] = q.detach().transpose(-1, -2)
    return padded


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _column(p: Array, kind: int, j: int, i: int) -> tuple[float, float]:
    """Padded column and g of the voxels above row j, column i."""
    t, depth = p[0] + j * p[1] + i * p[2], p[3] + j * p[4] + i * p[5]
    if kind == PARALLEL:
        return p[6] + 1 + p[7] * t, 1.0
    if kind == FLAT:
        return p[6] + 1 + p[7] * t / depth, 1 / depth
    return p[6] + 1 + p[7] * math.atan(t / depth), 1 / math.sqrt(t * t + depth * depth)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _slices(r: float, step: float, rows: int, begin: int, end: int) -> tuple[int, int]:
    """Slices first ≤ k < last of begin ≤ k < end whose rows r + step k lie on the detector."""
    low, high = (-0.5 - EDGE - r) / step, (rows - 0.5 + EDGE - r) / step
    first = begin if low <= begin else (end if low >= end else math.ceil(low))
    last = end if high >= end - 1 else (begin if high < begin else math.floor(high) + 1)
    return first, last


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _lines(r: float, step: float, rows: int, first: int, last: int) -> tuple[int, int]:
    """Rows low ≤ row < high that slices first ≤ k < last read."""
    low = int(min(max(r + step * first, 0.0), rows - 1.0))
    high = int(min(max(r + step * (last - 1), 0.0), rows - 1.0))
    return max(low - 1, 0), min(high + 3, rows + 1)


@numba.njit(fastmath={"contract", "nsz", "arcp"}, cache=True, nogil=True, error_model="numpy")
def _gather(q: Array, x: Array, views: Array, kind: int, begin: Array, end: Array) -> None:
    """Add to voxels begin ≤ (j, i, k) < end."""
    images, columns, rows = x.shape[0], q.shape[2] - 3, q.shape[3] - 1
    real = x.dtype.type
    (j0, i0, k0), (j1, i1, k1) = begin, end
    tile = np.zeros((images, j1 - j0, i1 - i0, k1 - k0), x.dtype)
    line = np.empty(rows + 1, x.dtype)
    top = real(rows - 1)
    for v in range(len(views)):
        p = views[v]
        for j in range(j0, j1):
            for i in range(i0, i1):
                s, g = _column(p, kind, j, i)
                if s <= 0 or s >= columns + 1:
                    continue
                c = int(s)
                f, weight = real(s - c), real(g * g)
                r, step = p[8] + p[9] * g, p[10] * g
                first, last = _slices(r, step, rows, k0, k1)
                low, high = _lines(r, step, rows, first, last)
                r0, dr = real(r + step * k0), real(step)
                for b in range(images):
                    left, right, out = q[b, v, c], q[b, v, c + 1], tile[b, j - j0, i - i0]
                    for n in range(low, high):
                        line[n] = weight * (left[n] + f * (right[n] - left[n]))
                    k = first - k0
                    while k + LANES <= last - k0:
                        eight = sampled(line, r0 + dr * real(np.int32(k)), dr, top)
                        store(out, k, axpy(real(1), eight, load(out, k)))
                        k += LANES
                    for n in range(k, last - k0):
                        at = min(max(r0 + dr * real(np.int32(n)), real(0)), top)
                        whole = np.int32(at)
                        below = line[np.uint32(whole)]
                        out[n] += below + (at - real(whole)) * (line[np.uint32(whole) + ONE] - below)
    for b in range(images):
        for k in range(k0, k1):
            for j in range(j0, j1):
                for i in range(i0, i1):
                    x[b, k, j, i] += tile[b, j - j0, i - i0, k - k0]


@numba.njit(fastmath={"contract", "nsz", "arcp"}, cache=True, nogil=True, error_model="numpy")
def _scatter(x: Array, q: Array, views: Array, kind: int, v: int) -> None:
    """View v of q."""
    images, ny, nx, nz = x.shape
    columns, rows = q.shape[2] - 3, q.shape[3] - 1
    real = x.dtype.type
    line = np.empty(rows + 1, x.dtype)
    top = real(rows - 1)
    p = views[v]
    for j in range(ny):
        for i in range(nx):
            s, g = _column(p, kind, j, i)
            if s <= 0 or s >= columns + 1:
                continue
            c = int(s)
            f, weight = real(s - c), real(g * g)
            r, step = p[8] + p[9] * g, p[10] * g
            for k0 in range(0, nz, TILE[2]):
                # the tiles of `_gather`, so that both round alike
                first, last = _slices(r, step, rows, k0, min(k0 + TILE[2], nz))
                low, high = _lines(r, step, rows, first, last)
                r0, dr = real(r + step * k0), real(step)
                for b in range(images):
                    left, right, column = q[b, v, c], q[b, v, c + 1], x[b, j, i]
                    for n in range(low, high):
                        line[n] = real(0)
                    for k in range(first - k0, last - k0):
                        at = min(max(r0 + dr * real(np.int32(k)), real(0)), top)
                        whole = np.int32(at)
                        above = (at - real(whole)) * column[k0 + k]
                        line[np.uint32(whole)] += column[k0 + k] - above
                        line[np.uint32(whole) + ONE] += above
                    for n in range(low, high):
                        value = weight * line[n]
                        left[n] += value - f * value
                        right[n] += f * value


def _backproject_torch(q: Tensor, orbit: Orbit, x: Tensor) -> Tensor:
    padded = _turned(q)
    for v in range(len(orbit)):
        taps, weights = _taps(orbit, v, q)
        flat = padded[:, v].flatten(1)
        for tap, weight in zip(taps, weights, strict=True):
            x += weight * flat.index_select(1, tap.flatten()).unflatten(1, tap.shape)
    return x


def _project_torch(x: Tensor, orbit: Orbit) -> Tensor:
    rows, columns = orbit.detector_shape
    q = x.new_zeros(len(x), len(orbit), columns + 3, rows + 1)
    for v in range(len(orbit)):
        taps, weights = _taps(orbit, v, x)
        flat = q[:, v].flatten(1)
        for tap, weight in zip(taps, weights, strict=True):
            flat.index_add_(1, tap.flatten(), (weight * x).flatten(1))
    return q[:, :, 1:-2, :-1].transpose(-1, -2).contiguous()


def _taps(orbit: Orbit, view: int, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Four places of the padded view that every voxel reads, and with what weight, each (nz, ny, nx)."""
    p = orbit.table[view].tolist()
    rows, columns = orbit.detector_shape
    k, j, i = (torch.arange(n, device=like.device, dtype=torch.float64) for n in orbit.volume_shape)
    t, depth = (p[n] + p[n + 1] * j[:, None] + p[n + 2] * i for n in (0, 3))
    if orbit.kind == PARALLEL:
        s, g = t, torch.ones_like(t)
    elif orbit.kind == FLAT:
        s, g = t / depth, 1 / depth
    else:
        s, g = torch.atan(t / depth), 1 / torch.hypot(t, depth)
    s = (p[6] + 1 + p[7] * s).clamp(0, columns + 1)
    c = s.floor()
    r = p[8] + (p[9] + p[10] * k[:, None, None]) * g
    seen = (r >= -0.5 - EDGE) & (r <= rows - 0.5 + EDGE)
    r = r.clamp(0, rows - 1)
    n = r.floor()
    place = (c * (rows + 1) + n).long()
    f, h, weight = s - c, r - n, torch.where(seen, g * g, 0)
    weights = [(1 - f) * (1 - h), (1 - f) * h, f * (1 - h), f * h]
    return [place, place + 1, place + rows + 1, place + rows + 2], [
        (weight * w).to(like.dtype) for w in weights
    ]
