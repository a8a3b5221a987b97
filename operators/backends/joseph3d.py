"""The Joseph projector of volumes on the CPU: our own numba kernels, all cores, exact adjoint.

Scans whose detector rows run along z (`upright.py`) mix a pixel's slices once for a whole detector column;
what then climbs from slice to slice does so for eight lanes at once: eight volumes, or eight turned and
mirrored positions of one. Other scans go ray by ray (`oblique.py`). Both read a pack of slices at a time, so
that little more is needed than volume and data; a thread of the adjoint owns the slices that it writes: no
atomics, and the same sum in the same order whatever the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam
from ..volume import ConeBeam, VolumeGeometry
from . import joseph3d_kernels as kernels
from .lanes import Lanes, by_symmetry
from .pool import available, share
from .upright import upright_table
from .vector import LANES

CHUNK = 16  # columns of one piece of work
DEPTH = 64  # slices of a pack: eight lanes of them stay in the first cache
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """What the kernels need of one upright scan and one dtype, see `joseph3d_kernels.py`."""

    lanes: tuple[Array, Array, Array, Array]
    rays: tuple[Array, ...]
    work: Array
    shape: tuple[int, int, int, int]

    @property
    def volumes(self) -> int:
        """Volumes that a pass takes."""
        return LANES // len(self.lanes[0])


def project(x: Tensor, geometry: VolumeGeometry) -> Tensor:
    """A x: (batch, nz, ny, nx) -> (batch, views, rows, columns)."""
    y = torch.zeros((len(x), *geometry.out_shape), dtype=x.dtype)
    source = x.detach().resolve_neg().contiguous().numpy().reshape(*x.shape[:2], -1)
    target = y.numpy().reshape(len(y), -1)
    plan = _plan(geometry, len(x) > 1, x.dtype)
    for n in range(0, len(x), plan.volumes):
        _forward(plan, source[n : n + plan.volumes], target[n : n + plan.volumes])
    return y


def backproject(y: Tensor, geometry: VolumeGeometry) -> Tensor:
    """A*y: (batch, views, rows, columns) -> (batch, nz, ny, nx)."""
    x = torch.zeros((len(y), *geometry.in_shape), dtype=y.dtype)
    source = y.detach().resolve_neg().contiguous().numpy().reshape(len(y), -1)
    target = x.numpy().reshape(*x.shape[:2], -1)
    plan = _plan(geometry, len(x) > 1, x.dtype)
    for n in range(0, len(x), plan.volumes):
        _adjoint(plan, source[n : n + plan.volumes], target[n : n + plan.volumes])
    return x


def _forward(plan: Plan, x: Array, y: Array) -> None:
    threads = available()
    pieces = 4 * threads
    nz = x.shape[1]
    packed = np.empty((len(x), x.shape[2], min(DEPTH, _eights(nz))), x.dtype)
    for bottom in range(0, nz, DEPTH):
        span = bottom, min(bottom + DEPTH, nz)

        def pack(k: int, bottom: int = bottom) -> None:
            kernels.pack(x, packed, bottom, (k, pieces))

        def project(k: int, span: tuple[int, int] = span) -> None:
            kernels.project(packed, y, plan.lanes, plan.rays, plan.work, plan.shape, span, (k, pieces))

        for work in (pack, project):
            share(work, pieces, threads)


def _adjoint(plan: Plan, y: Array, x: Array) -> None:
    threads = available()
    nz = x.shape[1]
    depth = min(_eights(-(-nz // (2 * threads))), DEPTH)

    def back(k: int) -> None:
        span = k * depth, min((k + 1) * depth, nz)
        packed = np.zeros((len(x), x.shape[2], depth), x.dtype)
        kernels.backproject(y, packed, plan.lanes, plan.rays, plan.work, plan.shape, span)
        kernels.unpack(packed, x, span[0])

    share(back, -(-nz // depth), threads)


def _eights(n: int) -> int:
    return -(-n // LANES) * LANES


@lru_cache(maxsize=4)
def _plan(geometry: VolumeGeometry, several: bool, dtype: torch.dtype) -> Plan:
    table = upright_table(geometry)
    assert table is not None
    rows, columns = geometry.detector_grid
    lanes = None if several else _symmetric(geometry)
    views = geometry.views
    if lanes is None:
        symmetries = np.array([(0, geometry.volume_shape[2], 1)])
        leader = np.arange(views)
        base, step, count = leader[:, None] * columns, np.full((views, 1), 1), np.full((views, 1), columns)
    else:
        symmetries, leader, base, step, count = lanes.image, lanes.leader, lanes.base, lanes.step, lanes.count
    real = torch.empty(0, dtype=dtype).numpy().dtype
    work = []
    for g, transposed in enumerate(table.transposed[leader]):
        edges = {0, *range(0, columns, CHUNK), *(np.flatnonzero(np.diff(transposed)) + 1).tolist(), columns}
        ordered = sorted(edges)
        work += [(g, a, b, int(transposed[a])) for a, b in zip(ordered, ordered[1:], strict=False)]
    work.sort(key=lambda w: (w[3], w[1] // CHUNK, w[0]))
    return Plan(
        lanes=(symmetries, base // columns * rows * columns + base % columns, step, count),
        rays=(
            table.start[leader].astype(real),
            table.slope[leader].astype(real),
            table.weight[leader].astype(real),
            table.first[leader],
            table.last[leader],
            table.away[leader],
            table.climb[leader],
        ),
        work=np.array(work),
        shape=(*geometry.volume_shape[1:], rows, columns),
    )


def _symmetric(geometry: VolumeGeometry) -> Lanes | None:
    """Turned and mirrored views of a circle in one group each."""
    if not isinstance(geometry, ConeBeam) or geometry.pitch:
        return None
    _, dy, dx = geometry.voxel_size
    if not math.isclose(dy, dx, rel_tol=1e-12):
        return None
    fan = FanBeam(
        geometry.volume_shape[1:],
        dx,
        geometry.angles,
        geometry.detector_shape[1],
        geometry.detector_pixel_size[1],
        geometry.source_to_centre,
        geometry.source_to_detector,
        geometry.detector,
        geometry.offset[1],
    )
    return by_symmetry(fan)
