# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, assignment"
"""The inner loops of the Joseph projector of upright scans, compiled on first use and cached on disk.

A pack holds some slices of up to eight volumes, (volumes, ny·nx, depth), a pixel's slices side by side, depth
a multiple of eight. A lane is a volume in one of its turned and mirrored positions (`lanes.py`), read where
it lies: for one detector column and one line of pixels, eight lanes are mixed from two neighbouring pixels
each and transposed into `mixed`, eight lanes a slice; there every detector row reads two slices at one
position for all lanes. Empty slices around make a branch for the border needless.

    work   (pieces of work, 4): group, first and last column, transposed
    lanes  symmetries, base, step, count, see `lanes.py`
    rays   start, slope, weight, first, last, away, climb, see `upright.py`, each (groups, columns, …)
    shape  ny, nx, rows, columns
    span   slices bottom ≤ k < top are in the pack
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .transpose import deinterleave, interleave
from .vector import LANES, axpy, load, store, zero

BELOW, ABOVE = 2, 3  # empty slices around those of a pack: by rounding a position may lie outside
TOGETHER = 8  # lines that the columns of a piece of work cross while these are in the cache
TILE = 64

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def _compiled(function):
    try:
        return njit(function, cache=True, **_OPTIONS)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(function, **_OPTIONS)


@_compiled
def pack(x, packed, bottom, part):
    """Slices bottom ≤ k < bottom + depth of x (volumes, nz, pixels), zeros where there are none."""
    volumes, pixels, depth = packed.shape
    piece, pieces = part
    for p0 in range(piece * TILE, pixels, pieces * TILE):
        p1 = min(p0 + TILE, pixels)
        for n in range(volumes):
            for k in range(depth):
                if bottom + k < x.shape[1]:
                    for p in range(p0, p1):
                        packed[n, p, k] = x[n, bottom + k, p]
                else:
                    for p in range(p0, p1):
                        packed[n, p, k] = 0


@_compiled
def unpack(packed, x, bottom):
    """The slices of a pack, added to those of x."""
    volumes, pixels, depth = packed.shape
    for n in range(volumes):
        for p0 in range(0, pixels, TILE):
            for k in range(min(depth, x.shape[1] - bottom)):
                for p in range(p0, min(p0 + TILE, pixels)):
                    x[n, bottom + k, p] += packed[n, p, k]


@_compiled
def _turns(symmetries, volumes, size, depth, transposed):
    """Where lanes begin in a pack, their steps to the next line and along it; idle lanes do as the first."""
    turns = np.empty((3, LANES), np.int64)
    for lane in range(LANES):
        n, s = divmod(lane, len(symmetries))
        if n >= volumes:
            n, s = 0, 0
        turns[0, lane] = (n * size + symmetries[s, 0]) * depth
        turns[1, lane] = symmetries[s, 2 if transposed else 1] * depth
        turns[2, lane] = symmetries[s, 1 if transposed else 2] * depth
    return turns


@_compiled
def _beside(p, j, width, turns, lines, weights):
    """The lanes' two pixels beside position p of line j, and their weights, 0 outside."""
    real = weights.dtype.type
    i = min(int(p + real(1)) - 1, width - 1)
    f = p - real(i)
    left, right = max(i, 0), min(i + 1, width - 1)
    weights[0] = real(1) - f if i >= 0 else real(0)
    weights[1] = f if i + 1 < width else real(0)
    for lane in range(LANES):
        begin = turns[0, lane] + j * turns[1, lane]
        lines[lane] = begin + left * turns[2, lane]
        lines[LANES + lane] = begin + right * turns[2, lane]


@_compiled
def _rows_met(z0, dz, rows, bottom, top):
    """Rows first ≤ r < last where bottom − 1 < z0 + dz·r < top."""
    low, high = bottom - 1 - z0, top - z0
    if abs(dz) < 1e-9:
        return (0, rows) if low < 0 < high else (0, 0)
    low, high = low / dz, high / dz
    if dz < 0:
        low, high = high, low
    first = min(max(np.floor(low) + 1, 0.0), float(rows))
    last = min(max(np.ceil(high), first), float(rows))
    return int(first), int(last)


@_compiled
def _slices_met(z0, dz, r0, r1, bottom, depth):
    """Slices of a pack, in eights, that rows r0 ≤ r < r1 read."""
    one, other = z0 + dz * r0 - bottom, z0 + dz * (r1 - 1) - bottom
    first = max(int(min(one, other)) - 1, 0) // LANES * LANES
    last = min(int(max(one, other)) + 3, depth)
    return first, (last + LANES - 1) // LANES * LANES


@_compiled
def _widest(work):
    widest = 0
    for c in range(len(work)):
        widest = max(widest, work[c, 2] - work[c, 1])
    return widest


@_compiled
def project(packed, y, lanes, rays, work, shape, span, part):
    """Add sums along rays through the slices of a pack, times weights, to y (volumes, data)."""
    (symmetries, base, step, count), (start, slope, weight, first, last, away, climb) = lanes, rays
    (ny, nx, rows, columns), (bottom, top), (piece, pieces) = shape, span, part
    real = packed.dtype.type
    volumes, size, depth = packed.shape
    flat = packed.reshape(-1)
    mixed = np.zeros((BELOW + depth + ABOVE, LANES), packed.dtype)
    lines, weights = np.empty(2 * LANES, np.int64), np.empty(2, packed.dtype)
    sums = np.empty((_widest(work), rows, LANES), packed.dtype)
    for c in range(piece, len(work), pieces):
        g, d0, d1, transposed = work[c]
        turns = _turns(symmetries, volumes, size, depth, transposed)
        most, width = (nx, ny) if transposed else (ny, nx)
        sums[: d1 - d0] = 0
        lowest, highest = rows, 0
        for j0 in range(0, most, TOGETHER):
            for d in range(d0, d1):
                at = (d - d0) * rows * LANES
                for j in range(max(j0, first[g, d]), min(j0 + TOGETHER, last[g, d])):
                    z0, dz = climb[g, d, 0] + climb[g, d, 1] * j, climb[g, d, 2] + climb[g, d, 3] * j
                    r0, r1 = _rows_met(z0, dz, rows, bottom, top)
                    if r0 >= r1:
                        continue
                    lowest, highest = min(lowest, r0), max(highest, r1)
                    _beside(start[g, d] + real(j) * slope[g, d], j, width, turns, lines, weights)
                    k0, k1 = _slices_met(z0, dz, r0, r1, bottom, depth)
                    for k in range(k0, k1, LANES):
                        interleave(flat, lines, k, weights[0], weights[1], mixed, (BELOW + k) * LANES)
                    low, rise = real(z0 + BELOW), real(dz)
                    for r in range(r0, r1):
                        z = low + real(r) * rise
                        k = np.int32(z)
                        f = z - real(k)
                        q = (k - bottom) * LANES
                        v = axpy(real(1) - f, load(mixed, q), load(sums, at + r * LANES))
                        store(sums, at + r * LANES, axpy(f, load(mixed, q + LANES), v))
        for lane in range(volumes * len(symmetries)):
            n, s = divmod(lane, len(symmetries))
            for r in range(lowest, highest):
                for d in range(d0, min(d1, count[g, s])):
                    rise = away[g, d, 0] + away[g, d, 1] * r
                    value = sums[d - d0, r, lane] * weight[g, d] * real(np.sqrt(1 + rise * rise))
                    y[n, base[g, s] + r * columns + d * step[g, s]] += value


@_compiled
def backproject(y, packed, lanes, rays, work, shape, span):
    """The transpose of `project`, onto the slices of a pack."""
    (symmetries, base, step, count), (start, slope, weight, first, last, away, climb) = lanes, rays
    (ny, nx, rows, columns), (bottom, top) = shape, span
    real = packed.dtype.type
    volumes, size, depth = packed.shape
    flat = packed.reshape(-1)
    mixed = np.zeros((BELOW + depth + ABOVE, LANES), packed.dtype)
    lines, weights = np.empty(2 * LANES, np.int64), np.empty(2, packed.dtype)
    values = np.zeros((_widest(work), rows, LANES), packed.dtype)
    for c in range(len(work)):
        g, d0, d1, transposed = work[c]
        turns = _turns(symmetries, volumes, size, depth, transposed)
        most, width = (nx, ny) if transposed else (ny, nx)
        lowest, highest = rows, 0
        for d in range(d0, d1):
            for j in (first[g, d], last[g, d] - 1):  # the rows met move one way along a ray
                z0, dz = climb[g, d, 0] + climb[g, d, 1] * j, climb[g, d, 2] + climb[g, d, 3] * j
                r0, r1 = _rows_met(z0, dz, rows, bottom, top)
                lowest, highest = min(lowest, r0), max(highest, r1)
        for r in range(lowest, highest):
            for d in range(d0, d1):
                rise = away[g, d, 0] + away[g, d, 1] * r
                scale = weight[g, d] * real(np.sqrt(1 + rise * rise))
                for lane in range(volumes * len(symmetries)):
                    n, s = divmod(lane, len(symmetries))
                    i = base[g, s] + r * columns + d * step[g, s]
                    values[d - d0, r, lane] = scale * y[n, i] if d < count[g, s] else real(0)
        for j0 in range(0, most, TOGETHER):
            for d in range(d0, d1):
                at = (d - d0) * rows * LANES
                for j in range(max(j0, first[g, d]), min(j0 + TOGETHER, last[g, d])):
                    z0, dz = climb[g, d, 0] + climb[g, d, 1] * j, climb[g, d, 2] + climb[g, d, 3] * j
                    r0, r1 = _rows_met(z0, dz, rows, bottom, top)
                    if r0 >= r1:
                        continue
                    _beside(start[g, d] + real(j) * slope[g, d], j, width, turns, lines, weights)
                    k0, k1 = _slices_met(z0, dz, r0, r1, bottom, depth)
                    for k in range(BELOW + k0, BELOW + k1):
                        store(mixed, k * LANES, zero(mixed))
                    low, rise = real(z0 + BELOW), real(dz)
                    for r in range(r0, r1):
                        z = low + real(r) * rise
                        k = np.int32(z)
                        f = z - real(k)
                        q = (k - bottom) * LANES
                        v = load(values, at + r * LANES)
                        store(mixed, q, axpy(real(1) - f, v, load(mixed, q)))
                        store(mixed, q + LANES, axpy(f, v, load(mixed, q + LANES)))
                    for k in range(k0, k1, LANES):
                        deinterleave(mixed, (BELOW + k) * LANES, weights[0], weights[1], flat, lines, k)


@_compiled
def spread(slices, y, z, bottom, part):
    """Add slices, `bottom` first, each (views, columns), to rows at z, linearly between slices."""
    piece, pieces = part
    for v in range(piece, len(y), pieces):
        for r in range(len(z)):
            k = int(np.floor(z[r]))
            for above in range(2):
                share = abs(1 - above - (z[r] - k))
                if share > 0 and bottom <= k + above < bottom + len(slices):
                    w = y.dtype.type(share)
                    for c in range(y.shape[2]):
                        y[v, r, c] += w * slices[k + above - bottom, v, c]


@_compiled
def gather(y, slices, z, bottom, part):
    """The transpose of `spread`, into `slices`."""
    piece, pieces = part
    for v in range(piece, len(y), pieces):
        slices[:, v] = 0
        for r in range(len(z)):
            k = int(np.floor(z[r]))
            for above in range(2):
                share = abs(1 - above - (z[r] - k))
                if share > 0 and bottom <= k + above < bottom + len(slices):
                    w = y.dtype.type(share)
                    for c in range(y.shape[2]):
                        slices[k + above - bottom, v, c] += w * y[v, r, c]
