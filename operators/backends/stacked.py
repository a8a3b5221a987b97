"""Parallel beams about z: every slice is projected by itself, in the plane; rows lie between slices.

(A x)[view, r] = (1 − f) A₂ x[k] + f A₂ x[k + 1],   z(r) = k + f, zero outside
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..geometry import ParallelBeam
from ..volume import ParallelBeam3D, VolumeGeometry
from . import joseph

DEPTH = 16  # slices at a time, two for every lane


def planar(geometry: VolumeGeometry) -> ParallelBeam | None:
    """The scan of one slice, where its pixels are square."""
    _, dy, dx = geometry.voxel_size
    if not isinstance(geometry, ParallelBeam3D) or not math.isclose(dy, dx, rel_tol=1e-12):
        return None
    (_, columns), (_, width) = geometry.detector_shape, geometry.detector_pixel_size
    return ParallelBeam(geometry.volume_shape[1:], dx, geometry.angles, columns, width, geometry.offset[1])


def project(x: Tensor, y: Tensor, geometry: VolumeGeometry, flat: ParallelBeam) -> None:
    """A x of one volume (nz, ny, nx) added to y (views, rows, columns)."""
    for bottom in range(0, len(x), DEPTH):
        slices = joseph.project(x[bottom : bottom + DEPTH].detach(), flat)
        for rows, k, weight in _between(geometry, bottom, len(slices), y.dtype):
            y[:, rows] += weight[:, None] * slices[k].transpose(0, 1)


def backproject(y: Tensor, x: Tensor, geometry: VolumeGeometry, flat: ParallelBeam) -> None:
    """A*y into x."""
    for bottom in range(0, len(x), DEPTH):
        part = x[bottom : bottom + DEPTH]
        slices = y.new_zeros(len(part), *flat.sinogram_shape)
        for rows, k, weight in _between(geometry, bottom, len(part), y.dtype):
            slices.index_add_(0, k, (weight[:, None] * y[:, rows]).transpose(0, 1))
        part[:] = joseph.backproject(slices, flat)


def _between(
    geometry: VolumeGeometry, bottom: int, depth: int, dtype: torch.dtype
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Rows, the slices (from `bottom`) below and above them, and how far these count."""
    assert isinstance(geometry, ParallelBeam3D)
    z = geometry.rows() / geometry.voxel_size[0] + (geometry.volume_shape[0] - 1) / 2
    below = np.floor(z)
    parts = []
    for k, weight in ((below, 1 - (z - below)), (below + 1, z - below)):
        inside = (k >= bottom) & (k < bottom + depth) & (weight > 0)
        parts.append(
            (
                torch.from_numpy(np.flatnonzero(inside)),
                torch.from_numpy((k[inside] - bottom).astype(np.int64)),
                torch.from_numpy(weight[inside]).to(dtype),
            )
        )
    return parts
