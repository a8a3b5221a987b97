"""The Joseph projector on the CPU: our own numba kernels, all cores, exact adjoint, float32 and float64.

Eight results share one computed position: the lanes of a vector are eight images, or the eight turned and
mirrored copies of one image (`lanes.py`), stored channels-last in lines with a zero border, so that a sample
is two loads without a branch. A thread of the adjoint owns lines of the padded image and scatters into these
only: no atomics, and the same sum in the same order whatever the number of threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import PlanarGeometry
from . import joseph_kernels as kernels
from .lanes import Integers, Lanes, by_image, by_symmetry
from .pool import available, share
from .rays import ray_table
from .vector import LANES

CHUNK = 64  # bins of one piece of work
_SERIAL = 50_000  # samples below which waking a thread costs more than it saves
_KEPT = 2**26  # [bytes] work space that a thread keeps
_of_thread = threading.local()


@dataclass(frozen=True, eq=False)
class Plan:
    """What the kernels need of one geometry, one way to deal lanes and one dtype.

    lanes : base, step, count, turned, see `lanes.py`
    rays : start (shifted by the border), slope, weight, first, last, each (groups, bins), see `rays.py`
    chunks : (chunks, 5): group, first and last bin, copy that is read, transposed
    symmetries : (symmetries, 3), `image` of `lanes.py`
    back : (symmetries, copies, 3): pixel (row, column) of x is pixel back @ (1, row, column) of the copies
    """

    symmetries: Integers
    lanes: tuple[Integers, Integers, Integers, Integers]
    rays: tuple[NDArray[Any], ...]
    chunks: Integers
    back: Integers
    image_shape: tuple[int, int]
    samples: int


def project(x: Tensor, geometry: PlanarGeometry) -> Tensor:
    """A x: (batch, ny, nx) -> (batch, views, bins)."""
    y = torch.empty((len(x), *geometry.sinogram_shape), dtype=x.dtype)
    _passes(_forward, x, y, geometry)
    return y


def backproject(y: Tensor, geometry: PlanarGeometry) -> Tensor:
    """A*y: (batch, views, bins) -> (batch, ny, nx)."""
    x = torch.empty((len(y), *geometry.image_shape), dtype=y.dtype)
    _passes(_adjoint, y, x, geometry)
    return x


def _passes(one: Any, source: Tensor, target: Tensor, geometry: PlanarGeometry) -> None:
    """A pass takes the images that fit the lanes; every thread runs passes of its own, the last together."""
    plan = _plan(geometry, _best(geometry, len(source)), source.dtype)
    per_pass = LANES // len(plan.symmetries)
    passes = -(-len(source) // per_pass)
    threads = available() if plan.samples * passes > _SERIAL else 1
    source_array = source.detach().resolve_neg().contiguous().numpy().reshape(len(source), -1)
    target_array = target.numpy().reshape(len(target), -1)

    def run(k: int, threads: int = 1) -> None:
        images = slice(k * per_pass, (k + 1) * per_pass)
        one(plan, source_array[images], target_array[images], threads)

    whole = passes - passes % threads
    share(run, whole, threads)
    for k in range(whole, passes):
        run(k, threads)


def _forward(plan: Plan, x: NDArray[Any], y: NDArray[Any], threads: int) -> None:
    copies, pieces = _work_space(plan, x.dtype), _pieces(threads)

    def pack(k: int) -> None:
        kernels.pack(x, copies, plan.symmetries, plan.image_shape, (k, pieces))

    def project(k: int) -> None:
        kernels.project(copies, y, plan.lanes, plan.rays, plan.chunks, plan.image_shape, (k, pieces))

    for work in (pack, project):
        share(work, pieces, threads)


def _adjoint(plan: Plan, y: NDArray[Any], x: NDArray[Any], threads: int) -> None:
    copies, pieces = _work_space(plan, x.dtype), _pieces(threads)
    values = np.empty((*plan.rays[0].shape, LANES), x.dtype)

    def spread(k: int) -> None:
        kernels.spread(y, values, plan.lanes, plan.rays, plan.chunks, (k, pieces))

    def scatter(k: int) -> None:
        kernels.scatter(values, copies, plan.rays, plan.chunks, plan.image_shape, (k, pieces))

    def collect(k: int) -> None:
        kernels.collect(copies, x, plan.back, plan.image_shape, (k, pieces))

    for work in (spread, scatter, collect):
        share(work, pieces, threads)


def _pieces(threads: int) -> int:
    """Several for each thread, since one of them may be held up."""
    return 1 if threads == 1 else 4 * threads


def _work_space(plan: Plan, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Room for the padded copies and, if needed, the padded transposed ones, (copies, pixels, lanes)."""
    ny, nx = plan.image_shape
    shape = (plan.back.shape[1], max(ny * (nx + 3), nx * (ny + 3)), LANES)
    needed = int(np.prod(shape)) * dtype.itemsize
    room = getattr(_of_thread, "room", None)
    if room is None or room.nbytes < needed:
        room = np.empty(needed + 64, np.uint8)
        room = room[-room.ctypes.data % 64 :]  # a pixel must not straddle two cache lines
        if needed <= _KEPT:
            _of_thread.room = room
    return room[:needed].view(dtype).reshape(shape)


def _best(geometry: PlanarGeometry, batch: int) -> Lanes:
    """The dealing with the least work for this batch."""
    ways = (by_symmetry(geometry), by_image(geometry))
    return min(ways, key=lambda way: -(-batch * way.symmetries // LANES) * len(way.leader) * way.bins)


@lru_cache(maxsize=32)
def _plan(geometry: PlanarGeometry, lanes: Lanes, dtype: torch.dtype) -> Plan:
    table, (ny, nx) = ray_table(geometry), geometry.image_shape
    real = torch.empty(0, dtype=dtype).numpy().dtype
    used = (lanes.leader, slice(0, lanes.bins))
    first, last = table.first[used], table.last[used]
    chunks = []
    for g, transposed in enumerate(table.transposed[used]):
        edges = {0, *range(0, lanes.bins, CHUNK), *(np.flatnonzero(np.diff(transposed)) + 1).tolist()}
        for a, b in pairwise([*sorted(edges), lanes.bins]):
            tr = int(transposed[a])
            chunks.append((g, a, b, tr if lanes.copies == 2 else 0, tr))
    chunks.sort(key=lambda chunk: (chunk[3], chunk[1] // CHUNK, chunk[0]))  # neighbours read the same pixels
    return Plan(
        symmetries=lanes.image,
        lanes=(lanes.base, lanes.step, lanes.count, lanes.turned),
        rays=(
            (table.start[used] + 1).astype(real),  # column 0 of a copy is its border
            table.slope[used].astype(real),
            table.weight[used].astype(real),
            first,
            last,
        ),
        chunks=np.array(chunks),
        back=_back(lanes, ny, nx),
        image_shape=(ny, nx),
        samples=int((last - first).sum()),
    )


def _back(lanes: Lanes, ny: int, nx: int) -> Integers:
    """Where pixel (row, column) of x lies in the two padded copies of every lane, (symmetries, 2, 3)."""
    row, column = np.arange(ny)[:, None], np.arange(nx)
    result = np.zeros((lanes.symmetries, lanes.copies, 3), np.int64)
    for s, (origin, down, right) in enumerate(lanes.image):
        position = np.empty((2, ny * nx), np.int64)
        pixel = (origin + row * down + column * right).ravel()
        position[0, pixel] = (row * (nx + 3) + column + 1).ravel()
        position[1, pixel] = (column * (ny + 3) + row + 1).ravel()
        grid = position[: lanes.copies].reshape(-1, ny, nx)
        result[s, :, 0] = grid[:, 0, 0]
        if ny > 1:
            result[s, :, 1] = grid[:, 1, 0] - grid[:, 0, 0]
        if nx > 1:
            result[s, :, 2] = grid[:, 0, 1] - grid[:, 0, 0]
    return result
