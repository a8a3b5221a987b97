"""Volumes seen by detectors turned in any way: the Joseph projector ray by ray, see `oblique_kernels.py`.

Rays are made as they are needed from a few vectors a view. A thread of the adjoint owns planes of voxels: all
rays that cross planes of one axis come before those of the next.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..volume import VolumeGeometry
from . import oblique_kernels as kernels
from .pool import available, share

Array = NDArray[Any]


def project(x: Array, y: Array, geometry: VolumeGeometry) -> None:
    """A x of one volume (nz, ny, nx) into y (views, rows, columns)."""
    threads, flat, beams = available(), x.reshape(-1), _beams(geometry)
    pieces = 8 * threads
    share(lambda k: kernels.project(flat, y, *beams, (k, pieces)), pieces, threads)


def backproject(y: Array, x: Array, geometry: VolumeGeometry) -> None:
    """A*y, added to x."""
    threads, flat, beams = available(), x.reshape(-1), _beams(geometry)
    for axis, planes in enumerate(x.shape[::-1]):
        pieces = min(2 * threads, planes)

        def back(k: int, axis: int = axis, planes: int = planes, pieces: int = pieces) -> None:
            span = k * planes // pieces, (k + 1) * planes // pieces
            kernels.backproject(y, flat, *beams, axis, span)

        share(back, pieces, threads)


@lru_cache(maxsize=8)
def _beams(geometry: VolumeGeometry) -> tuple[Any, ...]:
    """What the kernels want to know: beams, arc, shape and sizes of voxels as (x, y, z), strides."""
    frames = geometry.frames()
    nz, ny, nx = geometry.volume_shape
    dz, dy, dx = geometry.voxel_size
    scale = np.array([1 / dx, -1 / dy, 1 / dz])  # row 0 is at the top
    middle = (np.array([nx, ny, nz]) - 1) / 2
    pitch = np.linalg.norm(frames.u, axis=-1)
    vectors = [
        frames.source * scale + (0 if frames.parallel else middle),
        frames.centre * scale + middle,
        frames.u * scale,
        frames.v * scale,
        frames.u / pitch[:, None] * scale,
        frames.outward() * scale,
    ]
    arc = (frames.parallel, frames.radius or 0.0, pitch / (frames.radius or 1.0))
    strides = (1, nx, ny * nx)
    return np.stack(vectors, 1), arc, (nx, ny, nz), (dx, dy, dz), strides
