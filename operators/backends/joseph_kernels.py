# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated"
"""The inner loops of the Joseph projector, compiled on first use and cached on disk.

`copies[tr]` holds the image (tr = 0) or the transposed image (tr = 1) of every lane: lines of `width` pixels
behind one border pixel and before two, eight lanes a pixel. Every function does the items piece, piece +
pieces, … of its outermost loop, where part = (piece, pieces), without the GIL: threads share the work.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .vector import LANES, axpy, load, store, zero

TILE = 16  # lines that stay in the cache

_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@_compiled
def pack(x, copies, symmetries, shape, part):
    """Turn, mirror and pad the images (images, pixels) into `copies`."""
    (ny, nx), (piece, pieces) = shape, part
    for line in range(piece, ny + nx, pieces):
        tr, j = (0, line) if line < ny else (1, line - ny)
        width = nx if tr == 0 else ny
        border = j * (width + 3)
        for i in range(width + 3):
            store(copies, (tr * copies.shape[1] + border + i) * LANES, zero(x))
        for n in range(len(x)):
            for s in range(len(symmetries)):
                origin, down, right = symmetries[s]
                pixel = origin + j * (right if tr else down)
                step = down if tr else right
                lane = n * len(symmetries) + s
                for i in range(width):
                    copies[tr, border + 1 + i, lane] = x[n, pixel + i * step]


@_compiled
def project(copies, y, lanes, rays, chunks, shape, part):
    """Sums along rays times their weights, to bin d of every lane: y[image, base + d·step], d < count."""
    (ny, nx), (piece, pieces) = shape, part
    (base, step, count), (start, slope, weight, first, last) = lanes, rays
    real = copies.dtype.type
    symmetries = base.shape[1]
    for c in range(piece, len(chunks), pieces):
        g, d0, d1, tr = chunks[c]
        lines, stride = (ny, nx + 3) if tr == 0 else (nx, ny + 3)
        q = copies[tr]
        sums = np.zeros((d1 - d0, LANES), copies.dtype)
        for j0 in range(0, lines, TILE):
            for d in range(d0, d1):
                s, m = start[g, d], slope[g, d]
                left, right = load(sums, (d - d0) * LANES), zero(sums)
                for j in range(max(j0, first[g, d]), min(j0 + TILE, last[g, d])):
                    p = s + real(j) * m
                    i = np.int32(p)
                    f = p - real(i)
                    k = (j * stride + i) * LANES
                    left = axpy(real(1) - f, load(q, k), left)
                    right = axpy(f, load(q, k + LANES), right)
                store(sums, (d - d0) * LANES, axpy(real(1), left, right))
        for n in range(len(y)):
            for lane in range(symmetries):
                for d in range(d0, min(d1, count[g, lane])):
                    value = sums[d - d0, n * symmetries + lane] * weight[g, d]
                    y[n, base[g, lane] + d * step[g, lane]] = value


@_compiled
def spread(y, values, lanes, rays, part):
    """Data times weights, values[group, bin, lane]; zero where a lane has no ray."""
    (base, step, count), weight, (piece, pieces) = lanes, rays[2], part
    symmetries = base.shape[1]
    for g in range(piece, len(values), pieces):
        values[g] = 0
        for n in range(len(y)):
            for lane in range(symmetries):
                for d in range(count[g, lane]):
                    value = y[n, base[g, lane] + d * step[g, lane]] * weight[g, d]
                    values[g, d, n * symmetries + lane] = value


@_compiled
def scatter(values, copies, rays, chunks, shape, part):
    """The transpose of the sums along rays; an item is a tile of lines, where nobody else writes."""
    (start, slope, _, first, last), (ny, nx), (piece, pieces) = rays, shape, part
    real = copies.dtype.type
    bins = values.shape[1]
    for item in range(piece, 2 * ((max(ny, nx) + TILE - 1) // TILE), pieces):
        tr, j0 = item % 2, item // 2 * TILE
        lines, stride = (ny, nx + 3) if tr == 0 else (nx, ny + 3)
        j1 = min(j0 + TILE, lines)
        q = copies[tr]
        for k in range(j0 * stride, j1 * stride):
            store(q, k * LANES, zero(q))
        for c in range(len(chunks)):
            g, d0, d1, reads = chunks[c]
            if reads != tr:
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
    for row in range(piece, ny, pieces):
        for n in range(len(x)):
            for column in range(nx):
                total = copies.dtype.type(0)
                for s in range(symmetries):
                    for tr in range(2):
                        k = back[s, tr, 0] + row * back[s, tr, 1] + column * back[s, tr, 2]
                        total += copies[tr, k, n * symmetries + s]
                x[n, row * nx + column] = total
