"""The Joseph projector of volumes on the CPU: our own numba kernels, all cores, exact adjoint.

Parallel beams project slices in the plane (`stacked.py`). Cones whose detector rows run along z
(`upright.py`) mix a pixel's slices once for a whole detector column;
what then climbs from slice to slice does so for eight lanes at once: eight volumes, or eight turned and
mirrored positions of one. Other scans go ray by ray (`oblique.py`). Both read a pack of slices at a time, so
that little more is needed than volume and data; a thread of the adjoint owns the slices that it writes: no
atomics, and the same sum in the same order whatever the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam
from ..volume import ConeBeam, VolumeGeometry
from . import joseph3d_kernels as kernels
from . import joseph3d_rows as rows_kernels
from . import oblique, stacked
from .lanes import Lanes, by_symmetry
from .pool import available, share
from .upright import upright_table
from .vector import LANES

CHUNK = 16  # columns of one piece of work
DEPTH = 64  # slices of a pack: eight lanes of them stay in the first cache
LANES_COST = 2.8  # what eight lanes cost over one volume's eight rows, measured on a Sapphire Rapids core
_SERIAL = 100_000  # samples, of eight lanes each, that take some 0.1 ms
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """What the kernels need of one upright scan and one dtype, see `joseph3d_kernels.py`."""

    lanes: tuple[Array, ...] | None  # None: one volume, eight rows at once
    rays: tuple[Array, ...]
    work: Array
    shape: tuple[int, int, int, int]
    samples: int

    @property
    def threads(self) -> int:
        """As many as there are, one for what is done before a second one has woken."""
        return available() if self.samples > _SERIAL else 1

    @property
    def volumes(self) -> int:
        """Volumes that a pass takes."""
        return 1 if self.lanes is None else LANES // len(self.lanes[0])


def project(x: Tensor, geometry: VolumeGeometry) -> Tensor:
    """A x: (batch, nz, ny, nx) -> (batch, views, rows, columns)."""
    x = x.detach().resolve_neg().contiguous()
    y = torch.zeros((len(x), *geometry.out_shape), dtype=x.dtype)
    if flat := stacked.planar(geometry):
        for volume, data in zip(x, y, strict=True):
            stacked.project(volume, data, geometry, flat)
    elif plan := _plan(geometry, len(x), x.dtype):
        for n in range(0, len(x), plan.volumes):
            images = slice(n, n + plan.volumes)
            _forward(plan, x[images].numpy(), y[images].numpy())
    else:
        for volume, data in zip(x, y, strict=True):
            oblique.project(volume.numpy(), data.numpy(), geometry)
    return y


def backproject(y: Tensor, geometry: VolumeGeometry) -> Tensor:
    """A*y: (batch, views, rows, columns) -> (batch, nz, ny, nx)."""
    y = y.detach().resolve_neg().contiguous()
    x = torch.zeros((len(y), *geometry.in_shape), dtype=y.dtype)
    if flat := stacked.planar(geometry):
        for data, volume in zip(y, x, strict=True):
            stacked.backproject(data, volume, geometry, flat)
    elif plan := _plan(geometry, len(x), x.dtype):
        for n in range(0, len(x), plan.volumes):
            images = slice(n, n + plan.volumes)
            _adjoint(plan, y[images].numpy(), x[images].numpy())
    else:
        for data, volume in zip(y, x, strict=True):
            oblique.backproject(data.numpy(), volume.numpy(), geometry)
    return x


def _forward(plan: Plan, x: Array, y: Array) -> None:
    threads, nz = plan.threads, x.shape[1]
    pieces = 4 * threads
    x = x.reshape(len(x), nz, -1)
    packed = np.empty((len(x), x.shape[2], min(DEPTH, _eights(nz))), x.dtype)
    for bottom in range(0, nz, DEPTH):
        span = bottom, min(bottom + DEPTH, nz)

        def pack(k: int, bottom: int = bottom) -> None:
            kernels.pack(x, packed, bottom, (k, pieces))

        def project(k: int, span: tuple[int, int] = span) -> None:
            rest = (plan.rays, plan.work, plan.shape, span, (k, pieces))
            if plan.lanes is None:
                rows_kernels.project(packed[0], y[0], *rest)
            else:
                kernels.project(packed, y.reshape(len(y), -1), plan.lanes, *rest)

        for work in (pack, project):
            share(work, pieces, threads)


def _adjoint(plan: Plan, y: Array, x: Array) -> None:
    threads, nz = plan.threads, x.shape[1]
    x = x.reshape(len(x), nz, -1)
    depth = min(_eights(-(-nz // (2 * threads))), DEPTH)

    def back(k: int) -> None:
        span = k * depth, min((k + 1) * depth, nz)
        packed = np.zeros((len(x), x.shape[2], depth), x.dtype)
        rest = (plan.rays, plan.work, plan.shape, span)
        if plan.lanes is None:
            rows_kernels.backproject(y[0], packed[0], *rest)
        else:
            kernels.backproject(y.reshape(len(y), -1), packed, plan.lanes, *rest)
        kernels.unpack(packed, x, span[0])

    share(back, -(-nz // depth), threads)


def _eights(n: int) -> int:
    return -(-n // LANES) * LANES


def _plan(geometry: VolumeGeometry, batch: int, dtype: torch.dtype) -> Plan | None:
    """The way with the least work for this batch; None: ray by ray."""
    lanes = _symmetric(geometry)
    ways = {"rows": batch * geometry.views, "volumes": -(-batch // LANES) * geometry.views * LANES_COST}
    if lanes is not None:
        ways["symmetries"] = -(-batch * lanes.symmetries // LANES) * len(lanes.leader) * LANES_COST
    return _planned(geometry, min(ways, key=lambda way: ways[way]), dtype)


@lru_cache(maxsize=8)
def _planned(geometry: VolumeGeometry, way: str, dtype: torch.dtype) -> Plan | None:
    table = upright_table(geometry)
    if table is None:
        return None
    rows, columns = geometry.detector_grid
    views = np.arange(geometry.views)
    lanes: tuple[Array, ...] | None = None
    if way == "volumes":
        one = np.ones((len(views), 1), np.int64)
        lanes = (
            np.array([(0, geometry.volume_shape[2], 1)]),
            views[:, None] * rows * columns,
            one,
            one * columns,
        )
    elif way == "symmetries":
        found = _symmetric(geometry)
        assert found is not None
        base = found.base // columns * rows * columns + found.base % columns
        lanes, views = (found.image, base, found.step, found.count), found.leader
    work = []
    for g, transposed in enumerate(table.transposed[views]):
        edges = {0, *range(0, columns, CHUNK), *(np.flatnonzero(np.diff(transposed)) + 1).tolist()}
        work += [(g, a, b, int(transposed[a])) for a, b in pairwise([*sorted(edges), columns])]
    work.sort(key=lambda w: (w[3], w[1] // CHUNK, w[0]))  # neighbours read the same voxels
    real = torch.empty(0, dtype=dtype).numpy().dtype
    return Plan(
        lanes=lanes,
        rays=(
            table.start[views].astype(real),
            table.slope[views].astype(real),
            table.weight[views].astype(real),
            table.first[views],
            table.last[views],
            table.away[views],
            table.climb[views],
        ),
        work=np.array(work),
        shape=(*geometry.volume_shape[1:], rows, columns),
        samples=rows * int((table.last - table.first)[views].sum()),
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
