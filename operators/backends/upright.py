"""Rays of scans whose detector rows run along z: what they do in the plane, and how they climb.

In the plane a detector column is one ray and crosses lines of pixels as in `rays.py`; all its rows share
that. On line j the ray of row r is at slice

    z(j, r) = za + zb·j + (zc + zd·j)·r

a ray from a point source climbs in proportion to the distance it has come, one of a parallel beam not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import Frames, VolumeGeometry
from .rays import _lines_met

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UprightTable:
    """The detector columns of a scan, each array (views, columns).

    start, slope, weight, transposed, first, last : as in `RayTable`, weight for a ray that stays in the plane
    climb : za, zb, zc, zd, (views, columns, 4) [slices]
    away : rise of the ray of row r per length in the plane, lowest + r·step: (views, columns, 2)
    """

    start: Array
    slope: Array
    weight: Array
    transposed: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    climb: Array
    away: Array


@lru_cache(maxsize=4)
def upright_table(geometry: VolumeGeometry) -> UprightTable | None:
    """The table of `geometry`, or None where it is not upright, or a ray climbs more than a slice a line."""
    frames, (rows, columns) = geometry.frames(), geometry.detector_grid
    level = [frames.u[:, 2], frames.v[:, 0], frames.v[:, 1]] + (
        [frames.source[:, 2]] if frames.parallel else []
    )
    sizes = [frames.u, frames.v, frames.v] + ([frames.source] if frames.parallel else [])
    for component, vector in zip(level, sizes, strict=True):
        if (np.abs(component) > 1e-12 * np.linalg.norm(vector, axis=-1)).any():
            return None
    nz, ny, nx = geometry.volume_shape
    dz, dy, dx = geometry.voxel_size
    point, direction, length = _in_plane(frames, columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        # rows j: y = ((ny − 1)/2 − j) dy; columns j: x = (j − (nx − 1)/2) dx
        by_row, by_column = direction[..., 0] / direction[..., 1], direction[..., 1] / direction[..., 0]
        down, right = (ny - 1) / 2 * dy - point[..., 1], -(nx - 1) / 2 * dx - point[..., 0]
        row_start = (point[..., 0] + down * by_row) / dx + (nx - 1) / 2
        column_start = (ny - 1) / 2 - (point[..., 1] + right * by_column) / dy
        transposed = np.abs(direction[..., 0]) * dy > np.abs(direction[..., 1]) * dx
        come = np.where(transposed, right / direction[..., 0], down / direction[..., 1])
        step = np.where(transposed, dx / direction[..., 0], -dy / direction[..., 1])
    start = np.where(transposed, column_start, row_start)
    slope = -np.where(transposed, by_column * dx / dy, by_row * dy / dx)
    lines, width = np.where(transposed, nx, ny), np.where(transposed, ny, nx)
    first, last = _lines_met(start, slope, lines, width)
    # heights of row 0 and from row to row, over the source
    lowest = (frames.centre[:, 2] - (rows - 1) / 2 * frames.v[:, 2])[:, None]
    raised = np.broadcast_to(frames.v[:, 2, None], length.shape)
    if frames.parallel:
        climb = [lowest / dz + (nz - 1) / 2 + 0 * length, 0 * length, raised / dz, 0 * length]
        away = [0 * length, 0 * length]
    else:
        height = frames.source[:, 2, None]
        away = [(lowest - height) / length, raised / length]
        middle = height / dz + (nz - 1) / 2
        climb = [middle + come * away[0] / dz, step * away[0] / dz, come * away[1] / dz, step * away[1] / dz]
        ends = come + step * np.maximum(first, 0), come + step * (np.maximum(last, 1) - 1)
        if (np.minimum(*ends)[last > first] <= 0).any():  # a source over the volume: not upright to the rows
            return None
    steepest = np.maximum(np.abs(climb[1]), np.abs(climb[1] + (rows - 1) * climb[3]))
    if (steepest > 1).any():
        return None
    return UprightTable(
        start, slope, np.abs(step), transposed, first, last, np.stack(climb, -1), np.stack(away, -1)
    )


def _in_plane(frames: Frames, columns: int) -> tuple[Array, Array, Array]:
    """A point on every column's ray, its direction, and how far from the source the detector is."""
    pixels: Array = frames.pixels(1, columns)[:, 0, :, :2]
    source: Any = frames.source[:, None, :2]
    if frames.parallel:
        return pixels, np.broadcast_to(source, pixels.shape), np.ones(pixels.shape[:-1])
    length = np.linalg.norm(pixels - source, axis=-1)
    return np.broadcast_to(source, pixels.shape), (pixels - source) / length[..., None], length
