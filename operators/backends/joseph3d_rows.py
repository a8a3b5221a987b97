# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, assignment"
"""The inner loops for one volume whose views share nothing: as joseph3d_kernels.py, but eight rows at once.

`packed` is (ny·nx, depth), y is (views, rows, columns), a group is a view. The disk cache notices changes of
this file only: touch it after changing joseph3d_kernels.py or climb.py.
"""

from __future__ import annotations

import numpy as np

from .climb import BORDER, climb, descend
from .joseph3d_kernels import ABOVE, BELOW, TOGETHER, _compiled, _rows_met, _slices_met, _widest
from .vector import LANES, axpy, load, store, zero

TAPS = 12  # rows that may meet one slice before these are taken one by one


@_compiled
def _beside(p, j, width, depth, transposed, nx, weights):
    """Where the two pixels beside position p of line j begin in a pack; their weights, 0 outside."""
    real = weights.dtype.type
    i = min(int(p + real(1)) - 1, width - 1)
    f = p - real(i)
    left, right = max(i, 0), min(i + 1, width - 1)
    weights[0] = real(1) - f if i >= 0 else real(0)
    weights[1] = f if i + 1 < width else real(0)
    if transposed:
        return (left * nx + j) * depth, (right * nx + j) * depth
    return (j * nx + left) * depth, (j * nx + right) * depth


@_compiled
def project(packed, y, rays, work, shape, span, part):
    """Add sums along rays through the slices of a pack, times weights, to y."""
    start, slope, weight, first, last, away, climbs = rays
    (ny, nx, rows, _), (bottom, top), (piece, pieces) = shape, span, part
    real = packed.dtype.type
    depth = packed.shape[1]
    flat = packed.reshape(-1)
    mixed = np.zeros(BELOW + depth + ABOVE, packed.dtype)
    weights = np.empty(2, packed.dtype)
    sums = np.empty((_widest(work), rows), packed.dtype)
    for c in range(piece, len(work), pieces):
        g, d0, d1, transposed = work[c]
        most, width = (nx, ny) if transposed else (ny, nx)
        sums[: d1 - d0] = 0
        lowest, highest = rows, 0
        for j0 in range(0, most, TOGETHER):
            for d in range(d0, d1):
                at = (d - d0) * rows
                for j in range(max(j0, first[g, d]), min(j0 + TOGETHER, last[g, d])):
                    z0, dz = climbs[g, d, 0] + climbs[g, d, 1] * j, climbs[g, d, 2] + climbs[g, d, 3] * j
                    r0, r1 = _rows_met(z0, dz, rows, bottom, top)
                    if r0 >= r1:
                        continue
                    lowest, highest = min(lowest, r0), max(highest, r1)
                    p = start[g, d] + real(j) * slope[g, d]
                    left, right = _beside(p, j, width, depth, transposed, nx, weights)
                    k0, k1 = _slices_met(z0, dz, r0, r1, bottom, depth)
                    for k in range(k0, k1, LANES):
                        v = axpy(weights[0], load(flat, left + k), zero(flat))
                        store(mixed, BELOW + k, axpy(weights[1], load(flat, right + k), v))
                    low, rise = real(z0 + BELOW), real(dz)
                    whole = r1 - (r1 - r0) % LANES
                    for r in range(r0, whole, LANES):
                        climb(mixed, bottom, low, rise, r, sums, at + r)
                    for r in range(whole, r1):
                        z = low + real(r) * rise
                        k = np.int32(z)
                        f = z - real(k)
                        sums[d - d0, r] += (real(1) - f) * mixed[k - bottom] + f * mixed[k - bottom + 1]
        for r in range(lowest, highest):
            for d in range(d0, d1):
                rise = away[g, d, 0] + away[g, d, 1] * r
                y[g, r, d] += sums[d - d0, r] * weight[g, d] * real(np.sqrt(1 + rise * rise))


@_compiled
def backproject(y, packed, rays, work, shape, span):
    """The transpose of `project`, onto the slices of a pack."""
    start, slope, weight, first, last, away, climbs = rays
    (ny, nx, rows, _), (bottom, top) = shape, span
    real = packed.dtype.type
    depth = packed.shape[1]
    flat = packed.reshape(-1)
    mixed = np.zeros(BELOW + depth + ABOVE, packed.dtype)
    weights = np.empty(2, packed.dtype)
    values = np.zeros((_widest(work), rows + 2 * BORDER), packed.dtype)
    for c in range(len(work)):
        g, d0, d1, transposed = work[c]
        most, width = (nx, ny) if transposed else (ny, nx)
        for d in range(d0, d1):
            for r in range(rows):
                rise = away[g, d, 0] + away[g, d, 1] * r
                scale = weight[g, d] * real(np.sqrt(1 + rise * rise))
                values[d - d0, BORDER + r] = scale * y[g, r, d]
        for j0 in range(0, most, TOGETHER):
            for d in range(d0, d1):
                column = values[d - d0]
                for j in range(max(j0, first[g, d]), min(j0 + TOGETHER, last[g, d])):
                    z0, dz = climbs[g, d, 0] + climbs[g, d, 1] * j, climbs[g, d, 2] + climbs[g, d, 3] * j
                    r0, r1 = _rows_met(z0, dz, rows, bottom, top)
                    if r0 >= r1:
                        continue
                    p = start[g, d] + real(j) * slope[g, d]
                    left, right = _beside(p, j, width, depth, transposed, nx, weights)
                    k0, k1 = _slices_met(z0, dz, r0, r1, bottom, depth)
                    low, rise = real(z0 + BELOW), real(dz)
                    taps = int(2 / abs(dz)) + 2 if abs(dz) * TAPS > 2.5 else TAPS + 1
                    if taps > TAPS:
                        mixed[BELOW + k0 : BELOW + k1] = 0
                        for r in range(r0, r1):
                            z = low + real(r) * rise
                            k = np.int32(z)
                            f = z - real(k)
                            mixed[k - bottom] += (real(1) - f) * column[BORDER + r]
                            mixed[k - bottom + 1] += f * column[BORDER + r]
                    else:
                        # (k − low)/rise − 1/|rise| is where rows begin to meet slice k
                        begin = real(0.95 - (z0 + BELOW) / dz - 1 / abs(dz))
                        for k in range(BELOW + k0, BELOW + k1, LANES):
                            total = zero(flat)
                            for q in range(0, taps, 2):
                                total = descend(column, low, rise, begin, real(1 / dz), k + bottom, q, total)
                            store(mixed, k, total)
                    for k in range(k0, k1, LANES):
                        v = load(mixed, BELOW + k)
                        store(flat, left + k, axpy(weights[0], v, load(flat, left + k)))
                        store(flat, right + k, axpy(weights[1], v, load(flat, right + k)))
