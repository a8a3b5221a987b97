"""Parallel beams about z: every slice is projected by itself, in the plane; rows lie between slices.

(A x)[view, r] = (1 − f) A₂ x[k] + f A₂ x[k + 1],   z(r) = k + f, zero outside
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from ..geometry import ParallelBeam
from ..volume import ParallelBeam3D, VolumeGeometry
from . import joseph
from . import joseph3d_kernels as kernels
from .pool import available, share

Array = NDArray[Any]
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
    z, threads = _heights(geometry), available()
    for bottom in range(0, len(x), DEPTH):
        slices = joseph.project(x[bottom : bottom + DEPTH], flat).numpy()

        def work(k: int, slices: Array = slices, bottom: int = bottom) -> None:
            kernels.spread(slices, y.numpy(), z, bottom, (k, 4 * threads))

        share(work, 4 * threads, threads)


def backproject(y: Tensor, x: Tensor, geometry: VolumeGeometry, flat: ParallelBeam) -> None:
    """A*y into x."""
    z, threads = _heights(geometry), available()
    for bottom in range(0, len(x), DEPTH):
        part = x[bottom : bottom + DEPTH]
        slices = y.new_empty(len(part), *flat.sinogram_shape)

        def work(k: int, slices: Tensor = slices, bottom: int = bottom) -> None:
            kernels.gather(y.numpy(), slices.numpy(), z, bottom, (k, 4 * threads))

        share(work, 4 * threads, threads)
        part[:] = joseph.backproject(slices, flat)


def _heights(geometry: VolumeGeometry) -> Array:
    """The slice that every row is at."""
    assert isinstance(geometry, ParallelBeam3D)
    return geometry.rows() / geometry.voxel_size[0] + (geometry.volume_shape[0] - 1) / 2
