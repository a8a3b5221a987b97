"""The ray table every Joseph backend shares.

Joseph, IEEE Trans. Med. Imaging 1 (1982): along its steeper axis a ray meets one line of pixels after
another; on line j it passes column p(j) = start + j·slope and reads the image there by linear interpolation,
zero outside:

    (A x)ᵣ = weightᵣ Σⱼ (1 − f) x[j, ⌊p⌋] + f x[j, ⌊p⌋ + 1],   f = p − ⌊p⌋

Rays steeper in x than in y read the transposed image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..geometry import PlanarGeometry


@dataclass(frozen=True, eq=False)
class RayTable:
    """All rays of a geometry, each array (views, bins).

    start, slope : p(j) = start + j·slope [pixels], float64
    weight : length of a ray within one line of pixels [mm], float64
    transposed : whether the ray reads the transposed image
    first, last : the lines first ≤ j < last are those where the ray meets pixels, −1 < p(j) < width
    """

    start: NDArray[np.float64]
    slope: NDArray[np.float64]
    weight: NDArray[np.float64]
    transposed: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    image_shape: tuple[int, int]

    @property
    def samples(self) -> int:
        """Number of (ray, line) pairs that meet pixels: half the entries of the matrix, or a few less."""
        return int((self.last - self.first).sum())


@lru_cache(maxsize=32)
def ray_table(geometry: PlanarGeometry) -> RayTable:
    """The table of `geometry`; remembered."""
    ny, nx = geometry.image_shape
    h = geometry.pixel_size
    point, direction = geometry.rays()
    dx, dy = direction[..., 0], direction[..., 1]
    transposed = np.abs(dx) > np.abs(dy)
    with np.errstate(divide="ignore", invalid="ignore"):
        # rows j: y = ((ny − 1)/2 − j) h, column = x/h + (nx − 1)/2
        by_row = dx / dy
        row_start = (point[..., 0] + ((ny - 1) / 2 * h - point[..., 1]) * by_row) / h + (nx - 1) / 2
        # columns j: x = (j − (nx − 1)/2) h, row = (ny − 1)/2 − y/h
        by_column = dy / dx
        column_start = (ny - 1) / 2 - (point[..., 1] - ((nx - 1) / 2 * h + point[..., 0]) * by_column) / h
    start = np.where(transposed, column_start, row_start)
    slope = -np.where(transposed, by_column, by_row)
    lines, width = np.where(transposed, nx, ny), np.where(transposed, ny, nx)
    first, last = _lines_met(start, slope, lines, width)
    return RayTable(
        start=start,
        slope=slope,
        weight=h / np.maximum(np.abs(dx), np.abs(dy)),
        transposed=transposed,
        first=first,
        last=last,
        image_shape=(ny, nx),
    )


def _lines_met(
    start: NDArray[np.float64],
    slope: NDArray[np.float64],
    lines: NDArray[np.int64],
    width: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lines 0 ≤ j < `lines` where −1 < start + j·slope < width, as first ≤ j < last."""
    level = np.abs(slope) < 1e-12
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = (-1 - start) / slope, (width - start) / slope
    inside = (start > -1) & (start < width)
    low = np.where(level, np.where(inside, -1.0, lines), np.minimum(enter, leave))
    high = np.where(level, lines, np.maximum(enter, leave))
    first = np.clip(np.floor(low) + 1, 0, lines).astype(np.int64)
    last = np.clip(np.ceil(high), 0, lines).astype(np.int64)
    return first, np.maximum(first, last)
