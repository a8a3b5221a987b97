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

from ..geometry import Geometry


@dataclass(frozen=True, eq=False)
class RayTable:
    """start, slope [pixels], weight [mm] and `transposed` of every ray, each (views, bins), float64."""

    start: NDArray[np.float64]
    slope: NDArray[np.float64]
    weight: NDArray[np.float64]
    transposed: NDArray[np.bool_]
    image_shape: tuple[int, int]


@lru_cache(maxsize=32)
def ray_table(geometry: Geometry) -> RayTable:
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
    return RayTable(
        start=np.where(transposed, column_start, row_start),
        slope=-np.where(transposed, by_column, by_row),
        weight=h / np.maximum(np.abs(dx), np.abs(dy)),
        transposed=transposed,
        image_shape=(ny, nx),
    )
