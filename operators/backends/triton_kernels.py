# ruff: noqa: ANN001, ANN201, D103
# mypy: ignore-errors
"""The inner loops of the Joseph projector for CUDA, in Triton; `triton_joseph` says what they compute.

Images are (…, third, ny, nx), where the third axis is z of a volume or the batch of planar images. `ray` is
the table (6, views, columns) of start, slope, weight, turned, a, b; `view` is (views, 12): c, g₀, g₁, dz,
source (2), detector (2), u (2), middle column, radius. On line j a ray is at start + j·slope, and that of
detector row r at the height z = c + (g₀ + r g₁)(a + b j) in voxels.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def project(
    x, y, ray, view, span, views, rows, columns, nz, ny, nx,
    VOLUME: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(columns, COLUMNS)
    v, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    d = tile * COLUMNS + tl.arange(0, COLUMNS)
    r = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there, table = d < columns, views * columns
    at = ray + v * columns + d
    start = tl.load(at, there, 0.0)
    slope = tl.load(at + table, there, 0.0)
    weight = tl.load(at + 2 * table, there, 1.0)
    turned = tl.load(at + 3 * table, there, 0.0) > 0.5
    a = tl.load(at + 4 * table, there, 0.0)
    b = tl.load(at + 5 * table, there, 0.0)
    along, across = tl.where(turned, 1, nx), tl.where(turned, nx, 1)
    width, count = tl.where(turned, ny, nx), tl.where(turned, nx, ny)
    c, g0, g1 = tl.load(view + v * 12), tl.load(view + v * 12 + 1), tl.load(view + v * 12 + 2)
    g = g0 + r * g1
    plane = ny * nx
    x += tl.program_id(2).to(tl.int64) * nz * plane
    y += tl.program_id(2).to(tl.int64) * views * rows * columns
    total = tl.zeros((COLUMNS, ROWS), start.dtype)
    first = tl.load(span + (v * tiles + tile) * 2)
    last = tl.load(span + (v * tiles + tile) * 2 + 1)
    for j in range(first, last):
        p = start + j * slope
        floor = tl.floor(p)
        f, i = p - floor, floor.to(tl.int32)
        met = there & (j < count)
        left, right = met & (i >= 0) & (i < width), met & (i >= -1) & (i < width - 1)
        pixel = j * along + i * across
        if VOLUME:
            z = c + g[None, :] * (a + j * b)[:, None]
            below = tl.floor(z)
            fz, q = z - below, below.to(tl.int32)
            for up in tl.static_range(2):
                inside = (q + up >= 0) & (q + up < nz)
                share = fz if up else 1 - fz
                at = x + (q + up).to(tl.int64) * plane + pixel[:, None]
                one = tl.load(at, inside & left[:, None], 0.0)
                two = tl.load(at + across[:, None], inside & right[:, None], 0.0)
                total += share * ((1 - f)[:, None] * one + f[:, None] * two)
        else:
            inside = (r < rows)[None, :]
            at = x + r.to(tl.int64)[None, :] * plane + pixel[:, None]
            one = tl.load(at, inside & left[:, None], 0.0)
            two = tl.load(at + across[:, None], inside & right[:, None], 0.0)
            total += (1 - f)[:, None] * one + f[:, None] * two
    total *= weight[:, None]
    if VOLUME:
        rise = g[None, :] * (b * tl.load(view + v * 12 + 3) / weight)[:, None]
        total *= tl.sqrt(1 + rise * rise)
        out = (v * rows + r).to(tl.int64)[None, :] * columns + d[:, None]
    else:
        out = (r * views + v).to(tl.int64)[None, :] * columns + d[:, None]
    tl.store(y + out, total, there[:, None] & (r < rows)[None, :])


@triton.jit
def backproject(
    y, x, ray, view, views, rows, columns, nz, ny, nx, hy, hx,
    VOLUME: tl.constexpr, KIND: tl.constexpr, PIXELS: tl.constexpr, ROWS: tl.constexpr,
    U0: tl.constexpr, U1: tl.constexpr, V0: tl.constexpr, V1: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    q = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row, column = k // nx, k % nx
    px, py = (column - (nx - 1) / 2) * hx, ((ny - 1) / 2 - row) * hy
    table = views * columns
    y += tl.program_id(2).to(tl.int64) * views * rows * columns
    x += tl.program_id(2).to(tl.int64) * nz * ny * nx
    total = tl.zeros((PIXELS, ROWS), x.dtype.element_ty)
    for v in range(views):
        at = view + v * 12
        c, g0, g1, dz = tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)
        sx, sy, cx, cy = tl.load(at + 4), tl.load(at + 5), tl.load(at + 6), tl.load(at + 7)
        ux, uy, middle, radius = tl.load(at + 8), tl.load(at + 9), tl.load(at + 10), tl.load(at + 11)
        if KIND == 0:
            u = ((px - cx) * sy - (py - cy) * sx) / (ux * sy - uy * sx)
        elif KIND == 1:
            dx, dy = px - sx, py - sy
            u = ((sx - cx) * dy - (sy - cy) * dx) / (ux * dy - uy * dx)
        else:
            # sine and cosine of the angle from the detector's middle, times the distance from the source
            dx, dy, wx, wy = px - sx, py - sy, cx - sx, cy - sy
            pitch = tl.sqrt(ux * ux + uy * uy)
            sine, cosine = (dx * ux + dy * uy) / pitch, (dx * wx + dy * wy) / radius
            u = arctangent(sine / cosine) * radius / pitch
        base = tl.floor(u + middle).to(tl.int32)
        for t in tl.static_range(U0, U1 + 1):
            d = base + t
            there = (k < ny * nx) & (d >= 0) & (d < columns)
            at = ray + v * columns + d
            turned = tl.load(at + 3 * table, there, 0.0) > 0.5
            j, i = tl.where(turned, column, row), tl.where(turned, row, column)
            p = tl.load(at, there, 0.0) + j * tl.load(at + table, there, 0.0)
            weight = tl.load(at + 2 * table, there, 1.0)
            share = tl.maximum(1 - tl.abs(p - i), 0.0) * weight
            there &= share > 0
            if VOLUME:
                b = tl.load(at + 5 * table, there, 0.0)
                s = tl.load(at + 4 * table, there, 1.0) + j * b
                lowest = tl.floor((((q - c)[None, :] / s[:, None]) - g0) / g1).to(tl.int32)
                for tv in tl.static_range(V0, V1 + 1):
                    r = lowest + tv
                    g = g0 + r * g1
                    near = tl.maximum(1 - tl.abs(c + g * s[:, None] - q[None, :]), 0.0)
                    rise = g * (b * dz / weight)[:, None]
                    met = there[:, None] & (r >= 0) & (r < rows) & (near > 0)
                    data = tl.load(y + (v * rows + r).to(tl.int64) * columns + d[:, None], met, 0.0)
                    total += share[:, None] * near * tl.sqrt(1 + rise * rise) * data
            else:
                at = y + (q * views + v).to(tl.int64)[None, :] * columns + d[:, None]
                total += share[:, None] * tl.load(at, there[:, None] & (q < rows)[None, :], 0.0)
    out = x + q.to(tl.int64)[None, :] * (ny * nx) + k[:, None]
    tl.store(out, total, (k < ny * nx)[:, None] & (q < nz)[None, :])


@triton.jit
def arctangent(t):
    """arctan t for |t| < 10 or so: halved twice, then its series."""
    t = t / (1 + tl.sqrt(1 + t * t))
    t = t / (1 + tl.sqrt(1 + t * t))
    s = t * t
    series = 1 / 15 - s / 17
    series = 1 / 13 - s * series
    series = 1 / 11 - s * series
    series = 1 / 9 - s * series
    series = 1 / 7 - s * series
    series = 1 / 5 - s * series
    series = 1 / 3 - s * series
    return 4 * t * (1 - s * series)
