# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated"
"""The inner loops of the Joseph projector, compiled on first use and cached on disk.

`copies[0]` holds the image of every lane, `copies[1]`, where it is needed, the transposed image: lines of
pixels behind one border pixel and before two, eight lanes a pixel. Every function does the items piece,
piece + pieces, … of its outermost loop, part = (piece, pieces), without the GIL: threads share the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .vector import LANES, axpy, load, store, zero

TILE = 16  # lines, and pixels of a line, that stay in the cache
TOGETHER = 8  # chunks that read one tile after another while it is there

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def _compiled(function):
    try:
        return njit(function, cache=True, **_OPTIONS)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(function, **_OPTIONS)


@_compiled
def pack(x, copies, symmetries, shape, part):
    """Turn, mirror and pad the images (images, pixels) into `copies`."""
    (ny, nx), (piece, pieces) = shape, part
    none = zero(x)
    for j0 in range(piece * TILE, max(ny, nx), pieces * TILE):
        for copy in range(len(copies)):
            lines, width = (ny, nx) if copy == 0 else (nx, ny)
            for j in range(j0, min(j0 + TILE, lines)):
                for i in (0, width + 1, width + 2):
                    store(copies, (copy * copies.shape[1] + j * (width + 3) + i) * LANES, none)
        j1 = min(j0 + TILE, ny)
        for i0 in range(0, nx, TILE):
            i1 = min(i0 + TILE, nx)
            if len(x) * len(symmetries) < LANES:
                for j in range(j0, j1):
                    for i in range(i0, i1):
                        store(copies, (j * (nx + 3) + 1 + i) * LANES, none)
            for n in range(len(x)):
                for s in range(len(symmetries)):
                    origin, down, right = symmetries[s]
                    lane = n * len(symmetries) + s
                    for j in range(j0, j1):
                        for i in range(i0, i1):
                            copies[0, j * (nx + 3) + 1 + i, lane] = x[n, origin + j * down + i * right]
            if len(copies) == 2:
                for i in range(i0, i1):
                    for j in range(j0, j1):
                        pixel = load(copies, (j * (nx + 3) + 1 + i) * LANES)
                        store(copies, (copies.shape[1] + i * (ny + 3) + 1 + j) * LANES, pixel)


@_compiled
def project(copies, y, lanes, rays, chunks, shape, part):
    """Sums along rays times their weights, to bin d of every lane: y[image, base + d·step], d < count."""
    (ny, nx), (piece, pieces) = shape, part
    (base, step, count, turned), (start, slope, weight, first, last) = lanes, rays
    real = copies.dtype.type
    symmetries = base.shape[1]
    sums = np.empty((TOGETHER, start.shape[1], LANES), copies.dtype)
    for c0 in range(piece * TOGETHER, len(chunks), pieces * TOGETHER):
        c1 = min(c0 + TOGETHER, len(chunks))
        sums[:] = 0
        for j0 in range(0, max(ny, nx), TILE):
            for c in range(c0, c1):
                g, d0, d1, copy, _ = chunks[c]
                stride = nx + 3 if copy == 0 else ny + 3
                q = copies[copy]
                for d in range(d0, d1):
                    s, m = start[g, d], slope[g, d]
                    at = ((c - c0) * sums.shape[1] + d) * LANES
                    left, right = load(sums, at), zero(sums)
                    for j in range(max(j0, first[g, d]), min(j0 + TILE, last[g, d])):
                        p = s + real(j) * m
                        i = np.int32(p)
                        f = p - real(i)
                        k = (j * stride + i) * LANES
                        left = axpy(real(1) - f, load(q, k), left)
                        right = axpy(f, load(q, k + LANES), right)
                    store(sums, at, axpy(real(1), left, right))
        for c in range(c0, c1):
            g, d0, d1, _, tr = chunks[c]
            for n in range(len(y)):
                for s in range(symmetries):
                    lane = n * symmetries + turned[tr, s]
                    for d in range(d0, min(d1, count[g, s])):
                        y[n, base[g, s] + d * step[g, s]] = sums[c - c0, d, lane] * weight[g, d]


@_compiled
def spread(y, values, lanes, rays, chunks, part):
    """Data times weights, values[group, bin, lane]; zero where a lane has no ray."""
    (base, step, count, turned), weight, (piece, pieces) = lanes, rays[2], part
    symmetries = base.shape[1]
    for c in range(piece, len(chunks), pieces):
        g, d0, d1, _, tr = chunks[c]
        values[g, d0:d1] = 0
        for n in range(len(y)):
            for s in range(symmetries):
                lane = n * symmetries + turned[tr, s]
                for d in range(d0, min(d1, count[g, s])):
                    values[g, d, lane] = y[n, base[g, s] + d * step[g, s]] * weight[g, d]


@_compiled
def scatter(values, copies, rays, chunks, shape, part):
    """The transpose of the sums along rays; an item is a tile of lines, where nobody else writes."""
    (start, slope, _, first, last), (ny, nx), (piece, pieces) = rays, shape, part
    real = copies.dtype.type
    bins = values.shape[1]
    for item in range(piece, len(copies) * ((max(ny, nx) + TILE - 1) // TILE), pieces):
        copy, j0 = item % len(copies), item // len(copies) * TILE
        lines, stride = (ny, nx + 3) if copy == 0 else (nx, ny + 3)
        j1 = min(j0 + TILE, lines)
        q = copies[copy]
        for k in range(j0 * stride, j1 * stride):
            store(q, k * LANES, zero(q))
        for c in range(len(chunks)):
            g, d0, d1, written, _ = chunks[c]
            if written != copy:
                continue
            for d in range(d0, d1):
                s, m = start[g, d], slope[g, d]
                v = load(values, (g * bins + d) * LANES)
                for j in range(max(j0, first[g, d]), min(j1, last[g, d])):
                    p = s + real(j) * m
                    i = np.int32(p)
                    f = p - real(i)
                    k = (j * stride + i) * LANES
                    store(q, k, axpy(real(1) - f, v, load(q, k)))
                    store(q, k + LANES, axpy(f, v, load(q, k + LANES)))


@_compiled
def collect(copies, x, back, shape, part):
    """The image: the sum of its copies, turned back."""
    symmetries, (ny, nx), (piece, pieces) = len(back), shape, part
    for r0 in range(piece * TILE, ny, pieces * TILE):
        for c0 in range(0, nx, TILE):
            for n in range(len(x)):
                for row in range(r0, min(r0 + TILE, ny)):
                    x[n, row * nx + c0 : row * nx + min(c0 + TILE, nx)] = 0
                for s in range(symmetries):
                    lane = n * symmetries + s
                    for copy in range(len(copies)):
                        origin, down, right = back[s, copy]
                        for row in range(r0, min(r0 + TILE, ny)):
                            for column in range(c0, min(c0 + TILE, nx)):
                                k = origin + row * down + column * right
                                x[n, row * nx + column] += copies[copy, k, lane]
