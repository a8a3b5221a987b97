# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, assignment"
"""The Joseph projector ray by ray, for detectors turned in any way, compiled on first use and cached on disk.

A ray crosses the planes of voxels across the axis along which it passes most voxels, x or y unless z wins,
and reads each plane by bilinear interpolation, zero outside. `beams` holds, in units of voxels from voxel
(0, 0, 0) as (x, y, z): the source or the direction, the detector's middle, one column, one row, and on a
curved detector along and out, (views, 6, 3).
"""

from __future__ import annotations

import math

import numpy as np

from .joseph3d_kernels import _compiled


@_compiled
def _ray(beams, g, r, c, arc):
    """A point on the ray and its direction, in voxels; arc = (parallel, radius or 0, angle of a column)."""
    parallel, radius, angle = arc
    beam = beams[g]
    across, swing, back = c, 0.0, 0.0
    if radius > 0:
        across, swing, back = 0.0, radius * math.sin(angle[g] * c), radius * (math.cos(angle[g] * c) - 1)
    x = beam[1, 0] + across * beam[2, 0] + r * beam[3, 0] + swing * beam[4, 0] + back * beam[5, 0]
    y = beam[1, 1] + across * beam[2, 1] + r * beam[3, 1] + swing * beam[4, 1] + back * beam[5, 1]
    z = beam[1, 2] + across * beam[2, 2] + r * beam[3, 2] + swing * beam[4, 2] + back * beam[5, 2]
    if parallel:
        return x, y, z, beam[0, 0], beam[0, 1], beam[0, 2]
    return x, y, z, x - beam[0, 0], y - beam[0, 1], z - beam[0, 2]


@_compiled
def _path(ray, shape, sizes, strides):
    """Axis of the planes, how the ray crosses them, and its length between two of them.

    Line j: positions a0 + a1·j and b0 + b1·j along the two other axes; first ≤ j < last meet voxels.
    """
    x, y, z, p, q, s = ray
    nx, ny, nz = shape
    length = math.sqrt((p * sizes[0]) ** 2 + (q * sizes[1]) ** 2 + (s * sizes[2]) ** 2)
    if abs(s) > max(abs(p), abs(q)):
        axis, n, na, nb = 2, nz, nx, ny
        start, step, a, da, b, db = z, s, x, p, y, q
        planes = strides[2], strides[0], strides[1]
    elif abs(p) > abs(q):
        axis, n, na, nb = 0, nx, ny, nz
        start, step, a, da, b, db = x, p, y, q, z, s
        planes = strides[0], strides[1], strides[2]
    else:
        axis, n, na, nb = 1, ny, nx, nz
        start, step, a, da, b, db = y, q, x, p, z, s
        planes = strides[1], strides[0], strides[2]
    a1, b1 = da / step, db / step
    a0, b0 = a - start * a1, b - start * b1
    first, last = _within(a0, a1, na, 0, n)
    first, last = _within(b0, b1, nb, first, last)
    return axis, planes, (a0, a1, na, b0, b1, nb), first, last, length / abs(step)


@_compiled
def _within(start, slope, width, first, last):
    """Lines where −1 < start + slope·j < width."""
    if abs(slope) < 1e-12:
        return (first, last) if -1 < start < width else (0, 0)
    low, high = (-1 - start) / slope, (width - start) / slope
    if slope < 0:
        low, high = high, low
    first = max(float(first), np.floor(low) + 1)
    last = max(min(float(last), np.ceil(high)), first)
    return int(first), int(last)


@_compiled
def project(x, y, beams, arc, shape, sizes, strides, part):
    """Sums along rays times length, x (voxels,) -> y (views, rows, columns)."""
    real = x.dtype.type
    views, rows, columns = y.shape
    piece, pieces = part
    for item in range(piece, views * rows, pieces):
        g, r = divmod(item, rows)
        for c in range(columns):
            ray = _ray(beams, g, r - (rows - 1) / 2, c - (columns - 1) / 2, arc)
            _, (along, sa, sb), (a0, a1, na, b0, b1, nb), first, last, length = _path(
                ray, shape, sizes, strides
            )
            total = real(0)
            for j in range(first, last):
                pa, pb = a0 + a1 * j, b0 + b1 * j
                i, k = int(pa + 1) - 1, int(pb + 1) - 1
                f, h = real(pa - i), real(pb - k)
                at = j * along + i * sa + k * sb
                if 0 <= i < na - 1 and 0 <= k < nb - 1:
                    low = (real(1) - f) * x[at] + f * x[at + sa]
                    high = (real(1) - f) * x[at + sb] + f * x[at + sa + sb]
                    total += (real(1) - h) * low + h * high
                else:
                    for u in range(2):
                        for v in range(2):
                            if 0 <= i + u < na and 0 <= k + v < nb:
                                share = (f if u else real(1) - f) * (h if v else real(1) - h)
                                total += share * x[at + u * sa + v * sb]
            y[g, r, c] = total * real(length)


@_compiled
def backproject(y, x, beams, arc, shape, sizes, strides, axis, span):
    """The transpose for rays that cross planes of one axis, onto the planes span[0] ≤ j < span[1]."""
    real = x.dtype.type
    views, rows, columns = y.shape
    for g in range(views):
        for r in range(rows):
            for c in range(columns):
                ray = _ray(beams, g, r - (rows - 1) / 2, c - (columns - 1) / 2, arc)
                found, (along, sa, sb), (a0, a1, na, b0, b1, nb), first, last, length = _path(
                    ray, shape, sizes, strides
                )
                if found != axis:
                    continue
                value = y[g, r, c] * real(length)
                for j in range(max(first, span[0]), min(last, span[1])):
                    pa, pb = a0 + a1 * j, b0 + b1 * j
                    i, k = int(pa + 1) - 1, int(pb + 1) - 1
                    f, h = real(pa - i), real(pb - k)
                    at = j * along + i * sa + k * sb
                    if 0 <= i < na - 1 and 0 <= k < nb - 1:
                        x[at] += (real(1) - f) * (real(1) - h) * value
                        x[at + sa] += f * (real(1) - h) * value
                        x[at + sb] += (real(1) - f) * h * value
                        x[at + sa + sb] += f * h * value
                    else:
                        for u in range(2):
                            for v in range(2):
                                if 0 <= i + u < na and 0 <= k + v < nb:
                                    share = (f if u else real(1) - f) * (h if v else real(1) - h)
                                    x[at + u * sa + v * sb] += share * value
